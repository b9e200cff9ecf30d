"""Check command lines and engine YAML against the catalogues of a release.

A catalogue (`configs/releases/<release>/catalogues/<program>.json`) lists every flag or field that a program
accepts, made from the program itself (tools/release). Nothing here starts or imports an engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from wideep.problems import Problem

NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
FLAG_NAME = re.compile(r"--[a-z0-9-]+(\{[a-z0-9,-]+\})?[a-z0-9-]*")
WORDS = {"int": "a whole number", "float": "a number", "json": "JSON", "bool": "true or false"}


# ---- what no longer exists -----------------------------------------------------------------------


@dataclass(frozen=True)
class Renamed:
    """A flag, field or variable of old tutorials: what replaces it (if anything does) and why.

    old: a flag's value stands behind its flag (`--flag value`).

    set: the variable of ours that decides it now, where there is one.
    """

    old: str
    new: str | None
    why: str
    set: str | None = None

    @property
    def remedy(self) -> str:
        """Return what to do instead."""
        use = f"use {self.new}" if self.new else "remove it"
        return f"{use} (here: {self.set})" if self.set else use

    def problem(self, where: str) -> Problem:
        """Return it as an error at `where`."""
        return Problem(f"{self.old} is gone: {self.why}", where, self.remedy)


@lru_cache(maxsize=8)
def _renamed(directory: Path) -> dict[str, tuple[Renamed, ...]]:
    table = yaml.safe_load((directory / "renamed.yml").read_text(encoding="utf-8"))
    return {program: tuple(Renamed(**row) for row in rows) for program, rows in table.items()}


def renamed(directory: Path, program: str, name: str) -> Renamed | None:
    """Return what became of `name`; an entry `x.*` stands for x and everything below it.

    directory: where a `renamed.yml` is.
    """
    for row in _renamed(directory).get(program, ()):
        stem = row.old.removesuffix(".*")
        if row.old == name or (stem != row.old and (name == stem or name.startswith(f"{stem}."))):
            return row
    return None


# ---- values --------------------------------------------------------------------------------------


def _near(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is meant: same without dashes, a start of it, or spelled alike."""
    plain = {re.sub(r"[-_.]", "", name).lower(): name for name in sorted(known, reverse=True)}
    bare = re.sub(r"[-_.]", "", word).lower()
    if bare in plain:
        return plain[bare]
    longer = sorted((key for key in plain if bare and key.startswith(bare)), key=len)
    close = longer or get_close_matches(bare, plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def _parse(kind: str, text: str) -> Any:
    """Convert as the program would. Raises ValueError when it would refuse the text."""
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "json":
        return json.loads(text)
    if kind == "bool" and text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(text)
    return text


@dataclass(frozen=True)
class Flag:
    """One flag of a program, as its parser declares it (docs/reference/releases.md)."""

    flag: str
    type: str
    takes_value: bool
    default: Any = None
    parser: str = ""
    aliases: tuple[str, ...] = ()
    negative: str | None = None
    env: str | None = None
    choices: tuple[Any, ...] | None = None
    nargs: str | int | None = None
    repeatable: bool = False
    nullable: bool = False
    minimum: float | None = None
    format: str | None = None
    required: bool = False
    dynamic: bool = False
    deprecated: bool = False
    replacement: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling that the program accepts."""
        return (self.flag, *self.aliases, *((self.negative,) if self.negative else ()))

    @property
    def many(self) -> bool:
        """Whether one occurrence takes several values."""
        return self.type.startswith("list[")

    def successors(self, value: Any) -> dict[str, Any] | None:
        """Return the flags (without dashes) that say the same instead of a deprecated one; None if none do.

        A replacement is a flag, a flag with its value (for a switch), or two such in one: --a-{b,c}=x.
        """
        name, equals, fixed = (self.replacement or "").partition("=")
        if not FLAG_NAME.fullmatch(name) or (equals and self.takes_value):
            return None
        if value is None or value is False:
            return {}
        stem, _, rest = name.partition("{")
        inner, _, tail = rest.partition("}")
        names = [f"{stem}{one}{tail}" for one in inner.split(",")] if rest else [name]
        return {one.removeprefix("--"): fixed if equals else value for one in names}

    def refuses(self, text: str) -> str | None:
        """Return why the program would refuse this value."""
        if self.nullable and text in ("", "None"):
            return None
        kind = self.type.removeprefix("list[").removesuffix("]")
        try:
            value = _parse(kind, text)
        except ValueError:
            return f"'{text}' is not {WORDS[kind]}"
        if self.choices is not None and text not in {str(choice) for choice in self.choices}:
            return f"'{text}' is not one of {', '.join(str(choice) for choice in self.choices)}"
        if self.minimum is not None and value < self.minimum:
            return f"{text} is less than {self.minimum}"
        return None


# ---- command lines -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Catalogue:
    """All flags of one program and version.

    engine: the engine versions whose flags are included. dotted: the prefix of flags that set engine fields
    (`--trtllm.a.b VALUE`), and the flag that excludes them. directory: where its release has the others.
    """

    program: str
    version: str
    source: str
    flags: tuple[Flag, ...]
    directory: Path
    engine: Mapping[str, str] = field(default_factory=dict)
    dotted: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _by_name(self) -> dict[str, Flag]:
        return {name: flag for flag in self.flags for name in flag.names}

    def find(self, name: str) -> Flag | None:
        """Return the flag with exactly this name or alias; dashes at its start may be left out."""
        return self._by_name.get(f"--{name}" if not name.startswith("-") else name)

    def check_argv(self, argv: Sequence[str], where: str) -> list[Problem]:
        """Return everything that is wrong with the arguments after the program's name."""
        return _ArgvCheck(self, where).run(argv)

    def strangers(self, argv: Sequence[str]) -> list[str]:
        """Return the flags among the arguments that the program does not have, or has under another name."""
        prefix = self.dotted.get("prefix")
        names = [w.partition("=")[0] for w in argv if _is_flag(w) and not (prefix and w.startswith(prefix))]
        return [name for name in names if self.find(name) is None]

    def refused(self, flag: Flag, value: str, where: str) -> list[Problem]:
        """Return why the program would refuse a flag's value, with what replaces it where it had it once."""
        reason = flag.refuses(value)
        if not reason:
            return []
        gone = renamed(self.directory, self.program, f"{flag.flag} {value}")
        return [gone.problem(where) if gone else Problem(f"{flag.flag}: {reason}", where, _wanted(flag))]

    def check_options(self, options: Mapping[str, Any], where: str) -> list[Problem]:
        """Return everything that is wrong with options: `{"page-size": 64, "enable-x": True}`."""
        problems: list[Problem] = []
        seen: dict[str, str] = {}
        for key, value in options.items():
            place, name = f"{where}.{key}", _option_name(key)
            flag = self.find(name)
            if flag is None:
                problems.append(self.unusable(name, place))
                continue
            if flag.deprecated:
                problems.append(self.deprecated(flag, name, place))
            if flag.flag in seen:
                problems.append(
                    Problem(f"{name} is the same flag as {seen[flag.flag]}", place, "keep one of them")
                )
            seen[flag.flag] = name
            problems += self._check_option(flag, value, place)
        return problems

    def _check_option(self, flag: Flag, value: Any, where: str) -> list[Problem]:
        if value is None:
            return []
        if not flag.takes_value:
            fine = isinstance(value, bool)
            return (
                []
                if fine
                else [Problem(f"{flag.flag} takes no value, got {value!r}", where, "write true or false")]
            )
        if isinstance(value, bool) and flag.type != "bool":
            return [Problem(f"{flag.flag} needs a value, got {value!r}", where, _wanted(flag))]
        several = isinstance(value, (list, tuple))
        if several and flag.type != "json" and not (flag.many or flag.repeatable):
            return [Problem(f"{flag.flag} takes one value, got {len(value)}", where, _wanted(flag))]
        items = list(value) if several and flag.type != "json" else [value]
        if not items and flag.nargs != "*":
            return [Problem(f"{flag.flag}: no value is given", where, _wanted(flag))]
        return [problem for item in items for problem in self.refused(flag, _text(item), where)]

    def to_argv(self, options: Mapping[str, Any]) -> list[str]:
        """Return the arguments for options in mapping form, in the mapping's order.

        True gives a switch, False its negative form where it has one (else nothing), None nothing.
        """
        argv: list[str] = []
        for key, value in options.items():
            name = _option_name(key)
            flag = self.find(name)
            if value is None:
                continue
            if isinstance(value, bool) and not (flag and flag.takes_value):
                negative = flag.negative if flag else None
                argv += [name] if value else [negative] if negative else []
                continue
            several = isinstance(value, (list, tuple)) and not (flag and flag.type == "json")
            texts = [_text(item) for item in value] if several else [_text(value)]
            if flag and flag.many:
                argv += [name, *texts]
            else:
                # A value that looks like a flag has to be written in one word with it.
                argv += [w for t in texts for w in ((f"{name}={t}",) if _is_flag(t) else (name, t))]
        return argv

    def deprecated(self, flag: Flag, name: str, where: str) -> Problem:
        """Warn of a flag that the program still takes, and say which is to be used."""
        gone = renamed(self.directory, self.program, flag.flag)
        why = f": {gone.why}" if gone else ""
        message = f"{name} is deprecated in {self.program} {self.version}{why}"
        return Problem(message, where, gone.remedy if gone else _instead(flag), "warning")

    def unusable(self, name: str, where: str) -> Problem:
        """Say why a name is not a flag to use, and which is."""
        gone = renamed(self.directory, self.program, name)
        if gone:
            return gone.problem(where)
        near = _near(name, self._by_name)
        meant = self.find(near) if near else None
        if meant and meant.deprecated:
            message = f"{name} is not a flag of {self.program} {self.version}"
            return Problem(message, where, f"did you mean {near}? It is deprecated: {_instead(meant)}")
        if near and near.startswith(name):
            return Problem(f"{name} is an abbreviation, which any new flag may break", where, f"write {near}")
        remedy = f"did you mean {near}?" if near else "remove it"
        return Problem(f"{name} is not a flag of {self.program} {self.version}", where, remedy)


def _instead(flag: Flag) -> str:
    """Return what to do instead of using a deprecated flag."""
    return f"use {flag.replacement}" if flag.replacement else "remove it"


def _option_name(key: str) -> str:
    return key if key.startswith("-") else "--" + key.replace("_", "-")


def _text(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _is_flag(word: str) -> bool:
    """Tell a flag from a value as argparse does: negative numbers and text with spaces are values."""
    return len(word) > 1 and word.startswith("-") and " " not in word and not NUMBER.fullmatch(word)


def _wanted(flag: Flag) -> str:
    if flag.choices is not None:
        return f"use one of: {', '.join(str(choice) for choice in flag.choices)}"
    kind = flag.type.removeprefix("list[").removesuffix("]")
    text = f"give {WORDS.get(kind, 'a value')}"
    return f"{text} of at least {flag.minimum}" if flag.minimum is not None else text


class _ArgvCheck:
    """One pass over one command line."""

    def __init__(self, catalogue: Catalogue, where: str) -> None:
        self.catalogue = catalogue
        self.where = where
        self.problems: list[Problem] = []
        self.seen: dict[str, str] = {}
        self.fields: dict[str, Any] = {}

    def run(self, argv: Sequence[str]) -> list[Problem]:
        """Walk over the words as argparse does."""
        position = 0
        while position < len(argv):
            word, values = argv[position], []
            position += 1
            while position < len(argv) and not _is_flag(argv[position]):
                values.append(argv[position])
                position += 1
            if _is_flag(word):
                self._flag(word, values)
            else:
                self._add(f"'{word}' stands alone, without a flag", "remove it, or write its flag before it")
        self._dotted_fields()
        return self.problems

    def _add(self, message: str, remedy: str) -> None:
        self.problems.append(Problem(message, self.where, remedy))

    def _flag(self, word: str, values: list[str]) -> None:
        prefix = self.catalogue.dotted.get("prefix")
        if prefix and word.startswith(prefix):
            self._dotted(word, prefix, values)
            return
        name, joined, rest = word.partition("=")
        flag = self.catalogue.find(name)
        if flag is None:
            self.problems.append(self.catalogue.unusable(name, self.where))
            return
        if flag.deprecated:
            self.problems.append(self.catalogue.deprecated(flag, name, self.where))
        if flag.flag in self.seen and not flag.repeatable:
            self._add(f"{name} is given twice (as {self.seen[flag.flag]} before)", "keep one of them")
        self.seen[flag.flag] = name
        if joined:
            values = [rest, *values]
        if not flag.takes_value:
            if values:
                self._add(f"{name} takes no value, got '{values[0]}'", f"write {name} alone")
            return
        if not values:
            if flag.nargs not in ("*", "?"):
                self._add(f"{name} needs a value", _wanted(flag))
            return
        if not flag.many and len(values) > 1:
            self._add(f"'{values[1]}' stands alone after {name} {values[0]}", "remove it, or quote the value")
            values = values[:1]
        for value in values:
            self.problems += self.catalogue.refused(flag, value, self.where)

    def _dotted(self, word: str, prefix: str, values: list[str]) -> None:
        path = word.removeprefix(prefix)
        if len(values) != 1 or "=" in path:
            name = word.partition("=")[0]
            self._add(f"{name} needs exactly one value, as a word of its own", f"write {name} VALUE")
            return
        self.seen.setdefault(prefix, word)
        self.fields[path] = yaml.safe_load(values[0])

    def _dotted_fields(self) -> None:
        excluded = self.catalogue.dotted.get("excludes", "")
        if self.fields and excluded in self.seen:
            self._add(
                f"{excluded} and {self.catalogue.dotted['prefix']}* exclude each other",
                f"put all of it into {excluded}",
            )
        if self.fields:
            for program in self.catalogue.engine:
                known = load_yaml(self.catalogue.directory, program)
                for path, value in self.fields.items():
                    self.problems += known.check_field(path, value, self.where)


# ---- engine YAML ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """One field of an engine's YAML.

    seen: the versions or commits where it was read, if not for this version; unverified_choices: the same for
    values.
    """

    path: str
    type: str
    default: Any = None
    choices: tuple[Any, ...] | None = None
    unverified_choices: tuple[Any, ...] = ()
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    seen: tuple[str, ...] = ()
    deprecated: bool = False

    def refuses(self, value: Any) -> str | None:
        """Return why the engine would refuse this value."""
        if value is None:
            return None if self.nullable else "it must not be null"
        if value in self.unverified_choices:
            return None
        if self.type.startswith("list["):
            if not isinstance(value, list):
                return f"{value!r} is not a list"
            return next(filter(None, (self._refuses_one(item, self.type[5:-1]) for item in value)), None)
        return self._refuses_one(value, self.type)

    def _refuses_one(self, value: Any, kinds: str) -> str | None:
        if not any(_is_kind(value, kind) for kind in kinds.split("|")):
            return f"{value!r} is not of type {kinds.replace('|', ' or ')}"
        if self.choices is not None and value not in self.choices:
            return f"{value!r} is not one of {', '.join(str(choice) for choice in self.choices)}"
        if self.minimum is not None and value < self.minimum:
            return f"{value} is less than {self.minimum:g}"
        if self.maximum is not None and value > self.maximum:
            return f"{value} is more than {self.maximum:g}"
        return None


def _is_kind(value: Any, kind: str) -> bool:
    if kind in ("object", "map"):
        return isinstance(value, Mapping)
    if isinstance(value, bool):
        return kind == "bool"
    wanted: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "str": str}
    return isinstance(value, wanted.get(kind, ()))


@dataclass(frozen=True)
class YamlCatalogue:
    """The field tree of an engine's YAML, as dotted paths. `evidence` says where it is from."""

    program: str
    version: str
    source: str
    fields: Mapping[str, Field]
    directory: Path
    evidence: tuple[str, ...] = ()

    def check(self, tree: Any, where: str, *, under: str = "") -> list[Problem]:
        """Return everything that is wrong with a parsed YAML file.

        under: the path of a section, when the file holds only that section (`moe_config.load_balancer`).
        """
        if not isinstance(tree, Mapping):
            return [Problem("the file is not a mapping of fields", where, "write `field: value` lines")]
        prefix = f"{under}." if under else ""
        return [p for key, value in tree.items() for p in self.check_field(f"{prefix}{key}", value, where)]

    def check_field(self, path: str, value: Any, where: str) -> list[Problem]:
        """Return everything that is wrong with the field at a dotted path, and with the fields in it."""
        place = f"{where}: {path}"
        gone = renamed(self.directory, self.program, path)
        if gone:
            return [gone.problem(place)]
        known = self.fields.get(path)
        if known is None:
            inside_map = any(f.type == "map" and path.startswith(f"{f.path}.") for f in self.fields.values())
            return [] if inside_map else [self._unknown(path, place)]
        reason = known.refuses(value)
        if reason:
            return [Problem(reason, place, _field_wanted(known))]
        problems = [Problem(*said, severity="warning") for said in self._doubts(known, value, place)]
        if isinstance(value, Mapping) and known.type != "map":
            problems += self.check(value, where, under=path)
        return problems

    def _doubts(self, known: Field, value: Any, place: str) -> Iterable[tuple[str, str, str]]:
        if known.seen:
            message = f"known from {', '.join(known.seen)}, not from {self.version}"
            yield message, place, "leave it out unless the engine's start was seen to accept it"
        if known.unverified_choices and value in known.unverified_choices:
            message = f"{value!r} is known from another version than {self.version} only"
            yield message, place, _field_wanted(known)
        if known.deprecated:
            yield "deprecated", place, "leave it out"

    def _unknown(self, path: str, place: str) -> Problem:
        leaf = path.rpartition(".")[2]
        elsewhere = [p for p in self.fields if p.rpartition(".")[2] == leaf]
        near = elsewhere[0] if len(elsewhere) == 1 else _near(path, self.fields)
        remedy = f"did you mean {near}?" if near else "remove it"
        return Problem(f"not a field of {self.program} {self.version}", place, remedy)


def _field_wanted(known: Field) -> str:
    if known.choices is not None:
        return f"use one of: {', '.join(str(choice) for choice in known.choices)}"
    low = f" from {known.minimum:g}" if known.minimum is not None else ""
    high = f" up to {known.maximum:g}" if known.maximum is not None else ""
    return f"give a value of type {known.type.replace('|', ' or ')}{low}{high}"


# ---- loading -------------------------------------------------------------------------------------


def _read(directory: Path, program: str) -> dict[str, Any]:
    path = directory / f"{program}.json"
    if not path.is_file():
        there = sorted(p.stem for p in directory.glob("*.json"))
        raise FileNotFoundError(
            f"there is no catalogue of {program} in {directory}; there are: {', '.join(there)}."
            " `tools/release catalogues` makes it"
        )
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data | {"directory": directory}


def _frozen(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) and k != "default" else v for k, v in row.items()}


@lru_cache(maxsize=16)
def load(directory: Path, program: str) -> Catalogue:
    """Return the flags of a program. Raises FileNotFoundError naming the catalogues that there are."""
    data = _read(directory, program)
    return Catalogue(**{**data, "flags": tuple(Flag(**_frozen(row)) for row in data["flags"])})


@lru_cache(maxsize=16)
def load_yaml(directory: Path, program: str) -> YamlCatalogue:
    """Return the field tree of an engine's YAML. Raises FileNotFoundError as `load` does."""
    data = _frozen(_read(directory, program))
    fields = {row["path"]: Field(**_frozen(row)) for row in data["fields"]}
    return YamlCatalogue(**{**data, "fields": fields})
