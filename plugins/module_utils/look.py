"""What a host has of a deployment, and what a run would change there: judged by the code that changes it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.wideep.dynamo.plugins.module_utils import process
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.health import observe
from ansible_collections.wideep.dynamo.plugins.module_utils.launch import (
    SCHEMA_VERSION,
    problems,
    select,
    text,
    without_secrets,
)
from ansible_collections.wideep.dynamo.plugins.module_utils.operations import configured, started, tidied
from ansible_collections.wideep.dynamo.plugins.module_utils.python_env import Request, is_current, read_stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ansible_collections.wideep.dynamo.plugins.module_utils.launch import Launch
    from ansible_collections.wideep.dynamo.plugins.module_utils.status import Manager

PLACES = "/usr/sbin:/sbin"  # of programs that users' PATH leaves out


def services(
    manager: Manager, host: str, planned: Mapping[str, Launch], common: Files, changing: Collection[str]
) -> dict[str, Any]:
    """Return what is there of services, in the form of wideep.changes.look.HostLook.

    host: its name in the inventory. common: a check of what all of them need. changing: files of secrets that
    a run would write.
    """
    state_dir = manager.state_dir
    there = select(state_dir, None, None)
    rows = observe(manager, there)
    seen = {row["name"]: row for row in rows}
    wrong = problems(list(planned.values()), state_dir, manager.kind)
    actions: dict[str, str] = {}
    as_is: dict[str, str] = {}
    other = list(wrong)
    # What would be done for them as they are, whatever is planned.
    others = {name: launch for name, launch in there.items() if launch != planned.get(name)}
    if not wrong:
        manager.configure(common, {})
        actions = started(manager, planned, check=True, changing=changing)
        as_is = started(manager, others, check=True, changing=changing) if others else {}
        gone = tidied(manager, planned, started=list(actions), check=True)
        other += [f"{name}: {words}" for name, words in gone.items()]

    def one(name: str) -> dict[str, Any]:
        found = _found(host, there.get(name) or planned[name], seen.get(name))
        if name in there:
            found["launch"] = without_secrets(there[name])
            found["content"] = _digest(text(there[name]))
            found["as_is"] = as_is.get(name, "") if name in others else actions.get(name, "")
            readable = not wrong and there[name].get("schema_version") == SCHEMA_VERSION
            found["drift"] = _changes(manager, there[name], common) if readable else []
        if name not in planned:
            return {**found, "configured": there[name]["digest"], "before": without_secrets(there[name])}
        launch, before = planned[name], there.get(name)
        differs = found["drift"] if before and name not in others else []
        if not wrong and not (before and name not in others):
            differs = _changes(manager, launch, common)
        if before and before["digest"] != launch["digest"]:
            found["before"] = without_secrets(before)
        found["configured"] = before["digest"] if before else ""
        return {
            **found,
            "planned": launch["digest"],
            "judged": _digest(text(launch)),
            "starts": actions.pop(name, ""),
            "differs": differs,
        }

    return {
        "services": [one(name) for name in planned],
        "unplanned": [one(name) for name in there if name not in planned],
        # What is left of actions is about services that nothing describes any more.
        "strays": [f"{name}: {words}" for name, words in sorted(actions.items())],
        "other": other,
        "manager": manager.kind,
        "rows": rows,
    }


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _found(host: str, launch: Launch, row: Mapping[str, Any] | None) -> dict[str, Any]:
    gang = launch.get("gang")
    ports = [listener["port"] for listener in launch["ports"]]
    found: dict[str, Any] = {
        "name": launch["name"],
        "component": launch["component"],
        "port": min(ports, default=0),
        "state": row["state"] if row else "absent",
    }
    if row:
        running = process.environment(row["pid"]).get(process.DIGEST, "") if row["pid"] else ""
        found.update(pid=row["pid"], healthy=row["healthy"], running=running)
        found["health_detail"] = row["health_detail"]
    if launch["component"] == "worker":
        # The name has the deployment's before it.
        found["gang"] = gang["name"].rpartition("/")[2] if gang else launch["name"]
        found["rank"] = gang["rank"] if gang else 0
        found["ranks"] = gang["ranks"] if gang else [host]
    return found


def _changes(manager: Manager, launch: Launch, common: Files) -> list[str]:
    files = Files(True)
    configured(files, launch, manager.state_dir)
    manager.configure(files, {launch["name"]: launch})
    return [change for change in files.changes if change not in common.changes]


def wanted(item: Mapping[str, Any]) -> str:
    """Return what a run would do about something that services need, '' where it is there.

    item: has one of the keys below.
    """
    return next(judge(item) for key, judge in _JUDGES.items() if key in item)


def _environment(item: Mapping[str, Any]) -> str:
    path = Path(item["environment"])
    request = Request(path, "", python=item.get("python", "auto"), imports=tuple(item.get("imports", ())))
    if is_current(request, item["digest"]):
        return ""
    name, _, version = path.name.rpartition("-")
    others = [
        other.name[len(name) + 1 :] for other in sorted(path.parent.glob(f"{name}-*")) if read_stamp(other)
    ]
    if version in others:
        return f"{name} {version}: another lock file or interpreter"
    return f"{name} {', '.join(others)} → {version}" if others else f"{name} {version}: new"


def _program(item: Mapping[str, Any]) -> str:
    name = item["program"]
    where = shutil.which(name) or shutil.which(name, path=PLACES)
    return "" if where else f"{name}: is not there"


def _image(item: Mapping[str, Any]) -> str:
    from ansible_collections.wideep.dynamo.plugins.module_utils.container_image import (  # noqa: PLC0415
        ImageError,
        Podman,
        present,
    )

    try:
        changed, text, _ = present(
            Podman(item["podman"]), item["image"], item["pull"], item["archive"], "", True
        )
    except ImageError as problem:
        return str(problem)
    # Whoever wants that wants it at each run.
    asked = item["pull"] == "always" and not item["archive"]
    return f"image {item['image']}: {text}" if changed or asked else ""


def _packages(item: Mapping[str, Any]) -> str:
    from ansible_collections.wideep.dynamo.plugins.module_utils.python_packages import (  # noqa: PLC0415
        AskError,
        ask,
        compare,
    )

    try:
        missing, other = compare(item["packages"], ask(item["python"], item["packages"]))
    except AskError as problem:
        return str(problem)
    words = [f"{name} is {version}" for name, version in other.items()] + [f"{n} is missing" for n in missing]
    return f"{item['python']}: {', '.join(words)}" if words else ""


def _directory(item: Mapping[str, Any]) -> str:
    from ansible_collections.wideep.dynamo.plugins.module_utils.model_files import (  # noqa: PLC0415
        differing,
    )

    missing = differing(item["directory"], item["digests"])
    return f"model {item['directory']}: {', '.join(missing)}" if missing else ""


def _download(item: Mapping[str, Any]) -> str:
    from ansible_collections.wideep.dynamo.plugins.module_utils.model_download import (  # noqa: PLC0415
        identity,
        is_complete,
    )

    job = {**item["download"], "path": item["path"]}
    if is_complete(job) and not item.get("again"):
        return ""
    return f"model {item['path']}: {identity(job)} is downloaded"


def _accounts(item: Mapping[str, Any]) -> str:
    from ansible_collections.wideep.dynamo.plugins.module_utils.etcd_auth import (  # noqa: PLC0415
        Accounts,
        EtcdError,
        recorded,
        settle,
    )

    record, user = Path(item["record"]), item.get("user", "")
    accounts, files = Accounts(item["accounts"], check=True), Files(True)
    try:
        secrets = (user, item.get("password", ""), item.get("root_password", ""))
        settle(accounts, files, record, recorded(record), secrets)
    except EtcdError as problem:
        # The first run has no etcd to ask, and one that does not answer is started.
        if "no answer" in str(problem):
            return f"accounts of etcd: {user}" if user else ""
        return str(problem)
    except (OSError, ValueError) as problem:
        return f"{record}: {getattr(problem, 'strerror', None) or 'it is damaged'}"
    return ", ".join(accounts.changes + files.changes)


_JUDGES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "environment": _environment,
    "program": _program,
    "image": _image,
    "packages": _packages,
    "directory": _directory,
    "download": _download,
    "accounts": _accounts,
}
