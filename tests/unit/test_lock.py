"""Who has the lock of a deployment, whether that run lives, and what a person reads of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import ledger

from wideep.changes.lock import Controller, Run, age_s, describe, gone, history, refusal, this_run, unlocked
from wideep.reports.history import history_text

HERE = Controller("ops-1", "machine", "boot", "pid:[1]")


def run(**over: Any) -> dict[str, Any]:
    made: Run = replace(
        this_run(os.getpid(), "site", ""), who="ann", since="2026-01-02T03:04:05Z", controller=HERE
    )
    return replace(made, **over).to_dict()


def test_a_run_is_known_by_its_process() -> None:
    assert this_run(os.getpid(), "site", "") == replace(
        this_run(os.getpid(), "site", ""), since=this_run(os.getpid(), "site", "").since
    )
    assert this_run(os.getpid(), "site", "").run != this_run(os.getppid(), "site", "").run
    assert age_s(os.getpid()) > 0
    assert age_s(2**22 + 1) == 0


@pytest.mark.parametrize(
    ("over", "ended"),
    [
        ({}, False),
        ({"pid": 2**22 + 1}, True),
        ({"started": "1"}, True),  # its pid is somebody else's now
        ({"started": "1", "controller": replace(HERE, name="ops-2")}, False),
        ({"started": "1", "controller": replace(HERE, processes="pid:[2]")}, False),
        ({"controller": replace(HERE, boot="before")}, True),
    ],
)
def test_only_of_this_machine_it_is_known_that_a_run_has_ended(over: dict[str, Any], ended: bool) -> None:
    assert gone(run(**over), HERE) is ended


def test_what_cannot_be_read_is_nobodys_to_take() -> None:
    assert not gone({"run": "unreadable"}, HERE)
    assert describe({"run": "unreadable"}) == "an unreadable lock file"


def test_a_refusal_says_who_and_what_to_do() -> None:
    text = refusal(run(pid=7, limit="w1"), 12)
    assert text.startswith(
        "another run changes this deployment: site --limit w1 by ann (ops-1, pid 7), since 2026"
    )
    assert "(waited 12 s)" in text
    assert text.endswith("-e wideep_lock=take")


def test_more_than_half_must_give_it() -> None:
    yes, no, away = {"taken": True}, {"taken": False, "why": "who; do"}, {"away": "no route", "item": "c"}
    assert unlocked([]) is None  # nobody keeps one
    assert unlocked([yes, away, yes]) is None
    assert unlocked([yes, no, yes]) is None
    problem = unlocked([yes, no])
    assert problem
    assert (problem.message, problem.remedy) == ("who", "do")
    problem = unlocked([yes, away])
    assert problem
    assert "1 of 2 control hosts cannot be reached (c)" in problem.message


def test_the_history_is_one_of_all_hosts() -> None:
    notes = [
        {"event": "began", "run": "b", "since": "2026-01-02T00:00:00Z", "verb": "site", "who": "ann"},
        {"event": "began", "run": "a", "since": "2026-01-01T00:00:00Z", "verb": "site", "who": "bob"},
        {
            "event": "ended",
            "run": "a",
            "outcome": "done",
            "ended": "2026-01-01T00:01:05Z",
            "changed": ["x on h"],
        },
        {
            "event": "ended",
            "run": "a",
            "outcome": "done",
            "ended": "2026-01-01T00:01:05Z",
            "changed": ["x on h"],
        },
        {"event": "ended", "run": "lost", "outcome": "done"},
    ]
    runs = history(notes, [])
    assert [(one["run"], one["outcome"]) for one in runs] == [("a", "done"), ("b", "did not end")]
    assert history(notes, [{"run": "b"}])[1]["outcome"] == "runs"
    lines = history_text("chat", runs, [run(controller=replace(HERE, name="far"))], ["c3"]).splitlines()
    assert lines[1].split() == ["2026-01-01", "00:00:00", "site", "-", "bob", "1m5s", "done", "x", "on", "h"]
    assert lines[-2].startswith("lock: site by ann (far, pid")
    assert lines[-1] == "c3: no answer"
    assert history_text("chat", [], [], []) == "chat: no change was noted here yet\n"


class TestOnAHost:
    """module_utils/ledger.py."""

    def test_one_at_a_time(self, tmp_path: Path) -> None:
        assert ledger.take(tmp_path, {"run": "a"}) == {"taken": True, "holder": None}
        assert ledger.take(tmp_path, {"run": "a"})["taken"]  # its own
        assert ledger.take(tmp_path, {"run": "b"}) == {"taken": False, "holder": {"run": "a"}}
        assert not ledger.take(tmp_path, {"run": "b"}, over="c")["taken"]
        assert ledger.take(tmp_path, {"run": "b"}, over="a")["taken"]
        assert not ledger.release(tmp_path, "a")
        assert ledger.release(tmp_path, "b", {"outcome": "done"})
        assert ledger.holder(tmp_path) is None
        found = [(note["event"], note["run"]) for note in ledger.changes(tmp_path, 9)]
        assert found == [("began", "a"), ("began", "b"), ("ended", "b")]

    def test_damaged_files(self, tmp_path: Path) -> None:
        (tmp_path / "lock").write_text("{")
        assert ledger.take(tmp_path, {"run": "b"})["holder"] == {"run": "unreadable"}
        assert ledger.take(tmp_path, {"run": "b"}, over="unreadable")["taken"]
        (tmp_path / ledger.CHANGES).write_text('{"event": "began"}\n{\n')
        assert ledger.changes(tmp_path, 9) == [{"event": "began"}]
        assert ledger.changes(tmp_path / "nowhere", 9) == []
        assert not ledger.release(tmp_path / "nowhere", "b")
