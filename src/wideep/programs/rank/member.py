"""The other ranks."""

from __future__ import annotations

import selectors
import socket
import time
from typing import TYPE_CHECKING, Any

from .base import Rank
from .link import Link, LostError

if TYPE_CHECKING:
    from .link import Message

CONNECT_S = 3.0
SHELL = "/bin/sh"


class Member(Rank):
    """A rank other than 0: does what the head says, and stops when the head is gone."""

    def begin(self) -> None:
        """Begin without a connection."""
        self.link: Link | None = None
        self.next_try = 0.0
        self.reported = 0.0
        self.said = ""
        self.busy = False
        self.told_lost = False
        self.ending_until = 0.0
        self.tell("gather", f"connects to the head ({self.who(0)})")

    def _connect(self) -> None:
        config = self.config
        self.next_try = time.monotonic() + config["retry_s"]
        where = f"{self.who(0)} ({config['address']}:{config['port']})"
        try:
            connection = socket.create_connection((config["address"], config["port"]), timeout=CONNECT_S)
        except OSError as problem:
            reason = problem.strerror or str(problem)
            self._wait(f"waits for the head, {where}: {reason}")
            return
        self.link = Link(connection, config["address"])
        self.selector.register(connection, selectors.EVENT_READ, self._hear)
        self._send(
            "hello",
            gang=config["name"],
            family=config["family"],
            size=len(config["ranks"]),
            rank=config["rank"],
            host=config["ranks"][config["rank"]],
        )

    def _wait(self, text: str) -> None:
        """Say what is waited for: when it changes, and from time to time."""
        now = time.monotonic()
        if text != self.said or now - self.reported > self.config["remind_s"]:
            self.said, self.reported = text, now
            self.log.say(text)
        self.tell("gather", text)

    def _send(self, kind: str, **content: Any) -> None:
        if self.link:
            try:
                self.link.send(kind, **content)
            except LostError as problem:
                self._lose(str(problem))

    def _lose(self, reason: str) -> None:
        if self.link is None:
            return
        self.selector.unregister(self.link.socket)
        self.link.socket.close()
        self.link = None
        self.next_try = time.monotonic() + self.config["retry_s"]
        if self.child.phase == "run":
            self._stop(f"the head, {self.who(0)}, is gone: {reason}", broke=True)

    def _hear(self) -> None:
        try:
            messages = self.link.receive() if self.link else []
        except LostError as problem:
            self._lose(str(problem))
            return
        for message in messages:
            self._obey(message)

    def _obey(self, message: Message) -> None:
        kind = message["type"]
        if kind == "refused":
            self._wait(f"{self.who(0)} refuses this rank: {message.get('reason')}")
            self._lose("refused")
        elif kind == "wait" and self.child.idle:
            self._wait(str(message.get("detail")))
        elif kind == "start" and self.child.idle and not self.told_to_stop:
            self._start(message["generation"], message.get("command"))
        elif kind == "stop":
            self._stop(str(message.get("why")), broke=bool(message.get("broke")))

    def _start(self, generation: int, command: Any) -> None:
        """Start our own command, or where there is none the head's, as ssh would: once in a generation."""
        argv = self.argv or [SHELL, "-c", str(command)]
        if self.link is None or self.link.generation == generation or not (self.argv or command):
            return
        self.link.generation = self.generation = generation
        self.busy, self.said, self.told_lost = True, "", False
        self.child.start(generation, argv)
        self.tell("run", f"generation {generation} runs")

    def _stop(self, why: str, *, broke: bool) -> None:
        self.breaks += broke
        self.child.look()
        self._report()  # it may have ended first, and be why all stop
        if self.child.phase == "run":
            self.log.say(f"stops with its replica: {why}")
        self.child.stop(self.config["break_timeout_s"])
        self.tell("stop", f"stops with its replica: {why}")

    def _report(self) -> None:
        """Say that the child has ended by itself."""
        if self.child.broke:
            lines = self.child.last_words()
            self.log.say(f"{self.who(self.config['rank'])} {self.child.ending}")
            self.child.stop(0)
            self._send("ended", how=self.child.ending, code=self.child.code, lines=lines)
        elif self.child.dead and self.child.phase == "run":
            self.log.say(f"{self.who(self.config['rank'])}: {self.child.dead}")
            self.child.stop(0)
            self._send("ended", how=f"stops: {self.child.dead}", code=1, lines=[])

    def step(self) -> bool:
        """Report what the child did, and keep the connection."""
        now = time.monotonic()
        self._report()
        if self.child.lost and self.child.phase == "run" and not self.told_lost:
            self.told_lost = True
            self._send("lost", what=self.child.lost)
        if self.told_to_stop and self.child.phase == "run":
            if not self.ending_until:
                self.ending_until = now + self.config["stop_timeout_s"]
                self.log.say("told to stop: asks the head to finish its requests first")
                self._send("leaving")
            elif now > self.ending_until:
                self.child.stop(self.config["break_timeout_s"])
        if self.busy and self.child.idle:
            self.busy = False
            self._send("idle")
        if self.link:
            try:
                self.link.keep_alive(self.config["heartbeat_s"], self.config["silence_s"])
            except LostError as problem:
                self._lose(str(problem))
        elif self.child.idle and now >= self.next_try and not self.told_to_stop:
            self._connect()
        return self.child.idle
