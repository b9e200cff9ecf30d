"""The memory of one GPU."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wideep.reference.hardware import GIB, hardware_cards
from wideep.reference.memory import (
    WHOLE,
    Budget,
    Layout,
    activations,
    gib,
    kv_bytes_per_sequence,
    kv_bytes_per_token,
    listed,
    low_latency_buffers,
    quantized,
    weights,
)
from wideep.reference.models import MODELS, Formats, find_model

R1, V2_LITE, LLAMA = (
    find_model(name, "")[0] for name in ("deepseek-r1", "deepseek-v2-lite", "deepseek-r1-distill-llama-8b")
)
assert R1
assert V2_LITE
assert LLAMA


def wide(gpus: int, redundant: int = 0) -> Layout:
    """Return wide EP: attention, dense layers and embeddings whole on each GPU, experts spread."""
    return Layout(
        tensor=gpus, attention=1, dense=1, shared=1, embedding=1, head=1, expert=gpus, redundant=redundant
    )


def test_deepseek_r1_on_32_gpus_with_32_redundant_experts() -> None:
    parts = weights(R1, wide(32, 32))
    # 9 of 288 experts in 58 layers, 3 x 7168 x 2048 bytes each
    # and four more for the scale of each block of 128 x 128.
    assert parts["experts"] == 9 * 58 * 3 * 7168 * 2048 * (1 + 4 / 128**2)
    assert {name: round(size / GIB, 1) for name, size in parts.items()} == {
        "experts": 21.4,
        "attention": 10.6,
        "embeddings": 3.5,
        "shared experts": 2.6,
        "dense layers": 1.1,
    }


def test_deepseek_r1_does_not_fit_eight_gpus_of_80_gb_but_eight_of_141() -> None:
    layout = Layout(tensor=8, attention=8, dense=8, shared=8, embedding=8, head=8, expert=8)
    held = sum(weights(R1, layout).values())
    cards = hardware_cards()
    assert cards["h100-80gb"].memory * 0.95 < held < cards["h200-141gb"].memory * 0.85


@given(st.sampled_from([1, 2, 4, 8, 16, 32]), st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_all_gpus_together_hold_every_weight_once(gpus: int, expert: int) -> None:
    layout = Layout(
        tensor=gpus,
        attention=gpus,
        dense=gpus,
        shared=gpus,
        embedding=gpus,
        head=gpus,
        expert=min(expert, gpus),
    )
    for card in (R1, V2_LITE, LLAMA):
        divided, whole = card.attention_parameters
        size = card.bytes_of("experts")
        gates = card.gate_parameters + 2 * card.embedding_parameters
        linear = card.parameters - gates - divided - whole
        expected = size * (linear + divided + gpus * whole) + 2 * gates
        assert gpus * sum(weights(card, layout).values()) == pytest.approx(expected, rel=1e-6)


def test_low_latency_buffers_are_the_two_gigabytes_that_sglang_reserves() -> None:
    assert low_latency_buffers(288, 128, 7168) == pytest.approx(2 * GIB, rel=0.01)


def test_activations_grow_with_tokens() -> None:
    assert activations(R1, 8192) == 2 * activations(R1, 4096) > activations(LLAMA, 8192) > 0


def test_kv_cache_of_a_token() -> None:
    assert kv_bytes_per_token(R1, "auto", 1) == 2 * kv_bytes_per_token(R1, "fp8", 1) == 70272


def test_a_budget() -> None:
    budget = Budget(100, 0.8, {"a": 30, "b": 10}, 4, {"runtime": 15, "graphs": 5})
    assert (budget.kv, budget.kv_tokens, budget.rest) == (40, 10, 20)
    assert budget.lowest_fraction(5) == 0.6
    assert budget.highest_fraction() == 0.8
    assert Budget(100, 0.3, {"a": 40}, 4).kv_tokens == 0


def test_sizes_are_readable() -> None:
    assert gib(3 * GIB / 2) == "1.5 GiB"
    assert listed({"small": GIB, "large": 2 * GIB}) == "large 2.0 + small 1.0 GiB"


def test_a_budget_in_one_line() -> None:
    budget = Budget(
        80 * GIB, 0.85, {"experts": 30 * GIB, "attention": 10 * GIB}, 1 << 20, {"graphs": 2 * GIB}
    )
    assert budget.text == (
        "of 80.0 GiB: weights 40.0 GiB, KV cache 28.0 GiB (28672 tokens), beside them 12.0 GiB, of which an"
        " estimated 2.0 GiB are needed"
    )


NAMED = MODELS.all()


def divided(gpus: int, stages: int = 1) -> Layout:
    """Return tensor parallelism alone, in each stage of a pipeline."""
    return Layout(
        tensor=gpus, attention=gpus, dense=gpus, shared=gpus, embedding=gpus, head=gpus, stages=stages
    )


def test_scales_and_what_stays_in_16_bits_are_counted() -> None:
    # R1 in NVFP4: experts at 0.5625 bytes, attention whole in 16 bits on each GPU with DP attention.
    parts = weights(NAMED["deepseek-r1-nvfp4"], wide(16))
    assert parts["attention"] == 2 * parts_of_fp8(wide(16))["attention"] / (1 + 4 / 128**2)
    assert round(parts["attention"] / GIB, 1) == 21.3
    assert parts["experts"] == round(16 * 58 * 3 * 7168 * 2048 * 0.5625)
    # A card that says `fp4` alone counts the same.
    short = NAMED["deepseek-r1-nvfp4"].model_copy(update={"formats": Formats()})
    assert {k: weights(short, wide(16))[k] for k in ("experts", "attention")} == {
        k: parts[k] for k in ("experts", "attention")
    }


def parts_of_fp8(layout: Layout) -> dict[str, int]:
    return weights(NAMED["deepseek-r1"], layout)


@given(st.sampled_from(sorted(NAMED)), st.sampled_from([2, 3, 4, 8]))
def test_the_fullest_stage_of_a_pipeline_has_its_part_and_no_stage_more(name: str, stages: int) -> None:
    card = NAMED[name]
    whole, part = (sum(weights(card, divided(1, n)).values()) for n in (1, stages))
    # Its layers may be those with experts, one more than the others', with the embedding or the head.
    ends = 2 * 2 * card.embedding_parameters + 2 * card.other_parameters
    assert whole / stages * 0.95 <= part + ends
    assert part <= whole * math.ceil(card.layers / stages) / (card.moe_layers or card.layers) + ends
    one, each = (kv_bytes_per_token(card, "auto", 1, stages=n) for n in (1, stages))
    assert one / stages <= each + 1 <= one * math.ceil(card.layers / stages) / card.layers + 2


def test_two_stages_of_deepseek_r1_take_the_larger_half_of_61_layers() -> None:
    assert kv_bytes_per_token(R1, "auto", 1, stages=2) == round(70272 * 31 / 61)
    halves, whole = weights(R1, divided(8, 2)), weights(R1, divided(8))
    assert halves["experts"] == pytest.approx(whole["experts"] * 31 / 58, rel=1e-6)
    assert "dense layers" not in halves  # the first three layers have them, the fullest stage is the last


def test_draft_layers_are_counted_where_a_pool_drafts() -> None:
    # 61 layers and one more: 11.6 billion weights in FP8, but for its projection and router.
    more = sum(weights(R1, divided(8), drafts=True).values()) - sum(weights(R1, divided(8)).values())
    whole = R1.attention_layer[1] + 2 * 7168**2 * 2
    assert more == pytest.approx((11.61e9 - whole) / 8 + whole, rel=0.01)
    assert kv_bytes_per_token(R1, "auto", 1, drafts=True) == 62 * 1152
    assert weights(V2_LITE, divided(2), drafts=True) == weights(V2_LITE, divided(2))
    # The draft layer of NVIDIA's NVFP4 is in 16 bits.
    four = NAMED["deepseek-r1-nvfp4"]
    assert weights(four, WHOLE, drafts=True)["draft layers"] == pytest.approx(2 * 11.61e9, rel=0.001)


def test_states_and_windows_take_their_part_of_each_sequence() -> None:
    next_ = NAMED["qwen3-next-80b-a3b"]
    assert kv_bytes_per_sequence(next_, "auto", 1) == 36 * (32 * 128 * 128 * 4 + 3 * 2 * 8192)
    assert kv_bytes_per_sequence(R1, "auto", 1) == 0
    budget = Budget(100, 0.8, {"a": 30}, 4, states=10)
    assert (budget.kv_tokens, budget.lowest_fraction(5)) == (10, 0.6)


@pytest.mark.parametrize(
    ("card", "flag", "experts", "said"),
    [
        ("deepseek-r1", "w4afp8", "w4afp8", "experts in w4afp8"),
        ("deepseek-r1", "modelopt_fp4", "nvfp4", "experts in nvfp4"),
        ("deepseek-r1", "fp8", "fp8-block", ""),
        ("glm-4.6-fp8", "w8a8_fp8", "fp8-channel", ""),
        ("deepseek-r1-nvfp4", "modelopt_fp4", "nvfp4", ""),
        ("qwen3-235b-a22b", "fp8", "fp8", "experts in fp8"),
        ("deepseek-r1", "awq", None, "memory is not checked"),
    ],
)
def test_a_quantization_by_flag_is_computed_or_not_checked(
    card: str, flag: str, experts: str | None, said: str
) -> None:
    found, words = quantized(NAMED[card], flag)
    assert (found.format_of("experts") if found else None) == experts
    assert said in words
    assert bool(words) == bool(said)
