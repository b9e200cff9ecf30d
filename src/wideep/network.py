"""One description of a host's network; for each library the variables that it really reads.

Names of variables were checked against the libraries of the pinned versions: NCCL and NVSHMEM 3.4.5 (their
shared objects), UCX 1.x as packaged with NIXL 1.3.0. MC_GID_INDEX is from Mooncake's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from wideep.hardware import GpuCard
from wideep.problems import Problem
from wideep.topology import Host, Replica


def environment(
    host: Host,
    *,
    kv_transfer: Literal["", "nixl", "mooncake"],
    all_to_all: bool,
    spans_hosts: bool,
    gpu: GpuCard | None,
) -> dict[str, str]:
    """Return the network environment of a worker.

    Args:
        kv_transfer: what carries the KV cache; empty where none is carried.
        all_to_all: whether experts talk through NVSHMEM (DeepEP).
        spans_hosts: whether the replica has more than one node.
    """
    network, interface = host.network, host.interface
    env: dict[str, str] = {}
    if interface and spans_hosts:
        # NCCL matches prefixes unless told otherwise; Gloo takes exactly one name and no pattern.
        env |= {"NCCL_SOCKET_IFNAME": f"={interface}", "GLOO_SOCKET_IFNAME": interface}
        if all_to_all:
            env["NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME"] = interface
    if network.rdma_devices:
        with_port = [f"{device}:{network.rdma_port}" for device in network.rdma_devices]
        if spans_hosts:
            env["NCCL_IB_HCA"] = "=" + ",".join(with_port)
            if all_to_all:
                env["NVSHMEM_HCA_LIST"] = ",".join(with_port)
        if kv_transfer == "nixl":
            env["UCX_NET_DEVICES"] = ",".join(with_port)
            # No tcp in the list: a broken fabric is an error then, not a cache that moves 200 times slower.
            env["UCX_TLS"] = "rc_x,rc,dc_x,dc,cuda_copy,cuda_ipc"
    if network.gid_index is not None:
        gid = str(network.gid_index)
        if spans_hosts:
            env["NCCL_IB_GID_INDEX"] = gid
            if all_to_all:
                env["NVSHMEM_IB_GID_INDEX"] = gid
        if kv_transfer == "nixl":
            env["UCX_IB_GID_INDEX"] = gid
        elif kv_transfer == "mooncake":
            env["MC_GID_INDEX"] = gid
    if spans_hosts and gpu and gpu.multi_node_nvlink:
        env |= {"NCCL_MNNVL_ENABLE": "1", "NCCL_CUMEM_ENABLE": "1"}
    return env


def check(replicas: Sequence[Replica], *, disaggregated: bool) -> list[Problem]:
    """Return what is wrong with the description of the replicas' hosts, each host once."""
    several = len({node.host for replica in replicas for node in replica.nodes}) > 1
    problems: dict[Problem, None] = {}
    for replica in replicas:
        spans = len(replica.nodes) > 1
        for node in replica.nodes:
            crosses = spans or (disaggregated and several)
            problems |= dict.fromkeys(_check_host(node.host, replica.name if spans else "", crosses))
    return list(problems)


def _check_host(host: Host, spanning: str, crosses: bool) -> Iterator[Problem]:
    network, where = host.network, f"wideep_network on host {host.name}"
    if spanning and not host.interface:
        yield Problem(
            f"{spanning} spans hosts, and its interface is not named: NCCL and Gloo would pick one each,"
            " often the wrong one, and hang",
            f"wideep_interface on host {host.name}",
            "set wideep_interface to the interface of the route between the hosts (`ip route get ADDRESS`)",
        )
    if network.link == "roce" and network.gid_index is None:
        yield Problem(
            "RoCE needs the GID index of RoCE v2 over IPv4; without it packets leave with the wrong address",
            f"{where}: gid_index",
            "set gid_index as `show_gids` prints it for the devices, often 3",
        )
    if network.link == "ib" and network.gid_index is not None:
        yield Problem(
            "InfiniBand takes its address from the subnet manager, gid_index is for RoCE",
            f"{where}: gid_index",
            "remove gid_index, or set link: roce",
        )
    if network.link == "none" and network.rdma_devices:
        yield Problem(
            "RDMA devices are named, but not what link they are on",
            f"{where}: link",
            "set link to ib or roce",
        )
    if network.link != "none" and not network.rdma_devices:
        yield Problem(
            f"link {network.link} without devices",
            f"{where}: rdma_devices",
            "list the devices beside the GPUs (`ibdev2netdev`), without those of storage and management",
        )
    if crosses and network.link == "none":
        yield Problem(
            "no RDMA device is described: the KV cache, and NCCL between hosts, may go through TCP"
            " (a time to first token 200 times longer was measured by others)",
            where,
            "set link and rdma_devices of wideep_network",
            "warning",
        )
