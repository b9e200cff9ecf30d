"""The lock of a deployment on three control hosts: this machine three times, each with a state directory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_runs import Done, playbook
from places import REPOSITORY

from wideep.changes.lock import Controller, Run, this_run

NAMES = ("c1", "c2", "c3")


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """Return an inventory of three control hosts, with a playbook beside it that takes and gives the lock."""
    hosts = {
        name: {
            "ansible_connection": "local",
            "wideep_address": f"127.88.0.{n}",
            "wideep_state_dir": str(tmp_path / name),
        }
        for n, name in enumerate(NAMES, 1)
    }
    members = {"hosts": dict.fromkeys(["c1"])}
    tree = {
        "hosts": hosts,
        "vars": {"wideep_gpus_per_node": 4, "wideep_pools": {"prefill": {"gpus_per_node": 1}}},
        "children": {
            "control": {"hosts": dict.fromkeys(NAMES)},
            "frontend": members,
            "prefill": members,
            "decode": {"hosts": dict.fromkeys(["c3"])},
        },
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": tree}))
    plays = [
        {"ansible.builtin.import_playbook": str(REPOSITORY / "playbooks" / "plays" / f"{name}.yml")}
        for name in ("begin", "lock", "unlock")
    ]
    (tmp_path / "change.yml").write_text(yaml.safe_dump(plays))
    return tmp_path


def change(hosts: Path, *options: str, **variables: Any) -> Done:
    return playbook(hosts / "change.yml", "-i", hosts / "hosts.yml", *options, variables=variables)


def notes(hosts: Path, name: str) -> list[str]:
    path = hosts / name / "log" / "changes.jsonl"
    return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.exists() else []


def hold(hosts: Path, run: Run, *names: str) -> None:
    """Have another run hold the lock on hosts."""
    for name in names:
        (hosts / name).mkdir()
        (hosts / name / ".wideep.json").write_text('{"deployment": "wideep"}')
        (hosts / name / "lock").write_text(json.dumps(run.to_dict()))


def other() -> Run:
    """Return a run of another machine."""
    return replace(
        this_run(1, "site", ""), run="other", who="ann", controller=Controller("ops-2", "m", "b", "p")
    )


def ended() -> Run:
    """Return a run of this machine whose process has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run = this_run(process.pid, "site", "")
        process.communicate(b"\n")
    return run


def test_a_run_takes_the_lock_and_gives_it_back(hosts: Path) -> None:
    done = change(hosts, "--limit", "c3")
    assert done.returncode == 0, done.stdout
    assert "changed=0" in done.stdout
    for name in NAMES:  # also on those that the limit leaves out
        assert not (hosts / name / "lock").exists()
        assert notes(hosts, name) == ["began", "ended"]
    line = json.loads((hosts / "c1/log/changes.jsonl").read_text().splitlines()[0])
    assert (line["verb"], line["limit"]) == ("change", "c3")


def test_a_check_takes_nothing(hosts: Path) -> None:
    assert change(hosts, "--check").returncode == 0
    assert not (hosts / "c1").exists()


def test_the_run_of_another_machine_is_respected_until_told(hosts: Path) -> None:
    hold(hosts, other(), "c1", "c2")
    done = change(hosts)
    assert done.returncode == 2
    assert "another run changes this deployment: site by ann (ops-2, pid 1)" in done.stdout
    assert json.loads((hosts / "c1/lock").read_text())["run"] == "other"
    assert not (hosts / "c3/lock").exists()  # what was taken is given back
    done = change(hosts, wideep_lock="take")
    assert done.returncode == 0, done.stdout
    assert "is taken over: wideep_lock is take" in done.stdout
    assert not (hosts / "c1/lock").exists()


def test_one_of_three_is_no_majority_for_others(hosts: Path) -> None:
    hold(hosts, other(), "c2")
    assert change(hosts).returncode == 0
    assert json.loads((hosts / "c2/lock").read_text())["run"] == "other"


def test_a_run_whose_process_is_gone_loses_its_lock(hosts: Path) -> None:
    hold(hosts, ended(), *NAMES)
    done = change(hosts)
    assert done.returncode == 0, done.stdout
    assert "its process is gone, so it was killed or failed" in done.stdout
    assert not (hosts / "c1/lock").exists()


def test_a_live_process_of_this_machine_is_waited_for(hosts: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        hold(hosts, this_run(process.pid, "site", ""), *NAMES)
        done = change(hosts, wideep_lock_wait_s=3)
        process.communicate(b"\n")
    assert done.returncode == 2
    assert "waiting for the end of site by" in done.stdout
    assert "another run changes this deployment" in done.stdout
    assert change(hosts).returncode == 0


@pytest.mark.parametrize(("away", "code"), [(["c2"], 0), (["c2", "c3"], 2)])
def test_more_than_half_of_the_control_hosts_are_enough(hosts: Path, away: list[str], code: int) -> None:
    tree = yaml.safe_load((hosts / "hosts.yml").read_text())
    for name in away:
        gone = {"ansible_connection": "ssh", "ansible_port": 9, "ansible_host": "127.0.0.1"}
        tree["all"]["hosts"][name] |= gone
    (hosts / "hosts.yml").write_text(yaml.safe_dump(tree))
    done = change(hosts, "--limit", "c1", ANSIBLE_SSH_RETRIES="0")
    assert done.returncode == code, done.stdout
    if code == 0:
        assert notes(hosts, "c3") == ["began", "ended"]
    else:
        assert "2 of 3 control hosts cannot be reached (c2, c3)" in done.stdout
        assert not (hosts / "c1/lock").exists()
        assert change(hosts, "--limit", "c1", wideep_lock="none").returncode == 0


def test_the_history_tells_of_all(hosts: Path) -> None:
    change(hosts)
    hold_again = other()
    (hosts / "c1" / "lock").write_text(json.dumps(hold_again.to_dict()))
    done = playbook(REPOSITORY / "playbooks/history.yml", "-i", hosts / "hosts.yml")
    assert done.returncode == 0, done.stdout
    assert " change  -" in done.stdout
    assert "lock: site by ann (ops-2, pid 1)" in done.stdout
