"""Role host_tuning for real, into a directory: files only, no command is run there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    "etc/sysctl.d/90-wideep.conf": "kernel.numa_balancing = 0",
    "etc/security/limits.d/90-wideep.conf": "* - memlock unlimited",
    "etc/modprobe.d/wideep-nvidia.conf": 'EnableStreamMemOPs=1 NVreg_RegistryDwords="PeerMappingOverride=1;"',
    "etc/modules-load.d/wideep.conf": "nvidia_peermem",
    "etc/tmpfiles.d/wideep.conf": "w /sys/kernel/mm/transparent_hugepage/enabled - - - - madvise",
    "etc/systemd/system/wideep-gpu-persistence.service": "nvidia-smi -pm 1",
}
LINK = "etc/systemd/system/multi-user.target.wants/wideep-gpu-persistence.service"
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

    def run(self, *options: str, part: str = "main", **variables: Any) -> tuple[int, str]:
        """Return the number of changes and the output."""
        given = {
            "ansible_python_interpreter": sys.executable,
            **{"part": part, "host_tuning_root": str(self.root)},
            **variables,
        }
        argv = [str(Path(sys.executable).parent / "ansible-playbook"), str(self.playbook)]
        argv += ["-i", "localhost,", "-c", "local", "-e", json.dumps(given), *options]
        env = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        changed = int(done.stdout.rpartition("changed=")[2].split()[0])
        return changed, done.stdout

    @property
    def files(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.root)): path.read_text()
            for path in self.root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_from_nothing_to_tuned_and_back(host: Host) -> None:
    changed, output = host.run("--check", "--diff")
    assert changed > 0
    assert "PeerMappingOverride" in output, "the difference is shown"
    assert host.files == {}

    changed, output = host.run()
    assert changed > 0
    said = " ".join(output.split())  # however the lines are folded
    assert f"host_tuning_root is {host.root}: files are written there, no command is run" in said
    assert "localhost must be rebooted" in output
    assert set(host.files) == set(FILES)
    for name, text in FILES.items():
        assert text in host.files[name]
    assert (host.root / LINK).resolve() == host.root / "etc/systemd/system/wideep-gpu-persistence.service"

    assert host.run()[0] == 0

    params = host.root / "proc/driver/nvidia/params"
    params.parent.mkdir(parents=True)
    params.write_text('EnableStreamMemOPs: 1\nRegistryDwords: "PeerMappingOverride=1;"\n')
    changed, output = host.run()
    assert (changed, "must be rebooted" in output) == (0, False)
    params.unlink()

    assert host.run("--check", part="remove")[0] > 0
    assert set(host.files) == set(FILES)
    assert host.run(part="remove")[0] > 0
    assert host.files == {}
    assert not (host.root / LINK).is_symlink()
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
    )
    assert "must be rebooted" not in output
    assert set(host.files) == {unit}, "a unit that is no longer listed is taken away by remove"
    assert not (host.root / LINK).is_symlink()
    host.run(part="remove")
    assert host.files == {}


def test_own_values(host: Host) -> None:
    host.run(
        host_tuning_sysctl={"vm.swappiness": 1}, host_tuning_limits=["@gpu"], host_tuning_modules=["a", "b"]
    )
    assert host.files["etc/sysctl.d/90-wideep.conf"].splitlines()[1:] == ["vm.swappiness = 1"]
    assert host.files["etc/security/limits.d/90-wideep.conf"].splitlines()[1] == "@gpu - memlock unlimited"
    assert host.files["etc/modules-load.d/wideep.conf"].splitlines()[1:] == ["a", "b"]
