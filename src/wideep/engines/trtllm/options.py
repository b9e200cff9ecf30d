"""TensorRT-LLM's options, their defaults by role, and the case that its rules judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from wideep.deployment import network
from wideep.deployment.model import Deployment, Pool
from wideep.engines.case import PoolCase, read_case
from wideep.engines.options import CommonOptions, Speculative, parse_options
from wideep.engines.trtllm.release import TrtllmFacts, facts
from wideep.inventory.settings import EplbSettings
from wideep.problems import Problem
from wideep.reference.catalogue import Catalogue
from wideep.reference.memory import (
    GRAPH_PER_SEQUENCE,
    RUNTIME,
    Budget,
    Layout,
    activations,
    kv_bytes_per_sequence,
    kv_bytes_per_token,
    weights,
)
from wideep.reference.models import ModelCard
from wideep.wording import WORD

GRAPH_MAX_BS = 128
PREFILL_BATCH = 16
# Prompts up to here are computed in one step by default, longer ones in chunks of CHUNK tokens.
LONGEST_WHOLE, CHUNK = 16384, 8192
FRACTION = {"prefill": 0.60, "decode": 0.70, "aggregated": 0.70}
# FlashMLA's blocks, which TensorRT-LLM sets by itself on Hopper; its own default elsewhere.
PAGE_SIZE, PAGE_SIZE_FLASH_MLA = 32, 64


AllToAll = Literal[
    "auto", "nvlink_one_sided", "nvlink_two_sided", "deepep", "deepep_low_latency", "allgather"
]


class TrtllmOptions(CommonOptions):
    """What TensorRT-LLM alone has. With attention DP, batches and tokens are those of one GPU."""

    pipeline_parallel_size: int = Field(
        default=1,
        ge=1,
        description="GPU groups that layers are divided over; C(tensor_parallel_size) counts within one.",
    )
    moe_backend: str | None = Field(
        default=None, description="Kernels of the experts; chosen by version, GPU and weights."
    )
    moe_max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens of all GPUs that the experts take at once; more are cut into chunks.",
    )
    max_batch_size: int | None = Field(default=None, ge=1, description="Sequences at once.")
    max_num_tokens: int | None = Field(default=None, ge=1, description="Tokens of one step.")
    chunked_prefill: bool | None = Field(default=None, description="Whether a prompt may take several steps.")
    cuda_graphs: bool = Field(default=True, description="Whether decoding runs as CUDA graphs.")
    cuda_graph_batch_sizes: list[int] | None = Field(
        default=None,
        min_length=1,
        description="Batches that are captured, instead of powers of two up to C(cuda_graph_max_bs).",
    )
    cuda_graph_padding: bool = Field(
        default=True, description="Whether others are filled up to the next one."
    )
    free_gpu_memory_fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share for the KV cache of what weights and a first pass leave free.",
    )
    block_reuse: bool = Field(
        default=True, description="Whether prompts that begin alike share their beginning."
    )
    overlap_scheduler: bool | None = Field(
        default=None, description="Whether a step is prepared while the one before runs; never in prefill."
    )
    max_tokens_in_buffer: int | None = Field(
        default=None,
        ge=1,
        description="Tokens of one sequence's KV cache that can be on their way between the pools.",
    )
    kv_transfer_timeout_ms: int | None = Field(
        default=None,
        ge=1,
        description="How long a transfer of a sequence's KV cache may take; unset, a minute. Long prompts may"
        " need ten.",
    )
    all_to_all: AllToAll = Field(
        default="auto",
        description="What carries tokens to the GPUs of their experts; V(auto), the first that TensorRT-LLM"
        " finds to work.",
    )
    mpirun: str = Field(
        default="mpirun",
        pattern=WORD,
        description="Open MPI's launcher, where a replica spans hosts; its path where the PATH has it not.",
    )
    engine_args: dict[str, Any] = Field(
        default={},
        description="Further fields of the engine's YAML, as a tree, checked against its field tree.",
    )


def shared_experts(card: ModelCard | None) -> int:
    """Return the bytes of all routed experts, which online balancing keeps in shared memory of each host."""
    return round(card.bytes_of("experts") * card.routed_parameters) if card else 0


# ---- the case ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case(PoolCase[TrtllmOptions]):
    """See `PoolCase`.

    given: names of the options that the operator set. why_backend: reason for a backend that was chosen
    here, else empty. of_prefill: the longest sequence of the pool whose prompts this one takes over.
    """

    title = "TensorRT-LLM"
    stages_option = "pipeline_parallel_size"

    given: frozenset[str] = frozenset()
    why_backend: str = ""
    of_prefill: int | None = None

    @cached_property
    def facts(self) -> TrtllmFacts:
        """Return what the release knows of TensorRT-LLM."""
        return facts(self.release)

    @property
    def longest_prompt(self) -> int:
        """Return the tokens of the longest prompt, 0 if unknown. Decode's own limit is prompt and answer."""
        own = _in_a_step(self.options, self.longest) if self.role == "prefill" else self.longest
        return min(self.of_prefill or own, own)

    @property
    def stages(self) -> int:
        """See `PoolCase`; GPUs that a sequence is divided over count alike."""
        return self.options.pipeline_parallel_size * self.parts

    @property
    def parts(self) -> int:
        """Return the context parallel size: GPUs that each sequence is divided over."""
        size = self.options.engine_args.get("context_parallel_size")
        return size if isinstance(size, int) and size > 0 else 1

    @property
    def eplb(self) -> EplbSettings:
        """Return the balancing of the pool; what is shared is not for attention that all GPUs divide."""
        own = self.pool.settings.eplb is not None or not self.disaggregated
        return super().eplb if self.dp > 1 or own else EplbSettings()

    @property
    def experts(self) -> bool:
        """Whether the model has experts; of a model without a card, whether the operator says so."""
        eplb = self.asked_eplb
        if self.card:
            return self.card.experts is not None
        return self.ep > 1 or eplb.enabled or eplb.redundant_experts > 0

    @property
    def balanced(self) -> bool:
        """Whether experts are placed by a load balancer."""
        eplb = self.eplb
        return self.experts and (eplb.enabled or eplb.redundant_experts > 0 or bool(eplb.placement))

    @property
    def slots(self) -> int | None:
        """Return the number of places for experts, copies included, over all GPUs."""
        if self.card is None or self.card.experts is None:
            return None
        return self.card.experts.routed + self.eplb.redundant_experts

    @property
    def host_memory(self) -> int:
        """Return the bytes of shared host memory that online balancing takes on each node: all experts."""
        return shared_experts(self.card) if self.eplb.enabled else 0

    @property
    def draft_tokens(self) -> int:
        """Return the tokens that one sequence adds to a decode step (more than 1: speculative decoding)."""
        given = self.options.speculative
        if given:
            return given.verified or 1 + (given.algorithm == "mtp")
        config = self.options.engine_args.get("speculative_config")
        if not isinstance(config, Mapping):
            return 1
        # MTP has a name of its own for it, and one draft where none is named.
        named = [config.get(name) for name in ("max_draft_len", "num_nextn_predict_layers")]
        mtp = int(config.get("decoding_type") == "MTP")
        return 1 + max((count for count in named if isinstance(count, int)), default=mtp)

    @property
    def speculative(self) -> Speculative | None:
        """Return how the pool drafts, by the option or by the engine's own section."""
        config = self.options.engine_args.get("speculative_config")
        if self.options.speculative or not isinstance(config, Mapping):
            return self.options.speculative
        words = {word: algorithm for algorithm, word in self.facts.drafts.words.items()}
        algorithm = words.get(str(config.get("decoding_type")))
        return Speculative.model_validate({"algorithm": algorithm}) if algorithm else None

    @property
    def all_to_all(self) -> str:
        """Return what carries tokens to experts where it is forced, by the option or by the environment."""
        known, env = self.facts.all_to_all, self.pool.settings.env
        if self.options.all_to_all != "auto":
            return self.options.all_to_all
        for name in (known.variable, *known.older):
            for option, words in known.words.items():
                if env.get(name) in words:
                    return option
        return "auto"

    @property
    def exchanges(self) -> bool:
        """Whether GPUs send tokens to each other's experts: attention by data, each expert on one GPU."""
        return self.experts and self.dp > 1 and self.ep == self.tp

    @property
    def deep_ep(self) -> bool:
        """Whether DeepEP works in a layout: GPUs of one host, or whole hosts."""
        known, each = self.facts.all_to_all, len(self.replica.head.gpus)
        return (
            self.tp in known.one_host
            if self.nodes == 1
            else each == known.of_each and self.nodes in known.hosts
        )

    @property
    def may_deep_ep(self) -> bool:
        """Whether DeepEP may carry tokens between hosts, over NVSHMEM."""
        between = self.exchanges and self.spans_hosts and self.deep_ep
        between = between and not any(network.foreign(host) for host in self.hosts)
        forced = self.all_to_all.startswith("deepep")
        nvlink = self.gpu is not None and self.gpu.multi_node_nvlink
        return between and (forced or (self.all_to_all == "auto" and not nvlink))

    @property
    def graphs(self) -> bool:
        """Whether decode steps run as CUDA graphs."""
        return self.decodes and self.options.cuda_graphs

    @property
    def spans_hosts(self) -> bool:
        """Whether the ranks of a replica are started through MPI."""
        return self.nodes > 1

    def at(self, option: str) -> str:
        """Return the variable that sets an option."""
        set_here, section = self.pool.settings.options, self.pool.settings.options.get("trtllm")
        own = option not in CommonOptions.model_fields and option not in set_here
        inside = "trtllm." if own or (isinstance(section, Mapping) and option in section) else ""
        return f"wideep_pools.{self.role}.options.{inside}{option}"

    def budget(self) -> Budget | None:
        """Return the memory of one GPU, where model and GPU are known and the layout is a layout.

        free_gpu_memory_fraction is of what is free once weights and a first pass have taken theirs; the
        budget's own fraction is of the whole GPU.
        """
        o, card = self.options, self.card
        if card is None or self.gpu is None or self.tp % self.ep or self.dp not in (1, self.tp):
            return None
        own = self.dp > 1  # each GPU attends for itself and has all but the experts whole
        each, stages = 1 if own else self.tp, o.pipeline_parallel_size
        layout = Layout(
            tensor=self.tp,
            attention=each,
            dense=each,
            shared=each,
            embedding=each,
            head=each,
            expert=self.ep,
            redundant=self.eplb.redundant_experts,
            stages=stages,
        )
        drafts = self.speculative is not None and self.speculative.algorithm == "mtp"
        parts = weights(card, layout, drafts=drafts)
        per_token = kv_bytes_per_token(card, o.kv_cache_dtype, each, stages=stages, drafts=drafts)
        states = kv_bytes_per_sequence(card, o.kv_cache_dtype, each, stages=stages)
        beside = {"runtime": RUNTIME, "activations": activations(card, o.max_num_tokens or 0)}
        free = self.gpu.memory - sum(parts.values()) - sum(beside.values())
        if self.graphs:
            beside["CUDA graphs"] = max(o.cuda_graph_batch_sizes or [0]) * GRAPH_PER_SEQUENCE
        if self.disaggregated:
            beside["transfer buffer"] = (o.max_tokens_in_buffer or 0) * per_token
        share = o.free_gpu_memory_fraction or FRACTION[self.role]
        fraction = (sum(parts.values()) + share * free) / self.gpu.memory
        states *= o.max_batch_size or 0
        return Budget(self.gpu.memory, fraction, parts, per_token, beside, states)


def case_of(deployment: Deployment, pool: Pool, catalogue: Catalogue) -> tuple[Case, list[Problem]]:
    """Return the case of a pool, and what is wrong before any rule is asked."""
    case, problems = read_case(Case, "trtllm", TrtllmOptions, deployment, pool=pool, catalogue=catalogue)
    case = replace(case, given=frozenset(case.options.model_fields_set))
    if case.role == "decode":
        case = replace(case, of_prefill=_prompts(deployment, case.card))
    return _with_defaults(case, _own_length(deployment, case.card)), problems


def _own_length(deployment: Deployment, card: ModelCard | None) -> int | None:
    """Return the longest sequence of a pool that sets none: the model's, or what decode is set to take."""
    lengths = [card.context_length] if card else []
    for pool in deployment.pools:
        if pool.name == "decode" and (own := parse_options(pool, "trtllm", TrtllmOptions)[0].context_length):
            lengths.append(own)
    return min(lengths, default=None)


def _prompts(deployment: Deployment, card: ModelCard | None) -> int | None:
    """Return the longest sequence of the prefill pool."""
    for pool in deployment.pools:
        if pool.name == "prefill":
            options = parse_options(pool, "trtllm", TrtllmOptions)[0]
            length = options.context_length or _own_length(deployment, card) or 0
            return _in_a_step(options, length) or None
    return None


def _in_a_step(options: TrtllmOptions, length: int) -> int:
    """Return the tokens of the longest prompt that is taken: without chunks, it is computed in one step."""
    step = options.max_num_tokens if not options.chunked_prefill else None
    return min(length, step or length)


def graph_sizes(largest: int) -> list[int]:
    """Return the batch sizes that are captured up to the largest: powers of two, and it."""
    return [*(1 << n for n in range(largest.bit_length()) if 1 << n < largest), largest]


def _with_defaults(case: Case, own_length: int | None) -> Case:
    """Fill in what the operator left out; nothing that was set is changed.

    own_length: the longest sequence, where none is set.
    """
    given = case.options.model_dump(exclude_none=True)
    role = case.role
    tp = given.get("tensor_parallel_size", max(1, case.world_size // case.stages))
    dp = given.get("data_parallel_size", tp if given.get("dp_attention") else 1)
    eplb = case.asked_eplb
    seems = eplb.enabled or eplb.redundant_experts > 0
    experts = case.card.experts is not None if case.card else seems
    ep = given.get("expert_parallel_size", tp if experts else 1)
    context = given.get("context_length", own_length)
    hopper_mla = case.card and case.card.attention.kind == "mla" and case.gpu and case.gpu.compute == 90
    largest = given.get("cuda_graph_max_bs", given.get("max_batch_size", GRAPH_MAX_BS))
    sizes = given.get("cuda_graph_batch_sizes") or graph_sizes(largest)
    batch = given.get("max_batch_size", max(sizes) if case.decodes else PREFILL_BATCH)
    chunked = given.get("chunked_prefill", case.prefills and (context or 0) > LONGEST_WHOLE)
    tokens = CHUNK if chunked or context is None else context
    defaults: dict[str, Any] = {
        "tensor_parallel_size": tp,
        "data_parallel_size": dp,
        "dp_attention": dp > 1,
        "expert_parallel_size": ep,
        "context_length": context,
        "page_size": (case.beside.page_size if case.beside else None)
        or (PAGE_SIZE_FLASH_MLA if hopper_mla else PAGE_SIZE),
        "max_batch_size": batch,
        "max_num_tokens": tokens if case.prefills else batch * case.draft_tokens,
        "chunked_prefill": chunked,
        "overlap_scheduler": role != "prefill",
        "free_gpu_memory_fraction": FRACTION[role],
        "max_tokens_in_buffer": min(case.of_prefill or context, context) if context else None,
    }
    if case.decodes:
        defaults["cuda_graph_batch_sizes"] = sizes
        # A decode step of all GPUs goes through the experts at once.
        defaults["moe_max_tokens"] = batch * case.draft_tokens * ep if experts and role == "decode" else None
    case = replace(case, options=TrtllmOptions.model_validate(defaults | given))
    if case.options.moe_backend or not case.experts:
        return case
    backend, why = case.facts.backend(case.gpu, case.card, case.ep, balanced=case.balanced)
    options = case.options.model_copy(update={"moe_backend": backend})
    return replace(case, options=options, why_backend=why)
