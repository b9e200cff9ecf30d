"""What TensorRT-LLM demands of a pool, one rule after the other. To add one: a function with `@rule`.

A rule is silent when what it needs is unknown or another rule already objects. Where TensorRT-LLM says
nothing (it starts, and fails or limps later) the docstring says so with the word "later" or "silently".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wideep.deployment.model import Host
from wideep.deployment.site import PLANE_FLAGS
from wideep.engines.rules import (
    judge,
    own_environment,
    pair,
    remote_code,
    same_gpus,
    same_layout,
    warn,
)
from wideep.engines.trtllm.options import WIDE, Case, has_wideep
from wideep.inventory.settings import EplbSettings
from wideep.problems import Problem
from wideep.reference.memory import gib, listed
from wideep.reference.versions import versions

Rule = Callable[[Case], Iterator[Problem]]
RULES: list[Rule] = []

# Flags that follow from the inventory: flag -> what decides it.
OWNED = {
    "model": "wideep_model_path",
    "served-model-name": "wideep_model",
    "namespace": "wideep_namespace",
    "endpoint": "wideep_namespace",
    **PLANE_FLAGS,
    "disaggregation-mode": "the inventory group that a host is in",
    "gpus-per-node": "wideep_pools.<pool>.gpus_per_node",
    "publish-kv-events": "wideep_router_mode",
    "extra-engine-args": "wideep_pools.<pool>.options",
    "override-engine-args": "wideep_pools.<pool>.options.trtllm.engine_args",
}
# Flag -> the option that decides it, in the engine's YAML (which wins over the flag).
OPTION_OF = {
    "tensor-parallel-size": "tensor_parallel_size",
    "pipeline-parallel-size": "pipeline_parallel_size",
    "expert-parallel-size": "expert_parallel_size",
    "enable-attention-dp": "dp_attention",
    "kv-block-size": "page_size",
    "max-batch-size": "max_batch_size",
    "max-num-tokens": "max_num_tokens",
    "max-seq-len": "context_length",
    "free-gpu-memory-fraction": "free_gpu_memory_fraction",
    "load-format": "load_format",
}
# Field of the engine's YAML -> the option that decides it.
FIELDS = {
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "moe_expert_parallel_size": "expert_parallel_size",
    "moe_tensor_parallel_size": "expert_parallel_size",
    "enable_attention_dp": "dp_attention",
    "max_batch_size": "max_batch_size",
    "max_num_tokens": "max_num_tokens",
    "max_seq_len": "context_length",
    "enable_chunked_prefill": "chunked_prefill",
    "disable_overlap_scheduler": "overlap_scheduler",
    "kv_cache_config.free_gpu_memory_fraction": "free_gpu_memory_fraction",
    "kv_cache_config.dtype": "kv_cache_dtype",
    "kv_cache_config.tokens_per_block": "page_size",
    "kv_cache_config.enable_block_reuse": "block_reuse",
    "cuda_graph_config.batch_sizes": "cuda_graph_batch_sizes",
    "cuda_graph_config.max_batch_size": "cuda_graph_max_bs",
    "cuda_graph_config.enable_padding": "cuda_graph_padding",
    "moe_config.backend": "moe_backend",
    "moe_config.max_num_tokens": "moe_max_tokens",
    "cache_transceiver_config.max_tokens_in_buffer": "max_tokens_in_buffer",
    "load_format": "load_format",
    "trust_remote_code": "trust_remote_code",
}
# Field -> what else decides it.
OWNED_FIELDS = {
    "model": "wideep_model_path",
    "gpus_per_node": "wideep_pools.<pool>.gpus_per_node",
    "moe_config.load_balancer": "wideep_eplb",
    "cache_transceiver_config.backend": "wideep_kv_transfer",
}
# Models whose experts TensorRT-LLM balances (its moe_model_arch_list), by how their names begin.
BALANCED = (
    "deepseek-ai/DeepSeek-R1",
    "deepseek-ai/DeepSeek-V3",
    "meta-llama/Llama-4",
    "mistralai/Mixtral",
    "Qwen/Qwen2",
    "Qwen/Qwen3",
)
UNBALANCED_BACKENDS = ("VANILLA", "TRITON", "MARLIN")
# Environment variables that once chose what wideep_kv_transfer chooses.
OLD_TRANSFER = tuple(f"TRTLLM_USE_{name}_KVCACHE" for name in ("NIXL", "UCX", "MOONCAKE", "MPI"))
# Sections of the engine's YAML that have such fields in them.
SECTIONS = frozenset(path.partition(".")[0] for path in (*FIELDS, *OWNED_FIELDS) if "." in path)
# trtllm-llmapi-launch hands its words to the shell without quotes.
SHELL_SPECIAL = frozenset(" \t\n*?[")
LOWEST_FRACTION, HIGHEST_FRACTION = 0.1, 0.95


def rule(function: Rule) -> Rule:
    """Add a rule to the list."""
    RULES.append(function)
    return function


# ---- one way to say each thing -------------------------------------------------------------------


@rule
def flags_of_the_plan(case: Case) -> Iterator[Problem]:
    """The engine's YAML wins over flags silently; addresses and roles follow from the inventory."""
    for flag in case.extra:
        where = f"wideep_pools.{case.role}.extra_args.{flag}"
        if flag in OWNED:
            yield Problem(
                f"--{flag} is decided by {OWNED[flag]}", where, "remove it here and set that instead"
            )
        elif flag in OPTION_OF:
            yield Problem(
                f"--{flag} has an option of its own, which rules can check",
                where,
                f"set {case.at(OPTION_OF[flag])} instead",
            )


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in tree.items():
        path = f"{above}{key}"
        yield path
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")


@rule
def fields_of_the_plan(case: Case) -> Iterator[Problem]:
    """`engine_args` is for what no option has: two values for one field would be one too many."""
    for path in _leaves(case.options.engine_args):
        where = f"{case.at('engine_args')}.{path}"
        if path in SECTIONS:
            if not isinstance(case.options.engine_args[path], Mapping):
                yield Problem(
                    f"{path} is no mapping: it would take the place of all fields of it that the plan sets",
                    where,
                    "set cuda_graphs: false instead"
                    if path == "cuda_graph_config"
                    else "remove it, or write {field: value} for further fields",
                )
        elif path in FIELDS:
            yield Problem(
                f"{path} has an option of its own, which rules can check",
                where,
                f"set {case.at(FIELDS[path])} instead",
            )
        elif path in OWNED_FIELDS:
            yield Problem(
                f"{path} is decided by {OWNED_FIELDS[path]}", where, "remove it here and set that instead"
            )


@rule
def transfer_variables(case: Case) -> Iterator[Problem]:
    """The YAML names the backend; the old switches do nothing, or another thing than it says."""
    for name in OLD_TRANSFER:
        if name in case.pool.settings.env:
            yield Problem(
                f"{name} is superseded by the engine's YAML, which names the backend",
                f"wideep_pools.{case.role}.env.{name}",
                "remove it and set wideep_kv_transfer",
            )


@rule
def model_directory(case: Case) -> Iterator[Problem]:
    """The rehearsal's small directory has no weights. It is the checkpoint: no engine is built from it."""
    if not case.settings.model_path:
        yield Problem(
            "TensorRT-LLM needs the model's directory",
            "wideep_model_path",
            "set wideep_model_path to a directory that all hosts of the pool have",
        )


@rule
def package(case: Case) -> Iterator[Problem]:
    """There is no lock file to install it from."""
    if case.settings.in_venv:
        yield Problem(
            "this release has no lock file for TensorRT-LLM: wideep_runtime venv cannot install it",
            "wideep_runtime",
            "set wideep_runtime: container; or existing, and wideep_python to a Python that has TensorRT-LLM",
        )


# ---- who computes what ---------------------------------------------------------------------------


@rule
def world_size(case: Case) -> Iterator[Problem]:
    """One rank for each GPU: MPI starts as many."""
    pp = case.options.pipeline_parallel_size
    if case.tp * pp != case.world_size:
        pipeline = f" x pipeline_parallel_size {pp}" if pp > 1 else ""
        yield Problem(
            f"tensor_parallel_size {case.tp}{pipeline} is not the replica's {case.world_size} GPUs"
            f" ({case.nodes} nodes x {case.world_size // case.nodes})",
            case.at("tensor_parallel_size"),
            f"set it to {case.world_size // pp}, leave it out, or change nodes_per_replica or gpus_per_node",
        )


@rule
def attention_data_parallel(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM has one switch: attention is divided by all GPUs, or each GPU attends for itself."""
    if case.dp not in (1, case.tp):
        yield Problem(
            f"data_parallel_size {case.dp}: attention is whole on each of {case.tp} GPUs,"
            " or divided by all of them",
            case.at("data_parallel_size"),
            f"set it to {case.tp} or 1",
        )
    elif case.options.dp_attention and case.dp == 1:
        yield warn(
            "dp_attention does nothing with data_parallel_size 1",
            case.at("dp_attention"),
            f"set data_parallel_size: {case.tp}",
        )
    elif not case.options.dp_attention and case.dp > 1:
        yield Problem(
            f"data_parallel_size {case.dp} without dp_attention: TensorRT-LLM has no other data parallelism",
            case.at("dp_attention"),
            "set dp_attention: true, or data_parallel_size: 1 and more replicas",
        )


@rule
def attention_heads(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM fails later, when it loads the model."""
    if case.card and case.dp == 1 and case.card.attention.heads % case.tp:
        yield Problem(
            f"{case.card.attention.heads} attention heads do not divide by {case.tp} GPUs",
            case.at("tensor_parallel_size"),
            f"choose a size that divides them, or data_parallel_size: {case.tp}",
        )


rule(same_gpus)
rule(own_environment)
rule(remote_code)


@rule
def gpu_generation(case: Case) -> Iterator[Problem]:
    """FP8 kernels begin with Ada and Hopper; TensorRT-LLM fails later, when it loads the model."""
    if case.gpu is None or case.gpu.fp8:
        return
    if case.card and case.card.weights != "bf16":
        yield Problem(
            f"{case.card.weights.upper()} weights do not run on {case.gpu.product}",
            "wideep_model",
            "use GPUs of the Hopper generation or later, or a model with 16-bit weights",
        )
    if case.options.kv_cache_dtype == "fp8":
        yield Problem(
            f"an FP8 KV cache does not run on {case.gpu.product}",
            case.at("kv_cache_dtype"),
            "remove kv_cache_dtype",
        )


# ---- experts -------------------------------------------------------------------------------------


@rule
def dense_model(case: Case) -> Iterator[Problem]:
    """A dense model has no experts to spread: several attention replicas of it are wide DP, not wide EP."""
    if case.card is None or case.card.experts:
        return
    o, eplb = case.options, case.settings.eplb
    used = {
        case.at("expert_parallel_size"): case.ep > 1,
        case.at("moe_backend"): o.moe_backend is not None,
        case.at("moe_max_tokens"): "moe_max_tokens" in case.given,
        "wideep_eplb": eplb.enabled or eplb.redundant_experts > 0,
    }
    for where in (where for where, wrong in used.items() if wrong):
        yield Problem(
            f"{case.settings.model} is a dense model: it has no experts",
            where,
            "remove it; or serve a model with experts",
        )


@rule
def expert_parallel_size(case: Case) -> Iterator[Problem]:
    """moe_tensor_parallel_size x moe_expert_parallel_size is tensor_parallel_size."""
    if case.experts and case.tp % case.ep:
        yield Problem(
            f"expert_parallel_size {case.ep} does not divide tensor_parallel_size {case.tp}",
            case.at("expert_parallel_size"),
            f"set it to {case.tp}, or leave it out",
        )


@rule
def blocks_divide(case: Case) -> Iterator[Problem]:
    """FP8 scales belong to whole blocks of weights; TensorRT-LLM fails later, when it loads them."""
    card = case.card
    if card is None or card.experts is None or card.block == 1 or case.tp % case.ep:
        return
    gpus, width = case.tp // case.ep, card.experts.intermediate_size
    if width % (gpus * card.block):
        yield Problem(
            f"experts: {width} columns divided by {gpus} GPUs are not whole FP8 blocks of {card.block}",
            case.at("expert_parallel_size"),
            f"set it to {case.tp}",
        )


@rule
def slots_divide(case: Case) -> Iterator[Problem]:
    """num_slots counts experts and copies; every GPU has the same number of slots."""
    slots = case.slots
    if slots is None or slots % case.ep == 0:
        return
    redundant = case.settings.eplb.redundant_experts
    below = slots // case.ep * case.ep - (slots - redundant)
    legal = [n for n in (below, below + case.ep) if n >= 0]
    yield Problem(
        f"{slots - redundant} experts + {redundant} redundant ones do not divide by"
        f" expert parallel size {case.ep}",
        "wideep_eplb.redundant_experts",
        f"use {' or '.join(map(str, legal))}",
    )


@rule
def load_balancer_is_used(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM ignores load_balancer silently, unless model, experts, attention and backend suit it."""
    if not case.balanced:
        return
    o, card, says = case.options, case.card, "TensorRT-LLM would ignore the load balancer silently"
    if card is None:
        yield Problem(
            "the load balancer has to know how many experts the model has",
            "wideep_model_card",
            "set it, or remove wideep_eplb",
        )
    if case.ep == 1:
        yield Problem(
            f"{says}: the experts are not spread, expert parallel size is 1 in pool {case.role}",
            "wideep_eplb",
            f"set {case.at('expert_parallel_size')}: {case.tp}, or remove wideep_eplb",
        )
    if case.dp == 1:
        yield Problem(
            f"{says}: it needs attention by data in pool {case.role}",
            "wideep_eplb",
            f"set {case.at('data_parallel_size')}: {case.tp}, or remove wideep_eplb",
        )
    if card and not any(name.startswith(BALANCED) for name in card.names):
        yield Problem(
            f"{says}: it does not balance models like {case.settings.model}",
            "wideep_eplb",
            "remove wideep_eplb",
        )
    if o.moe_backend in UNBALANCED_BACKENDS:
        yield Problem(
            f"the backend {o.moe_backend} has no load balancing",
            case.at("moe_backend"),
            "remove moe_backend: one that has is chosen",
        )


@rule
def moe_backend(case: Case) -> Iterator[Problem]:
    """The lab's WIDEEP exists up to 1.3.0rc23 and for few GPUs; what is taken instead is said."""
    version, where, gpu = versions().engines["tensorrt-llm"], case.at("moe_backend"), case.gpu
    chosen = case.options.moe_backend
    instead = "remove moe_backend: one that fits is chosen"
    if case.why_backend:
        yield warn(
            f"the experts' backend is {chosen}: {case.why_backend}",
            where,
            f"nothing has to be done; moe_backend: {chosen} ends this notice, another value another choice",
        )
    if chosen != "WIDEEP" or case.why_backend:
        return
    if not has_wideep(version):
        yield Problem(f"WIDEEP is gone from TensorRT-LLM {version}", where, instead)
    elif gpu and not gpu.blackwell and "H20 " not in gpu.product:
        yield Problem(
            f"WIDEEP is for GB200 NVL72 (and H20, RTX 6000D), not for {gpu.product}", where, instead
        )
    elif case.card and case.card.weights == "fp8" and case.balanced:
        yield Problem("WIDEEP does not balance FP8 experts", where, f"{instead}; or remove wideep_eplb")
    elif gpu and not gpu.multi_node_nvlink:
        yield warn(f"sources disagree on whether WIDEEP works on {gpu.product}", where, instead)
    elif case.ep <= WIDE:
        yield warn(f"WIDEEP is for more than {WIDE} GPUs, the experts are on {case.ep}", where, instead)


@rule
def eplb_settings(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM has one method, and a pace in layers for each step (layers_per_chunk, else 1)."""
    eplb, unset = case.settings.eplb, EplbSettings()
    for name in ("algorithm", "rebalance_iterations", "min_utilization"):
        if case.balanced and getattr(eplb, name) != getattr(unset, name):
            yield warn(
                f"{name} is SGLang's, TensorRT-LLM has nothing like it",
                f"wideep_eplb.{name}",
                "remove it, or leave it for SGLang; the pace here is layers_per_chunk",
            )
    if eplb.redundant_experts and not eplb.enabled and case.balanced:
        yield warn(
            "redundant experts that nothing moves: copies stay where they begin, whatever is asked for",
            "wideep_eplb.enabled",
            "nothing has to be done; redundant_experts: 0 saves their memory"
            if _unverified(case)
            else "set wideep_eplb.enabled: true",
        )


def _unverified(case: Case) -> bool:
    """Whether TensorRT-LLM has the experts' weights in a form that its authors have not moved in tests."""
    return case.card is not None and case.card.weights == "fp8" and case.card.block > 1


@rule
def unverified_balancing(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM says so in its log, and goes on; wrong experts would be wrong tokens, silently."""
    if case.balanced and case.settings.eplb.enabled and _unverified(case):
        yield warn(
            "moving FP8 experts in blocks is not verified by TensorRT-LLM around this version (its log says"
            " `online EPLB is not verified yet`)",
            "wideep_eplb.enabled",
            "set enabled: false: copies then stay where they begin; or compare answers before and after load",
        )


@rule
def redundancy_advice(case: Case) -> Iterator[Problem]:
    """None, or one for each GPU, is what TensorRT-LLM's authors use."""
    eplb = case.settings.eplb
    usual = (0, *range(case.ep // 2, case.ep + 1))
    if eplb.enabled and case.ep > 1 and eplb.redundant_experts not in usual:
        yield warn(
            f"{eplb.redundant_experts} redundant experts for {case.ep} GPUs: GPUs/2 to GPUs is usual",
            "wideep_eplb.redundant_experts",
            f"try {case.ep}",
        )


@rule
def host_memory(case: Case) -> Iterator[Problem]:
    """Online balancing copies from host memory; with too little, ranks die later, of a bus error."""
    if case.balanced and case.host_memory:
        coherent = case.gpu is not None and case.gpu.multi_node_nvlink
        gdrcopy = "" if coherent else " and GDRCopy (/dev/gdrdrv)"
        yield warn(
            f"online load balancing keeps all experts in shared memory: each host needs"
            f" {gib(case.host_memory)} of /dev/shm for each replica it has a part of,"
            f" transparent huge pages (not never){gdrcopy}",
            "wideep_eplb.enabled",
            "provide it (mount -o remount,size=…), or set enabled: false",
        )


# ---- batches, tokens, graphs ---------------------------------------------------------------------


@rule
def context_length(case: Case) -> Iterator[Problem]:
    """Buffers are made for the longest sequence; positions beyond the model's own length mean nothing."""
    length = case.options.context_length
    if length is None:
        yield Problem(
            "the longest sequence is unknown: buffers and token budgets depend on it",
            case.at("context_length"),
            "set context_length, or wideep_model_card",
        )
    elif case.card and length > case.card.context_length:
        yield Problem(
            f"context_length {length} is more than the model's {case.card.context_length}",
            case.at("context_length"),
            f"lower it, or leave it out for {case.card.context_length}",
        )


@rule
def prompts_fit(case: Case) -> Iterator[Problem]:
    """The lab's 256 tokens cannot take a prompt of 8192: TensorRT-LLM refuses such requests later."""
    o = case.options
    tokens, length = o.max_num_tokens or 0, o.context_length or 0
    if case.prefills and not o.chunked_prefill and tokens < length:
        yield Problem(
            f"max_num_tokens {tokens} is less than a prompt can be (context_length {length})",
            case.at("max_num_tokens"),
            f"raise it to {length}, leave it out, or set chunked_prefill: true",
        )
    elif case.prefills and o.chunked_prefill and tokens < (o.page_size or 1):
        yield Problem(
            f"chunks of {tokens} tokens are less than a block of {o.page_size}",
            case.at("max_num_tokens"),
            "raise it to some thousands, or leave it out",
        )


@rule
def step_fits(case: Case) -> Iterator[Problem]:
    """Each sequence of a full batch adds a token (and its drafts) to a decode step."""
    o, needed = case.options, (case.options.max_batch_size or 0) * case.draft_tokens
    if case.decodes and (o.max_num_tokens or 0) < needed:
        yield Problem(
            f"max_num_tokens {o.max_num_tokens} is less than a full batch's {needed}",
            case.at("max_num_tokens"),
            f"raise it to {needed}, or leave it out",
        )


@rule
def graph_sizes(case: Case) -> Iterator[Problem]:
    """Graphs beyond the largest batch are never used, and a larger batch decodes slowly; both silently."""
    o = case.options
    if not case.decodes:
        for option in ("cuda_graph_batch_sizes", "cuda_graph_max_bs"):
            if option in case.given:
                yield Problem(
                    "CUDA graphs are for decoding, prefill runs without them",
                    case.at(option),
                    f"remove {option}",
                )
        return
    if not case.graphs:
        yield warn(
            "decoding without CUDA graphs is several times slower",
            case.at("cuda_graphs"),
            "remove cuda_graphs: false",
        )
        return
    sizes, batch = o.cuda_graph_batch_sizes or [0], o.max_batch_size or 0
    option = "cuda_graph_batch_sizes" if "cuda_graph_batch_sizes" in case.given else "cuda_graph_max_bs"
    if max(sizes) > batch:
        yield Problem(
            f"graphs up to {max(sizes)} sequences, but batches end at max_batch_size {batch}",
            case.at(option),
            f"raise max_batch_size to {max(sizes)}, or end at {batch}",
        )
    elif batch not in sizes:
        yield Problem(
            f"no graph for the largest batch, max_batch_size {batch} (graphs end at {max(sizes)})",
            case.at(option),
            f"add {batch}, or leave max_batch_size out",
        )
    if "cuda_graph_batch_sizes" in case.given and o.cuda_graph_max_bs not in (None, max(sizes)):
        yield Problem(
            f"cuda_graph_max_bs {o.cuda_graph_max_bs} is not the largest of cuda_graph_batch_sizes",
            case.at("cuda_graph_max_bs"),
            "keep one of the two",
        )


@rule
def overlap_scheduler(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM does not support it where the KV cache is handed over after a prompt."""
    if case.role == "prefill" and case.options.overlap_scheduler:
        yield Problem(
            "the overlap scheduler does not work in a prefill pool",
            case.at("overlap_scheduler"),
            "remove it: it is off for prefill and on elsewhere",
        )


# ---- KV cache ------------------------------------------------------------------------------------


@rule
def transfer_buffer(case: Case) -> Iterator[Problem]:
    """A prompt longer than the buffer blocks the transfer: workers hang later, under load, and stay so."""
    o = case.options
    if case.disaggregated and (o.max_tokens_in_buffer or 0) < (o.context_length or 0):
        yield Problem(
            f"max_tokens_in_buffer {o.max_tokens_in_buffer} is less than a prompt can be"
            f" (context_length {o.context_length}): transfers would hang under load",
            case.at("max_tokens_in_buffer"),
            f"raise it to {o.context_length}, or leave it out",
        )
    if not case.disaggregated and "max_tokens_in_buffer" in case.given:
        yield Problem(
            "an aggregated pool hands no KV cache over",
            case.at("max_tokens_in_buffer"),
            "remove max_tokens_in_buffer",
        )


@rule
def page_size(case: Case) -> Iterator[Problem]:
    """On Hopper FlashMLA decides, silently: prefill, decode and router could differ."""
    mla = case.card is not None and case.card.attention.kind == "mla"
    if mla and case.gpu and case.gpu.compute == 90 and case.options.page_size != 64:
        yield Problem(
            f"page_size {case.options.page_size}: FlashMLA makes it 64 on {case.gpu.product}",
            case.at("page_size"),
            "set page_size: 64, or leave it out",
        )


@rule
def block_reuse(case: Case) -> Iterator[Problem]:
    """Without it prompts that share a beginning are computed again, and a KV router has nothing to go by."""
    if not case.options.block_reuse and case.prefills:
        yield warn(
            "prefixes are not reused, and a KV router has nothing to choose by",
            case.at("block_reuse"),
            "remove block_reuse: false",
        )


@rule
def fraction(case: Case) -> Iterator[Problem]:
    """It is of what weights leave free, not of the GPU; the lab raises it against a full memory."""
    share = case.options.free_gpu_memory_fraction or 0
    if not LOWEST_FRACTION <= share <= HIGHEST_FRACTION:
        yield Problem(
            f"free_gpu_memory_fraction {share} leaves "
            + (
                "nearly all of the free memory unused"
                if share < LOWEST_FRACTION
                else "nothing for graphs and transfers"
            ),
            case.at("free_gpu_memory_fraction"),
            f"use {LOWEST_FRACTION} to {HIGHEST_FRACTION}",
        )


@rule
def memory(case: Case) -> Iterator[Problem]:
    """Weights, KV cache and what runs beside them, against the GPU; it fails later, out of memory."""
    budget, o = case.budget(), case.options
    share = o.free_gpu_memory_fraction or 0
    if budget is None or not LOWEST_FRACTION <= share <= HIGHEST_FRACTION:
        return
    assert case.gpu is not None
    held, first = sum(budget.weights.values()), budget.beside["runtime"] + budget.beside["activations"]
    late = {k: v for k, v in budget.beside.items() if k not in ("runtime", "activations")}
    free, where = budget.memory - held - first, case.at("free_gpu_memory_fraction")
    if free <= sum(late.values()):
        yield Problem(
            f"weights of {gib(held)} ({listed(budget.weights)}) and {gib(sum(budget.beside.values()))} beside"
            f" them ({listed(budget.beside)}) do not fit a GPU of {gib(budget.memory)} ({case.gpu.product})",
            f"wideep_pools.{case.role}.nodes_per_replica",
            "give a replica more GPUs, or use fewer redundant experts, shorter sequences or smaller batches",
        )
    elif (1 - share) * free < sum(late.values()):
        yield warn(
            f"free_gpu_memory_fraction {share} leaves {gib((1 - share) * free)} of {gib(free)} free after"
            f" weights of {gib(held)}; an estimated {listed(late)} come after the KV cache",
            where,
            f"lower it to {int(100 * (1 - sum(late.values()) / free)) / 100:.2f}",
        )
    elif budget.kv_tokens < (o.context_length or 0):
        yield warn(
            f"the KV cache of a GPU holds {budget.kv_tokens} tokens ({gib(budget.kv)}: {share} of {gib(free)}"
            f" free after weights of {gib(held)}), less than one sequence of {o.context_length}",
            case.at("context_length"),
            "lower context_length, raise free_gpu_memory_fraction, or use kv_cache_dtype: fp8",
        )


# ---- several hosts: one MPI world ----------------------------------------------------------------


def _differs(a: Host, b: Host, *, existing: bool) -> dict[str, tuple[str, str]]:
    """Return variable -> the two values, where mpirun would need other words for another host."""
    pairs = {
        "wideep_interface": (a.interface, b.interface),
        "wideep_state_dir": (a.state_dir, b.state_dir),
    }
    if existing:
        pairs["wideep_python"] = (a.python, b.python)
    return {variable: pair for variable, pair in pairs.items() if pair[0] != pair[1]}


@rule
def one_command(case: Case) -> Iterator[Problem]:
    """Mpirun starts one command on all hosts, in one directory, over one interface's name."""
    for replica in case.pool.replicas:
        for node in replica.nodes[1:]:
            found = _differs(replica.head.host, node.host, existing=case.settings.runtime == "existing")
            for variable, (here, there) in found.items():
                yield Problem(
                    f"differs from {replica.head.host.name}, the head of {replica.name} ({here} and {there}):"
                    " mpirun gives all hosts of a replica the same",
                    f"{variable} on host {node.host.name}",
                    "make the hosts of a replica alike, or use wideep_engine: sglang",
                )


@rule
def launcher_words(case: Case) -> Iterator[Problem]:
    """trtllm-llmapi-launch lets the shell split and expand what it is given."""
    if not case.spans_hosts:
        return
    words = {"wideep_model_path": case.settings.model_path}
    words |= {f"wideep_pools.{case.role}.extra_args.{k}": str(v) for k, v in case.extra.items()}
    for where, word in words.items():
        if SHELL_SPECIAL & set(word):
            yield Problem(
                f"{word!r} would be split or expanded by the shell of trtllm-llmapi-launch",
                where,
                "use a value without spaces and *, ? or [",
            )


# ---- prefill and decode together -----------------------------------------------------------------


def handover(cases: Sequence[Case]) -> Iterator[Problem]:
    """The layout, and what prefill accepts has to fit into decode's sequences."""
    yield from same_layout(cases)
    both = pair(cases)
    if both is None:
        return
    prefill, decode = both
    lengths = (prefill.options.context_length or 0, decode.options.context_length or 0)
    if lengths[0] > lengths[1]:
        yield Problem(
            f"prefill takes prompts of {lengths[0]} tokens, decode sequences of {lengths[1]} only",
            decode.at("context_length"),
            "set the same context_length in both pools",
        )


def check(cases: Sequence[Case]) -> list[Problem]:
    """Return what all rules have to say, each thing once."""
    return judge(cases, RULES, handover)
