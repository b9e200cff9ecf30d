"""What one host has to run for one service: the only thing that roles, manifests and documentation print.

An engine (or a control-plane service) turns a checked deployment into `Launch` objects. Nothing downstream
computes topology again. `Launch.to_dict` is the content of `<output>/<host>/<service>/launch.json`, which is
a stable interface (docs/reference/launch.md).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1
# What only the service manager, waits and people use: changing it restarts nothing.
NOT_DECISIVE = frozenset({"description", "health", "depends_on", "stop_timeout_s", "cleanup"})


@dataclass(frozen=True)
class File:
    """A file that the service reads, with its absolute path on the host."""

    path: str
    content: str
    mode: str = "0644"


@dataclass(frozen=True)
class Listener:
    """A TCP port that the service opens. `purpose` is unique within the service."""

    purpose: str
    address: str
    port: int


@dataclass(frozen=True)
class Health:
    """How to tell that the service works, asked on its own host.

    kind:
        `http`: GET url answers 200 and, where `json_path` is given (dotted), the JSON value found there
        equals `json_value`. `process`: the process is up for `settle_s` seconds (ranks without an endpoint).
    deadline_s: seconds from its start until the service must be healthy.
    """

    kind: Literal["http", "process"]
    deadline_s: int
    url: str = ""
    json_path: str = ""
    json_value: str = ""
    settle_s: int = 0


@dataclass(frozen=True)
class Launch:
    """One service of one host: argv as a list, environment, files, ports, user, health.

    Environment values are strings. `env_files` are files of the host with more of them (NAME=value), which
    hold secrets: role `secrets` writes them, the service manager reads them, no value of theirs is here.
    `depends_on` names services of the same host that must be started before. `cleanup` is a command that is
    run whenever the process has ended, however it ended, before it starts again; it is quick, and its failure
    does not matter. Times are in seconds.
    """

    name: str
    component: Literal["nats", "etcd", "frontend", "worker"]
    description: str
    argv: tuple[str, ...]
    working_directory: str
    log_file: str
    health: Health
    env: dict[str, str] = field(default_factory=dict)
    env_files: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    directories: tuple[str, ...] = ()
    ports: tuple[Listener, ...] = ()
    user: str = ""
    depends_on: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()
    stop_timeout_s: int = 30
    open_files: int = 65536
    lock_memory: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 over all that decides how the service runs: equal digests need no restart."""
        decisive = {k: v for k, v in asdict(self).items() if k not in NOT_DECISIVE}
        text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self, *, reveal: bool = True) -> dict[str, Any]:
        """Return the JSON form; with `reveal=False` contents of private files read `********`."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        data["schema_version"] = SCHEMA_VERSION
        data["digest"] = self.digest
        if not reveal:
            data["files"] = [
                {**f, "content": "********"} if f["mode"] in {"0600", "0400"} else f for f in data["files"]
            ]
        return data
