"""What the kernel of a GPU host is set to, read from /proc, /sys and /dev/shm without commands."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PCI_BRIDGE = "0x0604"
ACS = 0x0D  # its number among PCI Express extended capabilities
ACS_REDIRECTS = 0b1100  # requests and completions go up to the root complex instead of to the neighbour
SMALL = 64 * 1024**2


def first_line(path: Path) -> str:
    """Return the first line of a file, or nothing."""
    try:
        return path.read_text(errors="replace").split("\n", 1)[0].strip()
    except OSError:
        return ""


def kernel(root: Path, gpu_bus_ids: Sequence[str]) -> dict[str, Any]:
    """Return the settings; sizes are in bytes, what cannot be read is empty or None."""
    numa = first_line(root / "proc/sys/kernel/numa_balancing")
    pages = first_line(root / "proc/sys/vm/nr_hugepages")
    thp = re.search(r"\[(\w+)\]", first_line(root / "sys/kernel/mm/transparent_hugepage/enabled"))
    return {
        "release": first_line(root / "proc/sys/kernel/osrelease"),
        "transparent_hugepages": thp.group(1) if thp else "",
        "hugepages": int(pages) if pages.isdigit() else 0,
        "hugepage_bytes": _hugepage_size(root),
        "numa_balancing": int(numa) if numa.isdigit() else None,
        "iommu": sorted({kind for bus in gpu_bus_ids if (kind := _iommu(root, bus))}),
        "acs_bridges": _acs_bridges(root),
        "shm": shared_memory(root),
    }


def _hugepage_size(root: Path) -> int:
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError:
        return 0
    match = re.search(r"^Hugepagesize:\s*(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0


def _iommu(root: Path, bus_id: str) -> str:
    """Return how the IOMMU treats a device: identity (passed through), DMA, DMA-FQ; empty without IOMMU."""
    return first_line(root / "sys/bus/pci/devices" / bus_id / "iommu_group/type")


def _acs_bridges(root: Path) -> list[str]:
    """Return the PCI bridges that redirect peer-to-peer traffic. Only root can read that."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if first_line(device / "class").startswith(PCI_BRIDGE):
            try:
                space = (device / "config").read_bytes()
            except OSError:
                continue
            if acs_control(space) & ACS_REDIRECTS:
                found.append(device.name)
    return found


def acs_control(space: bytes) -> int:
    """Return the ACS control register of a PCI Express configuration space, 0 where it has none."""
    offset, seen = 0x100, set()
    while 0x100 <= offset <= len(space) - 8 and offset not in seen:
        seen.add(offset)
        (head,) = struct.unpack_from("<I", space, offset)
        if head & 0xFFFF == ACS:
            return int(struct.unpack_from("<H", space, offset + 6)[0])
        offset = head >> 20
    return 0


def shared_memory(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return total, free, and `unused`: files above 64 MiB that no process holds, largest first.

    Without root only our own files are looked at: who holds those of others is not visible.
    """
    place = root / "dev/shm"
    try:
        stat = os.statvfs(place)
        files = [(path, path.stat()) for path in place.iterdir() if path.is_file()]
    except OSError:
        return None
    uid = os.geteuid()
    large = [(path, s) for path, s in files if s.st_size > SMALL and uid in (0, s.st_uid)]
    held = set(_held(root)) if large else set()
    unused = [{"path": str(path), "bytes": s.st_size} for path, s in large if s.st_ino not in held]
    return {
        "total": stat.f_blocks * stat.f_frsize,
        "free": stat.f_bavail * stat.f_frsize,
        "unused": sorted(unused, key=lambda row: row["bytes"], reverse=True),
    }


def _held(root: Path) -> Iterator[int]:
    """Give the inode of every file below a /dev/shm that a process has mapped or open."""
    for folder in (root / "proc").glob("[0-9]*"):
        try:
            with (folder / "maps").open(errors="replace") as maps:
                yield from (int(line.split()[4]) for line in maps if "/shm/" in line)
            for link in (folder / "fd").iterdir():
                if "/shm/" in os.readlink(link):  # noqa: PTH115
                    yield link.stat().st_ino
        except OSError:  # gone meanwhile, or not ours to see
            continue
