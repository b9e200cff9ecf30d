"""SGLang's options, their defaults by role, and the case that SGLang's rules judge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, ValidationError

from wideep.deployment import network
from wideep.deployment.model import Deployment, Pool
from wideep.engines.case import PoolCase, read_case
from wideep.engines.options import CommonOptions, Speculative
from wideep.engines.sglang import deepep
from wideep.problems import Problem
from wideep.reference.catalogue import Catalogue
from wideep.reference.memory import (
    ALL_TO_ALL_NORMAL,
    GRAPH_PER_SEQUENCE,
    RUNTIME,
    Budget,
    Layout,
    activations,
    kv_bytes_per_sequence,
    kv_bytes_per_token,
    low_latency_buffers,
    quantized,
    weights,
)
from wideep.reference.models import Format, ModelCard

# Every all-to-all backend makes the experts span all GPUs of the replica.
AllToAll = Literal[
    "none",
    "deepep",
    "deepep_v2",
    "mooncake",
    "nixl",
    "pplx",
    "flashinfer",
    "flashinfer_megamoe",
    "megamoe",
    "mori",
    "ascend_fuseep",
    "ascend_tp",
]
CHUNK_PER_RANK = 8192
GRAPH_MAX_BS = 128
PAGE_SIZE = 64
PAGE_SIZE_OF = {"cutlass_mla": 128}
# Beginnings of architectures whose attention knows one page size only (model_overrides/deepseek_v4.py).
PAGE_SIZE_OF_MODEL = {"DeepseekV4": 256}
FRACTION = {"prefill": 0.85, "decode": 0.82, "aggregated": 0.80}
# The most that is asked for, and the most that is chosen here.
HIGHEST_FRACTION, RAISED_FRACTION = 0.95, 0.92
DEEPEP_MODE = {"prefill": "normal", "decode": "low_latency", "aggregated": "auto"}
PLACEMENT_FLAG = "init-expert-location"
# Architectures whose FP8 checkpoints have MXFP4 experts, which SGLang serves as FP8 (its Fp8Config).
FP4_IN_FP8 = "DeepseekV4"
# Names of what drafts (speculative/spec_info.py).
ALGORITHMS = {
    "mtp": "NEXTN",
    "eagle": "EAGLE",
    "eagle3": "EAGLE3",
    "frozen_kv_mtp": "FROZEN_KV_MTP",
    "dflash": "DFLASH",
    "dspark": "DSPARK",
    "uno": "UNO",
    "draft": "STANDALONE",
    "ngram": "NGRAM",
}
SPECULATIVE_FLAGS = {
    "algorithm": "speculative-algorithm",
    "steps": "speculative-num-steps",
    "topk": "speculative-eagle-topk",
    "draft_tokens": "speculative-num-draft-tokens",
    "draft_model": "speculative-draft-model-path",
}
# Tokens of a step where no number is set, if not 4; architectures whose drafts branch then (into 8 tokens).
DRAFTS = {"ngram": 12, "dflash": 16}
BRANCHING = ("LlamaForCausalLM", "Grok1ForCausalLM", "Grok1VForCausalLM")
# Tokens of one low-latency step: what SGLang takes unless told, and the most that the kernels can (deepep.py,
# mooncake.py, nixl.py assert it).
DISPATCH_TOKENS, DISPATCH_LIMIT = 128, 1024
# All-to-alls whose tokens arrive in DeepEP's layouts, which few expert kernels take -> the variable that says
# how many tokens a rank sends in one low-latency step at most.
DISPATCH_ENV = {
    "deepep": "SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK",
    "mooncake": "SGLANG_MOONCAKE_EP_NUM_MAX_DISPATCH_TOKENS_PER_RANK",
    "nixl": "SGLANG_NIXL_EP_NUM_MAX_DISPATCH_TOKENS_PER_RANK",
    "pplx": "SGLANG_PPLX_NUM_MAX_DISPATCH_TOKENS_PER_RANK",
}
# The same for DeepEP's second version, whose buffer is for prompts, too.
V2_ENV = "SGLANG_DEEPEP_V2_NUM_MAX_DISPATCH_TOKENS_PER_RANK"

# Option -> SGLang's own name of the flag.
FLAGS = {
    "tensor_parallel_size": "tp-size",
    "data_parallel_size": "dp-size",
    "expert_parallel_size": "ep-size",
    "dp_attention": "enable-dp-attention",
    "dp_lm_head": "enable-dp-lm-head",
    "a2a_backend": "moe-a2a-backend",
    "deepep_mode": "deepep-mode",
    "moe_dense_tp_size": "moe-dense-tp-size",
    "moe_runner_backend": "moe-runner-backend",
    "two_batch_overlap": "enable-two-batch-overlap",
    "single_batch_overlap": "enable-single-batch-overlap",
    "attention_backend": "attention-backend",
    "page_size": "page-size",
    "kv_cache_dtype": "kv-cache-dtype",
    "mem_fraction_static": "mem-fraction-static",
    "cuda_graph_max_bs": "cuda-graph-max-bs-decode",
    "chunked_prefill_size": "chunked-prefill-size",
    "max_running_requests": "max-running-requests",
    "max_total_tokens": "max-total-tokens",
    "context_length": "context-length",
    "load_format": "load-format",
    "trust_remote_code": "trust-remote-code",
    "radix_cache": "disable-radix-cache",
    "watchdog_timeout_s": "watchdog-timeout",
    "dist_timeout_s": "dist-timeout",
}


class SglangOptions(CommonOptions):
    """What SGLang alone has. Tokens and sequences are a whole replica's unless `per_rank` is said."""

    a2a_backend: AllToAll | None = Field(
        default=None, description="What carries tokens to their experts and back; V(none), nothing does."
    )
    deepep_mode: Literal["auto", "normal", "low_latency"] | None = Field(
        default=None, description="Layout of the tokens on that way."
    )
    dispatch_tokens_per_rank: int | None = Field(
        default=None,
        ge=1,
        description="Tokens that a rank may send in one low-latency step; buffers grow with it. Unset, 128"
        " times the tokens that speculative decoding verifies.",
    )
    moe_dense_tp_size: int | None = Field(
        default=None,
        ge=1,
        description="GPUs that divide a MoE model's dense layers: 1 (whole on each) or all.",
    )
    moe_runner_backend: str | None = Field(default=None, description="Kernels of the experts.")
    dp_lm_head: bool | None = Field(
        default=None, description="Whether the output layer is divided by data, as attention is."
    )
    two_batch_overlap: bool = Field(
        default=False, description="Compute one half of a batch while the other's tokens are on their way."
    )
    single_batch_overlap: bool = Field(
        default=False, description="Compute parts of a batch while its tokens are on their way."
    )
    attention_backend: str | None = Field(default=None, description="Kernels of attention.")
    cuda_graphs: bool = Field(default=True, description="Whether decoding runs as CUDA graphs.")
    mem_fraction_static: float | None = Field(
        default=None, gt=0, lt=1, description="Share of a GPU's memory for weights and KV cache together."
    )
    chunked_prefill_size: int | None = Field(
        default=None,
        ge=-1,
        description="Prompt tokens of one step; divided by C(data_parallel_size). V(-1) is not chunked.",
    )
    max_running_requests: int | None = Field(
        default=None, ge=1, description="Sequences at once; divided by C(data_parallel_size) too."
    )
    max_total_tokens: int | None = Field(
        default=None, ge=1, description="Tokens that the KV cache holds, instead of what memory is left for."
    )
    radix_cache: bool = Field(
        default=True, description="Whether prompts that begin alike share their beginning."
    )
    watchdog_timeout_s: int | None = Field(
        default=None, ge=1, description="Seconds after which a step that does not end ends the process."
    )
    dist_timeout_s: int | None = Field(
        default=None, ge=1, description="Seconds that ranks wait for each other."
    )


@dataclass(frozen=True)
class Case(PoolCase[SglangOptions]):
    """See `PoolCase`."""

    title = "SGLang"
    stages_option = "pp-size"

    @cached_property
    def speculative(self) -> Speculative | None:
        """See `PoolCase`. What stands in extra_args counts, too."""
        if self.options.speculative or not self.extra.get(SPECULATIVE_FLAGS["algorithm"]):
            return self.options.speculative
        given: dict[str, Any] = {name: self.extra.get(flag) for name, flag in SPECULATIVE_FLAGS.items()}
        word = str(given["algorithm"]).upper()
        given["algorithm"] = next((name for name, theirs in ALGORITHMS.items() if theirs == word), word)
        for name in ("steps", "topk", "draft_tokens"):
            given[name] = int(given[name]) if given[name] else None
        return Speculative.model_construct(**given)

    @property
    def draft_tokens(self) -> int:
        """See `PoolCase`. Without a number, what SGLang chooses (_auto_choose_speculative_params)."""
        drafts = self.speculative
        if drafts is None:
            return 1
        chosen = 8 if self.card and self.card.architecture in BRANCHING else DRAFTS.get(drafts.algorithm, 4)
        return drafts.verified or chosen

    @property
    def placement(self) -> str:
        """Return the file that says where experts begin; empty where they begin in their order."""
        given = self.eplb.placement or self.extra.get(PLACEMENT_FLAG)
        return str(given) if given and given != "trivial" else ""

    @property
    def expert_format(self) -> Format | None:
        """Return the format of the experts' weights, as `--quantization` makes them; None where unknown."""
        card = self.counted_card[0]
        return card.format_of("experts") if card and card.experts else None

    @property
    def deepep_runners(self) -> tuple[str, ...]:
        """Return the kernels that take tokens for the model's experts in DeepEP's layouts."""
        name = self.expert_format
        if name is None:
            return deepep.UNKNOWN
        if name == "fp8" and self.extra.get("quantization") == "fp8":
            name = "fp8-tensor"  # made while loading
        if name == "mxfp4" and self.card and self.card.decoder_architecture.startswith(FP4_IN_FP8):
            return ("auto", *deepep.RUNNERS[name])
        return deepep.RUNNERS.get(name, ())

    def deepep_objection(self, size: int, mode: str) -> deepep.Objection | None:
        """Return what DeepEP has against `size` GPUs in one of its modes."""
        linked = self.gpu is not None and self.gpu.multi_node_nvlink
        each = len(self.replica.head.gpus)
        return deepep.objection(size, nodes=self.nodes, each=each, linked=linked, mode=mode)

    @property
    def only_page_size(self) -> int | None:
        """Return the page size that SGLang takes for the model, whatever is asked for; None where any."""
        names = self.card.architectures if self.card else ()
        sizes = (size for start, size in PAGE_SIZE_OF_MODEL.items() for n in names if n.startswith(start))
        return next(sizes, None)

    @property
    def runner(self) -> str:
        """Return the kernels of the experts that are asked for."""
        return self.options.moe_runner_backend or "auto"

    @property
    def mode(self) -> str:
        """Return the layout of the tokens: with flashinfer_cutedsl, SGLang makes low_latency of auto."""
        asked = self.options.deepep_mode or ""
        return "low_latency" if asked == "auto" and self.runner == "flashinfer_cutedsl" else asked

    @property
    def counted_card(self) -> tuple[ModelCard | None, str]:
        """Return the card that memory is computed from, and what a `--quantization` makes of it."""
        flag = self.extra.get("quantization")
        return quantized(self.card, str(flag)) if self.card and flag else (self.card, "")

    @property
    def own_drafts(self) -> bool:
        """Whether the model's own draft layers are loaded."""
        drafts = self.speculative
        return drafts is not None and drafts.algorithm in ("mtp", "eagle") and not drafts.draft_model

    @property
    def stages(self) -> int:
        """See `PoolCase`."""
        return int(self.extra.get("pp-size") or 1)

    @property
    def ranks(self) -> int:
        """Return the number of schedulers of a replica, which share its chunks and requests equally."""
        return self.dp if self.options.dp_attention else 1

    @property
    def attention_tp(self) -> int:
        """Return the GPUs that share a sequence's attention; each sends its part of the tokens to experts."""
        return max(1, self.tp // self.ranks)

    @property
    def chunk_per_rank(self) -> int:
        """Return the prompt tokens of one rank in one step; 0 where prefill is not chunked."""
        return max(0, self.options.chunked_prefill_size or 0) // self.ranks

    @property
    def requests_per_rank(self) -> int:
        """Return how many sequences one rank decodes at once."""
        return (self.options.max_running_requests or 0) // self.ranks

    @property
    def captured_per_rank(self) -> int:
        """Return the largest captured batch of a rank: no more than run at once, rounded up by SGLang."""
        step = self.attention_tp * (2 if self.options.two_batch_overlap else 1)
        most = -(-self.requests_per_rank // step) * step
        return min(self.options.cuda_graph_max_bs or 0, most)

    @property
    def graphs(self) -> bool:
        """Whether decode steps run as CUDA graphs."""
        off = self.extra.get("cuda-graph-backend-decode") == "disabled" or self.extra.get(
            "disable-decode-cuda-graph"
        )
        return self.decodes and self.options.cuda_graphs and not off

    def at(self, option: str) -> str:
        """Return the variable that sets an option."""
        if option == "speculative" and self.options.speculative is None and self.speculative:
            return f"wideep_pools.{self.role}.extra_args.{SPECULATIVE_FLAGS['algorithm']}"
        section = self.pool.settings.options.get("sglang")
        inside = "sglang." if isinstance(section, Mapping) and option in section else ""
        return f"wideep_pools.{self.role}.options.{inside}{option}"

    def budget(self) -> Budget | None:
        """Return the memory of one GPU, where model and GPU are known and the layout is a layout."""
        o, card = self.options, self.counted_card[0]
        if card is None or self.gpu is None or self.tp % self.dp or self.tp % self.ep:
            return None
        dense = o.moe_dense_tp_size or self.tp
        layout = Layout(
            tensor=self.tp,
            attention=self.tp // self.dp,
            dense=dense,
            shared=self.tp if o.a2a_backend == "none" else 1,
            embedding=1 if o.dp_attention else self.tp,
            head=self.tp // self.dp if o.dp_lm_head else self.tp,
            expert=self.ep,
            redundant=self.eplb.redundant_experts,
            stages=self.stages,
        )
        attention, drafts = self.tp // self.dp, self.own_drafts
        each = kv_bytes_per_sequence(card, o.kv_cache_dtype, attention, stages=self.stages)
        return Budget(
            memory=self.gpu.memory,
            fraction=o.mem_fraction_static or FRACTION[self.role],
            weights=weights(card, layout, drafts=drafts),
            kv_per_token=kv_bytes_per_token(
                card, o.kv_cache_dtype, attention, stages=self.stages, drafts=drafts
            ),
            beside=self._beside(card),
            states=each * self.requests_per_rank,
        )

    def _beside(self, card: ModelCard) -> dict[str, int]:
        o, beside = self.options, {"runtime": RUNTIME}
        batch = (o.cuda_graph_max_bs or 0) * self.draft_tokens if self.decodes else 0
        beside["activations"] = activations(card, max(self.chunk_per_rank, batch), self.attention_tp)
        if self.graphs:
            beside["CUDA graphs"] = (o.cuda_graph_max_bs or 0) * GRAPH_PER_SEQUENCE
        if o.a2a_backend in DISPATCH_ENV and card.experts:
            experts = card.experts.routed + self.eplb.redundant_experts
            low_latency = low_latency_buffers(experts, o.dispatch_tokens_per_rank or 0, card.hidden_size)
            beside["all-to-all buffers"] = (ALL_TO_ALL_NORMAL if o.deepep_mode != "low_latency" else 0) + (
                low_latency if o.deepep_mode != "normal" else 0
            )
        return beside


def case_of(deployment: Deployment, pool: Pool, catalogue: Catalogue) -> tuple[Case, list[Problem]]:
    """Return the case of a pool, and what is wrong before any rule is asked."""
    case, problems = read_case(Case, "sglang", SglangOptions, deployment, pool=pool, catalogue=catalogue)
    return _with_defaults(_replaced(case)), problems


def _replaced(case: Case) -> Case:
    """Make options of deprecated flags whose successors have one; what is set as an option stays."""
    options = {flag: option for option, flag in FLAGS.items()}
    mine = {options[flag]: flag for flag in case.replaced if flag in options}
    given = case.options.model_fields_set
    values = {option: case.extra[flag] for option, flag in mine.items() if option not in given}
    kept = {flag: value for flag, value in case.extra.items() if flag not in mine.values()}
    made = case.options.model_dump(exclude_unset=True) | values
    try:
        return replace(case, options=SglangOptions.model_validate(made), extra=kept) if mine else case
    except ValidationError:  # the catalogue says more of the value
        return case


def shared_columns(case: Case) -> int:
    """Return the columns of the shared experts, which GPUs divide without an all-to-all; 0 where none are."""
    experts = case.card.experts if case.card else None
    if experts is None:
        return 0
    return (experts.shared_intermediate_size or experts.intermediate_size) * experts.shared


def fewer_gpus(case: Case) -> str:
    """Return what makes a replica small enough for shared experts in whole blocks; empty where it is."""
    block = case.card.block if case.card else 1
    columns, each = shared_columns(case), len(case.replica.head.gpus)
    if not columns or block == 1 or columns % (case.tp * block) == 0:
        return ""
    hosts = case.nodes * len(case.pool.replicas)
    fit = (n for n in range(case.nodes, 0, -1) if hosts % n == 0 and columns % (n * each * block) == 0)
    if not (nodes := next(fit, 0)):
        return f"a replica of {columns // block} GPUs or fewer (gpus_per_node, nodes_per_replica)"
    gpus = nodes * each
    wanted = {"data_parallel_size": case.dp, "tensor_parallel_size": case.tp, "expert_parallel_size": case.ep}
    said = [name for name, size in wanted.items() if name in case.pool.settings.options and size > gpus]
    return ", ".join([f"nodes_per_replica: {nodes}", *(f"{name}: {gpus}" for name in said)])


def against_deepep(case: Case) -> str:
    """Return why DeepEP cannot serve the model's experts on the pool's hosts by itself; empty if it can."""
    mode = case.options.deepep_mode or DEEPEP_MODE[case.role]
    objection = case.deepep_objection(case.options.tensor_parallel_size or case.world_size, mode)
    device = next((device for host in case.hosts if (device := network.foreign(host))), "")
    if case.expert_format not in (None, *deepep.BY_DEFAULT):
        return f"DeepEP is not chosen for {case.expert_format} experts"
    if case.runner not in case.deepep_runners:
        return f"moe_runner_backend {case.runner} cannot take tokens from DeepEP"
    if case.gpu and not case.gpu.deep_gemm:
        return f"{case.gpu.product} does not run DeepEP's kernels"
    if device:
        return f"DeepEP drives NVIDIA's devices, not {device}"
    return objection.message if objection and objection.severity == "error" else ""


def _page_size(case: Case) -> int:
    """Return the page size of a pool that sets none: what the other one has, else what its kernels want."""
    sides = [side for side in (case.beside, case.options) if side]
    wanted = [PAGE_SIZE_OF.get(side.attention_backend or "") for side in sides]
    return next(filter(None, (*(side.page_size for side in sides), *wanted)), PAGE_SIZE)


def _whole_dense_layers(case: Case, tp: int) -> bool:
    """Whether dense layers, divided by all GPUs, would not be whole blocks of FP8."""
    card = case.card
    return card is not None and card.dense_layers > 0 and bool(card.intermediate_size % (tp * card.block))


def _with_defaults(case: Case) -> Case:
    """Fill in what the operator left out; nothing that was set is changed."""
    given = case.options.model_dump(exclude_none=True)
    role = case.role
    tp = given.get("tensor_parallel_size", max(1, case.world_size // case.stages))
    dp = given.get("data_parallel_size", 1)
    dp_attention = given.get("dp_attention", dp > 1)
    # Of a model without a card: what the operator seems to know.
    eplb, a2a = case.asked_eplb, given.get("a2a_backend", "none")
    seems = eplb.enabled or eplb.redundant_experts > 0 or a2a != "none"
    experts = case.card.experts is not None if case.card else seems
    ep = given.get("expert_parallel_size", tp if experts else 1)
    spread = experts and ep > 1 and case.nodes > 1
    # DeepEP is a package that the official image brings, and pays between hosts. Where one pool does both,
    # EPLB counts in one of its modes only.
    counted = role != "aggregated" or not case.asked_eplb.enabled
    chosen = spread and counted and not against_deepep(case)
    a2a = given.get("a2a_backend", "deepep" if chosen else "none")
    most = DISPATCH_LIMIT // case.draft_tokens if a2a in DISPATCH_ENV else GRAPH_MAX_BS
    graph_max_bs = given.get("cuda_graph_max_bs", min(GRAPH_MAX_BS, most))
    defaults: dict[str, Any] = {
        "tensor_parallel_size": tp,
        "data_parallel_size": dp,
        "dp_attention": dp_attention,
        "dp_lm_head": dp_attention and dp > 1,
        "expert_parallel_size": ep,
        "a2a_backend": a2a,
        "moe_dense_tp_size": 1
        if experts and ((dp_attention and a2a != "none") or _whole_dense_layers(case, tp))
        else None,
        "page_size": case.only_page_size or _page_size(case),
        "mem_fraction_static": FRACTION[role],
        "dispatch_tokens_per_rank": min(DISPATCH_LIMIT, DISPATCH_TOKENS * case.draft_tokens),
    }
    if a2a == "deepep" and experts:
        defaults["deepep_mode"] = DEEPEP_MODE[role]
        if case.runner == "flashinfer_cutedsl":  # has no other
            defaults["deepep_mode"] = "low_latency"
        elif case.expert_format == "bf16":  # no kernel for 16 bit takes what the normal mode alone hands over
            defaults["moe_runner_backend"] = "deep_gemm"
            defaults["deepep_mode"] = "low_latency" if role == "decode" else "auto"
    elif a2a in DISPATCH_ENV and experts:
        defaults["deepep_mode"] = "low_latency"  # they have no other
    ranks = dp if dp_attention else 1
    if a2a == "deepep_v2":
        chunk = given.get("chunked_prefill_size", CHUNK_PER_RANK * ranks) // ranks if case.prefills else 0
        steps = graph_max_bs * case.draft_tokens if case.decodes else 0
        defaults["dispatch_tokens_per_rank"] = max(DISPATCH_TOKENS, chunk, steps)
    if case.decodes:
        defaults |= {"cuda_graph_max_bs": graph_max_bs, "max_running_requests": graph_max_bs * ranks}
    if case.prefills:
        defaults["chunked_prefill_size"] = CHUNK_PER_RANK * ranks
    options = SglangOptions.model_validate(defaults | given)
    made = replace(case, options=options)
    if "mem_fraction_static" in given or not (budget := made.budget()) or budget.kv > 0:
        return made
    # Weights that the usual share is too small for, and a GPU is not.
    share = min(RAISED_FRACTION, math.floor(100 * budget.highest_fraction()) / 100)
    if share <= max(FRACTION[role], budget.lowest_fraction(0)):
        return made
    return replace(made, options=options.model_copy(update={"mem_fraction_static": share}))
