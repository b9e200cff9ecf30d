"""Programs that run on hosts by themselves, of the standard library only, for Python 3.9 and newer.

A module here is a program of one file, a package is one that is packed into an archive. Each is installed
once on a host, under a name that has its digest: those of an earlier version stay while they are used.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

# Below the state directory.
DIRECTORY = "programs"
# The first moment that an archive can write down: its bytes tell nothing of when they were made.
EPOCH = (1980, 1, 1, 0, 0, 0)
ENTRY = "from {name}.__main__ import main\n\nmain()\n"


@dataclass(frozen=True)
class Program:
    """A program as it lies on hosts."""

    name: str
    suffix: str
    content: bytes

    @cached_property
    def digest(self) -> str:
        """Return SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def file(self) -> str:
        """Return its file's name."""
        return f"{self.name}-{self.digest[:12]}{self.suffix}"


def names() -> list[str]:
    """Return the names of all programs."""
    found = (item.name.removesuffix(".py") for item in files(__name__).iterdir() if _is_program(item))
    return sorted(found)


@cache
def program(name: str) -> Program:
    """Return a program, e.g. `deregister`."""
    room = files(__name__)
    if (package := room / name).is_dir():
        return Program(name, ".pyz", _archive(name, package))
    return Program(name, ".py", (room / f"{name}.py").read_bytes())


def _is_program(item: Traversable) -> bool:
    return item.name.endswith(".py") != item.is_dir() and not item.name.startswith("_")


def _archive(name: str, package: Traversable) -> bytes:
    """Return a zipapp. Not compressed: libraries differ in the bytes that they make of the same text."""
    parts = {f"{name}/{item.name}": item.read_bytes() for item in package.iterdir() if item.is_file()}
    parts["__main__.py"] = ENTRY.format(name=name).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(parts):
            if path.endswith(".py"):
                entry = zipfile.ZipInfo(path, EPOCH)
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                archive.writestr(entry, parts[path])
    return out.getvalue()
