"""Programs that launches call (`wideep.programs`), installed once on a host by their digests."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ansible_collections.wideep.dynamo.plugins.module_utils import process
from ansible_collections.wideep.dynamo.plugins.module_utils.launch import launch_json, select

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
    from ansible_collections.wideep.dynamo.plugins.module_utils.launch import Launch
    from ansible_collections.wideep.dynamo.plugins.module_utils.status import Manager


class Program(TypedDict):
    """One that was sent. content: base64."""

    path: str
    digest: str
    content: str


DIRECTORY = "programs"


def named(launch: Launch) -> dict[str, str]:
    """Return path -> digest of the programs that a launch calls; schema 1 knew none."""
    return {program["path"]: program["digest"] for program in launch.get("programs") or []}


def problems(launches: Iterable[Launch], given: Sequence[Program]) -> list[str]:
    """Return which programs the launches call that are neither given nor here, or that are not theirs."""
    there = {program["path"]: program["digest"] for program in given}
    return [
        f"service {launch['name']}: {path} with digest {digest[:12]} is not on this host and was not sent;"
        " render the launch again with the installed version"
        for launch in launches
        for path, digest in named(launch).items()
        if (there[path] if path in there else _digest(path)) != digest
    ]


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def install(files: Files, given: Sequence[Program]) -> None:
    """Put the programs in their places."""
    for program in given:
        path = Path(program["path"])
        files.directory(path.parent, 0o755)
        files.file(path, base64.b64decode(program["content"]), shown=("", f"{path.name}\n"))


def unused(manager: Manager, planned: Mapping[str, Launch], gone: Collection[str] = ()) -> list[Path]:
    """Return the programs that no service calls any more; none where a service might that still runs.

    planned: launches that count beside those that are written. gone: services that do not count, nor what
    runs of them. A worker may run as an earlier launch said, where it was started before the present one was
    written; which programs that one named is not known any more.
    """
    folder = Path(manager.state_dir) / DIRECTORY
    present = set(folder.iterdir()) if folder.is_dir() else set()
    if not present:
        return []
    written = select(manager.state_dir, None, None)
    kept = {name: launch for name, launch in written.items() if name not in gone}
    called = {Path(path) for launch in (*planned.values(), *kept.values()) for path in named(launch)}
    if not present - called:
        return []
    workers = [name for name, launch in kept.items() if launch["component"] == "worker"]
    running = {(status.pid, name) for name, status in manager.status(workers).items() if status.pid}
    running |= set(process.leftovers(manager.state_dir, set()).items())
    since = {name: launch_json(manager.state_dir, name).stat().st_mtime for name in workers}
    older = any(name in since and process.start_time(pid) <= since[name] for pid, name in running)
    return [] if older else sorted(present - called)
