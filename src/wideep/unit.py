"""A replica on several hosts is one unit: each rank's command runs under `files/rank.py`.

For replicas in which more than one node has a service of its own. Where the head starts all ranks (mpirun),
mpirun ends them all when one dies, and the service manager starts the head again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

from wideep.launch import File, Launch, Listener
from wideep.runtime import Site
from wideep.topology import Node, Replica

# Seconds, but where said otherwise.
TIMES: dict[str, Any] = {
    "heartbeat_s": 5,
    # A rank whose host is gone is seen after this; one whose process is gone at once.
    "silence_s": 30,
    # All are there, and nothing has changed for so long: ranks restarted one by one start once.
    "settle_s": 1,
    "retry_s": 1,
    "remind_s": 30,
    # From, to; doubled each time.
    "backoff_s": [1, 60],
    # A generation that ran for so long starts the back-off anew.
    "calm_s": 600,
    # The requests of a broken replica are lost, there is nothing to finish.
    "break_timeout_s": 10,
}
# What a wrapper needs after the last child was told to end: the kill of the others, the clean-up.
MARGIN_S = TIMES["break_timeout_s"] + 15


def family(launches: Sequence[Launch]) -> str:
    """Return what all ranks of a replica must agree on: the plan of all of them, in rank order."""
    return hashlib.sha256("".join(launch.digest for launch in launches).encode()).hexdigest()


def bind(site: Site, replica: Replica, node: Node, launch: Launch, family: str) -> Launch:
    """Return the launch of a rank as a part of its replica. The engine's words stay at the end of argv."""
    place, head = site.service_dir(launch.name), replica.head
    config = {
        "unit": f"{site.deployment.settings.deployment}/{replica.name}",
        "family": family,
        "service": launch.name,
        "rank": node.rank,
        "ranks": [each.host.name for each in replica.nodes],
        "address": head.host.address,
        "port": head.port("unit"),
        "cleanup": list(launch.cleanup),
        "stop_timeout_s": launch.stop_timeout_s,
        "state_file": f"{place}/unit/state.json",
        **TIMES,
    }
    script = files("wideep").joinpath("files", "rank.py").read_text(encoding="utf-8")
    written = (
        File(f"{place}/rank.py", script),
        File(f"{place}/unit.json", json.dumps(config, indent=2) + "\n"),
    )
    argv = (site.python, "-IS", written[0].path, "--config", written[1].path, "--", *launch.argv)
    ports = (Listener("unit", head.host.address, head.port("unit")),) if node == head else ()
    return replace(
        launch,
        argv=argv,
        files=(*launch.files, *written),
        # The service's user may write there, unlike in the directory of its files.
        directories=(*launch.directories, f"{place}/unit"),
        ports=(*launch.ports, *ports),
        stop_timeout_s=launch.stop_timeout_s + MARGIN_S,
    )
