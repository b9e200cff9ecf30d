"""What one host has to run for one service: the only thing that roles, manifests and documentation print.

An engine (or a control-plane service) turns a checked deployment into `Launch` objects. Nothing downstream
computes topology again. `Launch.to_dict` is the content of `<output>/<host>/<service>/launch.json`, which is
a stable interface (docs/reference/launch.md).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

SCHEMA_VERSION = 2  # module_utils/launch.py reads it
# What only the service manager, waits and people use: changing it restarts nothing. A program's path has its
# digest: where the command or the environment names it, the launch changes with it, so that a new `rank`
# restarts its service. A new `deregister` does not: it is called by name, when the process has ended.
NOT_DECISIVE = frozenset(
    {
        "description",
        "health",
        "depends_on",
        "stop_timeout_s",
        "cleanup",
        "programs",
        "stop_signal",
        "reload_signal",
    }
)


@dataclass(frozen=True)
class File:
    """A file that the service reads, with its absolute path on the host."""

    path: str
    content: str
    mode: str = "0644"


@dataclass(frozen=True)
class ProgramFile:
    """One of `wideep.programs` that the service calls. digest: SHA-256 of the file at `path`."""

    name: str
    digest: str
    path: str


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
    client_certificate, client_key: files to show where a https URL asks for them.
    deadline_s: seconds from its start until the service must be healthy.
    """

    kind: Literal["http", "process"]
    deadline_s: int
    url: str = ""
    json_path: str = ""
    json_value: str = ""
    settle_s: int = 0
    client_certificate: str = ""
    client_key: str = ""


@dataclass(frozen=True)
class Route:
    """An interface that is found on the host. names: variables of `env` in which it is missing."""

    to: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Relay:
    """Where the head's command starts the other ranks' processes. hosts: addresses, in the order of ranks."""

    socket: str
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Gang:
    """What a rank knows of its replica (`wideep.programs.rank` reads it). Times are in seconds.

    family: what all ranks must agree on. ranks: their hosts, in order. address, port: where they meet, at
    the head. stop_timeout_s: what the engine gets to finish its requests. watched: Python modules that run
    below a launcher, the worker's first; parts: titles of the worker's own processes: see `Engine`.
    """

    name: str
    family: str
    rank: int
    ranks: tuple[str, ...]
    address: str
    port: int
    status_file: str
    stop_timeout_s: int
    route: Route | None = None
    relay: Relay | None = None
    watched: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    heartbeat_s: int = 5
    # A rank whose host is gone is seen after this; one whose process is gone at once.
    silence_s: int = 30
    # All are there, and nothing has changed for so long: ranks restarted one by one start once.
    settle_s: int = 1
    retry_s: int = 1
    remind_s: int = 30
    # From, to; doubled each time.
    backoff_s: tuple[int, int] = (1, 60)
    # A generation that ran for so long starts the back-off anew.
    calm_s: int = 600
    # The requests of a broken replica are lost, there is nothing to finish.
    break_timeout_s: int = 10


@dataclass(frozen=True)
class Launch:
    """One service of one host: argv as a list, environment, files, ports, user, health.

    Environment values are strings. `env_files` are files of the host with more of them (NAME=value), which
    hold secrets: role `secrets` writes them, the service manager reads them, no value of theirs is here.
    `programs` are those that argv, environment or clean-up call. `gang`: of a rank that lives with others.
    `depends_on` names services of the same host that must be started before. `cleanup` is a command that is
    run whenever the process has ended, however it ended, before it starts again; it is quick, and its failure
    does not matter. `shares_descriptors`: its processes take file descriptors from each other (pidfd_getfd),
    for which a container needs SYS_PTRACE. `reads`: what the operator has put on the host beside the model's
    directory (a draft model, a file of placements). `stop_signal` is what tells the process to finish and
    end. `reload_signal` is what makes it read its files again, without an interruption: other files restart
    no service that has one, and its health tells which it has read. Times are in seconds.
    """

    name: str
    component: Literal["nats", "etcd", "frontend", "load_balancer", "worker", "prometheus"]
    description: str
    argv: tuple[str, ...]
    working_directory: str
    log_file: str
    health: Health
    env: dict[str, str] = field(default_factory=dict)
    env_files: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    programs: tuple[ProgramFile, ...] = ()
    directories: tuple[str, ...] = ()
    ports: tuple[Listener, ...] = ()
    user: str = ""
    depends_on: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()
    stop_timeout_s: int = 30
    open_files: int = 65536
    lock_memory: bool = False
    shares_descriptors: bool = False
    reads: tuple[str, ...] = ()
    gang: Gang | None = None
    stop_signal: Literal["SIGTERM", "SIGUSR1"] = "SIGTERM"
    reload_signal: Literal["", "SIGUSR2"] = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all that decides how the service runs: equal digests need no restart."""
        ignored = NOT_DECISIVE | ({"files"} if self.reload_signal else set())
        decisive = {k: v for k, v in asdict(self).items() if k not in ignored and v is not None}
        text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def text(self) -> str:
        """Return the content of the launch.json that a host gets (module_utils/launch.py writes it)."""
        return json.dumps(self.to_dict(), indent=1, sort_keys=True) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        data["schema_version"] = SCHEMA_VERSION
        data["digest"] = self.digest
        return data
