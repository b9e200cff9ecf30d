"""The project's own inventories, read by Ansible."""

from __future__ import annotations

from ansible_runs import ansible
from places import REPOSITORY


def test_ansible_warns_of_none_of_our_inventories() -> None:
    folders = sorted(path.parent for path in (REPOSITORY / "inventories").glob("*/hosts.yml"))
    assert len(folders) > 10
    done = ansible("ansible-inventory", *(word for folder in folders for word in ("-i", folder)), "--list")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
