"""Preflight: facts that a module gathered on the hosts, judged here, shown as one table for all of them.

One file a topic. A topic of one host is `(host, settings) -> checks`, one between hosts `(hosts, settings) ->
checks`; adding one is a function and its line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideep.preflight import (
    clock,
    container,
    dcgm,
    fabric,
    gpu,
    limits,
    machine,
    mpi,
    network,
    ports,
    rdma,
    storage,
    tls,
    versions,
)
from wideep.preflight.model import (
    Check,
    Facts,
    Host,
    Needs,
    Report,
    Settings,
    Status,
    read_facts,
    read_needs,
    read_settings,
)
from wideep.preflight.table import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "Check",
    "Facts",
    "Host",
    "Needs",
    "Report",
    "Settings",
    "Status",
    "judge",
    "read_facts",
    "read_needs",
    "read_settings",
    "render",
]

OF_A_HOST: tuple[Callable[[Host, Settings], Iterator[Check]], ...] = (
    machine.python,
    ports.free,
    ports.ephemeral,
    storage.state_dir,
    storage.disk,
    storage.model,
    storage.shape,
    tls.files,
    machine.memory,
    machine.limits,
    limits.memlock,
    network.interface,
    container.podman,
    gpu.driver,
    versions.engine,
    mpi.programs,
    gpu.gpus,
    gpu.health,
    gpu.modes,
    gpu.free,
    dcgm.health,
    fabric.manager,
    fabric.links,
    fabric.imex,
    rdma.devices,
    rdma.rate,
    rdma.mtu,
    rdma.gids,
    rdma.affinity,
    rdma.gpu_direct,
    rdma.ibgda,
    rdma.peer_to_peer,
    limits.shared_memory,
    limits.pages,
)
BETWEEN_HOSTS: tuple[Callable[[Sequence[Host], Settings], Iterator[Check]], ...] = (
    network.names,
    network.reach,
    clock.skew,
    gpu.alike,
    rdma.alike,
    versions.alike,
    storage.same_model,
    mpi.alike,
)


def judge(
    needs: Mapping[str, Needs],
    facts: Mapping[str, Facts],
    settings: Settings | None = None,
    hosts: Iterable[str] | None = None,
) -> Report:
    """Judge every host of `hosts` (default: those with needs), in this order; one without facts fails."""
    lines = settings or Settings()
    wanted = tuple(hosts if hosts is not None else needs)
    known = [Host(name, facts[name], needs.get(name, Needs())) for name in wanted if name in facts]
    missing = [name for name in wanted if name not in facts]
    remedy = "see the host's own error above: SSH access, sudo, or its Python (ansible_python_interpreter)"
    checks = [
        Check(name, "facts", "fail", "no facts from this host", "it answers", remedy) for name in missing
    ]
    checks += [check for topic in OF_A_HOST for host in known for check in topic(host, lines)]
    checks += [check for topic in BETWEEN_HOSTS for check in topic(known, lines)]
    return Report(wanted, tuple(checks))
