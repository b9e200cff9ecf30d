"""What the two service managers have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Union

from ansible_collections.wideep.dynamo.plugins.module_utils import process
from ansible_collections.wideep.dynamo.plugins.module_utils.launch import Launch, launch_json, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.wideep.dynamo.plugins.module_utils.supervisord import Supervisord
    from ansible_collections.wideep.dynamo.plugins.module_utils.systemd import Systemd

    Manager = Union[Supervisord, Systemd]


class ServiceError(Exception):
    """Something that the operator has to know, in one sentence with a remedy where there is one."""


@dataclass(frozen=True)
class Status:
    """A service in the eyes of its manager.

    state: running, starting, stopping, stopped, failed (it ended by itself), absent. restarts: how often it
    was started again since it was last told to start; None when unknown.
    """

    state: str
    pid: int
    restarts: int | None
    detail: str


def resolve(manager: str) -> str:
    """`auto` is systemd where it is PID 1 and we are root, else supervisord."""
    if manager != "auto":
        return manager
    return "systemd" if Path("/run/systemd/system").is_dir() and os.geteuid() == 0 else "supervisord"


def in_start_order(launches: Mapping[str, Launch]) -> list[str]:
    """Return the names so that each comes after those of its `depends_on` that are here."""
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in order or name not in launches or name in path:
            return
        for other in launches[name]["depends_on"]:
            visit(other, (*path, name))
        order.append(name)

    for name in launches:
        visit(name, ())
    return order


def runs_as_configured(launch: Launch, pid: int, state_dir: str) -> bool:
    """Whether the process was started from exactly this launch.

    Its own environment tells. Some programs overwrite that memory with a process title; then it counts
    whether the process is younger than the launch.json that it was started from.
    """
    running = process.environment(pid).get(process.DIGEST)
    if running:
        return bool(running == process.digest(launch))
    stored = load(state_dir, launch["name"])
    if not stored or stored["digest"] != launch["digest"]:
        return False
    written = [launch_json(state_dir, launch["name"]), *map(Path, launch.get("env_files") or [])]
    return all(process.start_time(pid) >= path.stat().st_mtime - 0.1 for path in written if path.exists())
