"""What TensorRT-LLM demands of a pool, one rule after the other. To add one: a function with `@rule`.

A rule is silent when what it needs is unknown or another rule already objects. Where TensorRT-LLM says
nothing (it starts, and fails or limps later) the docstring says so with the word "later" or "silently".
"""

from __future__ import annotations

from collections.abc import Sequence

from wideep.engines import rules as shared
from wideep.engines.trtllm.options import Case

# They add their rules when they are read.
from wideep.engines.trtllm.rules import batches, cache, experts, flags, mpi, parallel  # noqa: F401
from wideep.engines.trtllm.rules.handover import handover
from wideep.engines.trtllm.rules.registry import FIELDS, OPTION_OF, OWNED, OWNED_FIELDS, RULES, rule
from wideep.problems import Problem

__all__ = ["FIELDS", "OPTION_OF", "OWNED", "OWNED_FIELDS", "RULES", "check"]

for each in (*shared.COMMON, shared.expert_parallel_size, shared.blocks_divide):
    rule(each)


def check(cases: Sequence[Case]) -> list[Problem]:
    """Return what all rules have to say, each thing once."""
    return shared.judge(cases, RULES, handover)
