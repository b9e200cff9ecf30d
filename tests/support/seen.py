"""What would be seen of hosts that have one plan, where another one is planned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from wideep.changes.look import HostLook, ServiceLook
from wideep.deployment.model import Generation
from wideep.plan import make_plan
from wideep.published import Published, read


def planned(
    groups: Mapping[str, Sequence[str]], made: Generation | None = None, **variables: Any
) -> Published:
    """Return the plan of an inventory of simulated engines on hosts of their own."""
    own = {
        "wideep_engine": "mocker",
        "wideep_gpus_per_node": 1,
        "wideep_state_dir": "/var/lib/wideep",
        "nats_install_method": "archive",
        "etcd_install_method": "archive",
    } | variables
    names = dict.fromkeys(name for members in groups.values() for name in members)
    hosts = {name: {**own, "ansible_host": f"10.0.{n // 200}.{n % 200 + 1}"} for n, name in enumerate(names)}
    return read(make_plan(groups, hosts, generation=made).publish().to_dict())


def pools(**settings: Any) -> dict[str, Any]:
    """Return the same settings for prefill and decode, as variables."""
    return {"wideep_pools": dict.fromkeys(("prefill", "decode"), settings)}


def looks(there: Published, plan: Published, down: Collection[tuple[str, str]] = ()) -> dict[str, HostLook]:
    """Return the looks at the hosts of both. down: (host, service) that do not run, as configured."""
    gangs = {
        (part.host, replica.name if len(replica.nodes) == 1 else f"{replica.name}-rank-{part.rank}"): (
            replica.name,
            part.rank,
        )
        for each in (plan, there)
        for pool in each.pools
        for replica in pool.replicas
        for part in replica.nodes
    }
    found = {}
    for host in dict.fromkeys((*there.hosts, *plan.hosts)):
        was = {one.name: one for one in there.hosts[host].services} if host in there.hosts else {}
        wanted = {one.name: one for one in plan.hosts[host].services} if host in plan.hosts else {}
        services = {}
        for name in dict.fromkeys((*wanted, *was)):
            old, new = was.get(name), wanted.get(name)
            runs = old is not None and (host, name) not in down
            changed = old is not None and new is not None and old.digest != new.digest
            gang, rank = gangs.get((host, name), ("", 0))
            services[name] = ServiceLook(
                name,
                (new or old or services[name]).component,
                "running" if runs else "stopped" if old else "absent",
                gang=gang,
                rank=rank,
                healthy=True if runs else None,
                planned=new.digest if new else "",
                configured=old.digest if old else "",
                starts=""
                if new is None or (runs and not changed)
                else "restarted: its configuration changed"
                if runs
                else "started",
                differs=("command: changed",) if changed else (),
                before=old.to_dict() if old and (changed or not new) else None,
                launch=old.to_dict() if old else None,
            )
        found[host] = HostLook(
            host,
            services=tuple(services[name] for name in wanted),
            unplanned=tuple(services[name] for name in was if name not in wanted),
        )
    return found
