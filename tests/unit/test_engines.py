"""What holds for every engine: where it stands, and that nothing else asks for its name."""

from __future__ import annotations

import ast
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from example_inventories import inventory, refusal
from places import REPOSITORY

from wideep.engines import ENGINES
from wideep.engines.base import Engine
from wideep.engines.options import SECTIONS
from wideep.plan import make_plan
from wideep.preflight import read_needs
from wideep.preflight.model import Needs
from wideep.problems import RefusedError
from wideep.reference.release import find_release
from wideep.rehearsal import rehearse

SOURCE = REPOSITORY / "src" / "wideep"
# Values of a variable: what dynamo.mocker can imitate.
FLAVOURS = "inventory/settings.py"
DOORS = {"cli.py", "runner.py", "rehearsal.py", "render.py"}
INVENTORIES = (
    *("local", "one_gpu", "sglang_single_node"),
    *("deepseek_r1_sglang", "deepseek_r1_trtllm", "deepseek_r1_trtllm_h100"),
)

every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


@every_engine
def test_an_engine_is_one_folder_of_its_name(engine: Engine) -> None:
    folder = SOURCE / "engines" / engine.name
    assert {"__init__.py", "engine.py", "options.py"} <= {path.name for path in folder.iterdir()}
    assert (folder / "rules.py").is_file() or (folder / "rules" / "__init__.py").is_file()
    assert type(engine).__module__ == f"wideep.engines.{engine.name}.engine"


def test_sections_of_the_options_are_the_engines_names() -> None:
    assert set(ENGINES) == SECTIONS


@every_engine
def test_what_an_engine_asks_for_is_pinned(engine: Engine) -> None:
    assert not engine.package or find_release().engines[engine.package]
    assert bool(engine.package) is not engine.simulated
    assert engine.disk_gb > 0


def names(path: Path) -> set[str]:
    """Return the engines' names among the texts of a module; words of sentences do not count."""
    texts = (
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    )
    return {text for text in texts if isinstance(text, str) and text in ENGINES}


def test_nothing_but_the_doors_asks_for_an_engine_by_name() -> None:
    found = {
        str(path.relative_to(SOURCE)): names(path)
        for path in SOURCE.rglob("*.py")
        if path.parts[len(SOURCE.parts)] != "engines" and str(path.relative_to(SOURCE)) not in DOORS
    }
    assert {path: own for path, own in found.items() if own} == {FLAVOURS: {"sglang", "trtllm"}}


@pytest.mark.parametrize("name", INVENTORIES)
def test_needs_of_a_host_read_back_as_what_they_were(name: str) -> None:
    plan = make_plan(*inventory(name))
    published = plan.publish().to_dict()["hosts"]
    for host in plan.deployment.hosts:
        needs = plan.on(host).needs
        assert read_needs(published[host.name]["needs"]) == needs
        assert needs != Needs()
    if not plan.engine.simulated:
        assert any(own["needs"]["gpu"] for own in published.values())


def test_needs_are_plain_data() -> None:
    """Ansible sends them to hosts as JSON, in which a tuple is a list."""

    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) for key in value) and all(map(plain, value.values()))
        return (
            all(map(plain, value))
            if type(value) is list
            else value is None or type(value) in (str, int, float, bool)
        )

    plan = make_plan(*inventory("deepseek_r1_trtllm_h100"))
    assert all(plain(own["needs"]) for own in plan.publish().to_dict()["hosts"].values())


def test_an_engine_that_a_release_does_not_know_is_refused_with_the_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(ENGINES["sglang"]), "program", "dynamo.newer")
    [problem] = refusal(*inventory("sglang_single_node"))
    assert problem.where == "wideep_release"
    assert "no catalogue of dynamo.newer" in problem.message
    assert "choose a release that has it" in problem.remedy


def test_a_rehearsal_imitates_what_the_engine_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(ENGINES["sglang"]), "flavour", lambda _, settings: "trtllm")
    made = rehearse(*inventory("sglang_single_node"), directory="/tmp/r", python="/usr/bin/python3")
    assert made.simulated.deployment.settings.engine_flavour == "trtllm"


@pytest.mark.parametrize(
    ("options", "where", "message", "remedy"),
    [
        (
            {"sglang": {"sglang": {"page_size": 64}}},
            "sglang.sglang",
            "a level too deep",
            "one level further up",
        ),
        ({"options": {"page_size": 64}}, "options", "a level too deep", "one level further up"),
        ({"env": {"A": "1"}}, "env", "a key of the pool", "wideep_pools.prefill.env"),
        (
            {"sglang": {"replicas": 2}},
            "sglang.replicas",
            "a key of the pool",
            "wideep_pools.prefill.replicas",
        ),
        ({"page_sise": 64}, "page_sise", "unknown option of sglang", "did you mean page_size?"),
    ],
)
def test_a_key_at_another_level_is_told_where_it_belongs(
    options: dict[str, Any], where: str, message: str, remedy: str
) -> None:
    groups, hosts = inventory("deepseek_r1_h200_sglang")
    pools = deepcopy(next(iter(hosts.values()))["wideep_pools"])
    pools["prefill"]["options"] |= options
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, {host: {**own, "wideep_pools": pools} for host, own in hosts.items()})
    [problem] = refused.value.problems
    assert problem.where == f"wideep_pools.prefill.options.{where}"
    assert message in problem.message
    assert remedy in problem.remedy
