"""What the kernel allows and how it is set: locked memory, shared memory, pages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wideep.preflight.gpu_model import SharedMemory

GB = 10**9
HELD_PAGES_GB = 16


def memlock(host: Host, _settings: Settings) -> Iterator[Check]:
    """RDMA locks the memory that it reads and writes. As root the service manager raises the limit itself."""
    needs = host.needs.gpu
    if not needs or not needs.rdma_devices:
        return
    hard = host.facts.limits["memlock"].hard
    if host.facts.root or hard < 0:
        seen = "unlimited" if hard < 0 else "raised by the service manager"
        yield Check(host.name, "memlock", "ok", seen, "unlimited")
    else:
        remedy = (
            f"`{host.facts.user} hard memlock unlimited` in /etc/security/limits.d (role host_tuning), then "
            "log in again; or deploy as root"
        )
        yield Check(host.name, "memlock", "fail", f"{hard // 1024} KiB", "unlimited", remedy)


def shared_memory(host: Host, _settings: Settings) -> Iterator[Check]:
    """What the processes of an engine share is in /dev/shm; a full one is a bus error."""
    needs, facts = host.needs.gpu, host.facts.gpu
    if not needs or not facts or facts.kernel.shm is None:
        return
    shm, memory = facts.kernel.shm, host.facts.memory.total
    expected = f"{needs.shm_gb:g} GB"
    seen = f"{shm.free / GB:.1f} GB free of {shm.total / GB:.1f} in /dev/shm"
    if shm.total < needs.shm_gb * GB:
        remedy = (
            f"playbooks/tune.yml with host_tuning_shm_gb: {math.ceil(needs.shm_gb)}, or mount -o "
            f"remount,size={math.ceil(needs.shm_gb)}G /dev/shm and the same in /etc/fstab"
        )
        yield Check(host.name, "shm", "fail", seen, expected, remedy)
    elif memory < needs.shm_gb * GB:
        # Its size is a promise: what is written there takes memory.
        remedy = "use hosts with more memory, or set wideep_eplb.enabled: false (experts stay where they are)"
        seen = f"it may grow to {shm.total / GB:.1f} GB, the host has {memory / GB:.1f} GB of memory"
        yield Check(host.name, "shm", "fail", seen, expected, remedy)
    elif shm.free < needs.shm_gb * GB and not host.serves:
        yield Check(host.name, "shm", "warn", seen, expected, "see what uses it: ls -lS /dev/shm")
    else:
        yield Check(host.name, "shm", "ok", seen, expected)
    yield from _leftovers(host.name, shm)


def _leftovers(host: str, shm: SharedMemory) -> Iterator[Check]:
    if not shm.unused:
        return
    size = sum(file.bytes for file in shm.unused) / GB
    names = " ".join(file.path for file in shm.unused[:3])
    more = f" and {len(shm.unused) - 3} more" if shm.unused[3:] else ""
    seen = f"{size:.1f} GB in {len(shm.unused)} files that no process holds: what a crash left"
    yield Check(host, "shm files", "warn", seen, "none", f"rm {names}{more}")


def pages(host: Host, _settings: Settings) -> Iterator[Check]:
    """Huge pages and NUMA balancing."""
    needs, facts = host.needs.gpu, host.facts.gpu
    if not needs or not facts:
        return
    kernel = facts.kernel
    bad = False
    if kernel.transparent_hugepages == "never":
        bad = True
        why = f", {needs.engine}'s EPLB stops at madvise" if needs.online_eplb else ""
        seen = f"transparent huge pages: never{why}"
        remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (role host_tuning keeps it)"
        yield Check(host.name, "pages", "fail" if needs.online_eplb else "warn", seen, "madvise", remedy)
    if kernel.numa_balancing:
        bad = True
        remedy = "sysctl -w kernel.numa_balancing=0 (role host_tuning keeps it)"
        seen = "NUMA balancing moves pages under the engine"
        yield Check(host.name, "pages", "warn", seen, "kernel.numa_balancing=0", remedy)
    held = kernel.hugepages * kernel.hugepage_bytes / GB
    if held > HELD_PAGES_GB:
        bad = True
        remedy = "sysctl -w vm.nr_hugepages=0, unless something else on the host needs them"
        seen = f"{held:.0f} GB kept as huge pages, which no engine uses"
        yield Check(host.name, "pages", "warn", seen, f"at most {HELD_PAGES_GB} GB", remedy)
    if not bad:
        yield Check(
            host.name, "pages", "ok", f"transparent huge pages: {kernel.transparent_hugepages or '?'}"
        )
