"""Where a model comes from: the variables are judged before any host is contacted."""

from __future__ import annotations

from typing import Any

import pytest

from wideep.inventory.model_source import check, download_gb, model_source
from wideep.inventory.settings import Settings, parse
from wideep.plan import make_plan
from wideep.problems import RefusedError
from wideep.reports.download import progress_line

COMMIT = "0123456789abcdef" * 2 + "01234567"
HUB = {"model_cache_source": "hub", "model_cache_revision": COMMIT}
HTTP = {"model_cache_source": "http", "model_cache_url": "https://mirror.example.com/models/R1"}
S3 = {"model_cache_source": "s3", "model_cache_url": "s3://models/R1"}


def settings(**variables: Any) -> Settings:
    given = {"wideep_engine": "sglang", "wideep_model_path": "/data/R1", **variables}
    found, _, problems = parse({"gpu-1": given})
    assert found is not None, problems
    return found


@pytest.mark.parametrize("variables", [{}, HUB, HTTP, S3], ids=["path", "hub", "http", "s3"])
def test_what_is_right(variables: dict[str, Any]) -> None:
    assert check(settings(**variables)) == []


def test_without_a_path_it_is_the_small_model() -> None:
    assert model_source(settings(wideep_model_path="", **HUB)) == "packaged"
    assert check(settings(wideep_model_path="", model_cache_source="hub")) == []
    assert model_source(settings()) == "path"


@pytest.mark.parametrize(
    ("variables", "where", "text"),
    [
        (
            {**HUB, "model_cache_revision": "main"},
            "model_cache_revision",
            "40 hex digits at the top of https",
        ),
        ({**HUB, "model_cache_repo": "R1"}, "model_cache_repo", "set model_cache_repo"),
        ({**HUB, "wideep_model": "R1"}, "wideep_model", "set model_cache_repo"),
        ({**HTTP, "model_cache_url": ""}, "model_cache_url", "https://<server>/<directory>"),
        ({**HTTP, "model_cache_url": "s3://models/R1"}, "model_cache_url", "https://<server>/<directory>"),
        ({**HTTP, "model_cache_url": "https://m/R1?token=x"}, "model_cache_url", "https://<server>"),
        ({**S3, "model_cache_url": "https://models/R1"}, "model_cache_url", "s3://<bucket>/<prefix>"),
    ],
)
def test_what_is_wrong(variables: dict[str, Any], where: str, text: str) -> None:
    (problem,) = check(settings(**variables))
    assert (problem.where, problem.severity) == (where, "error")
    assert text in problem.remedy


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    (problem,) = check(settings(**{**HTTP, "model_cache_url": "https://me:s3cret@mirror/R1"}))
    assert "model_cache_credentials_file" in problem.remedy
    assert "s3cret" not in str(problem)


def test_the_simulated_engine_gets_a_warning() -> None:
    (problem,) = check(settings(wideep_engine="mocker", **HUB), simulated=True)
    assert problem.severity == "warning"


def test_the_plan_refuses_and_names_what_preflight_needs() -> None:
    groups = {name: ["gpu-1"] for name in ("control", "frontend", "aggregated")}
    base = {"ansible_host": "10.0.0.1", "wideep_state_dir": "/srv/wideep", "wideep_model_path": "/data/R1"}
    with pytest.raises(RefusedError, match="model_cache_revision"):
        make_plan(groups, {"gpu-1": {**base, "model_cache_source": "hub"}})
    plan = make_plan(groups, {"gpu-1": {**base, **HUB}}).publish().to_dict()
    assert plan["model_source"] == "hub"
    assert plan["hosts"]["gpu-1"]["needs"]["model_gb"] > 600
    assert make_plan(groups, {"gpu-1": base}).publish().to_dict()["hosts"]["gpu-1"]["needs"]["model_gb"] == 0


def test_sizes_follow_from_the_cards() -> None:
    # Published checkpoints: 688.6 GB (with a prediction layer of 14 billion parameters), 16.1 GB.
    assert 665 < download_gb(settings(**HUB)) < 689
    llama = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
    assert 15.9 < download_gb(settings(wideep_model=llama, **HUB)) < 16.2
    assert download_gb(settings(wideep_model="some/other", **HUB)) == 0
    assert download_gb(settings()) == 0


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        ({}, "gpu-1: model: starting (since 0:05)"),
        ({"state": "listing"}, "gpu-1: model: asks the source for its files (since 0:05)"),
        (
            {"state": "verifying", "done": 3e9, "total": 6e9, "rate": 1e9, "files": 4, "files_done": 2},
            "gpu-1: model: checks what is there, 3.0 of 6.0 GB (50 %), 2 of 4 files (since 0:05)",
        ),
        (
            {"state": "downloading", "done": 3 * 10**9, "total": 6 * 10**9, "rate": 5e8, "files": 4},
            "gpu-1: model: downloads, 3.0 of 6.0 GB (50 %), 500 MB/s, 0:06 left, 0 of 4 files (since 0:05)",
        ),
        (
            {"state": "downloading", "done": 3 * 10**9, "total": 6 * 10**9},
            "gpu-1: model: downloads, 3.0 of 6.0 GB (50 %), nothing comes just now (since 0:05)",
        ),
        (
            {"state": "waiting", "holder": "gpu-2 (pid 7)", "done": 3 * 10**9, "total": 6 * 10**9},
            "gpu-1: model: waits for gpu-2 (pid 7), 3.0 of 6.0 GB (50 %) (since 0:05)",
        ),
    ],
)
def test_lines_of_progress(progress: dict[str, Any], line: str) -> None:
    assert progress_line("gpu-1", progress, 5.0) == line
