"""Checkpoints' own files become cards: configurations of families, wrappers, quantizations."""

from __future__ import annotations

from typing import Any

import pytest
from checkpoints import BASE, EXAMPLES, GQA, Example

from wideep.reference.checkpoint import NoModelError, read
from wideep.reference.models import ModelCard

SMALL = {**BASE, **GQA, "num_hidden_layers": 2, "intermediate_size": 10}
MOE = {**SMALL, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 6}


def card(fields: dict[str, Any]) -> ModelCard:
    return ModelCard.model_validate({"names": ["x"], "source": "x", **fields})


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_a_configuration_becomes_a_card(example: Example) -> None:
    reading = read(example.config, example.quantization)
    assert (reading.unread, reading.strange) == ((), ())
    assert {name: reading.card.get(name) for name in example.card} == example.card
    assert card(reading.card).parameters == example.parameters


@pytest.mark.parametrize("name", ["text_config", "llm_config", "language_config"])
def test_a_wrapper_says_no_less_than_what_it_wraps(name: str) -> None:
    assert read({name: MOE}).card == read(MOE).card
    outside = {name: {k: v for k, v in MOE.items() if k != "vocab_size"}, "vocab_size": 100}
    assert read(outside).card["vocabulary"] == 100


LAYERS = {**MOE, "num_hidden_layers": 8}


@pytest.mark.parametrize(
    ("config", "dense"),
    [
        ({"moe_layer_freq": [0, 0, 1, 1, 1, 1, 1, 1]}, 2),
        ({"moe_layers": [3, 4, 5, 6, 7]}, 3),
        ({"moe_layers_enum": "1,2,3,4,5,6,7"}, 1),
        ({"interleave_moe_layer_step": 2}, 4),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_layers_without_experts_are_counted(config: dict[str, Any], dense: int) -> None:
    assert read(LAYERS | config).card.get("dense_layers", 0) == dense


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        ({"sliding_window": 128}, 8),
        ({"sliding_window": 128, "use_sliding_window": False}, 0),
        ({"sliding_window": 128, "sliding_window_pattern": 4}, 6),
        ({"sliding_window": 128, "hybrid_layer_pattern": [1, 1, 0, 1, 1, 0, 1, 0]}, 5),
    ],
    ids=["all", "switched off", "all but each fourth", "listed"],
)
def test_layers_with_a_window_are_counted(config: dict[str, Any], windows: int) -> None:
    assert read(LAYERS | config).card["attention"].get("window", {}).get("layers", 0) == windows


def test_states_of_linear_layers() -> None:
    """Kimi's delta attention, MiniMax' lightning attention; of others nothing is made up."""
    delta = {"kda_layers": [1, 2, 3, 5, 6, 7], "num_heads": 2, "head_dim": 4, "short_conv_kernel_size": 4}
    assert read(LAYERS | {"linear_attn_config": delta}).card["attention"]["linear"]["layers"] == 6
    lightning = read(LAYERS | {"attn_type_list": [0, 0, 0, 1] * 2, "head_dim": 4})
    assert lightning.card["attention"]["linear"]["layers"] == 6
    other = read(LAYERS | {"full_attention_interval": 4})
    assert "linear" not in other.card["attention"]
    assert any("not known: they count as full attention" in note for note in other.notes)


def quantized(**config: Any) -> tuple[str, dict[str, str]]:
    found = read({**MOE, "quantization_config": config}).card
    return found.get("weights", ""), found.get("formats", {})


@pytest.mark.parametrize(
    ("config", "width", "experts"),
    [
        ({"quant_method": "fp8"}, "fp8", "fp8-tensor"),
        ({"quant_method": "fbgemm_fp8"}, "fp8", "fp8-channel"),
        ({"quant_method": "mxfp8"}, "fp8", "mxfp8"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8", "int8"),
        ({"quant_method": "w8a8_int8"}, "int8", "int8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", "fp8-tensor"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4", "nvfp4"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "fp4", "nvfp4"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "fp8", "fp8-channel"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "int4", "int4"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}}}, "fp4", "mxfp4"),
    ],
)
def test_a_quantization_becomes_a_format(config: dict[str, Any], width: str, experts: str) -> None:
    weights, formats = quantized(**config)
    assert (weights, formats["experts"]) == (width, experts)


def test_scales_for_more_weights_than_usual_are_said() -> None:
    found = read({**MOE, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}).card
    assert found["group"] == 128
    assert card(found).bytes_of("experts") == 0.5 + 2 / 128


def test_layers_that_a_mixed_quantization_names_have_what_it_says() -> None:
    names = {f"model.layers.1.mlp.experts.0.{n}_proj": {"quant_algo": "NVFP4"} for n in ("gate", "down")}
    names["model.layers.1.self_attn.o_proj"] = {"quant_algo": "MXFP8"}
    own = {"quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": names}}
    formats = read(MOE, own).card["formats"]
    assert formats == {"experts": "nvfp4", "attention": "bf16", "output": "mxfp8"}


def test_what_is_not_told_is_said_and_not_guessed() -> None:
    reading = read({"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 4})
    assert reading.unread == ("vocabulary", "context_length", "intermediate_size")
    assert "vocabulary" not in reading.card
    new = read({**SMALL, "expert_count_of_this_family": 64})
    assert ("experts" in new.unread, new.experts) == (True, None)
    assert read(SMALL).experts == 0
    method = read({**SMALL, "quantization_config": {"quant_method": "newest"}})
    assert "weights" not in method.card
    assert "newest" in method.notes[0]


@pytest.mark.parametrize("config", [{}, {"vision_config": {"hidden_size": 8}}, {"text_config": {"a": 1}}])
def test_what_is_no_language_model_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(NoModelError):
        read(config)


def test_models_that_no_card_can_describe_are_told() -> None:
    assert read({**MOE, "hybrid_override_pattern": "M*E-"}).strange
