"""What of a running graph no run may change: the operator refuses it, or old pods stay beside the new ones.

Seen with the operator of 1.4 and 1.5, and Grove.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wideep.cluster.access import Cluster
from wideep.cluster.objects import path_of
from wideep.cluster.rollout import statuses
from wideep.kubernetes.manifests import KIND
from wideep.kubernetes.names import ENABLE_GROVE, FIELD_MANAGER
from wideep.problems import Problem

TEARDOWN = "run teardown first (it keeps the model)"


def unchangeable(cluster: Cluster, items: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Return what graphs that are there do not let the new ones change."""
    problems = []
    for item in items:
        there = cluster.get(path_of(item)) if item["kind"] == KIND else None
        if there:
            where = f"{KIND} {item['metadata']['name']}"
            found = _api(there, item) or _orchestrator(there, item)
            problems += [Problem(message, where, remedy) for message, remedy in found]
    return problems


def _api(there: Mapping[str, Any], item: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Judge the version of the API. The server answers in any; what a graph was applied in, it remembers."""
    wanted = item["apiVersion"]
    applied = {
        entry.get("apiVersion")
        for entry in there["metadata"].get("managedFields", ())
        if entry.get("manager") == FIELD_MANAGER and not entry.get("subresource")
    }
    if not applied or wanted in applied:
        return []
    before = str(next(iter(applied)))
    message = f"it was made in {before}; after a change in {wanted} fields of the old version would stay"
    return [(message, f"{TEARDOWN}, or set wideep_graph_api: {before.rpartition('/')[2]}")]


def _orchestrator(there: Mapping[str, Any], item: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Judge what makes the pods: where a graph does not say it, its status does."""
    wanted = item["metadata"]["annotations"][ENABLE_GROVE] == "true"
    kinds = {str(part.get("componentKind", "")) for part in statuses(there).values()} - {""}
    said = (there["metadata"].get("annotations") or {}).get(ENABLE_GROVE)
    grove = said != "false" if said else any(kind.startswith("PodClique") for kind in kinds)
    if grove == wanted or not (said or kinds):
        return []
    by = "Grove" if grove else "LeaderWorkerSets" if "LeaderWorkerSet" in kinds else "Deployments"
    other = "by Grove" if wanted else "without Grove"
    return [(f"its pods are made by {by}; made {other} they would stand beside them", TEARDOWN)]
