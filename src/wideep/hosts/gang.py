"""A replica on several hosts is one unit: each rank's command runs under `files/rank.py`.

For replicas in which more than one node has a service of its own. A launch without a command belongs to a
rank whose processes the head's command starts (mpirun): it calls our launch agent as if it were ssh, the
watchers carry its words to the rank, and nobody has to log in anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wideep import programs
from wideep.deployment.launch import File, Launch, Listener
from wideep.deployment.model import Node, Replica
from wideep.deployment.network import ROUTE
from wideep.deployment.reach import meets
from wideep.deployment.site import Site

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


def bind(
    site: Site, replica: Replica, node: Node, launch: Launch, family: str, *, relays: bool = False
) -> Launch:
    """Return the launch of a rank as a part of its replica. The engine's words stay at the end of argv.

    relays: whether the head's command starts the other ranks' processes.
    """
    place, head = site.service_dir(launch.name), replica.head
    config: dict[str, Any] = {
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
    if routed := [name for name, value in launch.env.items() if ROUTE in value]:
        config["route"] = {"to": meets(replica, node).host.address, "names": routed}
    if relays and node == head:
        config["relay"] = {
            "socket": site.launch_socket(launch.name),
            "hosts": [each.host.address for each in replica.nodes],
        }
    written = (
        File(f"{place}/rank.py", programs.source("rank.py")),
        File(f"{place}/unit.json", json.dumps(config, indent=2) + "\n"),
    )
    command = ("--", *launch.argv) if launch.argv else ()
    argv = (site.python, "-IS", written[0].path, "--config", written[1].path, *command)
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
