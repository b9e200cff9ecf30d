"""`wideep_kubernetes`: what a cluster needs to know beyond the deployment itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from wideep.wording import PATTERNS

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
QUANTITY = r"^([0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?)?$"
PATTERNS |= {
    DNS_LABEL: "write up to 63 small letters, digits and dashes, a letter or digit first and last",
    QUANTITY: "write a number with a unit of Kubernetes, e.g. 80Gi, 500m, 1Ti",
}
Name = Annotated[str, Field(pattern=DNS_LABEL)]
Quantity = Annotated[str, Field(pattern=QUANTITY)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelCacheSettings(_Strict):
    """`wideep_kubernetes.model_cache`: the volume that all pods read the model from.

    create: whether the claim is ours; else it must be there. download: whether a Job fills it (with what
    model_cache_repo and model_cache_revision name). storage_class: unset means the cluster's default.
    """

    claim: Name = "model-cache"
    create: bool = True
    size: Quantity = "1Ti"
    storage_class: str = ""
    access_mode: Literal["ReadWriteMany", "ReadOnlyMany"] = "ReadWriteMany"
    mount_path: str = Field(default="/model-cache", pattern=r"^/[A-Za-z0-9._/-]+$")
    download: bool = True


class KubernetesSettings(_Strict):
    """`wideep_kubernetes`. Empty texts and lists mean: leave it to the cluster.

    image, frontend_image: unset means the release's official images. rdma_resource, rdma_count: extended
    resource that the RDMA device plugin offers, and how many each worker pod takes. orchestrator: what
    places the pods of a replica together. queue: of the KAI scheduler. cache_host_path: directory on the
    nodes for compiled kernels; unset, they are lost with the pod.
    """

    namespace: Name = "dynamo"
    image: str = ""
    frontend_image: str = ""
    image_pull_secrets: tuple[Name, ...] = ()
    hf_token_secret: Name = "hf-token-secret"  # noqa: S105 - its name
    frontend_replicas: int = Field(default=1, ge=1, le=50)
    model_cache: ModelCacheSettings = ModelCacheSettings()
    orchestrator: Literal["grove", "lws"] = "grove"
    queue: str = ""
    scheduler: str = ""
    priority_class: str = ""
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    cpu: Quantity = ""
    memory: Quantity = ""
    shared_memory: Quantity = "80Gi"
    rdma_resource: str = Field(default="", pattern=r"^([a-z0-9.-]+/[A-Za-z0-9._-]+)?$")
    rdma_count: int = Field(default=1, ge=1)
    host_network: bool = False
    host_ipc: bool = False
    privileged: bool = False
    capabilities: tuple[str, ...] = ("IPC_LOCK",)
    cache_host_path: str = Field(default="", pattern=r"^(/[A-Za-z0-9._/-]+)?$")
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
