"""Prefill and decode together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from wideep.engines.rules import balanced_somewhere, longest_prompt, pair, same_drafts, same_layout
from wideep.engines.trtllm.options import Case
from wideep.inventory.settings import EplbSettings
from wideep.problems import Problem


def handover(cases: Sequence[Case]) -> Iterator[Problem]:
    """The layout, and what prefill accepts has to fit into decode's sequences."""
    yield from same_layout(cases)
    yield from balanced_somewhere(cases)
    yield from longest_prompt(cases, at="decode")
    # Drafts of n-grams have no KV cache; those of layers have, and both sides compare what is sent.
    ngram = any(case.speculative and case.speculative.algorithm == "ngram" for case in cases)
    typed = any(case.options.speculative for case in cases)
    for problem in same_drafts(cases, decode_alone=ngram):
        # A section of the engine's own may say more than we read.
        yield problem if typed else replace(problem, severity="warning")
    both = pair(cases)
    if both is None:
        return
    yield from _attention_by_tensors(both)
    _, decode = both
    runtimes = {runtime(case) for case in both}
    if len(runtimes) > 1:
        yield Problem(
            f"prefill and decode move the KV cache by different transceivers ({', '.join(sorted(runtimes))}):"
            " the first request would fail",
            f"{decode.at('engine_args')}.cache_transceiver_config.transceiver_runtime",
            "set the same in both pools, or remove it",
        )


def _attention_by_tensors(both: Sequence[Case]) -> Iterator[Problem]:
    """What both pools share of balancing is for those with attention by data; one of them has to be so."""
    asked = [case.asked_eplb for case in both if case.experts and case.ep > 1 and not case.pool.settings.eplb]
    if len(asked) == len(both) and not any(case.balanced for case in both) and asked[0] != EplbSettings():
        for case in both:
            yield Problem(
                "TensorRT-LLM would ignore the load balancer silently: it needs attention by data in pool"
                f" {case.role}",
                "wideep_eplb",
                f"set {case.at('data_parallel_size')}: {case.tp}, or remove wideep_eplb",
            )


def runtime(case: Case) -> str:
    """Return the transceiver of a pool."""
    known = case.facts.transceiver
    section = case.options.engine_args.get("cache_transceiver_config")
    own = section.get("transceiver_runtime") if isinstance(section, Mapping) else None
    chosen = str(own or known.default)
    return known.of(case.settings.kv_transfer.upper()) if chosen == "auto" else chosen
