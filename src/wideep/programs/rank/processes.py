"""The kernel's view: processes below this one, their shared memory, the interface to an address."""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# How the kernel lists interfaces.
SIOCGIFCONF, IFREQ = 0x8912, 40
LOOKS = 25
SHM = Path("/dev/shm")  # noqa: S108
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    """Set what the kernel does when a parent dies."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def all_pids() -> set[int]:
    """Return every process."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208


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


def _module(words: list[str]) -> str:
    """Return the module that a command line has Python run (`python -X dev -m MODULE …`), else nothing."""
    if not os.path.basename(words[0]).startswith("python"):  # noqa: PTH119
        return ""
    for option, value in itertools.pairwise(words[1:]):
        if option == "-m":
            return value
        if not option.startswith("-"):
            break
    return ""


def running(modules: list[str], below: set[int]) -> dict[int, str]:
    """Return the processes among `below` that run one of the modules, each with its module.

    Without their own children: one that is between fork and exec has its parent's command line.
    """
    found: dict[int, str] = {}
    parents: dict[int, int] = {}
    for pid in below:
        with contextlib.suppress(OSError, IndexError, ValueError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if _module(words) in modules:
                status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
                found[pid], parents[pid] = _module(words), int(status.rpartition(")")[2].split()[1])
    return {pid: module for pid, module in found.items() if parents[pid] not in found}


def titled(titles: list[str], below: set[int]) -> dict[int, str]:
    """Return the processes among `below` whose title begins with one of these, each with its title."""
    found: dict[int, str] = {}
    for pid in below:
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace").strip()
            if title.startswith(tuple(titles)):
                found[pid] = title
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
