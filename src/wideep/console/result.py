"""What a run of a playbook did: typed, and kept up to date from the events of ansible-runner."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Event = dict[str, Any]
Status = Literal["successful", "failed", "timeout", "canceled"]


@dataclass(frozen=True)
class HostStats:
    """Number of tasks of one host by outcome; `ok` includes `changed`, as in Ansible's recap."""

    ok: int = 0
    changed: int = 0
    unreachable: int = 0
    failed: int = 0
    skipped: int = 0
    rescued: int = 0
    ignored: int = 0


@dataclass(frozen=True)
class Failure:
    """A failed task of one host. `host` is empty where Ansible itself gave up, outside any task.

    message: the operator's text, lines kept. path: `file:line` of the task. details: what the task returned.
    """

    host: str
    task: str
    role: str
    message: str
    path: str = ""
    unreachable: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """Whether the input was refused before a host was touched."""
        return self.details.get("wideep_refused") is True


class Events:
    """The events of a run in order, as ansible-runner writes them, read from disk at each iteration."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __iter__(self) -> Iterator[Event]:
        """Yield one event after the other; memory holds the names and one event."""
        # Complete events are named <counter>-<uuid>.json.
        names = (path.name for path in self._directory.glob("[0-9]*-*.json"))
        numbered = [name for name in names if name.split("-")[0].isdigit() and "partial" not in name]
        for name in sorted(numbered, key=lambda name: int(name.split("-")[0])):
            yield json.loads((self._directory / name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Result:
    """What a run did.

    rc: exit code of ansible-playbook; 124 after a timeout, 130 when canceled.
    stats: by host name; counted from the events where the run did not reach its end.
    data: what the playbook published with `ansible.builtin.set_stats`.
    private_dir: the run's artifacts; it lives as long as `events`, longer with `keep=True`.
    """

    rc: int
    status: Status
    stats: Mapping[str, HostStats]
    failures: tuple[Failure, ...]
    data: Mapping[str, Any]
    duration_s: float
    events: Events
    private_dir: Path

    def raise_for_status(self) -> None:
        """Raise RunError unless the run was successful."""
        if self.status != "successful":
            raise RunError(self)


class RunError(Exception):
    """A run that was not successful; `result` has all of it."""

    def __init__(self, result: Result) -> None:
        self.result = result
        lines = [f"the run ended as {result.status} (exit code {result.rc}) after {result.duration_s:.0f} s"]
        lines += [f"{f.host or 'input'}: {f.task}\n{f.message}" for f in result.failures]
        super().__init__("\n".join(lines))


class Tally:
    """Counts per host, failures and published data, kept up to date from events."""

    _OUTCOMES = {  # noqa: RUF012
        "runner_on_ok": "ok",
        "runner_on_failed": "failed",
        "runner_on_unreachable": "unreachable",
        "runner_on_skipped": "skipped",
    }

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.failures: list[Failure] = []
        self.data: dict[str, Any] = {}
        # The run whose lock was taken and not given back.
        self.lock = ""
        self._free_text: deque[str] = deque(maxlen=200)

    def add(self, event: Event) -> None:
        """Take one event of ansible-runner into account."""
        kind = event.get("event", "")
        data = event.get("event_data") or {}
        if kind == "runner_on_start":
            self.counts.setdefault(data["host"], Counter())  # so hosts are in the inventory's order
        elif outcome := self._OUTCOMES.get(kind):
            counts = self.counts.setdefault(data["host"], Counter())
            if outcome == "failed" and data.get("ignore_errors"):
                counts.update(("ok", "ignored"))
                return
            counts[outcome] += 1
            if outcome == "ok":
                self._note_lock(data.get("res") or {})
            counts["changed"] += outcome == "ok" and (data.get("res") or {}).get("changed") is True
            if outcome in {"failed", "unreachable"}:
                self.failures.append(_failure(data, unreachable=outcome == "unreachable"))
        elif kind == "playbook_on_stats":
            self._finish(data)
        elif not data:
            self._free_text.append(event.get("stdout", ""))

    def _note_lock(self, result: Mapping[str, Any]) -> None:
        """Follow the lock of the deployment: actions `lock` and `ledger`."""
        self.lock = result.get("wideep_lock") or self.lock
        items = result.get("results")
        # After a teardown there is none to give back: whatever it says, the run has come to its end.
        if isinstance(items, list) and any(isinstance(item, dict) and "released" in item for item in items):
            self.lock = ""

    def _finish(self, data: Mapping[str, Any]) -> None:
        """Replace the counts by Ansible's own; drop failures that were rescued or ignored."""
        self.data = data.get("artifact_data") or {}
        names = {"dark": "unreachable", "failures": "failed"}
        outcomes = ("ok", "changed", "dark", "failures", "skipped", "rescued", "ignored")
        self.counts = {
            host: Counter({names.get(o, o): data.get(o, {}).get(host, 0) for o in outcomes})
            for host in {**self.counts, **data.get("processed", {})}
        }
        kept: list[Failure] = []
        # A failure that nobody rescues ends its host, so the last ones are the real ones.
        for failure in reversed(self.failures):
            counts = self.counts[failure.host]
            if sum(f.host == failure.host for f in kept) < counts["failed"] + counts["unreachable"]:
                kept.append(failure)
        self.failures = kept[::-1]

    def ansible_error(self) -> Failure:
        """Return what Ansible itself said when it gave up outside any task: a syntax error, no such host."""
        text = "\n".join(self._free_text)
        _, marker, after = text.partition("[ERROR]: ")
        message = (after if marker else text).strip()
        return Failure("", "reading the input", "", message, details={"wideep_refused": not self.counts})

    def stats(self) -> dict[str, HostStats]:
        """Return the counts so far, typed."""
        return {host: HostStats(**counts) for host, counts in self.counts.items()}


def _failure(data: Mapping[str, Any], *, unreachable: bool) -> Failure:
    result = data.get("res") or {}
    return Failure(
        host=data["host"],
        task=data.get("task") or "",
        role=data.get("role") or "",
        message=_message(result),
        path=data.get("task_path") or "",
        unreachable=unreachable,
        details={key: value for key, value in result.items() if key not in {"invocation", "exception"}},
    )


def _message(result: Mapping[str, Any]) -> str:
    """Return what a task says about its failure: of each failed item of a loop, with the error output."""
    results = [r for r in result.get("results", ()) if isinstance(r, dict)]
    # ansible-core 2.21 keeps `failed` from callbacks; what failed has an `exception` there.
    items = [r for r in results if r.get("failed", "exception" in r) or r.get("unreachable")]
    if items:
        return "\n".join(f"{r.get('_ansible_item_label', r.get('item'))}: {_message(r)}" for r in items)
    said = result.get("msg") or result.get("censored") or "failed without a message"
    lines = [str(line) for line in said] if isinstance(said, list) else [str(said)]
    for key in ("stderr", "module_stderr"):
        output = str(result.get(key, "")).strip()
        if output and output not in lines[0]:
            lines.append(output)
    return "\n".join(lines).strip()
