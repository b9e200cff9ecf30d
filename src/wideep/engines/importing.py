"""What a source says of one role's workers, and what of it becomes options: shared by all engines.

A source is somebody's command, recipe or manifest. Nothing in it is dropped silently: every setting gets
a row that says what became of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from wideep.deployment import network, tls
from wideep.deployment.site import WORKER_ENV
from wideep.inventory.secrets import looks_secret
from wideep.reference.catalogue import Catalogue, Flag, Renamed
from wideep.reference.release import Release

State = Literal[
    "kept", "renamed", "default", "set by wideep", "changed", "added", "left out", "not understood"
]
# What an old name became, where it is nothing but flags: `--a`, `--a value`, several with "and".
_REPLACED = re.compile(r"(--[\w-]+)(?:[ =](\S+))?")
_BRACES = re.compile(r"\{([^{}]*)\}")
# What the program that hands requests to workers becomes.
ROUTES = "Dynamo's frontend routes, on the hosts of the group frontend: wideep_router_mode"
# Places of the machine that the source ran on.
PLACES = frozenset({"PATH", "HOME", "PWD", "VIRTUAL_ENV", "TMPDIR", "SHELL", "USER"})
FLAG = re.compile(r"-{1,2}[A-Za-z][\w.-]*(=.*)?", re.DOTALL)
# A word that is nothing but a variable without a value: it may be flags, or nothing.
_OPEN = re.compile(r"\$(\w+|\{\w+\})")
ENV_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Setting:
    """One thing that a source says. value: None for a flag without one. where: file and line."""

    name: str
    value: Any
    where: str = ""


@dataclass(frozen=True)
class Row:
    """What became of a setting. role: empty for what is not of one pool."""

    role: str
    name: str
    value: Any
    state: State
    becomes: str = ""
    where: str = ""


@dataclass(frozen=True)
class Worker:
    """The workers of one role, as a source writes them.

    role: a pool's name. program: the module or program of the command. fields: leaves of the engine's YAML,
    by dotted path. own: names of the environment that a script uses itself.
    """

    role: str
    program: str
    flags: tuple[Setting, ...] = ()
    fields: tuple[Setting, ...] = ()
    env: tuple[Setting, ...] = ()
    own: frozenset[str] = frozenset()


@dataclass
class Reading:
    """One role in the words of an inventory.

    said: flags and fields that a launch should have again, by the engine's own names. follows: names of those
    that other rows tell of. usual: what the engine does of itself where nothing is said. variables: of the
    deployment. defaults: of those that the source leaves open. secrets: names for secrets_env. notes: option
    -> a comment for it.
    gpus, nodes: of a replica, as far as the settings say it.
    """

    role: str
    options: dict[str, Any] = field(default_factory=dict)
    extra_args: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    eplb: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)
    follows: set[str] = field(default_factory=set)
    usual: dict[str, Any] = field(default_factory=dict)
    gpus: int | None = None
    nodes: int | None = None

    def row(self, setting: Setting, state: State, becomes: str = "") -> None:
        """Say what became of a setting."""
        self.rows.append(Row(self.role, setting.name, setting.value, state, becomes, setting.where))


@dataclass(frozen=True)
class Dialect:
    """How sources say what an engine is to do.

    commands: modules and programs of its command lines, as words. fields: whether a recipe has fields of the
    engine's YAML, not flags. field_files, flag_files: flags that name a file with fields, or with flags.
    beside: programs beside the workers, as words -> what does their work here.
    """

    commands: tuple[str, ...]
    fields: bool = False
    field_files: frozenset[str] = frozenset()
    flag_files: frozenset[str] = frozenset()
    beside: Mapping[str, str] = field(default_factory=dict)


# ---- names -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A flag of the release that a setting means. was: the old name, where it had one; why it went."""

    flag: Flag
    value: Any
    was: str = ""
    why: str = ""


@dataclass(frozen=True)
class Gone:
    """Why a setting means no flag of the release. state: whether that is known, or a riddle."""

    why: str
    state: State = "not understood"


def resolve(catalogue: Catalogue, release: Release, setting: Setting) -> list[Found] | Gone:
    """Return the flags of the release that a setting means, else why there is none.

    An abbreviation is taken as argparse takes it; what is gone goes by the release's own list of names.
    """
    name, text = setting.name, _word(setting.value)
    flag = catalogue.find(name) or catalogue.find(name.replace("_", "-"))
    name = name if flag else name.replace("_", "-")
    gone = release.renamed(catalogue.program, f"{name} {text}")
    if gone and (flag is None or flag.refuses(text)):
        return _instead(catalogue, setting, gone.new or "", name, gone)
    if flag is None or flag.deprecated:
        gone = release.renamed(catalogue.program, name)
        if gone:
            return _instead(catalogue, setting, gone.new or "", name, gone)
    if flag is None:
        return _abbreviated(catalogue, setting, name)
    if flag.deprecated and flag.replacement:
        return _instead(catalogue, setting, flag.replacement, name, None)
    if setting.value is None and flag.takes_value and name != flag.negative and flag.nargs not in ("*", "?"):
        return Gone(f"it has no value, and {catalogue.program} would end there", "not understood")
    return [Found(flag, False if name == flag.negative else _typed(flag, setting.value))]


def _instead(
    catalogue: Catalogue, setting: Setting, new: str, name: str, gone: Renamed | None
) -> list[Found] | Gone:
    """Return the flags that a release names instead of one."""
    several = isinstance(setting.value, list) and len(setting.value) > 1
    why = gone.why if gone else "deprecated"
    found = _filled(catalogue, setting, _replacements(new, several=several, catalogue=catalogue))
    if several and any(one.flag.many for one in found):
        why = "the name for a list"  # what is said of the old name is of one number
    if found:
        return [replace(one, was=name, why=why) for one in found]
    remedy = (gone.remedy if gone else f"use {new}") if new else ""
    return Gone("; ".join(filter(None, (f"gone: {why}" if gone else why, remedy))), "left out")


def _abbreviated(catalogue: Catalogue, setting: Setting, name: str) -> list[Found] | Gone:
    longer = [f for f in catalogue.flags if any(full.startswith(name) for full in f.names)]
    # Of several the size, as older releases had it alone: --dp.
    sized = [f for f in longer if f.flag == f"{name}-size"] or longer
    if len(sized) == 1 and len(name) > 3:
        return [Found(sized[0], _typed(sized[0], setting.value), name, "an abbreviation")]
    return Gone(f"{catalogue.program} {catalogue.version} has no such flag")


def _replacements(text: str, *, several: bool, catalogue: Catalogue) -> list[tuple[str, str | None]]:
    """Return (flag, value) of each flag that a sentence names, and nothing where it is more than flags."""
    plain, _, aside = text.partition(" (")
    if several and (other := _REPLACED.search(aside)) and (flag := catalogue.find(other[1])) and flag.many:
        return [(other[1], None)]
    parts = plain.split(" and ")
    pieces = [_BRACES.findall(part) for part in parts]
    expanded = []
    for part, choices in zip(parts, pieces, strict=True):
        for chosen in product(*(c.split(",") for c in choices)):
            one = part
            for choice in chosen:
                one = _BRACES.sub(choice, one, count=1)
            expanded.append(one)
    matches = [_REPLACED.fullmatch(part.strip()) for part in expanded]
    return [(m[1], m[2]) for m in matches if m] if all(matches) else []


def _filled(catalogue: Catalogue, setting: Setting, new: Sequence[tuple[str, str | None]]) -> list[Found]:
    """Return flags with the setting's value, or their own; none where a value is missing."""
    found = []
    for name, value in new:
        flag = catalogue.find(name)
        given = setting.value if value is None else value
        switch = given is None or isinstance(given, bool)
        if flag is None or setting.value is False or (flag.takes_value and flag.type != "bool" and switch):
            return []
        found.append(Found(flag, _typed(flag, given)))
    return found


def words_to_settings(words: Sequence[str], where: str = "") -> list[Setting]:
    """Return flags with their values. A word that is nobody's value is a setting without a name's dashes."""
    found: list[Setting] = []
    position = 0
    while position < len(words):
        word, values = words[position], list[str]()
        position += 1
        if not FLAG.fullmatch(word):
            if found and _OPEN.fullmatch(word):
                found.append(Setting(word, None, where))
            elif word != "serve":
                found.append(Setting("--model", word, where))
            continue
        name, joined, rest = word.partition("=")
        while position < len(words) and not FLAG.fullmatch(words[position]):
            if (values or joined) and _OPEN.fullmatch(words[position]):
                break
            values.append(words[position])
            position += 1
        if joined:
            values = [rest, *values]
        if name.startswith("-") and not name.startswith("--"):
            name = f"-{name}"
        found.append(Setting(name, values if len(values) > 1 else values[0] if values else None, where))
    return found


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _typed(flag: Flag, value: Any) -> Any:
    """Return a value as the flag's type; as written where it is not of it (the plan says so then)."""
    if not flag.takes_value:
        return True if value is None else value
    if flag.many:
        items = (
            value if isinstance(value, list) else str(value).split() if isinstance(value, str) else [value]
        )
        return [_scalar(flag.type.removeprefix("list[").removesuffix("]"), item) for item in items]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return _scalar(flag.type, value)


def _scalar(kind: str, value: Any) -> Any:
    if not isinstance(value, str):
        # A recipe's 0.8 stays, its {"a": 1} is JSON.
        return json.dumps(value) if isinstance(value, Mapping) and kind != "json" else value
    try:
        if kind == "int":
            return int(value)
        if kind == "float":
            number = float(value)
            return int(number) if number.is_integer() and "." not in value and "e" not in value else number
    except ValueError:
        return value
    if kind == "bool" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def same(left: Any, right: Any) -> bool:
    """Whether two values are one word of a command line."""
    if isinstance(left, list | tuple) or isinstance(right, list | tuple):
        both = [list(x) if isinstance(x, list | tuple) else [x] for x in (left, right)]
        return len(both[0]) == len(both[1]) and all(map(same, *both))
    if isinstance(left, bool) or isinstance(right, bool):
        return str(left).lower() == str(right).lower()
    try:
        return float(left) == float(right)
    except (TypeError, ValueError):
        return str(left) == str(right)


def leaves(tree: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of what is no mapping with something in it."""
    for key, value in tree.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def plant(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set a value at a dotted path."""
    *above, last = path.split(".")
    for key in above:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = tree[key] = {}
        tree = inner
    tree[last] = value


# ---- environment -------------------------------------------------------------------------------------


def read_env(
    reading: Reading, worker: Worker, release: Release, *, own: Mapping[str, str], options: Mapping[str, str]
) -> None:
    """Read the environment. own: what the engine's launch sets -> why. options: variable -> its option."""
    planned = WORKER_ENV | tls.variables(release)
    for setting in worker.env:
        name, value = setting.name, str(setting.value)
        gone = release.renamed("environment", name)
        if name in planned or name in own:
            reading.row(setting, "set by wideep", planned.get(name) or own[name])
        elif name in worker.own and not release.reads(name):
            reading.row(setting, "left out", "a variable of the script itself")
        elif name in PLACES:
            reading.row(setting, "left out", "a place on the machine that the source ran on")
        elif name in options and value == "0":
            reading.row(setting, "left out", f"{options[name]} is at least 1")
        elif name in options:
            reading.options[options[name]] = int(value) if value.isdecimal() else value
            reading.row(setting, "renamed", options[name])
        elif name in network.SOURCES:
            _network(reading, setting)
        elif looks_secret(name):
            reading.secrets.append(name)
            reading.row(
                Setting(name, "(not shown)", setting.where),
                "renamed",
                f"secrets_env.{name}, without its value",
            )
        elif gone and gone.new and ENV_NAME.fullmatch(gone.new):
            reading.env[gone.new] = value
            reading.row(setting, "renamed", f"env {gone.new}: {gone.why}")
        elif gone:
            reading.row(setting, "left out", f"{gone.why}; {gone.remedy}")
        elif "$" in value or "`" in value:
            reading.row(setting, "not understood", "it is made of what has no value here: --var NAME=VALUE")
        else:
            reading.env[name] = value
            reading.row(setting, "kept")


def _network(reading: Reading, setting: Setting) -> None:
    """Read a library's own variable into the one description of the network that all are made of."""
    variable, value = network.SOURCES[setting.name][0], str(setting.value)
    if "$" in value or "^" in value:
        reading.row(setting, "set by wideep", variable)
        return
    words = [word.removeprefix("=").partition(":")[0] for word in value.split(",") if word]
    own = reading.variables.setdefault("wideep_network", {})
    if variable == "wideep_interface" and len(words) == 1:
        reading.variables[variable] = words[0]
    elif variable.endswith("rdma_devices") and words and all(re.fullmatch(r"[a-z]\w+", w) for w in words):
        own.setdefault("rdma_devices", words)
    elif variable.endswith("gid_index") and value.isdecimal():
        own |= {"gid_index": int(value), "link": "roce"}
    reading.row(setting, "set by wideep", f"{variable}, for every library")


def left_out_as_secret(reading: Reading, setting: Setting) -> bool:
    """Whether a flag is left out since everybody on the host would read its value."""
    if not looks_secret(setting.name):
        return False
    shown = Setting(setting.name, "(not shown)", setting.where)
    reading.row(shown, "left out", "a secret in a command is read by every user of the host; see secrets_env")
    return True
