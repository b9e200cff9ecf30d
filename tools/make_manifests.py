#!/usr/bin/env python3
"""Make k8s/*.yaml from inventories/kubernetes_*: for people who only want `kubectl apply`.

usage: make_manifests.py [--check]      --check writes nothing; exit status 1 if a file is not current.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from wideep.kubernetes.manifests import Manifests, to_yaml
from wideep.plan import Plan, make_plan

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "k8s"
INVENTORIES = ("kubernetes_sglang", "kubernetes_trtllm")
HEAD = """\
# Made by tools/make_manifests.py from inventories/{inventory}: change that and run it. Use: README.md.
"""


def plan(inventory: str, **variables: Any) -> Plan:
    """Return the plan of an inventory of the repository, with variables changed."""
    folder = ROOT / "inventories" / inventory
    shared = yaml.safe_load((folder / "group_vars" / "all.yml").read_text(encoding="utf-8"))
    tree = yaml.safe_load((folder / "hosts.yml").read_text(encoding="utf-8"))["all"]["children"]
    groups = {name: list(group["hosts"]) for name, group in tree.items()}
    hosts = {
        name: {**shared, **own, **variables}
        for group in tree.values()
        for name, own in group["hosts"].items()
    }
    return make_plan(groups, hosts)


def manifests(inventory: str, **variables: Any) -> Manifests:
    """Return the manifests of an inventory of the repository, with variables changed."""
    made = plan(inventory, **variables).manifests
    assert made is not None, "the inventory is one of Kubernetes"
    return made


def files() -> dict[Path, str]:
    """Return path -> content."""
    found: dict[Path, str] = {}
    for inventory in INVENTORIES:
        made = manifests(inventory)
        head = HEAD.format(inventory=inventory)
        found.setdefault(TARGET / "model-cache.yaml", head + to_yaml(made.model))
        found[TARGET / f"{made.graph[-1]['metadata']['name']}.yaml"] = head + to_yaml(made.graph)
    return found


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    current = True
    for path, text in files().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        current = False
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'is not current' if check else 'written'}")
    return int(check and not current)


if __name__ == "__main__":
    sys.exit(main())
