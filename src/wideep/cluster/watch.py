"""How far something is in a cluster, and why it is not further."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from wideep.cluster import rollout
from wideep.cluster.access import Cluster, RefusedByServerError, labels_of
from wideep.kubernetes.manifests import KIND
from wideep.kubernetes.names import GRAPH_LABEL, GRAPHS, GROUP, ROLE
from wideep.kubernetes.site import HTTP_PORT
from wideep.published import Published
from wideep.reports.diagnosis import CRASH_LOOP
from wideep.reports.status import answer, registered, request
from wideep.reports.text import print_table

OPERATOR_LABEL = {"app.kubernetes.io/name": "dynamo-operator"}
# Helm writes it on what it makes.
RELEASE = "meta.helm.sh/release-name"
JOB_LABEL = "batch.kubernetes.io/job-name"
# A report is for a person: of many pods with the same trouble the first ones say it all.
PODS, EVENTS, LINES = 4, 3, 10
OPERATOR_LOG = (
    "look at the Dynamo operator's log"
    " (kubectl -n dynamo-system logs -l app.kubernetes.io/name=dynamo-operator)"
)
# Of the operator's own words in a line of progress, characters.
SAID = 200
# kubelet tries again after five minutes at the latest: two such tries did not bring the image.
PULL_S = 600
# A graph has to stay as it should be for so long: a worker may end right after it was ready.
STEADY_S = 5
PULLS = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName"})
BEGINS = frozenset({"ContainerCreating", "PodInitializing"})
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """What a wait is for. kind: graph, job or operator; name: for the operator, of Helm's release."""

    kind: str
    namespace: str
    name: str = ""
    version: str = "v1beta1"

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels of its pods."""
        if self.kind == "operator":
            return OPERATOR_LABEL
        return {GRAPH_LABEL if self.kind == "graph" else JOB_LABEL: self.name}

    def item(self, cluster: Cluster) -> Object:
        """Return the object; empty where there is none, and for the operator."""
        place = f"namespaces/{self.namespace}"
        path = {
            "graph": f"/apis/{GROUP}/{self.version}/{place}/{GRAPHS}/{self.name}",
            "job": f"/apis/batch/v1/{place}/jobs/{self.name}",
        }.get(self.kind)
        return (path and cluster.get(path)) or {}

    def pods(self, cluster: Cluster) -> list[dict[str, Any]]:
        """Return its pods."""
        if self.kind == "operator":
            return platform_pods(cluster, self.namespace, deployments(cluster, self.namespace, self.name))
        return pods_of(cluster, self.namespace, self.labels)

    def look(self, cluster: Cluster) -> Look:
        """Look once."""
        if self.kind == "operator":
            return operator(cluster, self.namespace, self.version, self.name)
        if self.kind == "job":
            return job(cluster, self.namespace, self.name)
        return graph(cluster, self.namespace, self.name, self.version)


@dataclass(frozen=True)
class Look:
    """One look. done: it is as it should be. failed: it will never be. progress: one line.

    pods: on which it depends that it will be; those that go anyway are not among them.
    """

    done: bool
    progress: str
    failed: bool = False
    pods: tuple[Object, ...] = field(default=(), compare=False, repr=False)


def condition(item: Object, kind: str) -> Object:
    """Return a condition of an object's status; empty where there is none."""
    for found in (item.get("status") or {}).get("conditions") or ():
        if found["type"] == kind:
            return dict(found)
    return {}


def graph(cluster: Cluster, namespace: str, name: str, version: str) -> Look:
    """Look at a DynamoGraphDeployment."""
    item = Target("graph", namespace, name, version).item(cluster)
    if not item:
        return Look(False, f"DynamoGraphDeployment {name} is not there")
    status = item.get("status") or {}
    ready = condition(item, "Ready")
    pods = pods_of(cluster, namespace, {GRAPH_LABEL: name})
    present = tuple(rollout.current(item, pods))
    if not status:
        made = f"the operator has not reported yet; pods: {summary(pods)}"
        return Look(False, made if pods else "the operator has not looked at it yet", pods=present)
    if behind := unseen(item):
        return Look(False, f"{_shortened(behind)}; pods: {summary(pods)}", pods=present)
    lacks = rollout.lacks(item, pods)
    line = f"ready: {rollout.counts(item)}; pods: {summary(pods)}"
    if lacks:
        line += f"; not yet: {', '.join(lacks)}"
    says = ready.get("status") == "True"
    if said := "" if says else _shortened(str(ready.get("message") or "")):
        line += f"; the operator says: {said}"
    done = says and not lacks and all(map(is_ready, present))
    return Look(done, line, pods=present)


def _shortened(said: str) -> str:
    return f"{said[:SAID]}…" if len(said) > SAID else said


def unseen(graph: Object) -> str:
    """Return that the operator's answer is about the version before; empty where it is about this one.

    It counts a change as seen when it has made it: where it cannot, its error is all there is.
    """
    status, wanted = graph.get("status") or {}, graph["metadata"]["generation"]
    ready = condition(graph, "Ready")
    seen = status.get("observedGeneration", ready.get("observedGeneration", wanted))
    if seen >= wanted:
        return ""
    behind = f"(generation {wanted}, it reports on {seen})"
    if status.get("state") == "failed" and ready.get("message"):
        return f"the operator has not made the change {behind}: {ready.get('reason', '')}: {ready['message']}"
    return f"the operator has not seen the change {behind}"


def job(cluster: Cluster, namespace: str, name: str) -> Look:
    """Look at a Job."""
    item = Target("job", namespace, name).item(cluster)
    if not item:
        return Look(False, f"Job {name} is not there")
    failure = condition(item, "Failed")
    if failure.get("status") == "True":
        why = failure.get("message", "")
        return Look(
            False, f"the download of the model failed (Job {name}: {why}); run it again to try again", True
        )
    pods = pods_of(cluster, namespace, {JOB_LABEL: name})
    done = condition(item, "Complete").get("status") == "True"
    line = f"the model is being downloaded by Job {name}; pods: {summary(pods)}"
    return Look(done, line, pods=tuple(pods))


def deployments(cluster: Cluster, namespace: str, release: str) -> list[dict[str, Any]]:
    """Return Dynamo's operator, and what else a release of Helm has: without Grove's no graph can be made."""
    return [
        item
        for item in cluster.items(f"/apis/apps/v1/namespaces/{namespace}/deployments")
        if _is_operator(item)
        or (release and (item["metadata"].get("annotations") or {}).get(RELEASE) == release)
    ]


def platform_pods(cluster: Cluster, namespace: str, of: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the pods of Deployments, and those of the operator's hooks."""
    selectors = [OPERATOR_LABEL, *(item["spec"]["selector"].get("matchLabels") or {} for item in of)]
    return [
        pod
        for pod in cluster.items(f"/api/v1/namespaces/{namespace}/pods")
        if any(own and own.items() <= labels_of(pod).items() for own in selectors)
    ]


def _is_operator(item: Object) -> bool:
    return OPERATOR_LABEL.items() <= labels_of(item).items()


def operator(cluster: Cluster, namespace: str, version: str, release: str) -> Look:
    """Look at the operator, at what came with it, and at its CRD."""
    found = deployments(cluster, namespace, release)
    operators = [item for item in found if _is_operator(item)]
    if not operators:
        return Look(False, f"no Deployment of the operator in {namespace}")
    ready = all(map(rolled_out, operators))
    behind = [item["metadata"]["name"] for item in found if item not in operators and not rolled_out(item)]
    crd = cluster.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{GRAPHS}.{GROUP}")
    established = crd is not None and condition(crd, "Established").get("status") == "True"
    # The API knows the kind a moment after the CRD is established.
    served = established and cluster.serves(f"{GROUP}/{version}", KIND)
    pods = platform_pods(cluster, namespace, found)
    others = f" {' and '.join(behind)} not available," if behind else ""
    line = (
        f"operator {'available' if ready else 'not available'},{others}"
        f" CRD {'there' if served else f'not served in {version}'}; pods: {summary(pods)}"
    )
    return Look(ready and not behind and served, line, pods=tuple(pods))


def rolled_out(deployment: Object) -> bool:
    """Whether all pods of a Deployment are those of its current version, and available."""
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("replicas", 0) <= wanted
        and condition(deployment, "Available").get("status") == "True"
    )


# ---- pods ----------------------------------------------------------------------------------------


def pods_of(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return pods by labels."""
    return cluster.items(f"/api/v1/namespaces/{namespace}/pods", labels)


def is_ready(pod: Object) -> bool:
    """Whether a pod serves, or has done its work."""
    phase = pod["status"].get("phase")
    serves = condition(pod, "Ready").get("status") == "True"
    return phase == "Succeeded" or (serves and phase != "Failed")


def reason(pod: Object) -> str:
    """Return in a word or two what a pod is doing."""
    if "deletionTimestamp" in pod["metadata"]:
        return "ending"
    if is_ready(pod):
        return "ready"
    if pod["status"].get("phase") == "Failed":
        return "failed"
    for status in _containers(pod):
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


def restarts(pod: Object) -> int:
    """Return how many times the containers of a pod were started again."""
    found = (pod["status"].get(kind) or () for kind in ("initContainerStatuses", "containerStatuses"))
    return sum(status.get("restartCount", 0) for statuses in found for status in statuses)


@dataclass
class Steadiness:
    """For how long the same pods have been as they should be. Seconds, of any clock."""

    pods: frozenset[tuple[str, int]] = frozenset()
    since: float | None = None

    def lasts(self, look: Look, now: float) -> float:
        """Return for how long it has been so."""
        pods = frozenset((pod["metadata"]["uid"], restarts(pod)) for pod in look.pods)
        if not look.done:
            self.since = None
        elif self.since is None or pods != self.pods:
            self.pods, self.since = pods, now
        return 0.0 if self.since is None else now - self.since


@dataclass
class Patience:
    """What a wait has seen of pods, so that it ends where waiting is of no use.

    crashes: restarts by pod when they began to count; unpulled: since when a pod has no image. By uid.
    """

    crashes: dict[str, int] = field(default_factory=dict)
    unpulled: dict[str, float] = field(default_factory=dict)

    def ends(self, pods: Iterable[Object], now: float) -> str:
        """Return why waiting is of no use; empty while it may be. now: seconds, of any clock."""
        found = {pod["metadata"]["uid"]: pod for pod in pods}
        # A head may crash until the pods of its other ranks run: these have an image to pull, too.
        if any(_begins(pod) for pod in found.values()):
            self.crashes = {}
        without = {uid for uid, pod in found.items() if reason(pod) in PULLS}
        self.unpulled = {uid: self.unpulled.get(uid, now) for uid in without}
        for uid, pod in found.items():
            name, state = pod["metadata"]["name"], reason(pod)
            times = restarts(pod) - self.crashes.setdefault(uid, restarts(pod))
            if state == "CrashLoopBackOff" and times >= CRASH_LOOP:
                return f"pod {name} has crashed {times} times while all pods ran"
            since = now - self.unpulled.get(uid, now)
            if since >= PULL_S:
                return f"pod {name} has been without its image for {since / 60:.0f} minutes ({state})"
        return ""


def _begins(pod: Object) -> bool:
    """Whether a pod has no node yet, or its containers have not been started."""
    return not pod["status"].get("containerStatuses") or reason(pod) in BEGINS


def _containers(pod: Object) -> list[dict[str, Any]]:
    """Return the states of a pod's containers, those first that the others wait for."""
    status = pod["status"]
    begin = status.get("initContainerStatuses") or ()
    first = [c for c in begin if ((c.get("state") or {}).get("terminated") or {}).get("exitCode") != 0]
    return [*first, *(status.get("containerStatuses") or ())]


def trouble(cluster: Cluster, target: Target) -> str:
    """Return for people: what its makers say, the pods that are not ready, and why, their last lines."""
    try:
        lines = list(_said(cluster, target))
        pods = target.pods(cluster)
    except RefusedByServerError as error:
        return f"its pods and events cannot be read: {error}"
    if not pods:
        return "\n".join([*lines, _nobody(target, said=bool(lines))])
    bad = [pod for pod in pods if not is_ready(pod)]
    # Heads say most: the other ranks of a replica wait for theirs.
    bad.sort(key=lambda pod: (reason(pod) == "starting", "-wkr-" in pod["metadata"]["name"]))
    lines += [line for pod in bad[:PODS] for line in _pod(cluster, target.namespace, pod)]
    if len(bad) > PODS:
        lines.append(f"and {len(bad) - PODS} more pods: {summary(bad[PODS:])}")
    return "\n".join(lines)


def _nobody(target: Target, *, said: bool) -> str:
    """Return what to do where there are no pods. said: their maker has said why."""
    where = " and ".join(f"{k}={v}" for k, v in target.labels.items())
    none = f"there are no pods with {where} in {target.namespace}"
    look = {
        "graph": OPERATOR_LOG,
        "job": f"ask for more with: kubectl -n {target.namespace} describe job {target.name}",
        "operator": f"ask for more with: kubectl -n {target.namespace} get events",
    }[target.kind]
    silent = ": whoever makes them does not answer" if target.kind == "graph" and not said else ""
    return f"{none}{silent}; {look}"


def _said(cluster: Cluster, target: Target) -> Iterator[str]:
    """Yield what is said of the objects between a target and its pods: without pods that is all there is."""
    begins: tuple[str, ...] = ()
    item = target.item(cluster)
    if item and target.kind == "graph":
        ready, behind = condition(item, "Ready"), unseen(item)
        if behind:
            yield f"{behind}; {OPERATOR_LOG}"
        elif ready.get("message") and ready.get("status") != "True":
            yield f"the operator says: {ready.get('reason', 'not ready')}: {ready['message']}"
        spec = item.get("spec") or {}
        parts = [*spec.get("services", ()), *(part["name"] for part in spec.get("components", ()))]
        # As Grove (<graph>-0-<component>), LeaderWorkerSet and Deployments (<graph>-<component>) begin.
        begins = tuple(f"{target.name}-{part.lower()}" for part in ("0", *parts))
    found = []
    since = str(item["metadata"]["creationTimestamp"]) if item else ""
    for event in _warnings(cluster, target.namespace):
        if _when(event) < since:
            continue  # of a predecessor with the same name
        kind, name = (event["involvedObject"].get(key, "") for key in ("kind", "name"))
        mine = target.kind == "operator" or name == target.name or name.startswith(begins)
        if mine and kind != "Pod":
            found.append(f"event of {kind} {name}: {event.get('reason', '')}: {event.get('message', '')}")
    yield from found[-PODS:]


def _pod(cluster: Cluster, namespace: str, pod: Object) -> Iterator[str]:
    name = pod["metadata"]["name"]
    node = pod["spec"].get("nodeName")
    yield f"pod {name}{f' on {node}' if node else ''}: {reason(pod)}"
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield f"  {scheduled.get('message', '')}"
    ran, asked = False, ""
    for status in _containers(pod):
        state = status.get("state") or {}
        waits = state.get("waiting") or {}
        if waits.get("message"):
            yield f"  {status['name']}: {waits['message']}"
        ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
        if ended:
            ran = ran or "terminated" not in state
            times = status.get("restartCount", 0) + ("terminated" in state)
            yield (
                f"  {status['name']}: ended {times} times, last with exit code"
                f" {ended.get('exitCode')} ({ended.get('reason', '')}) {ended.get('message', '')}".rstrip()
            )
        if not asked and (waits or ended):
            asked = status["name"]
    for event in _warnings(cluster, namespace, pod["metadata"]["uid"])[-EVENTS:]:
        yield f"  event {event.get('reason', '')}: {event.get('message', '')}"
    names = [container["name"] for container in pod["spec"]["containers"]]
    # Beside a sidecar the server wants to know which: the one in trouble, else the operator's name for ours.
    asked = asked or ("main" if "main" in names else names[0])
    yield from (f"  log: {line}" for line in _log(cluster, namespace, name, asked, previous=ran))


def _when(event: Object) -> str:
    """Return to the second when an event was last seen, as a creation's time is written."""
    when = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return f"{str(when)[:19]}Z"


def _warnings(cluster: Cluster, namespace: str, uid: str = "") -> list[dict[str, Any]]:
    """Return the warnings of a namespace, or of a pod, the last ones last, each text once.

    uid: of the pod; its name may have been another's.
    """
    path = f"/api/v1/namespaces/{namespace}/events"
    of = f",involvedObject.uid={uid}" if uid else ""
    found = (cluster.get(path, fieldSelector=f"type=Warning{of}") or {}).get("items", ())
    events = sorted(found, key=_when)
    texts = {(e["involvedObject"].get("name"), e.get("reason"), e.get("message")): e for e in events}
    return list(texts.values())


def _log(cluster: Cluster, namespace: str, pod: str, container: str, *, previous: bool) -> list[str]:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    for query in ({"previous": "true"}, {}) if previous else ({},):
        try:
            text = cluster.text(path, tailLines=LINES, container=container, **query)
        except RefusedByServerError:
            continue  # no container has run yet, or the node does not answer
        if text.strip():
            return text.rstrip().splitlines()[-LINES:]
    return []


# ---- status --------------------------------------------------------------------------------------


def status(
    cluster: Cluster,
    plan: Published,
    verified: Mapping[str, Any] | None = None,
    ask: Callable[[], Sequence[Mapping[str, Any]] | None] | None = None,
) -> dict[str, Any]:
    """Return `text` for people, whether it is `ready`, its `progress`, and the pods as `services`.

    Args:
        verified: what a completion has just shown.
        ask: asks the frontend for what its /health lists, None where it does not answer. Asked where a
            frontend is ready.
    """
    name, namespace = plan.deployment, plan.namespace
    look = graph(cluster, namespace, name, plan.settings.graph_api)
    pods = pods_of(cluster, namespace, {GRAPH_LABEL: name})
    if not pods and not look.done:
        text = f"{name}: {look.progress} in namespace {namespace}\n"
        return {"text": text, "ready": False, "progress": look.progress, "services": []}
    rows = [
        {
            "pod": pod["metadata"]["name"],
            "node": pod["spec"].get("nodeName", ""),
            "state": reason(pod),
            "restarts": restarts(pod),
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
    frontends = [pod for pod in pods if labels_of(pod).get(ROLE) == "frontend"]
    if ask and any(map(is_ready, frontends)):
        text += "\n" + registered(plan, ask(), f"service {name}-frontend").rstrip("\n")
    if not look.done:
        text += "\n" + trouble(cluster, Target("graph", namespace, name, plan.settings.graph_api))
    text = text.rstrip() + "\n\n"
    if verified:
        where = f"service {name}-frontend, through a port-forward"
        text += f"{plan.settings.model} serves at {where}\n{answer(plan, verified)}\n"
    if not look.done:
        text = text.rstrip() + "\n"
        return {"text": text, "ready": False, "progress": look.progress, "services": rows}
    port = plan.frontend_url.rpartition(":")[2]
    forward = f"kubectl -n {namespace} port-forward service/{name}-frontend {port}:{HTTP_PORT}"
    text += f"try next:\n  {forward}\n{request(plan)}"
    return {"text": text, "ready": True, "progress": look.progress, "services": rows}
