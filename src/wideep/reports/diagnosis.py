"""Why a service does not come up: known causes in its log, and the message for the operator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wideep.reports.causes import known

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CRASH_LOOP = 3  # so many exits while one waits: it will not come up by itself
SHOWN_LINES = 15
_LINE_WIDTH = 160


@dataclass(frozen=True)
class Cause:
    """A likely cause: `pattern` is its name in the table, `remedy` is what to do about it."""

    pattern: str
    cause: str
    remedy: str


# Lines beside one that may tell what it is about: a traceback has the place in the next one.
_BESIDE = 3
# What our own launcher notes at each start.
_NOTED = re.compile(r"the hard limit for (?:open files|locked memory) is", re.IGNORECASE)


def explain(log_lines: Sequence[str]) -> list[Cause]:
    """Return the known causes that the lines show, the most likely first, each once; [] if none is known.

    A line means what its longest match does: "out of memory" of a call that shares memory is about sharing.
    """
    data = known()
    found: dict[str, Cause] = {}
    for number, line in enumerate(log_lines):
        if any(pattern.search(line) for pattern in data.harmless):
            continue
        beside = "\n".join(log_lines[max(0, number - _BESIDE) : number + _BESIDE + 1])
        matches = [
            (entry.means, match, len(match[0]) + (len(there[0]) if there else 0))
            for entry, pattern, near in data.lines
            if (match := pattern.search(line)) and ((there := near and near.search(beside)) or not near)
        ]
        if not matches:
            continue
        name, match, _ = max(matches, key=lambda found: (data.causes[found[0]].weight != "general", found[2]))
        cause = data.causes[name]
        what = next((group for group in match.groups() if group), "")
        text = cause.cause.format(what).replace(" ()", "").replace("  ", " ")
        found.setdefault(name, Cause(name, text, cause.remedy))
    said = [cause for name, cause in data.causes.items() if name in found and cause.weight != "echo"]
    echoes = [cause for name, cause in data.causes.items() if name in found and cause.weight == "echo"]
    return [found[cause.name] for cause in said or echoes[:1]]


def progress_line(
    host: str, services: Sequence[Mapping[str, Any]], waited_s: float, deadlines: Mapping[str, int]
) -> str:
    """Return one line: what is waited for, how far it is, the last log line of the first that is pending."""
    pending = [service for service in services if not service["healthy"]]
    names = ", ".join(service["name"] for service in pending)
    first = pending[0]
    done = f"{len(services) - len(pending)} of {len(services)} healthy"
    line = (
        f"{host}: waiting for {names} ({done}, {waited_s:.0f} s of {deadlines[first['name']]} s); "
        f"{first['name']}: {first['health_detail']}"
    )
    # A note of our own launcher would stand there until the engine says something.
    if first["log_tail"] and not _NOTED.search(first["log_tail"][-1]):
        line += f" | {first['log_tail'][-1]}"
    return line if len(line) <= 2 * _LINE_WIDTH else line[: 2 * _LINE_WIDTH - 1] + "…"


def failure_message(
    host: str, services: Sequence[Mapping[str, Any]], waited_s: float, deadlines: Mapping[str, int]
) -> str:
    """Return what the operator has to know of a wait that failed: which services, why, what to do."""
    pending = [service for service in services if not service["healthy"]]
    failed = [x for x in pending if x["exits"] >= CRASH_LOOP or waited_s >= deadlines[x["name"]]] or pending
    parts = [_failure(host, service, waited_s, deadlines[service["name"]]) for service in failed]
    others = ", ".join(service["name"] for service in pending if service not in failed)
    if others:
        parts.append(f"Not healthy yet either, but still in time: {others}.")
    return "\n".join(parts)


def _failure(host: str, service: Mapping[str, Any], waited_s: float, deadline_s: int) -> str:
    if service["exits"] >= CRASH_LOOP:
        head = f"ended {service['exits']} times in {waited_s:.0f} s"
    else:
        head = f"is not healthy after {waited_s:.0f} s (deadline {deadline_s} s)"
    seen = service["health_detail"]
    if service["pid"]:
        seen += f" (pid {service['pid']}, up {service['uptime_s']:.0f} s)"
    lines = [f"{service['name']} on {host} {head}.", f"  expected: {service['expected']}", f"  seen: {seen}"]
    # That nothing listens on its own port yet is what is to be explained.
    own_port = re.match(r"port \d+: connection refused", seen)
    for cause in explain([*service["log_tail"], *([] if own_port else [service["health_detail"]])])[:3]:
        lines += [f"  likely cause: {cause.cause}", f"    remedy: {cause.remedy}"]
    lines.append(f"  last lines of {service['log_file']}:")
    lines += [f"    | {line}" for line in service["log_tail"][-SHOWN_LINES:]]
    return "\n".join(lines)
