"""What an apply will do to a running graph's pods, told before it is done.

How pods are replaced is upstream's: Grove and LeaderWorkerSets replace replicas of several pods in their
place, one at a time, and start none beside them; a Deployment (single pods without Grove) starts the new one
first, where there are GPUs for it. Neither keeps prefill and decode in proportion. The operator puts a change
of any worker into the namespace of all of them, so all are replaced, and no KV cache goes from one version to
the other; a version serves once both its pools do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from wideep.cluster.access import Cluster
from wideep.cluster.objects import GENERATION, of_generation, path_of
from wideep.cluster.rollout import as_scaled, components, pod_metadata, replicas, stamped
from wideep.kubernetes.names import ENABLE_GROVE, ROLE, TEMPLATE
from wideep.reports.text import print_table

Object = Mapping[str, Any]

BESIDE = (
    "To change it without a pause: deploy it beside this one under another wideep_deployment, send users"
    " there, then remove this one (docs/how-to/kubernetes.md)."
)


@dataclass(frozen=True)
class Change:
    """What becomes of one component. left: replicas that serve at the worst moment. what: that differs."""

    component: str
    before: int
    after: int
    rolls: bool
    left: int
    how: str
    what: tuple[str, ...] = ()

    @property
    def pauses(self) -> bool:
        """Whether nothing of it serves for a while, although something did and something shall."""
        return bool(self.before and self.after) and self.left == 0


def changes(there: Object | None, wanted: Object) -> tuple[Change, ...]:
    """Return what an apply changes, by component; nothing where there is no graph, or no difference.

    wanted: as it is applied (`wideep.cluster.rollout.stamped`).
    """
    if there is None:
        return ()
    before, after = dict(components(there)), dict(components(wanted))
    grove = (wanted["metadata"].get("annotations") or {}).get(ENABLE_GROVE) == "true"
    workers = any(
        _works(new) and name in before and _word(before[name]) != _word(new) for name, new in after.items()
    )
    found = []
    for name in (*after, *(name for name in before if name not in after)):
        old, new = before.get(name), after.get(name)
        change = _change(name, old, new, grove=grove, along=workers and new is not None and _works(new))
        if change.rolls or change.before != change.after:
            found.append(change)
    return tuple(found)


def of_graph(cluster: Cluster, graph: Object) -> tuple[Object | None, tuple[Change, ...]]:
    """Return the graph that is there, and what an apply of a planned one changes. Secrets stay the same."""
    there = cluster.get(path_of(graph))
    words = [(pod_metadata(one).get("annotations") or {}) for _, one in components(there or {})]
    same = next((word[GENERATION] for word in words if GENERATION in word), "")
    return there, against(there, stamped(of_generation([graph], same)[0]))[1]


def against(there: Object | None, wanted: Object) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """Return what is applied, with replicas as others have scaled them, and what that changes."""
    made = as_scaled(wanted, there)
    return made, changes(there, made)


def _change(name: str, old: Object | None, new: Object | None, *, grove: bool, along: bool) -> Change:
    """Return what becomes of a component. along: it is replaced because another one is."""
    count = replicas(old) if old is not None else 0
    target = replicas(new) if new is not None else 0
    if old is None or new is None:
        how = "new" if old is None else "goes"
        return Change(name, count, target, rolls=False, left=min(count, target), how=how)
    same = _word(old) == _word(new)
    if same and not along:
        how = "the others go on" if target > count else "the last ones go"
        return Change(name, count, target, rolls=False, left=min(count, target), how=how)
    nodes = int((new.get("multinode") or {}).get("nodeCount") or 1)
    if grove or nodes > 1:
        each = "replica" if nodes == 1 else f"replica of {nodes} pods"
        how, left = f"in place, one {each} at a time", max(0, min(count, target) - 1)
    else:
        how, left = "the new pod first, then the old one goes", min(count, target)
    what = ("with the other workers",) if same else tuple(_differs(old, new))
    return Change(name, count, target, rolls=True, left=left, how=how, what=what)


def _works(component: Object) -> bool:
    return (pod_metadata(component).get("labels") or {}).get(ROLE) == "worker"


def _word(component: Object) -> str:
    return str((pod_metadata(component).get("annotations") or {}).get(TEMPLATE, ""))


def _differs(old: Object, new: Object) -> list[str]:
    """Return which parts of the pods differ."""
    ours, theirs = _container(new), _container(old)
    found = [key for key in ("image", "command", "args", "resources") if ours.get(key) != theirs.get(key)]
    env = [{entry["name"]: entry for entry in one.get("env") or ()} for one in (theirs, ours)]
    found += [f"env {name}" for name in sorted({*env[0], *env[1]}) if env[0].get(name) != env[1].get(name)]
    return found or ["template"]


def _container(component: Object) -> Object:
    """Return the container that works, in either version of the API."""
    if "podTemplate" in component:
        each = ((component["podTemplate"] or {}).get("spec") or {}).get("containers") or []
        return next((one for one in each if one.get("name") == "main"), {})
    own = dict((component.get("extraPodSpec") or {}).get("mainContainer") or {})
    env = [*(component.get("envs") or ()), *(own.get("env") or ())]
    return own | {"env": env, "resources": component.get("resources")}


def told(name: str, found: Sequence[Change]) -> str:
    """Return the changes as a table, with what users will notice; empty without changes."""
    if not found:
        return ""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("COMPONENT", "REPLICAS", "PODS", "HOW", "SERVING MEANWHILE"):
        table.add_column(column, no_wrap=True)
    for one in found:
        size = str(one.after) if one.before == one.after else f"{one.before} → {one.after}"
        pods = f"new: {', '.join(one.what[:4])}{' …' if len(one.what) > 4 else ''}" if one.rolls else "same"
        table.add_row(one.component, size, pods, one.how, f"{one.left} of {one.before}")
    lines = [f"What changes in {name}", "", print_table(table)]
    if pausing := [one.component for one in found if one.pauses]:
        verb = "has" if len(pausing) == 1 else "have"
        lines.append(
            f"{', '.join(pausing)} {verb} one replica: requests fail while its new one starts. {BESIDE}\n"
        )
    return "\n".join(lines)
