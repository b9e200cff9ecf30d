"""Recipes of NVIDIA's srt-slurm, in both of its layouts, with their variants.

Layout 1 has the topology in `resources` and the engine in `backend`; layout 2 (`schema: 2`) has both in
`roles` and `engine`. Facts are from the project's own reference of the two.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wideep.engines.importing import Dialect, Row, Setting, State, Worker
from wideep.importing.commands import dialects, read_frontend
from wideep.importing.shapes import check
from wideep.importing.source import Group, Lines, Recipe, read_text, refuse, tree_settings
from wideep.importing.variants import variants

ROLES = {"prefill": "prefill", "decode": "decode", "aggregated": "agg"}
# What of a recipe is of the benchmark, of Slurm or of its own machinery.
ELSEWHERE = {
    "benchmark": "of the benchmark",
    "slurm": "of Slurm",
    "sbatch_directives": "of Slurm",
    "srun_options": "of Slurm",
    "profiling": "of the benchmark",
    "observability": "of the benchmark",
    "telemetry": "of the benchmark",
    "output": "of the benchmark",
    "health_check": "wideep_start_deadline_s waits for a start",
    "infra": "the inventory group control has NATS and etcd",
    "services": "the inventory group control has NATS and etcd",
    "identity": "what the recipe was measured with",
    "reporting": "of the benchmark",
    "enable_config_dump": "of the benchmark",
    "sweep": "chosen by --variant",
}
NOTHING = "nothing here that it could become"
READ = frozenset(
    {
        "name",
        "model",
        "resources",
        "backend",
        "engine",
        "roles",
        "environment",
        "frontend",
        "dynamo",
        "schema",
    }
)
# Shape of what is read; parts before what is in them.
SHAPES = {
    "": "mapping",
    **dict.fromkeys(("model", "identity", "identity.model", "resources", "backend"), "mapping"),
    **dict.fromkeys(("environment", "frontend", "dynamo", "roles"), "mapping"),
    **dict.fromkeys(("roles.*", "roles.*.args", "roles.*.env", "backend.*_environment"), "mapping"),
    **dict.fromkeys(("frontend.args", "frontend.env"), "mapping"),
    **dict.fromkeys(("roles.*.extra_args", "backend.*_extra_args"), "list"),
    **dict.fromkeys(("name", "model.path", "model.precision", "identity.model.repo", "backend.type"), "text"),
    **dict.fromkeys(("engine.type", "roles.*.engine.type", "resources.gpu_type"), "text"),
    "frontend.num_additional_frontends": "number",
    **dict.fromkeys(("resources.gpus_per_*", "resources.*_workers", "roles.*.workers"), "number"),
}
SIZES = ("gpu_type", "gpus_per_node", "_nodes", "_workers", "gpus_per_")
COLOCATE = "colocate"
DEFAULT_GPUS = 4


def is_recipe(lines: Lines) -> bool:
    """Whether a YAML file is a recipe, or one with variants."""
    one = lines.documents[0] if len(lines.documents) == 1 else None
    if not isinstance(one, Mapping):
        return False
    base = one.get("base", one)
    return (
        isinstance(base, Mapping)
        and "resources" in base
        and ("backend" in base or "roles" in base or "model" in base)
    )


def read_recipe(path: Path, variant: str = "") -> Recipe:
    """Return one variant of a recipe. Raises RefusedError, which names the variants there are."""
    lines = Lines(read_text(path), str(path))
    found = dict(variants(lines.documents[0], lines))
    if not variant and len(found) == 1:
        return recipe_of(next(iter(found.values())), lines)
    matches = [name for name in found if name == variant] or (
        [name for name in found if variant and fnmatch.fnmatchcase(name, variant)]
    )
    if len(matches) != 1:
        said = f"--variant {variant} names {len(matches) or 'none'} of them" if variant else "none is chosen"
        remedy = f"give --variant NAME, one of: {', '.join(matches or found)}"
        raise refuse(f"the recipe has {len(found)} variants, and {said}", str(path), remedy)
    return recipe_of(found[matches[0]], lines, matches[0])


# ---- one recipe --------------------------------------------------------------------------------------


def recipe_of(document: Mapping[str, Any], lines: Lines, variant: str = "") -> Recipe:
    """Return what a variant's document says. lines: of its file. Raises RefusedError."""
    return _Reader(document, lines, variant).read()


class _Reader:
    """Reads one variant."""

    def __init__(self, document: Mapping[str, Any], lines: Lines, variant: str) -> None:
        self.document, self.lines = document, lines
        own = variant.partition("[")[0].partition(":")[0]
        self.prefixes = ((own,), ("base",), ()) if "base" in lines.documents[0] else ((),)
        configs = [f"backend.{name}_config" for name in dialects()]
        parts = [f"{config}.{role}" for config in configs for role in ROLES]
        check(document, SHAPES | dict.fromkeys(configs + parts, "mapping"), self.where)
        self.backend: Mapping[str, Any] = document.get("backend") or {}
        self.resources: Mapping[str, Any] = document.get("resources") or {}
        self.model: Mapping[str, Any] = document.get("model") or {}
        engine, self.knobs = self._engine()
        self.dialect: Dialect = dialects()[engine]
        identity = ((document.get("identity") or {}).get("model") or {}).get("repo")
        path = str(self.model.get("path", "")).removeprefix("hf:")
        self.recipe = Recipe(
            str(document.get("name") or Path(lines.file).stem),
            engine,
            [],
            models=[str(name) for name in (identity, path) if name],
            path=path,
            precision=str(self.model.get("precision", "")).lower(),
            gpu=str(self.resources.get("gpu_type", "")).lower(),
            gpus_per_node=self._count(self.resources.get("gpus_per_node", DEFAULT_GPUS), "resources"),
        )

    def where(self, *path: str) -> str:
        """Return file and line of a key: of the variant, else of the base."""
        places = [(*prefix, *path) for prefix in self.prefixes]
        return self.lines.of(*next((place for place in places if self.lines.has(*place)), places[-1]))

    def row(self, role: str, setting: Setting, state: State, becomes: str) -> None:
        """Say what became of a key."""
        self.recipe.rows.append(Row(role, setting.name, setting.value, state, becomes, setting.where))

    def read(self) -> Recipe:
        """Read all of it."""
        roles = self._roles_two() if "roles" in self.document else self._roles_one()
        if not roles:
            remedy = "give prefill and decode, or aggregated ones"
            raise refuse("no role has workers", self.where("resources"), remedy)
        recipe = self.recipe
        for role, own in roles.items():
            recipe.groups.append(self._group(role, own, beside="prefill" in roles))
        flags = [setting for group in recipe.groups for setting in group.worker.flags]
        served = next((s.value for s in flags if s.name == "--served-model-name"), None)
        name = served or self.knobs.get("served_model_name")
        if isinstance(name, str):
            recipe.models.insert(0, name)
        self._rest()
        self._frontend()
        self._dynamo()
        return recipe

    def _engine(self) -> tuple[str, Mapping[str, Any]]:
        """Return the engine, and what is said of it for all roles."""
        said, known = self.document.get("engine"), dialects()
        if said is None and "roles" in self.document:
            roles = [own for own in self.document["roles"].values() if isinstance(own, Mapping)]
            each = {str(_type(own.get("engine"))) for own in roles}
            said = each.pop() if len(each) == 1 else "several"
        # Without a type it is the one whose configuration is there.
        plain = next((name for name in known if f"{name}_config" in self.backend), "")
        kind = _type(said) if said else self.backend.get("type", plain)
        if kind not in known:
            raise refuse(
                f"the engine is {kind or 'not named'}",
                self.where("backend" if self.backend else "engine"),
                f"there is an import of {' and '.join(known)}, one of them for all roles",
            )
        knobs = said if isinstance(said, Mapping) else self.backend
        return str(kind), {name: value for name, value in knobs.items() if name != "type"}

    def _count(self, value: Any, *path: str) -> int:
        try:
            return int(value)
        except (TypeError, ValueError):
            raise refuse(f"{value!r} is not a number", self.where(*path), "give a whole number") from None

    # ---- roles

    def _roles_two(self) -> dict[str, dict[str, Any]]:
        roles = self.document["roles"]
        return {
            role: {**roles[theirs], "args_at": ("roles", theirs, "args"), "env_at": ("roles", theirs, "env")}
            for role, theirs in ROLES.items()
            if isinstance(roles.get(theirs), Mapping) and roles[theirs].get("workers", 1)
        }

    def _roles_one(self) -> dict[str, dict[str, Any]]:
        """Return layout 1 in the words of layout 2."""
        found: dict[str, dict[str, Any]] = {}
        config_key = f"{self.recipe.engine}_config"
        config = self.backend.get(config_key) or {}
        for role, theirs in ROLES.items():
            nodes, workers = (self.resources.get(f"{theirs}_{what}") for what in ("nodes", "workers"))
            if not workers and not nodes:
                continue
            if role == "decode" and nodes in (0, None) and self.resources.get("prefill_nodes"):
                nodes = COLOCATE
            found[role] = {
                "nodes": nodes,
                "workers": workers,
                "gpus": self.resources.get(f"gpus_per_{theirs}"),
                "args": config.get(role),
                "env": self.backend.get(f"{role}_environment"),
                "kv_events": _kv_events(self.backend.get("kv_events_config"), role),
                "extra_args": self.backend.get(f"{role}_extra_args"),
                "args_at": ("backend", config_key, role),
                "env_at": ("backend", f"{role}_environment"),
            }
        return found

    def _group(self, role: str, own: Mapping[str, Any], *, beside: bool) -> Group:
        args_at, args = own["args_at"], own.get("args") or {}
        flags = [
            Setting(word, value, self.where(*args_at)) for word, value in _pairs(own.get("extra_args") or [])
        ]
        fields: list[Setting] = []
        if self.dialect.fields:
            fields = tree_settings(args, lambda *path: self.where(*args_at, *path))
        else:
            flags += [
                Setting(f"--{str(n).replace('_', '-')}", _flag_value(v), self.where(*args_at, str(n)))
                for n, v in args.items()
                if v is not None
            ]
        if own.get("kv_events"):
            self.recipe.variables["wideep_router_mode"] = "kv"
            setting = Setting("kv_events", own["kv_events"], self.where(*args_at[:-1]))
            self.row(role, setting, "set by wideep", "wideep_router_mode: kv")
        env = {**(self.document.get("environment") or {}), **(own.get("env") or {})}
        settings = tuple(Setting(str(k), v, self.where(*own["env_at"], str(k))) for k, v in env.items())
        worker = Worker(role, self.dialect.commands[0], tuple(flags), tuple(fields), settings)
        replicas = self._count(own.get("workers") or 1, "resources")
        colocated, gpus = own.get("nodes") in (COLOCATE, 0), own.get("gpus")
        if gpus is None and not colocated:
            nodes = self._count(own.get("nodes") or 1, "resources")
            gpus = nodes * (self.recipe.gpus_per_node or DEFAULT_GPUS) // replicas
        size = self._count(gpus, "resources") if gpus else None
        return Group(worker, replicas, gpus=size, beside=colocated and beside)

    # ---- what is no worker's

    def _rest(self) -> None:
        """Say of all other keys why they are not there."""
        for name, value in self.document.items():
            if name not in READ:
                becomes = ELSEWHERE.get(name, NOTHING)
                self.row("", Setting(name, _shown(value), self.where(name)), "left out", becomes)
        engine = "backend" if self.backend else "engine"
        roles = {f"{role}_{kind}" for role in ROLES for kind in ("environment", "extra_args")}
        ours = {f"{self.recipe.engine}_config", "kv_events_config", "served_model_name", *roles}
        for name, value in self.knobs.items():
            if name not in ours:
                setting = Setting(f"{engine}.{name}", _shown(value), self.where(engine, name))
                self.row("", setting, "left out", NOTHING)
        for name, value in self.resources.items():
            if not any(word in name for word in SIZES):
                setting = Setting(f"resources.{name}", value, self.where("resources", name))
                self.row("", setting, "left out", "of Slurm")
        for name in ("container", "precision"):
            if name in self.model:
                setting = Setting(f"model.{name}", self.model[name], self.where("model", name))
                becomes = "the release's image, or wideep_image" if name == "container" else "the model card"
                self.row("", setting, "set by wideep", becomes)

    def _frontend(self) -> None:
        frontend = self.document.get("frontend") or {}
        dynamo = frontend.get("type", "dynamo") == "dynamo"
        told: dict[str, list[Setting]] = {"args": [], "env": []}
        for name, value in frontend.items():
            setting = Setting(f"frontend.{name}", _shown(value), self.where("frontend", name))
            if name in told and isinstance(value, Mapping) and dynamo:
                mark = "--" if name == "args" else ""
                told[name] = [
                    Setting(f"{mark}{one}", _flag_value(own), setting.where) for one, own in value.items()
                ]
            elif name in ("type", "args"):
                self.row("", setting, "kept" if dynamo else "changed", "Dynamo's frontend routes")
            else:
                self.row("", setting, "set by wideep", "hosts of the inventory group frontend")
        more = frontend.get("num_additional_frontends")
        if more is not None and frontend.get("enable_multiple_frontends", True):
            self.recipe.frontends = 1 + self._count(more, "frontend", "num_additional_frontends")
        if dynamo:
            for other in read_frontend(told["args"], told["env"], self.recipe):
                self.row("", other, "left out", "of the frontend, which takes flags only")

    def _dynamo(self) -> None:
        for name, value in (self.document.get("dynamo") or {}).items():
            setting = Setting(f"dynamo.{name}", _shown(value), self.where("dynamo", name))
            if name in ("request_plane", "event_plane"):
                self.recipe.variables[f"wideep_{name}"] = value
                self.row("", setting, "kept", f"wideep_{name}")
            else:
                self.row("", setting, "set by wideep", "wideep_release")


def _shown(value: Any) -> Any:
    return "…" if isinstance(value, Mapping | list) else value


def _type(engine: Any) -> Any:
    return engine.get("type") if isinstance(engine, Mapping) else engine


def _kv_events(config: Any, role: str) -> Any:
    if isinstance(config, Mapping):
        return config.get(role)
    return config is True and role != "aggregated"


def _flag_value(value: Any) -> Any:
    """Return a recipe's value as a command line has it: `true` is a switch."""
    if isinstance(value, list):
        return [str(item) for item in value]
    return None if value is True else value


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield flags with their values."""
    position = 0
    while position < len(words):
        word = str(words[position])
        alone = position + 1 == len(words) or str(words[position + 1]).startswith("--")
        yield word, None if alone else str(words[position + 1])
        position += 1 if alone else 2
