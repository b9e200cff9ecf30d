"""Holds the ranks of one replica together. Rendered beside each rank's service, standard library only.

usage: rank.py --config UNIT_JSON [-- COMMAND...]

It runs the engine's command as its child. The head's rank.py listens, those of the other ranks keep a
connection to it. None starts before all are there; when one child ends, or one connection is lost or silent,
all children are stopped, what they left is cleaned, and all start again together, later each time.

Where the head's command starts the other ranks' processes by itself (mpirun), these have no command of their
own. In ssh's place it calls launch_agent.py, whose words the head relays: the rank of that host runs them.

Not a watchdog of the engine: a rank that hangs is seen by the engine's own watchdog or the head's health.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# What stands for an interface's name, and how the kernel lists interfaces.
ROUTE = "{route}"
SIOCGIFCONF, IFREQ = 0x8912, 40
TICK_S = 0.2
CONNECT_S = 3.0
SHELL = "/bin/sh"
CLEANUP_S = 10.0
LOOKS = 25
KEPT_LINES = 20
LINE_LENGTH = 400
LONGEST_MESSAGE = 65536
SHM = Path("/dev/shm")  # noqa: S108
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")

Message = dict[str, Any]


class LostError(Exception):
    """A connection cannot be used any more; the text says why."""


def prctl(option: int, value: int) -> None:
    """Set what the kernel does when a parent dies."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class Log:
    """What goes to the service's log: the child's output as it is, and our own lines between its lines."""

    def __init__(self) -> None:
        self._open_line = False

    def write(self, data: bytes) -> None:
        """Write all of it; a reader that has gone (supervisord was killed) stops nothing."""
        if data:
            self._open_line = not data.endswith(b"\n")
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(1, data) :]

    def say(self, text: str) -> None:
        """Write a line of our own."""
        self.write((b"\n" if self._open_line else b"") + f"wideep: {text}\n".encode())

    def start_line(self, service: str, generation: int) -> None:
        """Write the line by which readers of the log find the newest start."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = f"--- wideep starts {service} (generation {generation}) at {stamp} ---\n"
        self.write((b"\n" if self._open_line else b"") + text.encode())


class SharedMemory:
    """Segments of /dev/shm that the child made and left.

    Rule: a file that was not there when the child started, that a process of the child was seen to hold (open
    or mapped), that belongs to our user, and that no process holds now. What a child made in the last moment
    before its death may stay; what others made is never removed.
    """

    def __init__(self) -> None:
        self._before: set[tuple[str, int]] = set()
        self._ours: set[tuple[str, int]] = set()
        self._looks: dict[tuple[str, int], int] = {}

    @staticmethod
    def _present() -> set[tuple[str, int]]:
        with contextlib.suppress(OSError), os.scandir(SHM) as entries:
            return {(x.name, x.inode()) for x in entries if x.is_file(follow_symlinks=False)}
        return set()

    def begin(self) -> None:
        """Remember what is there before the child."""
        self._before, self._ours, self._looks = self._present(), set(), {}

    def watch(self, processes: Callable[[], set[int]]) -> None:
        """Note the new segments that the processes hold; cheap while there is nothing new."""
        new = self._present() - self._before - self._ours
        if new:
            held = {name for pid in processes() for name in held_by(pid)}
            self._ours |= {x for x in new if x[0] in held}
            for x in new - self._ours:  # of somebody else: not to be looked for for ever
                self._looks[x] = self._looks.get(x, 0) + 1
                if self._looks[x] >= LOOKS:
                    self._before.add(x)

    def clean(self) -> list[str]:
        """Remove what is left of the child's, and return the names."""
        left = self._ours & self._present()
        if not left:
            return []
        held = {name for pid in all_pids() for name in held_by(pid)}
        gone = []
        for name, inode in sorted(left):
            with contextlib.suppress(OSError):
                status = (SHM / name).stat()
                if name not in held and status.st_ino == inode and status.st_uid == os.geteuid():
                    (SHM / name).unlink()
                    gone.append(name)
        return gone


def all_pids() -> set[int]:
    """Return every process."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208


def held_by(pid: int) -> set[str]:
    """Return the names below /dev/shm that a process has open or mapped; nothing where we may not look."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - much faster than Path here
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))  # noqa: PTH115
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            found.add(line.partition("/")[1] + line.partition("/")[2])
    prefix = f"{SHM}/"
    return {path[len(prefix) :] for path in found if path.startswith(prefix)}


def descendants() -> set[int]:
    """Return all living processes below this one. As their subreaper it also has those without a parent."""
    family: dict[int, list[int]] = {}
    for pid in all_pids():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] not in "ZX":
                family.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    queue = list(family.get(os.getpid(), ()))
    while queue:
        pid = queue.pop()
        found.add(pid)
        queue += family.get(pid, ())
    return found


def kill(processes: set[int]) -> None:
    """Send SIGKILL to those that are still there."""
    for pid in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def interface_to(address: str) -> str:
    """Return the interface from which packets to an address leave. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        source = probe.getsockname()[0]
        room = array.array("B", bytes(IFREQ * 1024))
        request = struct.pack("iP", len(room), room.buffer_info()[0])
        used = struct.unpack("iP", fcntl.ioctl(probe.fileno(), SIOCGIFCONF, request))[0]
    for start in range(0, used, IFREQ):
        name = room[start : start + IFREQ].tobytes().partition(b"\0")[0]
        if socket.inet_ntoa(room[start + 20 : start + 24].tobytes()) == source:
            return name.decode().partition(":")[0]
    raise OSError(errno.ENODEV, f"no interface has the address {source}")


class Child:
    """The engine's process: idle -> run -> stop (SIGTERM, SIGKILL) -> clean -> idle."""

    def __init__(self, config: Message, log: Log, selector: Any) -> None:
        self.config, self.log, self.selector = config, log, selector
        self.phase = "idle"
        self.code: int | None = None
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._process: Any = None
        self._cleaner: Any = None
        self._pipe = -1
        self._partial = b""
        self._until = 0.0
        self._told = self._next_look = 0.0
        self._memory = SharedMemory()

    @property
    def idle(self) -> bool:
        """Whether nothing of it is left."""
        return self.phase == "idle"

    @property
    def broke(self) -> bool:
        """Whether it ended without being told to."""
        return self.phase == "run" and self.code is not None

    @property
    def ending(self) -> str:
        """Say how it ended."""
        code = self.code or 0
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with {code}"

    def start(self, generation: int, argv: list[str]) -> None:
        """Start the command; one that cannot be started counts as ended with 127."""
        self.log.start_line(self.config["service"], generation)
        self.phase, self.code, self._partial = "run", None, b""
        self.lines.clear()
        self._memory.begin()
        self._pipe, write_end = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            self._process = self._spawn(argv, write_end, self._environment())
        except (OSError, subprocess.SubprocessError) as problem:
            self._process, self.code = None, 127
            self.log.say(f"cannot start {self.config['service']}: {problem}")
            self.lines.append(f"cannot start {self.config['service']}: {problem}")
        finally:
            os.close(write_end)
        self.selector.register(self._pipe, selectors.EVENT_READ, self._read)

    def _environment(self) -> dict[str, str]:
        """Return our environment with the interface to the other ranks where the plan leaves it to us."""
        env, route = dict(os.environ), self.config.get("route")
        if route:
            interface = interface_to(route["to"])
            self.log.say(f"{interface} is the interface of the route to {route['to']}")
            env.update({name: env[name].replace(ROUTE, interface) for name in route["names"] if name in env})
        return env

    @staticmethod
    def _spawn(argv: list[str], output: int, env: dict[str, str] | None = None) -> Any:
        parent = os.getpid()

        def before() -> None:  # in the child: it never outlives us
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(127)

        return subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=before,  # noqa: PLW1509 - there are no threads here
        )

    def stop(self, limit_s: float) -> None:
        """Tell it to end, and end it by force after the limit. It ends its own processes in order."""
        until = time.monotonic() + limit_s
        if self.phase == "stop":
            self._until = min(self._until, until)
        if self.phase != "run":
            return
        self.phase, self._until = "stop", until
        if self.code is None:
            # Not Popen.send_signal: it would reap a child that has just ended, and we never learn of it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)

    def look(self) -> None:
        """Notice what has ended, and go on with stopping and cleaning."""
        self._reap()
        now = time.monotonic()
        if self.phase == "run" and now >= self._next_look:
            self._next_look = now + TICK_S
            self._memory.watch(descendants)
        elif self.phase == "stop" and (self.code is not None or now > self._until):
            self._kill()
        elif self.phase == "clean" and (self._cleaner is None or now > self._until):
            kill(descendants())
            self._cleaner, self.phase = None, "idle"

    def _kill(self) -> None:
        self._memory.watch(descendants)
        left = descendants()
        kill(left)
        self._reap()
        if left or self.code is None:
            now = time.monotonic()
            if now > self._until + 30 and now > self._told + 30:
                self._told = now
                pids = ", ".join(map(str, sorted(left)))
                self.log.say(f"processes do not end, they are stuck in the kernel: pid {pids}")
            return
        self._read()
        self._close()
        gone = self._memory.clean()
        if gone:
            self.log.say(f"removed shared memory that was left: {', '.join(gone)}")
        self.phase, self._until = "clean", time.monotonic() + CLEANUP_S
        if self.config["cleanup"]:
            try:
                self._cleaner = self._spawn(self.config["cleanup"], 1)
            except (OSError, subprocess.SubprocessError) as problem:
                self.log.say(f"clean-up failed: {problem}")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for process in (self._process, self._cleaner):
                if process is not None and process.pid == pid:
                    process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else status >> 8
            if self._process is not None and self._process.pid == pid:
                self.code = self._process.returncode
            if self._cleaner is not None and self._cleaner.pid == pid:
                self._cleaner = None

    def _read(self) -> None:
        """Copy what it wrote, and keep the last lines."""
        while self._pipe >= 0:
            try:
                data = os.read(self._pipe, 65536)
            except BlockingIOError:
                return
            if not data:
                self._close()
                return
            self.log.write(data)
            *whole, self._partial = (self._partial + data).split(b"\n")
            self._partial = self._partial[-LONGEST_MESSAGE:]
            for line in whole:
                self._keep(line)

    def _keep(self, line: bytes) -> None:
        # A progress bar redraws its line after each carriage return: its last state counts.
        text = ANSI.sub("", line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]).rstrip()
        if text:
            self.lines.append(text[:LINE_LENGTH])

    def _close(self) -> None:
        if self._pipe >= 0:
            self.selector.unregister(self._pipe)
            os.close(self._pipe)
            self._pipe = -1
            self._keep(self._partial)
            self._partial = b""

    def last_words(self) -> list[str]:
        """Return its last lines, with what is still in the pipe."""
        self._read()
        return [*self.lines, *([self._partial.decode(errors="replace")] if self._partial else [])]


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


class Rank:
    """What the head and the other ranks have in common."""

    def __init__(self, config: Message, argv: list[str]) -> None:
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
        path = Path(self.config["state_file"])
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
        if "relay" in self.config:
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
                self._suspect(why, lines)
            else:
                self._fail(why, lines)
        elif kind == "idle":
            link.idle, self.changed = True, time.monotonic()
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
        for key, mine in (("unit", config["unit"]), ("size", len(ranks))):
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
        self.log.say(
            f"the replica is one unit: all its ranks stop, and start again in {delay:g} s at the earliest"
        )
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
        self.child.stop(self.config["stop_timeout_s"])

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
        elif self.phase == "run" and self.doubt and now > self.doubt[0]:
            self._fail(self.doubt[1])
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
        if "relay" in self.config:
            self._tell_all("wait", detail=f"waits for mpirun of {self.who(0)}")
        else:
            for link in self.links.values():
                link.idle = False
            self._tell_all("start", generation=self.generation)
        if self.phase == "run":
            self.why = ""
            self.tell("run", f"generation {self.generation} runs")


class Member(Rank):
    """A rank other than 0: does what the head says, and stops when the head is gone."""

    def begin(self) -> None:
        """Begin without a connection."""
        self.link: Link | None = None
        self.next_try = 0.0
        self.reported = 0.0
        self.said = ""
        self.busy = False
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
            unit=config["unit"],
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
        self.busy, self.said = True, ""
        self.child.start(generation, argv)
        self.tell("run", f"generation {generation} runs")

    def _stop(self, why: str, *, broke: bool) -> None:
        self.breaks += broke
        if self.child.phase == "run":
            self.log.say(f"stops with its replica: {why}")
        self.child.stop(self.config["break_timeout_s"])
        self.tell("stop", f"stops with its replica: {why}")

    def step(self) -> bool:
        """Report what the child did, and keep the connection."""
        now = time.monotonic()
        if self.child.broke:
            lines = self.child.last_words()
            self.log.say(f"{self.who(self.config['rank'])} {self.child.ending}")
            self.child.stop(0)
            self._send("ended", how=self.child.ending, code=self.child.code, lines=lines)
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


def main(words: list[str]) -> None:
    """Be the head or another rank, as the configuration says."""
    if len(words) < 2 or words[0] != "--config" or words[2:3] not in ([], ["--"]):
        sys.exit("usage: rank.py --config UNIT_JSON [-- COMMAND...]")
    config = json.loads(Path(words[1]).read_text())
    (Member if config["rank"] else Head)(config, words[3:]).run()


if __name__ == "__main__":
    main(sys.argv[1:])
