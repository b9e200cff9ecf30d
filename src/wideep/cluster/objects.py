"""What a deployment has in a cluster: what to apply, what to prune, what to remove."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wideep.cluster.access import Cluster, RefusedByServerError, is_ours, labels_of
from wideep.inventory.kubernetes import KubernetesSettings
from wideep.inventory.secrets import Secrets, registry_auth
from wideep.kubernetes.names import (
    GRAPHS,
    GROUP,
    INSTANCE,
    MANAGED,
    ROLE,
    env_secret,
)
from wideep.problems import Problem

Object = dict[str, Any]

# Kinds that we make in the namespace, in the order in which they are removed.
KINDS = {
    "DynamoGraphDeployment": f"/apis/{GROUP}/{{version}}/namespaces/{{namespace}}/{GRAPHS}",
    "HTTPRoute": "/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes",
    "Ingress": "/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses",
    "PodMonitor": "/apis/monitoring.coreos.com/v1/namespaces/{namespace}/podmonitors",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "ComputeDomain": "/apis/resource.nvidia.com/v1beta1/namespaces/{namespace}/computedomains",
    "Job": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
}
API_VERSION = {
    "DynamoGraphDeployment": f"{GROUP}/{{version}}",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "ComputeDomain": "resource.nvidia.com/v1beta1",
    "Job": "batch/v1",
    "ConfigMap": "v1",
    "Secret": "v1",
    "PersistentVolumeClaim": "v1",
}
FORBIDDEN = 403
# What stands beside a graph where it is asked for, and what to do where a cluster lacks the kind.
BESIDE = {
    "ComputeDomain": "install NVIDIA's DRA driver, or unset wideep_kubernetes.compute_domain",
    "HTTPRoute": "install the Gateway API, or set wideep_kubernetes.expose.kind: ingress",
    "Ingress": "upgrade the cluster, or unset wideep_kubernetes.expose.kind",
    "NetworkPolicy": "upgrade the cluster, or set wideep_kubernetes.network_policy.enabled: false",
    "PodDisruptionBudget": "upgrade the cluster, or set wideep_kubernetes.disruption_budgets: false",
    "PodMonitor": "install the Prometheus operator, or set wideep_kubernetes.pod_monitors: false",
}
# Deployments of a namespace have these in common, unless they have a deployment's label: they go with the
# last one.
SHARED = ("Secret", "PersistentVolumeClaim", "Job")
# Changes with the content of the Secret with the workers' environment: pods do not notice that by themselves.
GENERATION = "wideep.dynamo/secrets-generation"
HUB_KEY = "HF_TOKEN"
# What a pod is refused for where Pod Security is `baseline`; variables of wideep_kubernetes.
PRIVILEGES = ("host_network", "host_ipc", "privileged", "cache_host_path", "capabilities")
POD_SECURITY = "pod-security.kubernetes.io/enforce"
# Says that wideep installed the platform's release, where the namespace is not ours.
PLATFORM_MARK = "wideep-platform"


def namespace(name: str, own: KubernetesSettings | None = None) -> Object:
    """Return a namespace that is marked as ours: teardown removes no other.

    own: where the deployment's pods are to be there.
    """
    labels = dict([MANAGED])
    if own is not None:
        labels[POD_SECURITY] = "privileged" if privileges(own) else "baseline"
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def privileges(own: KubernetesSettings) -> list[str]:
    """Return the variables that ask for more than Pod Security's `baseline` allows."""
    return [name for name in PRIVILEGES if getattr(own, name)]


def platform_mark(name: str) -> Object:
    """Return what stands in the platform's namespace while its release is ours."""
    metadata = {"name": PLATFORM_MARK, "namespace": name, "labels": dict([MANAGED])}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}


def secrets(own: KubernetesSettings, values: Secrets, deployment: str) -> list[Object]:
    """Return the Secrets whose values are known here."""
    found = []
    if values.env:
        made = _secret(own, env_secret(deployment), "Opaque", values.env)
        made["metadata"]["labels"] = {INSTANCE: deployment}
        found.append(made)
    if values.hub_token:
        found.append(_secret(own, own.hf_token_secret, "Opaque", {HUB_KEY: values.hub_token}))
    if values.registries and own.image_pull_secrets:
        content = {".dockerconfigjson": registry_auth(values.registries)}
        name = own.image_pull_secrets[0]
        found.append(_secret(own, name, "kubernetes.io/dockerconfigjson", content))
    return found


def _secret(own: KubernetesSettings, name: str, kind: str, content: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {"name": name, "namespace": own.namespace},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in content.items()},
    }


def marked(item: Mapping[str, Any], deployment: str) -> Object:
    """Return an object with the labels by which it is found; what is shared has no deployment's name."""
    made = copy.deepcopy(dict(item))
    labels = made["metadata"].setdefault("labels", {})
    labels[MANAGED[0]] = MANAGED[1]
    if made["kind"] not in SHARED:
        labels[INSTANCE] = deployment
    return made


def path_of(item: Mapping[str, Any]) -> str:
    """Return where an object is in the API."""
    version = item["apiVersion"].rpartition("/")[2]
    folder = KINDS[item["kind"]].format(version=version, namespace=item["metadata"]["namespace"])
    return f"{folder}/{item['metadata']['name']}"


def resource(kind: str) -> str:
    """Return a kind as rights name it: `jobs.batch`."""
    group = API_VERSION[kind].rpartition("/")[0]
    plural = KINDS[kind].rpartition("/")[2]
    return f"{plural}.{group}" if group else plural


def foreign(cluster: Cluster, items: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Return a problem for each object that is there already and that wideep did not make."""
    problems = []
    for item in items:
        there = cluster.get(path_of(item))
        if there is None or is_ours(there):
            continue
        kind, name = item["kind"], item["metadata"]["name"]
        remedy = {
            "Secret": "take it as it is: unset the variable with its value; or delete it",
            "PersistentVolumeClaim": "take it as it is: set wideep_kubernetes.model_cache.create: false",
            "Job": "take its work as it is: set wideep_kubernetes.model_cache.download: false; or delete it",
        }.get(kind, "choose another wideep_deployment, or delete it")
        problems.append(Problem("it is there, and wideep did not make it", f"{kind} {name}", remedy))
    return problems


def owned(cluster: Cluster, name: str, version: str, deployment: str) -> list[Object]:
    """Return references to all that wideep made for a deployment, and what it alone still shares."""
    found: list[Object] = []
    graphs = cluster.items(KINDS["DynamoGraphDeployment"].format(version=version, namespace=name))
    # Also graphs that wideep did not make: they may read the volume.
    others = any(not is_ours(item) or labels_of(item).get(INSTANCE) != deployment for item in graphs)
    for kind, path in KINDS.items():
        try:
            items = cluster.items(path.format(version=version, namespace=name), dict([MANAGED]))
        except RefusedByServerError as error:
            if kind in BESIDE and error.status == FORBIDDEN:  # who may not look made none
                continue
            raise
        for item in items:
            owner = labels_of(item).get(INSTANCE)
            if owner == deployment or (owner is None and kind in SHARED and not others):
                found.append(reference(kind, version, item))
    return found


def reference(kind: str, version: str, item: Mapping[str, Any]) -> Object:
    """Return what is enough to delete an object."""
    metadata = {name: item["metadata"][name] for name in ("name", "namespace")}
    owner = labels_of(item).get(INSTANCE)
    return {
        "apiVersion": API_VERSION[kind].format(version=version),
        "kind": kind,
        "metadata": metadata | ({"labels": {INSTANCE: owner}} if owner else {}),
    }


def _shared(item: Mapping[str, Any]) -> bool:
    return item["kind"] in SHARED and INSTANCE not in labels_of(item)


def stale(there: Sequence[Mapping[str, Any]], wanted: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return what the last version had and this one has not. Shared objects stay: others may use them."""
    names = {(item["kind"], item["metadata"]["name"]) for item in wanted}
    return [
        item for item in there if not _shared(item) and (item["kind"], item["metadata"]["name"]) not in names
    ]


def generation(there: Mapping[str, Any] | None, data: Mapping[str, str], new: str) -> str:
    """Return the generation of a Secret: that of the one that is there if its content is the same."""
    if there and (there.get("data") or {}) == data:
        return str((there["metadata"].get("annotations") or {}).get(GENERATION, new))
    return new


def of_generation(items: Iterable[Mapping[str, Any]], value: str) -> list[Object]:
    """Return objects; in graphs, workers' pods carry the generation, so another one starts them again."""
    made = [copy.deepcopy(dict(item)) for item in items]
    for item in made:
        spec = item["spec"] if item["kind"] == "DynamoGraphDeployment" else {}
        for pod in (
            *(service["extraPodMetadata"] for service in spec.get("services", {}).values()),
            *(component["podTemplate"]["metadata"] for component in spec.get("components", ())),
        ):
            if value and pod["labels"][ROLE] == "worker":
                pod.setdefault("annotations", {})[GENERATION] = value
    return made


def removable(owned: Sequence[Mapping[str, Any]], *, keep_model: bool) -> list[Mapping[str, Any]]:
    """Return what teardown removes. keep_model: the volume stays, with the model on it."""
    return [item for item in owned if not (keep_model and item["kind"] == "PersistentVolumeClaim")]
