"""Preflight's judgement of GPU hosts: recorded facts in, findings out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gpu_hosts import gather, typed

from wideep.preflight import Facts, Needs, Report, judge, render
from wideep.preflight.gpu_model import GpuFacts, GpuNeeds, GpuProcess, SharedFile, SharedMemory
from wideep.preflight.model import (
    Clock,
    Disk,
    Ephemeral,
    Limit,
    Listener,
    Memory,
    PeerView,
    Python,
)

GB = 10**9
STATE = "/opt/wideep"
GOOD = Facts(
    user="ops",
    root=False,
    pythons=(Python("/usr/bin/python3.12", (3, 12, 3), True),),
    memory=Memory(64 * GB, 60 * GB),
    limits={"nofile": Limit(1048576, 1048576), "memlock": Limit(-1, -1)},
    listeners=(),
    ephemeral=Ephemeral(32768, 60999),
    clock=Clock(1000.5, 0.0, 1000.0, 1001.0),
    disk=Disk("/opt", STATE, "", 500 * GB, 900 * GB, 10**6),
)
DEVICES = tuple(f"mlx5_{n}" for n in range(8))
NEEDS = GpuNeeds("sglang", 8, "h100-80gb", "580.65.06", "ib", DEVICES, nvshmem=True, shm_gb=10)
SHM = SharedMemory(540 * GB, 540 * GB)
Recorded = Callable[[str], GpuFacts]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    def facts(system: str) -> GpuFacts:
        place = tmp_path / system
        place.mkdir()
        found = typed(gather(system, place, monkeypatch))
        return replace(found, kernel=replace(found.kernel, shm=SHM))

    return facts


def one(gpu: GpuFacts, needs: GpuNeeds = NEEDS, **facts: Any) -> Report:
    return judge({"a": Needs(state_dir=STATE, gpu=needs)}, {"a": replace(GOOD, gpu=gpu, **facts)})


def findings(report: Report) -> list[tuple[str, str]]:
    return [(c.topic, c.status) for c in report.checks if c.status != "ok"]


def test_a_healthy_host_is_ok_in_every_topic(recorded: Recorded) -> None:
    report = one(recorded("h100-ib"))
    assert findings(report) == []
    topics = {check.topic for check in report.checks}
    assert {"driver", "gpus", "gpu health", "mig", "persistence", "gpu use", "fabric", "nvlink"} <= topics
    assert {"rdma", "rdma rate", "gpu to nic", "gpu direct", "ibgda", "memlock", "shm", "pages"} <= topics


@pytest.mark.parametrize(
    ("system", "needs", "expected"),
    [
        (
            "h200-ill",
            {"card": "h200-141gb"},
            [
                *[("gpu health", "fail")] * 3,
                *[("gpu health", "warn")] * 2,
                ("mig", "fail"),
                ("persistence", "warn"),
                ("gpu use", "fail"),
                ("nvlink", "fail"),
                ("iommu", "warn"),
                *[("pages", "warn")] * 2,
            ],
        ),
        (
            "h200-no-fabric-manager",
            {"card": "h200-141gb"},
            [("fabric", "fail"), ("gpu direct", "warn"), ("ibgda", "warn")],
        ),
        (
            "h100-roce",
            {"link": "roce", "gid_index": 3},
            [("gid", "fail"), ("gpu direct", "warn"), ("ibgda", "warn")],
        ),
        (
            "h100-ib-faults",
            {},
            [
                ("driver", "fail"),
                *[("rdma", "fail")] * 4,
                ("rdma rate", "warn"),
                ("gpu to nic", "warn"),
                ("gpu direct", "fail"),
            ],
        ),
        (
            "gb200",
            {"card": "gb200-nvl72", "gpus": 4, "rdma_devices": DEVICES[:4]},
            [("imex", "fail")],
        ),
        (
            "h200-vm",
            {"card": "h200-141gb", "gpus": 1, "rdma_devices": (), "link": "none", "nvshmem": False},
            [],
        ),
        (
            "h100-vm",
            {"gpus": 4, "rdma_devices": (), "link": "none", "nvshmem": False},
            [],
        ),
        ("no-driver", {}, [("driver", "fail")]),
        ("driver-mismatch", {}, [("driver", "fail")]),
    ],
)
def test_what_is_found_on_each_recorded_system(
    system: str, needs: dict[str, Any], expected: list[tuple[str, str]], recorded: Recorded
) -> None:
    report = one(recorded(system), replace(NEEDS, **needs))
    assert findings(report) == expected
    assert all(check.remedy and check.seen for check in report.checks if check.status != "ok")


Change = Callable[[GpuFacts], GpuFacts]


def gpus(**values: Any) -> Change:
    """Change GPU 2."""
    return lambda f: replace(f, gpus=(*f.gpus[:2], replace(f.gpus[2], **values), *f.gpus[3:]))


def all_gpus(**values: Any) -> Change:
    return lambda f: replace(f, gpus=tuple(replace(gpu, **values) for gpu in f.gpus))


def ports(**values: Any) -> Change:
    return lambda f: replace(f, rdma=tuple(replace(port, **values) for port in f.rdma))


def kernel(**values: Any) -> Change:
    return lambda f: replace(f, kernel=replace(f.kernel, **values))


def facts(**values: Any) -> Change:
    return lambda f: replace(f, **values)


@pytest.mark.parametrize(
    ("change", "topic", "status", "seen", "remedy"),
    [
        (facts(driver="580.65.05", fabric_manager_version=""), "driver", "fail", "580.65.05", "580.65.06"),
        (facts(error="nvidia-smi is not installed"), "driver", "fail", "not installed", "install the NVIDIA"),
        (facts(error="Unable to determine the device handle"), "driver", "fail", "handle", "power-cycle"),
        (facts(error="no answer within 60 s"), "driver", "fail", "60 s", "journalctl"),
        (lambda f: replace(f, gpus=f.gpus[:7]), "gpus", "fail", "7 x NVIDIA H100", "wideep_gpus_per_node"),
        (gpus(name="NVIDIA H200"), "gpus", "fail", "1 x NVIDIA H200", "wideep_gpu"),
        (all_gpus(memory_mib=98304), "gpus", "fail", "98304 MiB", "wideep_gpu"),
        (gpus(repair_pending=True), "gpu health", "warn", "GPU 2", "--gpu-reset -i 2"),
        (gpus(uncorrected_ever=4), "gpu health", "warn", "in the past", "watch"),
        (gpus(used_mib=5000), "gpu use", "warn", "5000 MiB", "fuser -v /dev/nvidia2"),
        (
            gpus(processes=(GpuProcess(7, "x", 9, "/opt/else", "decode-0"),)),
            *("gpu use", "fail", "decode-0 of /opt/else", "kill 7"),
        ),
        (all_gpus(fabric_state="In Progress"), "fabric", "fail", "In Progress", "systemctl restart"),
        (
            lambda f: facts(fabric_manager="absent")(all_gpus(fabric_state="Not Started")(f)),
            *("fabric", "fail", "absent", "install nvidia-fabricmanager 580.95.05"),
        ),
        (facts(fabric_manager="failed"), "fabric", "fail", "is failed", "enable --now"),
        (gpus(fabric_status="Insufficient Resources"), "fabric", "fail", "Insufficient", "systemctl"),
        (gpus(fabric_health="Unhealthy"), "fabric", "warn", "GPU 2: Unhealthy", "Fabric"),
        (gpus(links_up=17), "nvlink", "fail", "17 links, others 18", "baseboard"),
        (all_gpus(links_up=0), "nvlink", "warn", "PCIe", "fabric manager"),
        (
            lambda f: all_gpus(links_up=0)(facts(params={**f.params, "NvLinkDisable": "1"})(f)),
            *("nvlink", "warn", "NvLinkDisable=1", "modprobe.d"),
        ),
        (facts(rdma=()), "rdma", "fail", "no RDMA device", "mlx5_ib"),
        (ports(link="roce"), "rdma", "fail", "is RoCE", "LINK_TYPE_P1"),
        (ports(state="DOWN", physical="Polling"), "rdma", "fail", "DOWN, Polling", "cable"),
        (ports(rate=200.0), "rdma rate", "warn", "200 Gbit/s", "built so"),
        (facts(peermem=False, open_module=False), "gpu direct", "fail", "DeepEP stops", "modprobe"),
        (
            lambda f: kernel(release="5.10.0")(facts(peermem=False)(f)),
            *("gpu direct", "fail", "neither", "5.12"),
        ),
        (facts(params={"EnableStreamMemOPs": "1"}), "ibgda", "warn", "CPU rings", "tune.yml"),
        (
            facts(params={"EnableStreamMemOPs": "1"}, gdrcopy=False),
            *("ibgda", "warn", "PeerMappingOverride is off, no GDRCopy", "GDRCopy"),
        ),
        (kernel(acs_bridges=("0000:00:01.0",)), "acs", "warn", "0000:00:01.0", "setpci -s 0000:00:01.0"),
        (kernel(iommu=("DMA",)), "iommu", "warn", "DMA", "iommu=pt"),
        (kernel(shm=SharedMemory(64 * 2**20, 64 * 2**20)), "shm", "fail", "0.1", "size=10G"),
        (kernel(shm=SharedMemory(20 * GB, GB)), "shm", "warn", "1.0 GB free", "ls -lS"),
        (
            kernel(shm=SharedMemory(540 * GB, 540 * GB, (SharedFile("/dev/shm/moe_shared_0", 30 * GB),))),
            *("shm files", "warn", "30.0 GB in 1 files", "rm /dev/shm/moe_shared_0"),
        ),
        (kernel(hugepages=65536, hugepage_bytes=2 * 2**20), "pages", "warn", "137 GB", "nr_hugepages"),
    ],
)
def test_one_finding_with_its_remedy(
    *, change: Change, topic: str, status: str, seen: str, remedy: str, recorded: Recorded
) -> None:
    report = one(change(recorded("h100-ib")))
    assert findings(report) == [(topic, status)]
    (check,) = [c for c in report.checks if c.status != "ok"]
    assert seen in check.seen
    assert remedy in check.remedy


def test_what_is_fine(recorded: Recorded) -> None:
    good = recorded("h100-ib")
    ours = gpus(used_mib=70000, processes=(GpuProcess(7, "x", 70000, STATE, "prefill-0"),))(good)
    assert findings(one(ours)) == []
    # GPUs and devices that the plan does not use may be ill.
    assert findings(one(gpus(uncorrected=1, mig=True)(good), replace(NEEDS, gpus=2))) == []
    down = replace(good, rdma=(*good.rdma[:7], replace(good.rdma[7], state="DOWN")))
    assert findings(one(down, replace(NEEDS, rdma_devices=DEVICES[:4]))) == []
    assert findings(one(facts(peermem=False)(good), replace(NEEDS, nvshmem=False))) == []
    assert findings(one(good, replace(NEEDS, card=""))) == []
    running = Listener("0.0.0.0", 1, "ops", 1, "x", "x", STATE, "prefill-0")
    assert findings(one(kernel(shm=SharedMemory(20 * GB, GB))(good), listeners=(running,))) == []


def test_locked_memory(recorded: Recorded) -> None:
    good = recorded("h100-ib")
    low = {"nofile": Limit(1048576, 1048576), "memlock": Limit(65536, 8 * 2**20)}
    assert findings(one(good, limits=low)) == [("memlock", "fail")]
    assert findings(one(good, limits=low, root=True)) == []
    alone = replace(NEEDS, rdma_devices=(), link="none", nvshmem=False)
    assert findings(one(good, alone, limits=low)) == []


def test_a_device_that_was_left_out_is_named(recorded: Recorded) -> None:
    needs = replace(NEEDS, rdma_devices=(*DEVICES[:3], "mlx5_bond_0", *DEVICES[4:]), link="roce", gid_index=3)
    report = one(replace(recorded("h100-roce"), peermem=True), replace(needs, nvshmem=False))
    (check,) = [c for c in report.checks if c.topic == "gpu to nic"]
    assert "GPU 2" in check.seen
    assert "add mlx5_3 to rdma_devices" in check.remedy


def test_a_wrong_gid_index_names_the_right_one(recorded: Recorded) -> None:
    needs = replace(NEEDS, link="roce", gid_index=1, rdma_devices=("mlx5_0",), nvshmem=False)
    (check,) = [c for c in one(recorded("h100-roce"), needs).checks if c.topic == "gid"]
    assert check.seen == "mlx5_0: gid 1 is RoCE v2, not from an IPv4 address"
    assert "set gid_index of wideep_network to 3" in check.remedy


def test_pages_of_tensorrt_llm(recorded: Recorded) -> None:
    never = kernel(transparent_hugepages="never")(recorded("h100-ib"))
    assert findings(one(never, replace(NEEDS, online_eplb=True))) == [("pages", "fail")]


def test_between_hosts(recorded: Recorded) -> None:
    good = recorded("h100-ib")
    odd = replace(good, driver="580.82.07", fabric_manager_version="580.82.07")
    slow = ports(mtu=2044)(good)
    hosts = {"a": good, "b": good, "c": odd, "d": slow, "e": good}
    report = judge(
        dict.fromkeys(hosts, Needs(gpu=NEEDS)), {n: replace(GOOD, gpu=gpu) for n, gpu in hosts.items()}
    )
    found = {(c.host, c.topic, c.status, c.expected) for c in report.checks if c.status != "ok"}
    assert found == {
        ("c", "same driver", "warn", "580.95.05, as on 4 hosts"),
        ("d", "same rdma", "warn", "8 active at 400 Gbit/s, MTU 4092, as on 4 hosts"),
    }
    assert "same driver  c" in render(report)


def test_the_same_software_between_hosts(recorded: Recorded) -> None:
    good = replace(recorded("h100-ib"), packages={"sglang": "0.5.16", "nixl": "1.3.0"}, ofed="25.07-0.9.7")
    odd = {
        "d": ports(firmware="28.39.2048")(good),
        "e": kernel(release="6.1.0")(good),
        "f": replace(good, ofed=""),
        "g": replace(good, packages={"sglang": "0.5.16", "nixl": "1.2.0"}),
        "h": replace(good, open_module=not good.open_module),
    }
    hosts = {**dict.fromkeys("abc", good), **odd}
    report = judge(
        dict.fromkeys(hosts, Needs(gpu=NEEDS)), {n: replace(GOOD, gpu=gpu) for n, gpu in hosts.items()}
    )
    found = {(c.host, c.topic, c.status, c.seen) for c in report.checks if c.topic.startswith("same")}
    module = "proprietary kernel modules" if good.open_module else "open kernel modules"
    assert found == {
        ("d", "same firmware", "warn", "28.39.2048"),
        ("e", "same kernel", "warn", "6.1.0"),
        ("f", "same ofed", "warn", "the kernel's own"),
        ("g", "same packages", "fail", "nixl 1.2.0, sglang 0.5.16"),
        ("h", "same modules", "warn", module),
    }


def test_the_engine_of_an_interpreter_that_exists(recorded: Recorded) -> None:
    needs = replace(
        NEEDS, python="/opt/python", packages={"ai-dynamo": "1.4.2", "sglang": "0.5.16", "torch": ""}
    )
    right = {"ai-dynamo": "1.4.2", "sglang": "0.5.16"}
    good = recorded("h100-ib")
    for packages, seen in (
        (right, ""),
        ({**right, "sglang": "0.5.15"}, "sglang 0.5.15"),
        ({}, "ai-dynamo missing, sglang missing"),
    ):
        report = one(replace(good, packages=packages), needs)
        wrong = [(c.status, c.seen) for c in report.checks if c.topic == "engine" and c.status != "ok"]
        assert wrong == ([("fail", seen)] if seen else [])


def test_deepep_needs_devices_of_nvidia(recorded: Recorded) -> None:
    efa = ports(driver="efa")(recorded("h100-ib"))
    [check] = [c for c in one(efa).checks if c.topic == "rdma"]
    assert (check.status, "driver efa" in check.seen) == ("fail", True)
    assert findings(one(efa, replace(NEEDS, nvshmem=False))) == []


def test_hosts_of_two_kinds_are_compared_with_their_own(recorded: Recorded) -> None:
    h100, h200 = recorded("h100-ib"), recorded("gb200")
    needs = {
        "a": NEEDS,
        "b": NEEDS,
        "x": replace(NEEDS, card="gb200-nvl72", gpus=4, rdma_devices=DEVICES[:4]),
    }
    known = {"a": h100, "b": h100, "x": replace(h200, imex="active", driver="580.105.08")}
    report = judge(
        {name: Needs(gpu=need) for name, need in needs.items()},
        {name: replace(GOOD, gpu=gpu) for name, gpu in known.items()},
    )
    assert findings(report) == []
    nameless = judge(
        {name: Needs(gpu=replace(need, card="")) for name, need in needs.items()},
        {name: replace(GOOD, gpu=gpu) for name, gpu in known.items()},
    )
    assert ("same gpus", "fail") in findings(nameless)


def test_hosts_without_gpus_hear_nothing_of_them() -> None:
    report = judge({"a": Needs()}, {"a": GOOD})
    assert not {"driver", "gpus", "memlock", "shm", "pages"} & {check.topic for check in report.checks}


# ---- the way between ranks -----------------------------------------------------------------------


def ranks(interface: str, route: str, **peer: Any) -> Report:
    """Judge a rank whose route to its head leaves by an interface."""
    head = PeerView("head", "10.0.0.1", ("10.0.0.1",), source="10.0.0.2", interface=route, **peer)
    needs = replace(NEEDS, interface=interface, ranks=("head",), rdma_devices=(), nvshmem=False)
    addresses = {"127.0.0.1": "lo", "10.0.0.2": "ens3", "192.168.0.2": "docker0"}
    facts = replace(GOOD, gpu=GpuFacts(driver="580.95.05"), peers=(head,), addresses=addresses)
    return judge({"a": Needs(state_dir=STATE, gpu=needs)}, {"a": facts})


@pytest.mark.parametrize(
    ("interface", "route", "words"),
    [
        ("eth0", "ens3", ("no eth0 with an address", "ens3", "set wideep_interface of this host to ens3")),
        ("docker0", "ens3", ("the way to head (10.0.0.1) is ens3", "set wideep_interface", "wideep_address")),
        ("", "lo", ("is lo", "wideep_address")),
    ],
)
def test_an_interface_that_ranks_do_not_meet_over(interface: str, route: str, words: tuple[str, ...]) -> None:
    (check,) = [c for c in ranks(interface, route).checks if c.topic == "interface"]
    assert check.status == "fail"
    assert all(word in check.seen + check.remedy for word in words)


@pytest.mark.parametrize("interface", ["ens3", ""])
def test_the_interface_of_the_route_is_right(interface: str) -> None:
    (check,) = [c for c in ranks(interface, "ens3").checks if c.topic == "interface"]
    assert check.status == "ok"
    assert check.seen.startswith("ens3")


def test_a_replica_on_one_host_meets_nobody() -> None:
    report = judge({"a": Needs(gpu=replace(NEEDS, interface="eth9"))}, {"a": replace(GOOD, gpu=GpuFacts())})
    assert "interface" not in {check.topic for check in report.checks}


# ---- software, memory, devices -------------------------------------------------------------------


def test_packages_are_the_same_on_hosts_of_all_kinds() -> None:
    """Prefill and decode on different GPUs speak to each other all the same."""
    facts = {
        name: replace(GOOD, gpu=GpuFacts(driver="580.95.05", packages={"nixl": nixl}))
        for name, nixl in (("p0", "1.3.0"), ("p1", "1.3.0"), ("d0", "1.2.0"))
    }
    needs = {
        name: Needs(gpu=replace(NEEDS, card="h200-141gb" if name[0] == "p" else "h100-80gb"))
        for name in facts
    }
    found = [c for c in judge(needs, facts).checks if c.topic == "same packages"]
    assert [(c.host, c.seen) for c in found] == [("d0", "nixl 1.2.0")]


def test_a_package_that_an_option_needs() -> None:
    needs = replace(NEEDS, python="/opt/py", packages={"sglang": "0.5.16"}, modules=("deep_ep",))
    gpu = GpuFacts(driver="580.95.05", packages={"sglang": "0.5.16"})
    (check,) = [c for c in one(gpu, needs).checks if c.topic == "engine"]
    assert (check.status, check.seen, check.expected) == ("fail", "deep_ep missing", "sglang 0.5.16, deep_ep")
    (check,) = [
        c
        for c in one(replace(gpu, packages={"sglang": "0.5.16", "deep_ep": "1.2"}), needs).checks
        if c.topic == "engine"
    ]
    assert check.status == "ok"


def test_shared_memory_that_the_host_cannot_fill(recorded: Recorded) -> None:
    report = one(recorded("h100-ib"), replace(NEEDS, shm_gb=200))
    (check,) = [c for c in report.checks if c.topic == "shm"]
    assert check.status == "fail"
    assert "the host has 64.0 GB of memory" in check.seen
    assert "wideep_eplb.enabled" in check.remedy


def test_small_packets_of_roce(recorded: Recorded) -> None:
    gpu = recorded("h100-roce")
    needs = replace(NEEDS, link="roce", gid_index=3)
    assert {c.status for c in one(gpu, needs).checks if c.topic == "rdma mtu"} == {"ok"}
    small = replace(gpu, rdma=tuple(replace(port, mtu=1500) for port in gpu.rdma))
    (check,) = [c for c in one(small, needs).checks if c.topic == "rdma mtu"]
    assert check.status == "warn"
    assert "rail0 1500" in check.seen
    assert "mtu 9000" in check.remedy


@pytest.mark.parametrize(
    ("gpu", "card", "found"),
    [
        (("NVIDIA H800", 81559), "h100-80gb", ("fail", "h800")),
        (("NVIDIA H20-3e", 143771), "h200-141gb", ("fail", "h20-141gb")),
        (("NVIDIA A800-SXM4-80GB", 81920), "a100-80gb", ("fail", "a800")),
        (("NVIDIA H100 NVL", 95830), "h100-80gb", ("fail", "h100-nvl")),
        (("NVIDIA H100 PCIe", 81559), "h100-80gb", ("warn", "h100-pcie")),
        (("NVIDIA A100 80GB PCIe", 81920), "a100-80gb", ("warn", "write a hardware card")),
        (("NVIDIA L40S", 46068), "h100-80gb", ("fail", "write a hardware card of NVIDIA L40S")),
    ],
)
def test_the_remedy_names_the_card_of_what_is_there(
    gpu: tuple[str, int], card: str, found: tuple[str, str], recorded: Recorded
) -> None:
    facts = all_gpus(name=gpu[0], memory_mib=gpu[1])(recorded("h100-ib"))
    (check,) = [c for c in one(facts, replace(NEEDS, card=card)).checks if c.topic == "gpus"]
    assert check.status == found[0]
    assert found[1] in check.remedy
    if right := re.match(r"set wideep_gpu of this host to ([\w-]+)", check.remedy):
        (check,) = [c for c in one(facts, replace(NEEDS, card=right[1])).checks if c.topic == "gpus"]
        assert check.status == "ok"


EFA = ports(link="", driver="efa", rate=100.0)


def test_an_elastic_fabric_adapter_is_what_it_is_said_to_be(recorded: Recorded) -> None:
    facts = EFA(recorded("h100-ib"))
    assert findings(one(facts, replace(NEEDS, link="efa", nvshmem=False))) == []


def test_an_elastic_fabric_adapter_is_no_infiniband(recorded: Recorded) -> None:
    report = one(EFA(recorded("h100-ib")), replace(NEEDS, nvshmem=False))
    (check,) = [c for c in report.checks if c.status == "fail"]
    assert (check.topic, check.remedy) == ("rdma", "set wideep_network.link to efa")


@pytest.mark.parametrize(("channels", "expected"), [(0, [("imex", "fail")]), (1, []), (None, [])])
def test_imex_has_a_channel(
    channels: int | None, expected: list[tuple[str, str]], recorded: Recorded
) -> None:
    facts = replace(recorded("gb200"), imex="active", imex_channels=channels)
    needs = replace(NEEDS, card="gb200-nvl72", gpus=4, rdma_devices=DEVICES[:4])
    assert findings(one(facts, needs)) == expected


def test_the_device_of_each_gpu_is_printed_and_judged(recorded: Recorded) -> None:
    def check(*names: str) -> tuple[str, str, str]:
        report = one(recorded_facts, replace(NEEDS, gpu_devices=names))
        (found,) = [c for c in report.checks if c.topic == "gpu to nic"]
        return found.status, found.seen, found.remedy

    recorded_facts = recorded("h100-ib")
    listed = ", ".join(DEVICES)
    assert check()[:2] == ("ok", f"each GPU has its own near by: gpu_devices: [{listed}]")
    assert check(*DEVICES)[:2] == ("ok", "each GPU has the one that is named")
    swapped = (DEVICES[1], DEVICES[0], *DEVICES[2:])
    assert check(*swapped) == (
        "warn",
        "GPUs 0, 1: mlx5_1 NODE, mlx5_0 NODE",
        f"set gpu_devices of wideep_network to [{listed}]",
    )
