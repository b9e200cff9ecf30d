"""What preflight gathers on GPU hosts: parsers on recorded outputs, real files, real processes."""

from __future__ import annotations

import json
import mmap
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import gpu_facts, host_facts, kernel_facts
from ansible_collections.wideep.dynamo.plugins.module_utils.kernel_facts import acs_control, shared_memory
from gpu_hosts import RECORDINGS, SYSTEMS, gather, make_host, typed


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_recording_is_read_and_passes_the_border(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = gather(system, tmp_path, monkeypatch)
    facts = typed(json.loads(json.dumps(data)))
    assert bool(facts.error) == (not facts.gpus)
    assert [gpu.index for gpu in facts.gpus] == list(range(len(facts.gpus)))
    assert all(gpu.memory_mib and gpu.name.startswith("NVIDIA ") for gpu in facts.gpus)


def test_the_readme_lists_every_recording() -> None:
    text = (RECORDINGS / "README.md").read_text()
    assert [name for name in SYSTEMS if f"`{name}`" not in text] == []


def test_the_recorded_virtual_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = typed(gather("h200-vm", tmp_path, monkeypatch))
    (gpu,) = facts.gpus
    assert (facts.driver, facts.cuda, facts.open_module) == ("580.159.04", "13.0", True)
    assert (gpu.name, gpu.memory_mib, gpu.persistence, gpu.mig, gpu.ecc) == (
        *("NVIDIA H200", 143771),
        *(True, False, True),
    )
    assert (gpu.uncorrected, gpu.uncorrected_ever, gpu.fabric_state, gpu.recovery) == (0, 0, "", "")
    assert (gpu.links_up, gpu.links_down, gpu.nics, gpu.slowdowns) == (0, (), {}, ())
    assert facts.params == {"EnableStreamMemOPs": "0", "RegistryDwords": "", "NvLinkDisable": "1"}
    assert (facts.rdma, facts.nvswitches, facts.fabric_manager) == ((), 0, "unknown")
    assert facts.kernel.transparent_hugepages == "madvise"


def test_the_recorded_virtual_machine_with_four_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fabric is registered by a manager outside of it: there is neither the service nor a switch here."""
    facts = typed(gather("h100-vm", tmp_path, monkeypatch))
    assert [(gpu.name, gpu.memory_mib) for gpu in facts.gpus] == [("NVIDIA H100 80GB HBM3", 81559)] * 4
    assert [(gpu.links_up, gpu.links_down, gpu.fabric_state) for gpu in facts.gpus] == [
        (18, (), "Completed")
    ] * 4
    assert [gpu.nics for gpu in facts.gpus] == [{}] * 4
    assert facts.params["NvLinkDisable"] == "0"
    assert (facts.rdma, facts.nvswitches, facts.fabric_manager) == ((), 0, "unknown")


def test_a_healthy_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = typed(gather("h100-ib", tmp_path, monkeypatch))
    assert [gpu.links_up for gpu in facts.gpus] == [18] * 8
    assert {gpu.fabric_state for gpu in facts.gpus} == {"Completed"}
    assert facts.gpus[5].nics["mlx5_5"] == "PXB"
    assert facts.gpus[5].nics["mlx5_0"] == "SYS"
    assert (facts.fabric_manager, facts.fabric_manager_version, facts.imex) == (
        *("active", facts.driver),
        "absent",
    )
    assert (facts.peermem, facts.gdrcopy, facts.nvswitches) == (True, True, 4)
    first = facts.rdma[0]
    assert (first.name, first.port, first.state, first.physical, first.rate, first.link) == (
        *("mlx5_0", 1, "ACTIVE", "LinkUp"),
        *(400.0, "ib"),
    )
    assert (first.netdev, first.mtu, first.numa, first.usable) == ("ib0", 4092, 0, True)
    assert [(gid.index, gid.ipv4) for gid in first.gids] == [(0, False)]
    assert facts.kernel.iommu == ("identity",)


def test_a_host_full_of_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = typed(gather("h200-ill", tmp_path, monkeypatch)).gpus
    assert [gpu.persistence for gpu in gpus] == [False, *[True] * 7]
    assert [(p.pid, p.process, p.used_mib, p.service) for p in gpus[1].processes] == [
        (2147480001, "/usr/bin/python3", 71234, "")
    ]
    assert gpus[2].slowdowns == ("hw_slowdown", "hw_thermal_slowdown")
    assert (gpus[3].uncorrected, gpus[3].repair_pending, gpus[3].recovery) == (2, True, "GPU Reset Required")
    assert [gpu.unrepairable for gpu in gpus].index(True) == 4
    assert [gpu.mig for gpu in gpus].index(True) == 5
    assert (gpus[6].links_up, gpus[6].links_down) == (17, (17,))
    assert gpus[7].ecc is False


def test_roce_addresses_and_a_bond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = typed(gather("h100-roce", tmp_path, monkeypatch))
    ports = {port.name: port for port in facts.rdma}
    assert [(g.index, g.type, g.ipv4) for g in ports["mlx5_0"].gids] == [
        (0, "IB/RoCE v1", False),
        (1, "RoCE v2", False),
        (2, "IB/RoCE v1", True),
        (3, "RoCE v2", True),
    ]
    assert max(gid.index for gid in ports["mlx5_5"].gids) == 1
    assert (ports["mlx5_bond_0"].mtu, ports["mlx5_bond_0"].rate, ports["mlx5_0"].link) == (1500, 25.0, "roce")
    assert facts.gpus[0].nics["mlx5_1"] == "PXB"


@pytest.mark.parametrize(("system", "words"), [("no-driver", "communicate"), ("driver-mismatch", "mismatch")])
def test_without_a_driver_the_error_is_the_fact(
    system: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = gather(system, tmp_path, monkeypatch)
    assert words in data["error"]
    assert (data["gpus"], data["params"], data["rdma"]) == ([], {}, [])


def test_a_tool_that_is_absent_or_hangs_or_talks_nonsense() -> None:
    code, _ = gpu_facts.run(["wideep-no-such-tool"])
    assert code == 127
    assert gpu_facts._no_smi(code, "")["error"] == "nvidia-smi is not installed"
    assert gpu_facts.run(["sleep", "5"], timeout_s=0.1) == (124, "no answer within 0.1 s")
    assert gpu_facts.parse_smi("<nvidia_smi_log><gpu>")["error"]
    assert gpu_facts.parse_nvlink("nonsense\n") == {}
    assert gpu_facts.parse_topology("nonsense\n") == {}


def test_a_lost_gpu_among_others_tells_nothing_and_breaks_nothing() -> None:
    text = (RECORDINGS / "h100-ib/nvidia-smi-q-x.xml").read_text()
    lost = text.replace("<total>81559 MiB</total>", "<total>[GPU is lost]</total>", 1)
    lost = lost.replace("<dram_uncorrectable>0<", "<dram_uncorrectable>[Unknown Error]<")
    gpus = gpu_facts.parse_smi(lost)["gpus"]
    assert (gpus[0]["memory_mib"], gpus[1]["memory_mib"]) == (None, 81559)
    assert gpus[0]["uncorrected"] == 0


def test_forms_of_older_drivers() -> None:
    text = """<nvidia_smi_log><driver_version>525.1</driver_version><gpu id="00000000:1B:00.0">
      <clocks_throttle_reasons><clocks_throttle_reason_sw_thermal_slowdown>Active</clocks_throttle_reason_sw_thermal_slowdown>
      </clocks_throttle_reasons><ecc_errors><volatile><sram_uncorrectable>1</sram_uncorrectable>
      <dram_uncorrectable>2</dram_uncorrectable></volatile></ecc_errors></gpu></nvidia_smi_log>"""
    (gpu,) = gpu_facts.parse_smi(text)["gpus"]
    assert (gpu["slowdowns"], gpu["uncorrected"], gpu["uncorrected_ever"], gpu["bus_id"]) == (
        *(["sw_thermal_slowdown"], 3),
        *(None, "0000:1b:00.0"),
    )
    topology = (
        "\tGPU0\tmlx5_0\tmlx5_bond_0\tCPU Affinity\nGPU0\t X \tPIX\tSYS\t0-15\nmlx5_0\tPIX\t X \tSYS\t\n"
    )
    assert gpu_facts.parse_topology(topology) == {0: {"mlx5_0": "PIX", "mlx5_bond_0": "SYS"}}


def space(*capabilities: tuple[int, int, int]) -> bytes:
    """A configuration space with extended capabilities (offset, number, control), in this order."""
    data = bytearray(4096)
    following = [offset for offset, *_ in capabilities[1:]] + [0]
    for (offset, number, control), after in zip(capabilities, following, strict=True):
        struct.pack_into("<I", data, offset, number | 1 << 16 | after << 20)
        struct.pack_into("<H", data, offset + 6, control)
    return bytes(data)


def test_acs_of_pci_bridges(tmp_path: Path) -> None:
    assert acs_control(space((0x100, 0x0001, 0), (0x148, 0x000D, 0x1D))) == 0x1D
    assert acs_control(space((0x100, 0x0001, 0))) == 0
    assert acs_control(space((0x100, 0x0001, 0))[:256]) == 0, "only root reads more"
    assert acs_control(struct.pack("<I", 1 | 0x100 << 20) * 1024) == 0, "a loop ends"
    for name, kind, control in (
        *(("0000:00:01.0", "0x060400", 0x1D), ("0000:00:02.0", "0x060400", 0)),
        ("0000:00:03.0", "0x020000", 0x1D),
    ):
        folder = tmp_path / "sys/bus/pci/devices" / name
        folder.mkdir(parents=True)
        (folder / "class").write_text(kind)
        (folder / "config").write_bytes(space((0x100, 0x000D, control)))
    assert kernel_facts.kernel(tmp_path, [])["acs_bridges"] == ["0000:00:01.0"]


def test_what_a_crash_left_in_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_facts, "SMALL", 10)
    (tmp_path / "proc").symlink_to("/proc")
    place = tmp_path / "dev/shm"
    place.mkdir(parents=True)
    for name, size in (("left", 100), ("open", 200), ("mapped", 4096), ("tiny", 5)):
        (place / name).write_bytes(b"x" * size)
    with (place / "open").open("rb"), (place / "mapped").open("r+b") as file:
        view = mmap.mmap(file.fileno(), 0)
        file.close()
        found = shared_memory(tmp_path)
        view.close()
    assert found is not None
    assert found["unused"] == [{"path": str(place / "left"), "bytes": 100}]
    assert 0 < found["free"] <= found["total"]
    assert shared_memory(tmp_path / "nowhere") is None


def test_gpus_are_looked_at_only_where_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_host("h100-ib", tmp_path, monkeypatch)
    monkeypatch.setattr(host_facts, "find_pythons", list)  # those of this machine take their time
    needs: dict[str, Any] = {"ports": [], "peers": []}
    assert host_facts.gather({**needs, "gpu": None}, may_write=False)["gpu"] is None
    assert len(host_facts.gather({**needs, "gpu": {"gpus": 8}}, may_write=False)["gpu"]["gpus"]) == 8


def test_a_process_of_ours_is_known_by_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    root = make_host("h200-vm", tmp_path, monkeypatch)
    (root / "proc").rename(root / "proc-recorded")
    (root / "proc").symlink_to("/proc")
    env = {"WIDEEP_STATE_DIR": "/opt/wideep", "WIDEEP_SERVICE": "decode-0"}
    code = "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout
        running.stdout.readline()
        owner = gpu_facts._owner({"pid": running.pid}, root)
        running.communicate(b"\n")
    assert owner == {"state_dir": "/opt/wideep", "service": "decode-0"}


def test_versions_of_packages_in_an_interpreter() -> None:
    found = gpu_facts._packages(sys.executable, ["pydantic", "no-such-package"])
    assert list(found) == ["pydantic"]
    assert found["pydantic"][0].isdigit()
    assert gpu_facts._packages("/no/such/python", ["pydantic"]) == {}


def test_channels_of_imex_are_counted_where_the_driver_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_host("gb200", tmp_path, monkeypatch)
    assert gpu_facts.gather(root)["imex_channels"] is None
    (root / "proc/devices").write_text("Character devices:\n506 nvidia-caps-imex-channels\n")
    assert gpu_facts.gather(root)["imex_channels"] == 0
    channel = root / "dev/nvidia-caps-imex-channels/channel0"
    channel.parent.mkdir()
    channel.touch()
    assert gpu_facts.gather(root)["imex_channels"] == 1
