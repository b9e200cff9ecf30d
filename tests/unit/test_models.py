"""Model cards: their arithmetic gives what the models' publishers state."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from wideep.reference.memory import WHOLE, weights
from wideep.reference.models import Formats, ModelCard, find_model
from wideep.reference.paths import configs_dir


def card(name: str) -> ModelCard:
    found, problems = find_model(name, "")
    assert found
    assert not problems
    return found


# Card -> weights that its publisher states, in billions.
PUBLISHED = {
    "deepseek-r1": 671,  # DeepSeek-V3's report
    "deepseek-v3": 671,
    "deepseek-v3.1": 671,
    "deepseek-v4-flash": 284,  # DeepSeek's announcement
    "deepseek-v2-lite": 15.7,
    "deepseek-r1-distill-llama-8b": 8.03,
    "deepseek-r1-0528-qwen3-8b": 8.19,
    "kimi-k2-instruct": 1026,  # the hub's count
    "qwen3-235b-a22b": 235,
    "qwen3-30b-a3b": 30.5,
    "qwen3-coder-480b-a35b": 480,
    "qwen3.5-397b-a17b": 397,
    "glm-5": 744,
    "glm-5.1": 744,
    "gpt-oss-120b": 116.8,  # OpenAI's model card
    "gpt-oss-20b": 20.9,
    "minimax-m2": 229,  # the hub's count
    "minimax-m3": 428,
    "llama-4-maverick": 400,
    "mixtral-8x7b": 46.7,
    "mixtral-8x22b": 141,
    "mimo-v2-flash": 309,
}
WITH_DRAFTS = {"deepseek-v3.2": 685, "qwen3-next-80b-a3b": 81.3, "glm-4.6": 357, "glm-5": 754}
# Card -> size of its checkpoint in GB (10^9 bytes), where the total alone says too little.
SIZES = {
    "deepseek-v4-pro": 865,  # published as 1.6 trillion weights
    "deepseek-v4-flash": 160,
    "kimi-k2-instruct": 1029,
    "kimi-k2-thinking": 594,
    "gpt-oss-120b": 65.28,  # OpenAI's model card: 60.8 GiB
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_the_parameters_add_up_to_the_published_total(name: str, published: float) -> None:
    assert card(name).parameters == pytest.approx(published * 1e9, rel=0.005)


@pytest.mark.parametrize(("name", "published"), WITH_DRAFTS.items())
def test_they_do_with_draft_layers(name: str, published: float) -> None:
    found = card(name)
    assert found.draft_layers == 1
    assert found.parameters + found.draft_parameters == pytest.approx(published * 1e9, rel=0.005)


@pytest.mark.parametrize(("name", "published"), SIZES.items())
def test_formats_add_up_to_the_size_of_the_checkpoint(name: str, published: float) -> None:
    assert sum(weights(card(name), WHOLE, drafts=True).values()) == pytest.approx(published * 1e9, rel=0.005)


def test_nvfp4_as_nvidia_stores_it() -> None:
    # The hub counts 393.6 billion elements of DeepSeek-R1-0528-FP4-v2: two weights of 4 bits are one, scales
    # count, and the draft layer has copies of embedding and head.
    found = card("deepseek-v3.1-nvfp4")
    packed = found.routed_parameters + found.moe_layers * found.shared_layer + found.dense_parameters
    packed += found.output_parameters
    rest = sum(found.attention_parameters) - found.output_parameters + found.gate_parameters
    rest += found.draft_parameters + 4 * found.embedding_parameters
    assert found.bytes_of("experts") * packed + rest == pytest.approx(393.6e9, rel=0.001)


def test_the_formats_of_cards_in_the_short_form() -> None:
    short = card("deepseek-r1").model_copy(update={"formats": Formats()})
    assert {short.format_of(part) for part in ("experts", "shared", "dense", "attention")} == {"fp8-block"}
    assert {short.format_of(part) for part in ("embedding", "head")} == {"bf16"}
    rows = short.model_copy(update={"block": 1})
    assert rows.format_of("experts") == "fp8"
    four = short.model_copy(update={"weights": "fp4", "block": 1})
    assert (four.format_of("experts"), four.format_of("attention"), four.format_of("draft")) == (
        "fp4",
        "bf16",
        "fp4",
    )
    assert four.bytes_of("experts") == 0.5625


def test_what_rules_ask_of_a_card() -> None:
    k25, oss, r1, next_ = (
        card(name) for name in ("kimi-k2.5", "gpt-oss-120b", "deepseek-r1", "qwen3-next-80b-a3b")
    )
    assert k25.architectures == ("KimiK25ForConditionalGeneration", "DeepseekV3ForCausalLM")
    assert k25.decoder_architecture == "DeepseekV3ForCausalLM"
    assert oss.decoder_architecture == "GptOssForCausalLM"
    assert [found.needs_own_code for found in (k25, r1, card("minimax-m3"))] == [True, False, None]
    assert [found.hybrid for found in (k25, oss, r1, next_)] == [False, True, False, True]
    assert (oss.window_layers, oss.full_layers, next_.linear_layers, next_.full_layers) == (18, 18, 36, 12)
    assert [found.sparse for found in (r1, card("deepseek-v3.2"))] == [False, True]
    assert [found.draft_layers for found in (r1, k25)] == [1, 0]
    assert (r1.draft_moe, k25.draft_moe) == (True, False)
    assert r1.parser("sglang", "reasoning") == "deepseek-r1"
    assert r1.parser("none", "tool") == ""


def test_layers_that_cache_less_cost_less() -> None:
    # Half of the layers of gpt-oss look at a window, 45 of 60 of Qwen3.5 have a state.
    oss, qwen = card("gpt-oss-120b"), card("qwen3.5-397b-a17b")
    assert oss.kv_bytes(1, 2) == 18 * 2 * 8 * 64 * 2
    assert oss.sequence_bytes(1, 2) == 18 * 128 * 2 * 8 * 64 * 2
    assert qwen.kv_bytes(1, 2) == 15 * 2 * 2 * 256 * 2
    assert qwen.sequence_bytes(1, 2) == 45 * (64 * 128 * 128 * 4 + 3 * (64 + 2 * 16) * 128 * 2)
    # The index of DeepSeek-V3.2 keeps a key of 128 bytes and its scale for each token and layer.
    assert card("deepseek-v3.2").kv_bytes(8, 1) - card("deepseek-r1").kv_bytes(8, 1) == 61 * 132


def test_deepseek_r1_uses_37_billion_parameters_for_a_token() -> None:
    r1 = card("deepseek-r1")
    assert r1.experts
    idle = r1.moe_layers * (r1.experts.routed - r1.experts.per_token) * r1.expert_parameters
    assert r1.parameters - idle == pytest.approx(37.5e9, rel=0.02)


def test_the_kv_cache_of_a_token() -> None:
    # MLA: 61 layers of a latent vector of 512 and a rotary key of 64, whole on every GPU.
    assert [card("deepseek-r1").kv_values_per_token(tp) for tp in (1, 8)] == [35136, 35136]
    # GQA: 32 layers, key and value of 8 heads of 128; divided, but never below one head.
    assert [card("deepseek-r1-distill-llama-8b").kv_values_per_token(tp) for tp in (1, 4, 16)] == [
        65536,
        16384,
        8192,
    ]


def test_a_dense_model_has_no_experts() -> None:
    llama = card("deepseek-r1-distill-llama-8b")
    assert (llama.experts, llama.moe_layers, llama.expert_parameters) == (None, 0, 0)
    assert (llama.routed_parameters, llama.shared_parameters) == (0, 0)


def test_a_card_is_found_by_the_models_name_or_by_its_own() -> None:
    by_name, problems = find_model("", "deepseek-ai/DeepSeek-R1-0528")
    assert by_name == card("deepseek-r1")
    assert problems == []


def test_an_unknown_model_is_a_warning_and_an_unknown_card_an_error() -> None:
    found, (warning,) = find_model("", "example/unknown")
    assert found is None
    assert warning.severity == "warning"
    assert "wideep_model_card" in warning.remedy
    found, (error,) = find_model("deepseek-r2", "example/unknown")
    assert found is None
    assert (error.severity, error.where) == ("error", "wideep_model_card")
    assert "deepseek-r1" in error.remedy


def test_a_card_with_a_word_too_many_is_refused() -> None:
    text = (configs_dir() / "models" / "deepseek-r1.yml").read_text(encoding="utf-8")
    with pytest.raises(ValidationError, match="speed"):
        ModelCard.model_validate({**yaml.safe_load(text), "speed": 1})


def test_embeddings_count_once_where_they_are_tied() -> None:
    llama = card("deepseek-r1-distill-llama-8b")
    tied = llama.model_copy(update={"tied_embeddings": True})
    assert llama.parameters - tied.parameters == llama.embedding_parameters
