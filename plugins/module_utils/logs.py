"""The end of a log file, readable."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ansible_collections.wideep.dynamo.plugins.module_utils.process import FIRST_START, START_LINE

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*(?:\x07|\x1b\\)|[@-Z\\^_])")
OURS = "wideep: "  # what the launcher says before it becomes the service
_BYTES = 256 * 1024  # read at most so much from the end


def tail(path: str, count: int) -> list[str]:
    """Return the last `count` lines without colours and blank lines.

    Lines from before the newest start are left out, unless that start has not written anything yet and is a
    restart after a crash. A file that is missing or unreadable gives one line that says so.
    """
    if count <= 0:
        return []
    try:
        with Path(path).open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return [f"(no log file {path} yet)"]
    except OSError as problem:
        return [f"(cannot read {path}: {problem.strerror})"]
    starts: list[list[str]] = [[]]
    for line in text.split("\n"):
        # A progress bar redraws its line after each carriage return: only its last state counts.
        clean = _ANSI.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()
        if clean.startswith(START_LINE):
            if FIRST_START in clean:
                starts = []
            starts.append([clean])
        elif clean:
            starts[-1].append(clean)
    wrote = [lines for lines in starts if any(not line.startswith((START_LINE, OURS)) for line in lines)]
    return (wrote or starts)[-1][-count:]
