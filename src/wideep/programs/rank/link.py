"""Connections between ranks."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

LONGEST_MESSAGE = 65536

Message = dict[str, Any]


class LostError(Exception):
    """A connection cannot be used any more; the text says why."""


class Link:
    """A connection with one JSON message a line in each direction."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        connection.setblocking(False)
        self.socket, self.peer = connection, peer
        self.rank = -1
        self.idle = True
        self.leaving = False
        self.generation = 0
        self.opened = self.heard = self.sent = time.monotonic()
        self._inbox = b""

    def send(self, kind: str, **content: Any) -> None:
        """Send a message. They are small: one that does not fit meets a peer that has long been silent."""
        data = json.dumps({"type": kind, **content}).encode() + b"\n"
        self.sent = time.monotonic()
        try:
            done = self.socket.send(data)
        except OSError as problem:
            raise LostError(problem.strerror or str(problem)) from problem
        if done != len(data):
            raise LostError("it takes no messages")

    def receive(self) -> list[Message]:
        """Return the messages that have come."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError as problem:
            raise LostError(problem.strerror or str(problem)) from problem
        if not data:
            raise LostError("its connection was closed")
        self.heard = time.monotonic()
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        if len(self._inbox) > LONGEST_MESSAGE:
            raise LostError("it does not speak our protocol")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError as problem:
            raise LostError("it does not speak our protocol") from problem
        if not all(isinstance(x, dict) and isinstance(x.get("type"), str) for x in messages):
            raise LostError("it does not speak our protocol")
        return messages

    def keep_alive(self, heartbeat_s: float, silence_s: float) -> None:
        """Say that we are there, and see that the other is."""
        now = time.monotonic()
        if now - self.heard > silence_s:
            raise LostError(f"nothing was heard of it for {silence_s:g} s")
        if now - self.sent > heartbeat_s:
            self.send("alive")
