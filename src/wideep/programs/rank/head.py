"""Rank 0, to which the others connect."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Rank
from .link import Link, LostError

if TYPE_CHECKING:
    from .link import Message


class Head(Rank):
    """Rank 0: knows who is there, and says when to start and to stop."""

    def begin(self) -> None:
        """Listen."""
        self.links: dict[int, Link] = {}
        self.strangers: set[Link] = set()
        self.refused: dict[str, float] = {}
        # Rank -> the launch agent that waits for the end of its command; None when it has its answer.
        self.agents: dict[int, Link | None] = {}
        self.doubt: tuple[float, str] | None = None
        self.phase = "gather"
        self.failures = 0
        self.why = ""
        now = time.monotonic()
        self.changed = self.not_before = self.started = self.reminded = now
        address, port = self.config["address"], self.config["port"]
        try:
            family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
            self.server = socket.create_server((address, port), family=family, backlog=256)
        except OSError as problem:
            self.log.say(f"cannot listen on {address}:{port} for the other ranks: {problem.strerror}")
            sys.exit(1)
        self.server.setblocking(False)
        self.selector.register(self.server, selectors.EVENT_READ, self._accept)
        if self.config["relay"]:
            self._await_agents(Path(self.config["relay"]["socket"]))

    def _await_agents(self, place: Path) -> None:
        """Listen for launch agents, of our own user only."""
        self.relay = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        try:
            # By its descriptor: the directory's path may be longer than a socket's address can be.
            folder = os.open(place.parent, os.O_RDONLY)
            place.unlink(missing_ok=True)
            self.relay.bind(f"/proc/self/fd/{folder}/{place.name}")
            os.close(folder)
            self.relay.listen()
        except OSError as problem:
            self.log.say(f"cannot listen on {place} for mpirun: {problem.strerror or problem}")
            sys.exit(1)
        finally:
            os.umask(mask)
        self.relay.setblocking(False)
        self.selector.register(self.relay, selectors.EVENT_READ, self._accept_agent)

    def _accept_agent(self) -> None:
        with contextlib.suppress(OSError):
            agent = Link(self.relay.accept()[0], "")
            self.selector.register(agent.socket, selectors.EVENT_READ, lambda: self._hear_agent(agent))

    def _hear_agent(self, agent: Link) -> None:
        try:
            for message in agent.receive():
                self._launch(agent, message)
        except LostError:
            self._dismiss(agent)
            if self.agents.get(agent.rank) is agent:
                self.agents[agent.rank] = None
                self._suspect(f"mpirun let go of {self.who(agent.rank)}")

    def _dismiss(self, agent: Link) -> None:
        if agent.socket.fileno() >= 0:
            self.selector.unregister(agent.socket)
            agent.socket.close()

    def _launch(self, agent: Link, message: Message) -> None:
        """Have a rank run what mpirun wants to be run on its host: once in a generation."""
        hosts, host, command = self.config["relay"]["hosts"], message.get("host"), message.get("command")
        rank = hosts.index(host) if host in hosts else -1
        reason = self._refusal(rank, command)
        if reason:
            self.log.say(f"refused to start a command of mpirun on {host}: {reason}")
            self._dismiss(agent)
            return
        agent.rank, self.agents[rank] = rank, agent
        link = self.links[rank]
        link.idle = False
        try:
            link.send("start", generation=self.generation, command=command)
        except LostError as problem:
            self._lose(link, str(problem))

    def _refusal(self, rank: int, command: Any) -> str:
        if rank == 0:
            return "no interface of this host, the head, has that address; correct wideep_address"
        if rank not in self.links:
            return "no rank is there"
        if self.phase != "run" or rank in self.agents:
            return f"{self.who(rank)} runs one in each generation"
        return "" if command and isinstance(command, str) else "it is empty"

    def _answer(self, rank: int, code: Any) -> None:
        agent, self.agents[rank] = self.agents[rank], None
        if agent:
            with contextlib.suppress(LostError):
                agent.send("ended", code=code)
            self._dismiss(agent)

    def _suspect(self, why: str, lines: list[str] | None = None) -> None:
        """A process of mpirun's on another host ended. mpirun says what that means, by its own end."""
        if self.phase == "run":
            self._say(why, lines)
            self.doubt = self.doubt or (time.monotonic() + self.config["break_timeout_s"], why)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, peer = self.server.accept()
            link = Link(connection, peer[0])
            self.strangers.add(link)
            self.selector.register(connection, selectors.EVENT_READ, lambda: self._hear(link))

    def _forget(self, link: Link) -> None:
        self.selector.unregister(link.socket)
        link.socket.close()
        self.strangers.discard(link)
        if self.links.get(link.rank) is link:
            del self.links[link.rank]
            self.changed = time.monotonic()

    def _hear(self, link: Link) -> None:
        try:
            for message in link.receive():
                self._obey(link, message)
        except LostError as problem:
            self._lose(link, str(problem))

    def _lose(self, link: Link, reason: str) -> None:
        if link.socket.fileno() < 0:
            return  # forgotten already
        self._forget(link)
        if link.rank in self.agents:
            self._answer(link.rank, 255)
        if link.rank >= 0 and not link.leaving:
            self._fail(f"{self.who(link.rank)} is gone: {reason}")

    def _obey(self, link: Link, message: Message) -> None:
        kind = message["type"]
        if link.rank < 0:
            self._welcome(link, message)
        elif kind == "ended":
            lines = [str(line) for line in message.get("lines", [])]
            why = f"{self.who(link.rank)} {message.get('how')}"
            if link.rank in self.agents:
                self._answer(link.rank, message.get("code"))
                if self.phase == "stop" and message.get("code"):
                    self._say(why, lines)  # mpirun was quicker
                else:
                    self._suspect(why, lines)
            else:
                self._fail(why, lines)
        elif kind == "idle":
            link.idle, self.changed = True, time.monotonic()
        elif kind == "lost":
            self._suspect(f"{self.who(link.rank)}: {message.get('what')}")
        elif kind == "leaving":
            link.leaving = True
            self._end(f"{self.who(link.rank)} was told to stop")

    def _welcome(self, link: Link, hello: Message) -> None:
        reason = self._objection(hello)
        if reason:
            now, text = time.monotonic(), f"refused a rank at {link.peer}: {reason}"
            if now - self.refused.get(text, -1e9) > self.config["remind_s"]:
                self.refused[text] = now  # it comes back every second
                self.log.say(text)
            with contextlib.suppress(LostError):
                link.send("refused", reason=reason)
            self._forget(link)
            return
        rank = hello["rank"]
        if rank in self.links:
            self._lose(self.links[rank], "it was started again")
        link.rank = rank
        self.strangers.discard(link)
        self.links[rank] = link
        self.changed = time.monotonic()
        self.log.say(f"{self.who(rank)} is there ({len(self.links) + 1} of {len(self.config['ranks'])})")
        link.send("wait", detail=self._waiting())

    def _objection(self, hello: Message) -> str:
        config, rank, ranks = self.config, hello.get("rank"), self.config["ranks"]
        if hello["type"] != "hello":
            return "it does not speak our protocol"
        for key, mine in (("gang", config["name"]), ("size", len(ranks))):
            if hello.get(key) != mine:
                return f"its {key} is {hello.get(key)!r}, ours is {mine!r}"
        if not isinstance(rank, int) or not 0 < rank < len(ranks):
            return f"it says that it is rank {rank!r} of {len(ranks)}"
        if hello.get("host") != ranks[rank]:
            return f"it is on {hello.get('host')!r}, rank {rank} is planned on {ranks[rank]!r}"
        if hello.get("family") != config["family"]:
            return (
                f"{self.who(rank)} runs with another plan than the head: "
                "run playbooks/site.yml on all hosts of the replica"
            )
        return ""

    def _tell_all(self, kind: str, **content: Any) -> None:
        for link in list(self.links.values()):
            try:
                link.send(kind, **content)
            except LostError as problem:
                self._lose(link, str(problem))

    def _fail(self, why: str, lines: list[str] | None = None) -> None:
        """Write down what broke; the first of a generation stops all."""
        self._say(why, lines)
        if self.phase == "drain":
            self.child.stop(self.config["break_timeout_s"])
            self._stop_others(why)
        if self.phase != "run":
            return
        self.phase, self.why = "stop", why
        now = time.monotonic()
        self.failures = 1 if now - self.started > self.config["calm_s"] else self.failures + 1
        self.breaks += 1
        first, longest = self.config["backoff_s"]
        delay = min(longest, first * 2.0 ** min(self.failures - 1, 30))
        self.not_before = now + delay
        self.log.say(f"the ranks are one gang: all stop, and start again in {delay:g} s at the earliest")
        self.child.stop(self.config["break_timeout_s"])
        self._tell_all("stop", why=why, broke=True)

    def _say(self, why: str, lines: list[str] | None) -> None:
        self.log.say(f"{why}{':' if lines else ''}")
        for line in lines or []:
            self.log.say(f"    | {line}")

    def _end(self, why: str) -> None:
        """Stop in order: the head finishes its requests while the other ranks still work for it."""
        if self.phase != "run":
            return
        self.log.say(f"{why}: the replica finishes its requests, then all its ranks stop")
        self.phase, self.why = "drain", why
        self.child.stop(self.config["stop_timeout_s"], finish=True)

    def _stop_others(self, why: str) -> None:
        self.phase = "stop"
        self._tell_all("stop", why=why, broke=False)

    def _missing(self) -> list[str]:
        ranks = range(1, len(self.config["ranks"]))
        return [self.who(n) for n in ranks if n not in self.links or self.links[n].leaving]

    def _waiting(self) -> str:
        missing = self._missing()
        after = f" (stopped because {self.why})" if self.why else ""
        if missing:
            return f"waits for {', '.join(missing)}{after}"
        return f"is about to start all ranks{after}"

    def step(self) -> bool:
        """Look after the connections, then go from phase to phase."""
        now = time.monotonic()
        for link in list(self.links.values()):
            try:
                link.keep_alive(self.config["heartbeat_s"], self.config["silence_s"])
            except LostError as problem:
                self._lose(link, str(problem))
        for link in [x for x in self.strangers if now - x.opened > self.config["silence_s"]]:
            self._forget(link)
        if self.child.broke:
            after = f", after {self.doubt[1]}" if self.doubt else ""
            self._fail(f"{self.who(0)} {self.child.ending}{after}")
        elif self.child.dead and self.phase == "run":
            self.child.stop(0)
            self._fail(f"{self.who(0)}: {self.child.dead}")
        elif self.phase == "run" and self.doubt and now > self.doubt[0]:
            self._fail(self.doubt[1])
        elif self.child.lost and not self.doubt:
            self._suspect(f"{self.who(0)}: {self.child.lost}")
        if self.told_to_stop:
            self._end(f"{self.who(0)} was told to stop")
        if self.phase == "drain" and self.child.idle:
            self._stop_others(self.why)
        if self.phase == "stop" and self.child.idle and all(x.idle for x in self.links.values()):
            self.phase, self.changed, self.reminded = "gather", now, 0.0
        if self.phase == "gather" and not self.told_to_stop:
            self._gather(now)
        elif self.phase in {"stop", "drain"}:
            self.tell("stop", f"stops all ranks: {self.why}")
        return self.child.idle and self.phase in {"gather", "stop"}

    def _gather(self, now: float) -> None:
        missing = self._missing()
        waiting = self._waiting()
        if missing:
            if now - self.reminded > self.config["remind_s"] or not self.reminded:
                self.reminded = now
                self.log.say(waiting)
        elif now >= self.not_before and now - self.changed >= self.config["settle_s"]:
            self._start(now)
            return
        state = "back-off" if not missing and now < self.not_before else "gather"
        if (state, waiting) != self._state[:2]:
            self.tell(state, waiting)
            self._tell_all("wait", detail=waiting)

    def _start(self, now: float) -> None:
        self.generation += 1
        self.phase, self.started = "run", now
        self.log.say(f"all {len(self.config['ranks'])} ranks are there: generation {self.generation} starts")
        self.agents, self.doubt = {}, None
        self.child.start(self.generation, self.argv)
        if self.config["relay"]:
            self._tell_all("wait", detail=f"waits for mpirun of {self.who(0)}")
        else:
            for link in self.links.values():
                link.idle = False
            self._tell_all("start", generation=self.generation)
        if self.phase == "run":
            self.why = ""
            self.tell("run", f"generation {self.generation} runs")
