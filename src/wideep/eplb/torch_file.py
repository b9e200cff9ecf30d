"""Reads what torch.save wrote, without torch: a zip of one pickle and the tensors' bytes.

Nothing of the file is called: its pickle may name tensors, their storages and ordered dicts, no more.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "ShortStorage": "i2",
    "IntStorage": "i4",
    "LongStorage": "i8",
    "HalfStorage": "f2",
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "BoolStorage": "?",
}


class _Storage:
    """Stands in for a class of torch's storages."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    """Return a tensor as an array; where it lay (cpu, cuda:0) says nothing here."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.zeros(size, storage.dtype)
    if min((offset, *size, *stride)) < 0 or last >= len(storage):
        raise pickle.UnpicklingError("a tensor reaches out of its storage")
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in {"torch", "torch.storage"} and name in _TYPES:
            return _Storage(name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        word, storage, key, _place, _length = pid
        if word != "storage" or not isinstance(storage, _Storage) or not str(key).isdigit():
            raise pickle.UnpicklingError("it holds something else than tensors")
        data = self._archive.read(f"{self._root}/data/{key}")
        return np.frombuffer(data, np.dtype(_TYPES[storage.kind]).newbyteorder("<"))


def load(path: Path) -> Any:
    """Return what a file holds, tensors as arrays. Raises ValueError where it is none of torch's, or odd."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(found) != 1:
                raise ValueError("no file of torch.save")
            return _Unpickler(archive, found[0].removesuffix("/data.pkl")).load()
    except (zipfile.BadZipFile, pickle.UnpicklingError, KeyError, EOFError, TypeError, IndexError) as error:
        raise ValueError(f"no file of torch.save that holds tensors alone: {error}") from error
