"""Whether services work: their manager's word, the digest they run with, their own endpoint."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible_collections.wideep.dynamo.plugins.module_utils import logs, process
from ansible_collections.wideep.dynamo.plugins.module_utils.launch import service_dir
from ansible_collections.wideep.dynamo.plugins.module_utils.status import Status, runs_as_configured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.wideep.dynamo.plugins.module_utils.launch import Launch
    from ansible_collections.wideep.dynamo.plugins.module_utils.status import Manager

_TIMEOUT_S = 3.0


def observe(manager: Manager, launches: Mapping[str, Launch], log_lines: int = 0) -> list[dict[str, Any]]:
    """Look at all services at once; return a dictionary (RETURN of service_info) for each, in their order."""
    if not launches:
        return []
    statuses = manager.status(launches)
    family = process.children()
    sockets = listening()

    # Whoever still runs although its manager was killed: it may even serve, and nobody restarts it.
    orphans: dict[str, int] = {}
    if any(status.state in ("stopped", "absent") for status in statuses.values()):
        owned = set().union(*(process.tree(s.pid, family) for s in statuses.values() if s.pid))
        orphans = {service: pid for pid, service in process.leftovers(manager.state_dir, owned).items()}

    # What runs in a container is no child of its podman.
    contained = {}
    if any(map(_in_container, launches.values())):
        contained = process.leftovers(manager.state_dir, set())

    def look(name: str) -> dict[str, Any]:
        status = statuses[name]
        if status.state in ("stopped", "absent") and name in orphans:
            status = replace(status, state="orphaned", pid=orphans[name], restarts=None)
        tree = process.tree(status.pid, family) if status.pid else set()
        if _in_container(launches[name]):
            tree |= {pid for pid, service in contained.items() if service == name}
        return _observe(manager.state_dir, launches[name], status, tree, sockets, log_lines)

    with ThreadPoolExecutor(min(16, len(launches))) as pool:
        return list(pool.map(look, launches))


def _observe(  # noqa: PLR0917
    state_dir: str,
    launch: Launch,
    status: Status,
    tree: set[int],
    sockets: Mapping[int, set[str]],
    log_lines: int,
) -> dict[str, Any]:
    uptime = time.time() - process.start_time(status.pid) if status.pid else 0.0
    configured = bool(status.pid) and runs_as_configured(launch, status.pid, state_dir)
    gang = gang_state(state_dir, launch, status.pid)
    healthy: bool | None = False
    if status.state in ("stopped", "absent"):
        healthy, detail = None, status.detail or status.state
    elif not status.pid or status.state == "stopping":
        detail = status.detail or status.state
    elif status.state == "orphaned":
        detail = "runs, but its service manager does not: run playbooks/site.yml"
    elif process.is_launcher(status.pid):
        detail = "is being started"
    elif not configured:
        detail = "runs with another configuration than the present one and waits for its restart"
    elif launch.get("gang") and not gang:
        detail = "is being started"
    elif gang.get("state", "run") != "run":
        detail = gang["detail"]
    else:
        healthy, detail = check(launch["health"], time.time() - gang["since"] if gang else uptime)
        if healthy and launch["health"]["kind"] == "http" and not _in_container(launch):
            port = _port(launch["health"]["url"])
            # Opened since the table was read: then nobody else had it.
            other = _stranger(sockets[port], tree) if port in sockets else 0
            if other:
                healthy, detail = False, f"port {port} is answered by another process (pid {other})"
    state = status.state
    if state == "starting" and healthy:
        state = "running"
    return {
        "name": launch["name"],
        "component": launch["component"],
        "state": state,
        "pid": status.pid,
        "uptime_s": round(uptime, 1),
        # The watcher of a replica's rank stays when the engine under it starts again.
        "restarts": status.restarts if status.restarts is None else status.restarts + gang.get("breaks", 0),
        "rss_bytes": process.rss(tree),
        "digest_ok": configured,
        "healthy": healthy,
        "health_detail": detail,
        "expected": expectation(launch["health"]),
        "ports": launch["ports"],
        "log_file": launch["log_file"],
        "log_tail": logs.tail(launch["log_file"], log_lines),
    }


def gang_state(state_dir: str, launch: Launch, pid: int) -> dict[str, Any]:
    """Return what the watcher of a replica's rank (wideep.hosts.gang) says; {} for other services.

    What an earlier one wrote is older than the process. A pid would not tell: containers have their own.
    """
    gang = launch.get("gang")
    # Schema 1 named no place.
    path = Path(gang["status_file"]) if gang else service_dir(state_dir, launch["name"]) / "unit/state.json"
    try:
        if not pid or path.stat().st_mtime < process.start_time(pid) - 0.1:
            return {}
        state: dict[str, Any] = json.loads(path.read_text())
        return state if {"state", "since", "detail", "breaks"} <= state.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def expectation(health: Mapping[str, Any]) -> str:
    """Say in words what a healthy service does."""
    if health["kind"] == "process":
        return f"process up for {health['settle_s']} s"
    value = f' with {health["json_path"]} = "{health["json_value"]}"' if health["json_path"] else ""
    return f"GET {health['url']} answers 200{value}"


def check(health: Mapping[str, Any], uptime_s: float) -> tuple[bool, str]:
    """Return whether a running service is healthy, and what was seen."""
    if health["kind"] == "process":
        return uptime_s >= health["settle_s"], f"up for {uptime_s:.0f} s of {health['settle_s']} s"
    try:
        status, body = _get(health)
    except (OSError, http.client.HTTPException) as problem:
        reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        return False, f"port {_port(health['url'])}: {reason.lower()}"
    if status != 200:
        return False, f"HTTP {status}"
    if not health["json_path"]:
        return True, "HTTP 200"
    try:
        seen = _dig(json.loads(body), health["json_path"])
    except ValueError:
        return False, "HTTP 200 without JSON"
    text = seen if isinstance(seen, str) else json.dumps(seen)
    return text == health["json_value"], f'{health["json_path"]} is "{text}"'


def is_stale(health: Mapping[str, Any]) -> bool:
    """Whether a service that runs answers with another value than the planned one.

    Where the value is that of the files that it has read, it has to read them again. One that does not
    answer is still starting, or waits for help that reading files is not.
    """
    try:
        status, body = _get(health)
        return status == 200 and _dig(json.loads(body), health["json_path"]) != health["json_value"]
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _get(health: Mapping[str, Any]) -> tuple[int, bytes]:
    parts = urlsplit(health["url"])
    address = (parts.hostname or "", _port(health["url"]))
    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            *address, timeout=_TIMEOUT_S, context=_context(health)
        )
    else:
        connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _context(health: Mapping[str, Any]) -> ssl.SSLContext:
    """Return how a https URL is asked. Its certificate may be of a name that clients use: it is not judged.

    Whether the answer is the service's own, its process tells.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if health.get("client_certificate"):  # launches of older versions have no such field
        context.load_cert_chain(health["client_certificate"], health["client_key"])
    return context


def _stranger(sockets: set[str], tree: set[int]) -> int:
    """Return a process outside the tree that holds the sockets; 0 where the tree does, or nobody seen."""
    if any(sockets & _open_files(pid) for pid in tree):
        return 0
    return next((pid for pid in process.pids() if sockets & _open_files(pid)), 0)


def _dig(value: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict):
            value = value.get(key)
        else:
            return None
    return value


def listening() -> dict[int, set[str]]:
    """Return the sockets that listen on each TCP port, in the form of links in /proc/PID/fd."""
    found: dict[int, set[str]] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = row.split()[:10]
                if state == "0A":
                    found.setdefault(int(local.rpartition(":")[2], 16), set()).add(f"socket:[{inode}]")
    return found


def _open_files(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - much faster than Path here
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))  # noqa: PTH115
    return found


def _in_container(launch: Launch) -> bool:
    """Whether a container engine starts the service, so that it is no child of what we started."""
    return Path(launch["argv"][0]).name in ("docker", "podman", "nerdctl")
