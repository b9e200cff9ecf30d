"""Prefill and decode together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
