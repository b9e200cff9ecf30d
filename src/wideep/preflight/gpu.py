"""GPUs: the driver, how many of what kind, healthy, whole, and free; equal on all hosts."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Host, Settings, Status
from wideep.reference.hardware import cards_of, hardware_cards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wideep.preflight.gpu_model import Gpu, GpuFacts, GpuNeeds

IDLE_MIB = 1024  # a context that nobody owns up to takes less
DRIVER_ERRORS = (
    ("version mismatch", "the driver was updated under a loaded one: reboot"),
    ("not installed", "install the NVIDIA driver of the data-centre branch, {want} or newer, then reboot"),
    (
        "communicate with the NVIDIA driver",
        "load the driver (modprobe nvidia); if that fails, install it for this kernel (see dkms status)",
    ),
    (
        "device handle",
        "a GPU fell off the bus (journalctl -k | grep Xid): power-cycle the host, then replace it",
    ),
)


def version(text: str) -> tuple[int, ...]:
    """Return the numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def asked(host: Host) -> tuple[GpuNeeds, GpuFacts] | None:
    """Return needs and facts of a host that GPUs are needed on, and that has a driver that answers."""
    needs, facts = host.needs.gpu, host.facts.gpu
    return (needs, facts) if needs and facts and not facts.error else None


def used(needs: GpuNeeds, facts: GpuFacts) -> tuple[Gpu, ...]:
    """Return the GPUs that the plan uses."""
    return tuple(gpu for gpu in facts.gpus if gpu.index < needs.gpus)


def numbers(gpus: Sequence[Gpu]) -> str:
    """Return `GPU 3` or `GPUs 3, 5`."""
    return f"GPU{'s' if len(gpus) > 1 else ''} {', '.join(str(gpu.index) for gpu in gpus)}"


def driver(host: Host, _settings: Settings) -> Iterator[Check]:
    """The driver answers and is new enough for the engine's CUDA."""
    needs, facts = host.needs.gpu, host.facts.gpu
    if not needs or not facts:
        return
    expected = f"{needs.min_driver} or newer" if needs.min_driver else "a driver that answers"
    if facts.error:
        remedies = [text for sign, text in DRIVER_ERRORS if sign in facts.error]
        remedy = (remedies or ["see journalctl -k | grep -i nvrm on the host"])[0]
        remedy = remedy.format(want=needs.min_driver)
        yield Check(host.name, "driver", "fail", facts.error, expected, remedy)
    elif version(facts.driver) < version(needs.min_driver):
        remedy = f"update the driver to {needs.min_driver} or newer (and fabric manager with it), then reboot"
        seen = f"{facts.driver} (CUDA {facts.cuda})"
        yield Check(host.name, "driver", "fail", seen, f"{expected} for {needs.engine}", remedy)
    else:
        yield Check(host.name, "driver", "ok", f"{facts.driver} (CUDA {facts.cuda})", expected)


def gpus(host: Host, _settings: Settings) -> Iterator[Check]:
    """As many as the plan uses, of the kind that the inventory names."""
    if (pair := asked(host)) is None:
        return
    needs, facts = pair
    kinds = Counter(f"{gpu.name} {gpu.memory_mib} MiB" for gpu in facts.gpus)
    seen = ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "none"
    card = needs.system
    expected = f"{needs.gpus} x {card.product if card else 'GPU'}"
    mine = used(needs, facts)
    wrong = [gpu for gpu in mine if card and not card.fits(gpu.name, gpu.memory_mib or 0)]
    other = [gpu for gpu in mine if card and not card.same_build(gpu.name)]
    if len(facts.gpus) < needs.gpus:
        remedy = (
            "find the missing ones (lspci -d 10de: lists them? journalctl -k | grep Xid), or set "
            f"wideep_gpus_per_node of this host to {len(facts.gpus)}"
        )
        yield Check(host.name, "gpus", "fail", seen, expected, remedy)
    elif wrong:
        yield Check(host.name, "gpus", "fail", seen, expected, _right_card(wrong[0]))
    elif other:
        remedy = f"{_right_card(other[0])}: the same GPU has other NVLinks on another board"
        yield Check(host.name, "gpus", "warn", seen, expected, remedy)
    else:
        yield Check(host.name, "gpus", "ok", seen, expected)


def _right_card(gpu: Gpu) -> str:
    """Return how to name what a host has."""
    fitting = cards_of(gpu.name, gpu.memory_mib or 0)
    if fitting and hardware_cards()[fitting[0]].same_build(gpu.name):
        return f"set wideep_gpu of this host to {fitting[0]}, or move the host"
    return f"write a hardware card of {gpu.name} and name it in wideep_gpu of this host, or move the host"


def health(host: Host, _settings: Settings) -> Iterator[Check]:
    """Memory errors, what the driver asks for, clocks; one line for the GPUs with the same finding."""
    if (pair := asked(host)) is None:
        return
    mine = used(*pair)
    bad = False
    rows: tuple[tuple[Status, Callable[[Gpu], bool], str, str, str], ...] = (
        (
            "fail",
            lambda gpu: bool(gpu.uncorrected),
            "uncorrectable memory errors since the driver was loaded",
            "0",
            "drain the host, nvidia-smi --gpu-reset -i {first}; replace the GPU if they come back",
        ),
        (
            "fail",
            lambda gpu: gpu.unrepairable,
            "memory that can no longer be repaired",
            "spare rows left",
            "replace the GPU; until then leave the host out of the pool",
        ),
        (
            "fail",
            lambda gpu: bool(gpu.recovery),
            "the driver asks for: {recovery}",
            "no recovery action",
            "do that (reset: nvidia-smi --gpu-reset -i {first}), or reboot the host",
        ),
        (
            "warn",
            lambda gpu: gpu.repair_pending and not gpu.uncorrected,
            "a memory repair waits for a reset",
            "none pending",
            "nvidia-smi --gpu-reset -i {first} while nothing uses it, or reboot",
        ),
        (
            "warn",
            lambda gpu: bool(gpu.uncorrected_ever) and not gpu.uncorrected,
            "uncorrectable memory errors in the past, none since the driver was loaded",
            "0",
            "watch it; replace it when they come back",
        ),
        (
            "warn",
            lambda gpu: gpu.ecc is False,
            "ECC is off: errors would be wrong tokens",
            "ECC on",
            "nvidia-smi -e 1, then reboot",
        ),
        (
            "warn",
            lambda gpu: bool(gpu.slowdowns),
            "clocks are held down: {slowdowns}",
            "full clocks",
            "check cooling, power supplies and power brake; a collective is as slow as its slowest GPU",
        ),
    )
    for status, applies, text, expected, remedy in rows:
        if found := [gpu for gpu in mine if applies(gpu)]:
            bad = True
            slow = ", ".join(dict.fromkeys(name for gpu in found for name in gpu.slowdowns))
            recovery = ", ".join(dict.fromkeys(gpu.recovery for gpu in found if gpu.recovery))
            seen = f"{numbers(found)}: {text.format(slowdowns=slow, recovery=recovery)}"
            fix = remedy.format(first=",".join(str(gpu.index) for gpu in found))
            yield Check(host.name, "gpu health", status, seen, expected, fix)
    if not bad:
        yield Check(host.name, "gpu health", "ok", "no memory errors, full clocks")


def modes(host: Host, _settings: Settings) -> Iterator[Check]:
    """Whole GPUs (no MIG), and a driver that stays loaded."""
    if (pair := asked(host)) is None:
        return
    mine = used(*pair)
    if cut := [gpu for gpu in mine if gpu.mig]:
        which = ",".join(str(gpu.index) for gpu in cut)
        remedy = f"nvidia-smi -i {which} -mig 0 while nothing uses them (some drivers want a reset after it)"
        yield Check(host.name, "mig", "fail", f"MIG is on: {numbers(cut)}", "whole GPUs", remedy)
    elif mine:
        yield Check(host.name, "mig", "ok", "off")
    if lazy := [gpu for gpu in mine if gpu.persistence is False]:
        remedy = "systemctl enable --now nvidia-persistenced, or: nvidia-smi -pm 1 (role host_tuning does it)"
        seen = f"off: {numbers(lazy)}; each start waits for the driver, and NVLink trains again"
        yield Check(host.name, "persistence", "warn", seen, "on", remedy)
    elif mine:
        yield Check(host.name, "persistence", "ok", "on")


def free(host: Host, _settings: Settings) -> Iterator[Check]:
    """Nobody else on the GPUs of the plan; what runs of this deployment is welcome."""
    if (pair := asked(host)) is None:
        return
    mine = used(*pair)
    own = {host.needs.state_dir} | ({host.facts.disk.real_path} if host.facts.disk else set())
    taken = False
    for gpu in mine:
        strangers = [p for p in gpu.processes if not (p.service and p.state_dir in own)]
        for process in strangers:
            taken = True
            ours = f"{process.service} of {process.state_dir}" if process.service else ""
            what = ours or process.process or "a process"
            size = f", {process.used_mib} MiB" if process.used_mib else ""
            remedy = f"stop it (kill {process.pid}), or leave this host to it"
            seen = f"GPU {gpu.index} is used by {what} (pid {process.pid}{size})"
            yield Check(host.name, "gpu use", "fail", seen, "free, or ours", remedy)
        if not gpu.processes and (gpu.used_mib or 0) > IDLE_MIB:
            taken = True
            seen = f"GPU {gpu.index}: {gpu.used_mib} MiB in use, by no process that is visible here"
            remedy = (
                f"look for it in containers and as root (fuser -v /dev/nvidia{gpu.index}); what a crash "
                f"left goes with nvidia-smi --gpu-reset -i {gpu.index}"
            )
            yield Check(host.name, "gpu use", "warn", seen, "free, or ours", remedy)
    if mine and not taken:
        yield Check(host.name, "gpu use", "ok", "free, or ours", "free, or ours")


def outliers(
    hosts: Sequence[Host], value: Callable[[GpuNeeds, GpuFacts], str], *, of_a_kind: bool = True
) -> Iterator[tuple[Host, str, str, int]]:
    """Give host, its value, the most common one, and how many have that.

    of_a_kind: among the hosts with the same card; else among all, which prefill and decode may have apart.
    """
    values: dict[str, dict[str, str]] = {}
    for host in hosts:
        if pair := asked(host):
            values.setdefault(pair[0].card if of_a_kind else "", {})[host.name] = value(*pair)
    for host in hosts:
        if pair := asked(host):
            mine = values[pair[0].card if of_a_kind else ""]
            common, count = Counter(mine.values()).most_common(1)[0]
            if mine[host.name] != common:
                yield host, mine[host.name], common, count


def alike(hosts: Sequence[Host], _settings: Settings) -> Iterator[Check]:
    """Hosts of one kind have the same GPUs and driver."""
    for host, seen, common, count in outliers(
        hosts, lambda needs, facts: ", ".join(sorted({gpu.name for gpu in used(needs, facts)}))
    ):
        remedy = "set wideep_gpu for each kind of host, and give a replica hosts of one kind"
        yield Check(host.name, "same gpus", "fail", seen, f"{common}, as on {count} hosts", remedy)
    for host, seen, common, count in outliers(hosts, lambda _, facts: facts.driver):
        remedy = "give all hosts the same driver: ranks of one replica share its NCCL and NVLink protocols"
        yield Check(host.name, "same driver", "warn", seen, f"{common}, as on {count} hosts", remedy)
