"""Who listens on a TCP port, read from /proc without commands."""

from __future__ import annotations

import json
import os
import pwd
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.wideep.dynamo.plugins.module_utils.process import SERVICE, STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

LISTEN = "0A"


def _address(text: str) -> str:
    """Turn the kernel's form (hexadecimal words in the host's byte order) into the usual one."""
    words = bytes.fromhex(text)
    if len(words) == 4:
        return socket.inet_ntop(socket.AF_INET, words[::-1] if _LITTLE else words)
    ordered = b"".join(words[i : i + 4][::-1] if _LITTLE else words[i : i + 4] for i in range(0, 16, 4))
    return socket.inet_ntop(socket.AF_INET6, ordered)


_LITTLE = struct.pack("=H", 1) == struct.pack("<H", 1)


def _table(text: str, ports: Collection[int]) -> Iterator[tuple[str, int, int, str]]:
    """Give address, port, uid and inode of each listener of a /proc/net/tcp table on one of the ports."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if fields[3] != LISTEN:
            continue
        address, _, port = fields[1].rpartition(":")
        if int(port, 16) in ports:
            yield _address(address), int(port, 16), int(fields[7]), fields[9]


def _holders(inodes: set[str], proc: Path) -> dict[str, int]:
    """Find the process of each socket inode; other users' processes are visible to root only."""
    found: dict[str, int] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for pid in sorted((name for name in os.listdir(proc) if name.isdigit()), key=int):  # noqa: PTH208
        folder = f"{proc}/{pid}/fd"
        try:
            for descriptor in os.listdir(folder):  # noqa: PTH208
                inode = wanted.get(os.readlink(f"{folder}/{descriptor}"))  # noqa: PTH115
                if inode:
                    found.setdefault(inode, int(pid))
        except OSError:  # gone meanwhile, or not ours to see
            continue
        if len(found) == len(inodes):
            break
    return found


def process(pid: int, proc: Path = Path("/proc")) -> dict[str, Any]:
    """Describe a process: name, command line, and which service of which deployment it is, if any."""
    folder = proc / str(pid)

    def read(name: str) -> list[str]:
        try:
            return (folder / name).read_bytes().decode(errors="replace").rstrip("\0\n").split("\0")
        except OSError:
            return []

    environ = dict(entry.split("=", 1) for entry in read("environ") if "=" in entry)
    state_dir = environ.get(STATE_DIR, "")
    return {
        "pid": pid,
        "process": "".join(read("comm")),
        "cmdline": " ".join(read("cmdline"))[:200],
        "state_dir": state_dir,
        "deployment": _deployment(Path(state_dir)) if state_dir else "",
        "service": environ.get(SERVICE, ""),
    }


def _deployment(state_dir: Path) -> str:
    try:
        return str(json.loads((state_dir / ".wideep.json").read_text(encoding="utf-8"))["deployment"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def listeners(ports: Collection[int], proc: Path = Path("/proc")) -> list[dict[str, Any]]:
    """Return the listeners on the ports: address, port, user, pid (0: not ours to see), and process()."""
    rows: list[tuple[str, int, int, str]] = []
    for name in ("tcp", "tcp6"):
        try:
            rows += _table((proc / "net" / name).read_text(), ports)
        except OSError:  # a kernel without IPv6
            continue
    pids = _holders({inode for *_, inode in rows}, proc) if rows else {}
    result = []
    for address, port, uid, inode in rows:
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = str(uid)
        holder = process(pids[inode], proc) if inode in pids else {"pid": 0}
        result.append({"address": address, "port": port, "user": user, **holder})
    return sorted(result, key=lambda row: (row["port"], row["address"]))
