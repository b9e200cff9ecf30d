"""What each release knows of TensorRT-LLM: its field tree, and the facts that rules go by."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from trtllm_cases import LITE, Change, deployment, eplb

from wideep.engines.trtllm.release import TrtllmFacts, facts
from wideep.engines.trtllm.rules import FIELDS, OWNED_FIELDS
from wideep.plan import make_plan
from wideep.problems import RefusedError
from wideep.reference.hardware import hardware_cards
from wideep.reference.models import Formats, find_model
from wideep.reference.release import Release, find_release, releases

RELEASES = [find_release(version) for version in releases()]
each_release = pytest.mark.parametrize("release", RELEASES, ids=releases())


@each_release
def test_tree_and_facts_are_of_the_version_that_the_release_pins(release: Release) -> None:
    tree, pinned = release.fields("tensorrt-llm"), release.engines["tensorrt-llm"]
    assert (tree.version, facts(release).version) == (pinned, pinned)
    assert tree.evidence


@each_release
def test_what_we_render_was_read_for_the_release_itself(release: Release) -> None:
    fields = release.fields("tensorrt-llm").fields
    balancer = [f"moe_config.load_balancer.{name}" for name in ("num_slots", "layer_updates_per_iter")]
    rendered = {*FIELDS, *OWNED_FIELDS, *balancer}
    assert rendered <= fields.keys()
    assert not [path for path in rendered if fields[path].seen or fields[path].deprecated]


@each_release
def test_rules_know_every_backend_that_the_engine_takes(release: Release) -> None:
    known, choices = facts(release), release.fields("tensorrt-llm").fields["moe_config.backend"].choices
    assert {"AUTO", *known.moe_backends} == set(choices or ())
    assert not known.gone_backends.keys() & known.moe_backends.keys()


@each_release
@pytest.mark.parametrize(
    ("card", "weights", "ep", "backend", "why"),
    [
        ("h200-141gb", "fp8", 16, "CUTLASS", "no other for NVIDIA H200"),
        ("b200-180gb", "bf16", 8, "CUTLASS", "for FP8 and FP4"),
        ("b200-180gb", "fp8", 8, "DEEPGEMM", "FP8 blocks"),
        ("gb200-nvl72", "fp8", 16, "DEEPGEMM", "FP8 blocks"),
        ("gb200-nvl72", "fp4", 8, "CUTLASS", "CUTEDSL is for more than 8 GPUs"),
        ("gb200-nvl72", "fp4", 16, "CUTEDSL", "NVFP4"),
        ("gb300-nvl72", "fp4", 16, "CUTEDSL", "NVFP4"),
        ("h200-141gb", "fp4", 8, "MARLIN", "before Blackwell"),
        ("a100-80gb", "int4", 8, "CUTLASS", "and INT4 weights"),
    ],
)
def test_the_backend_follows_gpu_weights_and_width(  # noqa: PLR0917 - a table
    release: Release, card: str, weights: Any, ep: int, backend: str, why: str
) -> None:
    known, (model, _) = facts(release), find_model("deepseek-r1", "")
    assert model
    gpu, model = hardware_cards()[card], model.model_copy(update={"weights": weights})
    chosen, reason = known.backend(gpu, model, ep)
    assert chosen == backend
    assert why in reason
    assert known.moe_backends[chosen].suits(gpu, model)
    assert known.backend(None, model, ep)[0] == "CUTLASS"


@each_release
@pytest.mark.parametrize(
    ("backend", "formats", "hopper", "blackwell"),
    [
        ("CUTLASS", "fp8-block", True, False),
        ("CUTLASS", "fp8-tensor", True, True),
        ("CUTLASS", "nvfp4", False, True),
        ("CUTLASS", "mxfp4", True, True),
        ("CUTLASS", "bf16", True, True),
        ("TRTLLM", "fp8-block", False, True),
        ("TRTLLM", "nvfp4", False, True),
        ("TRTLLM", "mxfp4", False, True),
        ("DEEPGEMM", "fp8-block", False, True),
        ("DEEPGEMM", "nvfp4", False, False),
        ("CUTEDSL", "nvfp4", False, True),
        ("CUTEDSL", "fp8-block", False, False),
        ("MARLIN", "nvfp4", True, False),
    ],
)
def test_backends_have_kernels_for_formats_and_gpus(
    release: Release, backend: str, formats: Any, hopper: bool, blackwell: bool
) -> None:
    model, _ = find_model("deepseek-r1", "")
    assert model
    model = model.model_copy(update={"formats": Formats(experts=formats)})
    known, cards = facts(release).moe_backends[backend], hardware_cards()
    assert known.suits(cards["h100-80gb"], model) is hopper
    assert known.suits(cards["b200-180gb"], model) is blackwell
    assert known.suits(cards["gb300-nvl72"], model) is blackwell


@each_release
def test_a_backend_of_one_model_is_for_no_other(release: Release) -> None:
    triton, (model, _) = facts(release).moe_backends["TRITON"], find_model("deepseek-r1", "")
    assert model
    hopper = hardware_cards()["h200-141gb"]
    assert not triton.suits(hopper, model)
    assert triton.suits(hopper, model.model_copy(update={"architecture": "GptOssForCausalLM"}))
    assert triton.suits(hopper, model.model_copy(update={"architecture": ""}))


@each_release
def test_what_was_read_for_another_version_is_a_warning_that_says_so(release: Release) -> None:
    unsure = facts(release).eplb.unsure
    change = Change(model=LITE, variables={**eplb(redundant_experts=8), "wideep_release": release.dynamo})
    try:
        found = make_plan(*deployment(change)).warnings
    except RefusedError as refused:
        found = refused.problems
    [said] = [problem for problem in found if "does not balance DeepseekV2" in problem.message]
    assert said.severity == ("warning" if unsure else "error")
    assert ("read for another version" in said.message) is unsure


def test_the_list_of_balanced_models_is_newer_than_the_older_release() -> None:
    assert {release.dynamo for release in RELEASES if facts(release).eplb.unsure} == {"1.5.1"}


def test_a_fact_names_a_source_that_is_explained() -> None:
    right = RELEASES[0].facts("trtllm")
    assert TrtllmFacts.model_validate(right)
    with pytest.raises(ValidationError, match="sources and marks differ: hearsay"):
        TrtllmFacts.model_validate({**right, "gone_backends": {"WIDEEP": {"source": "hearsay"}}})
    with pytest.raises(ValidationError, match="no such backend: WIDEEP"):
        TrtllmFacts.model_validate({**right, "fallback": "WIDEEP"})
