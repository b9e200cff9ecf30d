"""The KV cache, and the memory of a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from wideep.engines import rules as shared
from wideep.engines.rules import warn
from wideep.engines.trtllm.options import Case
from wideep.engines.trtllm.rules.registry import rule
from wideep.problems import Problem
from wideep.reference.memory import gib, listed

# What NVIDIA raised it to for long contexts (issue 13868 of NVIDIA/TensorRT-LLM).
LONGEST_TRANSFER_MS, DAY_MS = 600_000, 86_400_000
SHARE = shared.Share(
    "free_gpu_memory_fraction",
    *(0.1, "nearly all of the free memory unused"),
    *(0.95, "nothing for graphs and transfers"),
)


@rule
def transfer_buffer(case: Case) -> Iterator[Problem]:
    """A prompt longer than the buffer blocks the transfer: workers hang later, under load, and stay so."""
    o, prompt = case.options, case.longest_prompt
    if case.disaggregated and (o.max_tokens_in_buffer or 0) < prompt:
        whose = "longest of prefill" if prompt == case.of_prefill else "longest"
        yield Problem(
            f"max_tokens_in_buffer {o.max_tokens_in_buffer} is less than a prompt can be"
            f" ({whose} {prompt}): transfers would hang under load",
            case.at("max_tokens_in_buffer"),
            f"raise it to {prompt}, or leave it out",
        )
    if not case.disaggregated and "max_tokens_in_buffer" in case.given:
        yield Problem(
            "an aggregated pool hands no KV cache over",
            case.at("max_tokens_in_buffer"),
            "remove max_tokens_in_buffer",
        )


@rule
def transfer_timeout(case: Case) -> Iterator[Problem]:
    """A sequence whose other side died keeps its memory for so long."""
    section = case.options.engine_args.get("cache_transceiver_config")
    own = section.get("kv_transfer_timeout_ms") if isinstance(section, Mapping) else None
    limit = case.options.kv_transfer_timeout_ms or (own if isinstance(own, int) else None)
    if case.disaggregated and limit and limit > LONGEST_TRANSFER_MS:
        message = (
            f"kv_transfer_timeout_ms {limit}: what is sent to a worker that died keeps its memory for"
            f" {limit // 60000} minutes"
        )
        remedy = f"set it to {LONGEST_TRANSFER_MS} at most, which is enough for the longest prompts"
        where = case.at("kv_transfer_timeout_ms")
        if limit >= DAY_MS:
            yield shared.for_benchmarks(case, message, where, remedy)
        else:
            yield warn(message, where, remedy)
    if not case.disaggregated and case.options.kv_transfer_timeout_ms:
        yield Problem(
            "an aggregated pool hands no KV cache over",
            case.at("kv_transfer_timeout_ms"),
            "remove kv_transfer_timeout_ms",
        )


@rule
def transceiver(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM has two programs that move the KV cache; which one, the backend decides."""
    known = case.facts.transceiver
    runtime = known.of(case.settings.kv_transfer.upper())
    if case.disaggregated and runtime in known.deprecated:
        yield warn(
            f"with {case.settings.kv_transfer} TensorRT-LLM moves the KV cache by its {runtime} transceiver,"
            " which is deprecated",
            "wideep_kv_transfer",
            f"use {' or '.join(name.lower() for name in known.python)}",
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
    """TensorRT-LLM keeps prompts that share a beginning as blocks."""
    yield from shared.prefixes(case, "block_reuse")


@rule
def fraction(case: Case) -> Iterator[Problem]:
    """It is of what weights leave free, not of the GPU; the lab raises it against a full memory."""
    for problem in shared.fraction(case, SHARE):
        yield replace(problem, severity="warning")  # TensorRT-LLM takes any


@rule
def memory(case: Case) -> Iterator[Problem]:
    """Weights, KV cache and what runs beside them, against the GPU; it fails later, out of memory."""
    budget, o = case.budget(), case.options
    share = o.free_gpu_memory_fraction or 0
    if budget is None or not SHARE.fits(share):
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
