"""Names of objects, labels and annotations that manifests and the cluster's side agree on."""

from __future__ import annotations

GRAPHS = "dynamographdeployments"
# The operator writes it on what it makes for a graph.
GRAPH_LABEL = "nvidia.com/dynamo-graph-deployment-name"
COMPONENT_LABEL = "nvidia.com/dynamo-component"
# A graph's annotation: where its processes find each other.
DISCOVERY = "nvidia.com/dynamo-discovery-backend"
GROUP = "nvidia.com"
FIELD_MANAGER = "wideep"
MANAGED = ("app.kubernetes.io/managed-by", "wideep")
INSTANCE = "app.kubernetes.io/instance"


# Our own words on pods and on the download. Of a pod's app.kubernetes.io labels Grove writes some itself.
ROLE = "wideep.dynamo/role"
DEPLOYMENT = "wideep.dynamo/deployment"
POOL = "wideep.dynamo/pool"
# Annotation of a graph: whether Grove makes its pods.
ENABLE_GROVE = "nvidia.com/enable-grove"
# An annotation of pods: changes with the template of their component.
TEMPLATE = "wideep.dynamo/template"
# What pods of one replica have alike, by what places them.
GANG_LABELS = {
    "grove": ("grove.io/podcliquescalinggroup", "grove.io/podcliquescalinggroup-replica-index"),
    "lws": ("leaderworkerset.sigs.k8s.io/group-key",),
}
DOWNLOAD_LABEL = ("app.kubernetes.io/name", "model-download")
# What a download was made for.
REPOSITORY, REVISION = "wideep.dynamo/repository", "wideep.dynamo/revision"
TARGET = "wideep.dynamo/directory"


def common_labels(deployment: str) -> dict[str, str]:
    """Return the labels of all objects. Not managed-by: the playbooks add it to what is theirs."""
    return {"app.kubernetes.io/name": "wideep", INSTANCE: deployment}


def env_secret(deployment: str) -> str:
    """Return the name of the Secret that holds `secrets_env` of a deployment."""
    return f"{deployment}-env"
