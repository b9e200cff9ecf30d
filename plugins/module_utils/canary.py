"""Whether replicas that were started answer requests of a frontend, each by itself.

Runs on hosts: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import (
    Completion,
    Frontend,
    NoAnswerError,
    judge,
)
from ansible_collections.wideep.dynamo.plugins.module_utils.pairs import Pair
from ansible_collections.wideep.dynamo.plugins.module_utils.registration import Instance, parse_instances

POLL_S = 0.5
TOKENS = 4
# Good answers after which it is enough that the frontend does not tell who gave them.
UNTOLD = 4


@dataclass(frozen=True)
class Replica:
    """One that has to answer. address: where it takes requests."""

    name: str
    component: str
    namespace: str
    address: str

    def among(self, instances: Sequence[Instance]) -> Instance | None:
        """Return it as it is registered."""
        mine = (self.component, self.namespace, self.address)
        return next((one for one in instances if (one.component, one.namespace, one.address) == mine), None)


@dataclass
class Proof:
    """What was seen so far. proved: replica -> who answered with it; lacks: replica -> why it is not."""

    proved: dict[str, str] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)
    untold: int = 0
    asked: int = 0


def prove(
    frontend: Frontend, model: str, replicas: Sequence[Replica], deadline_s: float, *, words: bool = True
) -> Proof:
    """Ask until each has taken part in a good answer, or the time is over."""
    proof, end = Proof(lacks={one.name: "not asked yet" for one in replicas}), time.monotonic() + deadline_s
    turn = 0
    while True:
        # Once to exactly these, then as the router chooses: not every router takes orders.
        _round(frontend, model, replicas, proof, words=words, pinned=turn % 2 == 0)
        if not proof.lacks or time.monotonic() > end:
            return proof
        turn += 1
        time.sleep(POLL_S)


def answers(frontend: Frontend, model: str, deadline_s: float, *, words: bool = True) -> Proof:
    """Ask until the frontend itself gives a good answer, or the time is over."""
    proof, end = Proof(lacks={"frontend": "not asked yet"}), time.monotonic() + deadline_s
    while True:
        try:
            why, _ = _ask(frontend, model, {}, proof, words=words, disaggregated=False)
        except NoAnswerError as error:
            why = str(error)
        if not why:
            return Proof(proved={"frontend": ""}, asked=proof.asked)
        proof.lacks["frontend"] = why
        if time.monotonic() > end:
            return proof
        time.sleep(POLL_S)


def _round(
    frontend: Frontend,
    model: str,
    replicas: Sequence[Replica],
    proof: Proof,
    *,
    words: bool,
    pinned: bool,
) -> None:
    try:
        instances = parse_instances(frontend.get("/health").json())
    except NoAnswerError as error:
        proof.lacks = dict.fromkeys(proof.lacks, f"the frontend does not answer: {error}")
        return
    except (KeyError, TypeError, AttributeError) as error:
        proof.lacks = dict.fromkeys(proof.lacks, f"no Dynamo frontend: {error!r}")
        return
    there = {one.name: one.among(instances) for one in replicas}
    ids = {instance.instance_id: name for name, instance in there.items() if instance}
    for one in replicas:
        instance = there[one.name]
        if one.name not in proof.lacks:
            continue
        if instance is None:
            proof.lacks[one.name] = f"not registered in {one.namespace} at {one.address}"
            continue
        pair = _partners(instance, instances)
        if pair is None:
            proof.lacks[one.name] = f"registered in {one.namespace}, where nobody is for the other phase"
            continue
        try:
            why, completion = _ask(
                frontend,
                model,
                pair.pinned if pinned else {},
                proof,
                words=words,
                disaggregated=pair.prefill is not None,
            )
        except NoAnswerError as error:
            proof.lacks[one.name] = f"registered; a request to it: {error}"
            continue
        if why:
            proof.lacks[one.name] = f"registered; a request to it: {why}"
            continue
        who = ", ".join(f"{phase} {ids.get(one, one)}" for phase, one in completion.workers.items())
        for served in completion.workers.values():
            if served in ids and ids[served] in proof.lacks:
                del proof.lacks[ids[served]]
                proof.proved[ids[served]] = who
        proof.untold += not completion.workers
        if one.name in proof.lacks:
            proof.lacks[one.name] = f"registered; the frontend gave its request to others ({who or 'untold'})"
            if not completion.workers and proof.untold >= UNTOLD * len(replicas):
                del proof.lacks[one.name]
                proof.proved[one.name] = "registered; the frontend does not tell who answered"


def _partners(instance: Instance, instances: Sequence[Instance]) -> Pair | None:
    """Return it with somebody for the other phase; None where nobody is there for it."""
    beside = [one for one in instances if one.namespace == instance.namespace]
    prefill = [one for one in beside if one.component == "prefill"]
    decode = [one for one in beside if one.component != "prefill"]
    if instance.component == "prefill":
        return Pair(decode[0], instance) if decode else None
    return Pair(instance, prefill[0] if prefill else None)


def _ask(
    frontend: Frontend,
    model: str,
    pin: Mapping[str, int],
    proof: Proof,
    *,
    words: bool,
    disaggregated: bool,
) -> tuple[str, Completion]:
    """Return what is wrong with an answer, '' for nothing, and the answer."""
    proof.asked += 1
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": f"wideep canary {time.time_ns()}: say hello."}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "nvext": {"extra_fields": ["worker_id"], **pin},
    }
    completion = frontend.chat(body, stream=True)
    problem, _ = judge(completion, max_tokens=TOKENS, exact=True, words=words, disaggregated=disaggregated)
    return (f"HTTP {completion.status}: {problem}" if problem else ""), completion
