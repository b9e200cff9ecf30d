"""A card of one's own: made of a checkpoint's files, and what was understood of them in words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from wideep.problems import Problem, RefusedError
from wideep.reference import checkpoint
from wideep.reference.memory import WHOLE, kv_bytes_per_sequence, kv_bytes_per_token, weights
from wideep.reference.models import PARTS, ModelCard

GB = 10**9
MAX_HEADER = 100 * 1024 * 1024  # the format's own limit
DRAFT = re.compile(r"(?:^|\.)(?:mtp|nextn)(?:\.layers)?\.(\d+)\.")
CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/")


@dataclass(frozen=True)
class Checkpoint:
    """What a directory, or one config.json, has. Sizes are bytes; 0: not told.

    index: by model.safetensors.index.json. parameters: there, too, where it says so. stored: dtype -> bytes,
    by the headers of all weight files, empty where one of them is not there. names: of all weights.
    tokenizer_code: whether the tokenizer is code in the repository; None: not told.
    """

    source: Path
    config: Mapping[str, Any]
    quantization: Mapping[str, Any] | None
    index: int
    parameters: int
    stored: Mapping[str, int]
    names: tuple[str, ...]
    tokenizer_code: bool | None


@dataclass(frozen=True)
class Made:
    """text: for people. file: what was written. complete: it can be used as it is."""

    text: str
    file: Path
    complete: bool


def add(path: Path, name: str, place: Path, *, overwrite: bool = False) -> Made:
    """Write the card of a checkpoint to `place`/models, and say what was understood.

    path: a model directory, or its config.json. name: by which wideep_model finds the card; empty, that of
    the directory.

    Raises:
        RefusedError: it cannot be read, or no card can describe it, or a card of that name is there.
    """
    found = look(path)
    name = name or _name_of(found)
    try:
        reading = checkpoint.read(found.config, found.quantization)
    except (checkpoint.NoModelError, ValueError, TypeError, AttributeError, IndexError) as error:
        remedy = "name the config.json of a language model, or write a card by hand"
        raise _refused(f"no language model is recognized in it: {error}", found.source, remedy) from error
    if reading.strange:
        raise _refused(
            f"no card can describe this model: {'; '.join(reading.strange)}",
            found.source,
            "serve it without a card: its experts and its memory are not checked then",
        )
    reading = _with_names(reading, found)
    fields = {"names": [name], "source": f"config.json of {name}", **reading.card}
    file = place / "models" / f"{_stem(name)}.yml"
    text, card = _text(fields, reading), _card(fields)
    if card is None and not reading.unread:
        raise _refused("its figures make no card", found.source, "write a card by hand")
    if file.exists() and not overwrite and file.read_text(encoding="utf-8") != text:
        raise _refused("another card is there", file, "name another one with --name, or give --overwrite")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return Made(_told(name, card, reading, found, file), file, card is not None)


def look(path: Path) -> Checkpoint:
    """Return what is there. Raises RefusedError where config.json is not, or is no JSON object."""
    source = path / "config.json" if path.is_dir() else path
    config = _json(source)
    if config is None:
        raise _refused(
            "it is no JSON object that can be read", source, "name a model directory or config.json"
        )
    folder = source.parent if source.name == "config.json" else None
    index = (_json(folder / "model.safetensors.index.json") if folder else None) or {}
    metadata = index.get("metadata") or {}
    tokenizer = _json(folder / "tokenizer_config.json") if folder else None
    names, stored = _headers(folder, index) if folder else ((), {})
    return Checkpoint(
        source=source,
        config=config,
        quantization=_json(folder / "hf_quant_config.json") if folder else None,
        index=int(metadata.get("total_size") or 0),
        parameters=int(metadata.get("total_parameters") or 0),
        stored=stored,
        names=names or tuple(index.get("weight_map") or ()),
        tokenizer_code=None if tokenizer is None else "auto_map" in tokenizer,
    )


def _json(path: Path) -> dict[str, Any] | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _headers(folder: Path, index: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return names of weights and dtype -> bytes, where all weight files are there and can be read."""
    named = {str(file) for file in (index.get("weight_map") or {}).values()}
    files = {path.name for path in folder.glob("*.safetensors")}
    if not files or named - files:
        return (), {}
    names: list[str] = []
    stored: dict[str, int] = {}
    for file in sorted(named or files):
        header = _header(folder / file)
        if header is None:
            return (), {}
        for weight, entry in header.items():
            if weight != "__metadata__":
                names.append(weight)
                begin, end = entry["data_offsets"]
                stored[entry["dtype"]] = stored.get(entry["dtype"], 0) + end - begin
    return tuple(names), stored


def _header(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            told = json.loads(file.read(length)) if 0 < length <= MAX_HEADER else None
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _refused(message: str, where: Path, remedy: str) -> RefusedError:
    return RefusedError([Problem(message, str(where), remedy)])


def _name_of(found: Checkpoint) -> str:
    """Return owner/name of a hub's cache, what the configuration calls itself, or the directory's name."""
    folder = found.source.absolute().parent
    if cached := CACHED.search(f"{folder}/"):
        return "/".join(cached.groups())
    told = str(found.config.get("_name_or_path") or "")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", told):
        return told
    return re.sub(r"[\s:]", "-", folder.name if found.source.name == "config.json" else found.source.stem)


def _stem(name: str) -> str:
    return re.sub(r"[^a-z0-9.-]+", "-", name.rpartition("/")[2].lower()).strip("-.") or "model"


def _with_names(reading: checkpoint.Reading, found: Checkpoint) -> checkpoint.Reading:
    """Return the reading with what the weights' names say of draft layers, and the tokenizer of code."""
    card, notes = dict(reading.card), list(reading.notes)
    if found.names:
        after = re.compile(rf"(?:^|\.)layers\.{card.get('layers', -1)}\.")
        own = {int(match[1]) for weight in found.names if (match := DRAFT.search(weight))}
        layers = len(own) or int(any(after.search(weight) for weight in found.names))
        said = int(card.get("draft", {}).get("layers", 0))
        if layers and not said:
            card["draft"] = {"layers": layers}
        elif said and not layers:
            del card["draft"]
            notes.append("its configuration names draft layers, and the checkpoint has no weights of them")
        notes = [note for note in notes if not note.startswith("num_mtp_modules")]
    if found.tokenizer_code is not None and (found.tokenizer_code or "auto_map" not in found.config):
        card["own_code"] = found.tokenizer_code
        notes = [note for note in notes if "code of its own" not in note]
    return replace(reading, card=card, notes=tuple(notes))


def _card(fields: Mapping[str, Any]) -> ModelCard | None:
    try:
        return ModelCard.model_validate(fields)
    except ValidationError:
        return None


def _text(fields: Mapping[str, Any], reading: checkpoint.Reading) -> str:
    """Return the file: fields in a card's order, what is missing as comments in their places."""
    lines = ["# Made by `wideep model add`. docs/reference/model-cards.md describes the fields."]
    for name in ModelCard.model_fields:
        if name in fields:
            value = fields[name]
            flow = None if isinstance(value, dict | list) else False
            part = yaml.safe_dump({name: value}, sort_keys=False, default_flow_style=flow, width=110)
            lines.append(part.rstrip())
    lines += [f"# {name}:  # write it: the checkpoint's files do not say it" for name in reading.unread]
    return "\n".join(lines) + "\n"


def _told(
    name: str, card: ModelCard | None, reading: checkpoint.Reading, found: Checkpoint, file: Path
) -> str:
    if card is None:
        lines = [f"{name}: not complete", *_notes(reading)]
        lines.append(f"written to {file}: complete it there, it is refused where it is used until then")
        return "\n".join(lines)
    lines = [f"{name}: {' around '.join(card.architectures) or 'of an unnamed class'}"]
    lines += [f"  {what:<11} {said}" for what, said in _rows(card, found)]
    lines += [*_notes(reading), f"written to {file}"]
    return "\n".join(lines)


def _notes(reading: checkpoint.Reading) -> list[str]:
    missing = [f"  not told: {name}" for name in reading.unread]
    return missing + [f"  note: {note}" for note in reading.notes]


def _rows(card: ModelCard, found: Checkpoint) -> list[tuple[str, str]]:
    billion = 1e9
    layers = f"{card.layers} of {card.hidden_size}"
    if e := card.experts:
        layers += f", {card.moe_layers} with {e.routed} experts ({e.per_token} a token, {e.shared} shared)"
    kinds = {
        "cache every token": card.full_layers,
        "look at a window": card.window_layers,
        "have a state": card.linear_layers,
        **{f"keep one entry for {c.every} tokens": c.layers for c in card.attention.compressed},
        "have an index": card.attention.index.layers if card.attention.index else 0,
    }
    parts = {
        "routed experts": card.routed_parameters,
        "shared experts and routers": card.shared_parameters,
        "dense blocks": card.dense_parameters,
        "attention": sum(card.attention_parameters),
        "embedding and head": card.embedding_parameters * (1 if card.tied_embeddings else 2),
        "other": card.other_parameters,
    }
    sums = ", ".join(f"{part} {count / billion:.2f}" for part, count in parts.items() if count)
    token = kv_bytes_per_token(card, "auto", 1)
    sequence = kv_bytes_per_sequence(card, "auto", 1)
    half = kv_bytes_per_token(card, "fp8", 1)
    cache = f"{token} bytes a token in 16 bits, {half} in FP8 (attention on one GPU)"
    cache += f", and {sequence} a sequence" if sequence else ""
    used = [part for part in PARTS if _has(card, part)]
    rows = [
        ("layers", f"{layers}; {', '.join(f'{n} {kind}' for kind, n in kinds.items() if n)}"),
        (
            "parameters",
            f"{card.parameters / billion:.2f} billion, {card.active_parameters / billion:.2f} active: {sums}",
        ),
        ("formats", ", ".join(f"{part} {card.format_of(part)}" for part in used)),
        ("KV cache", cache),
    ]
    if card.draft_layers:
        rows.append(
            ("drafts", f"{card.draft_layers} layer(s), {card.draft_parameters / billion:.2f} billion more")
        )
    return [*rows, ("checkpoint", _compared(card, found))]


def _has(card: ModelCard, part: str) -> bool:
    there = {
        "experts": card.experts is not None,
        "shared": card.shared_layer > 0,
        "dense": card.dense_parameters > 0,
        "linear": card.linear_layers > 0,
        "draft": card.draft_layers > 0,
        "output": card.format_of("output") != card.format_of("attention"),
    }
    return there.get(part, True)


def _compared(card: ModelCard, found: Checkpoint) -> str:
    """Return the computed size, and how far it is from what the files say of themselves."""
    computed = sum(weights(card, WHOLE, drafts=True).values())
    said = f"{computed / GB:.2f} GB computed"
    for what, size in (("the index", found.index), ("the weight files", sum(found.stored.values()))):
        if size:
            said += f"; {size / GB:.2f} GB by {what} ({100 * (computed - size) / size:+.2f} %)"
    if found.parameters:
        total = card.parameters + card.draft_parameters
        said += f"; {found.parameters / 1e9:.2f} billion weights by the index"
        said += f" ({100 * (total - found.parameters) / found.parameters:+.2f} %)"
    if found.stored:
        types = sorted(found.stored.items(), key=lambda item: -item[1])
        said += "; stored as " + ", ".join(f"{dtype} {size / GB:.2f}" for dtype, size in types)
    return said if "by" in said else f"{said}; no index says its size"
