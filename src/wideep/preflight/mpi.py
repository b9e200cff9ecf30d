"""Open MPI, where it starts the ranks of a replica on several hosts: there, and of one version."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def programs(host: Host, _settings: Settings) -> Iterator[Check]:
    """What the service starts, and what mpirun starts on this host, is where they look for it."""
    needs, facts = host.needs.mpi, host.facts.mpi
    if not needs or not facts:
        return
    wanted = [" or ".join(names) for names in needs.programs]
    missing = [
        text
        for text, names in zip(wanted, needs.programs, strict=True)
        if not any(facts.found.get(name) for name in names)
    ]
    expected = f"{', '.join(wanted)} in {needs.path}"
    if missing:
        remedy = (
            "install Open MPI, and the engine in the environment of wideep_python; or name mpirun's path in"
            f" wideep_pools.<pool>.options.{needs.engine}.mpirun; or set wideep_runtime: container"
        )
        yield Check(host.name, "mpi", "fail", f"no {', no '.join(missing)}", expected, remedy)
    else:
        yield Check(host.name, "mpi", "ok", facts.version or "there", expected)


def alike(hosts: Sequence[Host], _settings: Settings) -> Iterator[Check]:
    """Mpirun and its daemons understand each other in one version only."""
    known = {host.name: host.facts.mpi.version for host in hosts if host.facts.mpi}
    versions = Counter(version for version in known.values() if version)
    if not versions:
        return
    common, count = versions.most_common(1)[0]
    for name, version in known.items():
        if version not in ("", common):
            remedy = "install the same version on all hosts of a replica"
            yield Check(name, "same mpi", "fail", version, f"{common}, as on {count} hosts", remedy)
