"""RDMA: the devices that the inventory names, their addresses, and the ways from GPU memory to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideep.inventory.settings import EFA_NAMES
from wideep.preflight.gpu import asked, numbers, outliers, used, version
from wideep.preflight.model import Check, Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wideep.preflight.gpu_model import Gpu, GpuFacts, GpuNeeds, RdmaPort

LINKS = {"ib": "InfiniBand", "roce": "RoCE", "efa": "EFA", "": "unknown"}
# What lists a host's devices.
LISTED = {"efa": "ibv_devices"}
NEAR = {"PIX", "PXB", "C2C"}
DMABUF_KERNEL = (5, 12)
# 4096 bytes of data, RoCE's headers and checksums.
ROCE_MTU = 4200


def _ports(needs: GpuNeeds, facts: GpuFacts) -> list[RdmaPort]:
    wanted = {(name, needs.rdma_port) for name in needs.rdma_devices}
    return [port for port in facts.rdma if (port.name, port.port) in wanted]


def devices(host: Host, _settings: Settings) -> Iterator[Check]:
    """Every device of wideep_network is there, up, of the right kind, and may be opened."""
    if (pair := asked(host)) is None or not pair[0].rdma_devices:
        return
    needs, facts = pair
    expected = f"{len(needs.rdma_devices)} {LINKS.get(needs.link, needs.link)} devices, active"
    checks = list(_devices(host, needs, facts, expected))
    yield from checks
    if not checks:
        seen = f"{len(needs.rdma_devices)} devices, active"
        yield Check(host.name, "rdma", "ok", seen, expected)


def _devices(host: Host, needs: GpuNeeds, facts: GpuFacts, expected: str) -> Iterator[Check]:
    ports = _ports(needs, facts)
    there = {port.name for port in ports}
    if missing := [name for name in needs.rdma_devices if name not in there]:
        names = ", ".join(dict.fromkeys(port.name for port in facts.rdma)) or "no RDMA device"
        remedy = (
            f"correct rdma_devices of wideep_network ({LISTED.get(needs.link, 'ibdev2netdev')} lists them)"
            if facts.rdma
            else "load the driver (modprobe efa), from AWS's EFA installer"
            if needs.link == "efa"
            else "load the driver (modprobe mlx5_ib), install DOCA-OFED or rdma-core"
        )
        seen = f"no {', '.join(missing)}; the host has {names}"
        seen += f" (ibstat: {facts.rdma_error})" if facts.rdma_error else ""
        yield Check(host.name, "rdma", "fail", seen, expected, remedy)
    found: dict[tuple[str, str], list[RdmaPort]] = {}
    for port in ports:
        if problem := _fault(host, needs, port):
            found.setdefault(problem, []).append(port)
    for (fault, remedy), bad in found.items():
        yield Check(host.name, "rdma", "fail", f"{_names(bad)}: {fault}", expected, remedy)


def _names(ports: Sequence[RdmaPort]) -> str:
    return ", ".join(f"{port.name}:{port.port}" for port in ports)


def _link(port: RdmaPort) -> str:
    """Return the kind of link; that of AWS's adapters is `Unspecified` to the kernel."""
    efa = port.driver == "efa" or port.name.startswith(EFA_NAMES)
    return port.link or ("efa" if efa else "")


def _fault(host: Host, needs: GpuNeeds, port: RdmaPort) -> tuple[str, str] | None:
    """Return what is wrong with a port, and the remedy."""
    user = host.facts.user
    if port.state == "INIT":
        return "INIT, no subnet manager answers", "start opensm, or the subnet manager of the switch"
    if port.state != "ACTIVE":
        return (
            f"{port.state or 'no state'}, {port.physical or 'no link'}",
            "check cable, transceiver and switch port (ibstat, mlxlink -d DEVICE)"
            + (f"; ip link set {port.netdev} up" if port.link == "roce" and port.netdev else ""),
        )
    if (link := _link(port)) != needs.link:
        change = ", or change it (mlxconfig: LINK_TYPE_P1, 1 IB, 2 Ethernet)" if link != "efa" else ""
        return f"is {LINKS.get(link, link)}", f"set wideep_network.link to {link or 'what it is'}{change}"
    if needs.nvshmem and port.driver not in {"", "mlx5_core"}:
        return (
            f"has the driver {port.driver}, DeepEP drives NVIDIA's devices (mlx5_core) only",
            "name mlx5 devices in wideep_network.rdma_devices, or choose another a2a_backend",
        )
    if not port.usable:
        return (
            f"{user} cannot open its device node",
            f"modprobe ib_uverbs, and let {user} read and write /dev/infiniband/uverbs* (rdma-core's udev "
            "rules do; in a container pass /dev/infiniband)",
        )
    return None


def rate(host: Host, _settings: Settings) -> Iterator[Check]:
    """Each active port runs at the rate of the others, and of the usual build."""
    if (pair := asked(host)) is None:
        return
    needs, facts = pair
    card = needs.system
    active = [port for port in _ports(needs, facts) if port.state == "ACTIVE"]
    best = max((port.rate for port in active), default=0.0)
    if lower := [port for port in active if port.rate < best]:
        rates = ", ".join(f"{rate:g}" for rate in sorted({port.rate for port in lower}))
        remedy = "check cable and transceiver (mlxlink -d DEVICE); a link keeps its speed until it is reset"
        seen = f"{_names(lower)}: {rates} Gbit/s"
        yield Check(host.name, "rdma rate", "warn", seen, f"{best:g} Gbit/s, as the others", remedy)
    elif active and card and needs.link != "efa" and best < card.nic_gbit:
        remedy = "fine where the host was built so; else check cables and the switch's speed"
        expected = f"{card.nic_gbit} Gbit/s, the usual build"
        yield Check(host.name, "rdma rate", "warn", f"{best:g} Gbit/s", expected, remedy)
    elif active:
        yield Check(host.name, "rdma rate", "ok", f"{best:g} Gbit/s")


def mtu(host: Host, _settings: Settings) -> Iterator[Check]:
    """RoCE: packets of 4096 bytes and their headers go through the interface."""
    if (pair := asked(host)) is None or pair[0].link != "roce":
        return
    ports = [port for port in _ports(*pair) if port.mtu]
    expected = f"{ROCE_MTU} or more, on hosts and switches"
    if small := [port for port in ports if port.mtu < ROCE_MTU]:
        which = ", ".join(f"{port.netdev or port.name} {port.mtu}" for port in small)
        names = " ".join(dict.fromkeys(port.netdev for port in small if port.netdev)) or "INTERFACE"
        remedy = f"ip link set dev {names.split()[0]} mtu 9000 (each of {names}), and in its configuration"
        seen = f"{which}: RDMA packets of {'1024' if min(p.mtu for p in small) < 2200 else '2048'} bytes"
        yield Check(host.name, "rdma mtu", "warn", seen, expected, remedy)
    elif ports:
        yield Check(host.name, "rdma mtu", "ok", "/".join(sorted({str(p.mtu) for p in ports})), expected)


def gids(host: Host, _settings: Settings) -> Iterator[Check]:
    """RoCE: the same index is an IPv4 address of RoCE v2 on every device."""
    if (pair := asked(host)) is None or pair[0].link != "roce" or pair[0].gid_index is None:
        return
    needs, facts = pair
    wanted = needs.gid_index
    expected = "RoCE v2 over IPv4"
    known = [(port, port.gids) for port in _ports(needs, facts) if port.gids is not None]
    if unknown := [port for port in _ports(needs, facts) if port.gids is None]:
        remedy = "see /sys/class/infiniband/DEVICE/ports/PORT/{gids,gid_attrs/types} outside of the container"
        yield Check(host.name, "gid", "warn", f"{_names(unknown)}: not told by ibstat", expected, remedy)
    wrong = [
        (port, gids, next((gid for gid in gids if gid.index == wanted), None))
        for port, gids in known
        if not any(gid.index == wanted and gid.type == "RoCE v2" and gid.ipv4 for gid in gids)
    ]
    for port, gids, gid in wrong:
        right = [g.index for g in gids if g.type == "RoCE v2" and g.ipv4]
        seen = f"{port.name}: gid {wanted} is " + (
            f"{gid.type}, not from an IPv4 address" if gid and not gid.ipv4 else gid.type if gid else "empty"
        )
        remedy = (
            f"set gid_index of wideep_network to {right[0]} for this host"
            if right
            else f"give {port.netdev or 'its interface'} an IPv4 address"
        )
        yield Check(host.name, "gid", "fail", seen, expected, remedy)
    if known and not wrong:
        yield Check(host.name, "gid", "ok", f"index {wanted} on every device", expected)


def affinity(host: Host, _settings: Settings) -> Iterator[Check]:
    """Each GPU has one of the devices below its own PCI switch."""
    if (pair := asked(host)) is None:
        return
    needs, facts = pair
    mine = [gpu for gpu in used(needs, facts) if set(needs.rdma_devices) & set(gpu.nics)]
    if len(needs.rdma_devices) < needs.gpus or not mine:
        return  # shared devices cannot be beside every GPU
    if needs.gpu_devices:
        yield from _named(host, needs, mine)
        return
    far = [gpu for gpu in mine if not any(gpu.nics.get(name) in NEAR for name in needs.rdma_devices)]
    expected = "a device of wideep_network below each GPU's PCI switch (PIX, PXB)"
    if far:
        ways = sorted({gpu.nics[name] for gpu in far for name in needs.rdma_devices if name in gpu.nics})
        near = sorted({name for gpu in far for name, how in gpu.nics.items() if how in NEAR})
        remedy = (
            f"add {', '.join(near)} to rdma_devices of wideep_network"
            if near
            else "compare rdma_devices of wideep_network with nvidia-smi topo -m (virtual machines hide it)"
        )
        seen = f"{numbers(far)}: reached through {', '.join(ways)}"
        yield Check(host.name, "gpu to nic", "warn", seen, expected, remedy)
    else:
        order = _one_each(needs, mine)
        seen = f"each GPU has its own near by: gpu_devices: [{', '.join(order)}]" if order else ""
        yield Check(host.name, "gpu to nic", "ok", seen or "each GPU has one near by", expected)


def _one_each(needs: GpuNeeds, mine: Sequence[Gpu]) -> list[str]:
    """Return a device near by for each GPU, none twice; [] where the first ones found do not do."""
    order: list[str] = []
    for gpu in mine:
        near = [name for name in needs.rdma_devices if gpu.nics.get(name) in NEAR and name not in order]
        order += near[:1]
    return order if len(order) == needs.gpus else []


def _named(host: Host, needs: GpuNeeds, mine: Sequence[Gpu]) -> Iterator[Check]:
    """Judge the device that the inventory names for each GPU."""
    named = dict(enumerate(needs.gpu_devices))
    expected = "the device that gpu_devices names is below the GPU's PCI switch (PIX, PXB)"
    if far := [gpu for gpu in mine if gpu.nics.get(named.get(gpu.index, "")) not in NEAR]:
        names = [(gpu, named.get(gpu.index, "none")) for gpu in far]
        ways = ", ".join(f"{name} {gpu.nics.get(name, 'not shown')}" for gpu, name in names)
        order = _one_each(needs, mine)
        remedy = (
            f"set gpu_devices of wideep_network to [{', '.join(order)}]"
            if order
            else ("compare gpu_devices of wideep_network with nvidia-smi topo -m")
        )
        yield Check(host.name, "gpu to nic", "warn", f"{numbers(far)}: {ways}", expected, remedy)
    else:
        yield Check(host.name, "gpu to nic", "ok", "each GPU has the one that is named", expected)


def gpu_direct(host: Host, _settings: Settings) -> Iterator[Check]:
    """RDMA to and from GPU memory: nvidia_peermem, or dma-buf of the open kernel modules."""
    if (pair := asked(host)) is None or not pair[0].rdma_devices:
        return
    needs, facts = pair
    dmabuf = facts.open_module and version(facts.kernel.release)[:2] >= DMABUF_KERNEL
    module = "efa_nv_peermem" if needs.link == "efa" else "nvidia_peermem"
    expected = f"{module}, or dma-buf"
    load = f"modprobe {module}"
    load += "" if needs.link == "efa" else " (role host_tuning loads it at boot)"
    if facts.peermem:
        yield Check(host.name, "gpu direct", "ok", f"{module} is loaded", expected)
    elif not dmabuf:
        seen = "neither: data goes through the host's memory" + (", DeepEP stops" if needs.nvshmem else "")
        remedy = f"{load}, or install the open kernel modules on a kernel of 5.12 or newer"
        yield Check(host.name, "gpu direct", "fail" if needs.nvshmem else "warn", seen, expected, remedy)
    elif needs.nvshmem:
        seen = "dma-buf only; NVSHMEM wants nvidia_peermem in most builds"
        yield Check(host.name, "gpu direct", "warn", seen, "nvidia_peermem", load)
    else:
        yield Check(host.name, "gpu direct", "ok", "dma-buf", expected)


def ibgda(host: Host, _settings: Settings) -> Iterator[Check]:
    """DeepEP between hosts: the GPU rings the NIC's doorbell, or the CPU does it for it."""
    if (pair := asked(host)) is None or not pair[0].nvshmem:
        return
    facts = pair[1]
    on = facts.params.get("EnableStreamMemOPs") == "1"
    mapped = "PeerMappingOverride=1" in facts.params.get("RegistryDwords", "").replace(" ", "")
    expected = 'EnableStreamMemOPs=1 and RegistryDwords="PeerMappingOverride=1;"'
    remedy = "run playbooks/tune.yml (host_tuning_ibgda) and reboot"
    if on and mapped:
        yield Check(host.name, "ibgda", "ok", "the GPU drives the NIC", expected)
    elif facts.gdrcopy:
        seen = "driver options not set; with GDRCopy the CPU rings the doorbells: works, a little slower"
        if host.needs.container:
            remedy += "; until then let containers have it: wideep_container.options: [--device=/dev/gdrdrv]"
        yield Check(host.name, "ibgda", "warn", seen, expected, remedy)
    else:
        lacks = [
            *([] if on else ["EnableStreamMemOPs is off"]),
            *([] if mapped else ["PeerMappingOverride is off"]),
        ]
        seen = (
            f"{' and '.join(lacks)}, no GDRCopy: NVSHMEM 3.4.5 and newer fall back by themselves, slower; "
            "older ones stop at `init failed for transport: IBGDA`"
        )
        yield Check(host.name, "ibgda", "warn", seen, expected, remedy + "; or install GDRCopy (gdrdrv)")


def peer_to_peer(host: Host, _settings: Settings) -> Iterator[Check]:
    """What sends traffic between GPU and NIC the long way: a translating IOMMU, ACS on PCI bridges."""
    if (pair := asked(host)) is None or not pair[0].rdma_devices:
        return
    kernel = pair[1].kernel
    if any(kind.startswith("DMA") for kind in kernel.iommu):
        remedy = "add iommu=pt (and intel_iommu=on or amd_iommu=on) to the kernel's command line, then reboot"
        seen = f"the IOMMU translates for the GPUs ({', '.join(kernel.iommu)})"
        yield Check(host.name, "iommu", "warn", seen, "passed through (identity)", remedy)
    if kernel.acs_bridges:
        first = kernel.acs_bridges[0]
        seen = f"ACS redirects on {len(kernel.acs_bridges)} PCI bridges ({first}, ...)"
        remedy = (
            "switch ACS off in the firmware's setup, or after each boot for every bridge: "
            f"setpci -s {first} ECAP_ACS+6.w=0000"
        )
        yield Check(host.name, "acs", "warn", seen, "off on bare metal", remedy)


def alike(hosts: Sequence[Host], _settings: Settings) -> Iterator[Check]:
    """Hosts of one kind have devices of the same number, rate and MTU."""

    def build(needs: GpuNeeds, facts: GpuFacts) -> str:
        ports = [port for port in _ports(needs, facts) if port.state == "ACTIVE"]
        rates = "/".join(f"{rate:g}" for rate in sorted({port.rate for port in ports}))
        mtus = "/".join(str(mtu) for mtu in sorted({port.mtu for port in ports if port.mtu}))
        return f"{len(ports)} active at {rates or 0} Gbit/s" + (f", MTU {mtus}" if mtus else "")

    for host, seen, common, count in outliers(hosts, build):
        remedy = "a replica is as fast as its slowest host: make them equal, or pool hosts of one kind"
        yield Check(host.name, "same rdma", "warn", seen, f"{common}, as on {count} hosts", remedy)
