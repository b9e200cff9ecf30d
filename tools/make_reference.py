#!/usr/bin/env python3
"""Make the reference of variables and of model cards, and what argument_specs say of nested variables.

usage: make_reference.py [--check]      --check writes nothing; exit status 1 if a file is not current.

A nested variable (`wideep_eplb`, …) has types, defaults and meanings in its pydantic model, an engine's
option in the engine's; every other variable in the argument_specs of its role.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from wideep.engines import ENGINES
from wideep.engines.base import Engine
from wideep.engines.options import CommonOptions
from wideep.inventory.settings import HOST_VARIABLES, HostSettings, Settings
from wideep.reference.memory import WHOLE, weights
from wideep.reference.models import FORMATS, MODELS, SCALES, Format, ModelCard
from wideep.reference.models import WIDTH as WIDTH_OF

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "variables.md"
CARDS = ROOT / "docs" / "reference" / "model-cards.md"
SPECS = ROOT / "roles" / "wideep" / "meta" / "argument_specs.yml"
# Ansible's name of a type that is no dict, list or choice.
TYPES = {str: "str", int: "int", float: "float", bool: "bool", Any: "raw"}
WIDTH = 120  # of YAML, as yamllint has it
HEAD = """\
# Variables

<!-- Made by tools/make_reference.py from roles/*/meta/argument_specs.yml and the pydantic models of nested
variables and engine options: edit those, then run it. -->

Set them in the inventory's `group_vars/all.yml`, or with `-e`. The role `wideep` describes the deployment as
a whole; most people need no other. A `wideep_` name that does not exist is refused, and the nearest is named.
The same text in a terminal: `ansible-doc -t role wideep.dynamo.ROLE`.

A default *of the plan* follows from the deployment: leave it. Names that end in `_s` are seconds.
"""
CARDS_HEAD = """\
# Model cards

<!-- Made by tools/make_reference.py from src/wideep/reference/models.py and configs/models: edit those, then
run it. -->

A card says what a model is made of. The plan's rules about experts and kernels go by it, and so do the sums
of memory. `wideep model add` makes one of a checkpoint:
[Bring your own model](../how-to/bring-your-own-model.md).

Cards are looked for in `models/` of the directory that `wideep_cards_dir` names, then beside the inventory's
`hosts.yml`, then in the project's `configs/models`. `wideep_model_card` names the file; unset, it is the card
whose `names` have `wideep_model`. A broken card is refused where it is used, with its file and fields.

`weights` is enough for a checkpoint that is all of one kind; `formats` says the rest. Checkpoints of 4 bits
mostly leave attention in 16 bits, and a card of 4 bits without `formats` counts it so. Bytes of a weight:
"""
FIELDS_HEAD = """\
## Fields

A field that is *needed* has to be there; one within an unset group only where the group is there.
"""
TOTALS_HEAD = """\
## Computed and published totals

Weights in billions, sizes of checkpoints in GB (10^9 bytes). Norms and biases are in no sum (below 0.1 %),
nor are a checkpoint's own copies of embedding and head for its draft layers. A test holds each card to 0.5 %.
Figures of layers are those of the models' own config.json, in public copies; no checkpoint was measured here.
The classes of transformers, made of the same configurations without weights, have as many, to 0.1 %
(DeepSeek-V3, V3.2, V4-Flash and V4-Pro, GLM-5 and 5.2, gpt-oss-120b, MiniMax-M2.5, Qwen3-235B, the text
parts of Qwen3.5-397B and Llama 4 Maverick, Mixtral 8x22B).
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
    text = re.sub(r"\{\{ _\w+[._]state_dir \}\}", "<state_dir>", text)
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
        if "options" in option:
            text += f"<br>[Its options](#{name})"
        if option.get("no_log"):
            text += "<br>*Never shown.*"
        rows.append((code(name), kind, default(option["default"]), text))
    if not rows:
        return ""
    about = prose(main.get("description", [])).replace("<br>", "\n")
    head = f"## {role.name}: {main['short_description']}\n\n" + (f"{about}\n\n" if about else "")
    return head + table(("variable", "type", "default", "meaning"), rows)


def plain(annotation: Any) -> Any:
    """Return a type without what validates it, and without None, as unset is the default."""
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    parts = [part for part in get_args(annotation) if part is not type(None)]
    is_union = get_origin(annotation) is Union or type(annotation).__name__ == "UnionType"
    return plain(parts[0]) if is_union and len(parts) == 1 else annotation


def option_type(annotation: Any) -> str:
    """Return a type as an operator writes it."""
    kind = plain(annotation)
    if get_origin(kind) is Literal:
        return ", ".join(code(str(choice)) for choice in get_args(kind))
    if get_origin(kind) in (list, tuple):
        return f"list of {option_type(get_args(kind)[0])}"
    return TYPES.get(kind, "dict")


def option_default(field: FieldInfo) -> str:
    """Return the default of a field, for a cell."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    return "unset" if value is None else default(list(value) if isinstance(value, tuple) else value)


def option_rows(
    kind: type[BaseModel], without: Iterable[str] = (), prefix: str = ""
) -> list[tuple[str, ...]]:
    """Return the rows of a model's fields, those of models in it by their path."""
    rows: list[tuple[str, ...]] = []
    for name, field in kind.model_fields.items():
        if name in without:
            continue
        text = prose(str(field.description))
        if inner := model_of(field):
            rows.append((code(prefix + name), "dict", "`{}`", text))
            rows += option_rows(inner, prefix=f"{prefix}{name}.")
        else:
            rows.append((code(prefix + name), option_type(field.annotation), option_default(field), text))
    return rows


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is one."""
    kind = plain(field.annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def nested() -> dict[str, tuple[Sequence[str], type[BaseModel]]]:
    """Return variable -> (keys that each have the model; none where the variable itself has it, model)."""
    found: dict[str, tuple[Sequence[str], type[BaseModel]]] = {}
    for name, field in (HostSettings.model_fields | Settings.model_fields).items():
        if model := model_of(field):
            found[f"wideep_{name}"] = ((), model)
        elif get_origin(field.annotation) is dict:
            keys, values = get_args(field.annotation)
            if isinstance(values, type) and issubclass(values, BaseModel):
                found[f"wideep_{name}"] = (get_args(keys), values)
    return found


def nested_section(variable: str) -> str:
    """Return the section of a nested variable."""
    keys, model = nested()[variable]
    place = f"`{variable}.<pool>`, a pool being {', '.join(map(code, keys))}" if keys else code(variable)
    return f"### {variable}\n\nUnder {place}:\n\n" + table(OPTION, option_rows(model))


def suboptions(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Return a model as Ansible's argument_specs have it."""
    options = {}
    for name, field in model.model_fields.items():
        kind = plain(field.annotation)
        option: dict[str, Any] = {"description": str(field.description)}
        if inner := model_of(field):
            option |= {"type": "dict", "options": suboptions(inner)}
        elif get_origin(kind) is Literal:
            option |= {"type": "str", "choices": list(get_args(kind))}
        elif get_origin(kind) in (list, tuple):
            element = plain(get_args(kind)[0])
            option |= {"type": "list", "elements": TYPES.get(element, "dict")}
        else:
            option |= {"type": TYPES.get(kind, "dict")}
        value = None if inner else field.get_default(call_default_factory=True)
        if value is not None:
            option["default"] = list(value) if isinstance(value, tuple) else value
        options[name] = option
    return options


def specs_lines(options: Mapping[str, Mapping[str, Any]], indent: int) -> Iterator[str]:
    """Yield options as lines of YAML. Those of an option that are a text are an alias."""
    pad = " " * indent
    for name, option in options.items():
        yield f"{pad}{name}:"
        for key, value in option.items():
            if key == "options" and isinstance(value, Mapping):
                yield f"{pad}  options:"
                yield from specs_lines(value, indent + 4)
                continue
            if key == "options":
                yield f"{pad}  options: {value}"
                continue
            text = (
                json.dumps(value)
                if value == ""
                else yaml.safe_dump(value, default_flow_style=True, width=10**6)
            )
            line = f"{pad}  {key}: {text.removesuffix(chr(10)).removesuffix('...').strip()}"
            if len(line) <= WIDTH:
                yield line
            else:
                yield f"{pad}  {key}: >-"
                yield from textwrap.wrap(
                    value, WIDTH, initial_indent=pad + "    ", subsequent_indent=pad + "    "
                )


def render_specs(text: str) -> str:
    """Return the argument_specs of role wideep with the options of nested variables as their models are."""
    for variable, (keys, model) in nested().items():
        options: dict[str, Any] = suboptions(model)
        if keys:
            # Once in the file: the first key's, which the others refer to.
            each = {
                key: {"description": f"The pool C({key}).", "type": "dict", "options": "*pool"}
                for key in keys
            }
            options = each | {keys[0]: each[keys[0]] | {"options": options}}
        lines = [" " * 8 + "options:", *specs_lines(options, 10)]
        if keys:
            lines[lines.index(" " * 12 + "options:")] += " &pool"
        block = re.search(rf"^      {variable}:\n(?: {{8}}.*\n)+", text, re.MULTILINE)
        if block is None:
            raise SystemExit(f"{SPECS.relative_to(ROOT)} has no {variable}, which a model of settings.py has")
        before = re.sub(r"^ {8}options:\n(?: {10}.*\n)+", "", block[0], flags=re.MULTILINE)
        text = text.replace(block[0], before + "\n".join(lines) + "\n")
    return text


def engine_section(engine: Engine) -> str:
    """Return the section of one engine's own options."""
    if not isinstance(engine.options, type):
        flags = [(code(name), code(flag)) for name, flag in engine.options.items()]
        return f"### {engine.name}\n\n" + table(("option", f"flag of `{engine.program}`"), flags)
    head = (
        f"### {engine.name} alone\n\nThese may also stand in a section `{engine.name}:` of the options.\n\n"
    )
    return head + table(OPTION, option_rows(engine.options, CommonOptions.model_fields))


def card_rows(kind: type[BaseModel], prefix: str = "") -> list[tuple[str, ...]]:
    """Return the rows of a card's fields; those of a list's or mapping's entries, too."""
    rows: list[tuple[str, ...]] = []
    for name, field in kind.model_fields.items():
        text, place = prose(str(field.description)), f"{prefix}{name}"
        entries = [part for part in get_args(plain(field.annotation)) if part not in (str, ...)]
        entry = next((e for e in entries if isinstance(e, type) and issubclass(e, BaseModel)), None)
        if inner := model_of(field):
            rows.append((code(place), "dict", "needed" if field.is_required() else "unset", text))
            rows += card_rows(inner, f"{place}.")
        elif entry:
            keyed = get_origin(plain(field.annotation)) is dict
            rows.append((code(place), "dict" if keyed else "list of dict", "empty", text))
            rows += card_rows(entry, f"{place}.<engine>." if keyed else f"{place}[].")
        else:
            kind = "a format" if plain(field.annotation) == Format else option_type(field.annotation)
            rows.append((code(place), kind, option_default(field), text))
    return rows


def totals() -> list[tuple[str, ...]]:
    """Return a row for each card that says what its publisher says."""
    rows = []
    for name, card in MODELS.all().items():
        said = card.published
        if said is None:
            continue
        for what, published, computed in (
            ("weights", said.parameters, card.parameters + card.draft_parameters * said.with_draft),
            ("checkpoint", said.checkpoint, sum(weights(card, WHOLE, drafts=True).values())),
        ):
            if published:
                far = 100 * (computed / 1e9 / published - 1)
                row = (f"{computed / 1e9:.2f}", f"{published:g}", f"{far:+.2f} %", said.source)
                rows.append((code(name), what + (", with drafts" if said.with_draft else ""), *row))
    return rows


def formats() -> list[tuple[str, ...]]:
    """Return a row for each format of weights."""
    rows = []
    for name in FORMATS:
        scale, shared = SCALES.get(name, (0, 1))
        said = f"{scale} for {shared} weights" if scale else "none, or one a row or tensor"
        rows.append((code(name), f"{WIDTH_OF[name]:g}", said, f"{WIDTH_OF[name] + scale / shared:.4g}"))
    return rows


def render_cards() -> str:
    """Return the page of model cards."""
    without = sorted(name for name, card in MODELS.all().items() if not card.published)
    return "\n".join(
        [
            CARDS_HEAD,
            table(("format", "width", "scales", "together"), formats()),
            FIELDS_HEAD,
            table(("field", "type", "default", "meaning"), card_rows(ModelCard)),
            TOTALS_HEAD,
            table(("card", "what", "computed", "published", "apart", "by"), totals()),
            "Further cards, of the same families or for our own tests: "
            + ", ".join(map(code, without))
            + ".\n",
        ]
    )


def render() -> str:
    """Return the whole page."""
    roles = sorted(path.parents[1] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
    roles.sort(key=lambda role: role.name != "wideep")
    shared = [engine for engine in ENGINES.values() if isinstance(engine.options, type)]
    others = [engine for engine in ENGINES.values() if engine not in shared]
    parts = [
        HEAD,
        role_section(roles[0]),
        *map(nested_section, nested()),
        OPTIONS_HEAD,
        *map(engine_section, others),
        "### Shared by the engines with GPUs\n\n" + table(OPTION, option_rows(CommonOptions)),
        *map(engine_section, shared),
        *(role_section(role) for role in roles[1:]),
    ]
    return "\n".join(filter(None, parts))


def main(arguments: Sequence[str]) -> int:
    """Write the files, or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file is not current")
    check, status = parser.parse_args(arguments).check, 0
    specs = render_specs(SPECS.read_text(encoding="utf-8"))
    for file, text in ((SPECS, specs), (PAGE, render()), (CARDS, render_cards())):
        if not check:
            file.write_text(text, encoding="utf-8")
        elif not file.is_file() or file.read_text(encoding="utf-8") != text:
            tool = ".venv/bin/python tools/make_reference.py"
            print(f"{file.relative_to(ROOT)} is not current: run {tool}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
