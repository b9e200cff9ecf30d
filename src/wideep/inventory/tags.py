"""Tags of the collection's playbooks: one that none of them has would run nothing, and end well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from wideep.problems import Problem, suggest

# Ansible's own words.
OF_ANSIBLE = frozenset({"all", "always", "never", "tagged", "untagged"})


def unknown(given: Iterable[str], playbooks: Path, option: str) -> list[Problem]:
    """Return a problem for each tag that no playbook has. option: `--tags` or `--skip-tags`."""
    asked = [tag for tag in given if tag not in OF_ANSIBLE]
    known = set().union(*map(_of_file, sorted(playbooks.rglob("*.yml")))) if asked else set()
    return [
        Problem(f"no playbook has the tag {tag!r}: nothing would run", option, suggest(tag, sorted(known)))
        for tag in asked
        if tag not in known
    ]


def _of_file(path: Path) -> set[str]:
    return set(_tags(yaml.safe_load(path.read_text(encoding="utf-8")))) - OF_ANSIBLE


def _tags(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        own = tree.get("tags", ())
        yield from [own] if isinstance(own, str) else own
        for value in tree.values():
            yield from _tags(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _tags(value)
