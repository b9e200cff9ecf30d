"""Writes down what the programs of an installed Dynamo release accept, from their own argument parsers.

    ENVIRONMENT/bin/python parsers.py PROGRAM RUN TARGET

Runs inside the environment that has the packages; needs the standard library only. The program's own code
builds its parsers and hands them words; each parser that it asks is told by a flag that only that one has. A
parser that no such flag tells is an error: a new one would otherwise be taken for another.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Program:
    """How to make a program ask its parsers (`module.function(*args)`).

    parsers: name of a parser -> a flag that it has and no other. later: `module:function` that takes what was
    parsed and checks it further; the values that it names are added as choices.
    """

    module: str
    args: tuple[Any, ...] = ([],)
    parsers: Mapping[str, str] = field(default_factory=lambda: {"dynamo": "--request-plane"})
    function: str = "parse_args"
    engine: str = ""
    later: str = ""


# Programs that take more than `Program("<name>.args")` says.
PROGRAMS = {
    "dynamo.mocker": Program("dynamo.mocker.args", later="dynamo.mocker.config:load_mocker_engine_args"),
    "dynamo.frontend": Program("dynamo.frontend.main", args=()),
    # Each takes what it knows and leaves the rest to the next.
    "dynamo.sglang": Program(
        "dynamo.sglang.args",
        args=(["--model-path", "none"],),
        parsers={"dynamo": "--request-plane", "router": "--router-mode", "sglang": "--tp-size"},
        engine="sglang",
    ),
    "dynamo.trtllm": Program(
        "dynamo.trtllm.args",
        parsers={"dynamo": "--request-plane", "router": "--router-mode"},
        engine="tensorrt-llm",
    ),
}
SKIPPED_ACTIONS = ("_HelpAction", "_VersionAction")
NO_SUCH_WORD = "no-such-word"


class Unknown:
    """A default of a package that is not installed (TensorRT-LLM)."""

    default: Any

    def __init__(self) -> None:
        self.default = self


def _stand_in_for_tensorrt_llm() -> None:
    """Let dynamo.trtllm build its parser without the engine: it only asks for four defaults."""
    try:
        importlib.import_module("tensorrt_llm")
        return
    except ImportError:
        pass
    names = ("max_batch_size", "max_num_tokens", "max_seq_len", "max_beam_width")
    args = types.SimpleNamespace(model_fields={name: Unknown() for name in names})
    for name in ("tensorrt_llm", "tensorrt_llm.llmapi", "tensorrt_llm.llmapi.llm_args"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["tensorrt_llm.llmapi.llm_args"].BaseLlmArgs = args  # type: ignore[attr-defined]


def _note_environment_reads() -> None:
    """Remember with each argument the one DYN_ variable that was read while its default was computed."""
    reads: list[str] = []
    read, add = type(os.environ).__getitem__, argparse._ActionsContainer.add_argument

    def noting_read(environ: Any, key: str) -> str:
        reads.append(key)
        return read(environ, key)

    def noting_add(container: Any, *args: Any, **kwargs: Any) -> argparse.Action:
        action = add(container, *args, **kwargs)
        names = {key for key in reads if str(key).startswith("DYN_")}
        action.read_from = names.pop() if len(names) == 1 else None  # type: ignore[attr-defined]
        reads.clear()
        return action

    type(os.environ).__getitem__ = noting_read  # type: ignore[method-assign]
    argparse._ActionsContainer.add_argument = noting_add  # type: ignore[method-assign,assignment]


def capture(program: Program) -> list[argparse.ArgumentParser]:
    """Run the program's own code to its end, or to where it misses a model; return the parsers it asked."""
    seen: list[argparse.ArgumentParser] = []
    parse_known_args = argparse.ArgumentParser.parse_known_args
    _note_environment_reads()

    def record(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        if all(parser is not other for other in seen):
            seen.append(parser)
        return parse_known_args(parser, *args, **kwargs)

    sys.argv = ["program"]  # the frontend reads it
    module = importlib.import_module(program.module)
    argparse.ArgumentParser.parse_known_args = record  # type: ignore[method-assign,assignment]
    try:
        result = getattr(module, program.function)(*program.args)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - no model is here; what is missing is judged below
        print(f"{program.module} ended with {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        argparse.ArgumentParser.parse_known_args = parse_known_args  # type: ignore[method-assign]
    return seen


def named(
    parsers: list[argparse.ArgumentParser], names: Mapping[str, str], program: str
) -> dict[str, argparse.ArgumentParser]:
    """Tell the parsers by the flags that only they have. Raises SystemExit if one is new or missing."""
    found: dict[str, argparse.ArgumentParser] = {}
    for place, parser in enumerate(parsers, 1):
        flags = [flag for action in parser._actions for flag in action.option_strings]
        told = [name for name, flag in names.items() if flag in flags]
        if len(told) != 1 or told[0] in found:
            which = f"has what tells {' and '.join(told)}" if told else "is none of the known ones"
            raise SystemExit(
                f"{program} asks {len(parsers)} parsers; number {place} {which}"
                f" ({', '.join(flags[:8])} ...): "
                "name it in PROGRAMS of tools/release_tool/parsers.py, by a flag that only it has"
            )
        found[told[0]] = parser
    if missing := [name for name in names if name not in found]:
        raise SystemExit(f"{program} asked no parser that tells itself as {', '.join(missing)}")
    return found


def later_choices(program: Program, action: argparse.Action) -> list[str]:
    """Return the values that the program names when it refuses one after parsing."""
    places = program.later.partition(":")
    check = getattr(importlib.import_module(places[0]), places[2])
    parse = getattr(importlib.import_module(program.module), program.function)
    try:
        check(parse([action.option_strings[0], NO_SUCH_WORD]))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - any refusal may name them
        told = re.search(rf"`{NO_SUCH_WORD}`, expected (?:one of )?(`.*`)", str(error))
        return re.findall(r"`([^`]+)`", told[1]) if told else []
    return []


def _try(convert: Callable[[str], Any], text: str) -> tuple[bool, Any]:
    try:
        return True, convert(text)
    except Exception:  # noqa: BLE001 - any refusal counts
        return False, None


def value_type(convert: Any) -> dict[str, Any]:  # noqa: PLR0911 - a table of answers
    """Find out by trying what a parser's `type` function accepts: its name says nothing reliable."""
    if convert in (None, str):
        return {"type": "str"}
    word, whole, half = _try(convert, "abc"), _try(convert, "7"), _try(convert, "1.5")
    if isinstance(word[1], Path):
        return {"type": "path"}
    if isinstance(_try(convert, '{"a": 1}')[1], dict):
        return {"type": "json"}
    if isinstance(_try(convert, "true")[1], bool):
        return {"type": "bool"}
    if isinstance(whole[1], list) or isinstance(word[1], list):
        return {"type": "list", "format": getattr(convert, "__name__", "")}
    found: dict[str, Any]
    if not word[0] and isinstance(half[1], float):
        found = {"type": "float"}
    elif not half[0] and type(whole[1]) is int:
        found = {"type": "int"}
    else:
        return {"type": "str", "format": getattr(convert, "__name__", "")}
    if not _try(convert, "-1")[0]:
        found["minimum"] = 0 if _try(convert, "0")[0] else 1
    if _try(convert, "None") == (True, None):
        found["nullable"] = True
    return found


def plain(value: Any) -> tuple[Any, bool]:
    """Return (JSON form, whether it was lost)."""
    if isinstance(value, Enum):
        value = value.value
    if value is argparse.SUPPRESS or value is None:
        return None, False
    if isinstance(value, (bool, int, float, str)):
        return value, False
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return [item for item, _ in items], any(lost for _, lost in items)
    if isinstance(value, dict):
        return {str(k): plain(v)[0] for k, v in value.items()}, False
    return None, True


def describe(action: argparse.Action, parser: str) -> list[dict[str, Any]]:
    """Describe one argument; an alias that the program calls obsolete becomes an entry of its own."""
    text = action.help if isinstance(action.help, str) and action.help is not argparse.SUPPRESS else ""
    negatable = isinstance(action, argparse.BooleanOptionalAction)
    switch = negatable or action.nargs == 0
    obsolete = re.search(r"deprecating flag: (--\S+)", text)
    old = {obsolete[1], obsolete[1].replace("--", "--no-", 1)} if obsolete else set()
    names = [name for name in action.option_strings if name not in old]
    negatives = [n for n in names if negatable and n.startswith("--no-")]
    names = [n for n in names if n not in negatives]
    name = next((n for n in names if n.startswith("--")), names[0])
    default, lost = plain(action.default)
    named = re.search(r"env var: (\S+) \|", text)
    environment = named[1] if named else getattr(action, "read_from", None)
    entry: dict[str, Any] = {"flag": name, "parser": parser}
    if len(names) > 1:
        entry["aliases"] = [n for n in names if n != name]
    if negatives:
        entry["negative"] = negatives[0]
    if environment:
        entry["env"] = environment
    entry |= {"type": "bool"} if switch else value_type(action.type)
    entry["takes_value"] = not switch
    if action.nargs not in (None, 0):
        entry["nargs"] = action.nargs
        if action.nargs != "?":
            entry["type"] = f"list[{entry['type']}]"
    if type(action).__name__ in ("_AppendAction", "_ExtendAction", "_CountAction"):
        entry["repeatable"] = True
    if action.choices is not None and not switch:
        entry["choices"] = [plain(choice)[0] for choice in action.choices]
    entry["default"] = default
    if lost:
        entry["dynamic"] = True
    if action.required:
        entry["required"] = True
    kind = type(action).__name__.lstrip("_")
    if kind.startswith("Deprecated") or re.match(r"\W*(deprecated|obsolete)\b(?! for\b)", text, re.I):
        entry["deprecated"] = True
        used = re.search(r"\b(?:use|alias for)\s+`?'?(--[\w-]+(?:=[\w-]+)?)", text, re.I)
        # Of Dynamo itself: a sentence that says what in which file replaces a flag.
        said = re.match(rf"{name} is deprecated and will be removed in \S+; use (.*?--[\w-]+)\.", text)
        entry["replacement"] = getattr(action, "new_flag", None) or (said or used or (None, None))[1]
    entries = [entry]
    for spelling in sorted(old & set(action.option_strings)):
        if not spelling.startswith("--no-"):
            alias = {k: v for k, v in entry.items() if k not in ("aliases", "negative", "env", "choices")}
            entries.append(alias | {"flag": spelling, "deprecated": True, "replacement": name})
    return entries


def _engine_version(engine: str) -> str:
    """Return the installed version, else the one that this Dynamo pins."""
    try:
        return importlib.metadata.version(engine)
    except importlib.metadata.PackageNotFoundError:
        pinned = importlib.metadata.requires("ai-dynamo") or []
        line = next(p for p in pinned if re.match(rf"{engine}(\[.*\])?==", p))
        return re.split(r"==|;", line)[1].strip()


def _choices_of_later_checks(
    program: Program, parser: argparse.ArgumentParser, flags: dict[str, dict[str, Any]]
) -> None:
    for action in parser._actions:
        entry = flags.get(action.option_strings[0]) if action.option_strings else None
        if entry and entry["type"] == "str" and "choices" not in entry:
            found = later_choices(program, action)
            entry.update({"choices": found} if found else {})


def emit(name: str, run: int, target: Path) -> None:
    """Write what the program's parsers accept to `target` (standard output belongs to the packages)."""
    os.cpu_count = lambda: 64 + run  # a default made from it must show
    program = PROGRAMS.get(name, Program(f"{name}.args"))
    if program.engine == "tensorrt-llm":
        _stand_in_for_tensorrt_llm()
    flags: dict[str, dict[str, Any]] = {}
    for label, parser in named(capture(program), program.parsers, name).items():
        for action in parser._actions:
            if action.option_strings and type(action).__name__ not in SKIPPED_ACTIONS:
                for entry in describe(action, label):
                    flags.setdefault(entry["flag"], entry)  # the first parser takes it
        if program.later:
            _choices_of_later_checks(program, parser, flags)
    head: dict[str, Any] = {"program": name, "version": importlib.metadata.version("ai-dynamo")}
    if program.engine:
        head["engine"] = {program.engine: _engine_version(program.engine)}
    if program.engine == "tensorrt-llm":
        dotted = importlib.import_module("dynamo.trtllm.dynamic_flags").DYNAMIC_FLAG_PREFIX
        head["dotted"] = {"prefix": dotted, "excludes": "--override-engine-args"}
    target.write_text(json.dumps(head | {"source": "parser", "flags": [flags[k] for k in sorted(flags)]}))


if __name__ == "__main__":
    emit(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
