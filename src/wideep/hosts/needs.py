"""What one host of a plan has to have: the type that preflight judges, and what its roles are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from wideep.deployment import tls
from wideep.deployment.launch import Launch
from wideep.deployment.model import Deployment, Host, Node, Replica
from wideep.deployment.reach import meets, reached
from wideep.engines.base import Engine
from wideep.hosts import container
from wideep.inventory.model_source import download_gb
from wideep.inventory.secrets import HUB_TOKEN, REGISTRY
from wideep.preflight.gpu_model import GpuNeeds
from wideep.preflight.model import ContainerNeeds, FileNeed, ModelNeeds, MpiNeeds, Needs, Peer, PortNeed
from wideep.reference.models import find_model

# What was seen to be taken, rounded up: GB (10^9 bytes) of disk by the control plane's programs and by an
# environment with Dynamo alone, and of memory by each service before an engine takes its own.
CONTROL_DISK_GB = 1.0
DYNAMO_DISK_GB = 1.5
MEMORY_GB = {
    "nats": 0.1,
    "etcd": 0.1,
    "frontend": 0.3,
    "load_balancer": 0.2,
    "worker": 0.3,
    "prometheus": 0.3,
}
DYNAMO = "ai-dynamo"
# Packages that have to be equal on hosts that talk to each other.
SHARED_PACKAGES = ("nixl", "torch", "nvidia-nccl-cu13", "nvidia-nvshmem-cu13")
# What a worker's environment has where DeepEP talks between hosts, and not what an operator may add.
NVSHMEM_BETWEEN_HOSTS = (
    "NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME",
    "NVSHMEM_HCA_LIST",
    "NVSHMEM_IB_GID_INDEX",
)


@dataclass(frozen=True)
class HostPlan:
    """One host of a plan. launches: host name -> what starts there, of all hosts."""

    deployment: Deployment
    engine: Engine
    launches: Mapping[str, Sequence[Launch]]
    host: Host

    @property
    def own(self) -> Sequence[Launch]:
        """Return what starts on this host."""
        return self.launches[self.host.name]

    @property
    def workers(self) -> list[Launch]:
        """Return the engine's services on this host."""
        return [launch for launch in self.own if launch.component == "worker"]

    @property
    def parts(self) -> Sequence[tuple[Replica, Node]]:
        """Return the replicas that this host has a part in, with its part."""
        return self.deployment.workers_of.get(self.host.name, ())

    @property
    def software(self) -> str:
        """Return what the host's environment has beside Dynamo: an engine with a package; else ''."""
        return self.engine.name if self.parts and self.engine.package else ""

    @property
    def packages(self) -> dict[str, str]:
        """Return package -> version that Dynamo's environment or image has to have; empty: any."""
        packages = {DYNAMO: self.deployment.release.dynamo}
        if self.software:
            packages[self.engine.package] = self.deployment.release.engines[self.engine.package]
        return packages | dict.fromkeys(self.modules, "")

    @property
    def modules(self) -> tuple[str, ...]:
        """Return packages that the host's workers ask for beside the engine's own."""
        return tuple(dict.fromkeys(name for launch in self.workers for name in self.engine.modules(launch)))

    @property
    def secret_files(self) -> tuple[str, ...]:
        """Return the names of the files that role `secrets` writes there, if there is something for them."""
        paths = {path for launch in self.own for path in launch.env_files}
        pulls = [REGISTRY] if self.host in self.deployment.frontends or self.parts else []
        downloads = [HUB_TOKEN] if self.parts else []
        return (*sorted(PurePosixPath(path).name for path in paths), *downloads, *pulls)

    @property
    def together(self) -> tuple[str, ...]:
        """Return the hosts whose ranks restart with those of this one, itself among them."""
        return tuple(dict.fromkeys(node.host.name for replica, _ in self.parts for node in replica.nodes))

    @property
    def needs(self) -> Needs:
        """Return what `preflight` has to find on the host."""
        settings, works = self.deployment.settings, bool(self.parts)
        dynamo = works or self.host in self.deployment.frontends
        environment = self.engine.disk_gb if self.software else DYNAMO_DISK_GB
        return Needs(
            ports=tuple(
                PortNeed(port.port, launch.name, port.address) for launch in self.own for port in launch.ports
            ),
            peers=tuple(
                Peer(peer.name, peer.address, tuple(sorted(ports)))
                for peer, ports in reached(self.deployment, self.launches, self.host).items()
            ),
            state_dir=self.host.state_dir,
            disk_gb=CONTROL_DISK_GB + (environment if dynamo and settings.in_venv else 0),
            memory_gb=round(sum(MEMORY_GB[launch.component] for launch in self.own), 1),
            model_path=settings.model_path if works else "",
            model_gb=download_gb(settings) if works else 0.0,
            model=self._model() if works and settings.model_path else None,
            gpu=self._gpu() if works and not self.engine.simulated else None,
            container=self._container() if dynamo and settings.in_container else None,
            mpi=self._mpi(),
            files=self._files(),
            user=settings.service_user,
        )

    def _files(self) -> tuple[FileNeed, ...]:
        """Return the files of `wideep_tls` that the host's services read."""
        found: dict[str, bool] = {}
        for component in dict.fromkeys(launch.component for launch in self.own):
            found |= tls.files(self.deployment.settings, component)
        return tuple(FileNeed(path, private) for path, private in sorted(found.items()))

    def _model(self) -> ModelNeeds | None:
        """Return what the model's config.json has to say, where its card is known."""
        settings = self.deployment.settings
        card = find_model(settings.model_card, settings.model, settings.card_places)[0]
        if card is None:
            return None
        return ModelNeeds(
            model=settings.model,
            layers=card.layers,
            hidden_size=card.hidden_size,
            experts=card.experts.routed if card.experts else 0,
            weights=card.weights,
        )

    def _mpi(self) -> MpiNeeds | None:
        """Return what the ranks of replicas on several hosts are started with, unless an image has it."""
        if self.deployment.settings.in_container:
            return None
        pools = {pool.name: pool for pool in self.deployment.pools}
        programs = [
            names
            for replica, node in self.parts
            if len(replica.nodes) > 1
            for names in self.engine.programs(pools[replica.pool], head=node == replica.head)
        ]
        if not programs:
            return None
        return MpiNeeds(
            path=self.workers[0].env["PATH"], programs=tuple(dict.fromkeys(programs)), engine=self.engine.name
        )

    def _container(self) -> ContainerNeeds:
        settings = self.deployment.settings
        nodes = [] if self.engine.simulated else [node for _, node in self.parts]
        return ContainerNeeds(
            program=settings.container.program,
            image=container.image_of(self.deployment, self.engine),
            gpus=tuple(sorted({gpu for node in nodes for gpu in node.gpus})),
            init=settings.container.init,
        )

    def _gpu(self) -> GpuNeeds:
        """Return what a real engine needs of the host's GPUs and fabric."""
        settings, network, engine = self.deployment.settings, self.host.network, self.engine
        pools = {pool.name: pool for pool in self.deployment.pools}
        moved = [engine.host_memory(self.deployment, pools[replica.pool]) for replica, _ in self.parts]
        # A container with memory of its own has that; the plan judges its size.
        private = settings.in_container and settings.container.shm != "host"
        shm = sum(container.ENGINE_SHM / 10**9 + math.ceil(each / 10**9) for each in moved)
        release = self.deployment.release
        packages = {DYNAMO: release.dynamo}
        if engine.package:
            packages[engine.package] = release.engines[engine.package]
        return GpuNeeds(
            engine=engine.name,
            gpus=max(gpu + 1 for _, node in self.parts for gpu in node.gpus),
            card=self.host.gpu,
            own_card=self.host.own_card,
            min_driver=release.minimum["nvidia-driver"],
            link=network.link,
            rdma_devices=network.rdma_devices,
            rdma_port=network.rdma_port,
            gpu_devices=network.gpu_devices,
            gid_index=network.gid_index,
            nvshmem=any(name in launch.env for launch in self.workers for name in NVSHMEM_BETWEEN_HOSTS),
            online_eplb=any(moved),
            shm_gb=0.0 if private else shm,
            python=self.host.python if settings.runtime == "existing" else "",
            packages=packages | dict.fromkeys(SHARED_PACKAGES, ""),
            modules=self.modules,
            interface=self.host.interface,
            ranks=tuple(
                meets(replica, node).host.name for replica, node in self.parts if len(replica.nodes) > 1
            ),
        )
