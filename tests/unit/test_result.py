"""A run's result is kept up to date from its events: counts, failures, what Ansible said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wideep.console.result import Event, Events, Failure, HostStats, Result, RunError, Tally


def event(kind: str, host: str = "a", res: dict[str, Any] | None = None, **data: Any) -> Event:
    return {"event": kind, "event_data": {"host": host, "res": res or {}, **data}}


def tally(*events: Event) -> Tally:
    found = Tally()
    for one in events:
        found.add(one)
    return found


def test_tasks_are_counted_by_host_and_outcome() -> None:
    found = tally(
        event("runner_on_start", "b"),
        event("runner_on_ok", "a"),
        event("runner_on_ok", "a", {"changed": True}),
        event("runner_on_skipped", "b"),
        event("runner_on_failed", "b", {"msg": "no"}, ignore_errors=True),
        event("runner_on_unreachable", "b", {"msg": "gone"}),
    )
    assert list(found.stats().items()) == [
        ("b", HostStats(ok=1, unreachable=1, skipped=1, ignored=1)),
        ("a", HostStats(ok=2, changed=1)),
    ]
    (failure,) = found.failures
    assert (failure.host, failure.message, failure.unreachable) == ("b", "gone", True)


def test_ansibles_recap_wins_and_drops_what_was_rescued() -> None:
    recap = {"ok": {"a": 3}, "failures": {"a": 1}, "rescued": {"a": 1}, "dark": {}, "processed": {"a": 1}}
    found = tally(
        event("runner_on_failed", "a", {"msg": "rescued"}, task="first"),
        event("runner_on_failed", "a", {"msg": "final"}, task="second", role="worker", task_path="t.yml:3"),
        {"event": "playbook_on_stats", "event_data": {**recap, "artifact_data": {"wideep_data": {"x": 1}}}},
    )
    assert found.stats() == {"a": HostStats(ok=3, failed=1, rescued=1)}
    assert [(f.task, f.role, f.message, f.path) for f in found.failures] == [
        ("second", "worker", "final", "t.yml:3")
    ]
    assert found.data == {"wideep_data": {"x": 1}}


@pytest.mark.parametrize(
    ("res", "message"),
    [
        ({}, "failed without a message"),
        ({"msg": "no room"}, "no room"),
        ({"msg": ["one", "two"]}, "one\ntwo"),
        ({"censored": "hidden"}, "hidden"),
        ({"msg": "rc 1", "stderr": "why\n", "module_stderr": ""}, "rc 1\nwhy"),
        ({"msg": "rc 1: why", "stderr": "why"}, "rc 1: why"),
        (
            {
                "msg": "items failed",
                "results": [
                    {"item": "x", "failed": True, "msg": "bad"},
                    {"item": "y", "failed": False, "msg": "good"},
                    {"item": {"n": 1}, "_ansible_item_label": "z", "exception": "…", "msg": "worse"},
                    {"item": "w", "unreachable": True, "msg": "gone"},
                ],
            },
            "x: bad\nz: worse\nw: gone",
        ),
    ],
)
def test_a_failure_says_what_the_task_said(res: dict[str, Any], message: str) -> None:
    (failure,) = tally(event("runner_on_failed", "a", {**res, "invocation": {"secret": 1}})).failures
    assert failure.message == message
    assert "invocation" not in failure.details


@pytest.mark.parametrize(
    ("started", "text", "message"),
    [
        (False, "[WARNING]: old\n[ERROR]: no such file\n", "no such file"),
        (True, "something else\n", "something else"),
    ],
)
def test_what_ansible_said_when_it_gave_up(started: bool, text: str, message: str) -> None:
    found = tally(*([event("runner_on_start")] if started else []), {"event": "verbose", "stdout": text})
    failure = found.ansible_error()
    assert (failure.host, failure.message) == ("", message)
    assert failure.refused is not started


def test_events_are_read_in_their_order_without_unfinished_ones(tmp_path: Path) -> None:
    for name in ("10-b.json", "9-a.json", "11-c-partial.json", "notes.json"):
        (tmp_path / name).write_text(json.dumps({"name": name}), encoding="utf-8")
    assert [one["name"] for one in Events(tmp_path)] == ["9-a.json", "10-b.json"]


def test_a_run_that_was_not_successful_raises_with_its_failures(tmp_path: Path) -> None:
    failures = (Failure("a", "start", "", "no room"), Failure("", "reading the input", "", "no such host"))
    events = Events(tmp_path)
    Result(0, "successful", {}, (), {}, 1.0, events, tmp_path).raise_for_status()
    with pytest.raises(RunError) as raised:
        Result(2, "failed", {}, failures, {}, 61.4, events, tmp_path).raise_for_status()
    assert str(raised.value).splitlines() == [
        "the run ended as failed (exit code 2) after 61 s",
        "a: start",
        "no room",
        "input: reading the input",
        "no such host",
    ]
