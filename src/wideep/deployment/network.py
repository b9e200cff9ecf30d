"""One description of a host's network; for each library the variables that it really reads.

Every name was found in the library that reads it: NCCL and NVSHMEM 3.4.5 as torch brings them, UCX as NIXL
1.3.0 packages it, Mooncake's source (config.cpp of its transfer engine).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from wideep.deployment.model import Host, Node, Replica
from wideep.inventory.settings import NetworkSettings
from wideep.problems import Problem, some_hosts
from wideep.programs.rank import ROUTE
from wideep.reference.hardware import GpuCard

Severity = Literal["error", "warning"]
# What carries the KV cache over UCX: NIXL's usual backend, and UCX itself.
UCX_TRANSFERS = ("nixl", "ucx")
# How the kernel names RDMA devices of others than NVIDIA and AWS: Alibaba, Broadcom, Intel, Marvell, Huawei.
OTHER_DEVICES = ("erdma", "bnxt_re", "irdma", "qedr", "hns")
NVIDIA_DEVICES = ("mlx4_", "mlx5_")
# What UCX_TLS is where the inventory names RDMA devices. No tcp in it: a broken fabric is an error then, and
# no cache that moves 200 times slower. AWS's adapters have SRD for what others do with RC and DC.
UCX_TLS = "rc_x,rc,dc_x,dc,cuda_copy,cuda_ipc"
UCX_TLS_EFA = "srd,cuda_copy,cuda_ipc"
# UCX's names of transports that are others' in short (ucp_context.c), as far as they tell ways apart.
_RC, _DC, _UD = ("rc_verbs", "rc_mlx5"), ("dc_mlx5",), ("ud_verbs", "ud_mlx5")
UCX_RDMA = {*_RC, *_DC, *_UD, "srd"}
UCX_ALIASES: dict[str, tuple[str, ...]] = {
    "all": (*UCX_RDMA, "cuda_copy", "cuda_ipc", "tcp"),
    "ib": tuple(UCX_RDMA),
    **{"rc": _RC, "rc_v": _RC[:1], "rc_x": _RC[1:], "dc": _DC, "dc_x": _DC},
    **{"ud": _UD, "ud_v": _UD[:1], "ud_x": _UD[1:]},
    "cuda": ("cuda_copy", "cuda_ipc"),
}

# Interfaces of this host alone: itself, its containers' and virtual machines' bridges and their ends.
LOCAL_INTERFACE = re.compile(
    r"lo\d*|dummy\d+|(?:docker|podman|cni|virbr|lxcbr|lxdbr|br-[0-9a-f]{12}$|veth|tap|cali|flannel|cilium|kube-).*"
)


def _interface(host: Host) -> bool:
    return bool(host.interface)


def _devices(host: Host) -> bool:
    return bool(host.network.rdma_devices)


def _gid(host: Host) -> bool:
    return host.network.gid_index is not None


# Variable of a library -> what it is made of, and whether a host says that. UCX_TLS is left to the operator.
SOURCES: dict[str, tuple[str, Callable[[Host], bool]]] = {
    "NCCL_SOCKET_IFNAME": ("wideep_interface", _interface),
    "GLOO_SOCKET_IFNAME": ("wideep_interface", _interface),
    "NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME": ("wideep_interface", _interface),
    "NCCL_IB_HCA": ("wideep_network.rdma_devices", _devices),
    "NVSHMEM_HCA_LIST": ("wideep_network.rdma_devices", _devices),
    "UCX_NET_DEVICES": ("wideep_network.rdma_devices", _devices),
    "NCCL_IB_GID_INDEX": ("wideep_network.gid_index", _gid),
    "NVSHMEM_IB_GID_INDEX": ("wideep_network.gid_index", _gid),
    "UCX_IB_GID_INDEX": ("wideep_network.gid_index", _gid),
    "MC_GID_INDEX": ("wideep_network.gid_index", _gid),
}


def worker_environment(node: Node, **what: Any) -> dict[str, str]:
    """Return `environment` of a node's host; a node of one rank has that rank's own device for UCX."""
    env, own = environment(node.host, **what), devices_of_ranks(node)
    if len(own) == 1 and "UCX_NET_DEVICES" in env:
        env["UCX_NET_DEVICES"] = f"{own[0]}:{node.host.network.rdma_port}"
    return env


def environment(
    host: Host,
    *,
    kv_transfer: Literal["", "nixl", "mooncake", "ucx"],
    all_to_all: bool,
    spans_hosts: bool,
    gpu: GpuCard | None,
    routed: bool = False,
) -> dict[str, str]:
    """Return the network environment of a worker.

    Args:
        kv_transfer: what carries the KV cache; empty where none is carried.
        all_to_all: whether experts talk through NVSHMEM (DeepEP).
        spans_hosts: whether the replica has more than one node.
        routed: whether an interface that is not named is found on the host.
    """
    network, interface = host.network, host.interface or (ROUTE if routed else "")
    env: dict[str, str] = {}
    if interface and spans_hosts:
        # NCCL matches prefixes unless told otherwise; Gloo takes exactly one name and no pattern.
        env |= {"NCCL_SOCKET_IFNAME": f"={interface}", "GLOO_SOCKET_IFNAME": interface}
        if all_to_all:
            env["NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME"] = interface
    if network.rdma_devices:
        with_port = [f"{device}:{network.rdma_port}" for device in network.rdma_devices]
        if spans_hosts:
            env |= {} if network.efa else _nccl(with_port)
            if all_to_all:
                env["NVSHMEM_HCA_LIST"] = ",".join(with_port)
    if network.gid_index is not None:
        gid = str(network.gid_index)
        if spans_hosts:
            env["NCCL_IB_GID_INDEX"] = gid
            if all_to_all:
                env["NVSHMEM_IB_GID_INDEX"] = gid
    env |= _of_cache(network, kv_transfer)
    if spans_hosts and gpu and gpu.multi_node_nvlink:
        env |= {"NCCL_MNNVL_ENABLE": "1", "NCCL_CUMEM_ENABLE": "1"}
    return env


def _of_cache(network: NetworkSettings, kv_transfer: str) -> dict[str, str]:
    """Return what the carrier of the KV cache reads."""
    env: dict[str, str] = {}
    gid = "" if network.gid_index is None else str(network.gid_index)
    if kv_transfer in UCX_TRANSFERS:
        if network.rdma_devices:
            env["UCX_NET_DEVICES"] = ",".join(f"{name}:{network.rdma_port}" for name in network.rdma_devices)
            env["UCX_TLS"] = UCX_TLS_EFA if network.efa else UCX_TLS
        env |= {"UCX_IB_GID_INDEX": gid} if gid else {}
    elif kv_transfer == "mooncake":
        env |= {"MC_GID_INDEX": gid} if gid else {}
        # SGLang reads it: Mooncake's rdma has no SRD.
        env |= {"MOONCAKE_PROTOCOL": "efa"} if network.efa else {}
    return env


def _nccl(devices: Sequence[str]) -> dict[str, str]:
    """Return what keeps NCCL to these devices: without NCCL_NET it takes TCP when it finds none, silently.

    IB is its name for verbs, InfiniBand's and RoCE's (NCCL's manual). AWS's adapters have a plug-in
    (aws-ofi-nccl), which is found by its file's name and reads none of these.
    """
    return {"NCCL_IB_HCA": "=" + ",".join(devices), "NCCL_NET": "IB"}


def foreign(host: Host) -> str:
    """Return the first of a host's RDMA devices that is not NVIDIA's; empty where all are."""
    names = [name for name in host.network.rdma_devices if not name.startswith(NVIDIA_DEVICES)]
    return next((name for name in names if host.network.efa or name.startswith(OTHER_DEVICES)), "")


def ucx_transports(value: str) -> frozenset[str]:
    """Return the transports that a UCX_TLS allows, of those that UCX_ALIASES tells apart.

    `^` before the list: all but these. A backslash takes a name as it is; `:aux` is a helper's, so no way for
    data.
    """
    listed: set[str] = set()
    for word in value.lower().removeprefix("^").split(","):
        name = word.strip()
        if name.startswith("\\"):
            listed.add(name[1:])
        elif not name.endswith(":aux"):
            listed.update(UCX_ALIASES.get(name, (name,)))
    return frozenset(set(UCX_ALIASES["all"]) - listed if value.startswith("^") else listed)


def sees_gpus(value: str) -> bool:
    """Whether UCX knows GPU memory with a UCX_TLS: without its CUDA transports NIXL registers none."""
    return bool(ucx_transports(value) & {"cuda_copy", "cuda_ipc"})


def devices_of_ranks(node: Node) -> list[str]:
    """Return the device of each of a node's GPUs, in order of its ranks; [] where none is named."""
    named = node.host.network.gpu_devices
    return [named[gpu] for gpu in node.gpus] if named and max(node.gpus) < len(named) else []


def shared_by_ranks(replicas: Sequence[Replica], engine: str) -> list[Problem]:
    """Return the note that the ranks of a host have all its devices, where a device is named for each."""
    named = {node.host.name: None for r in replicas for node in r.nodes if devices_of_ranks(node)}
    if not named or all(len(node.gpus) == 1 for replica in replicas for node in replica.nodes):
        return []
    return [
        Problem(
            f"{engine} starts the ranks of a host itself, so UCX gives each of them all devices and chooses"
            " by PCI distance",
            f"wideep_network.gpu_devices on {some_hosts(list(named))}",
            "nothing, where `nvidia-smi topo -m` shows the distances; virtual machines hide them. It counts"
            " for Mooncake (SGLang) and for TensorRT-LLM's replicas on several hosts",
            "warning",
        )
    ]


def by_tcp(name: str, value: str, *, gpu: GpuCard | None, efa: bool) -> Severity | None:
    """Return how bad a library's variable is where RDMA devices are described; None if it keeps to them.

    An error: it goes by TCP. A warning: it may, when something is wrong with the devices, or with peers that
    NVLink between hosts does not reach. Neither is said.
    """
    nvlink = gpu is None or gpu.multi_node_nvlink
    if name == "NCCL_NET":
        return None if value.lower() != "socket" else "warning" if nvlink else "error"
    if name == "NCCL_IB_DISABLE" and efa:  # its plug-in uses no verbs of NCCL's
        return None
    if name in ("NCCL_IB_DISABLE", "MC_FORCE_TCP"):
        return None if value.lower() in ("", "0", "false") else "error"
    if name == "UCX_TLS":
        ways = ucx_transports(value)
        if not ways & ({"srd", *_UD} if efa else UCX_RDMA - {"srd"}):
            return "warning" if nvlink and "cuda_ipc" in ways else "error"
        return "warning" if "tcp" in ways and not value.startswith("^") else None
    return None


def check(replicas: Sequence[Replica], *, disaggregated: bool, routed: bool = False) -> list[Problem]:
    """Return what is wrong with the hosts' descriptions: one problem for all hosts that have it.

    routed: see `environment`.
    """
    several = len({node.host for replica in replicas for node in replica.nodes}) > 1
    hosts: dict[tuple[str, str, str, Severity], dict[str, None]] = {}
    for replica in replicas:
        spans = len(replica.nodes) > 1
        for node in replica.nodes:
            crosses = spans or (disaggregated and several)
            for found in _check_host(node.host, spans=spans and not routed, crosses=crosses):
                hosts.setdefault(found, {})[node.host.name] = None
    return [
        Problem(message, f"{variable} on {some_hosts(list(names))}", remedy, severity)
        for (message, variable, remedy, severity), names in hosts.items()
    ]


def _check_host(host: Host, *, spans: bool, crosses: bool) -> Iterator[tuple[str, str, str, Severity]]:
    """Yield (message, variable, remedy, severity). spans: a replica does, and wants an interface's name."""
    network = host.network
    if LOCAL_INTERFACE.fullmatch(host.interface) and not host.loopback:
        yield (
            f"'{host.interface}' is an interface inside this host (loopback, containers, virtual machines):"
            " it reaches no other one",
            "wideep_interface",
            "set wideep_interface to the interface of the route between the hosts (`ip route get ADDRESS`)",
            "error",
        )
    if spans and not host.interface:
        yield (
            "a replica spans hosts, and their interface is not named: NCCL and Gloo would pick one each,"
            " often the wrong one, and hang",
            "wideep_interface",
            "set wideep_interface to the interface of the route between the hosts (`ip route get ADDRESS`)",
            "error",
        )
    if network.link == "roce" and network.gid_index is None and not network.efa:
        yield (
            "RoCE needs the GID index of RoCE v2 over IPv4; without it packets leave with the wrong address",
            "wideep_network.gid_index",
            "set gid_index as `show_gids` prints it for the devices, often 3",
            "error",
        )
    if network.link == "ib" and network.gid_index is not None:
        yield (
            "InfiniBand takes its address from the subnet manager, gid_index is for RoCE",
            "wideep_network.gid_index",
            "remove gid_index, or set link: roce",
            "error",
        )
    if network.link == "none" and network.rdma_devices:
        yield (
            "RDMA devices are named, but not what link they are on",
            "wideep_network.link",
            "set link to efa" if network.efa else "set link to ib or roce",
            "error",
        )
    elif network.efa and network.link != "efa":
        yield (
            f"{network.rdma_devices[0]} is the name of an Elastic Fabric Adapter: it is taken for one",
            "wideep_network.link",
            "set link to efa",
            "warning",
        )
    others = (*NVIDIA_DEVICES, *OTHER_DEVICES)
    wrong = next((name for name in network.rdma_devices if name.startswith(others)), "")
    if network.link == "efa" and wrong:
        yield (
            f"link is efa, and {wrong} is the name of another maker's device",
            "wideep_network.rdma_devices",
            "name AWS's adapters as `ibv_devices` prints them there (rdmap79s0, efa_0), or set link to ib or"
            " roce",
            "error",
        )
    if network.link == "efa" and network.gid_index is not None:
        yield (
            "AWS's adapters have one address each, gid_index is for RoCE",
            "wideep_network.gid_index",
            "remove gid_index",
            "error",
        )
    if network.gpu_devices and len(network.gpu_devices) != host.gpus:
        yield (
            f"{len(network.gpu_devices)} devices for {host.gpus} GPUs",
            "wideep_network.gpu_devices",
            "name one for each GPU of the host (wideep_gpus_per_node), by their numbers, or remove it",
            "error",
        )
    if unnamed := sorted({*network.gpu_devices} - {*network.rdma_devices}):
        yield (
            f"{', '.join(unnamed)} is not in rdma_devices, which preflight and NCCL go by",
            "wideep_network.gpu_devices",
            "add it to rdma_devices, or correct it",
            "error",
        )
    if network.link != "none" and not network.rdma_devices:
        yield (
            f"link {network.link} without devices",
            "wideep_network.rdma_devices",
            "list the devices beside the GPUs (`ibdev2netdev`, on AWS `ibv_devices`), without those of"
            " storage and management",
            "error",
        )
    linked = host.card is not None and host.card.multi_node_nvlink
    if crosses and network.link == "none" and not network.rdma_devices and not linked:
        yield (
            "no RDMA device is described: the KV cache, and NCCL between hosts, may go through TCP (200 times"
            " the time to first token, by Dynamo's own guide)",
            "wideep_network",
            "set link and rdma_devices of wideep_network",
            "warning",
        )
