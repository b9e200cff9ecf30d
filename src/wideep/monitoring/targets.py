"""Who Prometheus scrapes: the frontends, load balancers, workers' system ports, etcd, exporters of hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wideep.deployment.launch import Launch
from wideep.deployment.model import Deployment, Host


@dataclass(frozen=True)
class Target:
    """One address with metrics, and its labels."""

    address: str
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def group(self) -> dict[str, Any]:
        """Return it as Prometheus reads it from a file."""
        return {"targets": [self.address], "labels": self.labels}


Targets = dict[str, list[Target]]


def targets(deployment: Deployment, launches: Mapping[str, Sequence[Launch]]) -> Targets:
    """Return job -> who is scraped. NATS itself has no page in Prometheus' format."""
    settings = deployment.settings
    found: Targets = {
        "frontend": [
            Target(f"{host.address}:{deployment.port(settings.frontend_port)}", {"host": host.name})
            for host in deployment.frontends
        ],
        "worker": _workers(deployment, launches),
    }
    balancers = [
        Target(f"{port.address}:{port.port}", {"host": host.name})
        for host in deployment.hosts
        for launch in launches[host.name]
        for port in launch.ports
        if (launch.component, port.purpose) == ("load_balancer", "monitor")
    ]
    if balancers:
        found["load_balancer"] = balancers
    if settings.uses_etcd:
        port = deployment.port(settings.etcd_client_port)
        found["etcd"] = [Target(f"{host.address}:{port}", {"host": host.name}) for host in deployment.control]
    gpu_hosts = [host for host in deployment.hosts if host.name in deployment.workers_of]
    for job, port, hosts in (
        ("node", settings.monitoring.node_exporter_port, deployment.hosts),
        ("dcgm", settings.monitoring.dcgm_exporter_port, gpu_hosts),
        ("nats", settings.monitoring.nats_exporter_port, deployment.control),
    ):
        if port:
            found[job] = [_exporter(host, port) for host in hosts]
    return found


def _exporter(host: Host, port: int) -> Target:
    return Target(f"{host.address}:{port}", {"host": host.name})


def _workers(deployment: Deployment, launches: Mapping[str, Sequence[Launch]]) -> list[Target]:
    """Return every rank that has a system port."""
    found = []
    for replica, node in deployment.workers:
        service = replica.service(node)
        for launch in launches[node.host.name]:
            if launch.name == service and any(port.purpose == "system" for port in launch.ports):
                labels = {
                    "host": node.host.name,
                    "pool": replica.pool,
                    "replica": replica.name,
                    "rank": str(node.rank),
                }
                found.append(Target(f"{node.host.address}:{node.port('system')}", labels))
    return found
