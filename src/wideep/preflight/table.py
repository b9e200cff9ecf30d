"""The report as one table: what is not well, equal findings of several hosts together, and the counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wideep.preflight.model import Check, Report

HEAD = ("", "topic", "hosts", "seen", "expected")
ORDER = {"fail": 0, "warn": 1, "ok": 2}


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def fold(names: Iterable[str]) -> str:
    """Return host names in short: `decode-[0-3],prefill-0`. Numbers keep their zeros."""
    groups: list[tuple[str, str, list[str]]] = []  # text before, text after the last number, the numbers
    for name in sorted(set(names), key=_natural):
        match = re.fullmatch(r"(.*?)(\d+)(\D*)", name)
        before, number, after = match.groups() if match else (name, "", "")
        if groups and number:
            last_before, last_after, numbers = groups[-1]
            follows = (
                bool(numbers) and int(number) == int(numbers[-1]) + 1 and len(number) >= len(numbers[-1])
            )
            if (before, after) == (last_before, last_after) and follows:
                numbers.append(number)
                continue
        groups.append((before, after, [number] if number else []))
    return ",".join(
        f"{before}[{numbers[0]}-{numbers[-1]}]{after}"
        if len(numbers) > 1
        else f"{before}{''.join(numbers)}{after}"
        for before, after, numbers in groups
    )


def render(report: Report, *, verbose: bool = False) -> str:
    """Return the table as text without colours; `verbose` shows what is ok, too."""
    counts = report.counts
    summary = (
        f"preflight of {len(report.hosts)} {'host' if len(report.hosts) == 1 else 'hosts'}: "
        f"{counts['fail']} fail, {counts['warn']} warn, {counts['ok']} ok"
    )
    groups: dict[tuple[str, str, str, str, str], list[Check]] = {}
    for check in report.checks:
        if check.status != "ok" or verbose:
            key = (check.status, check.topic, check.seen, check.expected, check.remedy)
            groups.setdefault(key, []).append(check)
    if not groups:
        return summary
    ordered = sorted(groups.items(), key=lambda item: ORDER[item[0][0]])  # stable: topics stay in their order
    rows = [
        ((status, topic, fold(check.host for check in checks), seen, expected), remedy)
        for (status, topic, seen, expected, remedy), checks in ordered
    ]
    # The last two columns are sentences: they follow each other and are not padded.
    widths = [max(len(HEAD[i]), *(len(cells[i]) for cells, _ in rows)) for i in range(3)]
    widths[2] = min(widths[2], 32)
    lines = [summary, ""]
    indent = " " * (sum(widths[:2]) + 4)
    for cells, remedy in rows:
        start = "  ".join(cell.ljust(width) for cell, width in zip(cells[:3], widths, strict=True))
        wanted = f" (expected: {cells[4]})" if cells[4] else ""
        lines.append(f"{start}  {cells[3]}{wanted}")
        if remedy:
            lines.append(f"{indent}fix: {remedy}")
    return "\n".join(lines)
