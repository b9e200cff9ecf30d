"""Waiting until something holds. A deadline is for failures only: no test asserts how long something took."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(what: str, condition: Callable[[], T], deadline_s: float = 60, every_s: float = 0.02) -> T:
    """Return the condition's first true value; fail at the deadline with what was waited for."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(every_s)
    return value
