"""Prefill and decode together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from wideep.engines.rules import balanced_somewhere, longest_prompt, pair, same_drafts, same_layout
from wideep.engines.trtllm.options import Case
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
    _, decode = both
    runtimes = {runtime(case) for case in both}
    if len(runtimes) > 1:
        yield Problem(
            f"prefill and decode move the KV cache by different transceivers ({', '.join(sorted(runtimes))}):"
            " the first request would fail",
            f"{decode.at('engine_args')}.cache_transceiver_config.transceiver_runtime",
            "set the same in both pools, or remove it",
        )


def runtime(case: Case) -> str:
    """Return the transceiver of a pool."""
    known = case.facts.transceiver
    section = case.options.engine_args.get("cache_transceiver_config")
    own = section.get("transceiver_runtime") if isinstance(section, Mapping) else None
    chosen = str(own or known.default)
    return known.of(case.settings.kv_transfer.upper()) if chosen == "auto" else chosen
