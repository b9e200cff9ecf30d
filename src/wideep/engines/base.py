"""What an engine is to all else: its rules, a Launch for each node, and what it asks of its hosts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from wideep.deployment.launch import Launch
from wideep.deployment.model import Deployment, Node, Pool, Replica
from wideep.deployment.site import Site
from wideep.engines.importing import Dialect, Reading, Worker
from wideep.engines.options import CommonOptions
from wideep.inventory.settings import Settings
from wideep.problems import Problem
from wideep.reference.memory import Budget
from wideep.reference.models import ModelCard
from wideep.reference.release import Release

# Pool -> Dynamo component, as Dynamo's own workers name themselves.
COMPONENTS = MappingProxyType({"prefill": "prefill", "decode": "backend", "aggregated": "backend"})


class Engine(ABC):
    """An inference engine behind Dynamo. What a new one touches: docs/explanation/engines.md.

    name: value of `wideep_engine`, of its section in a pool's options, and of its folder here.
    program: the module that a worker runs, which names its catalogue.
    components: pool -> Dynamo component under which its workers register.
    package: what a worker's environment has beside Dynamo, pinned by the release; empty: nothing.
    disk_gb: what that environment takes, in GB (10^9 bytes).
    options: what an operator may set for it in a pool; options of no type by the flags that they are.
    watched: Python modules that run below the command of a replica on several hosts, where that is a launcher
        which may outlive them. The first is the worker: told alone to stop, it finishes its requests first.
    parts: how titles of processes begin that may die below a worker of several GPUs without its notice: it
        goes on, is well by every check, and answers nothing. Hosts watch them (wideep.programs.rank).
    dialect: how sources say what it is to do; None: nothing is imported for it.
    agreed: flags in which workers that hand each other KV cache, and that one frontend takes for one model,
        must be alike with those before them. What is not named may differ between replicas.
    simulated: it serves without GPUs and without weights; its words mean nothing, and may be cut.
    places: it begins with experts where a file says (`placement`).
    """

    name: ClassVar[str]
    program: ClassVar[str]
    components: ClassVar[Mapping[str, str]] = COMPONENTS
    package: ClassVar[str] = ""
    disk_gb: ClassVar[float]
    options: ClassVar[type[CommonOptions] | Mapping[str, str]]
    watched: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ()
    dialect: ClassVar[Dialect | None] = None
    agreed: ClassVar[frozenset[str]] = frozenset()
    simulated: ClassVar[bool] = False
    places: ClassVar[bool] = False

    @abstractmethod
    def check(self, deployment: Deployment) -> list[Problem]:
        """Return what is wrong with the deployment for this engine."""

    @abstractmethod
    def launch(self, site: Site, pool: Pool, replica: Replica, node: Node) -> Launch | None:
        """Return what one node of a replica runs.

        Without a command (`argv`): a rank that waits for what the head's command starts there. None: nothing,
        where the platform starts all of it (never the head).
        """

    def flavour(self, settings: Settings) -> str:
        """Return as which engine the mocker stands for it in a rehearsal (an engine type of its)."""
        return self.name

    def image(self, settings: Settings) -> str:
        """Return under which name the release has the engine's official image."""
        return self.name

    def memory(self, deployment: Deployment) -> dict[str, Budget]:
        """Return pool -> the memory of one GPU, where model and GPU are known."""
        return {}

    def modules(self, launch: Launch) -> tuple[str, ...]:
        """Return packages that a worker asks for and that its own package does not bring, in any version."""
        return ()

    def programs(self, pool: Pool, *, head: bool) -> tuple[tuple[str, ...], ...]:
        """Return programs that a rank of a replica on several hosts is started with, from its PATH.

        For each the names that it may have. head: of the replica's first host.
        """
        return ()

    def placement(self, experts: Sequence[Sequence[int]], layers: Sequence[int]) -> str:
        """Return the file, for `eplb.placement`, of the expert of each slot by layer, where it `places`.

        layers: the rows' numbers in the model. Raises RefusedError for layers that the engine cannot take.
        """
        raise NotImplementedError

    def host_memory(self, deployment: Deployment, pool: Pool) -> int:
        """Return the bytes of experts that a replica keeps in the shared memory of each of its hosts."""
        return 0

    def agreement(self, flags: Mapping[str, Sequence[str]], files: Mapping[str, str]) -> dict[str, Any]:
        """Return what of a head's command makes its generation.

        flags: without dashes, with the words after them. files: name -> content of those that it reads.
        """
        return {name: list(words) for name, words in flags.items() if name in self.agreed}

    def imported(self, worker: Worker, release: Release, card: ModelCard | None) -> Reading:
        """Return one role of a source in the words of an inventory, where the engine has a `dialect`."""
        raise NotImplementedError

    def told(self, launch: Launch) -> dict[str, Any]:
        """Return what a head's launch tells the engine of its own, by the names of `Reading.said`."""
        raise NotImplementedError
