"""What a cluster gets beside a graph: NVLink domains, ways in, and rules of who may reach and evict pods.

Kinds of others are written as their projects document them: ComputeDomain (resource.nvidia.com/v1beta1,
NVIDIA's DRA driver), HTTPRoute (gateway.networking.k8s.io/v1), PodMonitor (monitoring.coreos.com/v1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wideep.deployment.model import Deployment, Pool
from wideep.inventory.kubernetes import CHANNEL
from wideep.kubernetes.names import DEPLOYMENT, POOL, ROLE, common_labels
from wideep.kubernetes.site import HTTP_PORT, SYSTEM_PORT
from wideep.problems import Problem
from wideep.reference.hardware import find_gpu

Object = dict[str, Any]

WHERE = "wideep_kubernetes"
# What ingress-nginx ends or gathers by itself; other controllers pass them over.
STREAMING = {
    "nginx.ingress.kubernetes.io/proxy-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-next-upstream": "off",
}
NAMESPACE_NAME = "kubernetes.io/metadata.name"
# The operator's names of its containers' ports (ai-dynamo/dynamo, deploy/operator/internal/consts/consts.go).
METRICS = {"frontend": "http", "worker": "system"}


def objects(deployment: Deployment) -> Iterator[Object]:
    """Yield the objects that wideep_kubernetes asks for beside the graph, in a fixed order."""
    own = deployment.settings.kubernetes
    if own.compute_domain:
        yield _compute_domain(deployment)
    if own.network_policy.enabled:
        yield from _network_policies(deployment)
    if own.disruption_budgets:
        yield from _budgets(deployment)
    if own.pod_monitors:
        yield from (_monitor(deployment, role) for role in METRICS)
    if own.expose.kind:
        yield _ingress(deployment) if own.expose.kind == "ingress" else _route(deployment)


def graph_fields(deployment: Deployment) -> dict[str, Any]:
    """Return the graph's own fields of placement, in both API versions."""
    own = deployment.settings.kubernetes
    fields: dict[str, Any] = {}
    if own.topology.cluster_topology:
        alpha = deployment.settings.graph_api == "v1alpha1"
        fields["topologyConstraint"] = {
            "topologyProfile" if alpha else "clusterTopologyName": own.topology.cluster_topology,
            **({"packDomain": own.topology.pack_domain} if own.topology.pack_domain else {}),
        }
    near = own.kv_locality
    if near.domain:
        source = {"labelKey": near.label_key, "clusterTopologyName": near.cluster_topology}
        weight = {} if near.preferred_weight is None else {"preferredWeight": near.preferred_weight}
        policy: dict[str, Any] = {name: value for name, value in source.items() if value}
        policy |= {"domain": near.domain, "enforcement": near.enforcement, **weight}
        fields["experimental"] = {"kvTransferPolicy": policy}
    return fields


def component_fields(deployment: Deployment, pool: str) -> dict[str, Any]:
    """Return a component's own fields of placement and scaling."""
    own = deployment.settings.kubernetes.of_pool(pool)
    fields: dict[str, Any] = {}
    if own.min_available is not None:
        fields["minAvailable"] = own.min_available
    if own.pack_domain:
        fields["topologyConstraint"] = {"packDomain": own.pack_domain}
    if own.scaling_adapter:
        # In v1beta1 it is there, and empty.
        fields["scalingAdapter"] = {"enabled": True} if deployment.settings.graph_api == "v1alpha1" else {}
    return fields


def check(deployment: Deployment) -> Iterator[Problem]:
    """Yield what the operator, or the kinds' own servers, would refuse or not do."""
    own = deployment.settings.kubernetes
    yield from _check_placement(deployment)
    yield from _check_locality(deployment)
    yield from _check_way(deployment)
    yield from _check_nvlink(deployment)
    policy = own.network_policy
    if not policy.enabled and policy != type(policy)():
        yield Problem(
            "without enabled nobody is kept out", f"{WHERE}.network_policy", "set enabled: true, or remove it"
        )
    if policy.enabled and policy.clients and own.expose.kind:
        yield Problem(
            "what comes by the way in comes from the namespace of its controller",
            f"{WHERE}.network_policy.clients",
            "have that namespace among them (that of ingress-nginx, or of the Gateway's proxies)",
            "warning",
        )
    if own.network_policy.enabled and own.host_network:
        yield Problem(
            "policies say nothing about pods with the node's network: workers stay open",
            f"{WHERE}.network_policy",
            "close their ports on the nodes, or set host_network: false",
            "warning",
        )
    if own.disruption_budgets:
        yield from _check_budgets(deployment)


def _check_way(deployment: Deployment) -> Iterator[Problem]:
    way, where = deployment.settings.kubernetes.expose, f"{WHERE}.expose"
    if not way.kind:
        if way != type(way)():
            yield Problem(
                "without a kind there is no way in",
                f"{where}.kind",
                "set it: ingress or gateway; or remove expose",
            )
        return
    if not way.host:
        yield Problem(
            "without a host it would answer for all names",
            f"{where}.host",
            "write the name that clients ask for, or * for all",
        )
    if way.kind == "gateway" and not way.gateway.rpartition("/")[2]:
        yield Problem("a route needs its Gateway", f"{where}.gateway", "name it: NAMESPACE/NAME")
    others = ("ingress_class", "tls_secret") if way.kind == "gateway" else ("gateway",)
    for name in others:
        if getattr(way, name):
            other = "ingress" if way.kind == "gateway" else "gateway"
            yield Problem(
                f"kind {way.kind} has none of it", f"{where}.{name}", f"remove it, or set kind: {other}"
            )


def _check_nvlink(deployment: Deployment) -> Iterator[Problem]:
    own = deployment.settings.kubernetes
    gpu, _ = find_gpu(deployment.hosts[-1].gpu, "", deployment.settings.card_places)
    spans = any(pool.settings.nodes_per_replica > 1 for pool in deployment.pools)
    if own.compute_domain_nodes is not None and not own.compute_domain:
        yield Problem(
            "of no domain", f"{WHERE}.compute_domain_nodes", "name the domain in compute_domain, or remove it"
        )
    if own.compute_domain and gpu and not gpu.multi_node_nvlink:
        yield Problem(
            f"{deployment.hosts[-1].gpu} has no NVLink between nodes: no node has a channel for its pods",
            f"{WHERE}.compute_domain",
            "remove it, or correct wideep_gpu",
            "warning",
        )
    claimed = all(own.additions(pool.name).resource_claims for pool in deployment.pools)
    if gpu and gpu.multi_node_nvlink and spans and not claimed and not own.privileged:
        yield Problem(
            "pods have no IMEX channel, without which NVLink between nodes is closed to them",
            f"{WHERE}.compute_domain",
            "name a ComputeDomain to make, or give the channel in resource_claims",
            "warning",
        )
    claims = {"": own.resource_claims}
    claims |= {f"pools.{name}.": pool.resource_claims for name, pool in own.pools.items()}
    for place, several in claims.items():
        for claim in several:
            if claim.claim and claim.template:
                yield Problem(
                    "a claim of its own, or one that all share",
                    f"{WHERE}.{place}resource_claims.{claim.name}",
                    "set template or claim, one of the two",
                )


def _check_placement(deployment: Deployment) -> Iterator[Problem]:
    own = deployment.settings.kubernetes
    packed = [pool.name for pool in deployment.pools if own.of_pool(pool.name).pack_domain]
    domains = [f"{WHERE}.topology.pack_domain"] * bool(own.topology.pack_domain)
    domains += [f"{WHERE}.pools.{name}.pack_domain" for name in packed]
    if not own.topology.cluster_topology:
        for where in domains:
            yield Problem(
                "a level without a topology",
                where,
                f"name the cluster's ClusterTopology in {WHERE}.topology.cluster_topology"
                " (kubectl get clustertopologies)",
            )
    elif not domains:
        yield Problem(
            "nothing is placed by it",
            f"{WHERE}.topology.cluster_topology",
            "set pack_domain, of the graph or of a pool",
        )
    for pool in deployment.pools:
        least, replicas = own.of_pool(pool.name).min_available, len(pool.replicas)
        where = f"{WHERE}.pools.{pool.name}.min_available"
        if least is not None and least > replicas:
            yield Problem(f"{least} of {replicas} replicas", where, f"use {replicas} or less")
        if least is not None and own.orchestrator != "grove":
            yield Problem("only Grove reads it", where, "remove it, or set orchestrator: grove")
    if own.topology.cluster_topology and own.orchestrator != "grove":
        yield Problem("only Grove reads it", f"{WHERE}.topology", "remove it, or set orchestrator: grove")
    unknown = own.pools.keys() - {pool.name for pool in deployment.pools}
    for name in sorted(unknown):
        yield Problem("there is no such pool", f"{WHERE}.pools.{name}", "remove it", "warning")


def _check_locality(deployment: Deployment) -> Iterator[Problem]:
    near, where = deployment.settings.kubernetes.kv_locality, f"{WHERE}.kv_locality"
    if not near.domain:
        if near != type(near)():
            yield Problem("it has no level", f"{where}.domain", "name it, e.g. rack; or remove kv_locality")
        return
    if bool(near.label_key) == bool(near.cluster_topology):
        yield Problem(
            "the level's value comes from one place",
            where,
            "set label_key (a label of nodes) or cluster_topology, one of the two",
        )
    if (near.preferred_weight is not None) != (near.enforcement == "preferred"):
        yield Problem(
            "enforcement: preferred needs a weight, and required takes none",
            f"{where}.preferred_weight",
            "set it with enforcement: preferred only, 0 to 1",
        )
    if near.cluster_topology and deployment.settings.kubernetes.orchestrator != "grove":
        yield Problem("it is Grove's", f"{where}.cluster_topology", "set label_key instead")
    if len(deployment.pools) == 1:
        yield Problem("one pool hands no KV cache over", where, "remove it")


def _check_budgets(deployment: Deployment) -> Iterator[Problem]:
    single: list[str] = [pool.name for pool in deployment.pools if len(pool.replicas) == 1]
    if deployment.settings.kubernetes.frontend_replicas == 1:
        single.append("frontend")
    if single:
        yield Problem(
            f"of {', '.join(single)} there is one: evictions from their nodes wait until you delete the pods",
            f"{WHERE}.disruption_budgets",
            "have two, or keep in mind that `kubectl drain` waits",
            "warning",
        )


def _made(deployment: Deployment, version: str, kind: str, name: str, spec: Object, **more: Any) -> Object:
    settings = deployment.settings
    labels = common_labels(settings.deployment)
    metadata = {"name": name, "namespace": settings.kubernetes.namespace, "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata | more, "spec": spec}


def _pods(deployment: Deployment, **labels: str) -> Object:
    """Return what selects pods of the deployment."""
    return {"matchLabels": {DEPLOYMENT: deployment.settings.deployment} | labels}


def _of(pool: Pool) -> int:
    """Return how many pods a pool has."""
    return sum(len(replica.nodes) for replica in pool.replicas)


def _compute_domain(deployment: Deployment) -> Object:
    own = deployment.settings.kubernetes
    nodes = own.compute_domain_nodes
    spec = {
        "numNodes": sum(map(_of, deployment.pools)) if nodes is None else nodes,
        "channel": {"resourceClaimTemplate": {"name": f"{own.compute_domain}-{CHANNEL}"}},
    }
    return _made(deployment, "resource.nvidia.com/v1beta1", "ComputeDomain", own.compute_domain, spec)


def _network_policies(deployment: Deployment) -> Iterator[Object]:
    own, name = deployment.settings.kubernetes.network_policy, deployment.settings.deployment

    def namespaces(names: tuple[str, ...]) -> list[Object]:
        return [{"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: each}}} for each in names]

    inside: Object = {"from": [{"podSelector": _pods(deployment)}]}
    for role, port in {"frontend": HTTP_PORT, "worker": SYSTEM_PORT}.items():
        allowed = [inside]
        if own.monitoring:
            allowed.append({"from": namespaces(own.monitoring), "ports": [{"port": port}]})
        if role == "frontend":
            clients = {"from": namespaces(own.clients)} if own.clients else {}
            allowed.append({**clients, "ports": [{"port": port}]})
        yield _made(
            deployment,
            "networking.k8s.io/v1",
            "NetworkPolicy",
            f"{name}-{role}",
            {
                "podSelector": _pods(deployment, **{ROLE: role}),
                "policyTypes": ["Ingress"],
                "ingress": allowed,
            },
        )


def _budgets(deployment: Deployment) -> Iterator[Object]:
    # Not maxUnavailable: it needs a controller that says how many pods there should be.
    name = deployment.settings.deployment
    frontends = deployment.settings.kubernetes.frontend_replicas
    stays = {"frontend": ({ROLE: "frontend"}, max(1, frontends - 1))}
    for pool in deployment.pools:
        pods = _of(pool)
        kept = pods - pods // len(pool.replicas) if len(pool.replicas) > 1 else pods
        stays[pool.name] = ({POOL: pool.name}, kept)
    for part, (labels, kept) in stays.items():
        spec = {"minAvailable": kept, "selector": _pods(deployment, **labels)}
        yield _made(deployment, "policy/v1", "PodDisruptionBudget", f"{name}-{part}", spec)


def _monitor(deployment: Deployment, role: str) -> Object:
    spec = {
        "selector": _pods(deployment, **{ROLE: role}),
        "podMetricsEndpoints": [{"port": METRICS[role], "path": "/metrics"}],
    }
    name = f"{deployment.settings.deployment}-{role}"
    return _made(deployment, "monitoring.coreos.com/v1", "PodMonitor", name, spec)


def _ingress(deployment: Deployment) -> Object:
    way, name = deployment.settings.kubernetes.expose, deployment.settings.deployment
    seconds = str(way.timeout_s)
    times = {f"nginx.ingress.kubernetes.io/proxy-{each}-timeout": seconds for each in ("read", "send")}
    service = {"name": f"{name}-frontend", "port": {"number": HTTP_PORT}}
    rule: Object = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": service}}]}}
    named = way.host != "*"
    spec: Object = {"rules": [{"host": way.host, **rule} if named else rule]}
    if way.ingress_class:
        spec["ingressClassName"] = way.ingress_class
    if way.tls_secret:
        spec["tls"] = [{**({"hosts": [way.host]} if named else {}), "secretName": way.tls_secret}]
    annotations = STREAMING | times | way.annotations
    return _made(deployment, "networking.k8s.io/v1", "Ingress", name, spec, annotations=annotations)


def _route(deployment: Deployment) -> Object:
    way, name = deployment.settings.kubernetes.expose, deployment.settings.deployment
    namespace, _, gateway = way.gateway.rpartition("/")
    parent = {"name": gateway, **({"namespace": namespace} if namespace else {})}
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [{"name": f"{name}-frontend", "port": HTTP_PORT}],
        "timeouts": {"request": f"{way.timeout_s}s", "backendRequest": f"{way.timeout_s}s"},
    }
    spec: Object = {"parentRefs": [parent], "rules": [rule]}
    if way.host != "*":
        spec["hostnames"] = [way.host]
    more = {"annotations": dict(way.annotations)} if way.annotations else {}
    return _made(deployment, "gateway.networking.k8s.io/v1", "HTTPRoute", name, spec, **more)
