"""What a deployment writes about itself on its control hosts: who changes it now, and who changed what when.

Runs on hosts: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOCK = "lock"
CHANGES = "log/changes.jsonl"
DEPLOYMENTS = "deployments"


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Keep other calls on this host out while one is at work."""
    handle = os.open(state, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def holder(state: Path) -> dict[str, Any] | None:
    """Return who has the lock; None where nobody has. One that cannot be read is somebody's."""
    try:
        text = (state / LOCK).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return dict(json.loads(text))
    except ValueError:
        return {"run": "unreadable"}


def take(state: Path, mine: Mapping[str, Any], over: str = "") -> dict[str, Any]:
    """Take the lock where nobody has it, or this run has; or from the run `over`.

    Returns `taken`, and as `holder` who had it before.
    """
    with _alone(state):
        before = holder(state)
        if before and before.get("run") not in (mine["run"], over):
            return {"taken": False, "holder": before}
        if not before or before.get("run") != mine["run"]:
            _write(state / LOCK, json.dumps(mine) + "\n")
            _note(state, {"event": "began", **mine})
        return {"taken": True, "holder": before}


def release(state: Path, run: str, told: Mapping[str, Any] | None = None) -> bool:
    """Give the lock of a run back, and note how the run ended; return whether it was there."""
    if not state.is_dir():
        return False
    with _alone(state):
        there = holder(state)
        ours = there is not None and there.get("run") == run
        # A lock that a removal took away, or another run, leaves something to be told.
        if told is not None and (state / CHANGES).parent.is_dir():
            _note(state, {"event": "ended", "run": run, **told})
        if ours:
            (state / LOCK).unlink()
        return ours


def changes(state: Path, most: int) -> list[dict[str, Any]]:
    """Return the last notes, the oldest first; what cannot be read is left out."""
    try:
        lines = (state / CHANGES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines[-most:]:
        try:
            found.append(dict(json.loads(line)))
        except ValueError:
            continue
    return found


def record(state: Path, deployment: Mapping[str, Any], keep: int) -> bool:
    """Keep the input of a verified deployment, and the last `keep` in all; return whether it is a new one."""
    with _alone(state):
        folder = state / DEPLOYMENTS
        folder.mkdir(mode=0o700, exist_ok=True)
        there = records(state)
        fresh = not there or there[-1]["digest"] != deployment["digest"]
        name = "".join(c for c in str(deployment["when"]) if c.isalnum()) + f"-{deployment['digest']}.json"
        # The same again: who verified it last counts.
        path = folder / name if fresh else sorted(folder.glob("*.json"))[-1]
        for old in folder.glob(f"*-{deployment['digest']}.json"):
            old.unlink()
        _write(path, json.dumps(deployment) + "\n", 0o600)
        for old in sorted(folder.glob("*.json"))[: -keep or None]:
            old.unlink()
        return fresh


def records(state: Path) -> list[dict[str, Any]]:
    """Return the recorded deployments, the oldest first; what cannot be read is left out."""
    found = []
    for path in sorted((state / DEPLOYMENTS).glob("*.json")):
        try:
            found.append(dict(json.loads(path.read_text(encoding="utf-8"))))
        except ValueError:
            continue
    return found


def _note(state: Path, line: Mapping[str, Any]) -> None:
    path = state / CHANGES
    path.parent.mkdir(mode=0o750, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    with os.fdopen(handle, "a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(mode)
    temporary.replace(path)
