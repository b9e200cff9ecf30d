"""Which ports of which hosts a host connects to: what a firewall between them has to let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wideep.deployment.launch import Launch
from wideep.deployment.model import Deployment, Host, Node, Replica

# Component -> purposes of ports that every Dynamo process connects to.
OF_ALL = {"nats": ("client",), "etcd": ("client",)}
AMONG_CONTROL = {"nats": ("cluster",), "etcd": ("peer",)}
OF_BALANCERS = {"frontend": ("http",)}
OF_FRONTENDS = {"worker": ("rpc", "system")}
# The head's, that the other ranks of its replica find each other by.
OF_RANKS = ("gang", "dist_init", "handshake", "tcp_store")


def meets(replica: Replica, node: Node) -> Node:
    """Return the node that a rank meets first: its head; for the head, the next rank (itself if alone)."""
    return replica.head if node != replica.head else replica.nodes[min(1, len(replica.nodes) - 1)]


def reached(
    deployment: Deployment, launches: Mapping[str, Sequence[Launch]], host: Host
) -> dict[Host, set[int]]:
    """Return the hosts that a host connects to, in a fixed order, and the ports there that it has to reach.

    A decode host asks every prefill head for its KV cache's address. Here it tries one, in turn: each head is
    tried by some host and each host tries some head, and the work of all stays linear in their number.
    """
    found: dict[Host, set[int]] = {}

    def add(there: Host, wanted: Mapping[str, Sequence[str]], service: str = "") -> None:
        ports = {
            port.port
            for launch in launches[there.name]
            if service in ("", launch.name)
            for port in launch.ports
            if port.purpose in wanted.get(launch.component, ())
        }
        found.setdefault(there, set()).update(ports)

    for peer in deployment.control:
        add(peer, OF_ALL)
        if host in deployment.control:
            add(peer, AMONG_CONTROL)
    for peer in deployment.frontends:
        add(peer, {})
    heads = [replica.head for pool in deployment.pools if pool.name == "prefill" for replica in pool.replicas]
    for replica, node in deployment.workers_of.get(host.name, ()):
        add(meets(replica, node).host, {"worker": OF_RANKS}, replica.service(replica.head))
        if replica.pool == "decode" and heads:
            turn = replica.index * len(replica.nodes) + node.rank
            head = heads[turn % len(heads)].host
            if any(port.purpose == "bootstrap" for launch in launches[head.name] for port in launch.ports):
                add(head, {"worker": ("bootstrap",)})
    if host in deployment.balancers:
        for peer in deployment.frontends:
            add(peer, OF_BALANCERS)
    if host in deployment.frontends:
        for _, node in deployment.workers:
            add(node.host, OF_FRONTENDS)
    found.pop(host, None)
    return found
