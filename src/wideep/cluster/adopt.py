"""Objects that others applied become a deployment's own: what differs is shown, then only labels change.

kubectl and wideep each own the fields that they wrote. What kubectl wrote becomes wideep's, so that a field
that the plan has not goes with the next `site` instead of staying for ever.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from wideep.cluster.access import OF_SERVER, Cluster, is_ours
from wideep.cluster.objects import path_of
from wideep.kubernetes.names import FIELD_MANAGER

Object = dict[str, Any]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Who writes for people: client-side and server-side apply, `kubectl edit` and `create`, Helm.
PEOPLE = frozenset({"kubectl", "kubectl-client-side-apply", "kubectl-edit", "kubectl-create", "helm"})


@dataclass(frozen=True)
class Taken:
    """One object of the plan.

    state: `taken over`, `wideep's already`, `not there`. diff: what the next `site` changes.
    """

    name: str
    state: str
    diff: str = ""

    def text(self) -> str:
        """Return it for a person."""
        if self.state != "taken over":
            return f"{self.name}: {self.state}"
        return f"{self.name}: {self.state}; `site` " + (
            f"will change\n{self.diff}" if self.diff else "changes nothing of it"
        )


def adopt(cluster: Cluster, items: Iterable[Mapping[str, Any]], *, check: bool) -> list[Taken]:
    """Take over what is there and is not wideep's. items: as `site` applies them, with their labels.

    Raises:
        RefusedByServerError: we may not, or the server refuses what the plan would make of an object.
    """
    found = []
    for item in items:
        name, path = f"{item['kind']} {item['metadata']['name']}", path_of(item)
        there = cluster.get(path)
        if there is None:
            found.append(Taken(name, "not there"))
        elif is_ours(there):
            found.append(Taken(name, "wideep's already"))
        else:
            if not check:
                there = cluster.patch(path, _ours(there, item))
            found.append(Taken(name, "taken over", _difference(there, cluster.applied(path, item))))
    return found


def _ours(there: Mapping[str, Any], item: Mapping[str, Any]) -> Object:
    """Return the change that makes an object wideep's: its labels, and whose its fields are."""
    metadata = there["metadata"]
    return {
        "metadata": {
            "labels": dict(item["metadata"]["labels"]),
            "annotations": {LAST_APPLIED: None},
            # Refused where somebody wrote in between.
            "resourceVersion": metadata["resourceVersion"],
            "managedFields": _owners(metadata.get("managedFields") or []),
        }
    }


def _owners(entries: Iterable[Mapping[str, Any]]) -> list[Object]:
    """Return managedFields with what people wrote as one entry of wideep's."""
    theirs = [e for e in entries if e.get("manager") in PEOPLE and not e.get("subresource")]
    others = [dict(e) for e in entries if e not in theirs]
    if not theirs:
        return others
    fields: Object = {}
    for entry in theirs:
        _merge(fields, entry.get("fieldsV1") or {})
    ours = {**theirs[-1], "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}
    return [ours, *others]


def _merge(into: Object, more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        _merge(into.setdefault(name, {}), value)


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the lines that differ, with three around them; empty where nothing does."""
    there, planned = (yaml.safe_dump(_plain(item), sort_keys=True).splitlines() for item in (before, after))
    lines = difflib.unified_diff(there, planned, "there", "plan", lineterm="")
    return "\n".join(f"    {line}" for line in lines)


def _plain(item: Mapping[str, Any]) -> Object:
    made = copy.deepcopy(dict(item))
    made.pop("status", None)
    for name in (*OF_SERVER, "generation"):
        made["metadata"].pop(name, None)
    annotations = made["metadata"].get("annotations") or {}
    annotations.pop(LAST_APPLIED, None)
    if not annotations:
        made["metadata"].pop("annotations", None)
    # Being taken over is no difference.
    made["metadata"].pop("labels", None)
    return made
