"""Reads tests/wrong_inventories, and makes a folder of one that Ansible reads."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from places import REPOSITORY

WRONG = REPOSITORY / "tests" / "wrong_inventories"
INVENTORIES = REPOSITORY / "inventories"


@dataclass(frozen=True)
class Wrong:
    """One entry of a file (README.md there)."""

    name: str
    inventory: str
    refused: list[dict[str, str]]
    set: dict[str, Any] = field(default_factory=dict)
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)

    def write(self, folder: Path, variables: dict[str, Any]) -> Path:
        """Write the inventory; `variables` are added to group_vars/all.yml. Returns the folder."""
        source = INVENTORIES / self.inventory
        tree = yaml.safe_load((source / "hosts.yml").read_text(encoding="utf-8"))
        shared = yaml.safe_load((source / "group_vars" / "all.yml").read_text(encoding="utf-8"))
        # Anchors of YAML are one object in Python: a change of one pool is not to be one of the other.
        shared = {name: deepcopy(value) for name, value in yaml.safe_load(_plain(shared)).items()} | variables
        for path, value in self.set.items():
            _change(shared, path.split("."), value)
        children = tree["all"]["children"]
        for group, names in self.groups.items():
            children[group] = {"hosts": {name: (children[group]["hosts"].get(name)) for name in names}}
        tree["all"].setdefault("hosts", {}).update(self.hosts)
        (folder / "group_vars").mkdir(parents=True)
        (folder / "hosts.yml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        (folder / "group_vars" / "all.yml").write_text(_plain(shared), encoding="utf-8")
        return folder


class _NoAnchors(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _plain(tree: Any) -> str:
    return yaml.dump(tree, Dumper=_NoAnchors, sort_keys=False)


def _change(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    if value is None:
        tree.pop(path[-1])
    else:
        tree[path[-1]] = value


def read() -> list[Wrong]:
    """Return all of them, file by file."""
    files = sorted(WRONG.glob("*.yml"))
    return [Wrong(**entry) for file in files for entry in yaml.safe_load(file.read_text(encoding="utf-8"))]
