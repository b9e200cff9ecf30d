"""InfiniBand and RoCE devices of a host, read from /sys without commands."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ansible_collections.wideep.dynamo.plugins.module_utils.kernel_facts import first_line


def rdma(root: Path = Path("/")) -> list[dict[str, Any]]:
    """Return a row for each port of each device.

    state, physical: ACTIVE, LinkUp, ... rate: Gbit/s. usable: its device node can be opened by this user.
    gids: those in use, as index, type (IB/RoCE v1, RoCE v2), ipv4 (made from an IPv4 address).
    """
    devices = sorted((root / "sys/class/infiniband").glob("*"), key=lambda path: _natural(path.name))
    return [
        _port(root, device, port)
        for device in devices
        for port in sorted((device / "ports").glob("*"), key=lambda path: int(path.name))
    ]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _port(root: Path, device: Path, port: Path) -> dict[str, Any]:
    def value(name: str) -> str:
        # `4: ACTIVE` -> `ACTIVE`
        return first_line(port / name).rpartition(": ")[2]

    netdev = next((path.name for path in sorted((device / "device/net").glob("*"))), "")
    rate = re.match(r"[\d.]+", first_line(port / "rate"))
    numa = first_line(device / "device/numa_node")
    mtu = first_line(root / "sys/class/net" / netdev / "mtu") if netdev else ""
    driver = device / "device/driver"
    return {
        "name": device.name,
        "port": int(port.name),
        "state": value("state"),
        "physical": value("phys_state"),
        "rate": float(rate.group()) if rate else 0.0,
        "link": {"InfiniBand": "ib", "Ethernet": "roce"}.get(value("link_layer"), ""),
        "netdev": netdev,
        "mtu": int(mtu) if mtu.isdigit() else 0,
        "numa": int(numa) if numa.isdigit() else -1,
        "usable": _usable(root, device.name),
        "driver": driver.resolve().name if driver.exists() else "",
        "firmware": first_line(device / "fw_ver"),
        "gids": _gids(port),
    }


def _usable(root: Path, device: str) -> bool:
    nodes = (path.parent.name for path in (root / "sys/class/infiniband_verbs").glob("*/ibdev"))
    mine = [n for n in nodes if first_line(root / "sys/class/infiniband_verbs" / n / "ibdev") == device]
    return any(os.access(root / "dev/infiniband" / node, os.R_OK | os.W_OK) for node in mine)


def _gids(port: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted((port / "gids").glob("*"), key=lambda entry: int(entry.name)):
        gid = first_line(path)
        if not gid.strip("0:"):
            continue
        kind = first_line(port / "gid_attrs/types" / path.name)
        ipv4 = gid.startswith("0000:0000:0000:0000:0000:ffff:")
        found.append({"index": int(path.name), "type": kind, "ipv4": ipv4})
    return found
