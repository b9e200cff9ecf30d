"""Configure, start, stop and remove services: only what differs, all at once, told in words."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Dict  # noqa: UP035

from ansible_collections.wideep.dynamo.plugins.module_utils import process, programs
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.health import is_stale
from ansible_collections.wideep.dynamo.plugins.module_utils.launch import (
    Launch,
    launch_json,
    load,
    names,
    service_dir,
    shown,
    text,
)
from ansible_collections.wideep.dynamo.plugins.module_utils.status import ServiceError, runs_as_configured

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ansible_collections.wideep.dynamo.plugins.module_utils.status import Manager

Actions = Dict[str, str]  # noqa: UP006 - service: what was done and why
_GRACE_S = 10.0


def configured(files: Files, launch: Launch, state_dir: str) -> None:
    """Bring directories, files and launch.json of one service to what the launch says."""
    name, user = launch["name"], launch["user"]
    old = load(state_dir, name)
    files.directory(service_dir(state_dir, name), 0o755)
    files.directory(Path(launch["log_file"]).parent, 0o750, keep_mode=True)
    files.directory(launch["working_directory"], 0o750, user, keep_mode=True)
    for path in launch["directories"]:
        files.directory(path, 0o750, user, keep_mode=True)
    for file in launch["files"]:
        files.file(file["path"], file["content"], int(file["mode"], 8), user)
    kept = {file["path"] for file in launch["files"]}
    for file in old["files"] if old else []:
        if file["path"] not in kept:
            files.remove(file["path"])
    for path in old["directories"] if old else []:
        own = Path(path).parent == service_dir(state_dir, name)
        if own and path not in launch["directories"]:
            files.remove(path)
    # Last: it is the record of the files above, should we be interrupted.
    views = (shown(old), shown(launch))
    # A rank reads what it has to know of its gang.
    mode = 0o640 if user and launch["gang"] else 0o600
    files.file(launch_json(state_dir, name), text(launch), mode, reader=user, shown=views)


def started(
    manager: Manager,
    launches: Mapping[str, Launch],
    *,
    check: bool,
    changing: Collection[str] = (),
    again: Collection[str] = (),
) -> Actions:
    """Start what does not run, restart what runs otherwise than its launch says; do not wait for health.

    changing: files of environment that a check did not change, and a run would have. again: what restarts
    although nothing differs.
    """
    actions: Actions = {}
    running = set()
    reloaded: dict[str, int] = {}
    for name, status in manager.status(launches).items():
        if status.pid and status.state in ("running", "starting"):
            soon = set(launches[name].get("env_files") or ()) & set(changing)
            current = not soon and runs_as_configured(launches[name], status.pid, manager.state_dir)
            if current and name not in again:
                if launches[name].get("reload_signal") and is_stale(launches[name]["health"]):
                    reloaded[name] = status.pid
                continue
            running.add(name)
            actions[name] = f"restarted: {'asked for' if current else 'its configuration changed'}"
        elif status.state in ("failed", "stopping"):
            running.add(name)
            actions[name] = f"restarted: it {status.detail or 'was stopping'}"
        else:
            actions[name] = "started"
    orphans = _orphans(manager, launches, actions)
    _tell(actions, orphans)
    told = dict.fromkeys(reloaded, "reloaded: its files changed")
    if check or not (actions or told):
        return {**told, **actions}
    for name, pid in reloaded.items():
        os.kill(pid, getattr(signal, launches[name]["reload_signal"]))
    due = {name: launch for name, launch in launches.items() if name in actions}
    if due:
        did = manager.prepare()
        if did:
            actions[manager.kind] = "; ".join(did)
    if running:
        manager.stop({name: due[name] for name in running})
    # Also the children of what was stopped just now.
    _end({*orphans, *_orphans(manager, launches, due)})
    if due:
        manager.start(due)
    return {**told, **actions}


def tidied(
    manager: Manager, launches: Mapping[str, Launch], *, started: Collection[str], check: bool
) -> Actions:
    """Remove the programs that no service calls any more, now that these launches have been started.

    started: the services that were. In a check they would be: what runs of them now does not count.
    """
    files = Files(check)
    for path in programs.unused(manager, launches, gone=started if check else ()):
        files.remove(path)
    names = ", ".join(Path(path).name for path in files.paths)
    return {programs.DIRECTORY: f"removed {names}, which no service calls any more"} if names else {}


def stopped(manager: Manager, launches: Mapping[str, Launch], *, check: bool) -> Actions:
    """Stop what runs, with what is left over of it, and wait until it is gone."""
    statuses = manager.status(launches)
    due = {
        name: launches[name] for name, status in statuses.items() if status.state not in ("stopped", "absent")
    }
    actions: Actions = dict.fromkeys(due, "stopped")
    orphans = _orphans(manager, launches, launches)
    _tell(actions, orphans)
    if check or not actions:
        return actions
    if due:
        manager.stop(due)
    _end({*orphans, *_orphans(manager, launches, launches)})
    return actions


def absent(
    manager: Manager, launches: Mapping[str, Launch], *, whole: bool, purge: bool, check: bool
) -> Actions:
    """Stop and remove the services; with `whole` they are all that the deployment has here."""
    state = Path(manager.state_dir)
    # What was configured counts, not what is planned now.
    launches = {name: load(manager.state_dir, name) or launch for name, launch in launches.items()}
    actions = stopped(manager, launches, check=check)
    if whole:
        strays = process.leftovers(manager.state_dir, manager.owned(launches) if launches else set())
        _tell(actions, {pid: name for pid, name in strays.items() if name not in actions})
        if not check:
            _end(strays)
    files = Files(check)
    manager.unconfigure(files, launches)
    for name, launch in launches.items():
        before = len(files.changes)
        for file in launch["files"]:
            files.remove(file["path"])
        files.remove(service_dir(manager.state_dir, name))
        gone = ["removed"] if len(files.changes) > before else []
        if purge:
            before = len(files.changes)
            log = Path(launch["log_file"])
            for path in [state / "data" / name, *log.parent.glob(f"{log.name}*")]:
                files.remove(path)
            gone += ["data and logs deleted"] if len(files.changes) > before else []
        if gone:
            actions[name] = ", ".join([*([actions[name]] if name in actions else []), *gone])
    for path in programs.unused(manager, {}, gone=launches):
        files.remove(path)
    if files.changes and not actions:
        actions[manager.kind] = "removed what was left of its configuration"
    if not check:
        for folder in ("services", programs.DIRECTORY, "data", "log"):
            if (state / folder).is_dir() and not any((state / folder).iterdir()):
                (state / folder).rmdir()
    return actions


def _orphans(manager: Manager, launches: Mapping[str, Launch], due: Iterable[str]) -> dict[int, str]:
    """Processes that nobody owns: of services that are due, and of services that are not configured any more.

    A helper that a healthy service has sent into the background is left alone.
    """
    configured = {*names(manager.state_dir), *launches}
    found = process.leftovers(manager.state_dir, manager.owned(configured))
    return {pid: name for pid, name in found.items() if name in due or name not in configured}


def _tell(actions: Actions, orphans: Mapping[int, str]) -> None:
    for name in sorted(set(orphans.values())):
        pids = ", ".join(str(pid) for pid in sorted(orphans) if orphans[pid] == name)
        ended = f"ended leftover processes that nothing supervised (pid {pids})"
        actions[name] = f"{actions[name]}; {ended}" if name in actions else ended


def _end(orphans: Iterable[int]) -> None:
    left = process.end(orphans, _GRACE_S)
    if left:
        raise ServiceError(
            f"processes left over from this deployment cannot be ended: pid {', '.join(map(str, left))}; "
            "they are stuck in the kernel or belong to another user"
        )
