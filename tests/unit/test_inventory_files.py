"""A YAML error of an inventory is named with file and line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wideep import runner
from wideep.inventory.files import yaml_problems
from wideep.problems import RefusedError


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text("all:\n  hosts:\n    a:\n")
    (tmp_path / "group_vars" / "all.yml").write_text("a: 1\nsecret: !vault |\n  $ANSIBLE_VAULT;1.1\n")
    (tmp_path / "group_vars" / "vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (tmp_path / "README.md").write_text("{ not yaml")
    return tmp_path


def test_good_files_and_vaults_are_accepted(inventory: Path) -> None:
    assert yaml_problems([inventory, inventory / "hosts.yml"]) == []
    assert yaml_problems(["a.example.com,"]) == []


def test_every_error_is_named_with_file_and_line(inventory: Path) -> None:
    (inventory / "hosts.yml").write_text("all:\n  hosts: {a\n")
    (inventory / "group_vars" / "all.yml").write_text("a: 1\n  bad: [1, 2\n")
    (inventory / "group_vars" / "latin.yml").write_bytes(b"a: \xe9\n")
    problems = {Path(p.where.partition(":")[0]).name: p for p in yaml_problems([inventory])}
    assert problems["all.yml"].where.endswith("all.yml:2:6")
    assert "not valid YAML" in problems["all.yml"].message
    assert problems["hosts.yml"].where.endswith("hosts.yml:3:1")
    assert "UTF-8" in problems["latin.yml"].remedy


def test_nothing_starts(inventory: Path) -> None:
    (inventory / "group_vars" / "all.yml").write_text("a: [1\n")
    with pytest.raises(RefusedError, match=r"all\.yml:2:1"):
        runner.run("plan", inventory)
    command = [sys.executable, "-c", "from wideep.cli import main; main()", "plan", "-i", str(inventory)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "all.yml:2:1" in done.stderr) == (3, True)
