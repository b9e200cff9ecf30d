"""Which metrics there are: of a release, by its metrics.json; of others, by what their programs serve."""

from __future__ import annotations

import json
from functools import cache

from places import REPOSITORY

# etcd's was scraped; those of exporters are in their published documentation.
OTHERS = {
    "up",
    "etcd_server_has_leader",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
    "DCGM_FI_DEV_XID_ERRORS",
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
