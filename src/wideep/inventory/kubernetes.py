"""`wideep_kubernetes`: what a cluster needs to know beyond the deployment itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from wideep.inventory.wording import LONGEST, PATTERNS

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
QUANTITY = r"^([0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?)?$"
# What a component asks of its node where the variables say nothing: floors, so that its pods are not the
# first to be evicted. A rank keeps one core busy; nothing of it was measured with GPUs.
FLOORS = {"frontend": {"cpu": "1", "memory": "1Gi"}, "download": {"cpu": "1", "memory": "2Gi"}}
PATTERNS |= {
    DNS_LABEL: "write up to 63 small letters, digits and dashes, a letter or digit first and last",
    QUANTITY: "write a number with a unit of Kubernetes, e.g. 80Gi, 500m, 1Ti",
}
LONGEST[DNS_LABEL] = 63
Name = Annotated[str, Field(pattern=DNS_LABEL)]
Quantity = Annotated[str, Field(pattern=QUANTITY)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelCacheSettings(_Strict):
    """`wideep_kubernetes.model_cache`: the volume that all pods read the model from.

    create: whether the claim is ours; else it must be there. download: whether a Job fills it (with what
    model_cache_repo and model_cache_revision name). storage_class: unset means the cluster's default.
    run_as_user: who downloads; unset, the image's user (1000).
    """

    claim: Name = "model-cache"
    create: bool = True
    size: Quantity = "1Ti"
    storage_class: str = ""
    access_mode: Literal["ReadWriteMany", "ReadOnlyMany"] = "ReadWriteMany"
    mount_path: str = Field(default="/model-cache", pattern=r"^/[A-Za-z0-9._/-]+$")
    download: bool = True
    run_as_user: int | None = Field(default=None, ge=0)


class Amounts(_Strict):
    """CPU and memory of a pod."""

    cpu: Quantity = ""
    memory: Quantity = ""


class PodResources(_Strict):
    """What a pod's node reserves for it, and what it may use at most."""

    requests: Amounts = Amounts()
    limits: Amounts = Amounts()


class ResourceSettings(_Strict):
    """`wideep_kubernetes.resources`: of a worker pod, a frontend and the download."""

    worker: PodResources = PodResources()
    frontend: PodResources = PodResources()
    download: PodResources = PodResources()


class CpuPodSettings(_Strict):
    """`wideep_kubernetes.cpu_pods`: where frontends and the download may be.

    tolerations: unset, those of workers.
    """

    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] | None = None


class KubernetesSettings(_Strict):
    """`wideep_kubernetes`. Empty texts and lists mean: leave it to the cluster.

    image, frontend_image: unset means the release's official images. rdma_resource, rdma_count: extended
    resource that the RDMA device plugin offers, and how many each worker pod takes. orchestrator: what
    places the pods of a replica together. queue: of the KAI scheduler. run_as_user: of workers; unset, the
    image's user (1000), for whom capabilities have no effect. cache_host_path: directory on the nodes for
    compiled kernels; unset, they are lost with the pod.
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
    cpu_pods: CpuPodSettings = CpuPodSettings()
    resources: ResourceSettings = ResourceSettings()
    shared_memory: Quantity = "80Gi"
    rdma_resource: str = Field(default="", pattern=r"^([a-z0-9.-]+/[A-Za-z0-9._-]+)?$")
    rdma_count: int = Field(default=1, ge=1)
    host_network: bool = False
    host_ipc: bool = False
    privileged: bool = False
    run_as_user: int | None = Field(default=None, ge=0)
    capabilities: tuple[str, ...] = ("IPC_LOCK",)
    cache_host_path: str = Field(default="", pattern=r"^(/[A-Za-z0-9._/-]+)?$")
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    def requests(self, component: str, gpus: int = 0) -> dict[str, str]:
        """Return what a pod asks of its node. gpus: of one pod; component: `worker`, or a key of FLOORS."""
        own: PodResources = getattr(self.resources, component)
        # Shared memory is memory of the pod.
        floors = FLOORS.get(component, {"cpu": str(gpus), "memory": self.shared_memory})
        return {
            name: getattr(own.requests, name) or getattr(own.limits, name) or floor
            for name, floor in floors.items()
        }

    def limits(self, component: str) -> dict[str, str]:
        """Return what a pod may use at most; nothing where nothing is set."""
        own: PodResources = getattr(self.resources, component)
        return {name: value for name, value in own.limits.model_dump().items() if value}

    def tolerations_of(self, component: str) -> list[dict[str, Any]]:
        """Return the taints that a pod tolerates."""
        own = self.cpu_pods.tolerations
        return [dict(t) for t in (self.tolerations if component == "worker" or own is None else own)]

    def node_selector_of(self, component: str) -> dict[str, str]:
        """Return the labels of the nodes that a pod may be on."""
        return dict(self.node_selector if component == "worker" else self.cpu_pods.node_selector)
