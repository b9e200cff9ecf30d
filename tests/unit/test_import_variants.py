"""Variants of an srt-slurm recipe: their names, and what each has of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from wideep.importing import read
from wideep.importing.source import Lines
from wideep.importing.variants import variants
from wideep.problems import RefusedError

BASE = {
    "name": "small",
    "model": {"path": "deepseek-ai/DeepSeek-V2-Lite", "precision": "bf16"},
    "resources": {"gpu_type": "h100", "gpus_per_node": 8, "agg_nodes": 1, "agg_workers": 4},
    "backend": {"type": "sglang", "sglang_config": {"aggregated": {"tp-size": 2, "page-size": 64}}},
}


def made(document: dict[str, Any]) -> dict[str, Any]:
    lines = Lines(yaml.safe_dump(document), "recipe.yaml")
    return dict(variants(lines.documents[0], lines))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"a": 1}, {"": {"a": 1}}),
        ({"base": {"a": 1}}, {"base": {"a": 1}}),
        (
            {"base": {"a": 1, "b": {"c": 2, "d": 3}}, "override_x": {"a": None, "b": {"c": 4}}},
            {"override_x": {"b": {"c": 4, "d": 3}}, "base": {"a": 1, "b": {"c": 2, "d": 3}}},
        ),
        ({"base": {"a": 1}, "override_x": None}, {"override_x": {"a": 1}, "base": {"a": 1}}),
        (
            {"base": {"a": 1}, "zip_override_x": {"a": [5, 6], "b": {"c": [7, 8]}, "d": [9], "e": 0}},
            {
                "zip_override_x[0]": {"a": 5, "b": {"c": 7}, "d": 9, "e": 0},
                "zip_override_x[1]": {"a": 6, "b": {"c": 8}, "d": 9, "e": 0},
                "base": {"a": 1},
            },
        ),
        ({"base": {"a": 1}, "zip_override_x": None}, {"zip_override_x[0]": {"a": 1}, "base": {"a": 1}}),
    ],
)
def test_overrides(document: dict[str, Any], expected: dict[str, Any]) -> None:
    assert made(document) == expected


def test_a_sweep_is_a_variant_for_each_value_that_workers_depend_on() -> None:
    sweep = {"size": [2, 4], "load": [1, 10], "fixed": 3}
    own = {"args": {"tp": "{size}", "words": ["--x", "{size}0"]}, "benchmark": {"rate": "{load}"}}
    found = made({**own, "sweep": sweep})
    assert list(found) == ["size=2", "size=4"]
    assert found["size=4"]["args"] == {"tp": 4, "words": ["--x", "40"]}
    assert list(made({"base": {**own, "sweep": sweep}, "override_x": {"a": 1}})) == [
        *("override_x:size=2", "override_x:size=4", "base:size=2", "base:size=4"),
    ]
    assert list(made({"args": {"tp": 2}, "sweep": sweep})) == [""]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "zip_override_x",
            {"a": [1, 2], "b": [1, 2, 3]},
            "the lists of zip_override_x have different lengths: 2, 3",
        ),
        ("zip_override_x", {"a": [1, 2], "b": []}, "different lengths: 0, 2"),
        ("override_x", ["a"], "override_x is not a mapping"),
    ],
)
def test_an_override_that_cannot_be_laid_over_the_base(key: str, value: Any, message: str) -> None:
    with pytest.raises(RefusedError, match=message) as refused:
        made({"base": {"a": 1}, key: value})
    (problem,) = refused.value.problems
    assert problem.where == "recipe.yaml:3"
    assert problem.remedy


# ---- the choice --------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    pages = {"backend": {"sglang_config": {"aggregated": {"page-size": [16, 32]}}}}
    path = tmp_path / "recipe.yaml"
    document = {"base": BASE, "override_wide": {"resources": {"agg_workers": 2}}, "zip_override_pages": pages}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("variant", "replicas", "page"),
    [("override_wide", 2, 64), ("zip_override_pages[1]", 4, 32), ("base", 4, 64), ("*wide", 2, 64)],
)
def test_a_variant_is_chosen_by_its_name(recipe: Path, variant: str, replicas: int, page: int) -> None:
    (group,) = read([recipe], variant=variant).groups
    assert group.replicas == replicas
    assert {flag.name: flag.value for flag in group.worker.flags}["--page-size"] == page


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("", "the recipe has 4 variants, and none is chosen"),
        ("override_narrow", "--variant override_narrow names none of them"),
        ("zip_*", "names 2 of them"),
    ],
)
def test_a_variant_that_is_not_one_is_refused_with_their_names(
    recipe: Path, variant: str, message: str
) -> None:
    with pytest.raises(RefusedError, match=message) as refused:
        read([recipe], variant=variant)
    assert "zip_override_pages[0], zip_override_pages[1]" in refused.value.problems[0].remedy
