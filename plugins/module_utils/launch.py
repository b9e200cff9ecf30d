"""Launches on their host, in the JSON form of `wideep.deployment.launch`, and their places.

The controller has that package, hosts have not: a test holds the types here equal to those there.
"""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, cast

from ansible_collections.wideep.dynamo.plugins.module_utils.process import STARTS, readable_environment

if TYPE_CHECKING:
    from collections.abc import Sequence


class File(TypedDict):
    path: str
    content: str
    mode: str


class ProgramFile(TypedDict):
    name: str
    digest: str
    path: str


class Listener(TypedDict):
    purpose: str
    address: str
    port: int


class Health(TypedDict):
    kind: Literal["http", "process"]
    deadline_s: int
    url: str
    json_path: str
    json_value: str
    settle_s: int
    client_certificate: str
    client_key: str


class Route(TypedDict):
    to: str
    names: list[str]


class Relay(TypedDict):
    socket: str
    hosts: list[str]


class Gang(TypedDict):
    name: str
    family: str
    rank: int
    ranks: list[str]
    address: str
    port: int
    status_file: str
    stop_timeout_s: int
    route: Route | None
    relay: Relay | None
    watched: list[str]
    parts: list[str]
    heartbeat_s: int
    silence_s: int
    settle_s: int
    retry_s: int
    remind_s: int
    backoff_s: list[int]
    calm_s: int
    break_timeout_s: int


class Launch(TypedDict):
    schema_version: int
    digest: str
    name: str
    component: Literal["nats", "etcd", "frontend", "load_balancer", "worker", "prometheus"]
    description: str
    argv: list[str]
    working_directory: str
    log_file: str
    health: Health
    env: dict[str, str]
    env_files: list[str]
    files: list[File]
    programs: list[ProgramFile]
    directories: list[str]
    ports: list[Listener]
    user: str
    depends_on: list[str]
    cleanup: list[str]
    stop_timeout_s: int
    open_files: int
    lock_memory: bool
    shares_descriptors: bool
    reads: list[str]
    gang: Gang | None
    stop_signal: Literal["SIGTERM", "SIGUSR1"]
    reload_signal: Literal["", "SIGUSR2"]


HIDDEN = "********"
SCHEMA_VERSION = 2
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# What configuration files of supervisord and systemd, and first lines of scripts, all take without quoting.
_STATE_DIR = re.compile(r"/[A-Za-z0-9._@+%~/-]*[A-Za-z0-9._@+%~-]")
# A Unix socket's path has at most 107 bytes; supervisord first binds it with ".<pid>" appended.
SOCKET = "supervisor/supervisord.sock"
STATE_DIR_MAX = 107 - len("/" + SOCKET) - len(".4194304")


def service_dir(state_dir: str, name: str) -> Path:
    return Path(state_dir) / "services" / name


def launch_json(state_dir: str, name: str) -> Path:
    return service_dir(state_dir, name) / "launch.json"


def names(state_dir: str) -> list[str]:
    """Return the services that have a launch.json, sorted."""
    return sorted(path.parent.name for path in Path(state_dir).glob("services/*/launch.json"))


def load(state_dir: str, name: str) -> Launch | None:
    """Return what was configured for the service; None where there is nothing readable."""
    try:
        launch = cast("Launch", json.loads(launch_json(state_dir, name).read_text()))
    except (OSError, ValueError):
        return None
    return launch


def select(
    state_dir: str, launches: Sequence[Launch] | None, wanted: Sequence[str] | None
) -> dict[str, Launch]:
    """Return the launches meant by a module's options: those given, else those of the names, else all."""
    if launches is not None:
        return {launch["name"]: launch for launch in launches}
    chosen = names(state_dir) if wanted is None else wanted
    return {name: launch for name in chosen for launch in [load(state_dir, name)] if launch}


def starts(state_dir: str, name: str) -> int:
    """Return how often supervisord has started the service since it was last told to."""
    try:
        return (service_dir(state_dir, name) / STARTS).stat().st_size
    except OSError:
        return 0


def is_secret_file(file: File) -> bool:
    return file["mode"].lstrip("0") in {"600", "400"}


def secrets(launches: Sequence[Launch]) -> set[str]:
    """Return the values that must never be shown; hiding a very short one would hide half the output."""
    values = {
        value
        for path in {path for launch in launches for path in launch.get("env_files", [])}
        for name, value in readable_environment(path).items()
        if not name.endswith("_USERNAME")
    }
    values |= {
        file["content"] for launch in launches for file in launch.get("files", []) if is_secret_file(file)
    }
    return {value for value in values if len(value) > 3}


def shown(launch: Launch | None) -> str:
    """Return launch.json as a diff may show it: contents of files are left to their own diffs."""
    if launch is None:
        return ""
    view = dict(launch)
    view["files"] = [{"path": file["path"], "mode": file["mode"]} for file in launch["files"]]
    return json.dumps(view, indent=2, sort_keys=True) + "\n"


def without_secrets(launch: Launch) -> Launch:
    """Return a launch without the contents of secret files."""
    files = [{**file, "content": HIDDEN} if is_secret_file(file) else file for file in launch["files"]]
    return cast("Launch", {**launch, "files": files})


def problems(launches: Sequence[Launch], state_dir: str, manager: str) -> list[str]:
    """Return everything that prevents these services from being set up here, each with its remedy."""
    found = []
    if not _STATE_DIR.fullmatch(state_dir) or os.path.normpath(state_dir) != state_dir:
        found.append(
            f"state_dir {state_dir!r}: must be an absolute, normal path of letters, digits and "
            "._@+%~-/ only; set wideep_state_dir to such a path"
        )
    if manager == "supervisord" and len(state_dir) > STATE_DIR_MAX:
        found.append(
            f"state_dir {state_dir}: {len(state_dir)} characters are too many for the Unix socket "
            f"{state_dir}/{SOCKET} (limit of the kernel: 107 bytes); "
            f"set wideep_state_dir to a path of at most {STATE_DIR_MAX} characters, such as /var/tmp/wideep"
        )
    seen: set[str] = set()
    for launch in launches:
        name = str(launch.get("name", "?"))
        where = f"service {name}"
        if launch.get("schema_version") != SCHEMA_VERSION:
            found.append(
                f"{where}: launch has schema_version {launch.get('schema_version')}, this collection reads "
                f"{SCHEMA_VERSION}; render it again with the installed version"
            )
            continue
        if not _NAME.fullmatch(name):
            found.append(f"{where}: a name is made of a-z, 0-9 and '-', at most 63 characters")
        if name in seen:
            found.append(f"{where}: given twice for this host; names must differ")
        seen.add(name)
        if not launch["argv"]:
            found.append(f"{where}: argv is empty")
        found += [
            f"{where}: {what} must be an absolute path, is {path!r}"
            for what, path in [
                ("working_directory", launch["working_directory"]),
                ("log_file", launch["log_file"]),
                *(("a file", file["path"]) for file in launch["files"]),
                *(("a directory", path) for path in launch["directories"]),
                *(("a program", program["path"]) for program in launch["programs"]),
            ]
            if not path.startswith("/")
        ]
        found += _user_problems(where, launch["user"])
    return found


def _user_problems(where: str, user: str) -> list[str]:
    if not user:
        return []
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return [f"{where}: user {user!r} does not exist on this host; create it or leave the user empty"]
    if os.geteuid() not in (0, uid):
        return [
            f"{where}: shall run as user {user!r}, but we are uid {os.geteuid()} and not root; "
            "use become or leave the user empty"
        ]
    return []


def text(launch: Launch) -> str:
    """Return the content of launch.json."""
    return json.dumps(launch, indent=1, sort_keys=True) + "\n"
