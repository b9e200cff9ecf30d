"""Who computes what: sizes of the parallel layout, and the GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from wideep.engines.trtllm.options import Case
from wideep.engines.trtllm.rules.registry import rule
from wideep.problems import Problem


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
    elif not case.options.dp_attention and case.dp > 1:
        yield Problem(
            f"data_parallel_size {case.dp} without dp_attention: TensorRT-LLM has no other data parallelism",
            case.at("dp_attention"),
            "set dp_attention: true, or data_parallel_size: 1 and more replicas",
        )


@rule
def gpu_generation(case: Case) -> Iterator[Problem]:
    """FP8 kernels begin with Ada and Hopper; TensorRT-LLM fails later, when it loads the model."""
    if case.gpu is None or case.gpu.fp8:
        return
    formats = {case.card.format_of(part) for part in ("experts", "dense")} if case.card else set()
    if eight := sorted(name for name in formats if name.startswith(("fp8", "mxfp8", "nvfp4", "fp4"))):
        yield Problem(
            f"{eight[0].partition('-')[0].upper()} weights do not run on {case.gpu.product}",
            "wideep_model",
            "use GPUs of the Hopper generation or later, or a model with 16-bit weights",
        )
    if case.options.kv_cache_dtype == "fp8":
        yield Problem(
            f"an FP8 KV cache does not run on {case.gpu.product}",
            case.at("kv_cache_dtype"),
            "remove kv_cache_dtype",
        )
