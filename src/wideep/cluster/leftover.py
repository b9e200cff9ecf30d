"""What teardown leaves of namespaces and of the platform, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wideep.cluster.access import Cluster, RefusedByServerError, is_ours, labels_of
from wideep.cluster.objects import PLATFORM_MARK, path_of, platform_mark
from wideep.kubernetes.names import GRAPH_LABEL, GRAPHS, GROUP, INSTANCE, MANAGED

# A message is for a person: of many objects the first ones say it all.
SHOWN = 5
# Kinds that nobody makes: Kubernetes does, of other objects or by itself.
BYPRODUCTS = frozenset(
    {"Event", "Endpoints", "EndpointSlice", "ControllerRevision", "PodMetrics", "Lease", "CiliumEndpoint"}
)
# Objects that Kubernetes puts into every namespace.
BUILT_IN = frozenset(
    {
        ("ConfigMap", "kube-root-ca.crt"),
        ("ConfigMap", "openshift-service-ca.crt"),
        ("ServiceAccount", "default"),
        ("ServiceAccount", "builder"),
        ("ServiceAccount", "deployer"),
    }
)
# Operators make Secrets without an owner: mpirun's SSH key in each namespace with graphs of several nodes
# (ai-dynamo/dynamo, deploy/operator/internal/secret, SSHKeyManager), webhooks' certificates in their own.
OPERATORS = frozenset({"dynamo-operator", "grove-operator"})
CERTIFICATES = frozenset({("Secret", "webhook-server-cert"), ("Secret", "grove-webhook-server-cert")})


def left_in(
    cluster: Cluster, name: str, *, leaving: Iterable[Mapping[str, Any]] = (), release: str = ""
) -> list[str]:
    """Return what keeps a namespace: all but what Kubernetes, operators and a release of ours put there.

    Args:
        leaving: references to what teardown is about to remove.
        release: of Helm, whose objects go with the namespace; its claims stay after `helm uninstall`.

    Raises:
        RefusedByServerError: we may not look at everything.
    """
    gone = {(item["kind"], item["metadata"]["name"]) for item in leaving}
    found = []
    for kind, item in cluster.everything(name, BYPRODUCTS):
        metadata, labels = item["metadata"], labels_of(item)
        this = kind, metadata["name"]
        goes = (
            this in gone | BUILT_IN | CERTIFICATES
            or metadata.get("ownerReferences")
            or "deletionTimestamp" in metadata
            or labels.get(MANAGED[0]) in OPERATORS
            # Of a graph that stays, the graph itself keeps the namespace.
            or GRAPH_LABEL in labels
            or (release and release in (labels.get(INSTANCE), _of_helm(labels)))
            or this == ("ConfigMap", PLATFORM_MARK)
        )
        # A token or account of Kubernetes belongs to its account.
        token = item.get("type") == "kubernetes.io/service-account-token"
        if not goes and not token:
            found.append(f"{kind} {metadata['name']}")
    return sorted(set(found))


def _of_helm(labels: Mapping[str, str]) -> str:
    """Return the release whose record a Secret is; a check looks while it is still there."""
    return labels.get("name", "") if labels.get("owner") == "helm" else ""


def namespace_kept(
    cluster: Cluster, name: str, *, leaving: Iterable[Mapping[str, Any]] = (), release: str = ""
) -> str:
    """Return what teardown says where it removes no namespace; else nothing. Arguments as for `left_in`."""
    there = cluster.get(f"/api/v1/namespaces/{name}")
    if there is None:
        return f"there is no namespace {name}"
    if not is_ours(there):
        return f"the namespace stays: wideep did not make the namespace {name}"
    try:
        left = left_in(cluster, name, leaving=leaving, release=release)
    except RefusedByServerError as error:
        return f"the namespace stays: nobody can tell what else is in {name}: {error}"
    if not left:
        return ""
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    return f"the namespace stays: {name} holds {', '.join(left[:SHOWN])}{more}"


def platform_kept(cluster: Cluster, name: str, version: str, leaving: tuple[str, str]) -> str:
    """Return what teardown says where it removes no platform; else nothing.

    Args:
        leaving: namespace and name of the graph that teardown has removed, or is about to.
    """
    there = cluster.get(f"/api/v1/namespaces/{name}")
    if there is None:
        return f"there is no platform: there is no namespace {name}"
    mark = cluster.get(path_of(platform_mark(name)))
    if not is_ours(there) and not (mark and is_ours(mark)):
        return f"the platform stays: wideep did not install the platform in {name}"
    for item in cluster.items(f"/apis/{GROUP}/{version}/{GRAPHS}"):
        found = item["metadata"]["namespace"], item["metadata"]["name"]
        if found != leaving:
            return f"the platform stays: DynamoGraphDeployment {found[1]} in {found[0]} needs it"
    return ""
