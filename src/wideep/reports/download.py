"""What a person reads about a download of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wideep.inventory.model_source import GB
from wideep.reports.text import clock


def progress_line(host: str, progress: Mapping[str, Any], waited: float) -> str:
    """Return a line about a download. progress: what the module returned, bytes and bytes per second."""
    state = progress.get("state", "starting")
    done, total = progress.get("done") or 0, progress.get("total") or 0
    rate, files = progress.get("rate") or 0.0, progress.get("files") or 0
    parts = []
    if total:
        parts.append(f"{done / GB:.1f} of {total / GB:.1f} GB ({int(100 * done // total)} %)")
        if state != "verifying" and rate:
            left = max(total - done, 0) / rate
            parts.append(f"{rate / 10**6:.0f} MB/s, {clock(left)} left")
    if files:
        parts.append(f"{progress.get('files_done') or 0} of {files} files")
    what = {
        "waiting": f"waits for {progress.get('holder')}",
        "listing": "asks the source for its files",
        "verifying": "checks what is there",
        "downloading": "downloads",
    }.get(state, state)
    if state == "downloading" and total > done and not rate:
        parts.append("nothing comes just now")
    return f"{host}: model: {what}" + "".join(f", {part}" for part in parts) + f" (since {clock(waited)})"
