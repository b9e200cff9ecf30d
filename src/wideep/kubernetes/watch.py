"""How far something is in a cluster, and why it is not further."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from wideep.kubernetes.access import GRAPHS, GROUP, Cluster, RefusedByServerError
from wideep.kubernetes.site import HTTP_PORT
from wideep.status import answer, request
from wideep.text import print_table

GRAPH_LABEL = "nvidia.com/dynamo-graph-deployment-name"
OPERATOR_LABEL = {"app.kubernetes.io/name": "dynamo-operator"}
# A report is for a person: of many pods with the same trouble the first ones say it all.
PODS, EVENTS, LINES = 4, 3, 10
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """One look. done: it is as it should be. failed: it will never be. progress: one line."""

    done: bool
    progress: str
    failed: bool = False


def condition(item: Object, kind: str) -> Object:
    """Return a condition of an object's status; empty where there is none."""
    for found in (item.get("status") or {}).get("conditions") or ():
        if found["type"] == kind:
            return dict(found)
    return {}


def graph(cluster: Cluster, namespace: str, name: str, version: str) -> Look:
    """Look at a DynamoGraphDeployment."""
    item = cluster.get(f"/apis/{GROUP}/{version}/namespaces/{namespace}/{GRAPHS}/{name}")
    if item is None:
        return Look(False, f"DynamoGraphDeployment {name} is not there")
    status = item.get("status") or {}
    ready = condition(item, "Ready")
    # An older answer is about the version before.
    seen = status.get("observedGeneration", ready.get("observedGeneration", item["metadata"]["generation"]))
    current = seen >= item["metadata"]["generation"]
    pods = pods_of(cluster, namespace, {GRAPH_LABEL: name})
    if not status:
        made = f"the operator has not reported yet; pods: {summary(pods)}"
        return Look(False, made if pods else "the operator has not looked at it yet")
    parts = status.get("services") or status.get("components") or {}
    counts = ", ".join(
        f"{part} {count.get('readyReplicas', 0)}/{count.get('replicas', 0)}" for part, count in parts.items()
    )
    line = f"ready: {counts or 'nothing'}; pods: {summary(pods)}"
    return Look(current and ready.get("status") == "True", line)


def job(cluster: Cluster, namespace: str, name: str) -> Look:
    """Look at a Job."""
    item = cluster.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}")
    if item is None:
        return Look(False, f"Job {name} is not there")
    failure = condition(item, "Failed")
    if failure.get("status") == "True":
        return Look(False, f"Job {name} failed: {failure.get('message', '')}", failed=True)
    pods = pods_of(cluster, namespace, {"batch.kubernetes.io/job-name": name})
    done = condition(item, "Complete").get("status") == "True"
    return Look(done, f"the model is being downloaded by Job {name}; pods: {summary(pods)}")


def operator(cluster: Cluster, namespace: str, version: str) -> Look:
    """Look at the operator and at its CRD."""
    found = cluster.items(f"/apis/apps/v1/namespaces/{namespace}/deployments", OPERATOR_LABEL)
    if not found:
        return Look(False, f"no Deployment of the operator in {namespace}")
    ready = all(condition(item, "Available").get("status") == "True" for item in found)
    crd = cluster.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{GRAPHS}.{GROUP}")
    established = crd is not None and condition(crd, "Established").get("status") == "True"
    # The API knows the kind a moment after the CRD is established.
    resources = cluster.get(f"/apis/{GROUP}/{version}") if established else None
    served = any(r["name"] == GRAPHS for r in (resources or {}).get("resources", ()))
    pods = pods_of(cluster, namespace, OPERATOR_LABEL)
    line = (
        f"operator {'available' if ready else 'not available'},"
        f" CRD {'there' if served else f'not served in {version}'}; pods: {summary(pods)}"
    )
    return Look(ready and served, line)


# ---- pods ----------------------------------------------------------------------------------------


def pods_of(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return pods by labels."""
    return cluster.items(f"/api/v1/namespaces/{namespace}/pods", labels)


def is_ready(pod: Object) -> bool:
    """Whether a pod serves, or has done its work."""
    return condition(pod, "Ready").get("status") == "True" or pod["status"].get("phase") == "Succeeded"


def reason(pod: Object) -> str:
    """Return in a word or two what a pod is doing."""
    if "deletionTimestamp" in pod["metadata"]:
        return "ending"
    if is_ready(pod):
        return "ready"
    for status in pod["status"].get("containerStatuses") or ():
        if waits := (status.get("state") or {}).get("waiting"):
            return str(waits.get("reason", "waiting"))
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return "unschedulable"
    return "starting" if pod["spec"].get("nodeName") else str(pod["status"].get("phase", "Pending")).lower()


def summary(pods: Iterable[Object]) -> str:
    """Return how many pods are in which state."""
    counts = Counter(reason(pod) for pod in pods)
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"


def trouble(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> str:
    """Return for people: the pods that are not ready, what the cluster says of them, their last lines."""
    try:
        pods = pods_of(cluster, namespace, labels)
    except RefusedByServerError as error:
        return f"its pods cannot be read: {error}"
    if not pods:
        where = " and ".join(f"{k}={v}" for k, v in labels.items())
        return (
            f"there are no pods with {where} in {namespace}: whoever makes them does not answer; look at the"
            " Dynamo operator's log (kubectl -n dynamo-system logs -l app.kubernetes.io/name=dynamo-operator)"
        )
    bad = [pod for pod in pods if not is_ready(pod)]
    # Heads say most: the other ranks of a replica wait for theirs.
    bad.sort(key=lambda pod: (reason(pod) == "starting", "-wkr-" in pod["metadata"]["name"]))
    lines = [line for pod in bad[:PODS] for line in _pod(cluster, namespace, pod)]
    if len(bad) > PODS:
        lines.append(f"and {len(bad) - PODS} more pods: {summary(bad[PODS:])}")
    return "\n".join(lines)


def _pod(cluster: Cluster, namespace: str, pod: Object) -> Iterator[str]:
    name = pod["metadata"]["name"]
    node = pod["spec"].get("nodeName")
    yield f"pod {name}{f' on {node}' if node else ''}: {reason(pod)}"
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield f"  {scheduled.get('message', '')}"
    ran = False
    for status in pod["status"].get("containerStatuses") or ():
        waits = (status.get("state") or {}).get("waiting") or {}
        if waits.get("message"):
            yield f"  {status['name']}: {waits['message']}"
        ended = (status.get("lastState") or {}).get("terminated") or {}
        if ended:
            ran = True
            yield (
                f"  {status['name']}: ended {status.get('restartCount', 0)} times, last with exit code"
                f" {ended.get('exitCode')} ({ended.get('reason', '')}) {ended.get('message', '')}".rstrip()
            )
    for event in _events(cluster, namespace, name):
        yield f"  event {event.get('reason', '')}: {event.get('message', '')}"
    yield from (f"  log: {line}" for line in _log(cluster, namespace, name, previous=ran))


def _events(cluster: Cluster, namespace: str, pod: str) -> Sequence[Object]:
    try:
        found = cluster.get(
            f"/api/v1/namespaces/{namespace}/events", fieldSelector=f"involvedObject.name={pod}"
        )
    except RefusedByServerError as error:
        return [{"reason": "unknown", "message": str(error)}]
    warnings = [event for event in (found or {}).get("items", ()) if event.get("type") == "Warning"]
    warnings.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return warnings[-EVENTS:]


def _log(cluster: Cluster, namespace: str, pod: str, *, previous: bool) -> list[str]:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    for query in ({"previous": "true"}, {}) if previous else ({},):
        try:
            text = cluster.text(path, tailLines=LINES, **query)
        except RefusedByServerError:
            continue  # no container has run yet, or the node does not answer
        if text.strip():
            return text.rstrip().splitlines()[-LINES:]
    return []


# ---- status --------------------------------------------------------------------------------------


def status(
    cluster: Cluster, plan: Mapping[str, Any], verified: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return `text` for people, and the pods as `services`. verified: what a completion has just shown."""
    name, namespace = plan["deployment"], plan["settings"]["kubernetes"]["namespace"]
    look = graph(cluster, namespace, name, plan["settings"]["graph_api"])
    pods = pods_of(cluster, namespace, {GRAPH_LABEL: name})
    if not pods and not look.done:
        return {"text": f"{name}: {look.progress} in namespace {namespace}\n", "ready": False, "services": []}
    rows = [
        {
            "pod": pod["metadata"]["name"],
            "node": pod["spec"].get("nodeName", ""),
            "state": reason(pod),
            "restarts": sum(c.get("restartCount", 0) for c in pod["status"].get("containerStatuses") or ()),
        }
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    ]
    table = Table(box=None, pad_edge=False)
    for column in ("POD", "NODE", "STATE", "RESTARTS"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(row["pod"], row["node"] or "-", row["state"], str(row["restarts"]))
    text = f"{name} in namespace {namespace}: {'ready' if look.done else 'NOT READY'}; {look.progress}\n\n"
    text += print_table(table)
    if not look.done:
        text += "\n" + trouble(cluster, namespace, {GRAPH_LABEL: name})
    text = text.rstrip() + "\n\n"
    if verified:
        where = f"service {name}-frontend, through a port-forward"
        text += f"{plan['settings']['model']} serves at {where}\n{answer(plan, verified)}\n"
    port = plan["frontend_url"].rpartition(":")[2]
    forward = f"kubectl -n {namespace} port-forward service/{name}-frontend {port}:{HTTP_PORT}"
    text += f"try next:\n  {forward}\n{request(plan)}"
    return {"text": text, "ready": look.done, "services": rows}
