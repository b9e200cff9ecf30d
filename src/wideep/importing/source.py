"""What every form of source is read into, before an engine reads its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wideep.engines.importing import Row, Setting, Worker
from wideep.problems import Problem, RefusedError


@dataclass(frozen=True)
class Group:
    """The workers of a role, and how many there are.

    gpus, nodes: of one replica; None where the engine's settings say it. taken: GPUs of one host that the
    replicas take, where the source names them. beside: whether they are on the hosts of prefill. others: what
    other replicas are told, which has to be the same.
    """

    worker: Worker
    replicas: int = 1
    gpus: int | None = None
    nodes: int | None = None
    taken: tuple[int, ...] = ()
    beside: bool = False
    others: tuple[Worker, ...] = ()


@dataclass
class Recipe:
    """A source as a whole.

    models: what it calls the model, the best name first. precision: of the weights, where it is said.
    open_path: the flag with the model's path, where that has no value. gpu: its word for the GPU.
    rows: settings that are no worker's. defaults: variables that it leaves open -> what its own programs do
    then. frontends: hosts that route.
    """

    name: str
    engine: str
    groups: list[Group]
    models: list[str] = field(default_factory=list)
    path: str = ""
    open_path: Setting | None = None
    precision: str = ""
    gpu: str = ""
    gpus_per_node: int | None = None
    frontends: int = 1
    variables: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    defaults: dict[str, Any] = field(default_factory=dict)


def refuse(message: str, where: str, remedy: str) -> RefusedError:
    """Return the error of a source that cannot be read."""
    return RefusedError([Problem(message, where, remedy)])


def read_text(path: Path) -> str:
    """Return a source's text. Raises RefusedError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text"
        raise refuse(f"cannot be read: {reason}", str(path), "name a file that is there") from error


class Lines:
    """A YAML file with the line of each key: `lines.of("backend", "type")`."""

    def __init__(self, text: str, file: str, first: int = 1) -> None:
        self.file, self.first = file, first
        self._lines: dict[tuple[str, ...], int] = {}
        try:
            nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
            self.documents: list[Any] = [one for one in yaml.safe_load_all(text) if one is not None]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{file}:{mark.line + first}" if mark else file
            raise refuse(
                f"not valid YAML: {error.problem}", place, "correct the YAML there, or just before"
            ) from error
        except (yaml.YAMLError, ValueError) as error:
            raise refuse(f"not valid YAML: {error}", file, "correct it") from error
        for node in nodes:
            self._walk(node, ())

    def _walk(self, node: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(getattr(key, "value", "")))
                self._lines.setdefault(here, key.start_mark.line)
                self._walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._lines.setdefault((*path, str(number)), value.start_mark.line)
                self._walk(value, (*path, str(number)))

    def has(self, *path: str) -> bool:
        """Return whether a key is there."""
        return path in self._lines

    def of(self, *path: str) -> str:
        """Return file and line of a key, or of the nearest one above it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return f"{self.file}:{self._lines[path[:length]] + self.first}"
        return self.file


def tree_settings(tree: Mapping[str, Any], where: Callable[..., str]) -> list[Setting]:
    """Return the leaves of a tree as settings by dotted path. where: file and line of a path of keys."""
    found: list[Setting] = []

    def walk(part: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for key, value in part.items():
            here = (*path, str(key))
            if isinstance(value, Mapping) and value:
                walk(value, here)
            else:
                found.append(Setting(".".join(here), value, where(*here)))

    walk(tree, ())
    return found
