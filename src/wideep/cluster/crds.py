"""CRDs of the platform's chart. Helm makes those of `crds/` with a release's first revision, and never again.

Without them an operator that is told of Grove or KAI later does not start, and every graph of the cluster
goes through its webhooks.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from wideep.cluster.access import Cluster, ClusterError
from wideep.cluster.helm import NAME, documents
from wideep.kubernetes.names import FIELD_MANAGER

FOLDER = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ESTABLISHED_S = 30
SOURCE = re.compile(r"^# Source: (.+)$", re.MULTILINE)
KIND = re.compile(r"^kind: *[\"']?CustomResourceDefinition\b", re.MULTILINE)


def of_chart(rendered: str, *, once: bool) -> dict[str, str]:
    """Return name -> text of the CRDs in what Helm renders.

    once: only those that Helm does not look after (of the chart's folders `crds/`).
    """
    found, source = {}, ""
    for text in documents(rendered):
        # A file may hold several, under one head.
        source = said[1] if (said := SOURCE.search(text)) else source
        helms = "/templates/" in source
        if KIND.search(text) and (name := NAME.search(text)) and not (once and helms):
            found[name[1]] = text
    return found


def wanted(cluster: Cluster, found: Mapping[str, str]) -> list[str]:
    """Return those that are missing, and those that are there by us: they keep step with the chart."""
    there = {name: cluster.get(f"{FOLDER}/{name}") for name in found}
    return [name for name, item in there.items() if item is None or _ours(item)]


def _ours(item: Mapping[str, Any]) -> bool:
    return any(entry.get("manager") == FIELD_MANAGER for entry in item["metadata"].get("managedFields", ()))


def apply(cluster: Cluster, found: Mapping[str, str], *, dry_run: bool) -> list[str]:
    """Apply what is wanted; return the names of what that changed, or would change.

    Raises:
        ClusterError: the server refuses one, or does not serve it.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    changed = []
    for name in wanted(cluster, found):
        if cluster.apply(f"{FOLDER}/{name}", yaml.load(found[name], loader), dry_run=dry_run):  # noqa: S506
            changed.append(name)
    if not dry_run:
        _wait(cluster, changed)
    return changed


def _wait(cluster: Cluster, names: Iterable[str]) -> None:
    """Wait until they are served: an operator that starts before that ends."""
    until = time.monotonic() + ESTABLISHED_S
    for name in names:
        while True:
            status = (cluster.get(f"{FOLDER}/{name}") or {}).get("status") or {}
            said = {c["type"]: c for c in status.get("conditions") or ()}
            if said.get("Established", {}).get("status") == "True":
                break
            if time.monotonic() > until:
                why = said.get("NamesAccepted", {}).get("message", "")
                raise ClusterError(f"{name} is not served after {ESTABLISHED_S} s: {why}".rstrip(": "))
            time.sleep(0.2)
