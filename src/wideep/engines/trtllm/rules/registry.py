"""The list of rules, and the names that flags, fields and options have in TensorRT-LLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wideep.deployment import tls
from wideep.deployment.site import PLANE_FLAGS
from wideep.engines.trtllm.options import Case
from wideep.problems import Problem

Rule = Callable[[Case], Iterator[Problem]]
RULES: list[Rule] = []

# Flags that follow from the inventory: flag -> what decides it.
OWNED = {
    "model": "wideep_model_path",
    "served-model-name": "wideep_model",
    "namespace": "wideep_namespace",
    "endpoint": "wideep_namespace",
    **PLANE_FLAGS,
    **tls.FLAGS,
    "disaggregation-mode": "the inventory group that a host is in",
    "gpus-per-node": "wideep_pools.<pool>.gpus_per_node",
    "publish-kv-events": "wideep_router_mode",
    "extra-engine-args": "wideep_pools.<pool>.options",
    "override-engine-args": "wideep_pools.<pool>.options.trtllm.engine_args",
}
# Flag -> the option that decides it, in the engine's YAML (which wins over the flag).
OPTION_OF = {
    "tensor-parallel-size": "tensor_parallel_size",
    "pipeline-parallel-size": "pipeline_parallel_size",
    "expert-parallel-size": "expert_parallel_size",
    "enable-attention-dp": "dp_attention",
    "kv-block-size": "page_size",
    "max-batch-size": "max_batch_size",
    "max-num-tokens": "max_num_tokens",
    "max-seq-len": "context_length",
    "free-gpu-memory-fraction": "free_gpu_memory_fraction",
    "load-format": "load_format",
}
# Field of the engine's YAML -> the option that decides it.
FIELDS = {
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "moe_expert_parallel_size": "expert_parallel_size",
    "moe_tensor_parallel_size": "expert_parallel_size",
    "enable_attention_dp": "dp_attention",
    "max_batch_size": "max_batch_size",
    "max_num_tokens": "max_num_tokens",
    "max_seq_len": "context_length",
    "enable_chunked_prefill": "chunked_prefill",
    "disable_overlap_scheduler": "overlap_scheduler",
    "kv_cache_config.free_gpu_memory_fraction": "free_gpu_memory_fraction",
    "kv_cache_config.dtype": "kv_cache_dtype",
    "kv_cache_config.tokens_per_block": "page_size",
    "kv_cache_config.enable_block_reuse": "block_reuse",
    "cuda_graph_config.batch_sizes": "cuda_graph_batch_sizes",
    "cuda_graph_config.max_batch_size": "cuda_graph_max_bs",
    "cuda_graph_config.enable_padding": "cuda_graph_padding",
    "moe_config.backend": "moe_backend",
    "moe_config.max_num_tokens": "moe_max_tokens",
    "cache_transceiver_config.max_tokens_in_buffer": "max_tokens_in_buffer",
    "load_format": "load_format",
    "trust_remote_code": "trust_remote_code",
}
# Field -> an option that decides it, too: it may stand in one of the two places.
ALSO_FIELDS = {
    "cache_transceiver_config.kv_transfer_timeout_ms": "kv_transfer_timeout_ms",
    "speculative_config": "speculative",
}
# Field -> what else decides it.
OWNED_FIELDS = {
    "model": "wideep_model_path",
    "gpus_per_node": "wideep_pools.<pool>.gpus_per_node",
    "moe_config.load_balancer": "wideep_eplb",
    "cache_transceiver_config.backend": "wideep_kv_transfer",
}
# Sections of the engine's YAML that have such fields in them.
SECTIONS = frozenset(path.partition(".")[0] for path in (*FIELDS, *OWNED_FIELDS) if "." in path)


def rule(function: Rule) -> Rule:
    """Add a rule to the list."""
    RULES.append(function)
    return function
