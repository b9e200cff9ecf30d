"""Which prefill worker serves with which decode worker: the matrix that a verification shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from wideep.published import Published
from wideep.reports.text import print_table


def names(plan: Published) -> dict[str, str]:
    """Return address of a worker, as it registers -> its service."""
    return {
        f"{port.address}:{port.port}": launch.name
        for on in plan.hosts.values()
        for launch in on.services
        if launch.component == "worker"
        for port in launch.ports
        if port.purpose == "rpc"
    }


def matrix(plan: Published, pairs: Sequence[Mapping[str, Any]]) -> str:
    """Return the pairs as rows of prefill and columns of decode workers, with ms until the token.

    Args:
        pairs: of the module verify_serving.
    """
    if not any(pair["prefill"] for pair in pairs):
        return ""
    called = names(plan)
    times = {(pair["prefill"], pair["decode"]): f"{pair['seconds'] * 1000:.0f}" for pair in pairs}
    columns = sorted({decode for _, decode in times}, key=lambda one: called.get(one, one))
    table = Table(box=None, pad_edge=False)
    table.add_column("ms to a token", no_wrap=True)
    for decode in columns:
        table.add_column(called.get(decode, decode), justify="right", no_wrap=True)
    for prefill in sorted({prefill for prefill, _ in times}, key=lambda one: called.get(one, one)):
        # Of different generations, or more than were to be tried.
        table.add_row(called.get(prefill, prefill), *(times.get((prefill, one), "-") for one in columns))
    return print_table(table)
