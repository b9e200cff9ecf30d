"""Model cards: their arithmetic gives what the models' publishers state."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from wideep.reference.memory import WHOLE, weights
from wideep.reference.models import MODELS, Formats, ModelCard, find_model
from wideep.reference.paths import configs_dir


def card(name: str) -> ModelCard:
    found, problems = find_model(name, "")
    assert found
    assert not problems
    return found


PUBLISHED = {name: found for name, found in MODELS.all().items() if found.published}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_card_adds_up_to_the_published_totals(name: str) -> None:
    found = PUBLISHED[name]
    said = found.published
    assert said
    assert said.parameters or said.checkpoint
    if said.parameters:
        total = found.parameters + (found.draft_parameters if said.with_draft else 0)
        assert total == pytest.approx(said.parameters * 1e9, rel=0.005)
    if said.checkpoint:
        size = sum(weights(found, WHOLE, drafts=True).values())
        assert size == pytest.approx(said.checkpoint * 1e9, rel=0.005)


def test_the_models_that_people_run_have_cards_and_totals() -> None:
    assert len(PUBLISHED) >= 25
    for model in (
        "deepseek-ai/DeepSeek-R1",
        "deepseek-ai/DeepSeek-V3.1",
        "deepseek-ai/DeepSeek-V3.2",
        "deepseek-ai/DeepSeek-V4-Pro",
        "deepseek-ai/DeepSeek-V4-Flash",
        "moonshotai/Kimi-K2-Instruct",
        "Qwen/Qwen3-235B-A22B",
        "Qwen/Qwen3.5-397B-A17B",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "zai-org/GLM-4.6",
        "zai-org/GLM-5",
        "zai-org/GLM-5.2",
        "openai/gpt-oss-120b",
        "MiniMaxAI/MiniMax-M2",
        "MiniMaxAI/MiniMax-M3",
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "mistralai/Mixtral-8x22B-Instruct-v0.1",
        "deepseek-ai/DeepSeek-V2-Lite",
    ):
        assert any(model in found.names for found in PUBLISHED.values()), model
    for model in ("nvidia/DeepSeek-R1-0528-FP4", "moonshotai/Kimi-K2.5", "zai-org/GLM-4.6-FP8"):
        assert find_model("", model)[0], model


def test_no_model_has_two_cards() -> None:
    names = [name for found in MODELS.all().values() for name in found.names]
    assert sorted(set(names)) == sorted(names)


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
    # DeepSeek-V4: entries of 584 bytes for 4 or 128 tokens, and an index key of 132 for 4.
    assert card("deepseek-v4-pro").kv_bytes(8, 1) == (30 / 4 + 31 / 128) * 584 + 30 / 4 * 132
    assert card("deepseek-v4-pro").sequence_bytes(8, 2) == 61 * 128 * 584
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
