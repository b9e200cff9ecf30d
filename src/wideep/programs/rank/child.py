"""The engine's process and its log."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from typing import Any

from . import ROUTE
from .processes import (
    PR_SET_PDEATHSIG,
    SharedMemory,
    descendants,
    interface_to,
    kill,
    prctl,
    running,
    titled,
)

TICK_S = 0.2
CLEANUP_S = 10.0
# How often the engine's processes are counted, and how long they may take to end after the worker has.
COUNT_S = 2.0
ORDER_S = 60.0
KEPT_LINES = 20
LINE_LENGTH = 400
LONGEST_LINE = 65536
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


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


class Child:
    """The engine's process: idle -> run -> stop (SIGTERM, SIGKILL) -> clean -> idle.

    Of a launcher, which may outlive them, the processes that run modules in `watched` are watched, too. One
    that is gone stands in `lost`. The first module is the worker, which alone can finish requests. A process
    with a title of `parts` that is gone stands in `dead`: without it the worker answers nothing.
    """

    def __init__(self, config: dict[str, Any], log: Log, selector: Any) -> None:
        self.config, self.log, self.selector = config, log, selector
        self.phase = "idle"
        self.code: int | None = None
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._process: Any = None
        self._cleaner: Any = None
        self._pipe = -1
        self._partial = b""
        self._until = 0.0
        self._told = self._next_look = self._next_count = 0.0
        self._memory = SharedMemory()
        self.lost = self.dead = ""
        self._engine: dict[int, str] = {}
        self._parts: dict[int, str] = {}
        self._worker = 0
        self._order_until = 0.0

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
        self.lost = self.dead = ""
        self._engine, self._parts, self._worker = {}, {}, 0
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
        env, route = dict(os.environ), self.config["route"]
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

    def stop(self, limit_s: float, *, finish: bool = False) -> None:
        """Tell it to end, and end it by force after the limit. It ends its own processes in order.

        finish: requests are to be finished. A launcher would signal all its processes at once: so the worker
        below it is told, by whose end the launcher ends the others.
        """
        until = time.monotonic() + limit_s
        if self.phase == "stop":
            self._until = min(self._until, until)
            if self._worker and not finish:
                self._tell()
        if self.phase != "run":
            return
        self.phase, self._until = "stop", until
        if finish and self.code is None and self._tell_worker():
            self._order_until = until - self.config["break_timeout_s"]
        elif self.code is None:
            self._tell()

    def _tell_worker(self) -> bool:
        """Send SIGTERM to the worker below a launcher; return whether there is one."""
        for pid, module in running(self.config.get("watched", [])[:1], descendants()).items():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                self._worker = pid
                self.log.say(f"told {module} (pid {pid}) to finish its requests; the other ranks work for it")
        return bool(self._worker)

    def _tell(self) -> None:
        """Send SIGTERM to the command itself."""
        self._worker = 0
        # Not Popen.send_signal: it would reap a child that has just ended, and we never learn of it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)

    def _await_order(self, now: float) -> None:
        """Give the launcher time to end all ranks after the worker; then tell it, as an old one may not."""
        if self._worker in descendants():
            if now <= self._order_until:
                return
        elif self._order_until > now + ORDER_S:
            self._order_until = now + ORDER_S
        if now > self._order_until:
            self.log.say(f"{self.config['service']} has not ended by itself: its launcher is told to stop")
            self._tell()

    def _count(self, now: float) -> None:
        """Notice processes of the engine that are gone while their launcher, or the worker, still runs."""
        watched, parts = self.config.get("watched"), self.config.get("parts")
        if not (watched or parts) or now < self._next_count:
            return
        self._next_count = now + COUNT_S
        below = descendants()
        here = running(watched or [], below)
        gone = [f"{module} (pid {pid})" for pid, module in self._engine.items() if pid not in here]
        if gone and not self.lost:
            self.lost = f"{' and '.join(gone)} ended, and the launcher goes on"
        self._engine = here
        gone = [f"{title} (pid {pid})" for pid, title in self._parts.items() if pid not in below]
        if gone and not self.dead:
            self.dead = f"{' and '.join(gone)} died, and the worker goes on without"
        self._parts |= titled(parts, below) if parts else {}

    def look(self) -> None:
        """Notice what has ended, and go on with stopping and cleaning."""
        self._reap()
        now = time.monotonic()
        if self.phase == "run" and now >= self._next_look:
            self._next_look = now + TICK_S
            self._memory.watch(descendants)
            self._count(now)
        elif self.phase == "stop" and (self.code is not None or now > self._until):
            self._kill()
        elif self.phase == "stop" and self._worker and now >= self._next_look:
            self._next_look = now + TICK_S
            self._await_order(now)
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
            self._partial = self._partial[-LONGEST_LINE:]
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
