"""The suite itself: what it refuses to start."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pexpect
import pytest
from places import BIN


@pytest.mark.parametrize(
    "argv",
    [
        [BIN / "ansible-playbook", "site.yml"],
        ["ansible", "localhost", "-m", "ping"],
        [sys.executable, str(BIN / "ansible-doc"), "-l"],
        [sys.executable, "-m", "ansible.cli.playbook"],
        ["/bin/sh", "-c", "cd / && ansible-runner run ."],
    ],
    ids=str,
)
def test_a_start_of_ansible_is_refused(argv: list[Any], guard: Any) -> None:
    with pytest.raises(PermissionError, match="a unit test starts Ansible"):
        subprocess.run(argv)
    assert guard.refused() == f"{' '.join(map(str, argv))}\n"


def test_also_after_a_fork(guard: Any) -> None:
    with pytest.raises(OSError, match="a unit test starts Ansible"):
        pexpect.spawn(str(BIN / "ansible"), ["--version"])
    assert "ansible --version" in guard.refused()


@pytest.mark.parametrize(
    "argv", [["cat", "/dev/null"], ["/bin/sh", "-c", "exit 0 # ansible.cfg, ansible_facts"]], ids=str
)
def test_other_programs_are_not(argv: list[str], guard: Any) -> None:
    assert subprocess.run(argv).returncode == 0
    assert guard.refused() == ""
