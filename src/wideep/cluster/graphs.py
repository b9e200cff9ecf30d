"""What of a running graph no run may change: the operator refuses it, or old pods stay beside the new ones.

Seen with the operator of 1.4 and 1.5, and Grove.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wideep.cluster.access import Cluster
from wideep.cluster.objects import path_of
from wideep.kubernetes.names import FIELD_MANAGER
from wideep.problems import Problem

TEARDOWN = "run teardown first (wideep_keep_state: true keeps the model)"


def unchangeable(cluster: Cluster, items: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Return what graphs that are there do not let the new ones change."""
    problems = []
    for item in items:
        there = cluster.get(path_of(item)) if item["kind"] == "DynamoGraphDeployment" else None
        if there:
            where = f"DynamoGraphDeployment {item['metadata']['name']}"
            problems += [Problem(message, where, remedy) for message, remedy in _api(there, item)]
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
    message = f"it was made in {before}, and the operator does not let {wanted} change it"
    return [(message, f"{TEARDOWN}, or set wideep_graph_api: {before.rpartition('/')[2]}")]
