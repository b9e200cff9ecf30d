"""How often experts were asked for, by layer: as SGLang's recorder or TensorRT-LLM's statistics wrote it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wideep.eplb import torch_file
from wideep.eplb.placement import Ints
from wideep.problems import Problem, RefusedError

_KINDS = (
    "give a .pt file of SGLang's recorder (or the directory of those of per_pass and per_token), a JSON with"
    " logical_count, or the directory of TensorRT-LLM's EXPERT_STATISTIC_PATH"
)


@dataclass(frozen=True)
class Recording:
    """Tokens for each expert: rows are `layers` by their number in the model, columns experts.

    SGLang counts every layer of the model, with zeros where it has no experts; TensorRT-LLM only those that
    have some. `placed`, where known, is the expert of each slot while it was recorded.
    """

    counts: Ints
    layers: tuple[int, ...]
    source: str
    placed: Ints | None = None

    @property
    def experts(self) -> int:
        """Return how many experts a layer has."""
        return int(self.counts.shape[1])


def read(path: Path) -> Recording:
    """Return a recording. Raises RefusedError for what is none, or has counted nothing."""
    try:
        found = _read(path)
    except (OSError, ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        raise _refused(path, f"no recording of experts: {said}", _KINDS) from error
    if not found.counts.size or (found.counts < 0).any():
        raise _refused(path, "no recording of experts: it has no counts, or negative ones", _KINDS)
    if not found.counts.any():
        raise _refused(
            path, "nothing was counted", "let requests be served between the start of a record and its dump"
        )
    return found


def read_map(path: Path, layers: Sequence[int], experts: int) -> Ints:
    """Return the expert of each slot from a file that an engine begins with. Raises RefusedError."""
    try:
        data = torch_file.load(path) if path.suffix == ".pt" else json.loads(path.read_text())
        rows = data.get("physical_to_logical_map")
        placed = np.asarray([data[str(layer)] for layer in layers] if rows is None else rows, np.int64)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(
            path, f"no placement: {error}", "give a file that `wideep eplb place` wrote"
        ) from error
    known = set(range(experts))
    if placed.ndim != 2 or len(placed) != len(layers) or any(set(row) != known for row in placed.tolist()):
        message = f"it does not place each of {experts} experts in {len(layers)} layers"
        raise _refused(path, message, "give that of the same model")
    return placed


def _refused(path: Path, message: str, remedy: str) -> RefusedError:
    return RefusedError([Problem(message, str(path), remedy)])


def _read(path: Path) -> Recording:
    if path.is_dir() and (path / "meta_info.json").exists():
        return _statistics(path)
    if path.is_dir():
        return _passes([torch_file.load(file) for file in sorted(path.glob("*.pt"))])
    data = torch_file.load(path) if path.suffix == ".pt" else json.loads(path.read_text())
    if "records" in data:
        return _passes([data])
    counts = np.asarray(data["logical_count"], np.int64)
    if counts.ndim == 3:  # one for each forward pass in the recorder's buffer
        counts = counts.sum(axis=0)
    if counts.ndim != 2:
        raise ValueError(f"logical_count has {counts.ndim} dimensions, not (passes, layers, experts)")
    return Recording(counts, tuple(range(len(counts))), "SGLang")


def _passes(files: Sequence[Mapping[str, Any]]) -> Recording:
    """Add up what every rank wrote of every pass, by slot."""
    if not files:
        raise ValueError("the directory has no .pt files")
    placed = np.asarray(files[0]["last_physical_to_logical_map"], np.int64)
    if any(not np.array_equal(placed, np.asarray(file["last_physical_to_logical_map"])) for file in files):
        raise ValueError("its files were recorded with different placements")
    slots = np.zeros_like(placed)
    for file in files:
        for record in file["records"]:
            slots += np.asarray(record["global_physical_count"], np.int64)
    counts = np.zeros((len(placed), int(placed.max()) + 1), np.int64)
    np.add.at(counts, (np.arange(len(placed))[:, None], placed), slots)
    return Recording(counts, tuple(range(len(counts))), "SGLang", placed)


def _statistics(directory: Path) -> Recording:
    """Add up TensorRT-LLM's files, one a rank, whose tensors are named `<iteration>_<layer>`."""
    experts = int(json.loads((directory / "meta_info.json").read_text())["num_experts"])
    found: dict[int, Ints] = {}
    for file in sorted(directory.glob("rank*.safetensors")):
        if file.stem.removeprefix("rank").isdigit():  # others hold each token's choice
            for name, values in _safetensors(file).items():
                layer = int(name.partition("_")[2])
                found[layer] = found.get(layer, np.zeros(experts, np.int64)) + values
    if not found:
        raise ValueError("no counts in rank*.safetensors")
    layers = tuple(sorted(found))
    return Recording(np.stack([found[layer] for layer in layers]), layers, "TensorRT-LLM")


def _safetensors(path: Path) -> dict[str, Ints]:
    """Return the integers of a file: eight bytes of length, a JSON of places, the bytes."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    kinds = {"I64": "<i8", "I32": "<i4"}
    places = json.loads(data[8 : 8 + length])
    found = {}
    for name, place in places.items():
        if name != "__metadata__":
            start, stop = place["data_offsets"]
            values = np.frombuffer(data[8 + length + start : 8 + length + stop], kinds[place["dtype"]])
            found[name] = values.reshape(place["shape"]).astype(np.int64)
    return found
