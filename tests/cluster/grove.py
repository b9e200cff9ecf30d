"""What Dynamo's operator and Grove put between a graph and its pods, for the test controller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GROUP, VERSION = "grove.io", "v1alpha1"
PLURALS = {
    "PodCliqueSet": "podcliquesets",
    "PodCliqueScalingGroup": "podcliquescalinggroups",
    "PodClique": "podcliques",
}
Object = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """A component: `replicas` times pods of the templates, of which those after the first are other ranks.

    others: number of other ranks; ready: replicas that are.
    """

    name: str
    replicas: int
    leader: Object
    worker: Object
    others: int
    ready: int

    @property
    def roles(self) -> dict[str, tuple[Object, int]]:
        """Return role -> its pod's template, and how many of them."""
        name = self.name.lower()
        if not self.others:
            return {name: (self.leader, self.replicas)}
        return {f"{name}-ldr": (self.leader, 1), f"{name}-wkr": (self.worker, self.others)}


def objects(name: str, groups: Sequence[Group]) -> Iterator[tuple[str, str, Object, Object]]:
    """Yield (kind, name, spec, status) of all objects of a graph."""
    ready = all(group.ready == group.replicas for group in groups)
    done = {"availableReplicas": int(ready), "updatedReplicas": 1, "replicas": 1}
    yield "PodCliqueSet", name, {"replicas": 1, "template": _template(groups)}, done
    for group in groups:
        own = f"{name}-0-{group.name.lower()}"
        if not group.others:
            yield "PodClique", own, _clique(*group.roles.popitem()), _counted(group.replicas, group.ready)
            continue
        counts = {"scheduledReplicas": group.replicas, "updatedReplicas": group.replicas}
        spec = {"replicas": group.replicas, "minAvailable": 1, "cliqueNames": list(group.roles)}
        yield (
            "PodCliqueScalingGroup",
            own,
            spec,
            {
                **counts,
                "replicas": group.replicas,
                "availableReplicas": group.ready,
            },
        )
        for replica in range(group.replicas):
            for role, (pod, count) in group.roles.items():
                up = count if replica < group.ready else 0
                yield "PodClique", f"{own}-{replica}-{role}", _clique(role, (pod, count)), _counted(count, up)


def _template(groups: Sequence[Group]) -> Object:
    cliques = [
        {"name": role, "spec": _clique(role, own)} for group in groups for role, own in group.roles.items()
    ]
    scaled = [
        {"name": g.name.lower(), "cliqueNames": list(g.roles), "replicas": g.replicas, "minAvailable": 1}
        for g in groups
        if g.others
    ]
    return {"cliques": cliques, "podCliqueScalingGroups": scaled}


def _clique(role: str, own: tuple[Object, int]) -> Object:
    pod, count = own
    return {"roleName": role, "podSpec": pod, "replicas": count, "minAvailable": count or 1}


def _counted(count: int, ready: int) -> Object:
    return {
        "replicas": count,
        "readyReplicas": ready,
        "scheduledReplicas": count,
        "scheduleGatedReplicas": 0,
        "updatedReplicas": count,
    }


def metadata(graph: Mapping[str, Any], name: str, owner: Object, labels: Mapping[str, str]) -> Object:
    """Return the metadata of an object of a graph."""
    return {
        "name": name,
        "namespace": graph["metadata"]["namespace"],
        "labels": dict(labels),
        "ownerReferences": [owner],
    }
