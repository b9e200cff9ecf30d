"""Recipes in the forms of srt-slurm, of the engines and of Dynamo: imported, planned, and told again.

Each is accepted as it is, or refused for a reason that the engine has (tests/recipes/expected.yml).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import yaml
from imports import check_round_trip
from places import REPOSITORY

from wideep.importing import Imported, build, read
from wideep.importing.source import Lines, read_text
from wideep.importing.srt import is_recipe
from wideep.importing.variants import variants
from wideep.plan import make_plan
from wideep.problems import RefusedError

FOLDER = REPOSITORY / "tests" / "recipes"
REFUSED: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(
    (FOLDER / "expected.yml").read_text(encoding="utf-8")
)
# Engine YAML that lies beside its launch line.
BESIDE = {"r1-trtllm-serve.yml"}


@lru_cache(maxsize=1)
def recipes() -> list[tuple[str, str]]:
    found = []
    for path in sorted(FOLDER.iterdir()):
        if path.name in BESIDE | {"expected.yml"}:
            continue
        lines = Lines(read_text(path), str(path)) if path.suffix == ".yaml" else None
        names = (
            [name for name, _ in variants(lines.documents[0], lines)] if lines and is_recipe(lines) else [""]
        )
        found += [(path.name, name) for name in names]
    return found


def inventory(file: str, variant: str) -> Imported:
    return build(read([FOLDER / file], variant=variant), file)


def test_there_are_enough_of_them_and_none_is_expected_that_is_not_there() -> None:
    assert len(recipes()) >= 60
    assert {(file, variant) for file, own in REFUSED.items() for variant in own} <= set(recipes())


def test_they_are_of_all_models_and_gpus() -> None:
    made = [inventory(*recipe).variables for recipe in recipes()]
    models = " ".join(sorted({one["wideep_model"] for one in made}))
    for name in (
        "DeepSeek-R1-0528", "DeepSeek-R1-0528-FP4", "DeepSeek-V3.1", "DeepSeek-V3.2", "DeepSeek-V4-Pro",
        "DeepSeek-V4-Flash", "Kimi-K2-Instruct", "Kimi-K2.5", "Qwen3-235B", "Qwen3.5-397B", "Qwen3-Next",
        "GLM-4.6", "GLM-5", "gpt-oss-120b", "MiniMax-M2", "Llama-4", "Mixtral", "DeepSeek-V2-Lite",
    ):  # fmt: skip
        assert name in models
    gpus = " ".join(sorted({one.get("wideep_gpu", "") for one in made}))
    for name in ("h100", "h200", "b200", "b300", "gb200", "gb300"):
        assert name in gpus
    assert {one["wideep_engine"] for one in made} == {"sglang", "trtllm"}


@pytest.mark.parametrize(("file", "variant"), recipes())
def test_recipe(file: str, variant: str) -> None:
    made = inventory(file, variant)
    assert not [row for row in made.rows if row.state == "not understood"]
    wrong: dict[str, Any] = REFUSED.get(file, {}).get(variant, {})
    if wrong:
        with pytest.raises(RefusedError) as refused:
            make_plan(made.groups, made.hosts)
        assert any(wrong["says"] in problem.message for problem in refused.value.problems), str(refused.value)
        return
    plan = make_plan(made.groups, made.hosts)
    assert not [row for row in made.added(plan.deployment) if row.state == "changed"]
    check_round_trip(made)
