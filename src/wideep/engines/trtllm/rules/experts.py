"""Experts: where they are, which kernels compute them, and how they are balanced."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines import rules as shared
from wideep.engines.rules import warn
from wideep.engines.trtllm.options import Case
from wideep.engines.trtllm.release import label
from wideep.engines.trtllm.rules.registry import rule
from wideep.inventory.settings import EplbSettings
from wideep.problems import Problem
from wideep.reference.memory import gib


@rule
def dense_model(case: Case) -> Iterator[Problem]:
    """A dense model has no experts to spread or to compute."""
    used = {
        "moe_backend": case.options.moe_backend is not None,
        "moe_max_tokens": "moe_max_tokens" in case.given,
    }
    yield from shared.dense_model(case, used)


@rule
def left_out_balancing(case: Case) -> Iterator[Problem]:
    """What both pools share of balancing is not for a pool whose attention is not by data."""
    asked = case.asked_eplb
    if case.experts and case.ep > 1 and not case.balanced and (asked.enabled or asked.redundant_experts):
        yield warn(
            f"pool {case.role} spreads its experts and does not balance them: TensorRT-LLM would ignore the"
            " load balancer, as attention is not by data there",
            case.at("data_parallel_size"),
            f"nothing has to be done; set it to {case.tp} to have them balanced, too",
        )


@rule
def placement(case: Case) -> Iterator[Problem]:
    """Experts begin where a list for each layer says; TensorRT-LLM fails later, when it makes the model."""
    given, card, where = case.eplb.placement, case.card, case.eplb_at("placement")
    if isinstance(given, str) and given:
        yield Problem(
            "TensorRT-LLM has the experts of each slot in its own YAML, which the plan writes",
            where,
            "write {layer: [expert of each slot]}, for instance by lookup('file', …) | from_yaml",
        )
    if not isinstance(given, dict) or card is None or card.experts is None or case.slots is None:
        return
    if lacks := sorted(set(range(card.layers - card.moe_layers, card.layers)) - given.keys()):
        yield Problem(
            f"layers with experts have no placement: {', '.join(map(str, lacks[:5]))}"
            + (" …" if len(lacks) > 5 else ""),
            where,
            "write a list for each layer that has experts",
        )
    for layer, slots in given.items():
        if len(slots) != case.slots or not set(slots) <= set(range(card.experts.routed)):
            yield Problem(
                f"layer {layer} names {len(slots)} experts up to {max(slots, default=0)}: there are"
                f" {case.slots} slots for experts 0 to {card.experts.routed - 1}",
                where,
                f"write {case.slots} numbers, or correct {case.eplb_at('redundant_experts')}",
            )
            return
        if gone := set(range(card.experts.routed)) - set(slots):
            yield Problem(
                f"layer {layer} has no slot for expert {min(gone)}: its tokens would go nowhere",
                where,
                "give each expert a slot",
            )
            return


@rule
def load_balancer_is_used(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM ignores load_balancer silently, unless experts, attention and backend suit it."""
    if not case.balanced:
        return
    o, card, says = case.options, case.card, "TensorRT-LLM would ignore the load balancer silently"
    if card is None:
        yield Problem(
            "the load balancer has to know how many experts the model has",
            "wideep_model_card",
            f"set it, or remove {case.eplb_at()}",
        )
    if case.ep == 1:
        yield Problem(
            f"{says}: the experts are not spread, expert parallel size is 1 in pool {case.role}",
            case.eplb_at(),
            f"set {case.at('expert_parallel_size')}: {case.tp}, or remove {case.eplb_at()}",
        )
    if case.dp == 1:
        yield Problem(
            f"{says}: it needs attention by data in pool {case.role}",
            case.eplb_at(),
            f"set {case.at('data_parallel_size')}: {case.tp}, or remove {case.eplb_at()}",
        )
    eplb = case.facts.eplb
    if card and card.architecture and not card.architecture.startswith(eplb.architectures):
        yield Problem(
            f"TensorRT-LLM refuses the load balancer at its start: it does not balance {card.architecture}"
            + (f" (read for another version than {case.facts.version})" if eplb.unsure else ""),
            case.eplb_at(),
            f"remove {case.eplb_at()}",
            "warning" if eplb.unsure else "error",
        )
    backend = case.facts.moe_backends.get(o.moe_backend or "")
    if backend and not backend.balances:
        yield Problem(
            f"the backend {o.moe_backend} has no load balancing",
            case.at("moe_backend"),
            "remove moe_backend: one that has is chosen",
        )


@rule
def moe_backend(case: Case) -> Iterator[Problem]:
    """The lab's WIDEEP is gone; one without kernels is replaced by TensorRT-LLM silently, or fails later."""
    where, chosen, facts = case.at("moe_backend"), case.options.moe_backend or "", case.facts
    instead = "remove moe_backend: one that fits is chosen"
    backend, gpu, card = facts.moe_backends.get(chosen), case.gpu, case.card
    fits = backend.suits(gpu, card) if backend and gpu and card and card.experts else True
    what = f"{label(card) if card else ''} weights on {gpu.product if gpu else ''}"
    if case.why_backend and not fits:
        balanced = " with balanced experts" if case.balanced else ""
        yield warn(
            f"no backend is known to have kernels for {what}{balanced} in TensorRT-LLM {facts.version}:"
            f" {chosen} is set",
            where,
            "use other weights or GPUs, or set moe_backend to one that you saw working",
        )
        return
    if case.why_backend:
        yield warn(
            f"the experts' backend is {chosen}: {case.why_backend}",
            where,
            f"nothing has to be done; moe_backend: {chosen} ends this notice, another value another choice",
        )
        return
    if chosen in facts.gone_backends:
        field = case.release.fields("tensorrt-llm").fields["moe_config.backend"]
        known = ", ".join(map(str, field.choices or ()))
        yield Problem(
            f"{chosen} is gone from TensorRT-LLM {facts.version}, whose moe_config.backend is one of {known}",
            where,
            instead,
        )
    if not fits:
        yield warn(
            f"TensorRT-LLM {facts.version} has no {chosen} for {what}: it takes {facts.fallback} and only its"
            " log says so, or it fails at the model",
            where,
            instead,
        )


@rule
def eplb_settings(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM has one method, and a pace in layers for each step (layers_per_chunk, else 1)."""
    eplb, unset = case.eplb, EplbSettings()
    for name in ("algorithm", "rebalance_iterations", "min_utilization"):
        if case.balanced and getattr(eplb, name) != getattr(unset, name):
            yield warn(
                f"{name} is SGLang's, TensorRT-LLM has nothing like it",
                case.eplb_at(name),
                "remove it, or leave it for SGLang; the pace here is layers_per_chunk",
            )
    if eplb.redundant_experts and not eplb.enabled and case.balanced:
        yield warn(
            "redundant experts that nothing moves: copies stay where they begin, whatever is asked for",
            case.eplb_at("enabled"),
            "nothing has to be done; redundant_experts: 0 saves their memory"
            if _unverified(case)
            else f"set {case.eplb_at('enabled')}: true",
        )


def _unverified(case: Case) -> bool:
    """Whether TensorRT-LLM has the experts' weights in a form that its authors have not moved in tests."""
    card = case.card
    return card is not None and card.format_of("experts") in case.facts.eplb.unverified.formats


@rule
def unverified_balancing(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM says so in its log, and goes on; wrong experts would be wrong tokens, silently."""
    if case.balanced and case.eplb.enabled and _unverified(case):
        yield warn(
            "moving FP8 experts in blocks is not verified by TensorRT-LLM around this version (its log says"
            " `online EPLB is not verified yet`)",
            case.eplb_at("enabled"),
            "set enabled: false: copies then stay where they begin; or compare answers before and after load",
        )


@rule
def redundancy_advice(case: Case) -> Iterator[Problem]:
    """None, or one for each GPU, is what TensorRT-LLM's authors use."""
    yield from shared.redundancy_advice(case, or_none=True)


@rule
def host_memory(case: Case) -> Iterator[Problem]:
    """Online balancing copies from host memory; with too little, ranks die later, of a bus error."""
    if case.balanced and case.host_memory:
        coherent = case.gpu is not None and case.gpu.multi_node_nvlink
        gdrcopy = "" if coherent else " and GDRCopy (/dev/gdrdrv)"
        yield warn(
            f"online load balancing keeps all experts in shared memory: each host needs"
            f" {gib(case.host_memory)} of /dev/shm for each replica it has a part of,"
            f" transparent huge pages (not never){gdrcopy}",
            case.eplb_at("enabled"),
            "provide it (mount -o remount,size=…), or set enabled: false",
        )


@rule
def all_to_all(case: Case) -> Iterator[Problem]:
    """What is forced and cannot work fails later, when the model is made; else the next one is tried."""
    known, env, chosen, where = case.facts.all_to_all, case.pool.settings.env, case.all_to_all, "all_to_all"
    for name in (known.variable, *known.older):
        if name not in env:
            continue
        if where in case.given:
            yield Problem(
                f"{name} and {where} say the same thing",
                f"wideep_pools.{case.role}.env.{name}",
                f"keep {case.at(where)}",
            )
        elif name in known.older:
            option = f"set {case.at(where)}: {chosen} instead" if chosen != "auto" else "remove it"
            yield warn(
                f"TensorRT-LLM {case.facts.version} may not read {name} any more, but {known.variable}",
                f"wideep_pools.{case.role}.env.{name}",
                option,
            )
    if chosen == "auto" or not case.experts:
        return
    at = case.at(where) if where in case.given else f"wideep_pools.{case.role}.env"
    if not case.exchanges:
        yield warn(
            "without attention by data, and all experts spread over all GPUs, nothing is sent to experts",
            at,
            f"remove it, or set {case.at('data_parallel_size')} and expert_parallel_size: {case.tp}",
        )
    elif chosen.startswith("deepep") and not case.deep_ep:
        yield Problem(
            f"DeepEP works in one host with {_or(known.one_host)} GPUs, or in {_or(known.hosts)} hosts of"
            f" {known.of_each}: not in {case.nodes} of {len(case.replica.head.gpus)}",
            at,
            "remove it, or change nodes_per_replica",
        )
    elif chosen.startswith("nvlink") and case.spans_hosts and case.gpu and not case.gpu.multi_node_nvlink:
        yield Problem(
            f"{chosen} needs NVLink between all GPUs of a replica, {case.gpu.product} has it within a host",
            at,
            "remove it, or set it to deepep",
        )
    elif case.may_deep_ep and not all(host.network.rdma_devices for host in case.hosts):
        yield Problem(
            "DeepEP between hosts sends by RDMA alone (NVSHMEM over IBGDA), and no device is described",
            "wideep_network",
            "set link and rdma_devices of wideep_network, or remove all_to_all",
        )


def _or(numbers: tuple[int, ...]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}"


@rule
def drafts(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM drafts one token after the other, and refuses what it does not know at its start."""
    yield from shared.own_drafts(case)
    given, known = case.options.speculative, case.facts.drafts
    if given is None:
        return
    where = case.at("speculative")
    if given.algorithm not in known.words:
        yield Problem(
            f"TensorRT-LLM does not draft with {given.algorithm}",
            f"{where}.algorithm",
            f"use one of {', '.join(known.words)}",
        )
    elif given.algorithm != "mtp" and given.verified is None:
        yield Problem(
            f"TensorRT-LLM has to be told how many tokens {given.algorithm} drafts",
            f"{where}.steps",
            "set it, for instance to 3",
        )
    if given.algorithm not in ("mtp", "ngram") and not given.draft_model:
        yield Problem(
            f"{given.algorithm} drafts with a model of its own",
            f"{where}.draft_model",
            "set it to that model's directory",
        )
    if given.topk not in (None, 1):
        yield warn(
            "drafts do not branch in TensorRT-LLM: topk is SGLang's",
            f"{where}.topk",
            "remove it, or leave it for SGLang",
        )
