# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""One loop for actions that wait: look, say how far it is, look again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible.utils.display import Display


class Clock:
    """Seconds since the wait began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def waited(self) -> float:
        """Return how long it has been."""
        return time.monotonic() - self._began

    def slice(self, longest: float, deadline_s: float) -> float:
        """Return how long the next look may take: no longer than what is left."""
        return max(0.0, min(longest, deadline_s - self.waited))


def wait(look: Callable[[Clock], dict[str, Any] | str], pause_s: float = 0.0) -> dict[str, Any]:
    """Look until a look brings the action's result, and return it.

    look: returns the result, or a line that says how far it is; an empty one is not shown. pause_s: before
    the next look, where a look does not take its time.
    """
    clock = Clock()
    while isinstance(seen := look(clock), str):
        if seen:
            Display().display(seen)
        time.sleep(pause_s)
    return seen
