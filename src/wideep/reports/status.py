"""What runs, for a person: the status table and the summary that ends `site`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from wideep.published import Expected, Published
from wideep.reports.pairs import matrix
from wideep.reports.text import duration, print_table, size

HEALTH = {True: "healthy", False: "UNHEALTHY", None: "-"}
Services = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Status:
    """What the verb `status` found.

    services: by host, with a row for each worker that is registered and not planned. findings: what is not as
    it should be, a line each; none where all is well on the hosts that were asked.
    """

    text: str
    services: Services
    findings: tuple[str, ...]


def status_table(services: Services) -> str:
    """Return one line a service.

    Args:
        services: host name -> what the module service_info returned as `services`.
    """
    table = Table(box=None, pad_edge=False)
    for column in ("HOST", "SERVICE", "STATE", "HEALTH", "PID", "UP", "RESTARTS", "MEMORY", "PORTS", "LOG"):
        table.add_column(column, no_wrap=True)
    for host, rows in services.items():
        for row in rows:
            restarts = row["restarts"]
            table.add_row(
                host,
                row["name"],
                row["state"],
                "UNPLANNED" if row.get("unplanned") else HEALTH[row["healthy"]],
                str(row["pid"] or "-"),
                duration(row["uptime_s"]) if row["pid"] else "-",
                "-" if restarts is None else str(restarts),
                size(row["rss_bytes"]) if row["pid"] else "-",
                _ports(row),
                row["log_file"],
            )
    return print_table(table)


def missing(plan: Published, services: Services) -> list[tuple[str, str]]:
    """Return (host, service) of the plan that are not on their hosts at all, of the hosts that answered."""
    return [
        (host, launch.name)
        for host, own in plan.hosts.items()
        for launch in own.services
        if host in services
        and launch.name not in {row["name"] for row in services[host] if row["state"] != "absent"}
    ]


def _places(plan: Published, hosts: Iterable[str]) -> str:
    """Return the state directories of hosts, each once."""
    return ", ".join(dict.fromkeys(plan.hosts[host].state_dir for host in hosts))


def status_report(
    plan: Published, services: Services, instances: Sequence[Mapping[str, Any]] | None
) -> Status:
    """Return what the verb `status` says.

    Args:
        services: host name -> services (see `status_table`).
        instances: what the frontend's /health lists, or None when it did not answer.
    """
    rows = [row for own in services.values() for row in own if row["state"] != "absent"]
    if not services:
        return Status("", services, ())
    if not rows:
        text = (
            f"{plan.deployment}: nothing is deployed on these hosts; "
            "`make up` (or playbooks/site.yml) does it\n"
            f"looked in {_places(plan, services)}: every verb needs the variables that `up` was given\n"
        )
        return Status(text, services, ("nothing is deployed",))
    found = [
        f"{row['name']} on {host}: {row['state']}; {row['health_detail']}; log: {row['log_file']}"
        for host, own in services.items()
        for row in own
        if row["healthy"] is not True
    ]
    found += [
        f"{name} on {host}: planned, but not there; run playbooks/site.yml"
        for host, name in missing(plan, services)
    ]
    found += [
        f"{name} on {host}: there, but not planned; playbooks/site.yml stops and removes it"
        for host, name in surplus(plan, services)
    ]
    found += [
        f"{name} on {host}: runs with ports {deployed}, the inventory says {planned};"
        " run playbooks/site.yml, or name the variables it was deployed with"
        for host, name, deployed, planned in _moved(plan, services)
    ]
    strange = strangers(plan, instances or ())
    found += [
        f"{row['name']} on {host}: {row['health_detail']}" for host, row in strange if row["healthy"] is False
    ]
    answered = services.keys() >= plan.hosts.keys()
    if instances is None:
        found.append(f"the frontend at {plan.frontend_url} does not answer")
    elif answered:
        found += [
            f"{pool}: {count} workers are registered, {plan.expected[pool].count} are planned"
            for pool, count in _counts(plan, instances).items()
            if count != plan.expected[pool].count
        ]
    shown = {host: list(own) for host, own in services.items()}
    for host, row in strange:
        shown.setdefault(host, []).append(row)
    lines = [registered(plan, instances, plan.frontend_url), *(f"{line}\n" for line in found)]
    if answered and not found:
        lines.append(f"all {len(rows)} services are healthy; frontend: {plan.frontend_url}\n")
    return Status(f"{status_table(shown)}\n{''.join(lines)}", shown, tuple(found))


def surplus(plan: Published, services: Services) -> list[tuple[str, str]]:
    """Return (host, service) that are on a host of the plan, and not in the plan."""
    return [
        (host, row["name"])
        for host, own in services.items()
        for row in own
        if row["state"] != "absent"
        and row["name"] not in {launch.name for launch in plan.hosts[host].services}
    ]


def strangers(plan: Published, instances: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return (host or address, row) of each worker that is registered and not planned.

    One in a namespace that is not ours is shown, and no fault of ours.
    """
    planned = {
        (address, listener.port): name
        for name, host in plan.hosts.items()
        for launch in host.services
        for listener in launch.ports
        for address in (host.address, listener.address)
    }
    names = {host.address: name for name, host in plan.hosts.items()}
    found = []
    for one in instances:
        place = _address(one)
        if one.get("endpoint") != "generate" or (place and place in planned):
            continue
        pools = [pool for pool, want in plan.expected.items() if _is_of(want, one)]
        # Without an address, or where another than the planned one is registered, only the count tells.
        if pools and not any(
            _is_of(plan.expected[pools[0]], i) and _address(i) in planned for i in instances
        ):
            continue
        address, port = place or ("?", 0)
        where = f"{one.get('namespace')}/{one.get('component')}"
        detail = f"instance {one.get('instance_id')} of {where} is registered and not planned"
        detail += "; stop it, or take its host back into the inventory" if pools else "; not in our namespace"
        row = {
            "name": str(one.get("component")),
            "component": "worker",
            "state": "registered",
            "healthy": False if pools else None,
            "health_detail": detail,
            "instance_id": one.get("instance_id"),
            "unplanned": True,
            "pid": 0,
            "uptime_s": 0.0,
            "restarts": None,
            "rss_bytes": 0,
            "ports": [{"port": port}] if port else [],
            "log_file": "-",
        }
        found.append((names.get(address, address), row))
    return found


def _address(instance: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return where a registered worker takes requests; None where its transport has no address."""
    transport = instance.get("transport")
    said = str(next(iter(transport.values()), "") if isinstance(transport, Mapping) else transport or "")
    address, _, port = said.split("/", 1)[0].rpartition(":")
    return (address.strip("[]"), int(port)) if address and port.isdigit() else None


def _is_of(want: Expected, instance: Mapping[str, Any]) -> bool:
    return (
        instance.get("component") == want.component
        and instance.get("endpoint") == "generate"
        and want.has(instance.get("namespace", ""))
    )


def _moved(plan: Published, services: Services) -> list[tuple[str, str, str, str]]:
    """Return (host, service, its ports, planned ports) where they differ."""
    found = []
    for host, own in plan.hosts.items():
        deployed = {row["name"]: row for row in services.get(host, ()) if row["state"] != "absent"}
        for launch in own.services:
            row = deployed.get(launch.name)
            wants = ",".join(str(listener.port) for listener in launch.ports)
            if row and (has := _ports(row)) != wants:
                found.append((host, launch.name, has, wants))
    return found


def _ports(service: Mapping[str, Any]) -> str:
    return ",".join(str(p["port"]) for p in service["ports"])


def registered(plan: Published, instances: Sequence[Mapping[str, Any]] | None, where: str) -> str:
    """Return how many workers of each pool the frontend lists. instances: None where it does not answer."""
    if instances is None:
        return f"registered: unknown, the frontend at {where} does not answer\n"
    parts = [f"{pool} {n} of {plan.expected[pool].count}" for pool, n in _counts(plan, instances).items()]
    return f"registered at the frontend: {', '.join(parts)}\n"


def _counts(plan: Published, instances: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return pool -> how many of its workers are registered."""
    return {pool: sum(_is_of(want, i) for i in instances) for pool, want in plan.expected.items()}


def summary(plan: Published, services: Services, verified: Mapping[str, Any] | None) -> str:
    """Return the text that ends `site`: what runs, that it serves, what to try next.

    verified: None where --limit left the frontends out.
    """
    if verified is None:
        left = (
            "not verified, --limit leaves the frontends out: playbooks/verify.yml (`wideep verify`) does it"
        )
        return f"{status_table(services)}\n{left}\n"
    where = f"{plan.settings.model} serves at {plan.frontend_url}"
    return f"{status_table(services)}\n{where}\n{answer(plan, verified)}\ntry next:\n{request(plan)}"


def request(plan: Published) -> str:
    """Return a command that asks for a streamed completion."""
    body = {
        "model": plan.settings.model,
        "messages": [{"role": "user", "content": "What does a router do?"}],
        "max_tokens": 40,
        "stream": True,
    }
    return (
        f"  curl -N {_tls_options(plan)}{plan.frontend_url}/v1/chat/completions \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f"    -d {shlex.quote(json.dumps(body))}\n"
    )


def _tls_options(plan: Published) -> str:
    """Return what curl needs to trust the frontend, and to be let in, on its host."""
    of = plan.settings.tls.http
    shown = {"--cacert": of.ca, "--cert": of.client_certificate, "--key": of.client_key}
    return "".join(f"{name} {path} " for name, path in shown.items() if path)


def answer(plan: Published, verified: Mapping[str, Any]) -> str:
    """Return what the verification's streamed completion was. verified: of the module verify_serving."""
    itl = f", {verified['itl_s'] * 1000:.1f} ms between tokens" if verified.get("itl_s") else ""
    mock = f" (simulated: the {plan.engine}'s words mean nothing)" if plan.simulated else ""
    return (
        f"first token after {verified['ttft_s'] * 1000:.0f} ms{itl},"
        f" {verified['completion_tokens']} tokens streamed{mock}:\n"
        f"  {' '.join(verified['text'].split())}\n"
        f"{matrix(plan, verified.get('pairs') or ())}"
    )


def removal(plan: Published, hosts: Mapping[str, Mapping[str, Any]], *, check: bool = False) -> str:
    """Return what `teardown` removed, or with `check` would remove.

    Args:
        hosts: host name -> what the module state_dir returned (`existed`, `removed`, `left`).
    """
    kept = plan.keep_state
    did = "would stop and remove" if check else "stopped and removed"
    lines = []
    for host, data in hosts.items():
        if not data["existed"]:
            lines.append(f"{host}: nothing of {plan.deployment} was there, in {_places(plan, [host])}")
            continue
        removed = f", and {', '.join(data['removed'])}" if data["removed"] else ""
        lines.append(f"{host}: {did} the services of {plan.deployment}{removed}")
        if data["left"]:
            lines.append(f"{host}: left, because wideep did not make it: {', '.join(data['left'])}")
    if kept:
        places = dict.fromkeys(plan.hosts[host].state_dir for host in hosts)
        lines.append(f"kept below {', '.join(places)}: data, logs, environments and models")
    return "\n".join(lines) + "\n"
