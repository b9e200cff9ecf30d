"""The table of the proof (tools/proof): what a row says, what counts as kept, which rows are not run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tools.proof import __main__ as proof
from tools.proof.bed import Bed, Shape
from tools.proof.load import Result
from tools.proof.rows import ROWS, Row

from wideep.plan import make_plan

CHANGE, FAULT = Row("a change", lambda _: None), Row("a fault", lambda _: None, change=False)
GOOD = Result(
    sent=10,
    complete=10,
    failed=0,
    cut=0,
    empty=0,
    statuses={"200": 10},
    longest_stall_s=0.25,
    longest_first_token_s=0.5,
    answers_s=(1.0, 2.0, 3.0),
    fewest_workers={"prefill": 2, "backend": 1},
    most_workers={"prefill": 2, "backend": 2},
    streams=4,
    failed_s=0.0,
    seconds=12.3,
)
LOST = replace(GOOD, complete=7, failed=1, cut=1, empty=1)


def test_a_row() -> None:
    line = proof.Outcome(FAULT, LOST, "4 of 4", 3.4).line()
    assert line == "| a fault | 10 | 1 | 1 | 1 | 0.2 s | backend 1, prefill 2 | 12 s | 4 of 4 | 3 s |\n"
    assert line.count("|") == proof.TABLE.splitlines()[0].count("|")
    assert proof.Outcome(CHANGE, None, said="why").line().count("|") == line.count("|")


def test_a_change_may_lose_nothing_and_a_fault_may() -> None:
    assert proof.Outcome(CHANGE, GOOD).kept
    assert not proof.Outcome(CHANGE, LOST).kept
    assert proof.Outcome(FAULT, LOST).kept
    assert not proof.Outcome(FAULT, GOOD, said="it did not heal").kept
    assert not proof.Outcome(CHANGE, replace(GOOD, sent=0, complete=0)).kept


def test_rows_without_their_verb_are_told() -> None:
    assert "no verb nonsense" in proof.lacks(replace(CHANGE, verb="nonsense"), Shape())
    assert proof.lacks(CHANGE, Shape()) == ""
    assert "one host" in proof.lacks(replace(FAULT, gang=True), Shape())
    assert proof.lacks(replace(FAULT, gang=True), Shape(width=2)) == ""
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("release", ["1.5.1", "1.6.1"])
def test_the_bed_is_a_deployment_that_the_plan_takes(tmp_path: Path, width: int, release: str) -> None:
    import yaml

    bed = Bed(Shape(width=width, spare=2 * width), {"wideep_release": release}, tmp_path)
    place = bed.inventory()
    hosts = yaml.safe_load((place / "hosts.yml").read_text())["all"]["children"]
    variables = yaml.safe_load((place / "group_vars" / "all.yml").read_text())
    groups = {group: list(own["hosts"]) for group, own in hosts.items()}
    own = {name: {**variables, **at} for group in hosts.values() for name, at in group["hosts"].items()}
    plan = make_plan(groups, own)
    assert [len(pool.replicas) for pool in plan.deployment.pools] == [2, 2]
    assert plan.site.frontend_url == bed.url
    assert [plan.site.frontend_url_of(host) for host in plan.deployment.frontends] == list(bed.frontends)


def test_the_page_has_the_rows_and_how_they_were_made(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(proof, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(proof, "COUNTS", tmp_path / "counts.json")
    given = {"streams": 4, "requests": 10, "tokens": "1-2", "width": 2, "page": True, "json": None}
    import argparse

    proof._write([proof.Outcome(CHANGE, GOOD, "4 of 4")], argparse.Namespace(**given))
    page = (tmp_path / "page.md").read_text()
    assert "4 streams at all times, at least 10 requests a row" in page
    assert "| a change | 10 | 0 | 0 | 0 |" in page
    assert json.loads((tmp_path / "counts.json").read_text())["rows"][0]["counts"]["kept"] is True
