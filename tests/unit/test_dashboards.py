"""The dashboard for Grafana: made by its own types, asking for metrics that there are."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard
from metrics import DASHBOARD, OTHERS, expressions, known, panels
from places import program

from wideep.monitoring.promql import metrics_of
from wideep.reference.release import releases


def test_the_file_is_what_the_tool_makes_and_grafanas_types_read_it_back() -> None:
    text = DASHBOARD.read_text(encoding="utf-8")
    assert text == program("tools/make_dashboards.py").text(), "run: make reference"
    read = Dashboard.from_json(json.loads(text))
    assert (read.uid, read.title) == ("wideep", "wideep")
    assert len(read.panels or []) > 6


def test_deprecated_metrics_are_not_shown() -> None:
    assert "queued_requests" not in DASHBOARD.read_text(encoding="utf-8")


@pytest.mark.parametrize("release", releases())
def test_panels_ask_for_metrics_that_the_release_has(release: str) -> None:
    for panel in panels():
        for expression in expressions(panel):
            asked = metrics_of(expression)
            assert asked, expression
            assert asked <= known(release) | OTHERS, panel["title"]


def test_panels_that_may_be_empty_say_why() -> None:
    for panel in panels():
        asked = set().union(*map(metrics_of, expressions(panel)))
        special = any(name.startswith(("sglang:", "DCGM_", "node_")) for name in asked)
        assert bool(panel.get("description")) or not special, panel["title"]


def test_panels_lie_beside_each_other() -> None:
    places = sorted((p["gridPos"]["y"], p["gridPos"]["x"], p["gridPos"]["w"]) for p in panels())
    assert len(places) >= 38
    for (y, x, width), (next_y, next_x, _) in pairwise(places):
        assert next_y > y or next_x >= x + width
