"""Who changes a deployment: this run as its lock says it, and whether a run that has a lock still lives.

A run is a process of ansible-playbook. Whether it lives is known on its own controller only: there its pid is
the same process as long as it has the same start time.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wideep.problems import Problem

PROC = Path("/proc")
TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Controller:
    """The machine that runs Ansible. boot: another one after each boot; processes: its space of pids."""

    name: str
    machine: str
    boot: str
    processes: str

    @classmethod
    def here(cls) -> Controller:
        """Return this one; what the system does not tell is empty."""
        return cls(
            socket.gethostname(),
            _text(Path("/etc/machine-id")),
            _text(PROC / "sys/kernel/random/boot_id"),
            _link(PROC / "self/ns/pid"),
        )


@dataclass(frozen=True)
class Run:
    """A run that changes something. started: of its process, in ticks since boot; since: UTC, ISO 8601."""

    run: str
    who: str
    verb: str
    limit: str
    since: str
    pid: int
    started: str
    controller: Controller

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).strftime(TIME)


def this_run(pid: int, verb: str, limit: str) -> Run:
    """Return this run. pid: of ansible-playbook."""
    here, started = Controller.here(), _started(pid)
    key = f"{here.machine} {here.boot} {here.processes} {pid} {started}"
    who = os.environ.get("SUDO_USER") or _user()
    return Run(hashlib.sha256(key.encode()).hexdigest()[:12], who, verb, limit, now(), pid, started, here)


def age_s(pid: int) -> float:
    """Return how long a process has been running; 0 where it is not there."""
    started, up = _started(pid), _text(PROC / "uptime")
    return float(up.split()[0]) - int(started) / os.sysconf("SC_CLK_TCK") if started and up else 0.0


def gone(holder: Mapping[str, Any], here: Controller | None = None) -> bool:
    """Whether a run that has a lock is known to have ended: its process, of this controller, is not there."""
    here = here or Controller.here()
    try:
        there = Controller(**holder["controller"])
        pid, started = int(holder["pid"]), str(holder["started"])
    except (KeyError, TypeError, ValueError):
        return False
    if (there.name, there.machine) != (here.name, here.machine) or not (there.boot and here.boot):
        return False
    if there.boot != here.boot:
        return True
    return there.processes == here.processes and _started(pid) != started


def describe(holder: Mapping[str, Any]) -> str:
    """Return who has a lock: `up by ann on ops-1 (pid 4711), for 12 min`."""
    if "controller" not in holder:
        return "an unreadable lock file"
    limit = f" --limit {holder['limit']}" if holder.get("limit") else ""
    where = f"{holder['controller']['name']}, pid {holder['pid']}"
    return f"{holder['verb']}{limit} by {holder['who']} ({where}), since {holder['since']}{_ago(holder)}"


def refusal(holder: Mapping[str, Any], waited_s: float) -> str:
    """Return why this run does not begin, and what to do."""
    waited = f" (waited {waited_s:.0f} s)" if waited_s >= 1 else ""
    return (
        f"another run changes this deployment: {describe(holder)}{waited}; wait for its end"
        " (wideep_lock_wait_s), or where it was killed on that machine, take its lock: -e wideep_lock=take"
    )


def unlocked(results: Sequence[Mapping[str, Any]]) -> Problem | None:
    """Return why a run may not begin; None where more than half of the control hosts gave it the lock.

    results: what module ledger said, of each; hosts that could not be asked have `away`.
    """
    taken = [said for said in results if said.get("taken")]
    if not results or len(taken) * 2 > len(results):
        return None
    if whys := [str(said["why"]) for said in results if said.get("why")]:
        message, _, remedy = whys[0].partition("; ")
        return Problem(message, "lock of the deployment", remedy)
    away = [str(said.get("item", "?")) for said in results if said.get("away")]
    return Problem(
        f"{len(away)} of {len(results)} control hosts cannot be reached ({', '.join(away)}), and more than"
        " half of them must keep the lock",
        "lock of the deployment",
        "bring them back; or where nobody else can change it now, go without: -e wideep_lock=none",
    )


def history(notes: Sequence[Mapping[str, Any]], holders: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs that the notes of all control hosts tell of, the oldest first.

    A run that noted its begin and no end was killed, or runs: then it is one of the holders.
    """
    runs: dict[str, dict[str, Any]] = {}
    for note in notes:
        if note.get("event") == "began":
            runs.setdefault(str(note["run"]), {}).update(note)
        elif note.get("event") == "ended":
            runs.setdefault(str(note["run"]), {}).update({k: v for k, v in note.items() if k != "event"})
    at_work = {holder.get("run") for holder in holders if not gone(holder)}
    for run, found in runs.items():
        found.pop("event", None)
        found.setdefault("outcome", "runs" if run in at_work else "did not end")
    return sorted((run for run in runs.values() if "since" in run), key=lambda run: str(run["since"]))


def _ago(holder: Mapping[str, Any]) -> str:
    try:
        since = datetime.strptime(str(holder["since"]), TIME).replace(tzinfo=UTC)
    except ValueError:
        return ""
    minutes = int((datetime.now(UTC) - since).total_seconds() // 60)
    return f" ({minutes} min ago)" if minutes > 0 else ""


def _started(pid: int) -> str:
    """Return the start time of a process in ticks since boot; empty where it is not there."""
    try:
        fields = (
            (PROC / str(pid) / "stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return ""
    # A zombie has ended. Field 3 is the state, 22 the start time; the text begins with field 3.
    return "" if fields[0] == "Z" else fields[19]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
