"""Rules that hold for every engine, and what the rules of all engines share.

A rule takes a pool's case. Some take more, what only the engine knows; a rule of the engine calls those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from wideep.deployment import network
from wideep.engines.case import PoolCase
from wideep.inventory.settings import PoolName
from wideep.problems import Problem

# Beginnings of variables that make an engine pretend: SGLang's, and TensorRT-LLM's for drafts.
SIMULATES = ("SGLANG_SIMULATE_", "TLLM_SPEC_DECODE_FORCE_")

Case = TypeVar("Case", bound=PoolCase[Any])


def warn(message: str, where: str, remedy: str) -> Problem:
    """Return what is allowed and should be known."""
    return Problem(message, where, remedy, "warning")


# ---- one way to say each thing -------------------------------------------------------------------


def flags_of_the_plan(
    case: PoolCase[Any], owned: Mapping[str, str], option_of: Mapping[str, str]
) -> Iterator[Problem]:
    """Addresses, ranks and roles follow from the inventory; options are checked by rules, extra_args are not.

    owned: flag -> what decides it. option_of: flag -> its option, with `: value` where the flag is a switch.
    """
    for flag in case.extra:
        where = f"wideep_pools.{case.role}.extra_args.{flag}"
        if flag in owned:
            yield Problem(
                f"--{flag} is decided by {owned[flag]}", where, "remove it here and set that instead"
            )
        elif flag in option_of:
            option, colon, value = option_of[flag].partition(":")
            yield Problem(
                f"--{flag} has an option of its own, which rules can check",
                where,
                f"set {case.at(option)}{colon}{value} instead",
            )


def model_directory(case: PoolCase[Any]) -> Iterator[Problem]:
    """The small model directory of the rehearsal has no weights."""
    if not case.settings.model_path:
        yield Problem(
            f"{case.title} needs the model's directory",
            "wideep_model_path",
            "set wideep_model_path to a directory that all hosts of the pool have",
        )


# ---- who computes what ---------------------------------------------------------------------------


def world_size(case: PoolCase[Any]) -> Iterator[Problem]:
    """Tensor parallel size, times the stages of a pipeline, counts all GPUs of all nodes: a rank for each."""
    if case.tp * case.stages != case.world_size:
        pipeline = f" x {case.stages_option} {case.stages}" if case.stages > 1 else ""
        yield Problem(
            f"tensor_parallel_size {case.tp}{pipeline} is not the replica's {case.world_size} GPUs"
            f" ({case.nodes} nodes x {case.world_size // case.nodes})",
            case.at("tensor_parallel_size"),
            f"set it to {case.world_size // case.stages}, leave it out, or change nodes_per_replica or"
            " gpus_per_node",
        )


def dp_attention_alone(case: PoolCase[Any]) -> Iterator[Problem]:
    """With one attention replica there is nothing to divide by data; engines switch it off silently."""
    if case.options.dp_attention and case.dp == 1:
        yield warn(
            "dp_attention does nothing with data_parallel_size 1",
            case.at("dp_attention"),
            f"set data_parallel_size: {case.tp}",
        )


def attention_heads(case: PoolCase[Any]) -> Iterator[Problem]:
    """GPUs of one attention replica share the heads; engines fail later, when they load the model."""
    shared = case.tp // case.dp if case.tp % case.dp == 0 else 0
    if not case.card or not shared or case.card.attention.heads % shared == 0:
        return
    message = f"{case.card.attention.heads} attention heads do not divide by {shared} GPUs"
    if case.dp == 1:
        yield Problem(
            message,
            case.at("tensor_parallel_size"),
            f"choose a size that divides them, or data_parallel_size: {case.tp}",
        )
    else:
        yield Problem(
            f"{message} (tensor_parallel_size / data_parallel_size)",
            case.at("data_parallel_size"),
            "choose sizes whose quotient divides the number of heads",
        )


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


# ---- experts -------------------------------------------------------------------------------------


def dense_model(case: PoolCase[Any], used: Mapping[str, bool]) -> Iterator[Problem]:
    """A dense model has no experts to spread: several attention replicas of it are wide DP, not wide EP.

    used: option of the engine that is about experts -> whether it is used.
    """
    if not case.dense:
        return
    eplb = case.asked_eplb
    places = {case.at(option): wrong for option, wrong in used.items()}
    places[case.at("expert_parallel_size")] = case.ep > 1
    places[case.eplb_at()] = eplb.enabled or eplb.redundant_experts > 0
    for where in (where for where, wrong in places.items() if wrong):
        yield Problem(
            f"{case.settings.model} is a dense model: it has no experts. What it can do is wide DP",
            where,
            "remove it, and set data_parallel_size; or serve a model with experts",
        )


def expert_parallel_size(case: PoolCase[Any]) -> Iterator[Problem]:
    """Experts are spread over groups of GPUs of one size."""
    if not case.dense and case.tp % case.ep:
        yield Problem(
            f"expert_parallel_size {case.ep} does not divide tensor_parallel_size {case.tp}",
            case.at("expert_parallel_size"),
            f"set it to {case.tp}, or leave it out",
        )


def experts_divide(case: PoolCase[Any]) -> Iterator[Problem]:
    """Every GPU holds the same number of experts: the lab's 16 redundant ones on 32 GPUs are impossible."""
    if case.card is None or case.card.experts is None or case.tp > case.world_size:
        return
    routed, redundant = case.card.experts.routed, case.eplb.redundant_experts
    if (routed + redundant) % case.ep:
        below = (routed + redundant) // case.ep * case.ep - routed
        legal = [n for n in (below, below + case.ep) if n >= 0]
        yield Problem(
            f"{routed} experts + {redundant} redundant ones do not divide by expert parallel size {case.ep}",
            case.eplb_at("redundant_experts"),
            f"use {' or '.join(map(str, legal))}",
        )


def redundancy_advice(case: PoolCase[Any], *, or_none: bool) -> Iterator[Problem]:
    """Between half a spare expert and one for each GPU is what has been found to pay. or_none: none, too."""
    eplb = case.eplb
    usual = case.ep // 2 <= eplb.redundant_experts <= case.ep or (or_none and not eplb.redundant_experts)
    if not eplb.enabled or case.ep == 1 or usual:
        return
    # The largest legal count up to the number of GPUs, else the smallest legal one.
    experts = case.card.experts if case.card else None
    legal = (-experts.routed % case.ep or case.ep) if experts else case.ep
    if legal != eplb.redundant_experts:
        yield warn(
            f"{eplb.redundant_experts} redundant experts for {case.ep} GPUs: GPUs/2 to GPUs is usual"
            " (fewer leave hot experts alone, more take memory from the KV cache)",
            case.eplb_at("redundant_experts"),
            f"try {legal}",
        )


@dataclass(frozen=True)
class Part:
    """Weights that GPUs divide among them: columns, and what to change (option, remedy) if they cannot."""

    what: str
    columns: int
    gpus: int
    option: str
    remedy: str


def blocks_divide(case: PoolCase[Any], *others: Part) -> Iterator[Problem]:
    """FP8 scales belong to whole blocks of weights; engines fail later, when they load them.

    others: what is divided beside the routed experts.
    """
    card = case.card
    if card is None or card.block == 1 or case.tp % case.ep or (case.gpu and not case.gpu.fp8):
        return
    parts = list(others)
    if card.experts:
        columns, remedy = card.experts.intermediate_size, f"set it to {case.tp}"
        parts.append(Part("experts", columns, case.tp // case.ep, "expert_parallel_size", remedy))
    for part in parts:
        if part.columns % (part.gpus * card.block):
            yield Problem(
                f"{part.what}: {part.columns} columns divided by {part.gpus} GPUs are not whole FP8 blocks of"
                f" {card.block}",
                case.at(part.option),
                part.remedy,
            )


# ---- sequences and memory ------------------------------------------------------------------------


def context_length(case: PoolCase[Any], insists: str = "") -> Iterator[Problem]:
    """Positions beyond the model's own length mean nothing.

    insists: a variable of the environment by which an operator has them all the same.
    """
    length = case.options.context_length
    if case.card and length and length > case.card.context_length and insists not in case.pool.settings.env:
        yield Problem(
            f"context_length {length} is more than the model's {case.card.context_length}",
            case.at("context_length"),
            f"lower it, or leave it out for {case.card.context_length}",
        )


def prefixes(case: PoolCase[Any], option: str) -> Iterator[Problem]:
    """Without it prompts that share a beginning are computed again, and a KV router has nothing to go by.

    option: what switches the reuse of prefixes.
    """
    if not getattr(case.options, option) and case.prefills:
        yield warn(
            "prefixes are not reused, and a KV router has nothing to choose by; disaggregation does not need"
            " that (it frees no peak memory either)",
            case.at(option),
            f"remove {option}: false",
        )


@dataclass(frozen=True)
class Share:
    """An option that is a share of a GPU's memory: its bounds, and what is left beyond them.

    advice: what is usual, as the end of a remedy.
    """

    option: str
    lowest: float
    below: str
    highest: float
    above: str
    advice: str = ""

    def fits(self, share: float) -> bool:
        """Whether a share is within the bounds."""
        return self.lowest <= share <= self.highest


def fraction(case: PoolCase[Any], limits: Share) -> Iterator[Problem]:
    """What the share is of, each engine says otherwise; they take any number silently."""
    share = getattr(case.options, limits.option) or 0
    if not limits.fits(share):
        yield Problem(
            f"{limits.option} {share} leaves {limits.below if share < limits.lowest else limits.above}",
            case.at(limits.option),
            f"use {limits.lowest} to {limits.highest}{limits.advice}",
        )


# ---- prefill and decode together -----------------------------------------------------------------


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


def same_drafts(cases: Sequence[Case], *, decode_alone: bool) -> Iterator[Problem]:
    """Prefill sends its draft layers' cache, too: decode needs a place for it, and the other way round.

    decode_alone: whether decode may draft by itself, from what it computes.
    """
    both = pair(cases)
    if both is None:
        return
    ours, theirs = (case.speculative.kind.upper() if case.speculative else "" for case in both)
    if ours == theirs or (decode_alone and not ours):
        return
    prefill, decode = both
    yield Problem(
        f"prefill drafts with {ours or 'nothing'} and decode with {theirs or 'nothing'}: the draft layers' KV"
        " cache would have no place there, or come from nowhere",
        (prefill if ours else decode).at("speculative"),
        "remove it there (drafts are of use in decode), or set the same in decode"
        if decode_alone
        else "set the same in both pools",
    )


def own_drafts(case: PoolCase[Any]) -> Iterator[Problem]:
    """The model's own draft layers have to be there. A warning: a card may not know them."""
    drafts, card = case.speculative, case.card
    if card and drafts and drafts.algorithm == "mtp" and not (drafts.draft_model or card.draft_layers):
        yield warn(
            f"the card of {case.settings.model} has no draft layers, and mtp drafts with them: the engine"
            " would end while it loads the model",
            case.at("speculative"),
            "remove it, or give the card `draft` if the checkpoint has such layers",
        )


def balanced_somewhere(cases: Sequence[Case]) -> Iterator[Problem]:
    """What both pools share of balancing is for those that spread experts; one of them has to."""
    both = pair(cases)
    if not both or any(case.dense or case.ep > 1 or case.pool.settings.eplb for case in both):
        return
    shared = both[0].settings.eplb
    if shared.enabled or shared.redundant_experts:
        yield Problem(
            "no pool spreads its experts over GPUs, so there is nothing to balance",
            "wideep_eplb",
            f"set {both[1].at('expert_parallel_size')}: {both[1].tp}, or remove wideep_eplb",
        )


def longest_prompt(cases: Sequence[Case], at: PoolName) -> Iterator[Problem]:
    """A prompt that prefill takes has to fit decode, which refuses it later. at: the pool to change.

    Where prefill has the model's own length, nobody said that such prompts come: a warning.
    """
    if both := pair(cases):
        prefill, decode = both
        if decode.longest and prefill.longest > decode.longest:
            written = prefill.pool.settings.options
            sections = (part for part in written.values() if isinstance(part, Mapping))
            said = any("context_length" in part for part in (written, *sections))
            blamed, other = (decode, prefill) if said and at == "decode" else (prefill, decode)
            yield Problem(
                f"prefill takes prompts of {prefill.longest} tokens, and decode sequences of {decode.longest}"
                " only",
                blamed.at("context_length"),
                f"set it to {other.longest}, the same context_length in both pools",
                "error" if said else "warning",
            )


# ---- environment, code ---------------------------------------------------------------------------


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
        elif _uses_rdma(case, name) and (severity := _by_tcp(case, name, value)):
            what = "NCCL" if name.startswith("NCCL") else "the KV cache"
            how = "goes" if severity == "error" else "may go"
            linked = case.gpu is not None and case.gpu.multi_node_nvlink
            beyond = " beyond the hosts that NVLink joins" if linked else ""
            yield Problem(
                f"with {value!r} {what} {how} by TCP{beyond}, past the RDMA devices that are described,"
                " silently",
                where,
                "remove it; to do without RDMA on purpose, take the devices out of wideep_network",
                severity,
            )
        elif case.disaggregated and name == "UCX_TLS" and not network.sees_gpus(value):
            yield Problem(
                f"with {value!r} UCX takes GPU memory for the host's, and the KV cache cannot be registered",
                where,
                "add cuda_copy and cuda_ipc to it, or remove it",
            )


def _by_tcp(case: PoolCase[Any], name: str, value: str) -> network.Severity | None:
    efa = any(host.network.efa for host in case.hosts)
    return network.by_tcp(name, value, gpu=case.gpu, efa=efa)


def simulated_answers(case: PoolCase[Any]) -> Iterator[Problem]:
    """Drafts taken unseen, experts that nobody chose: fast, and the tokens mean nothing; silently."""
    for name in (name for name in case.pool.settings.env if name.startswith(SIMULATES)):
        where = f"wideep_pools.{case.role}.env.{name}"
        message = "it measures what is not computed: answers are not the model's"
        yield for_benchmarks(case, message, where, "remove it")


def for_benchmarks(case: PoolCase[Any], message: str, where: str, remedy: str) -> Problem:
    """Return what is refused unless the operator says that nobody relies on the deployment."""
    if case.settings.benchmark_only:
        return warn(f"{message} (accepted for a benchmark)", where, f"{remedy} before anybody relies on it")
    return Problem(
        message, where, f"{remedy}; for a benchmark that nobody relies on, wideep_benchmark_only: true"
    )


def _uses_rdma(case: PoolCase[Any], name: str) -> bool:
    """Whether what reads the variable has RDMA devices to use: NCCL between hosts, UCX and Mooncake for KV.

    name: see `wideep.deployment.network.by_tcp`.
    """
    between = case.nodes > 1 if name.startswith("NCCL") else case.disaggregated
    return between and any(host.network.rdma_devices for host in case.hosts)


def remote_code(case: PoolCase[Any]) -> Iterator[Problem]:
    """Who can write the model's directory could run programs; some models do not start without."""
    needed = case.card.needs_own_code if case.card else None
    if needed is False and case.options.trust_remote_code:
        yield warn(
            f"{case.settings.model} needs no code of its own: programs in the model's directory would be run",
            case.at("trust_remote_code"),
            "remove trust_remote_code",
        )
    if needed and not case.options.trust_remote_code:
        yield warn(
            f"configuration or tokenizer of {case.settings.model} are code in its directory, which"
            f" {case.title} runs only where it may",
            case.at("trust_remote_code"),
            "set trust_remote_code: true, and let nobody else write the directory",
        )


def uneven(case: PoolCase[Any]) -> bool:
    """Whether nodes take different numbers of GPUs, which is refused already: sizes would mean nothing."""
    return any(len({len(node.gpus) for node in replica.nodes}) > 1 for replica in case.pool.replicas)


# Of every engine with GPUs.
COMMON: tuple[Callable[[PoolCase[Any]], Iterator[Problem]], ...] = (
    model_directory,
    world_size,
    dp_attention_alone,
    attention_heads,
    same_gpus,
    experts_divide,
    own_environment,
    simulated_answers,
    remote_code,
)


def judge(
    cases: Sequence[Case],
    rules: Iterable[Callable[[Case], Iterator[Problem]]],
    handover: Callable[[Sequence[Case]], Iterator[Problem]],
) -> list[Problem]:
    """Return what all rules have to say of each pool, and of prefill and decode together, each thing once."""
    found = [problem for case in cases if not uneven(case) for each in rules for problem in each(case)]
    return list(dict.fromkeys([*found, *handover(cases)]))
