"""Which metrics there are: of a release, by its metrics.json; of others, by what their programs serve.

And which our dashboard asks for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from places import REPOSITORY

# etcd's was scraped; those of exporters are in their published documentation.
OTHERS = {
    "up",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_server_has_leader",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
    "node_infiniband_port_data_received_bytes_total",
    "node_infiniband_port_data_transmitted_bytes_total",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_PROF_NVLINK_RX_BYTES",
    "DCGM_FI_PROF_NVLINK_TX_BYTES",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "gnatsd_varz_connections",
}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


@cache
def known(release: str) -> frozenset[str]:
    """Return the names of all series of a release's processes."""
    path = REPOSITORY / "configs" / "releases" / release / "metrics.json"
    parts = json.loads(path.read_text(encoding="utf-8")).values()
    return frozenset(
        name + suffix
        for part in parts
        for name, facts in part.items()
        for suffix in SUFFIXES.get(facts.get("type"), ("",))
    )


DASHBOARD = REPOSITORY / "configs" / "grafana" / "wideep.json"


def panels() -> Iterator[dict[str, Any]]:
    """Return the panels of the dashboard that show something."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        yield from (one for one in (panel, *panel.get("panels", ())) if one["type"] != "row")


def expressions(panel: dict[str, Any]) -> list[str]:
    """Return what a panel asks for, its window filled in."""
    return [target["expr"].replace("$__rate_interval", "1m") for target in panel["targets"]]
