"""DeepEP, and what hands over tokens as it does."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.deployment import network
from wideep.engines.rules import for_benchmarks, warn
from wideep.engines.sglang import deepep
from wideep.engines.sglang.options import DISPATCH_ENV, DISPATCH_LIMIT, Case, fewer_gpus
from wideep.engines.sglang.rules.other_all_to_all import FOREIGN
from wideep.engines.sglang.rules.registry import rule
from wideep.problems import Problem, some_hosts

LIBRARY = {"deepep": "DeepEP", "mooncake": "Mooncake", "nixl": "NIXL", "pplx": "pplx"}
# With it, SGLang sends 16 bit through DeepEP's normal mode, too.
SENDS_16_BIT = "SGLANG_DEEPEP_BF16_DISPATCH"


@rule
def deepep_gpu(case: Case) -> Iterator[Problem]:
    """The expert kernels behind it are DeepGEMM's; SGLang asserts later, when it makes the layers."""
    backend = case.options.a2a_backend
    if backend in (*DISPATCH_ENV, "deepep_v2") and case.gpu and not case.gpu.deep_gemm and not case.dense:
        yield Problem(
            f"a2a_backend {backend} needs DeepGEMM's expert kernels (Hopper, or Blackwell of data centres),"
            f" which {case.gpu.product} cannot run",
            case.at("a2a_backend"),
            "set a2a_backend: none",
        )


@rule
def deepep_format(case: Case) -> Iterator[Problem]:
    """Few formats of experts have a kernel for DeepEP's layouts; SGLang fails later, at the first batch."""
    o, name = case.options, case.expert_format
    a2a, runner = o.a2a_backend or "none", case.runner
    if a2a not in DISPATCH_ENV or case.dense or runner == deepep.ANY_FORMAT:
        return
    without = "set a2a_backend: none"
    legal = case.deepep_runners
    if not legal:
        yield Problem(
            f"SGLang has no kernel that takes tokens for {name} experts ({case.settings.model}) from"
            f" a2a_backend {a2a}: it ends at the first batch (forward_deepgemm_masked is deprecated)",
            case.at("a2a_backend"),
            f"{without}; or say in the model card in what blocks the weights are"
            if name == "fp8"
            else without,
        )
    elif name == "bf16" and a2a not in ("deepep", "pplx"):
        yield Problem(
            f"a2a_backend {a2a} sends FP8, and {case.settings.model} has 16 bit experts",
            case.at("a2a_backend"),
            "set a2a_backend: none, or deepep",
        )
    elif runner not in legal:
        experts = f"{name} experts" if name else "experts"
        use = "remove moe_runner_backend" if "auto" in legal else f"set moe_runner_backend: {legal[0]}"
        yield Problem(
            f"moe_runner_backend {runner} cannot take tokens for {experts} from a2a_backend {a2a}",
            case.at("moe_runner_backend"),
            f"{use}, or {without}",
        )
    elif name == "bf16" and o.deepep_mode == "normal" and SENDS_16_BIT not in case.pool.settings.env:
        yield Problem(
            f"SGLang has no kernel for 16 bit experts ({case.settings.model}) in DeepEP's normal mode alone",
            case.at("deepep_mode"),
            "set a2a_backend: none, or deepep_mode: auto",
        )
    elif runner == "flashinfer_cutedsl" and o.deepep_mode == "normal":
        yield Problem(
            "flashinfer_cutedsl takes tokens in DeepEP's low-latency layout only",
            case.at("deepep_mode"),
            "remove it",
        )
    elif runner == "flashinfer_cutedsl" and a2a != "deepep":
        yield Problem(
            f"flashinfer_cutedsl does not take tokens from a2a_backend {a2a}",
            case.at("a2a_backend"),
            "set a2a_backend: deepep or none",
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
    wrong = case.tp < 2 or case.tp * case.stages != case.world_size
    if case.options.a2a_backend != "deepep" or case.dense or wrong:
        return
    if found := case.deepep_objection(case.tp, case.options.deepep_mode or ""):
        option = "nodes_per_replica" if case.nodes > 1 and not found.each_host else "gpus_per_node"
        where = f"wideep_pools.{case.role}.{option}"
        yield Problem(found.message, where, found.remedy, found.severity)


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
            "warning",
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
    o, limit = case.options, case.options.dispatch_tokens_per_rank or 0
    if o.a2a_backend not in DISPATCH_ENV or case.mode != "low_latency" or not case.prefills:
        return
    tokens = -(-case.chunk_per_rank // case.attention_tp)
    if 0 < tokens <= limit:
        return
    page = o.page_size or 1
    chunk = limit * case.attention_tp // page * page * case.ranks
    smaller = f"set chunked_prefill_size: {chunk} (slow)" if chunk else "use smaller pages"
    other = f"use {'normal' if case.role == 'prefill' and case.expert_format != 'bf16' else 'auto'}"
    yield Problem(
        f"{LIBRARY[o.a2a_backend]}'s low-latency mode carries {limit} tokens of a GPU at a time, prompts are"
        + (f" longer (chunks of {tokens})" if tokens else " longer (not chunked)"),
        case.at("deepep_mode" if o.a2a_backend == "deepep" else "chunked_prefill_size"),
        f"{other}, or {smaller}" if o.a2a_backend == "deepep" else f"{smaller}, or a2a_backend: deepep",
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
    o, limit = case.options, case.options.dispatch_tokens_per_rank or 0
    if o.a2a_backend not in DISPATCH_ENV or o.deepep_mode == "normal":
        return
    if limit > DISPATCH_LIMIT and o.a2a_backend != "pplx":
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
            found = Problem(
                f"{per_rank} sequences a rank{draft}{shared} are {tokens} tokens of a GPU in a step;"
                f" {LIBRARY[o.a2a_backend]}'s low-latency buffer holds {limit}",
                case.at(option),
                f"lower {option} to {lower}"
                + (
                    f", or raise dispatch_tokens_per_rank to {tokens} (its buffers grow with it)"
                    if tokens <= DISPATCH_LIMIT
                    else ""
                ),
            )
            # A limit of requests may never be reached: a benchmark's load is its operator's own.
            asked = option == "max_running_requests"
            yield for_benchmarks(case, found.message, found.where, found.remedy) if asked else found


@rule
def deepep_devices(case: Case) -> Iterator[Problem]:
    """Its kernels write to the device's queues themselves, as ConnectX has them; it fails later, at start."""
    foreign = {host.name: device for host in case.hosts if (device := network.foreign(host))}
    if case.options.a2a_backend == "deepep" and case.nodes > 1 and foreign:
        yield Problem(
            f"DeepEP between hosts drives NVIDIA's devices (mlx5) only, not {next(iter(foreign.values()))}",
            f"wideep_network.rdma_devices on {some_hosts(list(foreign))}",
            "set a2a_backend: none (GPUs divide each expert's weights or whole experts, by"
            " expert_parallel_size)"
            + (f" and {fewer}, for shared experts in whole blocks" if (fewer := fewer_gpus(case)) else ""),
        )


@rule
def deepep_needs_rdma(case: Case) -> Iterator[Problem]:
    """DeepEP sends between hosts by RDMA or multi-node NVLink; it has no way over TCP."""
    without = [host.name for host in case.hosts if not host.network.rdma_devices]
    linked = case.gpu is not None and case.gpu.multi_node_nvlink
    if case.options.a2a_backend == "deepep" and case.nodes > 1 and without and not linked:
        yield warn(
            "DeepEP between hosts needs RDMA, and no device is described: without one its workers fail",
            f"wideep_network.rdma_devices on {some_hosts(without)}",
            "name the RDMA devices beside the GPUs, or set a2a_backend: none (tensor parallel experts)",
        )


@rule
def fp8_on_old_gpus(case: Case) -> Iterator[Problem]:
    """FP8 arithmetic begins with Ada (8.9).

    Before, dense layers are unpacked for each use (Marlin's kernel). Experts have Triton's, which does not
    compile there: SGLang fails later.
    """
    name = case.card.format_of("dense") if case.card and case.dense else case.expert_format
    if case.gpu is None or case.gpu.fp8 or not name or "fp8" not in name:
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
    runners = case.release.facts("sglang")["expert_runners"]["flashinfer"]
    if not o.dp_attention or case.dp != case.tp:
        yield Problem(
            f"a2a_backend flashinfer needs dp_attention with data_parallel_size {case.tp}",
            case.at("a2a_backend"),
            f"set data_parallel_size: {case.tp}, or a2a_backend: deepep",
        )
    elif o.moe_runner_backend not in runners:
        yield Problem(
            f"a2a_backend flashinfer does not work with moe_runner_backend {o.moe_runner_backend or 'auto'}",
            case.at("moe_runner_backend"),
            f"use one of {', '.join(runners)}",
        )


@rule
def four_bits(case: Case) -> Iterator[Problem]:
    """Tensor cores for NVFP4 begin with Blackwell (SM 100); before, Marlin's kernels unpack the weights."""
    if case.gpu is None or case.gpu.compute >= 100 or case.expert_format not in ("nvfp4", "fp4"):
        return
    gpu = case.gpu.product
    if case.runner in ("auto", "marlin"):
        yield warn(
            f"{gpu} does not calculate in NVFP4 (from SM 100 on): Marlin's kernels unpack weights for each"
            " use, which saves memory and no time",
            f"wideep_gpu with {case.settings.model}",
            "use Blackwell, or a checkpoint in FP8",
        )
    else:
        yield Problem(
            f"SGLang refuses NVFP4 with moe_runner_backend {case.runner} on {gpu}: it needs Blackwell",
            case.at("moe_runner_backend"),
            "remove moe_runner_backend (Marlin's kernels are taken), or use Blackwell",
        )
