"""What preflight takes and gives: facts of a host, what the plan needs of it, checks, and the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from wideep.preflight.gpu_model import GpuFacts, GpuNeeds

if TYPE_CHECKING:
    from collections.abc import Mapping

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Python:
    """An interpreter; `can_venv` is false where venv or ensurepip is missing."""

    path: str
    version: tuple[int, int, int]
    can_venv: bool


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    total: int
    available: int


@dataclass(frozen=True)
class Limit:
    """A resource limit; -1 is unlimited."""

    soft: int
    hard: int


@dataclass(frozen=True)
class Disk:
    """The nearest existing directory at or above the state directory. error: why it cannot be written.

    free, total: bytes. inodes: free ones, -1 where the file system counts none. real_path: of state_dir.
    ours: the deployment is installed there already.
    """

    path: str
    real_path: str
    error: str = ""
    free: int = 0
    total: int = 0
    inodes: int = -1
    ours: bool = False


@dataclass(frozen=True)
class ModelNeeds:
    """What the card says of the model that the plan was made for. weights: their width (bf16, fp8 …)."""

    model: str
    layers: int
    hidden_size: int
    experts: int
    weights: str


@dataclass(frozen=True)
class ModelDirectory:
    """Names of its entries. config, quantization: config.json and hf_quant_config.json, where they are JSON.

    missing: files that its index of weights names in vain. truncated: weight files that are shorter than
    their headers say. error: why it is unreadable. bytes: of what is there, parts of a download included.
    free: bytes on its disk. digest: of the small files that say what the model is.
    """

    path: str
    files: tuple[str, ...] = ()
    config: dict[str, Any] | None = None
    quantization: dict[str, Any] | None = None
    digest: str = ""
    missing: tuple[str, ...] = ()
    error: str = ""
    truncated: tuple[str, ...] = ()
    bytes: int = 0
    free: int = 0

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> ModelDirectory:
        """Return the typed form of what module_utils/model_files.py returned."""
        form: ModelDirectory = _adapter(ModelDirectory).validate_python(data)
        return form


@dataclass(frozen=True)
class Listener:
    """Who listens on a port.

    pid 0: not visible to our user. state_dir, deployment, service: set for services of ours.
    """

    address: str
    port: int
    user: str
    pid: int = 0
    process: str = ""
    cmdline: str = ""
    state_dir: str = ""
    service: str = ""
    deployment: str = ""


@dataclass(frozen=True)
class Ephemeral:
    """Ports of outgoing connections, first to last, without the reserved ranges."""

    first: int
    last: int
    reserved: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Blocked:
    """A port of a peer that a host cannot reach, and why."""

    port: int
    error: str


@dataclass(frozen=True)
class PeerView:
    """What a host makes of a peer's address: the addresses, its own interface on the way there.

    blocked: ports there that packets do not reach.
    """

    name: str
    address: str
    resolved: tuple[str, ...] = ()
    error: str = ""
    source: str = ""
    interface: str = ""
    blocked: tuple[Blocked, ...] = ()


@dataclass(frozen=True)
class Clock:
    """The host's time, read between two readings of the controller's (seconds since 1970)."""

    time: float
    elapsed_s: float = 0.0
    controller_before: float | None = None
    controller_after: float | None = None


@dataclass(frozen=True)
class Podman:
    """podman on a host ('' as version: none): its init program, its GPUs by CDI name, the plan's image."""

    version: str
    init: bool = False
    has_image: bool = False
    cdi_gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContainerNeeds:
    """What containers of a host need. gpus: by index, of all its workers."""

    program: str
    image: str
    gpus: tuple[int, ...] = ()
    init: bool = True


@dataclass(frozen=True)
class Mpi:
    """Program -> where a service would find it, empty where it would not. version: what mpirun says."""

    found: dict[str, str]
    version: str = ""


@dataclass(frozen=True)
class MpiNeeds:
    """What the ranks of a replica on several hosts are started with.

    path: the search path of the service. programs: for each the names that it may have. engine: whose ranks.
    """

    path: str
    programs: tuple[tuple[str, ...], ...] = ()
    engine: str = ""


@dataclass(frozen=True)
class FileNeed:
    """A file that services read, and that the operator puts there. private: nobody else may."""

    path: str
    private: bool = False


@dataclass(frozen=True)
class HostFile:
    """A file as its host has it. error: why its reader cannot read it. mode: permission bits."""

    path: str
    error: str = ""
    mode: int = 0


@dataclass(frozen=True)
class Facts:
    """What module host_facts gathered on one host (the part that is judged)."""

    user: str
    root: bool
    pythons: tuple[Python, ...]
    memory: Memory
    limits: dict[str, Limit]
    listeners: tuple[Listener, ...]
    ephemeral: Ephemeral
    clock: Clock
    disk: Disk | None = None
    model: ModelDirectory | None = None
    peers: tuple[PeerView, ...] = ()
    addresses: dict[str, str] = field(default_factory=dict)
    gpu: GpuFacts | None = None
    container: Podman | None = None
    mpi: Mpi | None = None
    files: tuple[HostFile, ...] = ()


@dataclass(frozen=True)
class PortNeed:
    """A TCP port that a service opens."""

    port: int
    service: str
    address: str = "0.0.0.0"  # noqa: S104


@dataclass(frozen=True)
class Peer:
    """A host that is connected to, by its inventory name and the name or address that is used.

    ports: TCP ports there that have to be within reach.
    """

    name: str
    address: str = ""
    ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Needs:
    """What the plan puts on one host. GB are 10^9 bytes. gpu: where a real engine runs.

    model_gb: weights that are downloaded to model_path; 0: it must be there. model: None without a card.
    files: for TLS. user: who reads them; empty: the user that Ansible acts as.
    """

    ports: tuple[PortNeed, ...] = ()
    peers: tuple[Peer, ...] = ()
    state_dir: str = ""
    disk_gb: float = 0.0
    memory_gb: float = 0.0
    model_path: str = ""
    model_gb: float = 0.0
    model: ModelNeeds | None = None
    gpu: GpuNeeds | None = None
    container: ContainerNeeds | None = None
    mpi: MpiNeeds | None = None
    files: tuple[FileNeed, ...] = ()
    user: str = ""


@dataclass(frozen=True)
class Settings:
    """Where preflight draws its lines.

    python: `auto`, or the interpreter that environments are made with. venv: environments are made at all.
    """

    python: str = "auto"
    venv: bool = True
    clock_warn_s: float = 1.0
    clock_fail_s: float = 5.0
    open_files: int = 65536


@dataclass(frozen=True)
class Host:
    """One host: its facts, and what is needed of it."""

    name: str
    facts: Facts
    needs: Needs

    @property
    def serves(self) -> bool:
        """Whether services of ours run there already."""
        return any(listener.service for listener in self.facts.listeners)


@dataclass(frozen=True)
class Check:
    """One judgement. seen, expected: for people; remedy: an instruction, empty when all is well."""

    host: str
    topic: str
    status: Status
    seen: str
    expected: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """All checks of all hosts."""

    hosts: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def failed(self) -> bool:
        """True when at least one check failed."""
        return any(check.status == "fail" for check in self.checks)

    @property
    def counts(self) -> dict[Status, int]:
        """Number of checks by status."""
        found = Counter(check.status for check in self.checks)
        return {status: found[status] for status in ("ok", "warn", "fail")}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: hosts, counts, failed, checks."""
        return {
            "hosts": list(self.hosts),
            "counts": dict(self.counts),
            "failed": self.failed,
            "checks": [asdict(check) for check in self.checks],
        }


_adapter = cache(TypeAdapter)  # built when first asked for: a plan needs none of them


def read_facts(data: Mapping[str, Any]) -> Facts:
    """Return the typed form of what host_facts returned; what is not judged is left out."""
    form: Facts = _adapter(Facts).validate_python(data)
    return form


def read_needs(data: Mapping[str, Any]) -> Needs:
    """Return the typed form of `preflight_needs`."""
    form: Needs = _adapter(Needs).validate_python(data)
    return form


def read_settings(data: Mapping[str, Any]) -> Settings:
    """Return the typed form of the role's settings."""
    form: Settings = _adapter(Settings).validate_python(data)
    return form
