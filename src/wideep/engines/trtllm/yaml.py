"""The engine's YAML, and that of its load balancer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from wideep.engines.trtllm.options import Case

# TensorRT-LLM's words where they differ from ours.
KV_DTYPES = {"auto": "auto", "bf16": "bfloat16", "fp8": "fp8"}


def engine_args(case: Case, balancer: str) -> dict[str, Any]:
    """Return the engine's YAML as a tree. `balancer`: path of the load balancer's file."""
    o = case.options
    tree: dict[str, Any] = {
        "tensor_parallel_size": case.tp,
        "pipeline_parallel_size": o.pipeline_parallel_size,
        "moe_expert_parallel_size": case.ep if case.experts else None,
        "enable_attention_dp": case.dp > 1,
        "max_batch_size": o.max_batch_size,
        "max_num_tokens": o.max_num_tokens,
        "max_seq_len": o.context_length,
        "enable_chunked_prefill": o.chunked_prefill,
        "disable_overlap_scheduler": not o.overlap_scheduler,
        "kv_cache_config": {
            "free_gpu_memory_fraction": o.free_gpu_memory_fraction,
            "dtype": KV_DTYPES[o.kv_cache_dtype],
            "tokens_per_block": o.page_size,
            "enable_block_reuse": o.block_reuse,
        },
        "load_format": o.load_format if o.load_format != "auto" else None,
        "trust_remote_code": o.trust_remote_code or None,
    }
    if case.experts:
        tree["moe_config"] = {
            "backend": o.moe_backend,
            "max_num_tokens": o.moe_max_tokens,
            "load_balancer": balancer if load_balancer(case) else None,
        }
    if case.disaggregated:
        tree["cache_transceiver_config"] = {
            "backend": case.settings.kv_transfer.upper(),
            "max_tokens_in_buffer": o.max_tokens_in_buffer,
            "kv_transfer_timeout_ms": o.kv_transfer_timeout_ms,
        }
    if o.speculative:
        tree["speculative_config"] = {
            "decoding_type": case.facts.drafts.words.get(o.speculative.algorithm),
            "max_draft_len": o.speculative.verified - 1 if o.speculative.verified else None,
            "speculative_model": o.speculative.draft_model or None,
        }
    tree = _set(tree)
    # null is a value here: it turns the graphs off, an absent section does not.
    graphs = {"enable_padding": o.cuda_graph_padding, "batch_sizes": o.cuda_graph_batch_sizes}
    tree["cuda_graph_config"] = graphs if case.graphs else None
    return _merged(tree, o.engine_args)


def load_balancer(case: Case) -> dict[str, Any]:
    """Return the load balancer's YAML as a tree; empty where there is none."""
    if not case.balanced or case.slots is None:
        return {}  # of an unknown model the rules want a card first
    eplb = case.eplb
    start = eplb.placement if isinstance(eplb.placement, Mapping) else {}
    return {
        "num_slots": case.slots,
        "layer_updates_per_iter": (eplb.layers_per_chunk or 1) if eplb.enabled else 0,
        **({"initial_global_assignments": dict(start)} if start else {}),
    }


def _set(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree without what is None."""
    found = {k: _set(v) if isinstance(v, Mapping) else v for k, v in tree.items()}
    return {k: v for k, v in found.items() if v is not None}


def _merged(tree: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree with another laid over it."""
    merged = dict(tree)
    for key, value in more.items():
        ours = merged.get(key)
        both = isinstance(ours, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(ours, value) if both else value  # type: ignore[arg-type]
    return merged


def text(tree: Mapping[str, Any]) -> str:
    """Return a tree as the text of a file."""
    return "---\n" + yaml.safe_dump(dict(tree), sort_keys=False)
