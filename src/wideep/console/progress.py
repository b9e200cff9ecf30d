"""What a person sees of a run: a live view on a terminal, plain lines elsewhere, and a recap at the end."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock, RLock, Timer
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from wideep.console.connections import remedy, together
from wideep.console.result import Event, Failure, HostStats, Result, Tally
from wideep.reports.text import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

_TASK_STARTS = {"playbook_on_task_start", "playbook_on_handler_task_start"}
_HOST_ENDS = {"runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped"}
# What this task displays is its text for the end of the run, which the command prints there.
_REPORT = "wideep.dynamo.report"
# These do nothing by themselves that a person asks for: they are told where they fail.
_SILENT = {f"ansible.builtin.{name}" for name in ("include_role", "include_tasks", "validate_argument_spec")}
# After this time a task that may yet be skipped is shown, in seconds.
SLOW_S = 1.0
# Of hosts that say the same, so many are named.
SHOWN = 8
# Ends of a run that its next run goes on from.
AGAIN = {"canceled", "timeout"}
_STYLES = {"changed": "yellow", "failed": "bold red", "unreachable": "bold red"}


def label(role: str, task: str) -> str:
    """Return a task's name with its role's, without the collection's."""
    role = role.removeprefix("wideep.dynamo.")
    return f"{role} : {task.removeprefix(f'{role} : ')}" if role else task


class Progress:
    """Follows a run from its events. Call it with each of them, between `__enter__` and `__exit__`.

    This one prints a line for each play and task that does something, each change, failure, warning and line
    that a waiting task says.
    """

    def __init__(self, console: Console, title: str, *, verbosity: int = 0) -> None:
        self.console = console
        self.title = title
        self.tally = Tally()
        self.tasks = 0
        self.play = self.task = ""
        self.started = time.monotonic()
        self._verbosity = verbosity
        self._reporting = self._silent = self._counted = False
        self._warned: set[str] = set()
        # Lines of the play and the task that have done nothing yet; a timer prints them, too.
        self._waiting: dict[str, tuple[str, str]] = {}
        self._printing = RLock()
        self._timer: Timer | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the view; a subclass gives the terminal back here."""
        self._stop_timer()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        kind, data = event["event"], event.get("event_data") or {}
        self.tally.add(event)
        if kind == "playbook_on_play_start":
            self.play = data.get("name") or data.get("play") or ""
            self.show_play()
        elif kind in _TASK_STARTS:
            self._counted = False
            self.task = label(data.get("role") or "", data.get("task") or "")
            self._reporting = data.get("task_action") == _REPORT
            self._silent = data.get("task_action") in _SILENT
            self.show_task()
        elif kind in _HOST_ENDS:
            self._host_end(kind.removeprefix("runner_on_"), data)
        if text := self._said(kind, event.get("stdout", "")):
            self.show_note(text)

    def _said(self, kind: str, stdout: str) -> str:
        """Return the part of Ansible's own output that is shown: what no other event tells."""
        loud = self._verbosity and kind in _HOST_ENDS
        report = self._reporting and kind == "verbose"
        free = not report and not kind.startswith(("playbook_on_", "runner_"))
        shown = loud or free or "diff" in kind or kind == "runner_retry"
        return stdout.replace("\r", "").strip("\n") if shown and stdout.strip() else ""

    def _host_end(self, outcome: str, data: Mapping[str, Any]) -> None:
        result = data.get("res") or {}
        for warning in result.get("warnings") or ():
            if warning not in self._warned:
                self._warned.add(warning)
                self.show_note(f"warning: {warning}")
        if outcome == "failed" and data.get("ignore_errors"):
            outcome = "ignored"
        if outcome == "ok" and result.get("changed") is True:
            outcome = "changed"
        if outcome != "skipped" and not self._counted:
            self.tasks += 1
            self._counted = True
        self.show_host(data["host"], outcome)

    def show_play(self) -> None:
        """A play starts."""
        self._wait("play", f"== {self.play}", "bold")

    def show_task(self) -> None:
        """A task starts."""
        self._wait("task", self.task)
        if not self._silent:
            self._timer = Timer(SLOW_S, self._works)
            self._timer.daemon = True
            self._timer.start()

    def show_host(self, host: str, outcome: str) -> None:
        """A host is done with its task."""
        if outcome != "skipped" and (outcome != "ok" or not self._silent):
            self._works()
        if outcome in {"failed", "unreachable"}:
            failure = self.tally.failures[-1]
            first, *_ = failure.message.splitlines()  # all of it comes in the recap
            said = "" if failure.refused else f": {first}"
            self._line(f"      {outcome}: {host}{said}", _STYLES[outcome])
        elif outcome in {"changed", "ignored"}:
            self._line(f"      {outcome}: {host}", _STYLES.get(outcome, ""))

    def show_note(self, text: str) -> None:
        """Ansible or a task says something."""
        self._works()
        self._line("      " + text.replace("\n", "\n      "))

    def _wait(self, what: str, text: str, style: str = "") -> None:
        """Keep the line of a play or task until that does something."""
        self._stop_timer()
        with self._printing:
            self._waiting.pop("task", None)  # it did nothing
            self._waiting[what] = (f"{clock(time.monotonic() - self.started)}  {text}", style)

    def _works(self) -> None:
        with self._printing:
            lines, self._waiting = self._waiting.values(), {}
            for line in lines:
                self._line(*line)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _line(self, text: str, style: str = "") -> None:
        self.console.print(Text.from_ansi(text, style=style), soft_wrap=True, highlight=False)


class LiveProgress(Progress):
    """The view for a terminal: redrawn in place, gone at the end of the run."""

    def __init__(self, console: Console, title: str, *, verbosity: int = 0) -> None:
        super().__init__(console, title, verbosity=verbosity)
        self._busy: dict[str, tuple[str, float]] = {}
        self._notes: deque[str] = deque(maxlen=5)
        self._above: deque[str] = deque()
        # Play and task of the head line: the last that did something, or one that takes its time.
        self._where = ("", "")
        self._task_started = 0.0
        # Events come from the run's thread, drawing from that of the view.
        self._lock = Lock()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(self, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Progress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take one event into the view."""
        with self._lock:
            if event["event"] == "runner_on_start":
                data = event["event_data"]
                now = label(data.get("role") or "", data.get("task") or "")
                self._busy[data["host"]] = (now, time.monotonic())
            super().__call__(event)
        # Printed without the lock: the drawing thread waits for it while it holds the terminal's.
        while self._above:
            super()._line(self._above.popleft())

    def _line(self, text: str, style: str = "") -> None:
        self._above.append(text)

    def show_play(self) -> None:
        """A play starts; it is shown when a task of it does something."""

    def show_task(self) -> None:
        """A task starts: what the one before said is over."""
        self._notes.clear()
        self._task_started = time.monotonic()

    def show_host(self, host: str, outcome: str) -> None:
        """A host is done with its task."""
        self._busy.pop(host, None)
        if outcome != "skipped":
            self._where = (self.play, self.task)

    def show_note(self, text: str) -> None:
        """Keep the last lines; warnings, differences and verbose output stay on the screen."""
        if self._verbosity or "\n" in text or "warning" in text[:10].lower():
            super().show_note(text)
        else:
            self._notes.append(text)

    def __rich__(self) -> RenderableType:
        with self._lock:
            return Group(*self._parts())

    def _parts(self) -> Iterable[RenderableType]:
        now = time.monotonic()
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(width=1)
        head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        head.add_column(justify="right", no_wrap=True)
        done = f"{self.tasks} tasks done"
        head.add_row(self._spinner, Text(self.title, "bold"), f"{done} · {clock(now - self.started)}")
        if self._busy and now - self._task_started > SLOW_S:
            self._where = (self.play, self.task)
        where = " > ".join(part for part in self._where if part) or "starting Ansible"
        yield head
        yield Text(f"  {where}", "cyan", no_wrap=True, overflow="ellipsis")

        if self.tally.counts:
            room = max(self.console.height - 14, 4)
            yield Text("")
            yield self._table(self._hosts(room), now)
            if (hidden := len(self.tally.counts) - room) > 0:
                yield Text(f"  … and {hidden} more hosts", "dim")
        if self._notes:
            yield Text("")
            yield from (Text(f"  {note}", "dim", no_wrap=True, overflow="ellipsis") for note in self._notes)
        for failure in self.tally.failures[-2:]:
            yield Text("")
            yield from failure_lines(failure, most=3)

    def _hosts(self, room: int) -> list[str]:
        """Return the hosts to show: all in the inventory's order, or those that failed and those at work."""
        hosts = list(self.tally.counts)
        if len(hosts) <= room:
            return hosts
        return sorted(hosts, key=lambda host: (not self._bad(host), host not in self._busy))[:room]

    def _bad(self, host: str) -> int:
        return self.tally.counts[host]["failed"] + self.tally.counts[host]["unreachable"]

    def _table(self, hosts: list[str], now: float) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, expand=True)
        table.add_column("host", no_wrap=True)
        for name in ("ok", "changed", "failed"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("now", ratio=1, no_wrap=True, overflow="ellipsis")
        for host in hosts:
            counts = self.tally.counts[host]
            bad = self._bad(host)
            task, since = self._busy.get(host, ("", now))
            table.add_row(
                Text(host, "bold red" if bad else "bold" if task else "dim"),
                str(counts["ok"]),
                Text(str(counts["changed"]), _STYLES["changed"] if counts["changed"] else ""),
                Text(str(bad), _STYLES["failed"] if bad else ""),
                f"{clock(now - since)}  {task}" if task else "",
            )
        return Padding(table, (0, 2))


def failure_lines(
    failure: Failure, most: int | None = None, hosts: Sequence[str] = ()
) -> Iterable[RenderableType]:
    """Yield a failure's title and the lines of its message, at most `most` of them. hosts: of all alike."""
    place = ", ".join(hosts[:SHOWN]) + f" and {len(hosts) - SHOWN} more" * (len(hosts) > SHOWN)
    place = place or failure.host or "input"
    yield Text(f"  {place} · {label(failure.role, failure.task)}", "bold red")
    lines = failure.message.splitlines()
    for line in lines[:most]:
        yield Text.from_ansi(f"    {line}", no_wrap=most is not None, overflow="ellipsis" if most else "fold")
    if most is not None and len(lines) > most:
        yield Text(f"    … {len(lines) - most} more lines", "dim")


def recap(console: Console, title: str, result: Result) -> None:
    """Print how the run ended: hosts, duration, every failure in full."""
    words = {"successful": ("done", "bold green"), "timeout": ("timed out", "bold red")}
    word, style = words.get(result.status, (result.status, "bold red"))
    refused = bool(result.failures) and all(failure.refused for failure in result.failures)
    if refused:
        word = "refused"
    console.print()
    console.print(Text(f"{title}: {word} after {clock(result.duration_s)}", style))
    if result.stats and not refused:
        console.print(_recap_table(result.stats))
    if result.status in AGAIN:
        console.print("  what is done stays done: run the same command again to finish it", highlight=False)
    for failure, hosts in together(result.failures):
        console.print()
        for line in failure_lines(failure, hosts=hosts):
            console.print(line, soft_wrap=True, highlight=False)
        if help_ := remedy(failure):
            console.print(f"      fix: {help_}", soft_wrap=True, highlight=False)
        if failure.path and not failure.refused:
            console.print(Text(f"    at {failure.path}", "dim"), soft_wrap=True, highlight=False)


def _recap_table(stats: Mapping[str, HostStats]) -> RenderableType:
    names = ["ok", "changed", "failed"]
    names += [n for n in ("unreachable", "rescued", "ignored") if any(getattr(s, n) for s in stats.values())]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("host", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for host, counts in stats.items():
        cells = [(str(getattr(counts, n)), _STYLES.get(n, "") if getattr(counts, n) else "") for n in names]
        table.add_row(host, *(Text(*cell) for cell in cells))
    return Padding(table, (0, 2), expand=False)
