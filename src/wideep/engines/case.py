"""One pool as an engine's rules look at it: what all engines have in common of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from wideep.deployment.model import Deployment, Host, Pool, Replica
from wideep.engines.options import Options, Speculative, parse_options
from wideep.inventory.settings import EplbSettings, Settings
from wideep.problems import Problem
from wideep.reference.catalogue import Catalogue
from wideep.reference.hardware import GpuCard, find_gpu
from wideep.reference.models import ModelCard, find_model, of_another_model
from wideep.reference.release import Release


@dataclass(frozen=True)
class PoolCase(Generic[Options]):
    """One pool with everything that its rules look at.

    title: the engine's name in sentences. stages_option: what sets the pipeline parallel size.
    options: with the defaults filled in. extra: extra_args by the parser's own name of the flag. replaced:
    names in it that stand for deprecated ones. beside: the options of the pool that the KV cache goes to or
    comes from, as written.
    card, gpu: None where unknown; rules that need them are silent then. gpu is the smallest of the pool.
    """

    title: ClassVar[str]
    stages_option: ClassVar[str]

    pool: Pool
    settings: Settings
    options: Options
    extra: Mapping[str, Any]
    card: ModelCard | None
    gpu: GpuCard | None
    disaggregated: bool
    release: Release
    replaced: frozenset[str] = frozenset()
    beside: Options | None = None

    @property
    def replica(self) -> Replica:
        """Return the first replica; all have one shape."""
        return self.pool.replicas[0]

    @property
    def hosts(self) -> list[Host]:
        """Return the hosts of all replicas."""
        return [node.host for replica in self.pool.replicas for node in replica.nodes]

    @property
    def nodes(self) -> int:
        """Return the number of hosts of a replica."""
        return len(self.replica.nodes)

    @property
    def world_size(self) -> int:
        """Return the number of GPUs of a replica."""
        return self.replica.world_size

    @property
    def role(self) -> str:
        """Return the pool's name."""
        return self.pool.name

    @property
    def decodes(self) -> bool:
        """Whether the pool generates tokens step by step."""
        return self.role != "prefill"

    @property
    def prefills(self) -> bool:
        """Whether the pool computes prompts."""
        return self.role != "decode"

    @property
    def speculative(self) -> Speculative | None:
        """Return how the pool drafts; None where each step makes one token."""
        return self.options.speculative

    @property
    def draft_tokens(self) -> int:
        """Return the tokens that one sequence adds to a decode step (more than 1: speculative decoding)."""
        raise NotImplementedError

    @property
    def tp(self) -> int:
        """Return the tensor parallel size."""
        return self.options.tensor_parallel_size or 1

    @property
    def dp(self) -> int:
        """Return the data parallel size: the number of attention replicas."""
        return self.options.data_parallel_size or 1

    @property
    def ep(self) -> int:
        """Return the expert parallel size."""
        return self.options.expert_parallel_size or 1

    @property
    def stages(self) -> int:
        """Return the pipeline parallel size: parts of the layers, each with all of tensor parallel size."""
        raise NotImplementedError

    @property
    def asked_eplb(self) -> EplbSettings:
        """Return the balancing that the variables ask for in the pool."""
        return self.settings.eplb_of(self.pool.name)

    @property
    def eplb(self) -> EplbSettings:
        """Return the balancing of the pool; what is shared is not for experts that are not spread."""
        own = self.pool.settings.eplb is not None or not self.disaggregated
        return self.asked_eplb if self.ep > 1 or own else EplbSettings()

    def eplb_at(self, key: str = "") -> str:
        """Return the variable that sets a key of the balancing in this pool."""
        own = self.pool.settings.eplb
        mine = own is not None and (not key or key in own.model_fields_set)
        return (f"wideep_pools.{self.role}.eplb" if mine else "wideep_eplb") + (f".{key}" if key else "")

    @property
    def dense(self) -> bool:
        """Whether the model is known to have no experts."""
        return self.card is not None and self.card.experts is None

    @property
    def longest(self) -> int:
        """Return the tokens of the longest sequence: what is set, else what the model can; 0 if unknown."""
        return self.options.context_length or (self.card.context_length if self.card else 0)

    def at(self, option: str) -> str:
        """Return the variable that sets an option."""
        raise NotImplementedError


Case = TypeVar("Case")


def read_case(
    make: Callable[..., Case],
    engine: str,
    kind: type[Options],
    deployment: Deployment,
    *,
    pool: Pool,
    catalogue: Catalogue,
) -> tuple[Case, list[Problem]]:
    """Return a pool's case with the options as written, and what is wrong before any rule is asked.

    make: class of the case, called with the fields of `PoolCase` by name. engine: its section of the options.
    """
    options, problems = parse_options(pool, engine, kind)
    settings = deployment.settings
    card, found = find_model(settings.model_card, settings.model, settings.card_places)
    problems += found
    problems += of_another_model(deployment.settings.model_path, deployment.settings.model)
    first_host: dict[str, str] = {}
    for replica in pool.replicas:
        for node in replica.nodes:
            first_host.setdefault(node.host.gpu, node.host.name)
    gpus: list[GpuCard] = []
    for name, host in first_host.items():
        gpu, found = find_gpu(name, host, settings.card_places)
        problems += found
        gpus += [gpu] if gpu else []
    extra: dict[str, Any] = {}
    replaced: set[str] = set()
    for key, value in pool.settings.extra_args.items():
        name = key if key.startswith("-") else "--" + key.replace("_", "-")
        flag = catalogue.find(name)
        successors = flag.successors(value) if flag and flag.deprecated else None
        if successors is None:
            extra[(flag.flag if flag else name).removeprefix("--")] = value
        else:
            extra |= successors
            replaced |= successors.keys()
    beside = [other for other in deployment.pools if other.name != pool.name]
    case = make(
        pool=pool,
        settings=deployment.settings,
        options=options,
        extra=extra,
        card=card,
        gpu=min(gpus, key=lambda gpu: gpu.memory, default=None),
        disaggregated=deployment.disaggregated,
        release=deployment.release,
        replaced=frozenset(replaced),
        beside=parse_options(beside[0], engine, kind)[0] if beside else None,
    )
    return case, problems
