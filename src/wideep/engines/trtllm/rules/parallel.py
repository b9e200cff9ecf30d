"""Who computes what: sizes of the parallel layout, and the GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines.rules import warn
from wideep.engines.trtllm.options import Case
from wideep.engines.trtllm.rules.registry import rule
from wideep.problems import Problem


@rule
def world_size(case: Case) -> Iterator[Problem]:
    """One rank for each GPU: MPI starts as many."""
    pp = case.options.pipeline_parallel_size
    if case.tp * pp != case.world_size:
        pipeline = f" x pipeline_parallel_size {pp}" if pp > 1 else ""
        yield Problem(
            f"tensor_parallel_size {case.tp}{pipeline} is not the replica's {case.world_size} GPUs"
            f" ({case.nodes} nodes x {case.world_size // case.nodes})",
            case.at("tensor_parallel_size"),
            f"set it to {case.world_size // pp}, leave it out, or change nodes_per_replica or gpus_per_node",
        )


@rule
def attention_data_parallel(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM has one switch: attention is divided by all GPUs, or each GPU attends for itself."""
    if case.dp not in (1, case.tp):
        yield Problem(
            f"data_parallel_size {case.dp}: attention is whole on each of {case.tp} GPUs,"
            " or divided by all of them",
            case.at("data_parallel_size"),
            f"set it to {case.tp} or 1",
        )
    elif case.options.dp_attention and case.dp == 1:
        yield warn(
            "dp_attention does nothing with data_parallel_size 1",
            case.at("dp_attention"),
            f"set data_parallel_size: {case.tp}",
        )
    elif not case.options.dp_attention and case.dp > 1:
        yield Problem(
            f"data_parallel_size {case.dp} without dp_attention: TensorRT-LLM has no other data parallelism",
            case.at("dp_attention"),
            "set dp_attention: true, or data_parallel_size: 1 and more replicas",
        )


@rule
def attention_heads(case: Case) -> Iterator[Problem]:
    """TensorRT-LLM fails later, when it loads the model."""
    if case.card and case.dp == 1 and case.card.attention.heads % case.tp:
        yield Problem(
            f"{case.card.attention.heads} attention heads do not divide by {case.tp} GPUs",
            case.at("tensor_parallel_size"),
            f"choose a size that divides them, or data_parallel_size: {case.tp}",
        )


@rule
def gpu_generation(case: Case) -> Iterator[Problem]:
    """FP8 kernels begin with Ada and Hopper; TensorRT-LLM fails later, when it loads the model."""
    if case.gpu is None or case.gpu.fp8:
        return
    if case.card and case.card.weights != "bf16":
        yield Problem(
            f"{case.card.weights.upper()} weights do not run on {case.gpu.product}",
            "wideep_model",
            "use GPUs of the Hopper generation or later, or a model with 16-bit weights",
        )
    if case.options.kv_cache_dtype == "fp8":
        yield Problem(
            f"an FP8 KV cache does not run on {case.gpu.product}",
            case.at("kv_cache_dtype"),
            "remove kv_cache_dtype",
        )
