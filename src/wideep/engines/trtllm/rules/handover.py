"""Prefill and decode together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wideep.engines.rules import pair, same_layout
from wideep.engines.trtllm.options import Case
from wideep.problems import Problem


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
