"""The same software on all hosts: ranks of one replica and both ends of a KV transfer speak to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideep.preflight.gpu import asked, outliers
from wideep.preflight.model import Check, Host, Settings, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wideep.preflight.gpu_model import GpuFacts, GpuNeeds


def engine(host: Host, _settings: Settings) -> Iterator[Check]:
    """An interpreter that exists already has the versions that the plan was checked for."""
    if (pair := asked(host)) is None or pair[0].python == "" or pair[1].packages is None:
        return
    needs, found = pair[0], pair[1].packages
    wrong = [
        f"{name} {found.get(name, 'missing')}"
        for name, wanted in needs.packages.items()
        if wanted and found.get(name) != wanted
    ]
    wrong += [f"{name} missing" for name in needs.modules if name not in found]
    known = (f"{name} {wanted}" for name, wanted in needs.packages.items() if wanted)
    expected = ", ".join([*known, *needs.modules])
    if wrong:
        remedy = (
            f"install them for {needs.python}, or set wideep_python of this host to an interpreter that has"
            " them: flags and rules were checked for these versions"
        )
        yield Check(host.name, "engine", "fail", ", ".join(wrong), expected, remedy)
    else:
        yield Check(host.name, "engine", "ok", expected, expected)


def _packages(_: GpuNeeds, facts: GpuFacts) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted((facts.packages or {}).items()))


def _firmware(needs: GpuNeeds, facts: GpuFacts) -> str:
    ports = [port for port in facts.rdma if port.name in needs.rdma_devices]
    return ", ".join(sorted({port.firmware for port in ports if port.firmware}))


def _module(_: GpuNeeds, facts: GpuFacts) -> str:
    return "open kernel modules" if facts.open_module else "proprietary kernel modules"


SAME: tuple[tuple[str, Status, Callable[[GpuNeeds, GpuFacts], str], str], ...] = (
    (
        "same packages",
        "fail",
        _packages,
        "install the same packages on all hosts: NCCL, NIXL and the engines talk to their own version only",
    ),
    (
        "same modules",
        "warn",
        _module,
        "install the same kind of driver on all hosts: GPUDirect and MNNVL differ between them",
    ),
    ("same kernel", "warn", lambda _, facts: facts.kernel.release, "boot all hosts into the same kernel"),
    (
        "same ofed",
        "warn",
        lambda _, facts: facts.ofed or "the kernel's own",
        "install the same DOCA-OFED on all hosts, or on none",
    ),
    (
        "same firmware",
        "warn",
        _firmware,
        "give the devices the same firmware (mlxfwmanager --query), then power-cycle the host",
    ),
)


def alike(hosts: Sequence[Host], _settings: Settings) -> Iterator[Check]:
    """Each host against most hosts of its kind, packages against all; the driver is a check of the GPUs."""
    for topic, status, value, remedy in SAME:
        for host, seen, common, count in outliers(hosts, value, of_a_kind=value is not _packages):
            yield Check(host.name, topic, status, seen or "none", f"{common}, as on {count} hosts", remedy)
