"""Names of the environment variables that the programs of a release read.

Python sources say them between quotes. The runtime is a compiled library, where texts stand one after the
other without an end: there a name ends where the next begins, or where code or a table of the library points
to. That is a guess: a few names have a letter too many or too few.
"""

from __future__ import annotations

import json
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

from release_tool.folder import Release
from release_tool.locks import environment, site_packages

# Of other programs only what they are configured by.
PREFIXES = ("DYN_", "NATS_", "ETCD_", "SGLANG_")
QUOTED = re.compile(r"""["']((?:DYN|NATS|ETCD|SGLANG)_[A-Z0-9_]*[A-Z0-9])["']""")
DECLARED = re.compile(r"^ {4}(SGLANG_[A-Z0-9_]+) *=", re.M)  # sglang/srt/environ.py
NAME = re.compile(rb"(?<!_)(?:DYN|NATS|ETCD)_(?:(?!(?<!_)(?:DYN|NATS|ETCD)_)[A-Z0-9_]){1,80}")
# lea REGISTER, [rip + distance]
LEA = re.compile(rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]")
SHT_RELA, R_RELATIVE = 4, 8
LONGEST = 80


def of_sources(folders: Iterable[Path]) -> set[str]:
    """Return the names between quotes in Python sources; tests of the packages are left out."""
    found: set[str] = set()
    for folder in folders:
        for path in folder.rglob("*.py"):
            if "tests" in path.parts:
                continue
            source = path.read_text(encoding="utf-8", errors="replace")
            found.update(QUOTED.findall(source))
            if path.name == "environ.py":
                found.update(DECLARED.findall(source))
    return found


def of_library(path: Path) -> set[str]:
    """Return the names in a compiled library (ELF, 64 bit, x86)."""
    data = path.read_bytes()
    starts, sections = _starts(data)
    found = set()
    for offset, address, size in sections:
        for match in NAME.finditer(data, offset, offset + size):
            place = match.start() - offset + address
            following = bisect_right(starts, place)
            end = starts[following] - place if following < len(starts) else LONGEST
            name = data[match.start() : match.end()][:end].decode()
            found.add(name)
            # Its last letter may begin the next text: `HOSTServer` is HOST or HOSTS.
            if len(name) < end and data[match.end() : match.end() + 1].islower():
                found.add(name[:-1])
    return {name for name in found if not name.endswith("_") and not _piece(name, found)}


def _piece(name: str, names: set[str]) -> bool:
    """Whether it is what a comparison by 16 bytes at once has of a longer name."""
    return len(name) % 16 == 0 and any(
        other.startswith(name) and len(other) > len(name) + 1 for other in names
    )


def _starts(data: bytes) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Return the addresses that code and tables point to, and (offset, address, size) of read-only data."""
    table, entry, count, names = struct.unpack_from("<Q10xHHH", data, 0x28)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + entry * i) for i in range(count)]
    texts = headers[names][4]
    found: set[int] = set()
    constants = []
    for name, kind, _, address, offset, size, *_ in headers:
        title = data[texts + name : data.index(b"\0", texts + name)]
        if kind == SHT_RELA:
            for _, info, addend in struct.iter_unpack("<QQq", data[offset : offset + size]):
                if info & 0xFFFFFFFF == R_RELATIVE:
                    found.add(addend)
        elif title == b".text":
            for match in LEA.finditer(data, offset, offset + size):
                (distance,) = struct.unpack_from("<i", data, match.end())
                found.add(address + match.end() + 4 - offset + distance)
        elif title.startswith(b".rodata"):
            constants.append((offset, address, size))
    return sorted(found), constants


def make_environment(release: Release) -> Path:
    """Write environment.json of a release: names only, by the package that reads them."""
    packages = site_packages(environment(release, "ai-dynamo-sglang"))
    own = of_sources([packages / "dynamo"])
    for library in (packages / "dynamo").glob("_core*.so"):
        own |= of_library(library)
    engine = {name for name in of_sources([packages / "sglang"]) if name.startswith("SGLANG_")}
    found = {
        "dynamo": sorted(name for name in own if name.startswith(PREFIXES)),
        "sglang": sorted(engine),
    }
    path = release.path / "environment.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path
