"""Wrong input: one clear message that names the variable and the remedy, and nothing changed on the host."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import LOCAL, REPOSITORY

from tests.system.conftest import Deployment, free_offset
from wideep import runner


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that is not there; nothing may be there afterwards either."""
    base = tmp_path_factory.mktemp("w")
    made = Deployment(base / "s", free_offset(3000))
    yield made
    assert list(base.iterdir()) == []
    assert made.pids() == {}


def refused(deployment: Deployment, **options: Any) -> str:
    """Run `site`, expect that it fails with exactly one message, and return that."""
    result = deployment.run("site", **options)
    assert result.status == "failed"
    assert all(stats.changed == 0 for stats in result.stats.values())
    assert len(result.failures) == 1
    return result.failures[0].message


POOL = {"replicas_per_node": 2, "gpus_per_node": 1}


@pytest.mark.parametrize(
    ("variables", "where", "remedy"),
    [
        ({"wideep_engine": "mokcer"}, "wideep_engine", "did you mean mocker?"),
        (
            {"wideep_pools": {"prefill": POOL, "decode": POOL | {"extra_args": {"max-num-seq": 8}}}},
            "wideep_pools.decode.extra_args",
            "--max-num-seqs",
        ),
        (
            {"wideep_frontend_args": {"router-temprature": 0.5}},
            "wideep_frontend_args",
            "--router-temperature",
        ),
        ({"wideep_gpus_per_node": 3}, "wideep_gpus_per_node on host localhost", "gpus_per_node"),
        ({"wideep_model_pth": "/x"}, "wideep_model_pth", "did you mean wideep_model_path?"),
        ({"wideep_request_plane": "udp"}, "wideep_request_plane", "wideep_request_plane"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_variables(fresh: Deployment, variables: dict[str, Any], where: str, remedy: str) -> None:
    message = refused(fresh, extra_vars=variables)
    assert message.startswith("nothing was changed: 1 problem")
    assert where in message
    assert remedy in message.split("fix: ")[1]


def test_all_problems_at_once(fresh: Deployment) -> None:
    message = refused(
        fresh, extra_vars={"wideep_event_plane": "kafka", "wideep_port_offset": 30000, "wideep_x": 1}
    )
    assert message.startswith("nothing was changed: ")
    for name in ("wideep_event_plane", "wideep_x"):
        assert name in message


def inventory(directory: Path, **groups: list[str]) -> Path:
    """Write an inventory of this machine with these groups, and the variables of the local one."""
    hosts = {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    children = {group: {"hosts": dict.fromkeys(names)} for group, names in groups.items()}
    directory.mkdir()
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "children": children}}))
    shutil.copytree(LOCAL / "group_vars", directory / "group_vars")
    return directory


def test_prefill_without_decode(fresh: Deployment, tmp_path: Path) -> None:
    here = ["localhost"]
    message = refused(fresh, inventory=inventory(tmp_path / "i", control=here, frontend=here, prefill=here))
    assert "inventory group decode" in message
    assert "add hosts to decode" in message


@pytest.mark.parametrize("name", ["hosts.yml", "group_vars/all.yml"])
def test_a_yaml_error(fresh: Deployment, tmp_path: Path, name: str) -> None:
    broken = inventory(tmp_path / "i", control=["localhost"])
    (broken / name).write_text("all:\n  hosts:\n    a: {b\n")
    with pytest.raises(runner.RefusedError, match=f"{name}:4:1: not valid YAML"):
        fresh.run("site", inventory=broken)


def test_a_port_in_use_names_its_holder(fresh: Deployment) -> None:
    with socket.create_server(("127.0.0.1", 8000 + fresh.offset)):
        message = refused(fresh)
    assert f"port {8000 + fresh.offset}" in message or str(8000 + fresh.offset) in message
    assert f"pid {os.getpid()}" in message
    assert "frontend" in message
    assert "wideep_port_offset" in message


@pytest.mark.parametrize(
    ("files", "lack"),
    [(None, "No such file"), (["config.json"], "a tokenizer"), (["tokenizer.json"], "config.json")],
)
def test_an_incomplete_model_directory(
    fresh: Deployment, tmp_path: Path, files: list[str] | None, lack: str
) -> None:
    path = tmp_path / "model"
    if files is not None:
        path.mkdir()
        for name in files:
            (path / name).write_text("{}")
    message = refused(fresh, extra_vars={"wideep_model_path": str(path)})
    assert lack in message
    assert "wideep_model_path" in message


def test_a_state_directory_that_cannot_be_written(fresh: Deployment) -> None:
    message = refused(fresh, extra_vars={"wideep_state_dir": "/proc/wideep"})
    assert "/proc/wideep" in message
    assert "wideep_state_dir" in message


def test_a_state_directory_that_belongs_to_something_else(fresh: Deployment, tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    for verb in ("site", "teardown"):
        result = fresh.run(verb, extra_vars={"wideep_state_dir": str(tmp_path)})
        assert result.status == "failed"
        assert "wideep_state_dir" in result.failures[0].message
    assert [p.name for p in tmp_path.iterdir()] == ["keep.txt"]


def test_a_full_disk(fresh: Deployment) -> None:
    message = refused(
        fresh, extra_vars={"preflight_needs": {"state_dir": str(fresh.state_dir), "disk_gb": 10**6}}
    )
    assert "GB free" in message
    assert "larger disk" in message


def test_a_limit_that_cuts_a_replica_in_two(tmp_path: Path) -> None:
    """Its ranks restart together. Hosts say which these are: this machine stands for all."""
    here = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        "wideep_state_dir": str(tmp_path / "none"),
    }
    inventory = REPOSITORY / "inventories" / "deepseek_r1_sglang"
    result = runner.run("site", inventory, limit="decode02.example.com", extra_vars=here)
    [failure] = result.failures
    assert failure.task == "Refuse to restart a part of a replica"
    assert "leaves out decode01.example.com, " in failure.message
    assert "name all of decode01.example.com,decode02.example.com," in failure.message


def test_an_old_python_on_the_controller(tmp_path: Path) -> None:
    """`make setup` finds no usable Python: it says which it needs, and makes nothing."""
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")  # as an older Python answers to the check of its version
    old.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/nonexistent"}
    found = subprocess.run(
        ["/bin/sh", REPOSITORY / "tools" / "find-python"], env=env, capture_output=True, text=True
    )
    assert found.stdout == ""
    setup = subprocess.run(
        ["/bin/sh", REPOSITORY / "tools" / "setup", found.stdout, str(tmp_path / "venv")],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert setup.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13" in setup.stderr
    assert "make PYTHON=" in setup.stderr
    assert not (tmp_path / "venv").exists()
