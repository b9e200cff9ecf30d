"""YAML syntax of an inventory's files. Ansible says neither file nor line of an error in group_vars."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from wideep.problems import Problem

SUFFIXES = {".yml", ".yaml"}
VARIABLES = ("group_vars", "host_vars")


def yaml_problems(inventories: Iterable[str | Path]) -> list[Problem]:
    """Return what does not parse in the inventories and in the variables beside them, with file and line."""
    problems = []
    for path in _files(inventories):
        try:
            text = path.read_text(encoding="utf-8")
            if not text.startswith("$ANSIBLE_VAULT"):
                for _ in yaml.parse(text, Loader=yaml.SafeLoader):
                    pass
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
            remedy = "correct the YAML there, or just before: brackets, quotes, indentation"
            problems.append(Problem(f"not valid YAML: {error.problem}", where, remedy))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            problems.append(Problem(f"cannot be read: {error}", str(path), "make it a readable UTF-8 file"))
    return problems


def _files(inventories: Iterable[str | Path]) -> list[Path]:
    found: list[Path] = []
    for inventory in map(Path, inventories):
        folder = inventory if inventory.is_dir() else inventory.parent
        own = sorted(inventory.iterdir()) if inventory.is_dir() else [inventory]
        found += [path for path in own if path.suffix in SUFFIXES and path.is_file()]
        for name in VARIABLES:
            found += sorted(p for p in (folder / name).rglob("*") if p.suffix in SUFFIXES and p.is_file())
    return list(dict.fromkeys(found))
