"""Prometheus of a real deployment: what it scrapes, what its alerts ask for, a killed worker that is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from example_inventories import local
from metrics import expressions, panels
from places import BIN, LOCAL
from prometheus import program

from tests.system.conftest import Deployment, free_offset
from wideep.monitoring.promql import metrics_of
from wideep.monitoring.rules import alerts
from wideep.monitoring.targets import targets
from wideep.plan import make_plan

pytestmark = pytest.mark.system

# Counted from the first event on: nothing of it is there in a deployment that is well.
AFTER_AN_EVENT = {"dynamo_frontend_model_migration_total"}


def ask(deployment: Deployment, path: str, **query: str) -> Any:
    url = f"http://127.0.0.1:{9090 + deployment.offset}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]


def firing(deployment: Deployment) -> set[str]:
    return {a["labels"]["alertname"] for a in ask(deployment, "alerts")["alerts"] if a["state"] == "firing"}


def within(seconds: float, wanted: Any) -> float:
    began = time.monotonic()
    while not wanted():
        assert time.monotonic() - began < seconds
        time.sleep(0.5)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def watched() -> Iterator[Deployment]:
    """A deployment with the Prometheus of this machine, or of its distribution's package."""
    monitoring = {
        "enabled": True,
        "interval_s": 1,
        "install_method": "existing",
        "binary": str(program("prometheus")),
    }
    base = Path(tempfile.mkdtemp(prefix="wideep-system-", dir="/tmp"))
    made = Deployment(base / "state", free_offset(4000), {"wideep_monitoring": monitoring})
    try:
        made.run("site").raise_for_status()
        made.complete()
        yield made
    finally:
        made.run("teardown").raise_for_status()
        shutil.rmtree(base)
    assert made.pids() == {}


def test_every_process_with_metrics_is_scraped(watched: Deployment) -> None:
    def up() -> bool:
        found = ask(watched, "targets")["activeTargets"]
        return len(found) == 6 and all(target["health"] == "up" for target in found)

    within(30, up)
    assert watched.services()["prometheus"]["healthy"]


def test_what_alerts_ask_for_is_measured(watched: Deployment) -> None:
    plan = make_plan(*local(wideep_monitoring={"enabled": True}))
    made = alerts(plan.deployment, targets(plan.deployment, plan.launches))
    asked = set().union(*(metrics_of(alert.expr) for alert in made if not alert.engine)) - AFTER_AN_EVENT
    assert len(asked) >= 8
    within(30, lambda: all(ask(watched, "query", query=name)["result"] for name in asked))
    assert not [
        rule
        for group in ask(watched, "rules")["groups"]
        for rule in group["rules"]
        if rule["health"] == "err"
    ]


def test_every_panel_has_data_unless_it_says_why_not(watched: Deployment) -> None:
    def empty() -> list[str]:
        watched.complete()
        return [
            panel["title"]
            for panel in panels()
            if not panel.get("description")
            for expression in expressions(panel)
            if not ask(watched, "query", query=expression)["result"]
        ]

    within(60, lambda: not empty())


def test_top_shows_what_runs(watched: Deployment) -> None:
    own = {"wideep_state_dir": str(watched.state_dir), "wideep_port_offset": watched.offset}
    words = [BIN / "wideep", "top", "-i", LOCAL, "-e", json.dumps(own), "--json", "-n", "1"]
    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(watched.complete, 400) for _ in range(4)]
        shown = subprocess.run(words, capture_output=True, text=True, check=True)
        for each in asking:
            each.result()
    found = {row["gang"]: row for row in json.loads(shown.stdout)}
    assert set(found) == {"frontend", "prefill-0", "prefill-1", "decode-0", "decode-1"}
    assert {row["state"] for row in found.values()} == {"up"}
    assert found["frontend"]["ttft_ms"] is None or found["frontend"]["ttft_ms"] > 0


def test_a_worker_that_is_gone_is_told_and_told_as_back(watched: Deployment) -> None:
    within(60, lambda: not firing(watched))
    pid = watched.pids()["decode-1"]
    os.kill(pid, signal.SIGSTOP)  # it hangs: nobody restarts it
    try:
        assert within(60, lambda: "InstancesMissing" in firing(watched)) < 40
    finally:
        os.kill(pid, signal.SIGKILL)
    within(90, lambda: "InstancesMissing" not in firing(watched))


def test_a_second_run_changes_nothing(watched: Deployment) -> None:
    before = watched.pids()
    result = watched.run("site")
    result.raise_for_status()
    assert result.stats["localhost"].changed == 0
    assert watched.pids() == before
