"""Role host_tuning for real, into a directory: files only, no command is run there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_runs import playbook

PORTS = "etc/sysctl.d/91-wideep-ports.conf"
FILES = {
    "etc/sysctl.d/90-wideep.conf": "kernel.numa_balancing = 0",
    PORTS: "net.ipv4.ip_local_reserved_ports = 8000,20000-20001",
    "etc/security/limits.d/90-wideep.conf": "* - memlock unlimited",
    "etc/modprobe.d/wideep-nvidia.conf": 'EnableStreamMemOPs=1 NVreg_RegistryDwords="PeerMappingOverride=1;"',
    "etc/modules-load.d/wideep.conf": "nvidia_peermem",
    "etc/tmpfiles.d/wideep.conf": "w /sys/kernel/mm/transparent_hugepage/enabled - - - - madvise",
    "etc/systemd/system/wideep-gpu-persistence.service": "nvidia-smi -pm 1",
    "etc/systemd/system/wideep-shm.service": "mount -o remount,size=700000000000 /dev/shm",
}
LINKS = {
    "etc/systemd/system/multi-user.target.wants/wideep-gpu-persistence.service",
    "etc/systemd/system/sysinit.target.wants/wideep-shm.service",
}
# Of SGLang between hosts; what the role reads of a plan.
PLAN = {
    "deployment": "r1",
    "hosts": {
        "localhost": {
            "needs": {
                "ports": [{"port": port} for port in (20000, 20001, 8000, 20000)],
                "gpu": {"nvshmem": True},
            }
        }
    },
}
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: wideep.dynamo.host_tuning, tasks_from: "{{ part }}"}
"""


class Host:
    """A directory that stands for a host's file system."""

    def __init__(self, place: Path) -> None:
        self.root = place / "root"
        self.root.mkdir()
        self.playbook = place / "play.yml"
        self.playbook.write_text(PLAYBOOK)

    def write(self, path: str, text: str) -> Path:
        """Write a file that the kernel would have."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def run(
        self, *options: str, part: str = "main", fails: bool = False, **variables: Any
    ) -> tuple[int, str]:
        """Return the number of changes and the output."""
        given = {"part": part, "host_tuning_root": str(self.root), "wideep_plan": PLAN, **variables}
        done = playbook(self.playbook, "-i", "localhost,", "-c", "local", *options, variables=given)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        changed = int(done.stdout.rpartition("changed=")[2].split()[0])
        return changed, done.stdout

    @property
    def links(self) -> dict[str, Path]:
        """Return the links of units that are started at boot, and what they lead to."""
        wanted = self.root.glob("etc/systemd/system/*.wants/*")
        return {str(link.relative_to(self.root)): link.resolve() for link in wanted}

    @property
    def files(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.root)): path.read_text()
            for path in self.root.rglob("*")
            if path.is_file() and not path.is_symlink() and path.is_relative_to(self.root / "etc")
        }


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_from_nothing_to_tuned_and_back(host: Host) -> None:
    host.write("proc/meminfo", "MemTotal:       2113533312 kB\nMemFree:  1 kB\n")
    changed, output = host.run("--check", "--diff", host_tuning_shm_gb=700)
    assert changed > 0
    assert "PeerMappingOverride" in output, "the difference is shown"
    assert host.files == {}

    changed, output = host.run(host_tuning_shm_gb=700)
    assert changed > 0
    said = " ".join(output.split())  # however the lines are folded
    assert f"host_tuning_root is {host.root}: files are written there, no command is run" in said
    assert "localhost must be rebooted" in output
    assert set(host.files) == set(FILES)
    for name, text in FILES.items():
        assert text in host.files[name]
    units = host.root / "etc/systemd/system"
    assert host.links == {link: units / Path(link).name for link in LINKS}

    assert host.run(host_tuning_shm_gb=700)[0] == 0

    params = host.write(
        "proc/driver/nvidia/params", 'EnableStreamMemOPs: 1\nRegistryDwords: "PeerMappingOverride=1;"\n'
    )
    changed, output = host.run(host_tuning_shm_gb=700)
    assert (changed, "must be rebooted" in output) == (0, False)
    params.unlink()

    assert host.run("--check", part="remove")[0] > 0
    assert set(host.files) == set(FILES)
    assert host.run(part="remove")[0] > 0
    assert host.files == {}
    assert host.links == {}
    assert host.run(part="remove")[0] == 0


def test_what_is_switched_off_goes_away(host: Host) -> None:
    host.run(host_tuning_memlock_units=["docker.service"])
    unit = "etc/systemd/system/docker.service.d/90-wideep.conf"
    assert "LimitMEMLOCK=infinity" in host.files[unit]
    _, output = host.run(
        host_tuning_sysctl={},
        host_tuning_limits=[],
        host_tuning_ibgda=False,
        host_tuning_modules=[],
        host_tuning_persistence=False,
        host_tuning_transparent_hugepages="leave",
        host_tuning_reserved_ports=[],
        host_tuning_cpu_governor="leave",
    )
    assert "must be rebooted" not in output
    assert "cpufreq" not in output
    assert set(host.files) == {unit}, "a unit that is no longer listed is taken away by remove"
    assert host.links == {}
    host.run(part="remove")
    assert host.files == {}


def test_own_values(host: Host) -> None:
    host.run(
        host_tuning_sysctl={"vm.swappiness": 1}, host_tuning_limits=["@gpu"], host_tuning_modules=["a", "b"]
    )
    assert host.files["etc/sysctl.d/90-wideep.conf"].splitlines()[1:] == ["vm.swappiness = 1"]
    assert host.files["etc/security/limits.d/90-wideep.conf"].splitlines()[1] == "@gpu - memlock unlimited"
    assert host.files["etc/modules-load.d/wideep.conf"].splitlines()[1:] == ["a", "b"]


def test_what_the_plan_decides(host: Host) -> None:
    """TensorRT-LLM does not use NVSHMEM between hosts: no options of the driver, and no reboot for them."""
    needs = {"ports": [{"port": 20000}], "gpu": {"nvshmem": False}}
    _, output = host.run(wideep_plan={"deployment": "r1", "hosts": {"localhost": {"needs": needs}}})
    assert "must be rebooted" not in output
    assert "etc/modprobe.d/wideep-nvidia.conf" not in host.files
    assert host.files[PORTS].splitlines()[-1] == "net.ipv4.ip_local_reserved_ports = 20000"
    # Without GPUs of a real engine, and without a plan at all.
    host.run(wideep_plan={"deployment": "r1", "hosts": {"localhost": {"needs": {"ports": [], "gpu": None}}}})
    assert not {"etc/modprobe.d/wideep-nvidia.conf", PORTS} & set(host.files)
    host.run(wideep_plan={})
    assert not {"etc/modprobe.d/wideep-nvidia.conf", PORTS} & set(host.files)


def test_ports_that_others_reserved_stay_reserved(host: Host) -> None:
    kernel = host.write("proc/sys/net/ipv4/ip_local_reserved_ports", "30000-32767\n")
    host.run()
    wanted = "8000,20000-20001,30000-32767"
    assert host.files[PORTS].splitlines()[-1] == f"net.ipv4.ip_local_reserved_ports = {wanted}"
    kernel.write_text(f"{wanted}\n")  # as after the load
    assert host.run()[0] == 0
    host.run(host_tuning_reserved_ports=[9000])
    assert host.files[PORTS].splitlines()[-1] == "net.ipv4.ip_local_reserved_ports = 9000,30000-32767"


def test_a_governor_only_where_the_kernel_has_one(host: Host) -> None:
    _, output = host.run()
    assert "has no cpufreq" in output
    assert "governor" not in host.files["etc/tmpfiles.d/wideep.conf"]
    host.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    changed, output = host.run(host_tuning_transparent_hugepages="leave")
    assert (changed, "has no cpufreq" in output) == (1, False)
    line = "w /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor - - - - performance"
    assert host.files["etc/tmpfiles.d/wideep.conf"].splitlines()[1:] == [line]


def test_the_files_of_tmpfiles_are_taken_by_it(host: Host) -> None:
    """systemd-tmpfiles itself, on a root of ours."""
    if not shutil.which("systemd-tmpfiles"):
        pytest.skip("no systemd-tmpfiles here")
    cpus = [
        host.write(f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor", "powersave\n")
        for number in range(2)
    ]
    pages = host.write("sys/kernel/mm/transparent_hugepage/enabled", "never")
    host.run()
    argv = ["systemd-tmpfiles", f"--root={host.root}", "--create", "wideep.conf"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [cpu.read_text().strip() for cpu in cpus] == ["performance"] * 2
    assert pages.read_text().strip() == "madvise"


def test_shared_memory_is_not_larger_than_memory(host: Host) -> None:
    host.write("proc/meminfo", "MemTotal:       2113533312 kB\nMemFree:  1 kB\n")
    _, output = host.run(fails=True, host_tuning_shm_gb=3000)
    said = " ".join(output.split())
    assert "host_tuning_shm_gb is 3000, and the host has 2164 GB of memory" in said
    assert host.files == {}, "refused before anything changes"
