"""Who computes what: GPUs, stages, attention by data, dense layers."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines import rules as shared
from wideep.engines.rules import warn
from wideep.engines.sglang.options import Case, against_deepep, fewer_gpus, shared_columns
from wideep.engines.sglang.rules.registry import rule
from wideep.problems import Problem

# All-to-alls that SGLang refuses either overlap with (mega_moe_hook.py, moe_hook.py).
WITHOUT_OVERLAP = ("megamoe", "deepep_v2")


@rule
def pipeline(case: Case) -> Iterator[Problem]:
    """Stages of layers hand over one token at a time: neither drafts nor a world that shrinks fit in."""
    if case.stages == 1:
        return
    ranks = case.extra.get("elastic-ep-backend") not in (None, "none")
    others = {"speculative": bool(case.speculative), "elastic-ep-backend": ranks}
    for other in (name for name, there in others.items() if there):
        where = case.at(other) if other == "speculative" else f"wideep_pools.{case.role}.extra_args.{other}"
        yield Problem(f"--pp-size {case.stages} excludes {other}", where, "remove one of the two")


@rule
def data_parallel_divides(case: Case) -> Iterator[Problem]:
    """DP attention divides the same GPUs: the lab's TP=1, DP=4 is impossible, it is TP=4, DP=4."""
    if case.tp % case.dp:
        sizes = [n for n in range(1, case.world_size + 1) if case.world_size % n == 0]
        yield Problem(
            f"data_parallel_size {case.dp} does not divide tensor_parallel_size {case.tp}:"
            " attention replicas share the GPUs of the replica, they do not add to them",
            case.at("data_parallel_size"),
            f"use one of {', '.join(map(str, sizes))}",
        )


@rule
def data_parallel_is_attention(case: Case) -> Iterator[Problem]:
    """Without DP attention SGLang starts complete copies, on one node only; replicas do that better."""
    if case.dp > 1 and not case.options.dp_attention:
        yield Problem(
            f"data_parallel_size {case.dp} without dp_attention means complete copies of the model"
            + (", which SGLang refuses over several nodes" if case.nodes > 1 else " behind one address"),
            case.at("dp_attention"),
            "set dp_attention: true, or data_parallel_size: 1 and more replicas (replicas_per_node)",
        )


@rule
def dp_attention_of_the_model(case: Case) -> Iterator[Problem]:
    """Not every model of SGLang's can divide attention by data; it fails later, at the first batch."""
    name = case.card.architecture if case.card else ""
    # What the release does not know, or does not tell, may be able to.
    unable = case.release.facts("sglang")["attention_whole"]
    if case.dp > 1 and case.options.dp_attention and name in unable:
        yield Problem(
            f"SGLang's {name} ({case.settings.model}) cannot divide attention by data: its workers start and"
            " end at the first batch",
            case.at("data_parallel_size"),
            "set data_parallel_size: 1 (its GPUs divide the model) and, for more copies, fewer gpus_per_node"
            " with replicas_per_node; or serve a model that can, e.g. a Qwen3",
        )


@rule
def dp_lm_head(case: Case) -> Iterator[Problem]:
    """The output head can be divided by data only where attention is."""
    if case.options.dp_lm_head and not case.options.dp_attention and case.dp > 1:
        yield Problem("dp_lm_head needs dp_attention", case.at("dp_lm_head"), "set dp_attention: true")


@rule
def blocks_divide(case: Case) -> Iterator[Problem]:
    """FP8 scales belong to whole blocks of weights; SGLang divides dense layers and shared experts, too."""
    card, o = case.card, case.options
    if card is None or (case.dp > 1 and not o.dp_attention):
        return
    parts = []
    if card.experts is None or card.dense_layers:
        dense = o.moe_dense_tp_size or case.tp
        remedy = "set it to 1" if card.experts else "use fewer GPUs a replica"
        option = "moe_dense_tp_size" if card.experts else "tensor_parallel_size"
        parts.append(shared.Part("dense layers", card.intermediate_size, dense, option, remedy))
    if card.experts and card.experts.shared and o.a2a_backend == "none":
        columns = shared_columns(case)
        balanced = case.role == "aggregated" and case.eplb.enabled
        deepep = f"{case.eplb_at('enabled')}: false, for DeepEP" if balanced else "a2a_backend: deepep"
        remedy = f"set {deepep}: then each GPU has them whole"
        if why := against_deepep(case):
            remedy = f"set {fewer_gpus(case)}; with DeepEP each GPU would have them whole, but {why}"
        parts.append(shared.Part("shared experts", columns, case.tp, "a2a_backend", remedy))
    yield from shared.blocks_divide(case, *parts)


@rule
def moe_dense_tp_size(case: Case) -> Iterator[Problem]:
    """The dense layers are either whole on each GPU or divided by all of them."""
    size = case.options.moe_dense_tp_size
    if size not in (None, 1, case.tp):
        yield Problem(
            f"moe_dense_tp_size {size} is neither 1 nor tensor_parallel_size {case.tp}",
            case.at("moe_dense_tp_size"),
            "set it to 1: each GPU has the few dense layers whole",
        )


@rule
def overlap(case: Case) -> Iterator[Problem]:
    """Two batches overlap one's communication with the other's computation: there has to be some."""
    o = case.options
    if o.two_batch_overlap and o.a2a_backend == "none" and not o.dp_attention:
        yield Problem(
            "two_batch_overlap has nothing to overlap without an all-to-all backend or dp_attention",
            case.at("two_batch_overlap"),
            "set a2a_backend: deepep, or remove two_batch_overlap",
        )
    if o.single_batch_overlap and o.a2a_backend == "none":
        yield warn(
            "single_batch_overlap has nothing to overlap without an all-to-all backend",
            case.at("single_batch_overlap"),
            "set a2a_backend: deepep, or remove single_batch_overlap",
        )
    for option in ("two_batch_overlap", "single_batch_overlap"):
        if getattr(o, option) and o.a2a_backend in WITHOUT_OVERLAP:
            yield Problem(
                f"a2a_backend {o.a2a_backend} is one step: {option} has no place between its parts",
                case.at(option),
                f"remove {option}, or set a2a_backend: deepep",
            )
