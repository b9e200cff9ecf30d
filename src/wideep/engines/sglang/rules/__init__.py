"""What SGLang demands of a pool, one rule after the other. To add one: a function with `@rule` before it.

A rule is silent when what it needs is unknown or another rule already objects. Where SGLang says nothing
(it starts, and fails or limps later) the docstring says so with the word "later" or "silently".
"""

from __future__ import annotations

from collections.abc import Sequence

from wideep.engines import rules as shared
from wideep.engines.sglang.options import Case

# They add their rules when they are read.
from wideep.engines.sglang.rules import (  # noqa: F401
    all_to_all,
    cache,
    experts,
    flags,
    memory,
    other_all_to_all,
    parallel,
    speculative,
)
from wideep.engines.sglang.rules.handover import handover
from wideep.engines.sglang.rules.registry import FLAGS, OWNED, RULES, rule
from wideep.problems import Problem

__all__ = ["FLAGS", "OWNED", "RULES", "check"]

for each in shared.COMMON:
    rule(each)


def check(cases: Sequence[Case]) -> list[Problem]:
    """Return what all rules have to say, each thing once."""
    return shared.judge(cases, RULES, handover)
