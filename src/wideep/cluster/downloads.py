"""The volume with the model and the Job that fills it, which the deployments of a namespace share."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wideep.cluster.access import Cluster, is_ours
from wideep.cluster.objects import KINDS, Object, path_of, reference
from wideep.kubernetes.check import quantity
from wideep.kubernetes.names import DOWNLOAD_LABEL, REPOSITORY, REVISION, TARGET
from wideep.problems import Problem


def needed(cluster: Cluster, items: Sequence[Mapping[str, Any]]) -> list[Object]:
    """Return what is to be applied of claims and downloads: not what is there and serves.

    A Job cannot be changed, and a claim only grow: another deployment's image or size does not concern them.
    """
    found = []
    for item in items:
        made = copy.deepcopy(dict(item))
        there = cluster.get(path_of(item))
        if there and item["kind"] == "Job" and not is_obsolete(there, _claim_of(cluster, item)):
            continue
        if there and item["kind"] == "PersistentVolumeClaim":
            size = there["spec"]["resources"]["requests"]["storage"]
            wanted = item["spec"]["resources"]["requests"]["storage"]
            if quantity(size) >= quantity(wanted):
                continue
            kept = {name: there["spec"].get(name) for name in ("accessModes", "storageClassName")}
            made["spec"] |= {name: value for name, value in kept.items() if value}
        found.append(made)
    return found


def is_obsolete(job: Mapping[str, Any], claim: Mapping[str, Any] | None) -> bool:
    """Whether a download has to run again: it failed, or its volume is gone or has been replaced since."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    failed = any(c["type"] == "Failed" and c["status"] == "True" for c in conditions)
    made = job["metadata"]["creationTimestamp"]
    return failed or claim is None or bool(claim["metadata"]["creationTimestamp"] > made)


def obsolete(cluster: Cluster, items: Iterable[Mapping[str, Any]]) -> list[Object]:
    """Return references to the downloads that are to be deleted: a Job of the same name cannot run again."""
    found = []
    for item in items:
        if item["kind"] != "Job":
            continue
        claim = _claim_of(cluster, item)
        for job in _downloads(cluster, item["metadata"]["namespace"]):
            same = job["metadata"]["name"] == item["metadata"]["name"] or _target(job) == _target(item)
            if same and is_ours(job) and is_obsolete(job, claim):
                found.append(reference("Job", "", job))
    return found


def other_models(cluster: Cluster, items: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Return a problem for a download into a directory that has another model, or another revision of it."""
    problems = []
    for item in items:
        if item["kind"] != "Job":
            continue
        place = item["metadata"]["namespace"]
        claim, wanted = _claim_of(cluster, item), item["metadata"]["annotations"]
        for job in _downloads(cluster, place):
            there = job["metadata"].get("annotations") or {}
            same = all(there.get(key) == wanted[key] for key in (REPOSITORY, REVISION))
            if same or _target(job) != _target(item) or is_obsolete(job, claim):
                continue
            of = f"{there.get(REPOSITORY)} at {there.get(REVISION)}"
            name, folder = job["metadata"]["name"], wanted[TARGET]
            message = f"{folder} has {of} (Job {name}): its files would change under running workers"
            remedy = (
                f"set it to another directory, e.g. {folder}-{wanted[REVISION][:8]}; the old one stays on the"
                f" volume until you remove it. Or, if nobody reads it: kubectl -n {place} delete job {name}"
            )
            problems.append(Problem(message, "wideep_model_path", remedy))
    return problems


def _downloads(cluster: Cluster, name: str) -> list[Object]:
    return cluster.items(KINDS["Job"].format(namespace=name), dict([DOWNLOAD_LABEL]))


def _pod_of(job: Mapping[str, Any]) -> Mapping[str, Any]:
    return job["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def _claims(job: Mapping[str, Any]) -> list[str]:
    volumes = _pod_of(job).get("volumes") or ()
    return [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]


def _target(job: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return volume and directory of a download."""
    return (*_claims(job), (job["metadata"].get("annotations") or {}).get(TARGET))


def _claim_of(cluster: Cluster, job: Mapping[str, Any]) -> Object | None:
    folder = KINDS["PersistentVolumeClaim"].format(namespace=job["metadata"]["namespace"])
    return cluster.get(f"{folder}/{_claims(job)[0]}")
