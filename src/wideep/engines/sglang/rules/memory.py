"""Memory and time."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines import rules as shared
from wideep.engines.rules import warn
from wideep.engines.sglang.options import HIGHEST_FRACTION, Case
from wideep.engines.sglang.rules.registry import rule
from wideep.problems import Problem
from wideep.reference.memory import gib, listed

DAY_S = 86400
SHARE = shared.Share(
    "mem_fraction_static",
    *(0.5, "the GPU half empty"),
    *(HIGHEST_FRACTION, "nothing for activations, graphs and communication"),
    ", usually 0.80 to 0.88",
)


@rule
def fraction(case: Case) -> Iterator[Problem]:
    """It covers weights and KV cache, not the KV cache alone."""
    yield from shared.fraction(case, SHARE)


@rule
def quantization(case: Case) -> Iterator[Problem]:
    """The flag says otherwise than the card what the weights are."""
    if said := case.counted_card[1]:
        yield warn(
            said,
            f"wideep_pools.{case.role}.extra_args.quantization",
            "nothing has to be done; a card of these weights (`wideep model add`) is exact",
        )


@rule
def memory(case: Case) -> Iterator[Problem]:
    """Weights, KV cache and what runs beside them, against the GPU; SGLang fails later, out of memory."""
    budget = case.budget()
    if budget is None:
        return
    assert case.card is not None
    assert case.gpu is not None
    gpu, share, where = gib(budget.memory), budget.fraction, case.at("mem_fraction_static")
    held, context = sum(budget.weights.values()), case.options.context_length or case.card.context_length
    beside = sum(budget.beside.values())
    if held > budget.memory * HIGHEST_FRACTION:
        yield Problem(
            f"weights of {gib(held)} ({listed(budget.weights)}) do not fit a GPU of {gpu}"
            f" ({case.gpu.product})",
            f"wideep_pools.{case.role}.nodes_per_replica",
            "give a replica more GPUs, or use fewer redundant experts",
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
        yield warn(
            f"a watchdog of {seconds} s ({seconds / DAY_S:.1f} days) never barks: hanging ranks stay",
            case.at("watchdog_timeout_s"),
            "leave it out (300 s); for slow loading raise dist_timeout_s and wideep_start_deadline_s",
        )
