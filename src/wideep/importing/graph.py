"""A DynamoGraphDeployment, in both of its API versions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wideep.engines.importing import Row, Setting, State, Worker, words_to_settings
from wideep.importing import shell
from wideep.importing.commands import (
    ROLE_WORDS,
    ROLES,
    Started,
    open_path,
    program_of,
    read_frontend,
    started_of,
)
from wideep.importing.shapes import check
from wideep.importing.source import Group, Lines, Recipe, read_text, refuse
from wideep.inventory.settings import POOLS as ALL_POOLS

# Prefill first: decode may stand beside it.
POOLS = tuple(sorted(ALL_POOLS, key=("prefill", "decode", "aggregated").index))
# Shape of what is read of a graph, of a component and of a container; parts before what is in them.
_CONTAINER = {
    "": "mapping",
    "command": "list",
    "args": "list",
    "env": "list",
    "env.*": "mapping",
    "env.*.valueFrom": "mapping",
    "env.*.name": "text",
    "resources": "mapping",
    "resources.*": "fields",
}
_COMPONENT = {
    "": "mapping",
    **dict.fromkeys(("multinode", "resources", "extraPodSpec", "podTemplate", "podTemplate.spec"), "mapping"),
    "resources.*": "fields",
    "replicas": "number",
    "multinode.nodeCount": "number",
    **dict.fromkeys(("componentType", "subComponentType", "type", "name"), "text"),
    **{f"{name}{part}": kind for name in ("envs", "env") for part, kind in
       (("", "list"), (".*", "mapping"), (".*.valueFrom", "mapping"), (".*.name", "text"))},
    **{f"{pod}.volumes{part}": kind for pod in ("extraPodSpec", "podTemplate.spec") for part, kind in
       (("", "list"), (".*", "mapping"), (".*.configMap", "mapping"))},
    **{f"extraPodSpec.mainContainer.{part}".removesuffix("."): kind for part, kind in _CONTAINER.items()},
    "podTemplate.spec.containers": "list",
    **{f"podTemplate.spec.containers.*.{part}".removesuffix("."): kind for part, kind in _CONTAINER.items()},
}  # fmt: skip
SHAPES = {
    "metadata": "mapping",
    "metadata.name": "text",
    "spec": "mapping",
    **{f"spec.{path}": kind for path, kind in _COMPONENT.items() if path.startswith("env")},
    "spec.services": "fields",
    "spec.components": "list",
    **{f"spec.{parts}.*.{path}".removesuffix("."): kind for parts in ("services", "components")
       for path, kind in _COMPONENT.items()},
}  # fmt: skip
MAPS = {"metadata": "mapping", "metadata.name": "text", "data": "mapping", "data.*": "text"}
GPU_NAMES = ("gpu", "nvidia.com/gpu")
KIND = "DynamoGraphDeployment"
# Keys of a component that are read here.
READ = frozenset(
    {
        "name",
        "componentType",
        "type",
        "subComponentType",
        "replicas",
        "multinode",
        "resources",
        "envs",
        "env",
        "extraPodSpec",
        "podTemplate",
    }
)


def is_graph(lines: Lines) -> bool:
    """Whether a YAML file holds a graph."""
    return any(isinstance(one, Mapping) and one.get("kind") == KIND for one in lines.documents)


def read_graph(path: Path, given: Mapping[str, str] | None = None) -> Recipe:
    """Return a graph's workers. given: values of variables. Raises RefusedError."""
    lines = Lines(read_text(path), str(path))
    graphs = [one for one in lines.documents if isinstance(one, Mapping) and one.get("kind") == KIND]
    if len(graphs) > 1:
        raise refuse(f"{len(graphs)} graphs in one file", str(path), "give a file with one of them")
    check(graphs[0], SHAPES, lines.of)
    for one in lines.documents:
        if isinstance(one, Mapping) and one.get("kind") == "ConfigMap":
            check(one, MAPS, lines.of)
    name = (graphs[0].get("metadata") or {}).get("name") or path.stem
    reader = _Graph(lines, path, Recipe(str(name), "", []), given or {})
    reader.read(graphs[0].get("spec") or {})
    groups = reader.recipe.groups
    if not groups:
        remedy = "give a graph whose worker components have a command"
        raise refuse("the graph has no worker whose command is known", str(path), remedy)
    groups.sort(key=lambda group: POOLS.index(group.worker.role))
    roles = [group.worker.role for group in groups]
    if twice := next((role for role in POOLS if roles.count(role) > 1), None):
        remedy = "give a graph with one component of a role"
        raise refuse(f"several components are {twice} workers", str(path), remedy)
    return reader.recipe


def _shown(value: Any) -> Any:
    return "…" if isinstance(value, Mapping | list) else value


class _Graph:
    """Reads a graph into a recipe, and the ConfigMaps beside it as files."""

    def __init__(self, lines: Lines, path: Path, recipe: Recipe, given: Mapping[str, str]) -> None:
        self.lines, self.path, self.recipe, self.given = lines, path, recipe, given
        # Name of a ConfigMap -> its files, with the lines where they begin.
        self.maps: dict[str, dict[str, tuple[str, int]]] = {}
        for one in lines.documents:
            if isinstance(one, Mapping) and one.get("kind") == "ConfigMap":
                own = self.maps.setdefault(str((one.get("metadata") or {}).get("name")), {})
                for name, text in (one.get("data") or {}).items():
                    place = lines.of("data", str(name)).rpartition(":")[2]
                    own[str(name)] = (str(text), int(place) + 1 if place.isdecimal() else 1)
        self.shared: list[Setting] = []

    def row(self, role: str, setting: Setting, state: State, becomes: str) -> None:
        """Say what became of a key."""
        self.recipe.rows.append(Row(role, setting.name, setting.value, state, becomes, setting.where))

    def read(self, spec: Mapping[str, Any]) -> None:
        """Read all components."""
        self.shared = self._environment(spec.get("envs") or spec.get("env"), "spec")
        for name, component in (spec.get("services") or {}).items():
            self._component(str(name), component or {}, ("spec", "services", str(name)))
        for number, one in enumerate(spec.get("components") or []):
            component = one or {}
            self._component(
                str(component.get("name", number)), component, ("spec", "components", str(number))
            )
        for key, value in spec.items():
            setting = Setting(f"spec.{key}", _shown(value), self.lines.of("spec", key))
            if key == "backendFramework":
                self.row("", setting, "set by wideep", "the engine of the workers' commands")
            elif key not in ("services", "components", "envs", "env"):
                self.row("", setting, "left out", "of the cluster")

    def _environment(self, entries: Any, *at: str) -> list[Setting]:
        """Return variables; one from elsewhere has `$` and the kind of its source for a value."""
        found = []
        for entry in filter(None, entries or []):
            source = next(iter(entry.get("valueFrom") or {}), "")
            value = f"${source}" if source else entry.get("value", "")
            found.append(Setting(str(entry.get("name", "")), value, self.lines.of(*at)))
        return found

    def _component(self, name: str, component: Mapping[str, Any], at: tuple[str, ...]) -> None:
        container, where = _container(component), self.lines.of(*at)
        own = self._environment(component.get("envs") or component.get("env"), *at)
        own += self._environment(container.get("env"), *at)
        env = [*self.shared, *own]
        plain = {setting.name: str(setting.value) for setting in env if not _from_elsewhere(setting)}
        words = [str(word) for word in [*(container.get("command") or []), *(container.get("args") or [])]]
        command = _unwrapped(words, where, plain | dict(self.given))
        found = program_of(command.words)
        if found is None or found[0] == "":
            flags = words_to_settings(command.words[found[2] :] if found else (), where)
            self._no_worker(name, component, flags, env=own, where=where)
            if self._is_frontend(component):
                self._rest("", component, container, at)
            return
        one = started_of(command, found, self._files(component), self.path)
        role = _role(name, component, one)
        if role == "":
            setting = Setting(name, "component", where)
            self.row("", setting, "left out", "its role is none of prefill, decode and aggregated")
            return
        recipe = self.recipe
        if recipe.engine not in ("", one.engine):
            raise refuse(
                f"workers of {recipe.engine} and of {one.engine}", where, "give a graph of one engine"
            )
        recipe.engine = one.engine
        worker = Worker(role, one.program, one.flags, one.fields, (*self._known(env, role), *one.env))
        if str(component.get("replicas")) == "0":
            self.row(role, Setting(f"{name}.replicas", 0, where), "left out", "a component that does not run")
            return
        nodes, gpus = (
            int((component.get("multinode") or {}).get("nodeCount") or 1),
            _gpus(component, container),
        )
        replicas = int(component.get("replicas") or 1)
        recipe.groups.append(Group(worker, replicas, gpus=gpus * nodes if gpus else None, nodes=nodes))
        recipe.gpus_per_node = max(recipe.gpus_per_node or 0, gpus or 0) or None
        self._model(one)
        recipe.open_path = recipe.open_path or open_path(one)
        self._rest(role, component, container, at)

    def _files(self, component: Mapping[str, Any]) -> shell.Script:
        """Return the files that a component mounts; those of all ConfigMaps where it does not say."""
        named = [
            str((volume.get("configMap") or {}).get("name"))
            for volume in filter(None, _pod(component).get("volumes") or [])
        ]
        chosen = [name for name in named if name in self.maps] or list(self.maps)
        return shell.Script(files={key: file for name in chosen for key, file in self.maps[name].items()})

    def _is_frontend(self, component: Mapping[str, Any]) -> bool:
        return (component.get("componentType") or component.get("type")) == "frontend"

    def _no_worker(
        self,
        name: str,
        component: Mapping[str, Any],
        flags: Sequence[Setting],
        *,
        env: Sequence[Setting],
        where: str,
    ) -> None:
        kind = component.get("componentType") or component.get("type") or "component"
        setting = Setting(name, kind, where)
        if self._is_frontend(component):
            for other in read_frontend(flags, list(self._known(env, "")), self.recipe):
                self.row("", other, "left out", "of a component that is no worker")
            self.row("", setting, "set by wideep", "the inventory group frontend")
            count = component.get("replicas")
            if count is not None:
                self.recipe.frontends = max(1, int(count))
                setting = Setting(f"{name}.replicas", count, where)
                self.row("", setting, "set by wideep", "hosts of the inventory group frontend")
        else:
            self.row("", setting, "left out", "no worker of an engine")

    def _known(self, env: Sequence[Setting], role: str) -> Iterator[Setting]:
        """Yield the environment that has a value; say of the rest where it comes from."""
        for setting in env:
            if not _from_elsewhere(setting):
                yield setting
            elif setting.value == "$fieldRef":
                self.row(role, setting, "set by wideep", "of the pod")
            else:
                self.row(role, setting, "left out", f"secrets_env.{setting.name}, from a source of yours")

    def _model(self, one: Started) -> None:
        served, path = one.value("served-model-name"), one.value("model-path", "model")
        if isinstance(served, str) and "$" not in served:
            self.recipe.models.insert(0, served)
        if isinstance(path, str) and "$" not in path:
            self.recipe.models.append(path)
            self.recipe.path = self.recipe.path or path

    def _rest(
        self, role: str, component: Mapping[str, Any], container: Mapping[str, Any], at: tuple[str, ...]
    ) -> None:
        for key, value in component.items():
            if key not in READ:
                self.row(
                    role, Setting(key, _shown(value), self.lines.of(*at, key)), "left out", "of the cluster"
                )
        for key, value in container.items():
            setting = Setting(f"container.{key}", _shown(value), self.lines.of(*at))
            if key == "image":
                self.row(role, setting, "set by wideep", "the release's image, or wideep_image")
            elif key not in ("name", "command", "args", "env", "resources"):
                self.row(role, setting, "left out", "of the cluster")
        for name, value in self._of_pods(component, container):
            self.row(role, Setting(name, value, self.lines.of(*at)), "left out", "of the cluster")

    def _of_pods(
        self, component: Mapping[str, Any], container: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        """Yield what pods have beside their container, and resources beside GPUs."""
        template = component.get("podTemplate") or {}
        yield from ((f"podTemplate.{key}", _shown(value)) for key, value in template.items() if key != "spec")
        for key, value in _pod(component).items():
            if key == "mainContainer":
                continue
            items = [one for one in value if one] if isinstance(value, list) else []
            if key == "containers":
                items = [one for one in items if dict(one) != container]
            elif key == "volumes":  # what is in ConfigMaps here is read
                items = [
                    one for one in items if str((one.get("configMap") or {}).get("name")) not in self.maps
                ]
            named = [one.get("name") or one.get("key") for one in items if isinstance(one, Mapping)]
            if items or not isinstance(value, list):
                yield f"pod.{key}", [str(name) for name in named if name] or _shown(value)
        for part in (component.get("resources") or {}, container.get("resources") or {}):
            for kind, amounts in part.items():
                for name, value in (amounts or {}).items():
                    if name not in GPU_NAMES:
                        yield f"resources.{kind}.{name}", _shown(value)


def _pod(component: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is said of a component's pods."""
    return component.get("extraPodSpec") or (component.get("podTemplate") or {}).get("spec") or {}


def _container(component: Mapping[str, Any]) -> Mapping[str, Any]:
    pod = component.get("extraPodSpec") or {}
    if isinstance(pod.get("mainContainer"), Mapping):
        return dict(pod["mainContainer"])
    template = ((component.get("podTemplate") or {}).get("spec") or {}).get("containers") or []
    template = [one for one in template if one]
    named = [one for one in template if one.get("name") == "main"] or template
    return dict(named[0]) if named else {}


def _gpus(component: Mapping[str, Any], container: Mapping[str, Any]) -> int | None:
    """Return the GPUs of one pod."""
    resources = [component.get("resources") or {}, container.get("resources") or {}]
    parts = [part.get(kind) or {} for part in resources for kind in ("limits", "requests")]
    found = (part.get(name) for part in parts for name in GPU_NAMES)
    return next((int(count) for count in found if count is not None and str(count).isdecimal()), None)


def _from_elsewhere(setting: Setting) -> bool:
    """Whether an environment's value is of a pod's fields, a Secret or a ConfigMap."""
    return isinstance(setting.value, str) and setting.value.startswith("$")


def _unwrapped(words: list[str], where: str, values: Mapping[str, str]) -> shell.Command:
    """Return the command that a container runs; of `sh -c` the one that starts a worker.

    values: of variables, which Kubernetes puts in for $(NAME), and the shell for $NAME.
    """
    words = [re.sub(r"\$\((\w+)\)", lambda name: values.get(name[1], name[0]), word) for word in words]
    file, _, line = where.rpartition(":")
    number = int(line) if line.isdecimal() else 0
    scripts = [] if program_of(words) else [word for word in words if " " in word or "\n" in word]
    for script in scripts:
        inner = [c for c in shell.read(script, file or where, values).commands if program_of(c.words)]
        if inner:
            return shell.Command(inner[0].words, inner[0].env, number, file or where)
    return shell.Command(tuple(words), {}, number, file or where)


def _role(name: str, component: Mapping[str, Any], one: Started) -> str:
    """Return a component's pool: of its command, else of its type, else of its name; empty for none."""
    said = one.value("disaggregation-mode", "server-role") or component.get("subComponentType")
    kind = component.get("componentType") or component.get("type")
    if said is None and kind in ("prefill", "decode"):
        said = kind
    if said is not None:
        return ROLES.get(str(said).lower(), "")
    lower = name.lower()
    return next(
        (role for role, words in ROLE_WORDS.items() if any(word in lower for word in words)), "aggregated"
    )
