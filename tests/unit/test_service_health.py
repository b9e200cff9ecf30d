"""Health and log tails, on real sockets and files."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import health as module
from ansible_collections.wideep.dynamo.plugins.module_utils.health import (
    check,
    expectation,
    listening,
    observe,
)
from ansible_collections.wideep.dynamo.plugins.module_utils.logs import tail
from ansible_collections.wideep.dynamo.plugins.module_utils.process import environment
from ansible_collections.wideep.dynamo.plugins.module_utils.status import Status
from servers import Quiet, serving
from servers import url as url_of
from waiting import until


class Answers(Quiet):
    def do_GET(self) -> None:
        bodies = {
            "/ready": b'{"endpoints": {"generate": "ready"}, "ok": true, "list": [{"n": 3}]}',
            "/text": b"fine",
        }
        self.answer(200 if self.path in bodies else 503, bodies.get(self.path, b""))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Answers) as server:
        yield url_of(server)


def health(url: str, path: str = "", value: str = "") -> dict[str, Any]:
    return {
        "kind": "http",
        "url": url,
        "json_path": path,
        "json_value": value,
        "settle_s": 0,
        "deadline_s": 1,
    }


@pytest.mark.parametrize(
    ("page", "path", "value", "expected"),
    [
        ("/text", "", "", (True, "HTTP 200")),
        ("/ready", "endpoints.generate", "ready", (True, 'endpoints.generate is "ready"')),
        ("/ready", "endpoints.generate", "no", (False, 'endpoints.generate is "ready"')),
        ("/ready", "ok", "true", (True, 'ok is "true"')),
        ("/ready", "list.0.n", "3", (True, 'list.0.n is "3"')),
        ("/ready", "endpoints.other.deeper", "x", (False, 'endpoints.other.deeper is "null"')),
        ("/text", "a", "b", (False, "HTTP 200 without JSON")),
        ("/none", "", "", (False, "HTTP 503")),
    ],
)
def test_http(url: str, page: str, path: str, value: str, expected: tuple[bool, str]) -> None:
    assert check(health(url + page, path, value), 1.0) == expected


def test_nobody_listens() -> None:
    healthy, detail = check(health("http://127.0.0.1:1/"), 1.0)
    assert not healthy
    assert detail == "port 1: connection refused"


def test_process() -> None:
    rule = {"kind": "process", "settle_s": 5}
    assert check(rule, 5.0)[0]
    assert check(rule, 4.0) == (False, "up for 4 s of 5 s")
    assert expectation(rule) == "process up for 5 s"


def test_expectation() -> None:
    assert expectation(health("http://h/x", "a.b", "c")) == 'GET http://h/x answers 200 with a.b = "c"'


def test_listening_knows_the_socket(url: str) -> None:
    ours = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    assert listening()[int(url.rpartition(":")[2])] & ours


START = "--- wideep starts a (start {}) at 2026-01-01T00:00:00Z ---\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\n\n\x1b[31mtwo\x1b[0m\n  three  \n", ["two", "  three"]),
        ("bar 1%\rbar 50%\rbar 100%\r\n", ["bar 100%"]),
        ("old\n" + START.format(1) + "new\n", [START.format(1).strip(), "new"]),
        # A crash loop: the start that has said nothing yet does not hide why the last one ended.
        (START.format(1) + "why\n" + START.format(2), [START.format(1).strip(), "why"]),
        (
            START.format(1) + "why\n" + START.format(2) + "wideep: the hard limit is 1\n",
            [START.format(1).strip(), "why"],
        ),
        # Told to start anew: what was before does not count.
        ("old\n" + START.format(1), [START.format(1).strip()]),
        ("", []),
    ],
)
def test_tail(tmp_path: Path, text: str, lines: list[str]) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert tail(str(log), 2) == lines


def test_tail_of_what_cannot_be_read(tmp_path: Path) -> None:
    assert tail(str(tmp_path / "none"), 3) == [f"(no log file {tmp_path}/none yet)"]
    assert tail(str(tmp_path), 3) == [f"(cannot read {tmp_path}: Is a directory)"]
    assert tail(str(tmp_path / "none"), 0) == []


@pytest.mark.parametrize("schema", [1, 2])
def test_a_rank_is_judged_by_the_watcher_of_its_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int
) -> None:
    now = time.time()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now))
    launch = {
        "name": "decode-0-rank-1",
        "component": "worker",
        "digest": "d",
        "argv": ["sleep"],
        "health": {"kind": "process", "settle_s": 10, "deadline_s": 60},
        "ports": [],
        "log_file": str(tmp_path / "log"),
    }
    state = tmp_path / "services" / "decode-0-rank-1" / ("unit" if schema == 1 else "gang") / "state.json"
    state.parent.mkdir(parents=True)
    if schema == 2:
        launch["gang"] = {"status_file": str(state)}
    process = subprocess.Popen(["sleep", "60"], env={"WIDEEP_DIGEST": "d"})

    class Manager:
        state_dir = str(tmp_path)

        @staticmethod
        def status(_: Any) -> dict[str, Status]:
            return {launch["name"]: Status("running", process.pid, 1, "")}

    def seen(**content: Any) -> tuple[bool, str, int]:
        state.write_text(json.dumps({"breaks": 2, "since": now, **content}))
        found = observe(Manager(), {launch["name"]: launch})[0]  # type: ignore[arg-type]
        return found["healthy"], found["health_detail"], found["restarts"]

    try:
        until("it has its environment", lambda: environment(process.pid))
        waiting = "waits for rank 3 on decode04"
        assert seen(state="gather", detail=waiting) == (False, waiting, 3)
        assert seen(state="run", detail="") == (False, "up for 0 s of 10 s", 3)
        assert seen(state="run", detail="", since=now - 11) == (True, "up for 11 s of 10 s", 3)
        seen(state="gather", detail=waiting)
        os.utime(state, (now - 60, now - 60))  # an earlier watcher's
        found = observe(Manager(), {launch["name"]: launch})[0]  # type: ignore[arg-type]
        # Of the first schema nobody knows whether there is a watcher.
        assert found["health_detail"].startswith("up for" if schema == 1 else "is being started")
        assert not found["healthy"]
        assert found["restarts"] == 1
    finally:
        process.kill()
        process.wait()
