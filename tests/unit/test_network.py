"""From one description of devices, the variables that each library reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from wideep.deployment.model import Host, Node, Replica
from wideep.deployment.network import by_tcp, check, environment, sees_gpus
from wideep.inventory.settings import NetworkSettings
from wideep.reference.hardware import hardware_cards


def host(name: str = "a", interface: str = "eth0", **network: Any) -> Host:
    return Host(name, f"192.0.2.{ord(name) - 96}", 8, interface, network=NetworkSettings(**network))


def env(
    machine: Host,
    *,
    kv_transfer: Literal["", "nixl", "mooncake"] = "nixl",
    all_to_all: bool = True,
    spans_hosts: bool = True,
    gpu: str = "h100-80gb",
) -> dict[str, str]:
    return environment(
        machine,
        kv_transfer=kv_transfer,
        all_to_all=all_to_all,
        spans_hosts=spans_hosts,
        gpu=hardware_cards()[gpu],
    )


def replica(*hosts: Host) -> Replica:
    return Replica("prefill", 0, tuple(Node(h, rank, (0,), 20000) for rank, h in enumerate(hosts)))


IB: dict[str, Any] = {"link": "ib", "rdma_devices": ("mlx5_0", "mlx5_1")}
ROCE: dict[str, Any] = {"link": "roce", "rdma_devices": ("mlx5_0",), "gid_index": 3}


def test_infiniband_with_nixl() -> None:
    assert env(host(**IB)) == {
        "NCCL_SOCKET_IFNAME": "=eth0",
        "GLOO_SOCKET_IFNAME": "eth0",
        "NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME": "eth0",
        "NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1",
        "NCCL_NET": "IB",
        "NVSHMEM_HCA_LIST": "mlx5_0:1,mlx5_1:1",
        "UCX_NET_DEVICES": "mlx5_0:1,mlx5_1:1",
        "UCX_TLS": "rc_x,rc,dc_x,dc,cuda_copy,cuda_ipc",
    }


def test_roce_names_the_address_for_every_library() -> None:
    found = env(host(**ROCE))
    assert {name for name in found if name.endswith("GID_INDEX")} == {
        "NCCL_IB_GID_INDEX",
        "NVSHMEM_IB_GID_INDEX",
        "UCX_IB_GID_INDEX",
    }


def test_nccl_is_kept_to_the_devices_that_it_drives_itself() -> None:
    assert env(host(**ROCE))["NCCL_NET"] == "IB"
    for machine in (host(link="efa", rdma_devices=("efa_0",)), host()):
        assert not {"NCCL_NET", "NCCL_IB_HCA"} & env(machine).keys()


@pytest.mark.parametrize(
    ("name", "value", "severity"),
    [
        ("NCCL_NET", "Socket", "error"),
        ("NCCL_NET", "IBext_v10", None),
        ("NCCL_IB_DISABLE", "1", "error"),
        ("NCCL_IB_DISABLE", "0", None),
        ("MC_FORCE_TCP", "true", "error"),
        ("UCX_TLS", "tcp", "error"),
        ("UCX_TLS", "sm,cuda_copy", "error"),
        ("UCX_TLS", "rc_x,tcp,cuda_copy", "warning"),
        ("UCX_TLS", "all", "warning"),
        ("UCX_TLS", "rc,cuda_copy", None),
        ("UCX_TLS", "^tcp", None),
        ("UCX_LOG_LEVEL", "info", None),
    ],
)
def test_what_leaves_rdma_aside(name: str, value: str, severity: str | None) -> None:
    assert by_tcp(name, value, gpu=hardware_cards()["h100-80gb"], efa=False) == severity


@pytest.mark.parametrize(
    ("gpu", "efa", "value", "severity"),
    [
        ("h200-141gb", True, "srd,cuda_copy,cuda_ipc", None),
        ("h200-141gb", True, "srd,tcp,cuda", "warning"),
        ("h200-141gb", True, "rc,cuda", "error"),
        ("h200-141gb", True, "ib,cuda", None),
        ("h200-141gb", False, "srd,cuda_copy,cuda_ipc", "error"),
        ("h200-141gb", False, "\\rc_mlx5,cuda", None),
        ("h200-141gb", False, "^ib", "error"),
        ("h200-141gb", False, "^rc,dc,ud", "error"),
        ("h200-141gb", False, "^rc", None),
        ("h200-141gb", False, "ud:aux,tcp,cuda", "error"),
        ("h200-141gb", False, "cuda_copy,cuda_ipc,sm,self,tcp", "error"),
        ("gb200-nvl72", False, "cuda_copy,cuda_ipc,sm,self,tcp", "warning"),
        ("gb300-nvl72", False, "tcp,cuda", "warning"),
        ("gb300-nvl72", False, "tcp,cuda_copy", "error"),
        ("gb300-nvl72", False, "rc,cuda", None),
        ("", False, "cuda_copy,cuda_ipc,tcp", "warning"),
    ],
)
def test_which_way_a_list_of_transports_leads(gpu: str, efa: bool, value: str, severity: str | None) -> None:
    assert by_tcp("UCX_TLS", value, gpu=hardware_cards().get(gpu), efa=efa) == severity


def test_aws_has_transports_of_its_own() -> None:
    found = env(host(link="efa", rdma_devices=("rdmap85s0", "rdmap86s0")), all_to_all=False)
    assert found["UCX_TLS"] == "srd,cuda_copy,cuda_ipc"
    assert found["UCX_NET_DEVICES"] == "rdmap85s0:1,rdmap86s0:1"
    assert by_tcp("NCCL_IB_DISABLE", "1", gpu=None, efa=True) is None
    assert (
        env(host(link="efa", rdma_devices=("rdmap85s0",)), kv_transfer="mooncake")["MOONCAKE_PROTOCOL"]
        == "efa"
    )
    assert "MOONCAKE_PROTOCOL" not in env(host(**IB), kv_transfer="mooncake")


def test_a_device_named_as_aws_names_them_is_one() -> None:
    machine = host(link="ib", rdma_devices=("rdmap85s0",))
    (problem,) = check([replica(machine, host("b", **IB))], disaggregated=True)
    assert (problem.severity, problem.remedy) == ("warning", "set link to efa")
    assert env(machine)["UCX_TLS"] == "srd,cuda_copy,cuda_ipc"


@pytest.mark.parametrize(
    ("value", "sees"), [("rc,tcp", False), ("rc,cuda_copy", True), ("all", True), ("^cuda", False)]
)
def test_a_list_without_cuda_does_not_know_gpu_memory(value: str, sees: bool) -> None:
    assert sees_gpus(value) is sees


def test_nvlink_between_hosts_needs_no_rdma_device() -> None:
    machine = Host("a", "192.0.2.1", 4, "eth0", gpu="gb300-nvl72")
    assert check([replica(machine, replace(machine, name="b"))], disaggregated=True) == []


def test_mooncake_gets_its_own_variable_and_none_of_ucx() -> None:
    found = env(host(**ROCE), kv_transfer="mooncake")
    assert found["MC_GID_INDEX"] == "3"
    assert not any(name.startswith("UCX_") for name in found)


def test_without_deepep_there_is_no_nvshmem() -> None:
    assert not any(name.startswith("NVSHMEM") for name in env(host(**ROCE), all_to_all=False))


def test_one_node_needs_no_nccl_between_hosts() -> None:
    assert set(env(host(**IB), spans_hosts=False)) == {"UCX_NET_DEVICES", "UCX_TLS"}
    assert env(host(), spans_hosts=False) == {}
    assert env(host(interface="", **ROCE), kv_transfer="", spans_hosts=False) == {}


def test_multi_node_nvlink() -> None:
    found = env(host(), gpu="gb200-nvl72")
    assert (found["NCCL_MNNVL_ENABLE"], found["NCCL_CUMEM_ENABLE"]) == ("1", "1")


@pytest.mark.parametrize(
    ("machine", "variable", "words"),
    [
        (host(interface="", **IB), "wideep_interface", "hang"),
        (host(link="roce", rdma_devices=("mlx5_0",)), "wideep_network.gid_index", "RoCE v2"),
        (host(gid_index=3, **IB), "wideep_network.gid_index", "subnet manager"),
        (host(rdma_devices=("mlx5_0",)), "wideep_network.link", "what link"),
        (host(link="ib"), "wideep_network.rdma_devices", "without devices"),
    ],
)
def test_a_wrong_description_is_refused(machine: Host, variable: str, words: str) -> None:
    (problem,) = check([replica(machine, host("b", **IB))], disaggregated=True)
    assert problem.severity == "error"
    assert problem.where == f"{variable} on host a"
    assert words in problem.message


@pytest.mark.parametrize(
    "interface",
    [
        *("lo", "docker0", "docker_gwbridge", "br-0123456789ab", "podman1", "virbr0", "virbr0-nic", "cni0"),
        *("veth12ab34c", "vethwe-bridge", "cali0123456789a", "flannel.1", "cilium_host", "lxdbr0", "tap0"),
        *("dummy0", "kube-ipvs0"),
    ],
)
@pytest.mark.parametrize("disaggregated", [True, False])
def test_an_interface_that_leaves_no_host_is_refused(interface: str, disaggregated: bool) -> None:
    machines = replica(host("a", interface, **IB), host("b", **IB))
    [problem] = check([machines], disaggregated=disaggregated)
    assert (problem.severity, problem.where) == ("error", "wideep_interface on host a")
    assert f"'{interface}' is an interface inside this host" in problem.message
    assert "ip route get" in problem.remedy


@pytest.mark.parametrize(
    "interface",
    [
        "eth0",
        "ens9f9np0",
        "enp5s0",
        "ib0",
        "bond0.100",
        "br0",
        "br-storage",
        "vlan7",
        "eno1",
        "team0",
        "lan0",
    ],
)
def test_names_of_network_cards_bonds_and_bridges_between_hosts_are_taken(interface: str) -> None:
    assert check([replica(host("a", interface, **IB), host("b", **IB))], disaggregated=True) == []


def test_on_one_machine_its_loopback_is_the_way() -> None:
    machine = Host("a", "127.0.0.2", 8, "lo", network=NetworkSettings(**IB))
    assert check([replica(machine)], disaggregated=True) == []


def test_what_all_hosts_lack_is_said_once() -> None:
    (problem,) = check([replica(host("a"), host("b"))], disaggregated=True)
    assert (problem.severity, problem.where) == ("warning", "wideep_network on 2 hosts (a, …)")


def test_one_host_needs_no_description() -> None:
    assert check([replica(host())], disaggregated=True) == []
    assert check([replica(host("a")), replica(host("b"))], disaggregated=False) == []


def test_patterns_are_no_device_and_no_interface() -> None:
    with pytest.raises(ValueError, match="pattern"):
        NetworkSettings(rdma_devices=("^mlx5_0",))
