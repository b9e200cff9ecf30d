"""What the head and the other ranks have in common."""

from __future__ import annotations

import json
import selectors
import signal
import socket
import time
from pathlib import Path
from typing import Any

from .child import TICK_S, Child, Log
from .processes import PR_SET_CHILD_SUBREAPER, prctl


class Rank:
    """One rank of a gang. See `Head` and `Member`."""

    def __init__(self, config: dict[str, Any], argv: list[str]) -> None:
        self.config, self.argv = config, argv
        self.log = Log()
        self.selector = selectors.DefaultSelector()
        self.child = Child(config, self.log, self.selector)
        self.told_to_stop = False
        self.generation = 0
        self.breaks = 0
        self._state: tuple[Any, ...] = ()
        self._since = time.time()

    def who(self, rank: int) -> str:
        """Name a rank as a person looks for it."""
        return f"rank {rank} on {self.config['ranks'][rank]}"

    def tell(self, state: str, detail: str) -> None:
        """Write the state file, which `status` and waits look at."""
        new = (state, detail, self.generation, self.breaks)
        if new == self._state:
            return
        if not self._state or self._state[0] != state or self._state[2] != self.generation:
            self._since = time.time()
        self._state = new
        path = Path(self.config["status_file"])
        content = {
            "state": state,
            "since": self._since,
            "generation": self.generation,
            "breaks": self.breaks,
            "detail": detail,
        }
        try:
            path.with_suffix(".new").write_text(json.dumps(content) + "\n")
            path.with_suffix(".new").replace(path)
        except OSError as problem:
            self.log.say(f"cannot write {path}: {problem.strerror}")

    def run(self) -> None:
        """Go on until told to stop and nothing of the child is left."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self.selector.register(wake, selectors.EVENT_READ, lambda: wake.recv(4096))
        self.begin()
        while True:
            for key, _ in self.selector.select(TICK_S):
                key.data()
            self.child.look()
            if self.step() and self.told_to_stop:
                return

    def _on_signal(self, *_: Any) -> None:
        self.told_to_stop = True

    def begin(self) -> None:
        """Open what is needed."""
        raise NotImplementedError

    def step(self) -> bool:
        """Do what is due; return whether we might end now."""
        raise NotImplementedError
