"""What is in a model directory, as far as its names, its index and the headers of its weights tell."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

MAX_HEADER = 100 * 1024 * 1024  # the format's own limit
PARTS = ".wideep/partial"  # of a download (model_download.py)
# What the model is, in small files: the same on all hosts.
TOLD = ("config.json", "model.safetensors.index.json", "tokenizer.json")
# A quantization may name every expert of every layer; what is said of the first is said of all.
OTHER_EXPERT = re.compile(r"\.experts\.[1-9]\d*(\.|$)")


def inspect(path: Path) -> dict[str, Any]:
    """Return names of the entries, and what is wrong with the weights.

    missing: files that the index names in vain. truncated: `name (N of M bytes)` of safetensors files that
    are shorter than their header says. bytes: of all files and of parts of a download. free: on the disk,
    also where the directory does not exist yet. error: why the directory or its index cannot be read.
    config: config.json; quantization: hf_quant_config.json. digest: of the small files that say what it is.
    """
    facts: dict[str, Any] = {"path": str(path), "files": [], "missing": [], "truncated": [], "error": ""}
    facts.update(bytes=_bytes(path), free=_free(path), digest=_digest(path))
    facts.update(config=_told(path / "config.json"), quantization=_told(path / "hf_quant_config.json"))
    try:
        facts["files"] = sorted(entry.name for entry in path.iterdir())
        index = path / "model.safetensors.index.json"
        named: set[str] = set()
        if index.is_file():
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            facts["missing"] = sorted(named - set(facts["files"]))
        weights = (named & set(facts["files"])) | {n for n in facts["files"] if n.endswith(".safetensors")}
        for name in sorted(weights):
            size, expected = (path / name).stat().st_size, _expected_size(path / name)
            if size < expected:
                facts["truncated"].append(f"{name} ({size} of {expected} bytes)")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        facts["error"] = str(error)
    return facts


def differing(path: str, digests: dict[str, str]) -> list[str]:
    """Return the files of a directory that are missing or have another SHA-256, sorted."""
    return sorted(name for name, digest in digests.items() if _sha256(Path(path) / name) != digest)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def _told(path: Path) -> dict[str, Any] | None:
    """Return a JSON object without what repeats itself; None where it cannot be read."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _shortened(told) if isinstance(told, dict) else None


def _shortened(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _shortened(value) for name, value in told.items() if not OTHER_EXPERT.search(name)}
    if isinstance(told, list):
        return [value for value in told if not (isinstance(value, str) and OTHER_EXPERT.search(value))]
    return told


def _digest(path: Path) -> str:
    """Return a digest of the files of TOLD that are there; empty where none is."""
    content = hashlib.sha256()
    there = False
    for name in TOLD:
        try:
            data = (path / name).read_bytes()
        except OSError:
            continue
        there = True
        content.update(f"{name} {len(data)}\n".encode() + data)
    return content.hexdigest()[:16] if there else ""


def _expected_size(path: Path) -> int:
    """Return the size in bytes that the header of a safetensors file gives it; 0 where it has no header."""
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > MAX_HEADER:
            return 8 if len(start) < 8 else 0
        header = file.read(length)
    if len(header) < length:
        return 8 + length
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return 0
    return 8 + length + max(ends, default=0)


def _bytes(path: Path) -> int:
    total = 0
    for folder in (path, path / PARTS):
        try:
            total += sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
        except OSError:
            continue
    return total


def _free(path: Path) -> int:
    """Return the free bytes of the file system that the directory is on, or will be."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        room = os.statvfs(place)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize
