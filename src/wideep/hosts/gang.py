"""The ranks of a replica on several hosts are a gang: the command of each runs under `wideep.programs.rank`.

For replicas in which more than one node has a service of its own, and for those of one node whose engine may
lose a process without its notice (`Engine.parts`): a gang of one. A launch without a command belongs to a
rank whose processes the head's command starts (mpirun): it calls our launch agent as if it were ssh, the
watchers carry its words to the rank, and nobody has to log in anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from wideep.deployment.launch import Gang, Launch, Listener, Relay, Route
from wideep.deployment.model import Node, Replica
from wideep.deployment.reach import meets
from wideep.deployment.site import Site
from wideep.programs.rank import ROUTE

# What a watcher needs after the last child was told to end: the kill of the others, the clean-up.
MARGIN_S = Gang.break_timeout_s + 15


def family(launches: Sequence[Launch]) -> str:
    """Return what all ranks of a replica must agree on: the plan of all of them, in rank order."""
    return hashlib.sha256("".join(launch.digest for launch in launches).encode()).hexdigest()


def bind(
    site: Site,
    replica: Replica,
    node: Node,
    launch: Launch,
    family: str,
    *,
    watched: tuple[str, ...] | None = None,
    parts: tuple[str, ...] = (),
) -> Launch:
    """Return the launch of a rank as a part of its replica. The engine's words stay at the end of argv.

    watched: where the head's command starts the other ranks' processes, what runs below it; parts: of the
        worker itself (see `Engine`).
    """
    place, head = site.gang_dir(launch.name), replica.head
    routed = tuple(name for name, value in launch.env.items() if ROUTE in value)
    hosts = tuple(each.host.address for each in replica.nodes)
    gang = Gang(
        name=f"{site.deployment.settings.deployment}/{replica.name}",
        family=family,
        rank=node.rank,
        ranks=tuple(each.host.name for each in replica.nodes),
        address=head.host.address,
        port=head.port("gang"),
        status_file=f"{place}/state.json",
        stop_timeout_s=launch.stop_timeout_s,
        route=Route(meets(replica, node).host.address, routed) if routed else None,
        relay=Relay(site.launch_socket(launch.name), hosts) if watched is not None and node == head else None,
        watched=watched or (),
        parts=parts,
    )
    program = site.program("rank")
    words = (site.python, "-IS", program.path, "--launch", site.launch_json(launch.name))
    ports = (Listener("gang", head.host.address, head.port("gang")),) if node == head else ()
    return replace(
        launch,
        argv=(*words, "--", *launch.argv) if launch.argv else words,
        programs=(program, *launch.programs),
        directories=(*launch.directories, place),
        ports=(*launch.ports, *ports),
        stop_timeout_s=launch.stop_timeout_s + MARGIN_S,
        gang=gang,
    )
