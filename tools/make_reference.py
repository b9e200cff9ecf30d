#!/usr/bin/env python3
"""Make docs/reference/variables.md from the roles' argument_specs and the engines' options.

usage: make_reference.py [--check]      --check writes nothing; exit status 1 if the file is not current.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from wideep.engines import ENGINES
from wideep.engines.base import Engine
from wideep.engines.options import CommonOptions
from wideep.inventory.settings import HOST_VARIABLES

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "reference" / "variables.md"
HEAD = """\
# Variables

<!-- Made by tools/make_reference.py from roles/*/meta/argument_specs.yml: edit those, then run it. -->

Set them in the inventory's `group_vars/all.yml`, or with `-e`. The role `wideep` describes the deployment as
a whole; most people need no other. A `wideep_` name that does not exist is refused, and the nearest is named.
The same text in a terminal: `ansible-doc -t role wideep.dynamo.ROLE`.

A default *of the plan* follows from the deployment: leave it. Names that end in `_s` are seconds.
"""
OPTIONS_HEAD = """\
## Options of a pool

Under `wideep_pools.<pool>.options`. What is unset follows from the pool's GPUs, its role and the model, or is
the engine's own default. Any other flag of the engine goes into `extra_args`, by its name without dashes.
"""
OPTION = ("option", "type", "default", "meaning")


def code(text: str) -> str:
    """Return text as code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")


def prose(text: str | Sequence[str]) -> str:
    """Return a description, one line a paragraph, with Ansible's markup as Markdown."""
    lines = []
    for line in [text] if isinstance(text, str) else text:
        words = " ".join(line.split())
        marked = re.sub(r"[<>|]", lambda m: {"<": "&lt;", ">": "&gt;", "|": "\\|"}[m[0]], words)
        marked = re.sub(r"\b[VCOIE]\(([^()]*)\)", lambda m: f"`{m[1]}`", marked)
        marked = re.sub(r"\bP\(wideep\.dynamo\.(\w+)#role\)", lambda m: f"`{m[1]}`", marked)
        # Character references are not read inside code.
        lines.append(re.sub(r"`[^`]*`", lambda m: m[0].replace("&lt;", "<").replace("&gt;", ">"), marked))
    return "<br>".join(lines)


def default(value: Any) -> str:
    """Return a default for a cell; one that only repeats another variable by that variable's name."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.split())
    plan = r"wideep_plan\.(?:settings\.|hosts\[inventory_hostname\]\.(?=state_dir))(\w+)"
    if found := re.fullmatch(r"\{\{ " + plan + r" \}\}", text):
        return f"that of `wideep_{found[1]}`"
    if "wideep_plan." in text:
        return "of the plan"
    text = re.sub(r"\{\{ _\w+_state_dir \}\}", "<state_dir>", text)
    return code(text) if text else "empty"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def role_section(role: Path) -> str:
    """Return the section of one role; nothing where a person sets nothing of it."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    main = specs["argument_specs"]["main"]
    rows = []
    for name, option in main.get("options", {}).items():
        if option.get("required"):  # another role gives it
            continue
        kind = f"list of {option['elements']}" if option.get("elements") else option["type"]
        text = prose(option["description"])
        if choices := ENGINES if name == "wideep_engine" else option.get("choices"):
            text += f"<br>One of {', '.join(code(str(choice)) for choice in choices)}."
        if name in HOST_VARIABLES and "may differ" not in text.lower():
            text += "<br>*May differ from host to host.*"
        if option.get("no_log"):
            text += "<br>*Never shown.*"
        rows.append((code(name), kind, default(option["default"]), text))
    if not rows:
        return ""
    about = prose(main.get("description", [])).replace("<br>", "\n")
    head = f"## {role.name}: {main['short_description']}\n\n" + (f"{about}\n\n" if about else "")
    return head + table(("variable", "type", "default", "meaning"), rows)


def option_type(annotation: Any) -> str:
    """Return a type of an option as an operator writes it; `| None` is dropped, as unset is the default."""
    if get_origin(annotation) is Literal:
        return ", ".join(code(str(choice)) for choice in get_args(annotation))
    if get_origin(annotation) in (list, dict):
        kind = option_type(get_args(annotation)[0])
        return f"list of {kind}" if get_origin(annotation) is list else "dict"
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return " or ".join(map(option_type, parts)) if parts else str(annotation.__name__)


def meanings(kind: type[CommonOptions]) -> Mapping[str, str]:
    """Return what the class's own docstring says of its fields, written as `name: text`."""
    text = " ".join((kind.__doc__ or "").split())
    names = "|".join(sorted(kind.model_fields, key=len, reverse=True))
    parts = re.split(rf"\b({names}): ", text)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def option_rows(kind: type[CommonOptions], without: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """Return the rows of an engine's options."""
    said = meanings(kind)
    return [
        (
            code(name),
            option_type(field.annotation),
            "unset" if field.default is None else default(field.default),
            prose(said.get(name, "")),
        )
        for name, field in kind.model_fields.items()
        if name not in without
    ]


def engine_section(engine: Engine) -> str:
    """Return the section of one engine's own options."""
    if not isinstance(engine.options, type):
        flags = [(code(name), code(flag)) for name, flag in engine.options.items()]
        return f"### {engine.name}\n\n" + table(("option", f"flag of `{engine.program}`"), flags)
    head = (
        f"### {engine.name} alone\n\nThese may also stand in a section `{engine.name}:` of the options.\n\n"
    )
    return head + table(OPTION, option_rows(engine.options, CommonOptions.model_fields))


def render() -> str:
    """Return the whole page."""
    roles = sorted(path.parents[1] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
    roles.sort(key=lambda role: role.name != "wideep")
    shared = [engine for engine in ENGINES.values() if isinstance(engine.options, type)]
    others = [engine for engine in ENGINES.values() if engine not in shared]
    parts = [
        HEAD,
        role_section(roles[0]),
        OPTIONS_HEAD,
        *map(engine_section, others),
        "### Shared by the engines with GPUs\n\n" + table(OPTION, option_rows(CommonOptions)),
        *map(engine_section, shared),
        *(role_section(role) for role in roles[1:]),
    ]
    return "\n".join(filter(None, parts))


def main(arguments: Sequence[str]) -> int:
    """Write the page, or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the page is not current")
    text = render()
    if not parser.parse_args(arguments).check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    page = TARGET.relative_to(ROOT)
    print(f"{page} is not current: run .venv/bin/python tools/make_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
