"""Manifests against schemas, before anything is sent: types, values, and no field that does not exist.

The DynamoGraphDeployment's schema is that of the release (`operator/`); Kubernetes' own objects
are those of the official Python client, which is generated from the API's OpenAPI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import yaml

from wideep.problems import Problem
from wideep.reference.paths import configs_dir
from wideep.reference.release import Release

PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "datetime": str}
WORDS = {
    "str": "a text",
    "int": "a whole number",
    "bool": "true or false",
    "float": "a number",
    "datetime": "a time",
}
TYPES = {"string": "str", "integer": "int", "boolean": "bool", "number": "float"}
# How deep a field is looked for that stands in the wrong place.
DEEPEST = 4
REMEDY = "correct it; a rendered manifest should never have this: please report it"


@dataclass(frozen=True)
class Kind:
    """What may stand in a place: a schema, or a type of the Python client by name ("List[V1EnvVar]").

    bare: the fields that the type demands are given by others (a pod template of the operator's).
    """

    schema: Mapping[str, Any]
    model: str = ""
    bare: bool = False

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Kind:
        """Return the kind that a schema describes."""
        return cls(schema, schema.get("x-model", ""), bare="x-model" in schema)

    @property
    def type(self) -> str:
        """Return `list`, `map`, `object`, `any`, or a key of PLAIN."""
        if self.model:
            if self.model.startswith("List["):
                return "list"
            if self.model.startswith("Dict["):
                return "map"
            return self.model if self.model in PLAIN else "any" if self.model == "object" else "object"
        if self.schema.get("x-kubernetes-int-or-string"):
            return "any"
        name = self.schema.get("type", "any")
        if name == "object":
            return "map" if "additionalProperties" in self.schema else "object"
        return "list" if name == "array" else TYPES.get(name, "any")

    @property
    def inner(self) -> Kind:
        """Return the kind of a list's items or a map's values."""
        if self.model:
            return Kind({}, re.sub(r"^(List\[|Dict\[str, )|]$", "", self.model))
        return Kind.of(self.schema.get("items") or self.schema["additionalProperties"])

    @property
    def fields(self) -> dict[str, Kind]:
        """Return the fields of an object."""
        own = {name: Kind.of(schema) for name, schema in self.schema.get("properties", {}).items()}
        if self.model:
            kind = getattr(models(), self.model)
            for name, kind_of in kind.openapi_types.items():
                own.setdefault(kind.attribute_map[name], Kind({}, kind_of))
        return {name: kind for name, kind in own.items() if name not in self.schema.get("x-without", ())}

    @property
    def open(self) -> bool:
        """Whether fields are allowed that are not listed."""
        return bool(self.schema.get("x-kubernetes-preserve-unknown-fields")) or not self.fields


@lru_cache(maxsize=1)
def models() -> Any:
    """Return the module with the types of the Kubernetes API."""
    from kubernetes import client  # noqa: PLC0415 - it takes half a second, which plans of hosts need not spend

    return client


def check(objects: Iterable[Mapping[str, Any]], release: Release) -> list[Problem]:
    """Return everything that is wrong with manifests for a release's operator."""
    return [problem for item in objects for problem in _check(item, release.graph_schema())]


def _check(item: Mapping[str, Any], graph: Mapping[str, Any]) -> Iterator[Problem]:
    version, kind = str(item.get("apiVersion", "")), str(item.get("kind", ""))
    name = (item.get("metadata") or {}).get("name", "")
    where = f"{kind or 'object'} {name}: "
    group, _, number = version.rpartition("/")
    if (group, kind) == (graph["group"], graph["names"]["kind"]):
        if number not in graph["versions"]:
            known = ", ".join(f"{group}/{v}" for v in graph["versions"])
            yield Problem(f"{version} is not a version of it", f"{where}apiVersion", f"use one of: {known}")
            return
        root = _custom(graph["versions"][number])
    elif f"{version}/{kind}" in _others():
        root = _custom(_others()[f"{version}/{kind}"])
    else:
        model = f"{number[:1].upper()}{number[1:]}{kind}"
        if not hasattr(models(), model):
            yield Problem(f"{version} {kind} is not a kind of Kubernetes", where.rstrip(": "), REMEDY)
            return
        root = Kind({}, model)
    yield from _Walk(where).run(item, root, "")


def _custom(own: Mapping[str, Any]) -> Kind:
    """Return the kind of a custom resource. own: the schemas of its fields beside metadata."""
    text = {"type": "string"}
    properties = {**own, "apiVersion": text, "kind": text, "metadata": {"x-model": "V1ObjectMeta"}}
    return Kind({"type": "object", "properties": properties, "required": ["metadata", "spec"]})


@lru_cache(maxsize=1)
def _others() -> Mapping[str, Mapping[str, Any]]:
    """Return the kinds of other projects: version/kind -> schemas of its fields."""
    text = (configs_dir() / "kubernetes" / "kinds.yml").read_text(encoding="utf-8")
    kinds: Mapping[str, Mapping[str, Any]] = yaml.safe_load(text)
    return kinds


class _Walk:
    """One pass over one object. `above` holds the objects around the current one, the nearest last."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.above: list[tuple[str, Kind]] = []

    def run(self, value: Any, kind: Kind, path: str) -> Iterator[Problem]:
        wanted = kind.type
        if wanted in PLAIN:
            yield from self.plain(value, kind, path)
        elif wanted == "any":
            if "pattern" in kind.schema and not re.search(kind.schema["pattern"], str(value)):
                yield self.problem(
                    path, f"{value!r} is not of its form", "write a number with a unit, e.g. 80Gi"
                )
        elif wanted == "list":
            if not isinstance(value, list):
                yield self.problem(path, "is not a list", "write a list")
                return
            yield from self.limits(kind, path, len(value), "maxItems")
            for number, item in enumerate(value):
                yield from self.run(item, kind.inner, f"{path}[{number}]")
        elif not isinstance(value, Mapping):
            yield self.problem(path, "is not a mapping", "write `name: value` lines")
        elif wanted == "map":
            yield from self.limits(kind, path, len(value), "maxProperties")
            for name, item in value.items():
                yield from self.run(item, kind.inner, f"{path}.{name}")
        else:
            yield from self.object(value, kind, path)

    def object(self, value: Mapping[str, Any], kind: Kind, path: str) -> Iterator[Problem]:
        fields = kind.fields
        self.above.append((path, kind))
        for name, item in value.items():
            place = f"{path}.{name}" if path else str(name)
            if name in fields:
                yield from self.run(item, fields[name], place)
            elif not kind.open:
                yield self.problem(place, "there is no such field", self.nearest(str(name)))
        self.above.pop()
        if len(value) < kind.schema.get("minProperties", 0):
            yield self.problem(path, "is empty", f"set one of: {', '.join(sorted(fields))}")
        for name in self.required(kind):
            if name not in value:
                yield self.problem(f"{path}.{name}", "is missing", f"add {name}")

    @staticmethod
    def required(kind: Kind) -> list[str]:
        if kind.bare or not kind.model:
            return list(kind.schema.get("required", ()))
        model = getattr(models(), kind.model)
        needed = (n for n, field in getattr(model, "model_fields", {}).items() if field.is_required())
        return [model.attribute_map[name] for name in needed]

    def plain(self, value: Any, kind: Kind, path: str) -> Iterator[Problem]:
        schema, wanted = kind.schema, kind.type
        if not isinstance(value, PLAIN[wanted]) or (isinstance(value, bool) and wanted != "bool"):  # type: ignore[arg-type]
            yield self.problem(path, f"{value!r} is not {WORDS[wanted]}", f"write {WORDS[wanted]}")
            return
        if "enum" in schema and value not in schema["enum"]:
            yield self.problem(
                path, f"{value!r} is not one of its values", f"use one of: {', '.join(schema['enum'])}"
            )
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield self.problem(path, f"{value!r} is not of the form {schema['pattern']}", REMEDY)
        if len(str(value)) < schema.get("minLength", 0):
            yield self.problem(path, "is empty", "write a text")
        if "maximum" in schema and value > schema["maximum"]:
            yield self.problem(
                path, f"{value} is more than {schema['maximum']}", f"use {schema['maximum']} or less"
            )
        if "minimum" in schema and value < schema["minimum"]:
            yield self.problem(
                path, f"{value} is less than {schema['minimum']}", f"use {schema['minimum']} or more"
            )
        yield from self.limits(kind, path, len(value) if wanted == "str" else 0, "maxLength")

    def limits(self, kind: Kind, path: str, count: int, key: str) -> Iterator[Problem]:
        if count > kind.schema.get(key, count):
            yield self.problem(
                path, f"{count} are more than the {kind.schema[key]} that it may have", "use fewer"
            )

    def problem(self, path: str, message: str, remedy: str) -> Problem:
        return Problem(message, self.where + path, remedy)

    def nearest(self, name: str) -> str:
        """Return where the field was meant to stand: a name beside it, else the same name below or above."""
        _, here = self.above[-1]
        if close := get_close_matches(name, here.fields, n=1, cutoff=0.75):
            return f"did you mean {close[0]}?"
        for path, kind in reversed(self.above):
            if found := _find(kind, name):
                return f"did you mean {f'{path}.{found}' if path else found}?"
        return f"use one of: {', '.join(sorted(here.fields))}"


def _find(kind: Kind, name: str) -> str:
    """Return the shortest path to a field of this name below a kind; empty if there is none."""
    level = [("", kind)]
    for _ in range(DEEPEST):
        below: list[tuple[str, Kind]] = []
        for path, each in level:
            if each.type in {"list", "map"}:
                below.append((f"{path}{'[]' if each.type == 'list' else '.<name>'}", each.inner))
            elif each.type == "object":
                fields = each.fields
                if name in fields:
                    return f"{path}.{name}".lstrip(".")
                below += [(f"{path}.{field}", inner) for field, inner in fields.items()]
        level = below
    return ""
