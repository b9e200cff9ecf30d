"""`wideep_kubernetes`: what a cluster needs to know beyond the deployment itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from wideep.wording import LONGEST, PATTERNS

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
OBJECT_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
HOST = r"^(\*|(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$"
# As the operator's CRD has it.
LABEL_KEY = r"^([a-z0-9][a-z0-9.-]*/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$|^$"
DOMAIN = r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?)?$"
RESOURCE = r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$"
QUANTITY = r"^([0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?)?$"
# What a component asks of its node where the variables say nothing: floors, so that its pods are not the
# first to be evicted. A rank keeps one core busy; nothing of it was measured with GPUs.
FLOORS = {"frontend": {"cpu": "1", "memory": "1Gi"}, "download": {"cpu": "1", "memory": "2Gi"}}
PATTERNS |= {
    DNS_LABEL: "write up to 63 small letters, digits and dashes, a letter or digit first and last",
    f"{OBJECT_NAME}|^$": "write small letters, digits, dashes and dots, as `kubectl get` shows its name",
    HOST: "write a name alone, in small letters: llm.example.com, *.example.com, or * for all",
    LABEL_KEY: "write the label's key as `kubectl get nodes --show-labels` has it",
    DOMAIN: "write small letters, digits and dashes, as the ClusterTopology names it, e.g. rack",
    RESOURCE: "write it as `kubectl describe node` lists it, e.g. rdma/ib",
    QUANTITY: "write a number with a unit of Kubernetes, e.g. 80Gi, 500m, 1Ti",
}
LONGEST[DNS_LABEL] = 63
# Claim of a ComputeDomain's channel, and the end of its template's name.
CHANNEL = "channel"
Name = Annotated[str, Field(pattern=DNS_LABEL)]
Quantity = Annotated[str, Field(pattern=QUANTITY)]


class _Strict(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class ModelCacheSettings(_Strict):
    """`wideep_kubernetes.model_cache`: the volume that all pods read the model from."""

    claim: Name = Field(default="model-cache", description="Name of the volume claim.")
    create: bool = Field(default=True, description="Whether the claim is ours; else it must be there.")
    size: Quantity = Field(default="1Ti", description="Size of a claim that is ours.")
    storage_class: str = Field(default="", description="Its storage class; empty, the cluster's default.")
    access_mode: Literal["ReadWriteMany", "ReadOnlyMany"] = Field(
        default="ReadWriteMany", description="How pods of several nodes have the volume."
    )
    mount_path: str = Field(
        default="/model-cache",
        pattern=r"^/[A-Za-z0-9._/-]+$",
        description="Directory of the pods where the volume is.",
    )
    download: bool = Field(
        default=True,
        description="Whether a Job brings what model_cache_repo and model_cache_revision name. Deployments"
        " of a namespace share claim and download.",
    )
    run_as_user: int | None = Field(
        default=None, ge=0, description="User that downloads; unset, the image's (1000)."
    )


class Amounts(_Strict):
    """CPU and memory of a pod."""

    cpu: Quantity = Field(default="", description="Number of CPUs, such as V(2) or V(500m).")
    memory: Quantity = Field(default="", description="Memory, such as V(64Gi).")


class PodResources(_Strict):
    """What a pod's node reserves for it, and what it may use at most."""

    requests: Amounts = Field(default=Amounts(), description="What a node reserves for the pod.")
    limits: Amounts = Field(default=Amounts(), description="What the pod may use at most.")


class ResourceSettings(_Strict):
    """`wideep_kubernetes.resources`: of a worker pod, a frontend and the download."""

    worker: PodResources = Field(
        default=PodResources(),
        description="Of a worker pod; requests are one CPU for each GPU and as much memory as"
        " C(shared_memory), unless set.",
    )
    frontend: PodResources = Field(default=PodResources(), description="Of a frontend.")
    download: PodResources = Field(default=PodResources(), description="Of the download.")


class CpuPodSettings(_Strict):
    """`wideep_kubernetes.cpu_pods`: where frontends and the download may be."""

    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels of their nodes.")
    tolerations: tuple[dict[str, Any], ...] | None = Field(
        default=None, description="Taints that they tolerate; unset, those of workers."
    )


class ResourceClaim(_Strict):
    """One claim of dynamic resource allocation: a device that a driver hands out (IMEX channel, NIC)."""

    name: Name = Field(description="Name of it in the pod.")
    template: str = Field(
        default="",
        pattern=f"{OBJECT_NAME}|^$",
        description="C(ResourceClaimTemplate) that each pod gets a claim from; unset, C(name), unless"
        " C(claim) is set.",
    )
    claim: str = Field(
        default="", pattern=f"{OBJECT_NAME}|^$", description="C(ResourceClaim) that all pods share instead."
    )


class PodAdditions(_Strict):
    """What a worker pod gets beside what the plan gives it."""

    node_selector: dict[str, str] = Field(
        default_factory=dict, description="Labels of the worker pods' nodes."
    )
    resource_claims: tuple[ResourceClaim, ...] = Field(
        default=(),
        description="Claims of dynamic resource allocation, such as a C(ComputeDomain)'s channel for NVLink"
        " between nodes.",
    )
    extra_resources: dict[Annotated[str, Field(pattern=RESOURCE)], Quantity] = Field(
        default_factory=dict,
        description="Extended resources by name and number, such as RDMA devices of several names.",
    )
    volumes: tuple[dict[str, Any], ...] = Field(
        default=(), description="Volumes of the pod as Kubernetes has them (C(name), and a source)."
    )
    volume_mounts: tuple[dict[str, Any], ...] = Field(
        default=(), description="Where the container has them (C(name), C(mountPath))."
    )


class PoolAdditions(PodAdditions):
    """What a pool has of its own: its pods, and how Grove places its replicas."""

    pack_domain: str = Field(
        default="",
        pattern=DOMAIN,
        description="Level of C(topology.cluster_topology) within which a replica's pods are, such as"
        " V(rack); empty, that of C(topology).",
    )
    min_available: int | None = Field(
        default=None,
        ge=1,
        description="Replicas that Grove places all or none, and below which it starts the gang again; unset,"
        " one. Cannot be changed on a graph that is there.",
    )
    scaling_adapter: bool = Field(
        default=False,
        description="Others change the number of replicas while the graph is there, through the operator's"
        " C(DynamoGraphDeploymentScalingAdapter) (an autoscaler, Dynamo's planner, C(kubectl scale));"
        " C(wideep_pools.<pool>.replicas) is what it begins with.",
    )


class TopologySettings(_Strict):
    """`wideep_kubernetes.topology`: where Grove puts what belongs together."""

    cluster_topology: str = Field(
        default="", pattern=f"{OBJECT_NAME}|^$", description="Name of the cluster's C(ClusterTopology)."
    )
    pack_domain: str = Field(
        default="",
        pattern=DOMAIN,
        description="Level within which the whole graph is; empty, only where a pool says one.",
    )


class KvLocalitySettings(_Strict):
    """`wideep_kubernetes.kv_locality`: decode workers near the prefill worker that has the KV cache."""

    domain: str = Field(
        default="", pattern=DOMAIN, description="Name of the level, such as V(rack); empty, no locality."
    )
    label_key: str = Field(
        default="",
        pattern=LABEL_KEY,
        description="Label of nodes with the level's value; unset, of C(cluster_topology).",
    )
    cluster_topology: str = Field(
        default="",
        pattern=f"{OBJECT_NAME}|^$",
        description="C(ClusterTopology) that has the level, instead of C(label_key).",
    )
    enforcement: Literal["required", "preferred"] = Field(
        default="required", description="Whether decode workers elsewhere may be taken."
    )
    preferred_weight: float | None = Field(
        default=None, ge=0, le=1, description="How much nearness counts where it is V(preferred)."
    )


class ExposeSettings(_Strict):
    """`wideep_kubernetes.expose`: a way to the frontends from outside."""

    kind: Literal["", "ingress", "gateway"] = Field(
        default="",
        description="An C(Ingress), or an C(HTTPRoute) of the Gateway API; empty, neither.",
    )
    host: str = Field(default="", pattern=HOST, description="Name that clients ask for.")
    ingress_class: str = Field(default="", description="Class of the Ingress; empty, the cluster's default.")
    gateway: str = Field(
        default="",
        pattern=r"^([a-z0-9.-]+/)?[a-z0-9.-]*$",
        description="C(Gateway) that has the route, V(NAME) or V(NAMESPACE/NAME).",
    )
    tls_secret: Annotated[str, Field(pattern=f"{OBJECT_NAME}|^$")] = Field(
        default="", description="Secret with the Ingress' certificate. A Gateway has its own."
    )
    timeout_s: int = Field(
        default=3600, ge=1, description="Seconds that an answer may take, from the request to its last token."
    )
    annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Annotations, such as time-outs of a controller; those of ingress-nginx are written.",
    )


class NetworkPolicySettings(_Strict):
    """`wideep_kubernetes.network_policy`: who may reach the pods."""

    enabled: bool = Field(
        default=False, description="Whether workers take connections of this deployment only."
    )
    clients: tuple[Name, ...] = Field(
        default=(), description="Namespaces that may reach the frontends; empty, everybody."
    )
    monitoring: tuple[Name, ...] = Field(
        default=(), description="Namespaces that may read metrics, such as Prometheus'."
    )


class KubernetesSettings(PodAdditions):
    """`wideep_kubernetes`. Empty texts and lists mean: leave it to the cluster."""

    namespace: Name = Field(default="dynamo", description="Namespace of all objects but the platform.")
    image: str = Field(default="", description="Image of workers; empty, the release's official one.")
    frontend_image: str = Field(
        default="", description="Image of frontends; empty, the release's official one."
    )
    image_pull_secrets: tuple[Name, ...] = Field(
        default=(), description="Names of Secrets with accounts of registries."
    )
    hf_token_secret: Name = Field(
        default="hf-token-secret", description="Name of the Secret with the model hub's token."
    )
    frontend_replicas: int = Field(default=1, ge=1, le=50, description="Number of frontends.")
    model_cache: ModelCacheSettings = Field(
        default=ModelCacheSettings(), description="The volume with the model."
    )
    orchestrator: Literal["grove", "lws"] = Field(
        default="grove",
        description="What places the pods of a replica together. Where every replica is one pod, V(grove) is"
        " used only where C(queue), C(topology) or C(pools.<pool>.min_available) asks for it.",
    )
    queue: str = Field(default="", description="Queue of the KAI scheduler.")
    scheduler: str = Field(default="", description="Scheduler of the pods.")
    priority_class: str = Field(default="", description="Priority class of the pods.")
    topology: TopologySettings = Field(
        default=TopologySettings(), description="Where Grove puts what belongs together."
    )
    kv_locality: KvLocalitySettings = Field(
        default=KvLocalitySettings(),
        description="Decode workers near the prefill worker that has the KV cache (the operator's"
        " C(kvTransferPolicy)).",
    )
    compute_domain: Annotated[str, Field(pattern=f"{DNS_LABEL}|^$")] = Field(
        default="",
        description="Name of a C(ComputeDomain) to make: NVLink between the worker pods' nodes (GB200,"
        " GB300). Its channel is claimed by all worker pods. Empty, none.",
    )
    compute_domain_nodes: int | None = Field(
        default=None,
        ge=0,
        description="Nodes of the domain; unset, one for each worker pod. V(0) where NVIDIA's driver lets"
        " domains grow with their pods. Cannot be changed on a domain that is there.",
    )
    expose: ExposeSettings = Field(
        default=ExposeSettings(), description="A way to the frontends from outside."
    )
    network_policy: NetworkPolicySettings = Field(
        default=NetworkPolicySettings(), description="Who may reach the pods."
    )
    disruption_budgets: bool = Field(
        default=False,
        description="Whether evictions (C(kubectl drain)) leave all frontends but one and all replicas of a"
        " pool but one; what there is one of is not evicted at all.",
    )
    pod_monitors: bool = Field(
        default=False,
        description="Whether the Prometheus operator is told of the pods' metrics (C(PodMonitor)). The"
        " platform's chart can do that, too.",
    )
    pools: dict[Literal["prefill", "decode", "aggregated"], PoolAdditions] = Field(
        default_factory=dict, description="What the worker pods of one pool get beside that, by its name."
    )
    tolerations: tuple[dict[str, Any], ...] = Field(
        default=(), description="Taints that worker pods tolerate."
    )
    cpu_pods: CpuPodSettings = Field(
        default=CpuPodSettings(),
        description="Where frontends and the download are; not on GPU nodes where there are others.",
    )
    resources: ResourceSettings = Field(
        default=ResourceSettings(), description="CPU and memory that pods ask for, and may use at most."
    )
    shared_memory: Quantity = Field(default="80Gi", description="Size of a worker's C(/dev/shm).")
    rdma_resource: str = Field(
        default="",
        pattern=r"^([a-z0-9.-]+/[A-Za-z0-9._-]+)?$",
        description="Extended resource that the RDMA device plugin offers, such as V(rdma/ib).",
    )
    rdma_count: int = Field(default=1, ge=1, description="How many of it a worker pod takes.")
    host_network: bool = Field(default=False, description="Whether workers have the node's network.")
    host_ipc: bool = Field(default=False, description="Whether workers share the node's IPC namespace.")
    privileged: bool = Field(default=False, description="Whether workers are privileged.")
    run_as_user: int | None = Field(
        default=None,
        ge=0,
        description="User of workers; unset, the image's (1000), for whom capabilities have no effect.",
    )
    capabilities: tuple[str, ...] = Field(
        default=("IPC_LOCK",), description="Linux capabilities that workers get."
    )
    cache_host_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._/-]+)?$",
        description="Directory on the nodes that keeps compiled kernels; empty, they go with the pod.",
    )
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of all pods.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of all pods.")

    def uses_grove(self, *, several_nodes: bool) -> bool:
        """Whether Grove makes the pods. Each graph says so: by itself it would change when Grove comes."""
        least = any(own.min_available is not None for own in self.pools.values())
        asked = bool(self.queue or self.topology.cluster_topology or least)
        return self.orchestrator == "grove" and (several_nodes or asked)

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

    def node_selector_of(self, component: str, pool: str = "") -> dict[str, str]:
        """Return the labels of the nodes that a pod may be on."""
        return self.additions(pool).node_selector if component == "worker" else self.cpu_pods.node_selector

    def of_pool(self, pool: str) -> PoolAdditions:
        """Return what a pool has of its own."""
        return self.pools.get(pool, PoolAdditions())  # type: ignore[call-overload,no-any-return]

    def additions(self, pool: str) -> PodAdditions:
        """Return what a pool's worker pods get: what all get, then its own. RDMA devices are with it."""
        own = self.of_pool(pool)
        rdma = {self.rdma_resource: str(self.rdma_count)} if self.rdma_resource else {}
        nvlink = [f"{self.compute_domain}-{CHANNEL}"] if self.compute_domain else []
        return PodAdditions(
            node_selector=self.node_selector | own.node_selector,
            resource_claims=self.resource_claims
            + own.resource_claims
            + tuple(ResourceClaim(name=CHANNEL, template=template) for template in nvlink),
            extra_resources=rdma | self.extra_resources | own.extra_resources,
            volumes=self.volumes + own.volumes,
            volume_mounts=self.volume_mounts + own.volume_mounts,
        )
