"""Model cards: their arithmetic gives what the models' publishers state."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from wideep.reference.models import ModelCard, find_model
from wideep.reference.paths import configs_dir


def card(name: str) -> ModelCard:
    found, problems = find_model(name, "")
    assert found
    assert not problems
    return found


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("deepseek-r1", 671e9),
        ("deepseek-r1-distill-llama-8b", 8.03e9),
        ("deepseek-r1-0528-qwen3-8b", 8.19e9),
        ("deepseek-v2-lite", 15.7e9),
    ],
)
def test_the_parameters_add_up_to_the_published_total(name: str, published: float) -> None:
    assert card(name).parameters == pytest.approx(published, rel=0.001)


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
