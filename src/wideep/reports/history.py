"""Who changed a deployment, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table

from wideep.changes.lock import TIME, describe, gone
from wideep.reports.text import duration, print_table


def history_text(
    deployment: str,
    runs: Sequence[Mapping[str, Any]],
    holders: Sequence[Mapping[str, Any]],
    away: Sequence[str],
) -> str:
    """Return a line for each run, the oldest first, then who has the lock, and which hosts did not answer."""
    table = Table(box=None, pad_edge=False)
    for column in ("SINCE (UTC)", "VERB", "LIMIT", "WHO", "FROM", "TOOK", "OUTCOME", "CHANGED"):
        table.add_column(column, no_wrap=True)
    for run in runs:
        table.add_row(
            str(run["since"]).replace("T", " ").rstrip("Z"),
            str(run.get("verb", "")),
            str(run.get("limit") or "-"),
            str(run.get("who", "")),
            str((run.get("controller") or {}).get("name", "")),
            _took(run),
            str(run["outcome"]),
            ", ".join(run.get("changed") or ()) or "-",
        )
    text = print_table(table) if runs else f"{deployment}: no change was noted here yet\n"
    for holder in {str(one.get("run")): one for one in holders}.values():
        if gone(holder):
            text += f"lock: left by {describe(holder)}, whose process is gone; the next run takes it over\n"
        else:
            text += f"lock: {describe(holder)}\n"
    return text + "".join(f"{host}: no answer\n" for host in away)


def _took(run: Mapping[str, Any]) -> str:
    try:
        begun, ended = (datetime.strptime(str(run[key]), TIME) for key in ("since", "ended"))
    except (KeyError, ValueError):
        return "-"
    return duration((ended - begun).total_seconds())
