"""What preflight wants to know of a host. Facts only: the controller judges them."""

from __future__ import annotations

import array
import fcntl
import ipaddress
import os
import pwd
import resource
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.wideep.dynamo.plugins.module_utils import container_facts, mpi_facts
from ansible_collections.wideep.dynamo.plugins.module_utils.gpu_facts import gather as gather_gpu
from ansible_collections.wideep.dynamo.plugins.module_utils.kernel_facts import first_line
from ansible_collections.wideep.dynamo.plugins.module_utils.model_files import inspect as inspect_model
from ansible_collections.wideep.dynamo.plugins.module_utils.python_env import find_pythons
from ansible_collections.wideep.dynamo.plugins.module_utils.reach import probe
from ansible_collections.wideep.dynamo.plugins.module_utils.sockets import listeners

if TYPE_CHECKING:
    from collections.abc import Sequence

SIOCGIFCONF = 0x8912
RESOLVE_DEADLINE_S = 10.0


def gather(needs: dict[str, Any], *, may_write: bool) -> dict[str, Any]:
    """Return the facts that judge what the plan needs of this host; sizes are in bytes, times in seconds.

    needs: ports ({port, address, service}), peers ({name, address, ports}), state_dir, gpu (where given, GPU
    facts, too), container, mpi, files ({path}) and the user who reads them. may_write: whether the state
    directory may be tried with a temporary file.
    """
    started = time.monotonic()
    facts: dict[str, Any] = {
        "user": pwd.getpwuid(os.geteuid()).pw_name if _has_user(os.geteuid()) else str(os.geteuid()),
        "root": os.geteuid() == 0,
        "systemd": Path("/run/systemd/system").is_dir() and first_line(Path("/proc/1/comm")) == "systemd",
        "kernel": os.uname().release,
        "arch": os.uname().machine,
        "os": _os_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "umask": f"{_umask():04o}",
        "pythons": [],
        "memory": _memory(),
        "limits": {"nofile": _limit(resource.RLIMIT_NOFILE), "memlock": _limit(resource.RLIMIT_MEMLOCK)},
        "shm": _filesystem(Path("/dev/shm")),  # noqa: S108
        "disk": _disk(Path(needs["state_dir"]), may_write=may_write) if needs.get("state_dir") else None,
        "listeners": listeners({entry["port"] for entry in needs.get("ports") or []}),
        "ephemeral": _ephemeral(),
        "addresses": _addresses(),
        "model": inspect_model(Path(needs["model_path"])) if needs.get("model_path") else None,
        "gpu": _gpu(needs["gpu"]) if needs.get("gpu") else None,
        "container": _container(needs["container"]) if needs.get("container") else None,
        "mpi": _mpi(needs["mpi"]) if needs.get("mpi") else None,
        "files": [_file(need["path"], needs.get("user") or "") for need in needs.get("files") or []],
    }
    # Interpreters make environments. Where the deployment is they are made, and looking takes longest.
    if not (facts["disk"] and facts["disk"]["ours"]):
        facts["pythons"] = [{**asdict(p), "version": list(p.version)} for p in find_pythons()]
    facts["peers"] = _peers(needs.get("peers") or [], facts["addresses"])
    # Last: the controller brackets the reading between its own two, and takes off what came before it.
    facts["clock"] = {"elapsed_s": time.monotonic() - started, "time": time.time()}
    return facts


def _gpu(needs: dict[str, Any]) -> dict[str, Any]:
    packages = [*(needs.get("packages") or ()), *(needs.get("modules") or ())]
    return gather_gpu(python=needs.get("python") or "", packages=packages)


def _mpi(needs: dict[str, Any]) -> dict[str, Any]:
    return mpi_facts.gather(needs["path"], needs["programs"])


def _container(needs: dict[str, Any]) -> dict[str, Any]:
    return container_facts.gather(needs["program"], needs["image"])


def _file(path: str, user: str) -> dict[str, Any]:
    """Describe a file: its mode, and why `user` cannot read it. Root asks as that user."""
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
        if os.geteuid() or user in ("", "root"):
            Path(path).open("rb").close()
            return {"path": path, "error": "", "mode": mode}
        account = pwd.getpwnam(user)
    except KeyError:
        return {"path": path, "error": f"the host has no user {user}", "mode": 0}
    except OSError as error:
        return {"path": path, "error": (error.strerror or str(error)).lower(), "mode": 0}
    groups = os.getgrouplist(user, account.pw_gid)
    seen = subprocess.run(
        ["test", "-r", path], user=account.pw_uid, group=account.pw_gid, extra_groups=groups, check=False
    )
    return {"path": path, "error": "permission denied" if seen.returncode else "", "mode": mode}


def _has_user(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _os_name() -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        return values.get("PRETTY_NAME", values.get("ID", "")).strip('"')
    return ""


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _limit(kind: int) -> dict[str, int]:
    """Soft and hard limit; -1 is unlimited."""
    soft, hard = resource.getrlimit(kind)
    return {"soft": soft, "hard": hard}


def _memory() -> dict[str, int]:
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return {"total": values["MemTotal"], "available": values.get("MemAvailable", values["MemFree"])}


def _filesystem(path: Path) -> dict[str, int] | None:
    try:
        stat = os.statvfs(path)
    except OSError:
        return None
    # Some file systems count no inodes and say 0 of 0.
    inodes = stat.f_favail if stat.f_files else -1
    return {"free": stat.f_bavail * stat.f_frsize, "total": stat.f_blocks * stat.f_frsize, "inodes": inodes}


def _disk(state_dir: Path, *, may_write: bool) -> dict[str, Any]:
    """Describe the nearest existing directory at or above state_dir: its room, and whether we can write."""
    place = state_dir
    try:
        while not os.path.lexists(place):
            place = place.parent
    except OSError:
        pass
    error = ""
    if not place.is_dir():
        error = f"{place} is not a directory"
    elif may_write:
        try:
            with tempfile.NamedTemporaryFile(dir=place, prefix=".wideep-preflight-") as probe:
                probe.write(b"x" * 4096)
                probe.flush()
        except OSError as problem:
            error = f"{place}: {problem.strerror}"
    elif not os.access(place, os.W_OK | os.X_OK):
        error = f"{place}: not writable for this user"
    return {
        "path": str(place),
        "real_path": os.path.realpath(state_dir),
        "error": error,
        "ours": (state_dir / ".wideep.json").is_file(),
        **(_filesystem(place) or {}),
    }


def _ephemeral() -> dict[str, Any]:
    """Ports that the kernel gives to outgoing connections: first, last, and the ranges that it leaves out."""
    ipv4 = Path("/proc/sys/net/ipv4")
    first, last = ([int(n) for n in first_line(ipv4 / "ip_local_port_range").split()] + [0, 0])[:2]
    reserved = []
    for part in first_line(ipv4 / "ip_local_reserved_ports").split(","):
        low, _, high = part.partition("-")
        if low:
            reserved.append([int(low), int(high or low)])
    return {"first": first, "last": last, "reserved": reserved}


def _addresses() -> dict[str, str]:
    """Every address of this host and its interface."""
    found: dict[str, str] = {}
    entry = 40 if struct.calcsize("P") == 8 else 32
    room = array.array("B", b"\0" * entry * 1024)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("iP", len(room), room.buffer_info()[0])
        used = struct.unpack("iP", fcntl.ioctl(probe.fileno(), SIOCGIFCONF, request))[0]
    data = room.tobytes()
    for start in range(0, used, entry):
        name = data[start : start + 16].split(b"\0", 1)[0].decode()
        found[socket.inet_ntoa(data[start + 20 : start + 24])] = name.split(":")[0]
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        fields = line.split()
        found[str(ipaddress.IPv6Address(int(fields[0], 16)))] = fields[5]
    return found


def resolve(names: Sequence[str], deadline_s: float = RESOLVE_DEADLINE_S) -> dict[str, dict[str, Any]]:
    """Look all names up at once: {name: {addresses, error}}. A silent name server costs deadline_s."""
    answers: dict[str, dict[str, Any]] = {}

    def look_up(name: str) -> None:
        try:
            rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            answers[name] = {"addresses": list(dict.fromkeys(str(row[4][0]) for row in rows)), "error": ""}
        except (OSError, UnicodeError) as error:
            answers[name] = {"addresses": [], "error": getattr(error, "strerror", "") or str(error)}

    threads = [threading.Thread(target=look_up, args=(name,), daemon=True) for name in dict.fromkeys(names)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + deadline_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = {"addresses": [], "error": f"no answer within {deadline_s:g} s"}
    return {name: answers.get(name, late) for name in names}


def _peers(peers: Sequence[dict[str, Any]], local: dict[str, str]) -> list[dict[str, Any]]:
    """What this host makes of each peer's address, how it gets there, which of its ports it cannot reach."""
    names = [peer.get("address") or peer["name"] for peer in peers]
    answers = resolve(names)
    first = {name: answer["addresses"][0] for name, answer in answers.items() if answer["addresses"]}
    blocked = probe(
        [
            (first[name], port)
            for peer, name in zip(peers, names)
            for port in peer.get("ports") or []
            if name in first
        ]
    )
    result = []
    for peer, name in zip(peers, names):
        answer = answers[name]
        source, error = "", answer["error"]
        if answer["addresses"]:
            source, error = _route(answer["addresses"][0])
        row = {"name": peer["name"], "address": name, "resolved": answer["addresses"], "error": error}
        tried = [(port, blocked.get((first.get(name, ""), port), "")) for port in peer.get("ports") or []]
        row["blocked"] = [{"port": port, "error": why} for port, why in tried if why]
        result.append({**row, "source": source, "interface": local.get(source, "")})
    return result


def _route(address: str) -> tuple[str, str]:
    """Return the local address that connections to this one start from, or the error. Sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]), ""
    except OSError as error:
        return "", f"no route to {address}: {error.strerror}"
