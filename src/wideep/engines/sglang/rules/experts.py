"""Experts: how they are spread, copied, balanced and computed."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines import rules as shared
from wideep.engines.rules import warn
from wideep.engines.sglang.options import PLACEMENT_FLAG, Case
from wideep.engines.sglang.rules.registry import rule
from wideep.problems import Problem


@rule
def dense_model(case: Case) -> Iterator[Problem]:
    """A dense model has no experts to spread, to compute or to exchange tokens with."""
    o = case.options
    used = {
        "a2a_backend": o.a2a_backend != "none",
        "deepep_mode": o.deepep_mode is not None,
        "moe_dense_tp_size": o.moe_dense_tp_size is not None,
        "moe_runner_backend": o.moe_runner_backend is not None,
    }
    yield from shared.dense_model(case, used)


@rule
def expert_parallel_size(case: Case) -> Iterator[Problem]:
    """All-to-all backends span all GPUs: SGLang sets ep-size to tp-size silently, whatever was written."""
    o = case.options
    if o.a2a_backend == "none":
        yield from shared.expert_parallel_size(case)
    elif case.ep != case.tp and not case.dense:
        yield Problem(
            f"a2a_backend {o.a2a_backend} spreads the experts over all {case.tp} GPUs,"
            f" expert_parallel_size {case.ep} would be ignored",
            case.at("expert_parallel_size"),
            f"set it to {case.tp}, or leave it out",
        )


@rule
def all_to_all_alone(case: Case) -> Iterator[Problem]:
    """One GPU holds all experts, there is nobody to exchange tokens with; SGLang fails later, or limps."""
    if case.options.a2a_backend != "none" and case.world_size == 1:
        yield Problem(
            f"a2a_backend {case.options.a2a_backend} exchanges tokens between GPUs, a replica has one",
            case.at("a2a_backend"),
            "remove it, or give a replica more than one GPU",
        )


@rule
def eplb(case: Case) -> Iterator[Problem]:
    """Load balancing moves experts between GPUs by what was recorded."""
    eplb, mode = case.eplb, case.extra.get("expert-distribution-recorder-mode", "stat")
    buffer = case.extra.get("expert-distribution-recorder-buffer-size")
    if case.card and case.card.experts is None:
        return
    if eplb.enabled and case.ep == 1:
        yield Problem(
            f"EPLB needs experts spread over GPUs, expert parallel size is 1 in pool {case.role}",
            case.eplb_at("enabled"),
            f"set wideep_pools.{case.role}.options.expert_parallel_size: {case.tp}, or enabled: false"
            if case.tp > 1
            else "set enabled: false, or give a replica more than one GPU",
        )
    if eplb.enabled and mode not in ("stat", "stat_approx"):
        yield Problem(
            f"EPLB reads the recorder's statistics, mode {mode} keeps none",
            f"wideep_pools.{case.role}.extra_args.expert-distribution-recorder-mode",
            "remove it: stat is set by itself",
        )
    if eplb.enabled and mode == "stat_approx" and case.options.deepep_mode != "normal":
        yield Problem(
            "the recorder's mode stat_approx counts DeepEP's normal dispatch only",
            f"wideep_pools.{case.role}.extra_args.expert-distribution-recorder-mode",
            "remove it: stat is set by itself",
        )
    if eplb.enabled and case.options.a2a_backend == "deepep" and case.options.deepep_mode == "auto":
        yield Problem(
            "EPLB counts tokens in DeepEP's normal mode or in its low-latency mode, not where steps take"
            f" turns (deepep_mode auto, pool {case.role})",
            case.eplb_at("enabled"),
            "set enabled: false, or serve with pools prefill and decode"
            if case.role == "aggregated"
            else f"set enabled: false, or wideep_pools.{case.role}.options.deepep_mode:"
            f" {'normal' if case.role == 'prefill' else 'low_latency'}",
        )
    if eplb.enabled and buffer is not None and int(buffer) > eplb.rebalance_iterations:
        yield Problem(
            f"rebalance_iterations {eplb.rebalance_iterations} is less than the recorder's buffer of {buffer}"
            " passes: it would balance by stale records",
            case.eplb_at("rebalance_iterations"),
            f"set it to at least {buffer}, or remove expert-distribution-recorder-buffer-size",
        )
    if eplb.redundant_experts and not eplb.enabled and not case.placement:
        yield warn(
            "redundant experts without EPLB: they take memory and nothing is ever rebalanced",
            case.eplb_at("enabled"),
            f"set {case.eplb_at('enabled')}: true, or {case.eplb_at('placement')} to a file of counts",
        )


@rule
def placement(case: Case) -> Iterator[Problem]:
    """Where experts begin is read from a file, by its ending; SGLang fails later, when it makes the model."""
    given = case.eplb.placement
    if isinstance(given, dict):
        yield Problem(
            "SGLang reads where experts begin from a file",
            case.eplb_at("placement"),
            "write the path of a .json or .pt file that the workers' hosts have",
        )
    elif given and not given.endswith((".json", ".pt")):
        yield Problem(
            f"SGLang tells files of placements by .json and .pt, not {given}",
            case.eplb_at("placement"),
            "give the file one of these endings",
        )
    if given and PLACEMENT_FLAG in case.extra:
        yield Problem(
            f"--{PLACEMENT_FLAG} is set twice",
            f"wideep_pools.{case.role}.extra_args.{PLACEMENT_FLAG}",
            f"remove it: {case.eplb_at('placement')} is the same",
        )


@rule
def record_on_request(case: Case) -> Iterator[Problem]:
    """A record that is asked of a worker without a recorder raises in its scheduler and ends it."""
    routes = case.extra.get("engine-route") or []
    asked = [
        word
        for word in ([routes] if isinstance(routes, str) else routes)
        if "expert_distribution" in str(word)
    ]
    mode = "expert-distribution-recorder-mode"
    if asked and not case.eplb.enabled and mode not in case.extra:
        yield Problem(
            "a worker whose experts are not counted ends when a record is asked of it",
            f"wideep_pools.{case.role}.extra_args.engine-route",
            f"set wideep_pools.{case.role}.extra_args.{mode}: stat, or {case.eplb_at('enabled')}: true",
        )


@rule
def elastic_eplb(case: Case) -> Iterator[Problem]:
    """Where ranks may leave, experts are placed by an algorithm that knows it; `auto` becomes that one."""
    backend, algorithm = case.extra.get("elastic-ep-backend"), case.eplb.algorithm
    if backend not in (None, "none") and case.eplb.enabled and algorithm != "auto":
        yield Problem(
            f"--elastic-ep-backend {backend} does not work with the algorithm {algorithm}",
            case.eplb_at("algorithm"),
            "set it to auto, or remove elastic-ep-backend",
        )


@rule
def eplb_groups(case: Case) -> Iterator[Problem]:
    """Hierarchical placement keeps a group of experts on one node; SGLang fails later, at the first move."""
    eplb, experts = case.eplb, case.card.experts if case.card else None
    if eplb.enabled and experts and "hierarchical" in eplb.algorithm and experts.groups % case.nodes:
        yield Problem(
            f"{eplb.algorithm} needs the {experts.groups} groups of experts to divide by {case.nodes} nodes",
            case.eplb_at("algorithm"),
            "use auto or deepseek",
        )


@rule
def redundancy_advice(case: Case) -> Iterator[Problem]:
    """Without a spare expert SGLang has nothing to balance with."""
    yield from shared.redundancy_advice(case, or_none=False)


@rule
def moe_runner(case: Case) -> Iterator[Problem]:
    """Some expert kernels know whole or fully spread experts only."""
    runner, quantization = case.options.moe_runner_backend, case.extra.get("quantization")
    where = case.at("moe_runner_backend")
    if runner == "flashinfer_cutedsl" and case.expert_format not in (None, "nvfp4", "fp4"):
        yield Problem(
            f"{runner} is for NVFP4 experts, {case.settings.model} has {case.expert_format}",
            where,
            "remove moe_runner_backend: SGLang chooses the fastest one",
        )
    if runner in ("flashinfer_cutlass", "flashinfer_cutedsl") and case.ep not in (1, case.tp):
        yield Problem(
            f"{runner} needs expert_parallel_size 1 or {case.tp}, it is {case.ep}",
            where,
            f"set expert_parallel_size: {case.tp}, or remove moe_runner_backend",
        )
    if runner == "cutlass" and quantization in ("fp8", "mxfp8") and case.ep > 1:
        yield Problem(
            f"cutlass with {quantization} weights cannot spread experts (expert_parallel_size {case.ep})",
            where,
            "remove moe_runner_backend: SGLang chooses the fastest one",
        )
