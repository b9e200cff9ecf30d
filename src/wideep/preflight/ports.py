"""Ports: free, or held by the service that wants them; and out of the way of outgoing connections."""

from __future__ import annotations

import ipaddress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Ephemeral, Host, Listener, PortNeed, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


def _overlap(wanted: str, held: str) -> bool:
    """Tell whether listeners on both addresses exclude each other; names count as any address."""
    try:
        one, two = ipaddress.ip_address(wanted), ipaddress.ip_address(held)
    except ValueError:
        return True
    if one.version == two.version:
        return one == two or one.is_unspecified or two.is_unspecified
    # `::` takes the IPv4 port too, unless its owner says otherwise, which cannot be seen from outside.
    return (one if one.version == 6 else two).is_unspecified


def _is_own(listener: Listener, host: Host) -> bool:
    mine = {host.needs.state_dir} | ({host.facts.disk.real_path} if host.facts.disk else set())
    return bool(listener.state_dir) and str(PurePosixPath(listener.state_dir)) in mine


def _holder(listener: Listener) -> str:
    if not listener.pid:
        return f"a process of user {listener.user} (root sees which)"
    if listener.service:
        return f"{listener.service} of this deployment (pid {listener.pid})"
    return f"{listener.process} (pid {listener.pid}, user {listener.user}: {listener.cmdline})"


def free(host: Host, _settings: Settings) -> Iterator[Check]:
    """Every port of the plan: nobody there, or the same service of the same deployment."""
    taken = False
    others: dict[str, list[Listener]] = {}
    for need in host.needs.ports:
        for listener in host.facts.listeners:
            if listener.port != need.port or not _overlap(need.address, listener.address):
                continue
            own = _is_own(listener, host)
            if own and listener.service == need.service:
                continue
            taken = True
            if listener.service and not own:
                others.setdefault(listener.state_dir, []).append(listener)
            else:
                yield _taken(host, need, listener, own=own)
    for state_dir, held in others.items():
        yield _taken_by_deployment(host, state_dir, held)
    if host.needs.ports and not taken:
        numbers = [need.port for need in host.needs.ports]
        yield Check(host.name, "ports", "ok", f"{len(numbers)} ports free or ours", ranges(numbers))


def _taken_by_deployment(host: Host, state_dir: str, held: list[Listener]) -> Check:
    name = f" -e wideep_deployment={held[0].deployment}" if held[0].deployment else ""
    services = ", ".join(f"{name} (pid {pid})" for name, pid in {x.service: x.pid for x in held}.items())
    seen = f"ports {ranges([x.port for x in held])} are held by the deployment in {state_dir}: {services}"
    remedy = (
        "move this deployment's ports with wideep_port_offset, or remove the other one"
        f" (playbooks/teardown.yml{name} -e wideep_state_dir={state_dir})"
    )
    return Check(host.name, "ports", "fail", seen, "free", remedy)


def _taken(host: Host, need: PortNeed, listener: Listener, *, own: bool) -> Check:
    seen = f"port {need.port} on {listener.address} is held by {_holder(listener)}"
    expected = f"free for {need.service}"
    if own:
        remedy = f"ports moved between services: stop {listener.service} first (make down, then make up)"
        return Check(host.name, "ports", "warn", seen, expected, remedy)
    stop = f"stop it (kill {listener.pid})" if listener.pid else "stop it"
    remedy = f"{stop}, or move this deployment's ports with wideep_port_offset"
    return Check(host.name, "ports", "fail", seen, expected, remedy)


def _in_range(port: int, ephemeral: Ephemeral) -> bool:
    if not ephemeral.first <= port <= ephemeral.last:
        return False
    return not any(low <= port <= high for low, high in ephemeral.reserved)


def ephemeral(host: Host, _settings: Settings) -> Iterator[Check]:
    """A port that the kernel may give to an outgoing connection can be gone when the service starts."""
    span = host.facts.ephemeral
    numbers = sorted({need.port for need in host.needs.ports if _in_range(need.port, span)})
    if numbers:
        remedy = (
            f"playbooks/tune.yml (host_tuning_reserved_ports), wideep_port_offset, or: sysctl -w "
            f"net.ipv4.ip_local_reserved_ports={ranges(numbers)}"
        )
        seen = f"{ranges(numbers)} inside {span.first}-{span.last}, the range of outgoing connections"
        yield Check(host.name, "ephemeral", "warn", seen, "ports outside, or reserved", remedy)


def ranges(numbers: list[int]) -> str:
    """Return `8000-8003,9000`."""
    parts: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1] = (parts[-1][0], number)
        else:
            parts.append((number, number))
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in parts)
