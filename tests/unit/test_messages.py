"""Whatever variable a message names, there is one of that name: an operator would look for it in vain."""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from example_inventories import REPOSITORY
from pydantic import BaseModel

from wideep.inventory.settings import HostSettings, Settings

VARIABLE = re.compile(r"\bwideep_[a-z][a-z_]*(?:\.[a-z_]+)*")
# What playbooks publish and actions return, no variables.
RESULTS = {"wideep_plan", "wideep_summary", "wideep_data", "wideep_refused", "wideep_unhealthy"}
# Groups of a run.
RESULTS |= {"wideep_away", "wideep_changing"}


@lru_cache(maxsize=1)
def declared() -> set[str]:
    """Return the names of all roles' variables."""
    found: set[str] = set()
    for path in (REPOSITORY / "roles").glob("*/meta/argument_specs.yml"):
        specification = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        found |= {name for entry in specification.values() for name in entry.get("options", {})}
    return found


def texts(path: Path) -> Iterator[str]:
    """Yield what a module may say: its texts, without docstrings and documentation."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # A text that stands alone, and the documentation that Ansible reads.
    silent = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        or (
            isinstance(node, ast.Assign)
            and getattr(node.targets[0], "id", "") in {"DOCUMENTATION", "EXAMPLES", "RETURN"}
        )
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def fail_messages(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        yield from (str(value) for key, value in data.items() if key in {"fail_msg", "msg", "success_msg"})
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from fail_messages(value)


def said() -> Iterator[tuple[str, str]]:
    """Yield (file, name) of each variable in a message."""
    for folder in ("src/wideep", "plugins"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for text in texts(path):
                yield from ((str(path), name) for name in VARIABLE.findall(text))
    for folder in ("roles", "playbooks"):
        for path in sorted((REPOSITORY / folder).rglob("*.yml")):
            for text in fail_messages(yaml.safe_load(path.read_text(encoding="utf-8"))):
                yield from ((str(path), name) for name in VARIABLE.findall(text))


def exists(name: str) -> bool:
    """Whether there is a variable, and a field of it where one is named; a pool's name stands for any."""
    variable, *path = name.split(".")
    if variable not in declared():
        return False
    fields = {
        f"wideep_{key}": field
        for model in (Settings, HostSettings)
        for key, field in model.model_fields.items()
    }
    kind: Any = fields[variable].annotation if path else None
    for part in path:
        if typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            if part not in kind.model_fields:
                return False
            kind = kind.model_fields[part].annotation
        else:
            return True  # of an engine, or of the operator
    return True


def test_every_variable_in_a_message_exists() -> None:
    found = list(said())
    names = {name for _, name in found if name.partition(".")[0] not in RESULTS}
    assert {"wideep_model_path", "wideep_pools", "wideep_kubernetes.model_cache.claim"} <= names
    missing = {name for name in names if not exists(name)}
    assert [(path, name) for path, name in found if name in missing] == []


def test_a_name_that_is_none_is_noticed() -> None:
    assert exists("wideep_eplb.enabled")
    assert exists("wideep_pools.decode.extra_args.anything")
    assert not exists("wideep_versions")
    assert not exists("wideep_kubernetes.model_cache.clam")
    assert not exists("wideep_pools.decode.extra_arg")
