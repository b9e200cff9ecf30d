"""Services under supervisord: its configuration, and its XML-RPC interface on a Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import xmlrpc.client
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.wideep.dynamo.plugins.module_utils import process
from ansible_collections.wideep.dynamo.plugins.module_utils.launch import SOCKET, Launch, launch_json, starts
from ansible_collections.wideep.dynamo.plugins.module_utils.status import ServiceError, Status, in_start_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files

_STATES = {"RUNNING": "running", "STARTING": "starting", "STOPPING": "stopping", "STOPPED": "stopped"}
_BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING = 10, 60, 70

_MAIN = """\
; Made by wideep: changes here are overwritten.
; Look at it with: supervisorctl -c {here}/supervisord.conf status

[supervisord]
logfile = {here}/supervisord.log
logfile_maxbytes = 10MB
logfile_backups = 2
pidfile = {here}/supervisord.pid
directory = {state_dir}
umask = 077
{user}
[unix_http_server]
file = {here}/supervisord.sock
chmod = 0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{here}/supervisord.sock

[include]
files = {here}/conf.d/*.conf
"""

# startretries: supervisord waits one second longer before each further try; it never comes to give up.
# startsecs: a crash in the first ten seconds counts as a failed try, so that a crash loop is slowed down.
# Only the service itself gets the signal (it ends its children in order), all get SIGKILL in the end.
_PROGRAM = """\
; Made by wideep: changes here are overwritten.

[program:{name}]
command = {python} -I {here}/start.py {launch_json}
autostart = false
autorestart = true
startsecs = 10
startretries = 1000000
stopsignal = {stop_signal}
stopwaitsecs = {stop_timeout_s}
stopasgroup = false
killasgroup = true
priority = {priority}
redirect_stderr = true
stdout_logfile = {log_file}
stdout_logfile_maxbytes = {log_max_mb}MB
stdout_logfile_backups = {log_backups}
"""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self._path)


class Supervisord:
    """The supervisord of one state directory."""

    kind = "supervisord"

    def __init__(self, state_dir: str, binary: str = "", log_max_mb: int = 50, log_backups: int = 5) -> None:
        self.state_dir = state_dir
        self.binary = binary
        self.log_max_mb = log_max_mb
        self.log_backups = log_backups
        self.here = Path(state_dir) / "supervisor"
        transport = _Transport(str(Path(state_dir) / SOCKET))
        self._rpc: Any = xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor

    # What lies on disk

    def program(self, name: str) -> Path:
        return self.here / "conf.d" / f"{name}.conf"

    def configure(self, files: Files, launches: Mapping[str, Launch]) -> None:
        """Write the main configuration, the launcher and one program section for each launch."""
        files.directory(self.here, 0o700)
        files.directory(self.here / "conf.d", 0o700)
        files.file(self.here / "start.py", launcher_source())
        files.file(self.here / "supervisord.conf", self.render_main(), 0o600, shown=("", self.render_main()))
        for name, launch in launches.items():
            text = self.render_program(launch)
            path = self.program(name)
            before = path.read_text() if path.is_file() else ""
            files.file(path, text, 0o600, shown=(before, text))

    def render_main(self) -> str:
        user = "user = root\n" if os.geteuid() == 0 else ""  # root without a word makes it warn
        return _MAIN.format(here=_escape(self.here), state_dir=_escape(self.state_dir), user=user)

    def render_program(self, launch: Launch) -> str:
        return _PROGRAM.format(
            name=launch["name"],
            python=_escape(Path(self.binary).with_name("python")),
            here=_escape(self.here),
            launch_json=_escape(launch_json(self.state_dir, launch["name"])),
            stop_timeout_s=launch["stop_timeout_s"],
            stop_signal=(launch.get("stop_signal") or "SIGTERM").removeprefix("SIG"),
            priority=100 + len(launch["depends_on"]),
            log_file=_escape(launch["log_file"]),
            log_max_mb=self.log_max_mb,
            log_backups=self.log_backups,
        )

    def unconfigure(self, files: Files, names: Iterable[str]) -> None:
        """Remove the programs; with the last one supervisord ends and its directory goes."""
        names = set(names)
        if not files.check:
            for name in names:
                self._ask(self._rpc.removeProcessGroup, name, ignore=(_BAD_NAME,))
        for name in sorted(names):
            files.remove(self.program(name))
        if not {path.stem for path in self.here.glob("conf.d/*.conf")} - names:
            if not files.check:
                self._shut_down()
            files.remove(self.here)

    # What runs

    def pid(self) -> int:
        """Return the pid of the supervisord that answers; 0 when none does."""
        return int(self._ask(self._rpc.getPID) or 0)

    def status(self, names: Iterable[str]) -> dict[str, Status]:
        known = {info["name"]: info for info in self._ask(self._rpc.getAllProcessInfo) or []}
        return {name: self._status(name, known.get(name)) for name in names}

    def _status(self, name: str, info: dict[str, Any] | None) -> Status:
        if info is None:
            there = self.program(name).is_file()
            return Status("stopped" if there else "absent", 0, None, "" if there else "not configured")
        restarts = max(0, starts(self.state_dir, name) - 1)
        state = _STATES.get(info["statename"], "failed")
        detail = self._last_exit(name) if state == "failed" else ""
        return Status(state, info["pid"], restarts, detail)

    def _last_exit(self, name: str) -> str:
        """Return how the service ended last, from supervisord's own log: it forgets it for quick exits."""
        try:
            text = (self.here / "supervisord.log").read_text(errors="replace")[-20000:]
        except OSError:
            return "exited"
        ends = re.findall(rf" exited: {re.escape(name)} \((.*?)(?:; .*)?\)", text)
        return f"ended: {ends[-1]}" if ends else "exited"

    def owned(self, names: Iterable[str]) -> set[int]:
        """Return all processes under the supervisord that answers."""
        pid = self.pid()
        return process.tree(pid) if pid else set()

    def prepare(self) -> list[str]:
        """Have supervisord running; return in words what was done."""
        if self.pid():
            return []
        did = []
        # One that lives and does not answer would fight with ours over the same programs.
        deaf = self._daemons()
        if deaf:
            process.end(deaf, 10.0)
            did.append(f"ended a supervisord that did not answer (pid {', '.join(map(str, deaf))})")
        self._daemonize()
        return [*did, "started supervisord"]

    def _daemons(self) -> list[int]:
        conf = str(self.here / "supervisord.conf")
        return [
            pid
            for pid in process.pids()
            for words in [process.command_line(pid)]
            if conf in words and any(Path(word).name == "supervisord" for word in words[:2])
        ]

    def _daemonize(self) -> None:
        """Start supervisord. It leaves our session and terminal itself, and sees none of our environment."""
        environment = {"PATH": process.PATH, "HOME": os.path.expanduser("~"), "LANG": "C.UTF-8"}  # noqa: PTH111
        command = [self.binary, "-c", str(self.here / "supervisord.conf")]
        log = self.here / "supervisord.log"
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=self.state_dir,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=20,
                start_new_session=True,
                check=False,
            )
        except OSError as problem:
            raise ServiceError(
                f"cannot start supervisord ({self.binary}): {problem.strerror}; "
                "run the service role's install step, or set service_supervisord"
            ) from problem
        if done.returncode == 0 and process.until(lambda: self.pid() != 0, 10):
            return
        raise ServiceError(f"supervisord did not start: {done.stdout.strip() or 'no answer'}; its log: {log}")

    def _shut_down(self) -> None:
        daemons = self._daemons()
        self._ask(self._rpc.shutdown)
        process.until(lambda: not any(map(process.alive, daemons)), 10)
        process.end(daemons, 5.0)

    def start(self, launches: Mapping[str, Launch]) -> None:
        """Start services that do not run, those that others depend on first; do not wait for them."""
        try:
            ((_, changed, _),) = self._rpc.reloadConfig()
        except xmlrpc.client.Fault as fault:
            raise ServiceError(f"supervisord refuses its configuration: {fault.faultString}") from fault
        known = {info["name"] for info in self._rpc.getAllProcessInfo()}
        for name in in_start_order(launches):
            # A group that is to be started runs nothing: it can be taken out and in again.
            if name in changed:
                self._ask(self._rpc.removeProcessGroup, name, ignore=(_BAD_NAME,))
            if name in changed or name not in known:
                self._ask(self._rpc.addProcessGroup, name)
            with contextlib.suppress(FileNotFoundError):
                (launch_json(self.state_dir, name).with_name(process.STARTS)).unlink()
            self._ask(self._rpc.startProcess, name, False, ignore=(_ALREADY_STARTED,))

    def stop(self, launches: Mapping[str, Launch]) -> None:
        """Stop services, all at once, and wait until they are gone; supervisord sends SIGKILL in time."""
        if not self.pid():
            return
        for name in launches:
            self._ask(self._rpc.stopProcess, name, False, ignore=(_BAD_NAME, _NOT_RUNNING))
        allowed = max((launch["stop_timeout_s"] for launch in launches.values()), default=0) + 10

        busy: list[str] = []

        def stopped() -> bool:
            busy[:] = [name for name, status in self.status(launches).items() if status.pid]
            return not busy

        if not process.until(stopped, allowed, 0.05):
            raise ServiceError(f"still running {allowed} s after they were told to stop: {', '.join(busy)}")

    def not_at_boot(self, launches: Mapping[str, Launch]) -> None:
        """Nothing to do: it starts nothing by itself."""

    def _ask(self, call: Callable[..., Any], *arguments: Any, ignore: tuple[int, ...] = ()) -> Any:
        """Call supervisord; None when it does not run or answers with one of the faults to ignore."""
        try:
            return call(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in ignore:
                return None
            raise ServiceError(
                f"supervisord: {fault.faultString} ({' '.join(map(str, arguments))})"
            ) from fault
        except (OSError, http.client.HTTPException):
            return None


def launcher_source() -> str:
    """Return the text of process.py, also from inside the archive in which Ansible sends modules."""
    source: str = process.__loader__.get_source(process.__name__)  # type: ignore[union-attr]
    return source


def _escape(path: str | Path) -> str:
    return str(path).replace("%", "%%")
