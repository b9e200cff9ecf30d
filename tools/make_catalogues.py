#!/usr/bin/env python3
"""Make the flag catalogues of the pinned engines from the installed packages' own argument parsers.

    tools/make_catalogues.py --python VENV/bin/python --program dynamo.mocker --output configs/catalogues

`VENV` holds the pinned packages (configs/versions.yml). The program's own code builds its parser; this script
stops it where it would parse, and writes down what the parser accepts. Each program is asked twice, with
another home, working directory and processor count: a default that differs between the two runs belongs to
the machine and is stored as null with `"dynamic": true`. Needs the standard library only.
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
import subprocess
import sys
import tempfile
import types
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Program:
    """How to make a program build its parsers (`module.function(*args)`), and what to call each in turn."""

    module: str
    args: tuple[Any, ...] = ([],)
    parsers: tuple[str, ...] = ("dynamo",)
    function: str = "parse_args"
    engine: str = ""


PROGRAMS = {
    "dynamo.mocker": Program("dynamo.mocker.args"),
    "dynamo.frontend": Program("dynamo.frontend.main", args=()),
    # Two parsers one after the other: what the first does not know goes to SGLang's.
    "dynamo.sglang": Program(
        "dynamo.sglang.args",
        args=(["--model-path", "none"],),
        parsers=("dynamo", "sglang"),
        engine="sglang",
    ),
    "dynamo.trtllm": Program("dynamo.trtllm.args", engine="tensorrt-llm"),
}
SKIPPED_ACTIONS = ("_HelpAction", "_VersionAction")


# ---- inside the environment that has the packages ------------------------------------------------


class Captured(Exception):  # noqa: N818 - a signal, not an error
    """All parsers of the program were seen."""


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
    """Run the program's own code until it has built all its parsers."""
    seen: list[argparse.ArgumentParser] = []
    parse_known_args = argparse.ArgumentParser.parse_known_args
    _note_environment_reads()

    def record(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        if all(parser is not other for other in seen):
            seen.append(parser)
        if len(seen) == len(program.parsers):
            raise Captured
        return parse_known_args(parser, *args, **kwargs)

    sys.argv = ["program"]  # the frontend reads it
    module = importlib.import_module(program.module)
    argparse.ArgumentParser.parse_known_args = record  # type: ignore[method-assign,assignment]
    try:
        result = getattr(module, program.function)(*program.args)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except Captured:
        return seen
    finally:
        argparse.ArgumentParser.parse_known_args = parse_known_args  # type: ignore[method-assign]
    raise SystemExit(f"{program.module} built {len(seen)} parsers, expected {len(program.parsers)}")


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
        entry["replacement"] = getattr(action, "new_flag", None) or (used[1] if used else None)
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


def emit(name: str, run: int, target: Path) -> None:
    """Write what the program's parsers accept to `target` (standard output belongs to the packages)."""
    os.cpu_count = lambda: 64 + run  # a default made from it must show
    program = PROGRAMS[name]
    if program.engine == "tensorrt-llm":
        _stand_in_for_tensorrt_llm()
    flags: dict[str, dict[str, Any]] = {}
    for parser, label in zip(capture(program), program.parsers, strict=True):
        for action in parser._actions:
            if action.option_strings and type(action).__name__ not in SKIPPED_ACTIONS:
                for entry in describe(action, label):
                    flags.setdefault(entry["flag"], entry)  # the first parser takes it
    found: dict[str, Any] = {"program": name, "version": importlib.metadata.version("ai-dynamo")}
    if program.engine:
        found["engine"] = {program.engine: _engine_version(program.engine)}
    if program.engine == "tensorrt-llm":
        dotted = importlib.import_module("dynamo.trtllm.dynamic_flags").DYNAMIC_FLAG_PREFIX
        found["dotted"] = {"prefix": dotted, "excludes": "--override-engine-args"}
    target.write_text(json.dumps(found | {"source": "parser", "flags": [flags[k] for k in sorted(flags)]}))


# ---- outside -------------------------------------------------------------------------------------


def ask(python: str, name: str, run: int) -> dict[str, Any]:
    """Run this script under the other interpreter, in a clean environment and an empty home."""
    with tempfile.TemporaryDirectory(prefix=f"catalogue-{run}-") as home:
        target = Path(home) / "parsers.json"
        command = [
            python,
            str(Path(__file__).resolve()),
            "--emit",
            name,
            "--run",
            str(run),
            "--to",
            str(target),
        ]
        env = {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home, "HF_HUB_OFFLINE": "1"}
        env["PYTHONHASHSEED"] = str(run)
        done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
        if done.returncode or not target.exists():
            raise SystemExit(f"{name}: its parser could not be read with {python}:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(target.read_text())
        return found


def merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Keep what does not depend on the machine or on chance (the order of choices from a hash table)."""
    for flag, other in zip(first["flags"], second["flags"], strict=True):
        if flag["default"] != other["default"]:
            flag["default"], flag["dynamic"] = None, True
        if flag.get("choices") != other.get("choices"):
            flag["choices"] = sorted({*flag["choices"], *other["choices"]})
    return first


def write(catalogue: dict[str, Any], directory: Path) -> Path:
    """Write one flag a line, so that a new version shows as a readable difference."""
    head = {key: value for key, value in catalogue.items() if key != "flags"}
    lines = [json.dumps(head, indent=1)[:-2] + ',\n "flags": [']
    lines += [",\n".join("  " + json.dumps(flag, ensure_ascii=False) for flag in catalogue["flags"])]
    path = directory / f"{catalogue['program']}-{catalogue['version']}.json"
    path.write_text("\n".join([*lines, " ]\n}\n"]), encoding="utf-8")
    return path


def main() -> None:
    """Ask each program twice and write its catalogue."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", help="the interpreter of the environment that has the pinned packages")
    parser.add_argument("--program", action="append", choices=sorted(PROGRAMS), help="repeatable")
    parser.add_argument("--output", type=Path, help="the directory for the catalogues")
    for internal in ("--emit", "--run", "--to"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.emit:
        emit(options.emit, int(options.run), Path(options.to))
        return
    if not (options.python and options.program and options.output):
        _usage(parser)
    for name in options.program:
        path = write(merge(ask(options.python, name, 1), ask(options.python, name, 2)), options.output)
        print(path)


def _usage(parser: argparse.ArgumentParser) -> NoReturn:
    parser.error("--python, --program and --output are needed")


if __name__ == "__main__":
    main()
