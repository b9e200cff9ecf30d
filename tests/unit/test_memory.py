"""The memory of one GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wideep.reference.hardware import GIB, hardware_cards
from wideep.reference.memory import (
    Budget,
    Layout,
    activations,
    gib,
    kv_bytes_per_token,
    listed,
    low_latency_buffers,
    weights,
)
from wideep.reference.models import find_model

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
