"""Who runs what, typed: hosts, nodes with ranks, replicas, pools. Made by `wideep.deployment.build`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from wideep.inventory.settings import (
    NetworkSettings,
    PoolName,
    PoolSettings,
    Settings,
)
from wideep.reference.hardware import GpuCard, hardware_cards
from wideep.reference.release import Release, find_release

# Each worker process owns a block of ports, each pool a range of blocks: a host's ports don't depend on
# which other pools it serves, so they stay the same when it joins one more.
PORTS_PER_WORKER = 100
PORTS_PER_POOL = 1000
# SGLang derives up to `dist_init` + 13 from it; a replica's ranks meet at `gang` (wideep.hosts.gang), those
# of NIXL's all-to-all at `tcp_store`; KV events use one port for each DP rank from `kv_events` on.
WORKER_PORTS = {
    "system": 0,
    "rpc": 1,
    "bootstrap": 2,
    "dist_init": 3,
    "gang": 17,
    "tcp_store": 18,
    "kv_events": 20,
}
# A pod's address is known to itself only (`wideep.kubernetes.site`).
POD_ADDRESS = "$(POD_IP)"
POD_CACHE = "/var/cache/wideep"


@dataclass(frozen=True)
class Host:
    """A machine of the inventory.

    address: what the others reach it by. own_card: that of its GPUs where it is the operator's.
    """

    name: str
    address: str
    gpus: int
    interface: str = ""
    python: str = ""
    gpu: str = ""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    state_dir: str = "/var/lib/wideep"
    own_card: GpuCard | None = None

    @property
    def card(self) -> GpuCard | None:
        """Return what is known of its GPUs; None where `gpu` names none."""
        return self.own_card or hardware_cards().get(self.gpu)

    @property
    def loopback(self) -> bool:
        """Whether the host is reachable from itself only."""
        return is_loopback(self.address)

    @property
    def numeric(self) -> bool:
        """Whether the address is an IP address and no name."""
        try:
            return bool(ipaddress.ip_address(self.address))
        except ValueError:
            return False


@dataclass(frozen=True)
class Node:
    """One host's part of a replica: its rank, its GPUs (indices on the host), its first port."""

    host: Host
    rank: int
    gpus: tuple[int, ...]
    port_base: int

    def port(self, purpose: str) -> int:
        """Return the port for a purpose of WORKER_PORTS."""
        return self.port_base + WORKER_PORTS[purpose]


@dataclass(frozen=True)
class Replica:
    """One complete copy of the model: nodes in rank order, `nodes[0]` is the head."""

    pool: PoolName
    index: int
    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        """Return the stable name, e.g. `decode-1`."""
        return f"{self.pool}-{self.index}"

    @property
    def head(self) -> Node:
        """Return rank 0, which the other ranks connect to."""
        return self.nodes[0]

    @property
    def world_size(self) -> int:
        """Return the number of GPUs over all nodes."""
        return sum(len(node.gpus) for node in self.nodes)

    def service(self, node: Node) -> str:
        """Return the service name of one node's process, unique on its host."""
        return self.name if len(self.nodes) == 1 else f"{self.name}-rank-{node.rank}"


@dataclass(frozen=True)
class Kept:
    """A replica that its hosts have already, and keep. hosts: by name, in rank order. port: its lowest."""

    name: str
    hosts: tuple[str, ...]
    port: int = 0

    @property
    def index(self) -> int:
        """Return the number in its name; -1 where that has none."""
        number = self.name.rpartition("-")[2]
        return int(number) if number.isdecimal() else -1


@dataclass(frozen=True)
class Pool:
    """All replicas of one role."""

    name: PoolName
    settings: PoolSettings
    replicas: tuple[Replica, ...]


@dataclass(frozen=True)
class Generation:
    """What workers have that hand KV cache to each other, and how frontends find them.

    suffix: behind the namespace, which workers of another generation do not share; '' for the first.
    prefixed: frontends serve all namespaces that begin with `wideep_namespace`, each generation by itself.
    """

    suffix: str = ""
    prefixed: bool = True


@dataclass(frozen=True)
class Deployment:
    """The whole: control plane, frontends, pools. Built by `build`, never by hand."""

    settings: Settings
    hosts: tuple[Host, ...]
    control: tuple[Host, ...]
    frontends: tuple[Host, ...]
    pools: tuple[Pool, ...]
    generation: Generation = Generation()
    balancers: tuple[Host, ...] = ()

    @cached_property
    def release(self) -> Release:
        """Return the release of Dynamo, with all that goes with it."""
        return find_release(self.settings.release)

    @property
    def disaggregated(self) -> bool:
        """Whether prefill and decode run in pools of their own."""
        return any(pool.name == "prefill" for pool in self.pools)

    @property
    def one_machine(self) -> bool:
        """Whether the only host is this machine, on loopback."""
        return all(host.loopback for host in self.hosts)

    @cached_property
    def workers(self) -> tuple[tuple[Replica, Node], ...]:
        """Return every worker process in a fixed order."""
        return tuple((r, n) for pool in self.pools for r in pool.replicas for n in r.nodes)

    @cached_property
    def workers_of(self) -> Mapping[str, tuple[tuple[Replica, Node], ...]]:
        """Return host name -> its worker processes; hosts without one are left out."""
        found: dict[str, list[tuple[Replica, Node]]] = {}
        for replica, node in self.workers:
            found.setdefault(node.host.name, []).append((replica, node))
        return {name: tuple(own) for name, own in found.items()}

    def port(self, base: int) -> int:
        """Return a default port moved by `wideep_port_offset`."""
        return base + self.settings.port_offset


def is_loopback(address: str) -> bool:
    """Whether an address or name means the machine itself."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
