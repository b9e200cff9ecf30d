"""Between hosts: addresses resolve, equally everywhere, have a route, and their ports are within reach."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Host, PeerView, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def _is_literal(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _loopback(addresses: Sequence[str]) -> bool:
    return any(ipaddress.ip_address(a.split("%")[0]).is_loopback for a in addresses)


def names(hosts: Sequence[Host], _settings: Settings) -> Iterator[Check]:
    """Each host's view of each peer against what most hosts see."""
    views: dict[str, Counter[tuple[str, ...]]] = {}
    for host in hosts:
        for peer in host.facts.peers:
            if peer.name != host.name and peer.resolved:
                views.setdefault(peer.address, Counter())[tuple(sorted(peer.resolved))] += 1
    common = {address: seen.most_common(1)[0][0] for address, seen in views.items()}
    for host in hosts:
        if not host.facts.peers:
            continue
        bad = [check for peer in host.facts.peers for check in _peer(host, peer, common)]
        yield from bad
        if not bad:
            yield Check(host.name, "names", "ok", f"{len(host.facts.peers)} peers resolve and have a route")


def _peer(host: Host, peer: PeerView, common: dict[str, tuple[str, ...]]) -> Iterator[Check]:
    expected = f"the address of {peer.name}"
    literal = _is_literal(peer.address)
    if peer.error and not peer.resolved:
        remedy = f"add {peer.address} to DNS or /etc/hosts, or set wideep_address of {peer.name} to its IP"
        seen = f"{peer.address} does not resolve: {peer.error}"
        yield Check(host.name, "names", "fail", seen, expected, remedy)
    elif peer.error:
        remedy = (
            "check routes and interfaces between these hosts, or set wideep_address to one that is routed"
        )
        yield Check(host.name, "names", "fail", peer.error, f"a route to {peer.name}", remedy)
    elif not literal and peer.address != "localhost" and _loopback(peer.resolved):
        if peer.name == host.name:
            return  # Debian's 127.0.1.1 for the own name: others do not see it
        remedy = (
            f"take {peer.address} off the loopback line of /etc/hosts, or set wideep_address of {peer.name} "
            "to its IP"
        )
        seen = f"{peer.address} resolves to {', '.join(peer.resolved)}, this host itself"
        yield Check(host.name, "names", "fail", seen, expected, remedy)
    elif not literal and peer.name != host.name and set(peer.resolved).isdisjoint(common[peer.address]):
        remedy = f"make /etc/hosts and DNS agree, or set wideep_address of {peer.name} to an IP address"
        seen = f"{peer.address} resolves to {', '.join(peer.resolved)}"
        yield Check(
            host.name,
            "names",
            "warn",
            seen,
            f"{', '.join(common[peer.address])}, as most hosts see it",
            remedy,
        )


def interface(host: Host, _settings: Settings) -> Iterator[Check]:
    """NCCL and Gloo meet over wideep_interface: it is the one of the route to the replica's other ranks."""
    needs = host.needs.gpu
    if not needs or not needs.ranks:
        return
    ways = {peer.name: peer for peer in host.facts.peers if peer.name in needs.ranks and peer.interface}
    there = sorted(set(host.facts.addresses.values()))
    routes = sorted({peer.interface for peer in ways.values()})
    expected = "the interface of the route to the replica's other ranks"
    instead = f"set wideep_interface of this host to {routes[0]}" if routes else "correct wideep_interface"
    if needs.interface and needs.interface not in there:
        seen = f"no {needs.interface} with an address; the host has {', '.join(there)}"
        yield Check(host.name, "interface", "fail", seen, expected, instead)
    elif needs.interface and routes and needs.interface not in routes:
        peer = next(iter(ways.values()))
        seen = f"{needs.interface}, and the way to {peer.name} ({peer.address}) is {peer.interface}"
        remedy = f"{instead}, or wideep_address of {peer.name} to its address on {needs.interface}"
        yield Check(host.name, "interface", "fail", seen, expected, remedy)
    elif "lo" in routes:
        seen = f"the way to {', '.join(ways)} is lo: ranks would meet nobody"
        yield Check(host.name, "interface", "fail", seen, expected, "correct wideep_address of these hosts")
    elif routes:
        yield Check(host.name, "interface", "ok", needs.interface or f"{routes[0]}, found", expected)


def reach(hosts: Sequence[Host], _settings: Settings) -> Iterator[Check]:
    """Ports of peers, tried before anything listens: a refused connection is an answer, silence is none."""
    for host in hosts:
        tried = {need.name: need.ports for need in host.needs.peers if need.ports}
        blocked = [peer for peer in host.facts.peers if peer.blocked]
        for peer in blocked:
            errors = dict.fromkeys(port.error for port in peer.blocked)
            ports = ",".join(str(port.port) for port in peer.blocked)
            remedy = (
                f"let TCP from {host.name} to {peer.name} ({peer.address}) through, ports {ports} and"
                " the others of its range: in the hosts' firewalls (nft list ruleset, firewall-cmd)"
                " and between networks"
            )
            seen = f"{peer.name} port {ports}: {', '.join(errors)}"
            yield Check(host.name, "reach", "fail", seen, "within reach, open or refused", remedy)
        if tried and not blocked:
            count = sum(len(ports) for ports in tried.values())
            yield Check(host.name, "reach", "ok", f"{count} ports of {len(tried)} peers are within reach")
