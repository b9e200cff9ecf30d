"""What the rules of all engines share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from wideep.deployment import network
from wideep.engines.case import PoolCase
from wideep.problems import Problem

Case = TypeVar("Case", bound=PoolCase[Any])


def warn(message: str, where: str, remedy: str) -> Problem:
    """Return what is allowed and should be known."""
    return Problem(message, where, remedy, "warning")


def same_gpus(case: PoolCase[Any]) -> Iterator[Problem]:
    """One replica's ranks wait for each other: the slowest and smallest GPU decides."""
    for replica in case.pool.replicas:
        if len({node.host.gpu for node in replica.nodes}) > 1:
            yield Problem(
                f"{replica.name} mixes GPUs: "
                + ", ".join(f"{n.host.name} {n.host.gpu or 'unnamed'}" for n in replica.nodes),
                f"wideep_gpu on host {replica.nodes[0].host.name}",
                "make replicas of hosts with equal GPUs (order the inventory group by kind)",
            )


def pair(cases: Sequence[Case]) -> tuple[Case, Case] | None:
    """Return prefill and decode, where both are there."""
    by_role = {case.role: case for case in cases}
    return (by_role["prefill"], by_role["decode"]) if {"prefill", "decode"} <= by_role.keys() else None


def same_layout(cases: Sequence[Case]) -> Iterator[Problem]:
    """Decode takes over the KV cache as prefill wrote it: its layout has to be the same on both sides."""
    both = pair(cases)
    if both is None:
        return
    prefill, decode = both
    for option, what in (("page_size", "page size"), ("kv_cache_dtype", "type of the KV cache")):
        ours, theirs = getattr(prefill.options, option), getattr(decode.options, option)
        if ours != theirs:
            yield Problem(
                f"the {what} differs (prefill {ours}, decode {theirs}): decode cannot read what it is sent",
                decode.at(option),
                f"set the same {option} in both pools",
            )


def own_environment(case: PoolCase[Any]) -> Iterator[Problem]:
    """The network has one description for all libraries; a second one would be for some of them only."""
    transfer = case.settings.kv_transfer
    for name, value in case.pool.settings.env.items():
        where = f"wideep_pools.{case.role}.env.{name}"
        variable, described = network.SOURCES.get(name, ("", None))
        if described and any(described(host) for host in case.hosts):
            yield Problem(f"it follows from {variable}", where, f"remove it and correct {variable}")
        elif name == "GLOO_SOCKET_IFNAME" and set(value) & set("^,="):
            yield Problem(
                f"Gloo takes one interface, {value!r} is a pattern or a list",
                where,
                "remove it and set wideep_interface",
            )
        elif case.disaggregated and name.startswith("UCX_" if transfer == "mooncake" else "MC_"):
            yield warn(f"{transfer} does not read it", where, "remove it, or change wideep_kv_transfer")
        elif (severity := network.by_tcp(name, value)) and _uses_rdma(case, name):
            what = "NCCL" if name.startswith("NCCL") else "the KV cache"
            how = "goes" if severity == "error" else "may go"
            yield Problem(
                f"with {value!r} {what} {how} by TCP, past the RDMA devices that are described, silently",
                where,
                "remove it; to do without RDMA on purpose, take the devices out of wideep_network",
                severity,
            )


def _uses_rdma(case: PoolCase[Any], name: str) -> bool:
    """Whether what reads the variable has RDMA devices to use: NCCL between hosts, UCX and Mooncake for KV.

    name: see `wideep.deployment.network.by_tcp`.
    """
    between = case.nodes > 1 if name.startswith("NCCL") else case.disaggregated
    return between and any(host.network.rdma_devices for host in case.hosts)


def remote_code(case: PoolCase[Any]) -> Iterator[Problem]:
    """The engines know the models that we have cards of; who can write the directory could run programs."""
    if case.card and case.options.trust_remote_code:
        yield warn(
            f"{case.settings.model} needs no code of its own: programs in the model's directory would be run",
            case.at("trust_remote_code"),
            "remove trust_remote_code",
        )


def uneven(case: PoolCase[Any]) -> bool:
    """Whether nodes take different numbers of GPUs, which is refused already: sizes would mean nothing."""
    return any(len({len(node.gpus) for node in replica.nodes}) > 1 for replica in case.pool.replicas)


def judge(
    cases: Sequence[Case],
    rules: Iterable[Callable[[Case], Iterator[Problem]]],
    handover: Callable[[Sequence[Case]], Iterator[Problem]],
) -> list[Problem]:
    """Return what all rules have to say of each pool, and of prefill and decode together, each thing once."""
    found = [problem for case in cases if not uneven(case) for each in rules for problem in each(case)]
    return list(dict.fromkeys([*found, *handover(cases)]))
