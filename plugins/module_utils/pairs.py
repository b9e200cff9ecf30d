"""Every prefill worker with every decode worker: a request for one token, pinned to the two.

A worker that dies can leave others behind that are registered, healthy, and hand no cache to each other any
more. Runs on hosts: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import NoAnswerError, judge

if TYPE_CHECKING:
    from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import Frontend
    from ansible_collections.wideep.dynamo.plugins.module_utils.registration import Instance, State

# At once: enough to be quick, too few to be a load.
TOGETHER = 8
# What passes by itself is gone by then: a worker that the router does not know yet (400), or avoids (503).
TRIES, AGAIN_S = 6, 3.0


@dataclass(frozen=True)
class Pair:
    """Two workers of one namespace; without `prefill` one that does all by itself."""

    decode: Instance
    prefill: Instance | None = None

    @property
    def name(self) -> str:
        """Return how messages name it."""
        through = f"{self.prefill.address} (prefill) with " if self.prefill else ""
        return f"{through}{self.decode.address}"

    @property
    def pinned(self) -> dict[str, int]:
        """Return the fields of `nvext` that make the router choose these workers."""
        # Where a worker has several data-parallel ranks one has to be named: each has the first.
        if self.prefill is None:
            return {"backend_instance_id": self.decode.instance_id, "dp_rank": 0}
        return {
            "prefill_worker_id": self.prefill.instance_id,
            "prefill_dp_rank": 0,
            "decode_worker_id": self.decode.instance_id,
            "dp_rank": 0,
        }


@dataclass(frozen=True)
class Outcome:
    """What a pair answered. error: empty where a token came; seconds: until then."""

    pair: Pair
    seconds: float
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return its form in RETURN of verify_serving."""
        prefill = self.pair.prefill
        return {
            "prefill": prefill.address if prefill else "",
            "decode": self.pair.decode.address,
            "seconds": round(self.seconds, 4),
            "error": self.error,
        }


def pairs(state: State, most: int) -> list[Pair]:
    """Return the pairs to try, at most so many; the first ones have every worker.

    Workers of different namespaces are of different generations, and never meet.
    """
    prefill = [one for pool in state.pools if pool.name == "prefill" for one in state.found(pool)]
    others = [one for pool in state.pools if pool.name != "prefill" for one in state.found(pool)]
    found: list[Pair] = []
    if not prefill:
        found = [Pair(one) for one in others]
    for namespace in sorted({one.namespace for one in prefill}):
        first = [one for one in prefill if one.namespace == namespace]
        second = [one for one in others if one.namespace == namespace]
        # Round after round: in each one every worker meets another one.
        rounds = min(len(first), len(second)) or 1
        places = [(n, m) for n in range(len(first)) for m in range(len(second))]
        places.sort(key=lambda place: (place[1] - place[0]) % rounds)
        found += [Pair(second[m], first[n]) for n, m in places]
    return found[:most]


def prove(frontend: Frontend, state: State, most: int) -> list[Outcome]:
    """Ask each pair for a token; those that give none, again."""
    found = {pair: Outcome(pair, 0.0, "not asked") for pair in pairs(state, most)}
    for attempt in range(TRIES):
        left = [pair for pair, outcome in found.items() if outcome.error]
        if not left:
            break
        time.sleep(AGAIN_S if attempt else 0)
        with ThreadPoolExecutor(min(TOGETHER, len(left))) as pool:
            found.update(zip(left, pool.map(lambda pair: _ask(frontend, state.model, pair), left)))
    return list(found.values())


def _ask(frontend: Frontend, model: str, pair: Pair) -> Outcome:
    body = {
        "model": model,
        # Another prompt for each: what is cached already proves no transfer.
        "messages": [{"role": "user", "content": f"wideep verifies {pair.pinned}. Say yes. " * 4}],
        "max_tokens": 1,
        "ignore_eos": True,
        "nvext": {"extra_fields": ["worker_id"], **pair.pinned},
    }
    try:
        completion = frontend.chat(body, stream=False)
    except NoAnswerError as silence:
        return Outcome(pair, 0.0, str(silence))
    error, _ = judge(completion, max_tokens=1, exact=False, words=False, disaggregated=bool(pair.prefill))
    served = completion.workers
    wanted = {"decode": pair.decode.instance_id}
    if pair.prefill:
        wanted["prefill"] = pair.prefill.instance_id
    if not error and any(served.get(phase, wanted[phase]) != wanted[phase] for phase in wanted):
        error = f"the router chose others: {served}"
    return Outcome(pair, completion.e2e_s, f"{error}: {completion.raw[:120]}" if error else "")


def failure(outcomes: list[Outcome]) -> str:
    """Say which pairs do not answer, and what they have in common; empty where all do."""
    lost = [outcome for outcome in outcomes if outcome.error]
    if not lost:
        return ""
    said = "; ".join(f"{outcome.pair.name}: {outcome.error}" for outcome in lost[:5])
    more = f"; and {len(lost) - 5} more" if len(lost) > 5 else ""
    return f"{len(lost)} of {len(outcomes)} pairs of workers give no token: {said}{more}"


def suspects(outcomes: list[Outcome]) -> list[str]:
    """Return the workers none of whose pairs answer; where there is none, all that are in a bad pair."""
    of: dict[str, list[bool]] = {}
    for outcome in outcomes:
        for one in filter(None, (outcome.pair.prefill, outcome.pair.decode)):
            of.setdefault(one.address, []).append(not outcome.error)
    dead = [address for address, answers in of.items() if not any(answers)]
    return dead or [address for address, answers in of.items() if not all(answers)]
