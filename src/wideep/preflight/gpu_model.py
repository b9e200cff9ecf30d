"""What is known and what is needed of a GPU host; the module gathers the facts in this form."""

from __future__ import annotations

from dataclasses import dataclass, field

from wideep.reference.hardware import GpuCard, hardware_cards


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds GPU memory. state_dir, service: set for services of ours."""

    pid: int
    process: str = ""
    used_mib: int | None = None
    state_dir: str = ""
    service: str = ""


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi tells it; None or empty where it does not.

    uncorrected, uncorrected_ever: memory errors since the driver was loaded, and of the GPU's life.
    unrepairable: spare rows or channels are used up. repair_pending: a reset repairs. recovery: what the
    driver asks for. slowdowns: what holds clocks down and is not normal. links_up, links_down: NVLinks.
    nics: RDMA device -> how it is connected (PIX, PXB, PHB, NODE, SYS).
    """

    index: int
    name: str = ""
    memory_mib: int | None = None
    used_mib: int | None = None
    persistence: bool | None = None
    mig: bool | None = None
    ecc: bool | None = None
    uncorrected: int | None = None
    uncorrected_ever: int | None = None
    unrepairable: bool = False
    repair_pending: bool = False
    recovery: str = ""
    slowdowns: tuple[str, ...] = ()
    fabric_state: str = ""
    fabric_status: str = ""
    fabric_health: str = ""
    links_up: int = 0
    links_down: tuple[int, ...] = ()
    nics: dict[str, str] = field(default_factory=dict)
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True)
class Gid:
    """An address of an RDMA port. type: `IB/RoCE v1` or `RoCE v2`. ipv4: made from an IPv4 address."""

    index: int
    type: str
    ipv4: bool


@dataclass(frozen=True)
class RdmaPort:
    """A port of an RDMA device. rate: Gbit/s. usable: its device node can be opened by our user.

    gids: None where the source does not tell them (ibstat).
    """

    name: str
    port: int
    state: str
    physical: str
    rate: float
    link: str
    usable: bool
    netdev: str = ""
    mtu: int = 0
    numa: int = -1
    driver: str = ""
    firmware: str = ""
    gids: tuple[Gid, ...] | None = ()


@dataclass(frozen=True)
class SharedFile:
    """A file of /dev/shm that no process holds."""

    path: str
    bytes: int


@dataclass(frozen=True)
class SharedMemory:
    """The file system /dev/shm; bytes."""

    total: int
    free: int
    unused: tuple[SharedFile, ...] = ()


@dataclass(frozen=True)
class Kernel:
    """Settings of the kernel. iommu: how it treats the GPUs. acs_bridges: those that redirect (root sees)."""

    release: str = ""
    transparent_hugepages: str = ""
    hugepages: int = 0
    hugepage_bytes: int = 0
    numa_balancing: int | None = None
    iommu: tuple[str, ...] = ()
    acs_bridges: tuple[str, ...] = ()
    shm: SharedMemory | None = None


@dataclass(frozen=True)
class Incident:
    """What DCGM found. entity, id: `GPU` 3, `Switch` 0. health: Warning or Failure. text: its own words."""

    entity: str
    id: int
    system: str
    health: str
    text: str = ""


@dataclass(frozen=True)
class Dcgm:
    """The answer of `dcgmi health -c`. error: why there is none. watched: whether health watches are on."""

    error: str = ""
    watched: bool = True
    overall: str = ""
    incidents: tuple[Incident, ...] = ()


@dataclass(frozen=True)
class GpuFacts:
    """What a GPU host told. error: why nvidia-smi tells nothing. params: of the loaded NVIDIA module.

    ofed: version of mlx5_core, where it is not the kernel's own. packages: versions that the engine's
    interpreter finds; None where it was not asked. fabric_manager, imex: state of the systemd unit, or absent
    (no such unit), or unknown (no systemd). imex_channels: device nodes by which processes share
    memory between hosts; None where the driver has none. dcgm: None where dcgmi is not installed. rdma_error,
    nvlink_error: why ibstat (asked where /sys shows no device), or nvidia-smi nvlink, did not tell all.
    """

    error: str = ""
    driver: str = ""
    cuda: str = ""
    gpus: tuple[Gpu, ...] = ()
    params: dict[str, str] = field(default_factory=dict)
    open_module: bool = False
    peermem: bool = False
    gdrcopy: bool = False
    nvswitches: int = 0
    fabric_manager: str = "unknown"
    fabric_manager_version: str = ""
    imex: str = "unknown"
    imex_channels: int | None = None
    rdma: tuple[RdmaPort, ...] = ()
    kernel: Kernel = field(default_factory=Kernel)
    rdma_error: str = ""
    nvlink_error: str = ""
    dcgm: Dcgm | None = None
    ofed: str = ""
    packages: dict[str, str] | None = None


@dataclass(frozen=True)
class GpuNeeds:
    """What the plan needs of a GPU host.

    gpus: how many, from index 0. card: its name in `configs/hardware`, empty where the inventory names none.
    own_card: the card itself where it is the operator's. link, rdma_devices, rdma_port, gid_index,
    gpu_devices: `wideep_network`. nvshmem: experts talk between hosts through NVSHMEM (DeepEP). online_eplb:
    the engine moves experts through the host's memory. GB are 10^9 bytes. python: an interpreter that exists
    already. packages: what it has to have; an empty version: the same on all hosts. modules: further
    packages of it, in any version. interface: `wideep_interface`. ranks: hosts of the same replicas that
    this one meets at the start (its head, or a rank of the head).
    """

    engine: str
    gpus: int
    card: str = ""
    min_driver: str = ""
    link: str = "none"
    rdma_devices: tuple[str, ...] = ()
    rdma_port: int = 1
    gid_index: int | None = None
    nvshmem: bool = False
    online_eplb: bool = False
    shm_gb: float = 0.0
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    interface: str = ""
    ranks: tuple[str, ...] = ()
    own_card: GpuCard | None = None
    gpu_devices: tuple[str, ...] = ()

    @property
    def system(self) -> GpuCard | None:
        """Return what is known of the GPUs; None where the inventory names no card."""
        return self.own_card or hardware_cards().get(self.card)
