"""What the runner refuses before Ansible is started, and how it reads what Ansible says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from wideep import runner
from wideep.console.result import Tally
from wideep.problems import RefusedError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a playbook, and an inventory that nobody reads."""
    for path in (tmp_path / "playbooks" / "mixed.yml", tmp_path / "inventories" / "local" / "hosts.yml"):
        path.parent.mkdir(parents=True)
        path.touch()
    return tmp_path


@pytest.fixture
def inventory(project: Path) -> Path:
    return project / "inventories" / "local"


def test_all_problems_at_once_before_anything_starts(project: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        runner.run(
            "mixd",
            ["nowhere", "a,b,"],
            extra_vars=[tmp_path / "vars.yml"],
            vault_password_file=tmp_path / "vault",
            project_dir=project,
        )
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "unknown verb 'mixd'" in text
    assert "did you mean mixed?" in text
    assert "nowhere: no such inventory" in text
    assert f"{tmp_path / 'vars.yml'}: no such file" in text


def test_no_such_playbook_file_and_no_inventory(project: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no such playbook") as caught:
        runner.run(tmp_path / "x.yml", [], project_dir=project)
    assert "inventory: none given" in str(caught.value)


def test_a_project_without_playbooks(tmp_path: Path, inventory: Path) -> None:
    with pytest.raises(RefusedError, match="no playbooks there"):
        runner.run("site", inventory, project_dir=tmp_path / "empty")


def test_no_ansible(project: Path, inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RefusedError, match="install ansible-core beside"):
        runner.run("mixed", inventory, project_dir=project)


def test_no_collection(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise FileNotFoundError("install it with ansible-galaxy")

    monkeypatch.setattr(runner, "collection_root", nowhere)
    with pytest.raises(RefusedError, match="install it with ansible-galaxy"):
        runner.run("site", inventory)


def test_the_default_project_is_the_collection() -> None:
    assert (runner.project_root() / "galaxy.yml").is_file()


def test_a_message_may_be_a_list_or_censored_or_missing() -> None:
    tally = Tally()
    for result in ({"msg": ["one", 2]}, {"censored": "hidden"}, {}):
        tally.add({"event": "runner_on_failed", "event_data": {"host": "a", "res": result}})
    assert [f.message for f in tally.failures] == ["one\n2", "hidden", "failed without a message"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"extra_vars": "a=1"}, "extra_vars has 'a=1', a str: give a mapping"),
        ({"extra_vars": [{"a": 1}, "x.yml"]}, "extra_vars has 'x.yml', a str: give a mapping"),
        ({"limit": 3}, "limit is 3: give a text"),
        ({"tags": ["a", 3]}, r"tags is \['a', 3\]: give a text"),
        ({"skip_tags": {"a": 1}}, "skip_tags is {'a': 1}: give a text"),
        ({"forks": "8"}, "forks is '8', a str: give a number of hosts"),
        ({"timeout_s": True}, "timeout_s is True, a bool: give a number of seconds"),
        ({"check": "no"}, "check is 'no', a str: give True or False"),
        ({"become_password": 1234}, "become_password is of another type, a int: give a text"),
    ],
)
def test_arguments_of_another_type(project: Path, inventory: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        runner.run("mixed", inventory, project_dir=project, **given)


@pytest.mark.parametrize("given", [None, 3, {"a": 1}, ["a,", 3]])
def test_inventories_of_another_type(project: Path, given: Any) -> None:
    with pytest.raises(TypeError, match="give a path, hosts as"):
        runner.run("mixed", given, project_dir=project)
