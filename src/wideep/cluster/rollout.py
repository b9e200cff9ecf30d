"""Whether a graph's pods are those that its present version asks for.

The operator's word is not enough: after a change it says for some ten seconds that all is ready, of pods
that have not been replaced yet (seen with its sources of 2026-07 and 2026-08, under Grove). So the pods of
each component carry a word that changes with their template, and are counted by it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wideep.kubernetes.manifests import KIND
from wideep.kubernetes.names import COMPONENT_LABEL, DISCOVERY, POOL, TEMPLATE

Object = Mapping[str, Any]

# What of a component changes no pod (as the operator's own sum has it, ComputeDGDWorkersSpecHash).
NOT_OF_PODS = frozenset(
    {
        "replicas",
        "minAvailable",
        "scalingAdapter",
        "autoscaling",
        "modelRef",
        "eppConfig",
        "topologyConstraint",
    }
)
ENDED = frozenset({"Succeeded", "Failed"})


def components(graph: Object) -> Iterator[tuple[str, Any]]:
    """Yield (name, component) in either version of the API."""
    spec = graph.get("spec") or {}
    yield from (spec.get("services") or {}).items()
    for component in spec.get("components") or ():
        yield component["name"], component


def statuses(graph: Object) -> Mapping[str, Any]:
    """Return component -> what the operator says of it, in either version of the API."""
    status = graph.get("status") or {}
    parts: Mapping[str, Any] = status.get("services") or status.get("components") or {}
    return parts


def pod_metadata(component: Object) -> dict[str, Any]:
    """Return labels and annotations of a component's pods; it is that of the component where there is one."""
    if "podTemplate" in component:
        return dict[str, Any]((component["podTemplate"] or {}).get("metadata") or {})
    return dict[str, Any](component.get("extraPodMetadata") or {})


def stamped(item: Object) -> dict[str, Any]:
    """Return an object; where it is a graph, each component's pods say of which template they are."""
    made = copy.deepcopy(dict(item))
    if made["kind"] != KIND:
        return made
    digests = {name: _digest(made, component) for name, component in components(made)}
    for name, component in components(made):
        metadata = component.get("podTemplate", component)
        key = "metadata" if "podTemplate" in component else "extraPodMetadata"
        metadata.setdefault(key, {}).setdefault("annotations", {})[TEMPLATE] = digests[name]
    return made


def scaled(graph: Object) -> dict[str, int]:
    """Return component -> its replicas, of those whose number others may change."""
    return {name: replicas(own) for name, own in components(graph) if _adapter(own)}


def as_scaled(item: Object, there: Object | None) -> dict[str, Any]:
    """Return a graph with the numbers of replicas that others have given it."""
    made, now = copy.deepcopy(dict(item)), scaled(there or {})
    for name, component in components(made):
        if name in now and _adapter(component):
            component["replicas"] = now[name]
    return made


def _adapter(component: Object) -> bool:
    own = component.get("scalingAdapter")
    return own is not None and own.get("enabled", "podTemplate" in component)


def _digest(graph: Object, component: Object) -> str:
    spec = graph["spec"]
    common = [spec.get(key) for key in ("backendFramework", "env", "envs")]
    discovery = (graph["metadata"].get("annotations") or {}).get(DISCOVERY)
    own = {key: value for key, value in component.items() if key not in NOT_OF_PODS}
    text = json.dumps([own, common, discovery], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def current(graph: Object, pods: Iterable[Object]) -> list[Object]:
    """Return the pods that are neither ending nor of a template before the present one."""
    digests = _digests(graph)
    return [pod for pod in pods if not _ends(pod) and _is_current(pod, digests)]


def lacks(graph: Object, pods: Sequence[Object]) -> list[str]:
    """Return what is not yet as the graph asks for, in words; nothing where all its pods are there.

    Whether they are ready is not asked. Of a graph without our words on its pods (applied by hand, or by a
    wideep before this) pods are only counted.
    """
    digests, found = _digests(graph), []
    alive = [pod for pod in pods if pod["status"].get("phase") not in ENDED]
    if ending := sum(map(_ends, alive)):
        found.append(f"{_pods(ending)} ending")
    stay = [pod for pod in alive if not _ends(pod)]
    for name, component in components(graph):
        mine = [pod for pod in stay if _part(pod) == name]
        new = sum(_is_current(pod, digests) for pod in mine)
        wanted = replicas(component) * ((component.get("multinode") or {}).get("nodeCount") or 1)
        old = len(mine) - new
        if old or new != wanted:
            before = f" ({old} from before the change)" if old else ""
            found.append(f"{name} has {new} of {_pods(wanted)}{before}")
    gone = sum(_part(pod) not in {"", *digests} for pod in stay)
    if gone:
        found.append(f"{_pods(gone)} of components that the graph no longer has")
    return found


def counts(graph: Object) -> str:
    """Return the operator's counts of ready replicas. A scaling group of Grove has available ones only."""
    parts, wanted = statuses(graph), dict(components(graph))
    found = []
    for name in (*wanted, *(name for name in parts if name not in wanted)):
        own = parts.get(name) or {}
        ready = own.get("readyReplicas", own.get("availableReplicas", 0))
        of = replicas(wanted[name]) if name in wanted else own.get("replicas", 0)
        found.append(f"{name} {ready}/{of}")
    return ", ".join(found)


def runtime_namespaces(graph: Object) -> dict[str, str]:
    """Return component -> namespace of Dynamo in which its workers register, of those that the operator says.

    Workers may have one that changes with their generation.
    """
    found = {name: str(own.get("runtimeNamespace") or "") for name, own in statuses(graph).items()}
    return {name: namespace for name, namespace in found.items() if namespace}


def replicas(component: Object) -> int:
    """Return how many a component shall have."""
    return int(component.get("replicas", 1))


def _digests(graph: Object) -> dict[str, str]:
    """Return component -> the word of its template, empty where it has none."""
    return {
        name: (pod_metadata(component).get("annotations") or {}).get(TEMPLATE, "")
        for name, component in components(graph)
    }


def _is_current(pod: Object, digests: Mapping[str, str]) -> bool:
    wanted = digests.get(_part(pod), "")
    return not wanted or (pod["metadata"].get("annotations") or {}).get(TEMPLATE) == wanted


def _part(pod: Object) -> str:
    """Return the component that a pod is of; empty where nothing says it."""
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get(POOL) or labels.get(COMPONENT_LABEL) or "")


def _ends(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"
