"""Command lines of workers, in scripts: which engine, which role, how many of which size."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from wideep.engines import ENGINES
from wideep.engines.importing import Dialect, Gone, Row, Setting, State, Worker, resolve, words_to_settings
from wideep.hosts.control_plane import OWN_FRONTEND_FLAGS
from wideep.importing import shell, unset
from wideep.importing.containers import container_of
from wideep.importing.source import Group, Lines, Recipe, read_text, refuse, tree_settings
from wideep.reference.release import find_release

YAML = {".yml", ".yaml"}
ASSIGNED = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
# Flags of the frontend that are variables of the deployment.
FRONTEND_VARIABLES = {
    flag: OWN_FRONTEND_FLAGS[flag]
    for flag in ("http-port", "namespace", "router-mode", "migration-limit", "request-plane", "event-plane")
}
FRONTENDS = ("dynamo.frontend", "dynamo.http")
ROLES = {
    "prefill": "prefill",
    "context": "prefill",
    "decode": "decode",
    "generation": "decode",
    "agg": "aggregated",
    "aggregated": "aggregated",
    "null": "aggregated",
    "prefill_and_decode": "aggregated",
}
ROLE_FLAGS = ("disaggregation-mode", "server-role", "disaggregation-role")
ROLE_WORDS = {"prefill": ("prefill", "context", "ctx"), "decode": ("decode", "generation", "gen")}
# What of a command differs between the ranks and replicas of one pool.
OF_A_RANK = frozenset(
    {
        "node-rank",
        "host",
        "port",
        "nccl-port",
        "dist-init-addr",
        "base-gpu-id",
        "disaggregation-bootstrap-port",
        "endpoint",
    }
)


@dataclass(frozen=True)
class Started:
    """One start of a worker in a script."""

    engine: str
    program: str
    role: str
    flags: tuple[Setting, ...]
    fields: tuple[Setting, ...]
    env: tuple[Setting, ...]
    launcher: tuple[str, ...]
    where: str
    own: frozenset[str] = frozenset()

    def value(self, *names: str) -> Any:
        """Return a flag's value; None where it is not given."""
        plain = {setting.name.lstrip("-").replace("_", "-"): setting.value for setting in self.flags}
        return next((plain[name] for name in names if name in plain), None)

    @property
    def said_role(self) -> str:
        """Return the pool that its flags name; empty where they name none."""
        return ROLES.get(str(self.value(*ROLE_FLAGS)).lower(), "") if self.value(*ROLE_FLAGS) else ""

    def number(self, *names: str, default: int = 0) -> int:
        """Return a flag's whole number."""
        value = self.value(*names)
        return int(value) if isinstance(value, str) and value.isdecimal() else default


def read_commands(sources: Sequence[tuple[str, Path]], given: Mapping[str, str]) -> Recipe | None:
    """Return what scripts start; None where they start no worker.

    sources: role (empty: the command says it) and file. given: values of variables.
    """
    started: list[Started] = []
    trees: dict[str, list[Setting]] = {}
    recipe = Recipe("", "", [])
    for role, path in sources:
        if role and path.suffix in YAML:
            trees[role] = _engine_file(Setting("--role", path.name, str(path)), shell.Script(), path)
            continue
        script = shell.read(read_text(path), str(path), given)
        found = [one for command in script.commands for one in _started(command, script, path, recipe)]
        started += _of_role(found, role) if role else found
        if found and script.used & {"@", "*"}:
            becomes = "arguments of the script: write them into it, if it has any"
            recipe.rows.append(Row("", "$@", "", "left out", becomes, str(path)))
    if not started and not trees:
        return None
    started = _with_trees(started, trees, sources)
    engines = {one.engine for one in started}
    if len(engines) > 1:
        raise refuse(
            f"workers of several engines: {', '.join(sorted(engines))}",
            str(sources[0][1]),
            "give the commands of one engine",
        )
    for role in _in_order(started):
        recipe.groups.append(_group([one for one in started if one.role == role], recipe.rows))
    first = started[0]
    name = _text(first.value("served-model-name"))
    path_name = _text(first.value("model-path", "model"))
    recipe.name = PurePosixPath(name or path_name or sources[0][1].stem).name
    recipe.engine, recipe.path = first.engine, path_name
    recipe.open_path = open_path(first)
    if (container := container_of(first.launcher)) and path_name.startswith("/"):
        recipe.path, mount = container.on_host(path_name)
        if mount and list(unset.names(recipe.path)):
            recipe.open_path = Setting(mount.option, recipe.path, first.where)
    said = (first.value("served-model-name"), first.value("model-path", "model"))
    recipe.models = [one for one in said if isinstance(one, str)]
    return recipe


def _with_trees(
    started: Sequence[Started], trees: Mapping[str, Sequence[Setting]], sources: Sequence[tuple[str, Path]]
) -> list[Started]:
    """Give every start its role, and the engine's YAML that is given for it; it wins over the command's.

    A role without a command is started by its YAML alone. Raises RefusedError where its engine reads none.
    """
    engine, dialect = next((name, dialect) for name, dialect in dialects().items() if dialect.fields)
    found = _roles(started, sources)
    for role, fields in trees.items():
        mine = [one for one in found if one.role == role]
        file = next(str(path) for named, path in sources if named == role)
        if wrong := next((one for one in mine or found if not dialects()[one.engine].fields), None):
            message = f"it is no command, and workers of {wrong.engine} read no YAML of the engine"
            raise refuse(message, file, f"give the script that starts {role} workers as --role {role}=FILE")
        names = {setting.name for setting in fields}
        if not mine:
            found.append(Started(engine, dialect.commands[0], role, (), tuple(fields), (), (), file))
        for one in mine:
            kept = [setting for setting in one.fields if setting.name not in names]
            found[found.index(one)] = replace(one, fields=(*kept, *fields))
    return found


def open_path(one: Started) -> Setting | None:
    """Return the flag with the model's path where that has no value."""
    last = [setting for setting in one.flags if unset.is_path(setting.name)][-1:]
    return next((setting for setting in last if list(unset.names(setting.value))), None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) and "$" not in value else ""


def _in_order(started: Sequence[Started]) -> list[str]:
    there = {one.role for one in started}
    if "aggregated" in there and len(there) > 1:
        wrong = next(one for one in started if one.role == "aggregated")
        raise refuse(
            "a worker without a role beside prefill or decode workers",
            wrong.where,
            "give it --disaggregation-mode, or name its file with --role prefill=FILE or --role decode=FILE",
        )
    return [role for role in ("prefill", "decode", "aggregated") if role in there]


def _started(command: shell.Command, script: shell.Script, path: Path, recipe: Recipe) -> list[Started]:
    words, where = command.words, f"{command.file}:{command.line}"
    if helper := _beside(words):
        name, rest, becomes = helper
        recipe.rows.append(Row("", name, list(rest), "left out", becomes, where))
        return []
    found = program_of(words)
    if found is None:
        inner = [word for word in words if " " in word and any(name in word for name in _names())]
        found_inside = []
        for word in inner:
            before = words[: words.index(word)]
            handed = dict(command.env) | (dict(_launcher_env(before)) if container_of(before) else {})
            for nested in shell.read(word, command.file, {**script.given, **handed}).commands:
                one = replace(nested, env={**handed, **nested.env}, line=command.line)
                found_inside += [
                    replace(start, launcher=(*before, *start.launcher))
                    for start in _started(one, script, path, recipe)
                ]
        return found_inside
    if found[0] == "":
        env = [Setting(name, value, where) for name, value in command.env.items()]
        read_frontend(words_to_settings(words[found[2] :], where), env, recipe)
        return []
    return [started_of(command, found, script, path)]


def _of_role(started: Sequence[Started], role: str) -> list[Started]:
    """Return the commands of a file that is given for a role: those that say it, else those that say none."""
    said = [one.said_role for one in started]
    chosen = [one for one, own in zip(started, said, strict=True) if own == role]
    chosen = chosen or [one for one, own in zip(started, said, strict=True) if not own]
    if started and not chosen:
        other = f"its command is of {' and '.join(sorted(set(said)))} workers"
        raise refuse(other, started[0].where, f"leave out --role {role}=… of it, or give another file")
    return [replace(one, role=role) for one in chosen]


def started_of(
    command: shell.Command, found: tuple[str, str, int], script: shell.Script, path: Path
) -> Started:
    """Return a worker's start. found: as `program_of` returns it. path: beside which its files lie."""
    engine, program, at = found
    dialect = dialects()[engine]
    where = f"{command.file}:{command.line}"
    launcher, flags = command.words[:at], words_to_settings(command.words[at:], where)
    fields: list[Setting] = []
    kept: list[Setting] = []
    for setting in flags:
        name = setting.name.replace("_", "-")
        if name in dialect.field_files and isinstance(setting.value, str):
            fields += _engine_file(setting, script, path)
        if name in dialect.flag_files and isinstance(setting.value, str):
            lines = _file(setting, script, path)
            tree = lines.documents[0] if lines.documents and isinstance(lines.documents[0], dict) else {}
            kept += [Setting(f"--{s.name}", s.value, s.where) for s in tree_settings(tree, lines.of)]
        else:
            kept.append(setting)
    env = dict(command.env) | dict(_launcher_env(launcher))
    settings = tuple(Setting(name, value, where) for name, value in env.items())
    return Started(
        engine, program, "", tuple(kept), tuple(fields), settings, launcher, where, frozenset(script.used)
    )


def dialects() -> dict[str, Dialect]:
    """Return engine -> how sources speak of it."""
    return {engine.name: engine.dialect for engine in ENGINES.values() if engine.dialect}


def _names() -> list[str]:
    return [name for dialect in dialects().values() for name in (*dialect.commands, *dialect.beside)]


def _beside(words: Sequence[str]) -> tuple[str, Sequence[str], str] | None:
    """Return a program beside the workers, its arguments, and what does its work here."""
    for at in range(len(words)):
        for dialect in dialects().values():
            for name, becomes in dialect.beside.items():
                own = name.split()
                here = [PurePosixPath(words[at]).name, *words[at + 1 : at + len(own)]]
                if here == own and ("." not in name or [*words[at - 1 : at]] == ["-m"]):
                    return name, words[at + len(own) :], becomes
    return None


def program_of(words: Sequence[str]) -> tuple[str, str, int] | None:
    """Return engine, program and where its arguments begin; an empty engine for Dynamo's frontend."""
    if _beside(words):
        return None
    for at, word in enumerate(words):
        module = words[at + 1] if word == "-m" and at + 1 < len(words) else ""
        if module in FRONTENDS:
            return "", module, at + 2
        for engine, dialect in dialects().items():
            for name in dialect.commands:
                own = name.split()
                if module and (module == name or module.startswith(f"{name}.")):
                    return engine, module, at + 2
                if "." not in name and [PurePosixPath(word).name, *words[at + 1 : at + len(own)]] == own:
                    return engine, own[0], at + len(own)
    return None


def _launcher_env(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return environment that launchers hand on: `env A=b`, `-e A=b`, `-x A=b`, `--env=A=b`."""
    return [
        (name, value)
        for word in words
        for name, _, value in [word.removeprefix("--env=").removeprefix("-e").partition("=")]
        if ASSIGNED.fullmatch(word.removeprefix("--env=").removeprefix("-e")) and not word.startswith("--nv")
    ]


def read_frontend(flags: Sequence[Setting], env: Sequence[Setting], recipe: Recipe) -> list[Setting]:
    """Read what Dynamo's frontend is told; return the environment that is no flag of it."""
    catalogue = find_release().catalogue("dynamo.frontend")
    for setting in flags:
        _frontend_flag(setting, recipe)
    told = {setting.name for setting in flags}
    of_env = {flag.env: flag.flag for flag in catalogue.flags if flag.env}
    others = []
    for setting in env:
        if setting.name not in of_env:
            others.append(setting)
        elif of_env[setting.name] not in told:  # which wins
            _frontend_flag(replace(setting, name=of_env[setting.name]), recipe)
    router = next(flag for flag in catalogue.flags if flag.flag == "--router-mode")
    recipe.defaults[FRONTEND_VARIABLES["router-mode"]] = router.default
    return others


def _frontend_flag(setting: Setting, recipe: Recipe) -> None:
    release, variables = find_release(), recipe.variables
    found = resolve(release.catalogue("dynamo.frontend"), release, setting)

    def row(state: State, becomes: str) -> None:
        recipe.rows.append(Row("", setting.name, setting.value, state, becomes, setting.where))

    if isinstance(found, Gone):
        row(found.state, found.why)
        return
    for one in found:
        flag = one.flag.flag.removeprefix("--")
        # A port that is left open is no reason to ask for it.
        open_port = flag in ("http-port", "namespace") and list(unset.names(one.value))
        if flag in FRONTEND_VARIABLES and not open_port:
            number = flag == "http-port" and str(one.value).isdecimal()
            variables[FRONTEND_VARIABLES[flag]] = int(one.value) if number else one.value
            row("renamed", FRONTEND_VARIABLES[flag])
        elif flag in OWN_FRONTEND_FLAGS or flag == "model-name":
            row("set by wideep", OWN_FRONTEND_FLAGS.get(flag, "wideep_model"))
        else:
            variables.setdefault("wideep_frontend_args", {})[flag] = one.value
            row("renamed" if one.was else "kept", f"wideep_frontend_args.{flag}")


def _written(name: str, script: shell.Script) -> str:
    """Return under which name a script has written a file; empty where it has not."""
    return next((one for one in (name, PurePosixPath(name).name) if one in script.files), "")


def _file(setting: Setting, script: shell.Script, source: Path) -> Lines:
    """Return the YAML that a flag names: written by the script, or beside it."""
    name = str(setting.value)
    written = _written(name, script)
    if written:
        text, line = script.files[written]
        return Lines(text, str(source), line)
    found = shell.beside(source, name)
    if found is None and (open_ := list(unset.names(name))):
        message = f"{unset.sentence(open_[0])}, and stands behind {setting.name}"
        raise refuse(message, setting.where, unset.remedy(open_[0]))
    if found is None:
        raise refuse(
            f"{setting.name} names {name}, which is neither written by the script nor beside it",
            setting.where,
            f"put a copy of it beside {source.name}, as {PurePosixPath(name).name}",
        )
    return Lines(read_text(found), str(found))


def _engine_file(setting: Setting, script: shell.Script, source: Path) -> list[Setting]:
    lines = _file(setting, script, source)
    tree = lines.documents[0] if lines.documents else {}
    if not isinstance(tree, dict):
        raise refuse("the engine's YAML is not a mapping of fields", lines.file, "write `field: value` lines")
    balancer = (
        (tree.get("moe_config") or {}).get("load_balancer")
        if isinstance(tree.get("moe_config"), dict)
        else None
    )
    settings = tree_settings(tree, lines.of)
    if isinstance(balancer, str) and (_written(balancer, script) or shell.beside(source, balancer)):
        inner = _file(replace(setting, value=balancer), script, source)
        below = inner.documents[0] if inner.documents and isinstance(inner.documents[0], dict) else {}
        settings = [s for s in settings if s.name != "moe_config.load_balancer"]
        settings += [
            replace(s, name=f"moe_config.load_balancer.{s.name}") for s in tree_settings(below, inner.of)
        ]
    return settings


# ---- roles and sizes ---------------------------------------------------------------------------------


def _roles(started: Sequence[Started], sources: Sequence[tuple[str, Path]]) -> list[Started]:
    """Give every start its role: of --role, of its flag, or of its file's name where there are several."""
    found = []
    for one in started:
        role = one.role or one.said_role
        open_ = list(unset.names(one.value(*ROLE_FLAGS)))
        if open_ and not role:
            message = f"{unset.sentence(open_[0])}, and says which role the worker has"
            raise refuse(message, one.where, unset.remedy(open_[0], "--role prefill=FILE"))
        if not role and len(sources) > 1:
            stem = one.where.rpartition("/")[2].lower()
            role = next((r for r, words in ROLE_WORDS.items() if any(w in stem for w in words)), "")
        found.append(replace(one, role=role or "aggregated"))
    return found


def _group(started: Sequence[Started], rows: list[Row]) -> Group:
    """Return a role's workers: replicas by the commands of rank 0, which are alike."""
    heads = [one for one in started if not one.number("node-rank")] or [started[0]]
    first = heads[0]
    nodes = first.number("nnodes", default=0) or None
    for other in started:
        if other not in heads:
            _differences(first, other, rows)
    if first.launcher and (plain := _launcher(first.launcher)):
        rows.append(Row(first.role, plain, "", "set by wideep", "how hosts start workers", first.where))
    rows += _of_container(first)
    taken = tuple(gpu for one in heads for gpu in _gpus_taken(one))
    sizes = {len(_gpus_taken(one)) for one in heads}
    worker, *others = (Worker(o.role, o.program, o.flags, o.fields, o.env, o.own) for o in heads)
    return Group(
        worker,
        len(heads),
        nodes=nodes,
        taken=taken if not nodes and len(sizes) == 1 and len(set(taken)) == len(taken) else (),
        others=tuple(others),
    )


def _launcher(words: Sequence[str]) -> str:
    names = {
        "mpirun",
        "srun",
        "numactl",
        "docker",
        "podman",
        "nsys",
        "trtllm-llmapi-launch",
        "ssh",
        "torchrun",
    }
    return " ".join(PurePosixPath(w).name for w in words if PurePosixPath(w).name in names)


def _of_container(first: Started) -> list[Row]:
    """Return what becomes of the container that a worker runs in."""
    container = container_of(first.launcher)
    if container is None:
        return []
    rows = []
    if container.image:
        becomes = "the release's image, or wideep_image"
        rows.append(Row(first.role, "image", container.image, "set by wideep", becomes, first.where))
    _, models = container.on_host(_text(first.value("model-path", "model")) or ".")
    for mount in container.mounts:
        state: State = "set by wideep" if mount == models else "left out"
        becomes = "only the model's directory and wideep's own are mounted"
        if mount == models:
            becomes = "wideep_model_path, as the host has it"
        rows.append(Row(first.role, mount.option, mount.text, state, becomes, first.where))
    return rows


def _gpus_taken(one: Started) -> list[int]:
    visible = next((s.value for s in one.env if s.name == "CUDA_VISIBLE_DEVICES"), "")
    if re.fullmatch(r"\d+(,\d+)*", str(visible)):
        return [int(gpu) for gpu in str(visible).split(",")]
    if one.value("base-gpu-id") is not None:
        size = one.number("tp-size", "tp", "tensor-parallel-size", default=1)
        base = one.number("base-gpu-id")
        return list(range(base, base + size))
    return []


def _differences(first: Started, other: Started, rows: list[Row]) -> None:
    """Say where a rank is told otherwise: those of a replica are all alike."""
    mine, theirs = ({s.name: s for s in (*one.flags, *one.env)} for one in (first, other))
    for name in [*theirs, *(n for n in mine if n not in theirs)]:
        plain = name.lstrip("-").replace("_", "-")
        alike = name in mine and name in theirs and mine[name].value == theirs[name].value
        if plain in OF_A_RANK or name == "CUDA_VISIBLE_DEVICES" or alike:
            continue
        there = mine.get(name)
        value = theirs[name].value if name in theirs else "(not given)"
        becomes = (
            f"all ranks of a replica are alike: {there.value if there else 'not given'}, as at {first.where}"
        )
        rows.append(Row(first.role, name, value, "changed", becomes, other.where))
