"""What runs, for a person: the status table and the summary that ends `site`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from wideep.published import Published
from wideep.reports.text import duration, print_table, size

HEALTH = {True: "healthy", False: "UNHEALTHY", None: "-"}


def status_table(services: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
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
                HEALTH[row["healthy"]],
                str(row["pid"] or "-"),
                duration(row["uptime_s"]) if row["pid"] else "-",
                "-" if restarts is None else str(restarts),
                size(row["rss_bytes"]) if row["pid"] else "-",
                _ports(row),
                row["log_file"],
            )
    return print_table(table)


def missing(plan: Published, services: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str]]:
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
    plan: Published,
    services: Mapping[str, Sequence[Mapping[str, Any]]],
    instances: Sequence[Mapping[str, Any]] | None,
) -> str:
    """Return the text of the verb `status`.

    Args:
        services: host name -> services (see `status_table`).
        instances: what the frontend's /health lists, or None when it did not answer.
    """
    rows = [row for own in services.values() for row in own if row["state"] != "absent"]
    if not services:
        return ""
    if not rows:
        return (
            f"{plan.deployment}: nothing is deployed on these hosts; "
            "`make up` (or playbooks/site.yml) does it\n"
            f"looked in {_places(plan, services)}: every verb needs the variables that `up` was given\n"
        )
    unhealthy = [(host, row) for host, own in services.items() for row in own if row["healthy"] is not True]
    absent = missing(plan, services)
    text = status_table(services)
    text += "\n" + registered(plan, instances, plan.frontend_url)
    for host, row in unhealthy:
        text += f"{row['name']} on {host}: {row['state']}; {row['health_detail']}; log: {row['log_file']}\n"
    for host, name in absent:
        text += f"{name} on {host}: planned, but not there; run playbooks/site.yml\n"
    moved = _moved(plan, services)
    for host, name, deployed, planned in moved:
        text += (
            f"{name} on {host}: runs with ports {deployed}, the inventory says {planned};"
            " run playbooks/site.yml, or name the variables it was deployed with\n"
        )
    answered = services.keys() >= plan.hosts.keys()
    if instances is not None and answered and not unhealthy and not absent and not moved:
        text += f"all {len(rows)} services are healthy; frontend: {plan.frontend_url}\n"
    return text


def _moved(
    plan: Published, services: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[tuple[str, str, str, str]]:
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
    parts = []
    for pool, want in plan.expected.items():
        count = sum(
            i.get("component") == want.component
            and i.get("endpoint") == "generate"
            and want.has(i.get("namespace", ""))
            for i in instances
        )
        parts.append(f"{pool} {count} of {want.count}")
    return f"registered at the frontend: {', '.join(parts)}\n"


def summary(
    plan: Published,
    services: Mapping[str, Sequence[Mapping[str, Any]]],
    verified: Mapping[str, Any],
) -> str:
    """Return the text that ends `site`: what runs, that it serves, what to try next."""
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
    )


def removal(plan: Published, hosts: Mapping[str, Mapping[str, Any]], *, check: bool = False) -> str:
    """Return what `teardown` removed, or with `check` would remove.

    Args:
        hosts: host name -> what the module state_dir returned (`existed`, `removed`, `left`).
    """
    kept = plan.settings.keep_state
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
