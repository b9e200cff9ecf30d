"""Whether the pods of a deployment find room on a cluster's nodes, beside the pods that are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from wideep.cluster.access import labels_of
from wideep.kubernetes.check import GPU, quantity
from wideep.kubernetes.names import DEPLOYMENT, ROLE
from wideep.published import Published
from wideep.reference.hardware import GpuCard, hardware_cards

# Labels of the GPU operator's feature discovery, where it runs. MEMORY: MiB of one GPU.
PRODUCT, MEMORY = "nvidia.com/gpu.product", "nvidia.com/gpu.memory"
# What a driver or ECC keeps for itself differs a little.
LEAST = 0.95


@dataclass(frozen=True)
class Pod:
    """What one pod needs of a node.

    works: it runs the engine. gang: the replica whose pods are on a node each. alone: no other worker may be
    on its node. stays: it is there as long as the deployment. card: the GPU that the plan was made for; None
    where it is unknown, or where the pod has none.
    """

    what: str
    needs: Mapping[str, str]
    selector: Mapping[str, str]
    tolerations: Sequence[Mapping[str, Any]]
    works: bool = False
    gang: str = ""
    alone: bool = False
    stays: bool = True
    card: GpuCard | None = None


@dataclass
class Room:
    """A node and what it has left.

    other: the deployment whose worker is on it and bears no second one beside it. works: some worker is on
    it. gangs: the replicas of ours that have a pod on it.
    """

    node: Mapping[str, Any]
    free: dict[str, Decimal]
    other: str = ""
    works: bool = False
    gangs: set[str] = field(default_factory=set)

    def has(self, resource: str) -> Decimal:
        """Return how much the node offers to pods, free or not."""
        return quantity(str(self.node["status"].get("allocatable", {}).get(resource, "0")))

    def refuses(self, pod: Pod) -> str:
        """Return why a pod cannot be on the node; empty if it can."""
        return next(self._reasons(pod), "")

    def put(self, pod: Pod) -> None:
        """Take what a pod needs."""
        for name, amount in pod.needs.items():
            self.free[name] -= quantity(amount)
        self.works |= pod.works
        self.gangs |= {pod.gang} if pod.gang else set()

    def _reasons(self, pod: Pod) -> Iterator[str]:
        conditions = {c["type"]: c["status"] for c in self.node["status"].get("conditions", ())}
        if conditions.get("Ready") != "True" or self.node["spec"].get("unschedulable"):
            yield "not ready, or cordoned"
        labels = labels_of(self.node)
        for name, value in pod.selector.items():
            if labels.get(name) != value:
                yield f"node_selector {name} is not its label"
        for taint in self.node["spec"].get("taints", ()):
            tolerated = any(_tolerates(t, taint) for t in pod.tolerations)
            if taint["effect"] != "PreferNoSchedule" and not tolerated:
                yield f"taint {taint['key']} is not tolerated"
        if pod.card:
            yield from _other_gpu(labels, pod.card)
        if pod.works and self.other:
            yield f"a worker of {self.other} is on it"
        elif pod.alone and self.works:
            yield "a worker is on it, and both would have the node's ports (host_network)"
        if pod.gang and pod.gang in self.gangs:
            yield f"another pod of {pod.gang} is on it"
        for name, amount in pod.needs.items():
            if self.has(name) < quantity(amount):
                yield f"has {shown(self.has(name))} of {name}, {amount} are needed"
            if self.free.get(name, Decimal(0)) < quantity(amount):
                yield f"{name} is taken by other pods"


def shown(amount: Decimal) -> str:
    """Return a quantity as a person writes it: 80Gi. What is below one Mi is a count."""
    for power, unit in ((5, "Pi"), (4, "Ti"), (3, "Gi"), (2, "Mi")):
        if amount >= 1024**power:
            return f"{float(amount / 1024**power):.4g}{unit}"
    return f"{amount.normalize():f}"


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def _other_gpu(labels: Mapping[str, str], card: GpuCard) -> Iterator[str]:
    product, memory = labels.get(PRODUCT, ""), labels.get(MEMORY, "")
    if product and not card.named(product):
        yield f"has {product}, the plan is for {card.product}"
    if memory.isdigit() and int(memory) < card.memory_mib * LEAST:
        yield f"has GPUs of {memory} MiB, the plan is for {card.memory_mib} MiB ({card.product})"


def rooms(nodes: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> list[Room]:
    """Return what pods leave on each node. pods: those that stay."""
    found = {}
    for node in nodes:
        has = node.get("status", {}).get("allocatable", {})
        free = {name: quantity(str(amount)) for name, amount in has.items()}
        found[node["metadata"]["name"]] = Room(node, free)
    for pod in pods:
        room = found.get(pod["spec"].get("nodeName", ""))
        if room is None or pod["status"].get("phase") in {"Succeeded", "Failed"}:
            continue
        labels = labels_of(pod)
        room.works |= labels.get(ROLE) == "worker"
        if labels.get(ROLE) == "worker" and _stays_alone(pod["spec"]):
            room.other = f"{labels.get(DEPLOYMENT, 'another deployment')} in {pod['metadata']['namespace']}"
        for name, amount in reserved(pod["spec"]).items():
            room.free[name] = room.free.get(name, Decimal(0)) - amount
    return list(found.values())


def _stays_alone(spec: Mapping[str, Any]) -> bool:
    """Whether a worker's pod lets no other worker beside it: its anti-affinity counts for both."""
    affinity = (spec.get("affinity") or {}).get("podAntiAffinity") or {}
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    selected = [((term.get("labelSelector") or {}).get("matchLabels") or {}) for term in terms]
    return any(labels == {ROLE: "worker"} for labels in selected)


def reserved(spec: Mapping[str, Any]) -> dict[str, Decimal]:
    """Return what the scheduler reserves for a pod: for all containers, or for its largest init container."""
    begin = spec.get("initContainers") or ()
    # Those that stay beside the others count with them.
    beside = [container for container in begin if container.get("restartPolicy") == "Always"]
    total: dict[str, Decimal] = {}
    for container in (*spec["containers"], *beside):
        for name, amount in _asks(container).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for container in begin:
        for name, amount in _asks(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    for name, amount in (spec.get("overhead") or {}).items():
        total[name] = total.get(name, Decimal(0)) + quantity(str(amount))
    return total


def _asks(container: Mapping[str, Any]) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    # Without a request, the limit is one.
    found = (resources.get("limits") or {}) | (resources.get("requests") or {})
    return {name: quantity(str(amount)) for name, amount in found.items()}


def pods_of(plan: Published) -> tuple[list[Pod], list[Pod]]:
    """Return a plan's worker pods, the largest first, and the download and the frontends."""
    own = plan.settings.kubernetes
    card = plan.objects.own_card or hardware_cards().get(plan.objects.gpu)
    workers = []
    for pool in plan.pools:
        added = own.additions(pool.name)
        for replica, node in ((each, node) for each in pool.replicas for node in each.nodes):
            gpus = len(node.gpus)
            needs = own.requests("worker", gpus) | {GPU: str(gpus)}
            # Used up to its size, whatever is reserved.
            needs["memory"] = max(needs["memory"], own.shared_memory, key=quantity)
            needs |= added.extra_resources
            pod = Pod(
                f"worker {node.host}",
                needs,
                added.node_selector,
                own.tolerations_of("worker"),
                works=True,
                gang=replica.name if len(replica.nodes) > 1 and not own.host_network else "",
                alone=own.host_network,
                card=card,
            )
            workers.append(pod)
    workers.sort(key=lambda pod: int(pod.needs[GPU]), reverse=True)

    def other(component: str, what: str, *, stays: bool = True) -> Pod:
        place = own.node_selector_of(component), own.tolerations_of(component)
        return Pod(what, own.requests(component), *place, stays=stays)

    download = [other("download", "the download", stays=False)] if own.model_cache.download else []
    return workers, [*download, *[other("frontend", "a frontend")] * own.frontend_replicas]


def place_workers(found: Sequence[Room], workers: Sequence[Pod]) -> tuple[int, str]:
    """Put workers on nodes, those of a replica on one each.

    Returns:
        How many nodes take workers, and why the others do not take the one that finds none.
    """
    homeless = None
    used: set[int] = set()
    for pod in workers:
        number = next((n for n, room in enumerate(found) if not room.refuses(pod)), None)
        if number is None:
            homeless = homeless or pod
        else:
            found[number].put(pod)
            used.add(number)
    last = homeless or workers[-1]
    left = [room for number, room in enumerate(found) if number not in used]
    free = len(used) + sum(not room.refuses(last) for room in left)
    return free, (why(left, homeless) or "no more nodes") if homeless else ""


def place_others(found: Sequence[Room], others: Iterable[Pod]) -> Pod | None:
    """Put pods wherever there is room; return the first one without."""
    for pod in others:
        room = next((room for room in found if not room.refuses(pod)), None)
        if room is None:
            return pod
        if pod.stays:
            room.put(pod)
    return None


def why(found: Iterable[Room], pod: Pod) -> str:
    """Return for how many nodes which reason is against a pod."""
    names: dict[str, list[str]] = {}
    for room in found:
        if reason := room.refuses(pod):
            names.setdefault(reason, []).append(room.node["metadata"]["name"])
    return "; ".join(
        f"{len(own)} ({own[0]}{', …' if own[1:] else ''}): {reason}" for reason, own in names.items()
    )
