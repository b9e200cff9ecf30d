"""Plain text for terminals and logs."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table


def print_table(table: Table) -> str:
    """Return a table as plain text, as wide as it needs to be."""
    out = io.StringIO()
    Console(file=out, width=1000, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def duration(seconds: float) -> str:
    """Return `8s`, `3m10s`, `5h2m` or `4d3h`."""
    whole = int(seconds)
    for unit, below, small, step in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= below:
            return f"{whole // below}{unit}{whole % below // step}{small}"
    return f"{whole}s"


def size(count: int) -> str:
    """Return a number of bytes as MiB or GiB."""
    return f"{count / 1024**3:.1f}G" if count >= 1024**3 else f"{count / 1024**2:.0f}M"


def clock(seconds: float) -> str:
    """Return `m:ss`, or `h:mm:ss` from one hour on."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
