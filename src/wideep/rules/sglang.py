"""What SGLang demands of a pool, one rule after the other. To add one: a function with `@rule` before it.

A rule is silent when what it needs is unknown or another rule already objects. Where SGLang says nothing
(it starts, and fails or limps later) the docstring says so with the word "later" or "silently".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wideep.engines.sglang_options import DISPATCH_ENV, Case
from wideep.memory import gib, listed
from wideep.network import some
from wideep.problems import Problem
from wideep.rules.base import judge, own_environment, pair, remote_code, same_gpus, same_layout, warn
from wideep.runtime import PLANE_FLAGS

Rule = Callable[[Case], Iterator[Problem]]
RULES: list[Rule] = []

# Flags that follow from the inventory: flag -> what decides it.
OWNED = {
    "model-path": "wideep_model_path",
    "served-model-name": "wideep_model",
    "namespace": "wideep_namespace",
    "endpoint": "wideep_namespace",
    **PLANE_FLAGS,
    "nnodes": "wideep_pools.<pool>.nodes_per_replica",
    "node-rank": "the order of hosts in the inventory group",
    "dist-init-addr": "wideep_address and wideep_worker_port_base",
    "host": "wideep_address",
    "port": "wideep_worker_port_base",
    "nccl-port": "wideep_worker_port_base",
    "base-gpu-id": "wideep_pools.<pool>.gpus_per_node",
    "gpu-id-step": "wideep_pools.<pool>.gpus_per_node",
    "disaggregation-mode": "the inventory group that a host is in",
    "disaggregation-transfer-backend": "wideep_kv_transfer",
    "disaggregation-bootstrap-port": "wideep_worker_port_base",
    "disaggregation-ib-device": "wideep_network",
    "kv-events-config": "wideep_router_mode",
    "enable-metrics": "the plan, always",
    "config": "wideep_pools.<pool>.options",
    "disagg-config": "wideep_pools.<pool>.options",
    "disagg-config-key": "wideep_pools.<pool>.options",
    "enable-eplb": "wideep_eplb.enabled",
    "ep-num-redundant-experts": "wideep_eplb.redundant_experts",
    "eplb-algorithm": "wideep_eplb.algorithm",
    "eplb-rebalance-num-iterations": "wideep_eplb.rebalance_iterations",
    "eplb-min-rebalancing-utilization-threshold": "wideep_eplb.min_utilization",
    "eplb-rebalance-layers-per-chunk": "wideep_eplb.layers_per_chunk",
}
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
# Variable of the environment -> the option that decides it.
ENV_OF = dict.fromkeys(DISPATCH_ENV.values(), "dispatch_tokens_per_rank")
OPTION_OF = {flag: option for option, flag in FLAGS.items()}

# Attention backend -> page sizes that it works with (SGLang changes others silently).
PAGES = {
    "flashmla": (64,),
    "cutlass_mla": (128,),
    "trtllm_mla": (32, 64),
    "tokenspeed_mla": (32, 64),
    "cutedsl_mla": (32, 64),
    "trtllm_mha": (16, 32, 64),
}
MLA_ONLY = {"flashmla", "cutlass_mla", "trtllm_mla", "tokenspeed_mla", "cutedsl_mla"}
BLACKWELL_ONLY = {"cutlass_mla", "trtllm_mla", "tokenspeed_mla", "cutedsl_mla"}
HOPPER_ONLY = {"fa3", "flashmla"}
FLASHINFER_RUNNERS = ("flashinfer_cutlass", "flashinfer_cutedsl", "flashinfer_trtllm_routed")
# Expert kernels that take DeepEP's layouts (SGLang's register_pre_permute, and what needs none): all, and by
# the type of the experts' weights where it is known.
DEEPEP_RUNNERS = ("deep_gemm", "cutlass", "flashinfer_cutedsl", "humming")
DEEPEP_RUNNERS_OF = {"bf16": ("deep_gemm",), "fp8": ("deep_gemm",)}
LIBRARY = {"deepep": "DeepEP", "mooncake": "Mooncake", "nixl": "NIXL"}
# All-to-alls of other GPUs or other weights.
FOREIGN = {
    "mori": "its expert kernels are AMD's (aiter)",
    "megamoe": "it is one kernel with FP4 experts",
}
# Two flags that SGLang refuses together, and why.
EXCLUSIVE = (
    (
        "disaggregation-decode-enable-radix-cache",
        "speculative-algorithm",
        "drafts are not kept in a decode worker's prefix cache",
    ),
    (
        "disaggregation-decode-enable-radix-cache",
        "enable-hisparse",
        "sparse attention over the host's memory keeps no prefix cache",
    ),
    (
        "disable-cuda-graph-padding",
        "enable-torch-compile",
        "every batch size would be compiled by itself",
    ),
)
# The low-latency kernels mark finished sums with this tag (deepep.py, mooncake.py, nixl.py assert the limit).
DISPATCH_LIMIT = 1024
# DeepEP counts ranks in groups of one host's GPUs (NUM_MAX_NVL_PEERS in its csrc/kernels/configs.cuh).
DEEPEP_GROUP = 8
# Ranks that its normal kernels exist for (launch.cuh there, deep_ep/buffer.py) in 1.2.1, the oldest that
# SGLang's images have; and what later versions add.
DEEPEP_SIZES = (2, 4, 8, 16, 24, 32, 64, 128, 144, 160)
DEEPEP_LATER = (48, 96)
# With it, SGLang sends 16 bit through DeepEP's normal mode, too.
SENDS_16_BIT = "SGLANG_DEEPEP_BF16_DISPATCH"
# How long a request waits for its other side, in seconds: 300 unless set.
PATIENCE = ("SGLANG_DISAGGREGATION_WAITING_TIMEOUT", "SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT")
LONGEST_WAIT_S = 600
# How the kernel names RDMA devices of others than NVIDIA: AWS, Alibaba, Broadcom, Intel, Marvell, Huawei.
OTHER_DEVICES = ("efa", "erdma", "bnxt_re", "irdma", "qedr", "hns")
DAY_S = 86400
LOWEST_FRACTION, HIGHEST_FRACTION = 0.5, 0.95


def rule(function: Rule) -> Rule:
    """Add a rule to the list."""
    RULES.append(function)
    return function


# ---- one way to say each thing -------------------------------------------------------------------


@rule
def flags_of_the_plan(case: Case) -> Iterator[Problem]:
    """Ranks, addresses and ports follow from the inventory; typed options are checked, extra_args are not."""
    for flag in case.extra:
        where = f"wideep_pools.{case.role}.extra_args.{flag}"
        if flag in OWNED:
            yield Problem(
                f"--{flag} is decided by {OWNED[flag]}", where, "remove it here and set that instead"
            )
        elif flag in OPTION_OF:
            option = OPTION_OF[flag] + (": false" if flag == "disable-radix-cache" else "")
            remedy = f"set wideep_pools.{case.role}.options.{option} instead"
            yield Problem(f"--{flag} has an option of its own, which rules can check", where, remedy)


@rule
def environment_of_options(case: Case) -> Iterator[Problem]:
    """A rule that looks at an option would judge another number than the one in force."""
    for name, option in ENV_OF.items():
        if name in case.pool.settings.env:
            yield Problem(
                f"{option} has to be known to rules, which do not read the environment",
                f"wideep_pools.{case.role}.env.{name}",
                f"remove it and set wideep_pools.{case.role}.options.sglang.{option}",
            )


@rule
def model_directory(case: Case) -> Iterator[Problem]:
    """The small model directory of the rehearsal has no weights."""
    if not case.settings.model_path:
        yield Problem(
            "SGLang needs the model's directory",
            "wideep_model_path",
            "set wideep_model_path to a directory that all hosts of the pool have",
        )


@rule
def packages(case: Case) -> Iterator[Problem]:
    """SGLang's own packages are what `venv` installs; SGLang fails later, when it imports another one."""
    if not case.settings.in_venv:
        return
    a2a = "" if case.dense else case.options.a2a_backend
    lacks = {
        "DeepEP": "a2a_backend deepep" if a2a == "deepep" else "",
        "Mooncake": "wideep_kv_transfer mooncake"
        if case.disaggregated and case.settings.kv_transfer == "mooncake"
        else "a2a_backend mooncake"
        if a2a == "mooncake"
        else "",
    }
    for package, reason in lacks.items():
        if reason:
            yield Problem(
                f"{reason} needs the package {package}, which SGLang's own packages do not bring: the"
                " environment of wideep_runtime: venv lacks it",
                "wideep_runtime",
                "set wideep_runtime: container (the official image has it), or existing with a wideep_python"
                " that has it",
            )


@rule
def patience(case: Case) -> Iterator[Problem]:
    """A request whose other side died waits so long, with its memory; SGLang takes any number silently."""
    for name in PATIENCE:
        value = case.pool.settings.env.get(name, "")
        if value.isdecimal() and int(value) > LONGEST_WAIT_S:
            yield warn(
                f"{value} s hide a dead prefill or decode worker: its requests wait so long, and so do their"
                " clients",
                f"wideep_pools.{case.role}.env.{name}",
                f"leave it out (300 s), or use at most {LONGEST_WAIT_S}",
            )


# ---- who computes what ---------------------------------------------------------------------------


@rule
def world_size(case: Case) -> Iterator[Problem]:
    """Tensor parallel size counts all ranks of all nodes."""
    pp = case.stages
    if case.tp * pp != case.world_size:
        pipeline = f" x pp-size {pp}" if pp > 1 else ""
        yield Problem(
            f"tensor_parallel_size {case.tp}{pipeline} is not the replica's {case.world_size} GPUs"
            f" ({case.nodes} nodes x {case.world_size // case.nodes})",
            case.at("tensor_parallel_size"),
            f"set it to {case.world_size // pp}, leave it out, or change nodes_per_replica or gpus_per_node",
        )


@rule
def pipeline(case: Case) -> Iterator[Problem]:
    """Stages of layers hand over one token at a time: neither drafts nor a world that shrinks fit in."""
    if case.stages == 1:
        return
    for other in ("speculative-algorithm", "elastic-ep-backend"):
        if case.extra.get(other) not in (None, "none"):
            yield Problem(
                f"--pp-size {case.extra['pp-size']} excludes --{other}",
                f"wideep_pools.{case.role}.extra_args.{other}",
                "remove one of the two",
            )


@rule
def data_parallel_divides(case: Case) -> Iterator[Problem]:
    """DP attention divides the same GPUs: the lab's TP=1, DP=4 is impossible, it is TP=4, DP=4."""
    if case.tp % case.dp:
        sizes = [n for n in range(1, case.world_size + 1) if case.world_size % n == 0]
        yield Problem(
            f"data_parallel_size {case.dp} does not divide tensor_parallel_size {case.tp}:"
            " attention replicas share the GPUs of the replica, they do not add to them",
            case.at("data_parallel_size"),
            f"use one of {', '.join(map(str, sizes))}",
        )


@rule
def data_parallel_is_attention(case: Case) -> Iterator[Problem]:
    """Without DP attention SGLang starts complete copies, on one node only; replicas do that better."""
    if case.dp > 1 and not case.options.dp_attention:
        yield Problem(
            f"data_parallel_size {case.dp} without dp_attention means complete copies of the model"
            + (", which SGLang refuses over several nodes" if case.nodes > 1 else " behind one address"),
            case.at("dp_attention"),
            "set dp_attention: true, or data_parallel_size: 1 and more replicas (replicas_per_node)",
        )


@rule
def dp_attention_alone(case: Case) -> Iterator[Problem]:
    """SGLang switches it off silently."""
    if case.options.dp_attention and case.dp == 1:
        yield warn(
            "dp_attention does nothing with data_parallel_size 1",
            case.at("dp_attention"),
            f"set data_parallel_size, e.g. {case.tp}",
        )


@rule
def dp_lm_head(case: Case) -> Iterator[Problem]:
    """The output head can be divided by data only where attention is."""
    if case.options.dp_lm_head and not case.options.dp_attention and case.dp > 1:
        yield Problem("dp_lm_head needs dp_attention", case.at("dp_lm_head"), "set dp_attention: true")


@rule
def attention_heads(case: Case) -> Iterator[Problem]:
    """SGLang fails later, when it loads the model."""
    shared = case.tp // case.dp if case.tp % case.dp == 0 else 0
    if case.card and shared and case.card.attention.heads % shared:
        yield Problem(
            f"{case.card.attention.heads} attention heads do not divide by {shared} GPUs"
            " (tensor_parallel_size / data_parallel_size)",
            case.at("data_parallel_size"),
            "choose sizes whose quotient divides the number of heads",
        )


@rule
def blocks_divide(case: Case) -> Iterator[Problem]:
    """FP8 scales belong to whole blocks of weights; SGLang fails later, when it loads them."""
    card, o = case.card, case.options
    if card is None or card.block == 1 or case.tp % case.ep or (case.dp > 1 and not o.dp_attention):
        return
    if case.gpu and not case.gpu.fp8:
        return
    dense = o.moe_dense_tp_size or case.tp
    parts = [(card.intermediate_size, dense, "dense layers", "moe_dense_tp_size", "set it to 1")]
    if card.experts:
        size = card.experts.intermediate_size
        parts.append((size, case.tp // case.ep, "experts", "expert_parallel_size", f"set it to {case.tp}"))
        if card.experts.shared and o.a2a_backend == "none":
            balanced = case.role == "aggregated" and case.settings.eplb.enabled
            deepep = "wideep_eplb.enabled: false, for DeepEP" if balanced else "a2a_backend: deepep"
            remedy = f"set {deepep}: then each GPU has them whole"
            parts.append((size * card.experts.shared, case.tp, "shared experts", "a2a_backend", remedy))
    for width, gpus, what, option, remedy in parts:
        if width % (gpus * card.block):
            yield Problem(
                f"{what}: {width} columns divided by {gpus} GPUs are not whole FP8 blocks of {card.block}",
                case.at(option),
                remedy,
            )


@rule
def moe_dense_tp_size(case: Case) -> Iterator[Problem]:
    """The dense layers are either whole on each GPU or divided by all of them."""
    size = case.options.moe_dense_tp_size
    if size not in (None, 1, case.tp):
        yield Problem(
            f"moe_dense_tp_size {size} is neither 1 nor tensor_parallel_size {case.tp}",
            case.at("moe_dense_tp_size"),
            "set it to 1: each GPU has the few dense layers whole",
        )


@rule
def overlap(case: Case) -> Iterator[Problem]:
    """Two batches overlap one's communication with the other's computation: there has to be some."""
    o = case.options
    if o.two_batch_overlap and o.a2a_backend == "none" and not o.dp_attention:
        yield Problem(
            "two_batch_overlap has nothing to overlap without an all-to-all backend or dp_attention",
            case.at("two_batch_overlap"),
            "set a2a_backend: deepep, or remove two_batch_overlap",
        )
    if o.single_batch_overlap and case.gpu and case.gpu.compute == 90:
        yield Problem(
            f"single_batch_overlap does not run on Hopper ({case.gpu.product})",
            case.at("single_batch_overlap"),
            "use two_batch_overlap",
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
        case.at("a2a_backend"): o.a2a_backend != "none",
        case.at("deepep_mode"): o.deepep_mode is not None,
        case.at("moe_dense_tp_size"): o.moe_dense_tp_size is not None,
        case.at("moe_runner_backend"): o.moe_runner_backend is not None,
        "wideep_eplb": eplb.enabled or eplb.redundant_experts > 0,
    }
    for where in (where for where, wrong in used.items() if wrong):
        yield Problem(
            f"{case.settings.model} is a dense model: it has no experts. What it can do is wide DP",
            where,
            "remove it, and set data_parallel_size; or serve a model with experts",
        )


@rule
def expert_parallel_size(case: Case) -> Iterator[Problem]:
    """All-to-all backends span all GPUs: SGLang sets ep-size to tp-size silently, whatever was written."""
    o = case.options
    if case.card and case.card.experts is None:
        return
    if o.a2a_backend != "none" and case.ep != case.tp:
        yield Problem(
            f"a2a_backend {o.a2a_backend} spreads the experts over all {case.tp} GPUs,"
            f" expert_parallel_size {case.ep} would be ignored",
            case.at("expert_parallel_size"),
            f"set it to {case.tp}, or leave it out",
        )
    elif case.tp % case.ep:
        yield Problem(
            f"expert_parallel_size {case.ep} does not divide tensor_parallel_size {case.tp}",
            case.at("expert_parallel_size"),
            f"set it to {case.tp}, or leave it out",
        )


@rule
def all_to_all_alone(case: Case) -> Iterator[Problem]:
    """One GPU holds all experts, there is nobody to exchange tokens with; SGLang fails later, or limps."""
    if case.options.a2a_backend != "none" and case.world_size == 1:
        yield Problem(
            f"a2a_backend {case.options.a2a_backend} exchanges tokens between GPUs, a replica has one",
            case.at("a2a_backend"),
            "remove it, or give a replica more than one GPU",
        )


@rule
def experts_divide(case: Case) -> Iterator[Problem]:
    """Every GPU holds the same number of experts: the lab's 16 redundant ones on 32 GPUs are impossible."""
    if case.card is None or case.card.experts is None:
        return
    routed, redundant = case.card.experts.routed, case.settings.eplb.redundant_experts
    if case.tp <= case.world_size and (routed + redundant) % case.ep:
        below = (routed + redundant) // case.ep * case.ep - routed
        legal = [n for n in (below, below + case.ep) if n >= 0]
        yield Problem(
            f"{routed} experts + {redundant} redundant ones do not divide by expert parallel size {case.ep}",
            "wideep_eplb.redundant_experts",
            f"use {' or '.join(map(str, legal))}",
        )


@rule
def eplb(case: Case) -> Iterator[Problem]:
    """Load balancing moves experts between GPUs by what was recorded."""
    eplb, mode = case.settings.eplb, case.extra.get("expert-distribution-recorder-mode", "stat")
    buffer = case.extra.get("expert-distribution-recorder-buffer-size")
    if case.card and case.card.experts is None:
        return
    if eplb.enabled and case.ep == 1:
        yield Problem(
            f"EPLB needs experts spread over GPUs, expert parallel size is 1 in pool {case.role}",
            "wideep_eplb.enabled",
            f"set wideep_pools.{case.role}.options.expert_parallel_size: {case.tp}, or enabled: false"
            if case.tp > 1
            else "set enabled: false, or give a replica more than one GPU",
        )
    if eplb.enabled and mode not in ("stat", "stat_approx"):
        yield Problem(
            f"EPLB reads the recorder's statistics, mode {mode} keeps none",
            f"wideep_pools.{case.role}.extra_args.expert-distribution-recorder-mode",
            "remove it: stat is set by itself",
        )
    if eplb.enabled and mode == "stat_approx" and case.options.deepep_mode != "normal":
        yield Problem(
            "the recorder's mode stat_approx counts DeepEP's normal dispatch only",
            f"wideep_pools.{case.role}.extra_args.expert-distribution-recorder-mode",
            "remove it: stat is set by itself",
        )
    if eplb.enabled and case.options.a2a_backend == "deepep" and case.options.deepep_mode == "auto":
        yield Problem(
            "EPLB counts tokens in DeepEP's normal mode or in its low-latency mode, not where steps take"
            f" turns (deepep_mode auto, pool {case.role})",
            "wideep_eplb.enabled",
            "set enabled: false, or serve with pools prefill and decode"
            if case.role == "aggregated"
            else f"set enabled: false, or wideep_pools.{case.role}.options.deepep_mode:"
            f" {'normal' if case.role == 'prefill' else 'low_latency'}",
        )
    if eplb.enabled and buffer is not None and int(buffer) > eplb.rebalance_iterations:
        yield Problem(
            f"rebalance_iterations {eplb.rebalance_iterations} is less than the recorder's buffer of {buffer}"
            " passes: it would balance by stale records",
            "wideep_eplb.rebalance_iterations",
            f"set it to at least {buffer}, or remove expert-distribution-recorder-buffer-size",
        )
    if eplb.redundant_experts and not eplb.enabled:
        yield warn(
            "redundant experts without EPLB: they take memory and nothing is ever rebalanced",
            "wideep_eplb.enabled",
            "set wideep_eplb.enabled: true",
        )


@rule
def elastic_eplb(case: Case) -> Iterator[Problem]:
    """Where ranks may leave, experts are placed by an algorithm that knows it; `auto` becomes that one."""
    backend, algorithm = case.extra.get("elastic-ep-backend"), case.settings.eplb.algorithm
    if backend not in (None, "none") and case.settings.eplb.enabled and algorithm != "auto":
        yield Problem(
            f"--elastic-ep-backend {backend} does not work with the algorithm {algorithm}",
            "wideep_eplb.algorithm",
            "set it to auto, or remove elastic-ep-backend",
        )


@rule
def eplb_groups(case: Case) -> Iterator[Problem]:
    """Hierarchical placement keeps a group of experts on one node; SGLang fails later, at the first move."""
    eplb, experts = case.settings.eplb, case.card.experts if case.card else None
    if eplb.enabled and experts and "hierarchical" in eplb.algorithm and experts.groups % case.nodes:
        yield Problem(
            f"{eplb.algorithm} needs the {experts.groups} groups of experts to divide by {case.nodes} nodes",
            "wideep_eplb.algorithm",
            "use auto or deepseek",
        )


@rule
def redundancy_advice(case: Case) -> Iterator[Problem]:
    """Between half a spare expert and one for each GPU is what has been found to pay."""
    eplb = case.settings.eplb
    if eplb.enabled and case.ep > 1 and not case.ep // 2 <= eplb.redundant_experts <= case.ep:
        legal = case.ep if case.card is None or case.card.experts is None else _advised(case)
        if legal == eplb.redundant_experts:
            return
        yield warn(
            f"{eplb.redundant_experts} redundant experts for {case.ep} GPUs: GPUs/2 to GPUs is usual"
            " (fewer leave hot experts alone, more take memory from the KV cache)",
            "wideep_eplb.redundant_experts",
            f"try {legal}",
        )


def _advised(case: Case) -> int:
    """Return the largest legal count up to the number of GPUs, else the smallest legal one."""
    assert case.card is not None
    assert case.card.experts is not None
    return (-case.card.experts.routed) % case.ep or case.ep


@rule
def moe_runner(case: Case) -> Iterator[Problem]:
    """Some expert kernels know whole or fully spread experts only."""
    runner, quantization = case.options.moe_runner_backend, case.extra.get("quantization")
    where = case.at("moe_runner_backend")
    if runner == "flashinfer_cutedsl" and case.expert_weights in ("bf16", "fp8"):
        yield Problem(
            f"{runner} is for FP4 experts, {case.settings.model} has {case.expert_weights}",
            where,
            "remove moe_runner_backend: SGLang chooses the fastest one",
        )
    if runner in ("flashinfer_cutlass", "flashinfer_cutedsl") and case.ep not in (1, case.tp):
        yield Problem(
            f"{runner} needs expert_parallel_size 1 or {case.tp}, it is {case.ep}",
            where,
            f"set expert_parallel_size: {case.tp}, or remove moe_runner_backend",
        )
    if runner == "cutlass" and quantization in ("fp8", "mxfp8") and case.ep > 1:
        yield Problem(
            f"cutlass with {quantization} weights cannot spread experts (expert_parallel_size {case.ep})",
            where,
            "remove moe_runner_backend: SGLang chooses the fastest one",
        )


@rule
def foreign_all_to_all(case: Case) -> Iterator[Problem]:
    """SGLang starts them and fails later, when a package is missing or the first token is sent."""
    backend = case.options.a2a_backend or "none"
    if backend in FOREIGN and not case.dense and not (backend == "megamoe" and _may_be_fp4(case)):
        yield Problem(
            f"a2a_backend {backend} cannot serve {case.settings.model} here: {FOREIGN[backend]}",
            case.at("a2a_backend"),
            "set a2a_backend: deepep, or none",
        )


def _may_be_fp4(case: Case) -> bool:
    return case.expert_weights in (None, "fp4")


# ---- DeepEP, and what hands over tokens as it does -----------------------------------------------


@rule
def deepep_gpu(case: Case) -> Iterator[Problem]:
    """The expert kernels behind it are DeepGEMM's; SGLang asserts later, when it makes the layers."""
    backend = case.options.a2a_backend
    if backend in DISPATCH_ENV and case.gpu and not case.gpu.deep_gemm and not case.dense:
        yield Problem(
            f"a2a_backend {backend} needs DeepGEMM's expert kernels (Hopper, or Blackwell of data centres),"
            f" which {case.gpu.product} cannot run",
            case.at("a2a_backend"),
            "set a2a_backend: none",
        )


@rule
def deepep_runner(case: Case) -> Iterator[Problem]:
    """Few expert kernels take tokens in DeepEP's layouts; SGLang fails later, when it makes or uses them."""
    o, weights = case.options, case.expert_weights or ""
    runner = o.moe_runner_backend if o.moe_runner_backend != "auto" else None
    if o.a2a_backend not in DISPATCH_ENV or case.dense:
        return
    legal = DEEPEP_RUNNERS_OF.get(weights, DEEPEP_RUNNERS)
    if weights == "bf16" and o.a2a_backend != "deepep":
        yield Problem(
            f"a2a_backend {o.a2a_backend} sends FP8, and {case.settings.model} has 16 bit experts",
            case.at("a2a_backend"),
            "set a2a_backend: none, or deepep",
        )
    elif runner not in (*legal, None) or (weights == "bf16" and runner is None):
        experts = f"{weights} experts" if weights else "experts"
        yield Problem(
            f"moe_runner_backend {runner or 'auto'} cannot take tokens for {experts} from a2a_backend"
            f" {o.a2a_backend}",
            case.at("moe_runner_backend"),
            "remove moe_runner_backend, or set a2a_backend: none",
        )
    elif weights == "bf16" and o.deepep_mode == "normal" and SENDS_16_BIT not in case.pool.settings.env:
        yield Problem(
            f"SGLang has no kernel for 16 bit experts ({case.settings.model}) in DeepEP's normal mode alone",
            case.at("deepep_mode"),
            "set a2a_backend: none, or deepep_mode: auto",
        )


@rule
def mooncake_needs_elastic(case: Case) -> Iterator[Problem]:
    """Mooncake's all-to-all asks who is alive; without that state SGLang fails later, at the first token."""
    backend = case.extra.get("elastic-ep-backend")
    if case.options.a2a_backend == "mooncake" and backend in (None, "none") and not case.dense:
        yield Problem(
            "a2a_backend mooncake needs to know which ranks are alive",
            f"wideep_pools.{case.role}.extra_args.elastic-ep-backend",
            "set it to mooncake, or use another a2a_backend",
        )


@rule
def deepep_ranks(case: Case) -> Iterator[Problem]:
    """DeepEP is written for hosts of eight GPUs, and for certain numbers of them; it asserts later, at start.

    A `deepep-config` changes the size of its buffers, not the numbers that its kernels exist for.
    """
    o, each = case.options, len(case.replica.head.gpus)
    if o.a2a_backend != "deepep" or case.dense or case.tp < 2 or case.tp * case.stages != case.world_size:
        return
    linked = case.gpu is not None and case.gpu.multi_node_nvlink
    where = f"wideep_pools.{case.role}." + ("nodes_per_replica" if case.nodes > 1 else "gpus_per_node")
    remedy = "change it, or set a2a_backend: none"
    if case.tp > DEEPEP_GROUP and case.tp % DEEPEP_GROUP:
        yield Problem(
            f"DeepEP counts GPUs in groups of {DEEPEP_GROUP}, {case.tp} are not whole", where, remedy
        )
    elif o.deepep_mode == "low_latency":  # finds its way by each GPU
        return
    elif case.nodes > 1 and each % min(DEEPEP_GROUP, case.tp) and not linked:
        yield Problem(
            f"DeepEP's normal kernels take {DEEPEP_GROUP} GPUs in a row for those of one host (NVLink), and a"
            f" replica has {each} on each",
            f"wideep_pools.{case.role}.gpus_per_node",
            f"give a replica {DEEPEP_GROUP} GPUs of each host, or set a2a_backend: none",
        )
    elif case.tp in DEEPEP_LATER:
        yield warn(
            f"DeepEP's normal kernels know {case.tp} GPUs in versions after 1.2.1 only",
            where,
            f"see that the image has a later one, or use {_sizes(case.tp)} GPUs",
        )
    elif case.tp not in DEEPEP_SIZES:
        yield Problem(
            f"DeepEP's normal kernels do not exist for {case.tp} GPUs",
            where,
            f"use {_sizes(case.tp)} GPUs, or set a2a_backend: none",
        )


def _sizes(size: int) -> str:
    """Return the numbers of GPUs beside `size` that DeepEP's normal kernels exist for."""
    below = [n for n in DEEPEP_SIZES if n < size][-1:]
    return " or ".join(map(str, [*below, *[n for n in DEEPEP_SIZES if n > size][:1]]))


@rule
def deepep_mode(case: Case) -> Iterator[Problem]:
    """Normal mode switches CUDA graphs off silently; mooncake and nixl do not have it, and fail later."""
    o = case.options
    if o.deepep_mode is None or o.a2a_backend in FOREIGN:
        return
    if o.a2a_backend not in DISPATCH_ENV:
        yield Problem(
            f"deepep_mode is of no use with a2a_backend {o.a2a_backend}",
            case.at("deepep_mode"),
            "set a2a_backend: deepep, or remove deepep_mode",
        )
    elif o.a2a_backend != "deepep" and o.deepep_mode != "low_latency":
        yield Problem(
            f"a2a_backend {o.a2a_backend} has the low-latency mode only, not {o.deepep_mode}",
            case.at("deepep_mode"),
            "remove it, or set a2a_backend: deepep",
        )
    elif o.deepep_mode == "normal" and case.decodes:
        yield Problem(
            "DeepEP's normal mode turns CUDA graphs off: decoding would be many times slower",
            case.at("deepep_mode"),
            f"use {'low_latency' if case.role == 'decode' else 'auto'}",
        )


@rule
def low_latency_needs_graphs(case: Case) -> Iterator[Problem]:
    """The low-latency kernels exist for captured decode steps; SGLang starts without them silently."""
    o = case.options
    if (
        o.a2a_backend == "deepep"
        and o.deepep_mode == "low_latency"
        and case.role == "decode"
        and not case.graphs
    ):
        yield Problem(
            "DeepEP's low_latency mode without CUDA graphs loses what it is for",
            case.at("cuda_graphs"),
            "remove cuda_graphs: false (and the graph switches in extra_args)",
        )


@rule
def dispatch_prompts(case: Case) -> Iterator[Problem]:
    """A prompt's chunk goes in one step; more than the low-latency buffer holds aborts later, under load."""
    o, limit = case.options, case.options.dispatch_tokens_per_rank
    if o.a2a_backend not in DISPATCH_ENV or o.deepep_mode != "low_latency" or not case.prefills:
        return
    tokens = -(-case.chunk_per_rank // case.attention_tp)
    if 0 < tokens <= limit:
        return
    page = o.page_size or 1
    chunk = limit * case.attention_tp // page * page * case.ranks
    smaller = f"set chunked_prefill_size: {chunk} (slow)" if chunk else "use smaller pages"
    deepep = f"use {'normal' if case.role == 'prefill' and case.expert_weights != 'bf16' else 'auto'}"
    yield Problem(
        f"{LIBRARY[o.a2a_backend]}'s low-latency mode carries {limit} tokens of a GPU at a time, prompts are"
        + (f" longer (chunks of {tokens})" if tokens else " longer (not chunked)"),
        case.at("deepep_mode" if o.a2a_backend == "deepep" else "chunked_prefill_size"),
        f"{deepep}, or {smaller}" if o.a2a_backend == "deepep" else f"{smaller}, or a2a_backend: deepep",
    )


@rule
def requests_for_every_rank(case: Case) -> Iterator[Problem]:
    """SGLang divides the requests by the ranks; with none for a rank it asserts later, after loading."""
    requests = case.options.max_running_requests
    if case.decodes and requests is not None and requests < case.ranks:
        yield Problem(
            f"max_running_requests {requests} is none for each of {case.ranks} ranks",
            case.at("max_running_requests"),
            f"use a multiple of {case.ranks}, e.g. {case.ranks * (case.options.cuda_graph_max_bs or 1)}",
        )


@rule
def dispatch_tokens(case: Case) -> Iterator[Problem]:
    """A GPU that sends more than its buffer holds aborts; SGLang fails later, under load.

    GPUs that share a sequence's attention send a part of its tokens each.
    """
    o, limit = case.options, case.options.dispatch_tokens_per_rank
    if o.a2a_backend not in DISPATCH_ENV or o.deepep_mode == "normal":
        return
    if case.extra.get("speculative-algorithm") and "speculative-num-draft-tokens" not in case.extra:
        yield Problem(
            "speculation without a number of draft tokens: SGLang chooses, and a step's tokens are unknown",
            f"wideep_pools.{case.role}.extra_args.speculative-num-draft-tokens",
            "set it, e.g. to 4 (with speculative-num-steps 3 and speculative-eagle-topk 1)",
        )
    if limit > DISPATCH_LIMIT:
        yield Problem(
            f"{limit} is more than {LIBRARY[o.a2a_backend]}'s {DISPATCH_LIMIT}",
            case.at("dispatch_tokens_per_rank"),
            f"use at most {DISPATCH_LIMIT}",
        )
    if not case.decodes:
        return
    sizes = {"cuda_graph_max_bs": case.captured_per_rank}
    if case.requests_per_rank > case.captured_per_rank:
        sizes["max_running_requests"] = case.requests_per_rank
    for option, per_rank in sizes.items():
        tokens = -(-per_rank * case.draft_tokens // case.attention_tp)
        if tokens > limit:
            most = limit * case.attention_tp // case.draft_tokens
            lower = most * (1 if option == "cuda_graph_max_bs" else case.ranks)
            draft = f" x {case.draft_tokens} draft tokens" if case.draft_tokens > 1 else ""
            shared = f" over {case.attention_tp} GPUs" if case.attention_tp > 1 else ""
            yield Problem(
                f"{per_rank} sequences a rank{draft}{shared} are {tokens} tokens of a GPU in a step;"
                f" {LIBRARY[o.a2a_backend]}'s low-latency buffer holds {limit}",
                case.at(option),
                f"lower {option} to {lower},"
                f" or raise dispatch_tokens_per_rank to {tokens} (its buffers grow with it)",
            )


@rule
def deepep_devices(case: Case) -> Iterator[Problem]:
    """Its kernels write to the device's queues themselves, as ConnectX has them; it fails later, at start."""
    foreign = {
        host.name: device
        for host in case.hosts
        for device in host.network.rdma_devices
        if device.startswith(OTHER_DEVICES)
    }
    if case.options.a2a_backend == "deepep" and case.nodes > 1 and foreign:
        yield Problem(
            f"DeepEP between hosts drives NVIDIA's devices (mlx5) only, not {next(iter(foreign.values()))}",
            f"wideep_network.rdma_devices on {some(list(foreign))}",
            "name mlx5 devices, or set a2a_backend: none (tensor parallel experts) or another all-to-all",
        )


@rule
def deepep_needs_rdma(case: Case) -> Iterator[Problem]:
    """DeepEP sends between hosts by RDMA or multi-node NVLink; it has no way over TCP."""
    without = [host.name for host in case.hosts if not host.network.rdma_devices]
    linked = case.gpu is not None and case.gpu.multi_node_nvlink
    if case.options.a2a_backend == "deepep" and case.nodes > 1 and without and not linked:
        yield warn(
            "DeepEP between hosts needs RDMA, and no device is described: without one its workers fail",
            f"wideep_network.rdma_devices on {some(without)}",
            "name the RDMA devices beside the GPUs, or set a2a_backend: none (tensor parallel experts)",
        )


@rule
def fp8_on_old_gpus(case: Case) -> Iterator[Problem]:
    """FP8 arithmetic begins with Ada (8.9).

    Before, dense layers are unpacked for each use (Marlin's kernel). Experts have Triton's, which does not
    compile there: SGLang fails later.
    """
    if case.gpu is None or case.gpu.fp8 or case.card is None or case.expert_weights != "fp8":
        return
    where, remedy = f"wideep_gpu with {case.settings.model}", "use Hopper or newer, or another checkpoint"
    if case.dense:
        yield warn(f"{case.gpu.product} has no FP8 arithmetic: FP8 weights run slowly there", where, remedy)
    else:
        yield Problem(f"{case.gpu.product} has no FP8 arithmetic, and FP8 experts need it", where, remedy)


@rule
def flashinfer_all_to_all(case: Case) -> Iterator[Problem]:
    """FlashInfer's all-to-all is written for one attention replica on each GPU."""
    o = case.options
    if o.a2a_backend != "flashinfer":
        return
    if not o.dp_attention or case.dp != case.tp:
        yield Problem(
            f"a2a_backend flashinfer needs dp_attention with data_parallel_size {case.tp}",
            case.at("a2a_backend"),
            f"set data_parallel_size: {case.tp}, or a2a_backend: deepep",
        )
    elif o.moe_runner_backend not in FLASHINFER_RUNNERS:
        yield Problem(
            f"a2a_backend flashinfer does not work with moe_runner_backend {o.moe_runner_backend or 'auto'}",
            case.at("moe_runner_backend"),
            f"use one of {', '.join(FLASHINFER_RUNNERS)}",
        )


# ---- KV cache and attention ----------------------------------------------------------------------


@rule
def page_size(case: Case) -> Iterator[Problem]:
    """Some attention kernels know certain page sizes only; SGLang changes others silently."""
    o = case.options
    backend, page = o.attention_backend or "", o.page_size or 1
    if backend in PAGES and page not in PAGES[backend]:
        yield Problem(
            f"attention_backend {backend} works with pages of {' or '.join(map(str, PAGES[backend]))} tokens,"
            f" not {page}: SGLang would change it, and prefill, decode and router could differ",
            case.at("page_size"),
            f"set page_size: {PAGES[backend][-1]} in all pools",
        )
    if page < 16 and case.settings.router_mode == "kv":
        yield warn(
            f"pages of {page} tokens make a KV event of nearly every token",
            case.at("page_size"),
            "use 64, unless the attention backend wants another size",
        )


@rule
def attention_backend(case: Case) -> Iterator[Problem]:
    """Kernels are written for one attention scheme and one GPU generation."""
    o, gpu = case.options, case.gpu
    backend, where = o.attention_backend or "", case.at("attention_backend")
    mla = case.card is not None and case.card.attention.kind == "mla"
    # FlashAttention 3 has kernels for Ampere and Ada, too, but not for latent attention.
    elsewhere = backend == "fa3" and gpu is not None and gpu.compute // 10 == 8 and not mla
    if case.card and not mla and backend in MLA_ONLY:
        yield Problem(
            f"{backend} is for models with latent attention (MLA)", where, "remove attention_backend"
        )
    elif (
        gpu
        and not elsewhere
        and (
            (backend in BLACKWELL_ONLY and not gpu.blackwell)
            or (backend in HOPPER_ONLY and gpu.compute != 90)
        )
    ):
        wanted = "Blackwell" if backend in BLACKWELL_ONLY else "Hopper"
        yield Problem(
            f"{backend} runs on {wanted} only, not on {gpu.product}",
            where,
            "remove attention_backend: SGLang chooses the fastest one for the GPU",
        )


@rule
def chunked_prefill(case: Case) -> Iterator[Problem]:
    """SGLang divides the chunk by the data parallel size; what is left has to be whole pages."""
    o = case.options
    size, page = o.chunked_prefill_size, o.page_size or 1
    if not case.prefills or size is None or size < 1:
        return
    rank = case.chunk_per_rank
    if rank < page or rank % page:
        ranks = case.dp if o.dp_attention else 1
        yield Problem(
            f"chunked_prefill_size {size} is {rank} tokens for each of {ranks} ranks,"
            f" not a multiple of page_size {page}",
            case.at("chunked_prefill_size"),
            f"use a multiple of {page * ranks}, e.g. {8192 * ranks} (8192 a rank)",
        )


@rule
def context_length(case: Case) -> Iterator[Problem]:
    """Positions beyond the model's own length are refused, unless the operator insists by environment."""
    length, insists = case.options.context_length, "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"
    if case.card and length and length > case.card.context_length and insists not in case.pool.settings.env:
        yield Problem(
            f"context_length {length} is more than the model's {case.card.context_length}",
            case.at("context_length"),
            f"lower it, or leave it out for {case.card.context_length}",
        )


@rule
def prefix_cache(case: Case) -> Iterator[Problem]:
    """Without it prompts that share a beginning are computed again, and a KV router has nothing to go by."""
    if not case.options.radix_cache and case.prefills:
        yield warn(
            "prefixes are not reused; disaggregation does not need that (it frees no peak memory either)",
            case.at("radix_cache"),
            "remove radix_cache: false",
        )


@rule
def exclusive_flags(case: Case) -> Iterator[Problem]:
    """Pairs of flags that SGLang refuses together."""
    for one, other, why in EXCLUSIVE:
        if case.extra.get(one) and case.extra.get(other):
            where = f"wideep_pools.{case.role}.extra_args.{one}"
            yield Problem(f"--{one} excludes --{other}: {why}", where, "remove one of the two")


@rule
def hierarchical_cache(case: Case) -> Iterator[Problem]:
    """A cache on the host extends the prefix cache."""
    if case.extra.get("enable-hierarchical-cache") and (
        case.role == "decode" or not case.options.radix_cache
    ):
        why = "a decode worker has none" if case.role == "decode" else "radix_cache is false"
        yield Problem(
            f"the hierarchical cache extends the prefix cache, and {why}",
            f"wideep_pools.{case.role}.extra_args.enable-hierarchical-cache",
            "remove it",
        )


# ---- memory and time -----------------------------------------------------------------------------


@rule
def fraction(case: Case) -> Iterator[Problem]:
    """It covers weights and KV cache, not the KV cache alone; SGLang takes any number silently."""
    share = case.options.mem_fraction_static or 0
    if not LOWEST_FRACTION <= share <= HIGHEST_FRACTION:
        yield Problem(
            f"mem_fraction_static {share} leaves "
            + (
                "the GPU half empty"
                if share < LOWEST_FRACTION
                else "nothing for activations, graphs and communication"
            ),
            case.at("mem_fraction_static"),
            f"use {LOWEST_FRACTION} to {HIGHEST_FRACTION}, usually 0.80 to 0.88",
        )


@rule
def memory(case: Case) -> Iterator[Problem]:
    """Weights, KV cache and what runs beside them, against the GPU; SGLang fails later, out of memory."""
    budget = case.budget()
    if budget is None or not LOWEST_FRACTION <= budget.fraction <= HIGHEST_FRACTION:
        return
    assert case.card is not None
    assert case.gpu is not None
    gpu, share, where = gib(budget.memory), budget.fraction, case.at("mem_fraction_static")
    held, context = sum(budget.weights.values()), case.options.context_length or case.card.context_length
    beside = sum(budget.beside.values())
    if held + beside > budget.memory:
        yield Problem(
            f"weights of {gib(held)} ({listed(budget.weights)}) and {gib(beside)} beside them"
            f" ({listed(budget.beside)}) do not fit a GPU of {gpu} ({case.gpu.product})",
            f"wideep_pools.{case.role}.nodes_per_replica",
            "give a replica more GPUs, or use fewer redundant experts or smaller batches and chunks",
        )
    elif budget.kv <= 0:
        yield Problem(
            f"weights take {gib(held)} ({listed(budget.weights)}), mem_fraction_static {share} of {gpu} is"
            f" {gib(budget.memory * share)}: nothing is left for the KV cache",
            where,
            f"raise it to more than {budget.lowest_fraction(0):.2f}",
        )
    elif budget.rest < beside:
        yield warn(
            f"mem_fraction_static {share} leaves {gib(budget.rest)} of {gpu}, an estimated {gib(beside)} are"
            f" needed beside weights and KV cache ({listed(budget.beside)})",
            where,
            f"lower it to {budget.highest_fraction():.2f}",
        )
    elif budget.kv_tokens < context:
        yield warn(
            f"the KV cache of a GPU holds {budget.kv_tokens} tokens ({gib(budget.kv)} after {gib(held)} of"
            f" weights), less than one sequence of {context}",
            case.at("context_length"),
            "lower context_length, raise mem_fraction_static, or use kv_cache_dtype: fp8",
        )


@rule
def shared_gpu(case: Case) -> Iterator[Problem]:
    """SGLang takes all that is free at its start, so whoever starts last finds nothing; it fails later."""
    if case.settings.share_gpus and case.disaggregated and not case.options.max_total_tokens:
        yield Problem(
            "mem_fraction_static is a share of the memory that is free when a worker starts: workers that"
            " share a GPU would take each other's",
            case.at("max_total_tokens"),
            "set max_total_tokens, the tokens that the KV cache holds, in both pools",
        )


@rule
def watchdog(case: Case) -> Iterator[Problem]:
    """The lab's 1000000 seconds mean that a hanging rank is never noticed."""
    seconds = case.options.watchdog_timeout_s
    if seconds and seconds > DAY_S:
        yield Problem(
            f"a watchdog of {seconds} s ({seconds / DAY_S:.1f} days) never barks: hanging ranks stay",
            case.at("watchdog_timeout_s"),
            "leave it out (300 s); for slow loading raise dist_timeout_s and wideep_start_deadline_s",
        )


rule(same_gpus)
rule(own_environment)
rule(remote_code)


def shared_memory(cases: Sequence[Case]) -> Iterator[Problem]:
    """Pools on one GPU have to fit together; SGLang fails later, in the pool that starts last."""
    known = [(case, budget) for case in cases if (budget := case.budget()) and case.options.max_total_tokens]
    if len(known) < 2 or not cases[0].settings.share_gpus:
        return
    taken = {
        case.role: sum(b.weights.values())
        + sum(b.beside.values())
        + (case.options.max_total_tokens or 0) * b.kv_per_token
        for case, b in known
    }
    memory = min(budget.memory for _, budget in known)
    if sum(taken.values()) > memory:
        yield Problem(
            f"the pools share a GPU of {gib(memory)} and need {listed(taken)} of it",
            " and ".join(case.at("max_total_tokens") for case, _ in known),
            "lower them, or give the pools GPUs of their own (wideep_share_gpus: false)",
        )


def same_stages(cases: Sequence[Case]) -> Iterator[Problem]:
    """Decode finds each layer's cache by prefill's stages; SGLang asserts later, at the first request."""
    if both := pair(cases):
        prefill, decode = (case.stages for case in both)
        if decode not in (1, prefill):
            yield Problem(
                f"decode's pp-size {decode} is neither prefill's {prefill} nor 1",
                "wideep_pools.decode.extra_args.pp-size",
                f"set it to {prefill}, or remove it" if prefill > 1 else "remove it",
            )


def same_drafts(cases: Sequence[Case]) -> Iterator[Problem]:
    """Prefill sends its draft model's cache, too; decode without one fails later, or takes it silently."""
    if both := pair(cases):
        ours, theirs = (case.extra.get("speculative-algorithm") for case in both)
        if ours and ours != theirs:
            yield Problem(
                f"prefill drafts with {ours} and decode with {theirs or 'nothing'}: decode has no place for"
                " the draft model's KV cache",
                "wideep_pools.prefill.extra_args.speculative-algorithm",
                "remove it there (drafts are of use in decode), or set the same in decode",
            )


def longest_prompt(cases: Sequence[Case]) -> Iterator[Problem]:
    """A prompt that prefill takes has to fit decode, which refuses it later, when it is computed."""
    if both := pair(cases):
        prefill, decode = (
            case.options.context_length or (case.card.context_length if case.card else 0) for case in both
        )
        if decode and prefill > decode:
            yield Problem(
                f"prefill takes prompts of {prefill} tokens, and decode sequences of {decode}",
                both[0].at("context_length"),
                f"set it to {decode}, or raise context_length of decode",
            )


def handover(cases: Sequence[Case]) -> Iterator[Problem]:
    """What prefill and decode have to agree on."""
    yield from same_layout(cases)
    yield from same_stages(cases)
    yield from same_drafts(cases)
    yield from longest_prompt(cases)
    yield from shared_memory(cases)


def check(cases: Sequence[Case]) -> list[Problem]:
    """Return what all rules have to say, each thing once."""
    return judge(cases, RULES, handover)
