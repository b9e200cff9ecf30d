"""InfiniBand and RoCE devices of a host, read from /sys; where that shows none, from what ibstat says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ansible_collections.wideep.dynamo.plugins.module_utils.kernel_facts import first_line

LINKS = {"InfiniBand": "ib", "Ethernet": "roce"}


def rdma(root: Path = Path("/")) -> list[dict[str, Any]]:
    """Return a row for each port of each device; `parse_ibstat` has the same rows.

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
        "link": LINKS.get(value("link_layer"), ""),
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


# ibstat's words for a port's state are those of /sys, but for one.
STATES = {"Initializing": "INIT"}
# Comes on stderr, so anywhere in what goes to a pipe: inside a line, too.
COMPLAINT = re.compile(r"ib(?:warn|panic): \[\d+\] (?:\w+: )?(.*)\n?")


def parse_ibstat(text: str, root: Path = Path("/")) -> list[dict[str, Any]]:
    """Return the rows of `rdma` from what `ibstat` says. It knows no network interface, driver and gids.

    A device is usable when any device node can be opened: which is whose, ibstat does not tell.
    """
    nodes = (root / "dev/infiniband").glob("uverbs*")
    usable = any(os.access(node, os.R_OK | os.W_OK) for node in nodes)
    rows = []
    for device in re.split(r"^(?:CA|iWARP RNIC) '", COMPLAINT.sub("", text), flags=re.MULTILINE)[1:]:
        name, _, rest = device.partition("'")
        head, *ports = re.split(r"^\s+Port (\d+):$", rest, flags=re.MULTILINE)
        firmware = _pairs(head).get("Firmware version", "")
        rows += [
            _ibstat_port(name, int(port), firmware, _pairs(body), usable=usable)
            for port, body in zip(ports[::2], ports[1::2])
        ]
    return sorted(rows, key=lambda row: (_natural(row["name"]), row["port"]))


def _pairs(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\s+([^:\n]+): (.+)$", text, re.MULTILINE))


def _ibstat_port(
    name: str, port: int, firmware: str, values: dict[str, str], *, usable: bool
) -> dict[str, Any]:
    rate = re.match(r"[\d.]+", values.get("Rate", ""))
    state = values.get("State", "")
    return {
        "name": name,
        "port": port,
        "state": STATES.get(state, state.upper()),
        "physical": values.get("Physical state", ""),
        "rate": float(rate.group()) if rate else 0.0,
        "link": LINKS.get(values.get("Link layer", ""), ""),
        "netdev": "",
        "mtu": 0,
        "numa": -1,
        "usable": usable,
        "driver": "",
        "firmware": firmware,
        "gids": None,
    }


def ibstat_error(code: int, text: str) -> str:
    """Return why ibstat told nothing, or not all; empty where it is not installed, or all is well."""
    if complaints := COMPLAINT.findall(text):
        return str(complaints[-1])[:200]
    return "" if code in {0, 127} else " ".join(text.split())[:200] or f"exit status {code}"
