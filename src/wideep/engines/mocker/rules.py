"""What the mocker demands of a deployment."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.deployment.model import Deployment, Pool
from wideep.engines.mocker.options import (
    OPTIONS,
    OWN_FLAGS,
    SHARED_BOOTSTRAP,
    block_size,
    extra_flags,
    machine_is_shared,
)
from wideep.problems import Problem, suggest


def check(deployment: Deployment) -> Iterator[Problem]:
    """Refuse unknown options, and layouts of prefill and decode that do not fit each other."""
    for pool in deployment.pools:
        yield from _names(pool)
        if machine_is_shared(deployment) and pool.name == "prefill":
            yield from _bootstrap_ports(pool)
    blocks = {pool.name: block_size(deployment, pool) for pool in deployment.pools}
    if {"prefill", "decode"} <= blocks.keys() and str(blocks["prefill"]) != str(blocks["decode"]):
        yield Problem(
            f"KV block sizes differ ({blocks['prefill']} and {blocks['decode']} tokens):"
            " the KV cache could not be handed over",
            "wideep_pools.decode.options.block_size",
            "set the same block_size in both pools",
        )


def _names(pool: Pool) -> Iterator[Problem]:
    where = f"wideep_pools.{pool.name}"
    for name in pool.settings.options:
        if name not in OPTIONS:
            yield Problem("unknown option", f"{where}.options.{name}", suggest(name, OPTIONS))
    for name in extra_flags(pool):
        if name in OWN_FLAGS:
            remedy = f"remove it, use {OWN_FLAGS[name]}"
            yield Problem("the plan sets it", f"{where}.extra_args.{name}", remedy)


def _bootstrap_ports(pool: Pool) -> Iterator[Problem]:
    room = len(SHARED_BOOTSTRAP)
    if len(pool.replicas) > room:
        yield Problem(
            f"{len(pool.replicas)} prefill replicas on one machine, which has {room}"
            " bootstrap ports for them",
            "inventory group prefill",
            f"leave hosts out until there are at most {room} replicas",
        )
