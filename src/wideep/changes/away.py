"""All looks together: hosts that do not answer, and who has something to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from wideep.changes.look import HostLook, held, kept, touched
from wideep.deployment.model import Kept
from wideep.problems import Problem
from wideep.published import Expected, Member, Published

# Groups of a run: those that do not answer, those that have something to do.
AWAY, CHANGING = "wideep_away", "wideep_changing"


def check(plan: Published, looks: Mapping[str, HostLook]) -> list[Problem]:
    """Return a problem where hosts do not answer, unless the operator wants to go on without them."""
    silent = [look for look in looks.values() if not look.reachable]
    if not silent or (plan.settings.unreachable == "skip" and len(silent) < len(looks)):
        return []
    names = ", ".join(look.name for look in silent)
    why = "; ".join(
        dict.fromkeys(look.error.strip().splitlines()[-1] for look in silent if look.error.strip())
    )
    return [
        Problem(
            f"{'it cannot' if len(silent) == 1 else f'{len(silent)} hosts cannot'} be looked at: {why}",
            f"host {names}" if len(silent) == 1 else f"hosts {names}",
            "bring back what is down, take it out of the inventory, or go on without it"
            " (-e wideep_unreachable=skip)",
        )
    ]


def notes(plan: Published, looks: Mapping[str, HostLook]) -> list[Problem]:
    """Return what is left as it is, since hosts do not answer."""
    silent = [look.name for look in looks.values() if not look.reachable]
    members = [name for name in silent if any(plan.hosts[name].launches[part] for part in ("nats", "etcd"))]
    left = sorted(held(looks, _replicas(plan)))
    found = []
    if silent:
        with_it = f"; left as they are: {', '.join(left)}" if left else ""
        found.append(f"{len(silent)} of {len(looks)} hosts cannot be reached{with_it}")
    if members:
        there = [name for name, host in plan.hosts.items() if host.launches["etcd"] or host.launches["nats"]]
        found.append(f"{len(members)} of {len(there)} members of the control plane are among them")
    remedy = "run site again when they are back"
    return [Problem(text, f"hosts {', '.join(silent)}", remedy, "warning") for text in found]


def fits(plan: Published, known: Iterable[Kept]) -> bool:
    """Whether the plan gives every replica that hosts have its own name, hosts and ports already."""
    planned = {(one.name, one.hosts, one.port) for one in _replicas(plan)}
    return all((one.name, one.hosts, one.port) in planned for one in known)


def _replicas(plan: Published) -> list[Kept]:
    found = []
    for pool in plan.pools:
        for replica in pool.replicas:
            head = plan.hosts[replica.nodes[0].host]
            names = {replica.name, f"{replica.name}-rank-0"}
            ports = [p.port for one in head.launches["worker"] if one.name in names for p in one.ports]
            hosts = tuple(part.host for part in replica.nodes)
            found.append(Kept(replica.name, hosts, min(ports, default=0)))
    return found


def members(plan: Published, looks: Mapping[str, HostLook]) -> tuple[Member, ...]:
    """Return which hosts are in which groups of the run."""
    left_alone = held(looks, (*_replicas(plan), *kept(looks)))

    def group(look: HostLook) -> str:
        if not look.reachable:
            return AWAY
        return CHANGING if touched(look, left_alone) else ""

    found = (Member(name, group(look)) for name, look in looks.items())
    return tuple(one for one in found if one.group)


def expected(plan: Published, looks: Mapping[str, HostLook]) -> dict[str, Expected]:
    """Return what must register, though replicas with a host that does not answer may serve or not."""
    silent = held(looks, _replicas(plan))
    lack = {pool.name: sum(replica.name in silent for replica in pool.replicas) for pool in plan.pools}
    return {name: replace(one, may_lack=lack.get(name, 0)) for name, one in plan.expected.items()}


def frontend_url(plan: Published, looks: Mapping[str, HostLook]) -> str:
    """Return the address to ask: of the first load balancer that can be reached, else of such a frontend.

    Where none was looked at it is that of the plan.
    """
    balanced = any(host.launches["load_balancer"] for host in plan.hosts.values())
    for component in ("load_balancer", "frontend"):
        for name, host in plan.hosts.items():
            look = looks.get(name)
            if look and look.reachable and host.launches[component]:
                [launch] = host.launches[component]
                [port] = [listener.port for listener in launch.ports if listener.purpose == "http"]
                # What a frontend's own check asks has its scheme.
                own = balanced and component == "frontend"
                scheme = urlsplit(launch.health.url if own else plan.frontend_url).scheme
                return f"{scheme}://{host.address}:{port}"
    return plan.frontend_url
