"""Processes of a deployment, seen through /proc; as a script, what supervisord starts for each service.

The file stands alone (standard library only): `supervisord.py` copies it to `<state>/supervisor/start.py`.
There it turns launch.json into the service itself by exec, so argv and environment need no quoting in a
configuration file, each service gets its own limits and user, and the pid is the service's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Started(TypedDict):
    """What is looked at here of a launch (`launch.py`, which the file cannot import)."""

    name: str
    digest: str
    env: dict[str, str]
    env_files: list[str]


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What every service gets, by which it is found again.
DIGEST, SERVICE, STATE_DIR = MARKS = ("WIDEEP_DIGEST", "WIDEEP_SERVICE", "WIDEEP_STATE_DIR")
START_LINE = "--- wideep starts "  # logs.py cuts a log there
FIRST_START = " (start 1) "
STARTS = "starts"
CLEANUP_TIMEOUT_S = 10


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the name: [0] state, [1] parent, [19] start in ticks; [] when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    stat = _stat(pid)
    return bool(stat) and stat[0] not in "ZX"


def start_time(pid: int) -> float:
    """When the process started, in seconds since the epoch; 0 when it is gone."""
    stat = _stat(pid)
    if not stat:
        return 0.0
    since_boot = int(stat[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


def environment(pid: int) -> dict[str, str]:
    """Return the environment that the process was started with; {} when it may not be read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0") if "=" in item)
    return {key: value for key, _, value in pairs}


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def is_launcher(pid: int) -> bool:
    """Whether the process has not become its service yet (see `start`)."""
    return any(word.endswith("/supervisor/start.py") for word in command_line(pid)[-2:-1])


def inside(pid: int) -> int:
    """Return the process that a container's monitor watches, its first child; any other pid as it is."""
    words = command_line(pid)
    if not words or os.path.basename(words[0]) != "conmon":  # noqa: PTH119 - stands alone
        return pid
    return min(children().get(pid, [pid]))


def children() -> dict[int, list[int]]:
    """Return the children of every process."""
    found: dict[int, list[int]] = {}
    for pid in pids():
        stat = _stat(pid)
        if stat:
            found.setdefault(int(stat[1]), []).append(pid)
    return found


def tree(root: int, family: Mapping[int, list[int]] | None = None) -> set[int]:
    """Return the process and all its descendants; `family` is an earlier answer of `children`."""
    family = children() if family is None else family
    found: set[int] = set()
    queue = [root]
    while queue:
        pid = queue.pop()
        if pid not in found:
            found.add(pid)
            queue += family.get(pid, [])
    return found


def rss(processes: Iterable[int]) -> int:
    """Resident memory of the processes in bytes; pages that they share count once for each."""
    total = 0
    for pid in processes:
        with contextlib.suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")


def leftovers(state_dir: str, owned: set[int]) -> dict[int, str]:
    """Processes {pid: service} that were started for this deployment and that no service manager owns.

    All three marks must be there, so that a person's shell with one of them set is never taken for a service.
    """
    mine = {os.getpid(), os.getppid()}
    found = {}
    for pid in pids():
        if pid in owned or pid in mine:
            continue
        env = environment(pid)
        if all(mark in env for mark in MARKS) and env[STATE_DIR] == state_dir and alive(pid):
            found[pid] = env[SERVICE]
    return found


def until(happened: Callable[[], bool], seconds: float, pause_s: float = 0.02) -> bool:
    """Wait for something to happen, at most so long, looking at least once; return whether it did."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() >= end:
            return False
        time.sleep(pause_s)
    return True


def end(victims: Iterable[int], grace_s: float) -> list[int]:
    """SIGTERM, up to `grace_s` seconds, SIGKILL; return the pids that are still there a second later."""
    # The start time tells a process from a later one with the same pid.
    left = {pid: start_time(pid) for pid in victims if alive(pid)}

    def gone() -> bool:
        nonlocal left
        left = {pid: born for pid, born in left.items() if alive(pid) and abs(start_time(pid) - born) < 1}
        return not left

    for signum, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 1.0)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signum)
        if until(gone, seconds):
            break
    return sorted(left)


def secret_environment(path: str) -> dict[str, str]:
    """Return what a file of NAME=value lines says, as systemd reads it: '…' around a value is taken off."""
    found = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        name, is_one, value = line.partition("=")
        if is_one and not line.startswith("#"):
            quoted = len(value) > 1 and value[0] == value[-1] == "'"
            found[name] = value[1:-1] if quoted else value
    return found


def readable_environment(path: str) -> dict[str, str]:
    """Return what such a file says; {} where it is not there or not ours to read."""
    try:
        return secret_environment(path)
    except OSError:
        return {}


def digest(launch: Started) -> str:
    """Return the launch's digest; with secrets, that of it and them: a changed secret needs a restart too.

    Each of these files has a random line, so the digest tells nothing about what else is in it.
    """
    plain: str = launch["digest"]
    paths = launch.get("env_files") or []
    if not paths:
        return plain
    found = hashlib.sha256(plain.encode())
    for path in paths:
        found.update(b"\0")
        with contextlib.suppress(OSError):
            found.update(Path(path).read_bytes())
    return found.hexdigest()


def service_environment(launch: Started, state_dir: str) -> dict[str, str]:
    """Return the variables that the service gets, with the marks by which it is found again."""
    marks = (digest(launch), launch["name"], state_dir)
    return {**launch["env"], **dict(zip(MARKS, marks))}


def _limit(kind: int, wanted: int) -> None:
    """Set a limit as near to what is wanted as the hard limit allows."""
    _, hard = resource.getrlimit(kind)
    unlimited = resource.RLIM_INFINITY
    try:
        resource.setrlimit(kind, (wanted, wanted))
    except (ValueError, OSError):
        best = hard if wanted == unlimited or (hard != unlimited and hard < wanted) else wanted
        resource.setrlimit(kind, (best, hard))
        if best != wanted:
            name = "open files" if kind == resource.RLIMIT_NOFILE else "locked memory"
            text = "unlimited" if wanted == unlimited else wanted
            print(f"wideep: the hard limit for {name} is {best}, the service wants {text}", flush=True)


def _become(user: str) -> tuple[str, str]:
    """Change to the user, where one is named; return name and home of who we are then."""
    try:
        account = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError:
        if user:
            raise
        return str(os.geteuid()), "/"  # a uid without a name, as containers have
    if account.pw_uid != os.geteuid():
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    return account.pw_name, account.pw_dir


def _clean_up(command: list[str], secrets: dict[str, str]) -> None:
    try:
        subprocess.run(command, env={**os.environ, **secrets}, timeout=CLEANUP_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError) as problem:
        print(f"wideep: clean-up failed: {problem}", flush=True)


def _clean_up_after(pid: int, command: list[str], secrets: dict[str, str]) -> None:
    """Leave a process behind that runs the command the moment that the other one ends.

    supervisord may take a second to notice, and requests fail meanwhile. Silent: the next start cleans up
    too.
    """
    if not hasattr(os, "pidfd_open"):  # Python 3.9, Linux 5.3
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork() == 0:  # a grandchild, so that the service has no child that it does not know
        try:
            silence = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(silence, stream)
            select.select([os.pidfd_open(pid)], [], [])
            _clean_up(command, secrets)
        except OSError:
            pass  # no such process, or a kernel without pidfd
    os._exit(0)


def start(launch_json: str) -> None:
    """Become the service that the file describes. Never returns."""
    launch = json.loads(Path(launch_json).read_text())
    state_dir = str(Path(launch_json).parents[2])
    name = launch["name"]
    with Path(launch_json).with_name(STARTS).open("ab") as counter:  # its size is the number of starts
        counter.write(b".")
        count = counter.tell()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{START_LINE}{name} (start {count}) at {stamp} ---", flush=True)
    # Children that outlived a killed parent would hold its ports and GPU memory.
    end([pid for pid, service in leftovers(state_dir, set()).items() if service == name], 2.0)

    secrets: dict[str, str] = {}
    for path in launch.get("env_files") or []:
        try:
            secrets.update(secret_environment(path))
        except OSError as problem:
            print(f"wideep: cannot start {name}: {problem}; site.yml writes that file", flush=True)
            os._exit(127)
    if launch.get("cleanup"):
        _clean_up(launch["cleanup"], secrets)
        _clean_up_after(os.getpid(), launch["cleanup"], secrets)

    own = service_environment(launch, state_dir)  # reads files that the user may not
    _limit(resource.RLIMIT_NOFILE, int(launch["open_files"]))
    if launch["lock_memory"]:
        _limit(resource.RLIMIT_MEMLOCK, resource.RLIM_INFINITY)
    user, home = _become(launch["user"])
    base = {"PATH": PATH, "HOME": home, "USER": user, "LOGNAME": user, "LANG": "C.UTF-8"}
    env = {**base, **secrets, **own}
    argv = launch["argv"]
    try:
        os.chdir(launch["working_directory"])
        os.execvpe(argv[0], argv, env)  # noqa: S606
    except OSError as problem:
        print(f"wideep: cannot start {name}: {problem}", flush=True)
        os._exit(127)


if __name__ == "__main__":
    start(sys.argv[1])
