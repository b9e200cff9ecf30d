"""The values of the platform's Helm release. A cluster has one operator, so all deployments share it.

What a deployment needs is added to what the release has; no deployment takes anything away.

Read in ai-dynamo/dynamo, deploy/helm/charts/platform and deploy/operator/cmd/main.go (1.3 to 1.6; no
archive was at hand): Grove and KAI are on or off as the values say, and an operator that is told of one
whose API is not there exits. LeaderWorkerSet has no value: it is used where its API and Volcano's are there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wideep.problems import Problem, suggest
from wideep.published import Published

KAI = "kai-scheduler"
# The queue that the operator wants for graphs that name none, once KAI is on.
KAI_QUEUE = "dynamo"
# Plane -> key below `global`, key below `dynamo-operator`.
PLANES = {"nats": "natsAddr", "etcd": "etcdAddr"}
VARIABLES = {"nats": "wideep_request_plane, wideep_event_plane", "etcd": "wideep_discovery"}
Values = dict[str, Any]


@dataclass(frozen=True)
class Platform:
    """The variables of role `platform`."""

    install: bool = True
    namespace: str = "dynamo-system"
    release: str = "dynamo-platform"
    chart_ref: str = ""
    chart_repo_url: str = ""
    chart_version: str = ""
    helm: str = ""
    install_orchestrator: bool = True
    nats_address: str = ""
    etcd_address: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def address(self, plane: str) -> str:
        """Return the address that is given for a plane of PLANES."""
        return {"nats": self.nats_address, "etcd": self.etcd_address}[plane]


@dataclass(frozen=True)
class Release:
    """What a cluster has. values: as given to Helm; None where there is no release. others: other graphs."""

    values: Mapping[str, Any] | None = None
    others: tuple[str, ...] = ()


def uses(plan: Published, plane: str) -> bool:
    """Whether a deployment needs a plane of PLANES."""
    return {"nats": plan.settings.uses_nats, "etcd": plan.settings.uses_etcd}[plane]


def queue(plan: Published) -> str:
    """Return the queue of the KAI scheduler that a deployment is placed by; empty without KAI."""
    own = plan.settings.kubernetes
    return own.queue or (KAI_QUEUE if own.scheduler == KAI else "")


def at(tree: Mapping[str, Any] | None, *path: str) -> Any:
    """Return what stands at a path; None where nothing does."""
    found: Any = tree
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """Return two trees as one; `above` wins, key by key."""
    made = copy.deepcopy(dict(below))
    for name, value in above.items():
        there = made.get(name)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            made[name] = merged(there, value)
        else:
            made[name] = copy.deepcopy(value)
    return made


def values(plan: Published, platform: Platform, there: Mapping[str, Any] | None) -> Values:
    """Return the release's values: what is there, what the deployment needs, `platform_values` over all."""
    grove = plan.settings.kubernetes.uses_grove(several_nodes=plan.several_nodes)
    switches: dict[str, dict[str, bool]] = {
        "grove": {"install": grove and platform.install_orchestrator, "enabled": grove},
        KAI: {"install": False, "enabled": bool(queue(plan))},
    }
    # Each graph says its own discovery by an annotation: this is for graphs that say nothing.
    discovery = at(there, "dynamo-operator", "discoveryBackend") or plan.settings.discovery
    operator = {"discoveryBackend": discovery}
    for plane, key in PLANES.items():
        given = platform.address(plane) if uses(plan, plane) else ""
        operator[key] = given or at(there, "dynamo-operator", key) or ""
        switches[plane] = {"install": uses(plan, plane) and not operator[key]}
    for name, own in switches.items():
        for switch in own:
            own[switch] = own[switch] or bool(at(there, "global", name, switch))
    needed = {"global": switches, "dynamo-operator": operator}
    return merged(merged(there or {}, needed), platform.values)


def changes(release: Release, wanted: Mapping[str, Any]) -> list[str]:
    """Return what an upgrade would change in the values of a release that is there."""
    if release.values is None:
        return []
    before = dict(_leaves(release.values))
    # What a value takes the place of may have been a mapping.
    was = {path: at(release.values, *path) for path, _ in _leaves(wanted)}
    return [
        f"{'.'.join(path)}: {json.dumps(value)}"
        f" (was {'not set' if was[path] is None else json.dumps(was[path])})"
        for path, value in _leaves(wanted)
        if path not in before or before[path] != value
    ]


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        place = (*path, str(name))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, place)
        else:
            yield place, value


def unknown(
    given: Mapping[str, Any], known: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[Problem]:
    """Yield a warning for each name that the chart does not have: its templates pass over it in silence."""
    for name, value in given.items():
        place = (*path, str(name))
        if name not in known:
            message = f"the chart has no {'.'.join(place)}, as far as is known"
            yield Problem(message, "platform_values", suggest(str(name), known), "warning")
        elif known[name] and isinstance(value, Mapping):
            yield from unknown(value, known[name], place)


def check(plan: Published, platform: Platform, release: Release) -> list[Problem]:
    """Return what is wrong with the addresses of NATS and etcd."""
    problems = []
    wanted = values(plan, platform, release.values)
    for plane, key in PLANES.items():
        variable, given, used = f"platform_{plane}_address", platform.address(plane), uses(plan, plane)
        if given and not used:
            remedy = f"unset it, or let the deployment use it ({VARIABLES[plane]})"
            problems.append(
                Problem(f"it is {given}, but nothing of the deployment uses it", variable, remedy)
            )
        if not platform.install:
            continue
        now = _address(wanted, plane, key)
        if used and not now:
            remedy = f"remove global.{plane}.install and dynamo-operator.{key} from it, or set {variable}"
            problems.append(Problem(f"it leaves the operator without {plane}", "platform_values", remedy))
        before = _address(release.values, plane, key)
        if before and now != before and release.others:
            who = ", ".join(release.others[:3]) + (", …" if release.others[3:] else "")
            message = f"it changes the operator's {plane} from {before} to {now}, also for {who}"
            remedy = "keep the one that is there, or remove the other graphs first"
            problems.append(Problem(message, variable if given else "platform_values", remedy))
    return problems


def _address(tree: Mapping[str, Any] | None, plane: str, key: str) -> str:
    """Return where the operator finds a plane with these values; empty where nowhere."""
    installed = bool(at(tree, "global", plane, "install"))
    return str(at(tree, "dynamo-operator", key) or ("the chart's own" if installed else ""))
