# ruff: noqa: E501 - a table, one row a line
"""Changes of a good TensorRT-LLM deployment: those that are accepted, and those that are refused or warned of.

No verdict of TensorRT-LLM stands beside ours: its package cannot be installed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

R1, LITE, DENSE = (
    "deepseek-ai/DeepSeek-R1",
    "deepseek-ai/DeepSeek-V2-Lite-Chat",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
)
P, D = "prefill", "decode"
OPTIONS, EXTRA = "wideep_pools.decode.options", "wideep_pools.decode.extra_args"
TRT = f"{OPTIONS}.trtllm"


@dataclass(frozen=True)
class Change:
    """What differs from the good deployment.

    own: options of TensorRT-LLM for `pool`, in its section; options, extra, env, pools: others of that pool. both:
    options for both pools. variables: of the deployment.
    """

    model: str = R1
    pool: str = D
    own: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    both: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)
    pools: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)


def eplb(**values: Any) -> dict[str, Any]:
    """Return `wideep_eplb`, enabled."""
    return {"wideep_eplb": {"enabled": True, "redundant_experts": 16, **values}}


def gpu(name: str, **more: Any) -> dict[str, Any]:
    """Return the variables of hosts with another GPU."""
    return {"wideep_gpu": name, **more}


NO_EPLB: dict[str, Any] = {"wideep_eplb": {}}
MISSING = {"wideep_model": "example/unknown", "wideep_eplb": {}}

RIGHT = {
    "as it is": Change(),
    "mooncake": Change(variables={"wideep_kv_transfer": "mooncake"}),
    "UCX": Change(variables={"wideep_kv_transfer": "ucx"}),
    "a buffer for prefill's prompts": Change(
        options={"context_length": 9472}, own={"max_tokens_in_buffer": 8448}
    ),
    "graphs that the batch leaves out": Change(
        own={"max_batch_size": 32, "cuda_graph_batch_sizes": [1, 2, 4, 8, 16, 32, 64, 128, 256, 2048]}
    ),
    "no EPLB": Change(variables=NO_EPLB),
    "EPLB without spares": Change(variables=eplb(redundant_experts=0)),
    "two layers a step": Change(variables=eplb(layers_per_chunk=2)),
    "fixed placement": Change(variables={"wideep_eplb": {"redundant_experts": 16}}),
    "H100": Change(variables=gpu("h100-80gb")),
    "H20": Change(variables=gpu("h20-96gb")),
    "B200": Change(variables=gpu("b200-180gb")),
    "GB200": Change(variables=gpu("gb200-nvl72")),
    "TRTLLM on B200": Change(own={"moe_backend": "TRTLLM"}, variables=gpu("b200-180gb")),
    "CUTLASS for FP8 on GB200, doubtful": Change(
        own={"moe_backend": "CUTLASS"}, variables=gpu("gb200-nvl72")
    ),
    "the Python transceiver, by name": Change(
        own={"engine_args": {"cache_transceiver_config": {"transceiver_runtime": "PYTHON"}}}
    ),
    "attention divided": Change(both={"data_parallel_size": 1}, variables=NO_EPLB),
    "attention by data, by name": Change(both={"data_parallel_size": None, "dp_attention": True}),
    "experts in halves": Change(options={"expert_parallel_size": 8}),
    "longer, in chunks": Change(both={"context_length": 65536}),
    "chunks of 2048": Change(pool=P, own={"chunked_prefill": True, "max_num_tokens": 2048}),
    "bigger chunks of experts": Change(own={"moe_max_tokens": 8192}),
    "16 bit KV cache": Change(both={"kv_cache_dtype": "bf16"}),
    "graphs to 64": Change(own={"cuda_graph_max_bs": 64}),
    "own graphs": Change(own={"cuda_graph_batch_sizes": [1, 8, 24]}),
    "no graphs": Change(own={"cuda_graphs": False}),
    "no prefixes": Change(pool=P, own={"block_reuse": False}),
    "larger buffer": Change(own={"max_tokens_in_buffer": 16384}),
    "no overlap": Change(own={"overlap_scheduler": False}),
    "pipeline of two": Change(
        both={"tensor_parallel_size": 8, "data_parallel_size": 8, "pipeline_parallel_size": 2}
    ),
    "root": Change(variables={"wideep_service_user": ""}),
    "in containers": Change(
        variables={"wideep_runtime": "container", "wideep_service_user": "", "wideep_python": ""}
    ),
    "another field": Change(
        own={"engine_args": {"print_iter_log": True, "kv_cache_config": {"host_cache_size": 1}}}
    ),
    "MTP": Change(both={"speculative": {"algorithm": "mtp", "steps": 3}}, own={"cuda_graph_max_bs": 64}),
    "n-grams on decode": Change(options={"speculative": {"algorithm": "ngram", "steps": 3}}),
    "patience": Change(own={"kv_transfer_timeout_ms": 600000}),
    "DeepEP": Change(own={"all_to_all": "deepep"}),
    "a placement": Change(variables=eplb(placement={n: [*range(256), *range(16)] for n in range(3, 61)})),
    "prefill without balanced experts": Change(pool=P, options={"data_parallel_size": 1}),
    "drafts": Change(
        own={
            "cuda_graph_max_bs": 64,
            "engine_args": {"speculative_config": {"decoding_type": "MTP", "max_draft_len": 3}},
        }
    ),
    "a flag": Change(extra={"dyn-reasoning-parser": "deepseek_r1"}),
    "dummy weights": Change(both={"load_format": "dummy", "trust_remote_code": True}),
    "dense": Change(model=DENSE, both={"data_parallel_size": 8}, variables=NO_EPLB),
    "V2-Lite": Change(model=LITE, variables=NO_EPLB),
    "unknown model": Change(variables=MISSING),
    "unknown GPU": Change(variables=gpu("")),
}

# name: (change, severity, where, message, remedy)
SAID: dict[str, tuple[Change, str, str, str, str]] = {
    "world size": (Change(options={"tensor_parallel_size": 8, "data_parallel_size": 8}), "error", f"{OPTIONS}.tensor_parallel_size",
        "8 is not the replica's 16 GPUs (2 nodes x 8)", "set it to 16"),
    "world size with pipeline": (Change(options={"tensor_parallel_size": 16, "pipeline_parallel_size": 2}), "error",
        f"{OPTIONS}.tensor_parallel_size", "x pipeline_parallel_size 2 is not", "set it to 8"),
    "DP in between": (Change(options={"data_parallel_size": 4}), "error", f"{OPTIONS}.data_parallel_size",
        "whole on each of 16 GPUs", "set it to 16 or 1"),
    "DP attention alone": (Change(both={"data_parallel_size": 1, "dp_attention": True}, variables=NO_EPLB), "warning",
        f"{OPTIONS}.dp_attention", "does nothing", "data_parallel_size: 16"),
    "DP without attention": (Change(options={"dp_attention": False}), "error", f"{OPTIONS}.dp_attention",
        "no other data parallelism", "dp_attention: true"),
    "heads": (Change(model=DENSE, both={"data_parallel_size": 1}, variables={**NO_EPLB, "wideep_gpus_per_node": 3}), "error",
        f"{OPTIONS}.tensor_parallel_size", "32 attention heads do not divide by 3 GPUs", "data_parallel_size: 3"),
    "FP8 on Ampere": (Change(variables=gpu("a100-80gb")), "error", "wideep_model", "FP8 weights do not run on", "Hopper"),
    "FP8 cache on Ampere": (Change(model=LITE, variables=gpu("a100-80gb", **NO_EPLB)), "error", f"{OPTIONS}.kv_cache_dtype",
        "an FP8 KV cache does not run", "remove"),
    "dense model": (Change(model=DENSE, both={"data_parallel_size": 8}), "error", "wideep_eplb", "dense model", "remove it"),
    "dense, backend": (Change(model=DENSE, both={"data_parallel_size": 8}, own={"moe_backend": "CUTLASS", "moe_max_tokens": 5}, variables=NO_EPLB),
        "error", f"{TRT}.moe_max_tokens", "dense model", "remove it"),
    "EP 5": (Change(options={"expert_parallel_size": 5}, variables=NO_EPLB), "error", f"{OPTIONS}.expert_parallel_size",
        "5 does not divide tensor_parallel_size 16", "set it to 16"),
    "experts in pieces": (Change(both={"data_parallel_size": 1, "expert_parallel_size": 1, "tensor_parallel_size": 24}, variables={**NO_EPLB, "wideep_gpus_per_node": 12}),
        "error", f"{OPTIONS}.expert_parallel_size", "2048 columns divided by 24 GPUs are not whole FP8 blocks of 128", "set it to 24"),
    "the lab's 32 spares less one": (Change(variables=eplb(redundant_experts=15)), "error", "wideep_eplb.redundant_experts",
        "256 experts + 15 redundant ones do not divide", "use 0 or 16"),
    "balancer without EP": (Change(both={"expert_parallel_size": 1}), "error", "wideep_eplb", "no pool spreads its experts", "expert_parallel_size: 16"),
    "balancer without DP": (Change(options={"data_parallel_size": 1}), "warning", f"{OPTIONS}.data_parallel_size", "pool decode spreads its experts and does not balance them", "set it to 16"),
    "a balancer of its own without DP": (Change(options={"data_parallel_size": 1}, pools={"eplb": {"layers_per_chunk": 2}}), "error", "wideep_pools.decode.eplb",
        "needs attention by data in pool decode", "data_parallel_size: 16"),
    "a placement in a file": (Change(variables=eplb(placement="/data/placement.json")), "error", "wideep_eplb.placement", "in its own YAML", "from_yaml"),
    "a placement of one layer": (Change(variables=eplb(placement={3: [*range(256), *range(16)]})), "error", "wideep_eplb.placement", "no placement: 4, 5, 6, 7, 8 …", "each layer"),
    "a placement with too few slots": (Change(variables=eplb(placement={n: [*range(256)] for n in range(3, 61)})), "error", "wideep_eplb.placement", "layer 3 names 256 experts", "write 272 numbers"),
    "a placement without an expert": (Change(variables=eplb(placement={n: [*range(255), *range(17)] for n in range(3, 61)})), "error", "wideep_eplb.placement", "no slot for expert 255", "a slot"),
    "MTP on one side": (Change(options={"speculative": {"algorithm": "mtp", "steps": 3}}), "error", f"{OPTIONS}.speculative", "prefill drafts with nothing and decode with EAGLE", "the same in both"),
    "MTP on one side, in the engine's words": (Change(own={"engine_args": {"speculative_config": {"decoding_type": "MTP"}}}), "warning", f"{OPTIONS}.speculative", "prefill drafts with nothing", "the same in both"),
    "drafts of another engine": (Change(both={"speculative": {"algorithm": "dspark", "steps": 3}}), "error", f"{OPTIONS}.speculative.algorithm", "does not draft with dspark", "use one of mtp"),
    "how many drafts": (Change(both={"speculative": {"algorithm": "eagle3", "draft_model": "/x"}}), "error", f"{OPTIONS}.speculative.steps", "how many tokens", "set it"),
    "drafts without a model": (Change(both={"speculative": {"algorithm": "eagle3", "steps": 3}}), "error", f"{OPTIONS}.speculative.draft_model", "a model of its own", "directory"),
    "branches": (Change(both={"speculative": {"algorithm": "mtp", "steps": 3, "topk": 4}}), "warning", f"{OPTIONS}.speculative.topk", "do not branch", "remove it"),
    "drafts twice": (Change(both={"speculative": {"algorithm": "mtp"}}, own={"engine_args": {"speculative_config": {"decoding_type": "MTP"}}}), "error",
        f"{TRT}.engine_args.speculative_config", "which is set, too", "or this"),
    "a patience twice": (Change(own={"kv_transfer_timeout_ms": 600000, "engine_args": {"cache_transceiver_config": {"kv_transfer_timeout_ms": 1}}}), "error",
        f"{TRT}.engine_args.cache_transceiver_config.kv_transfer_timeout_ms", "which is set, too", "or this"),
    "a long patience": (Change(own={"kv_transfer_timeout_ms": 3600000}), "warning", f"{TRT}.kv_transfer_timeout_ms", "for 60 minutes", "600000 at most"),
    "a benchmark's patience": (Change(own={"kv_transfer_timeout_ms": 100000000}), "error", f"{TRT}.kv_transfer_timeout_ms", "for 1666 minutes", "wideep_benchmark_only: true"),
    "a benchmark's patience, in the engine's words": (Change(own={"engine_args": {"cache_transceiver_config": {"kv_transfer_timeout_ms": 100000000}}},
        variables={"wideep_benchmark_only": True}), "warning", f"{TRT}.kv_transfer_timeout_ms", "accepted for a benchmark", "before anybody relies on it"),
    "DeepEP on three hosts": (Change(own={"all_to_all": "deepep"}, variables={"nodes": 3, **NO_EPLB}, both={"expert_parallel_size": 24, "context_length": 8448}), "error", f"{TRT}.all_to_all",
        "not in 3 of 8", "nodes_per_replica"),
    "DeepEP without RDMA": (Change(own={"all_to_all": "deepep"}, variables={"wideep_network": {}}), "error", "wideep_network", "by RDMA alone", "rdma_devices"),
    "NVLink between Hopper's hosts": (Change(own={"all_to_all": "nvlink_one_sided"}), "error", f"{TRT}.all_to_all", "has it within a host", "deepep"),
    "nothing is sent": (Change(own={"all_to_all": "deepep"}, options={"data_parallel_size": 1}), "warning", f"{TRT}.all_to_all", "nothing is sent to experts", "expert_parallel_size: 16"),
    "forced by an old variable": (Change(env={"TRTLLM_FORCE_ALLTOALL_METHOD": "DeepEP"}), "warning", "wideep_pools.decode.env.TRTLLM_FORCE_ALLTOALL_METHOD",
        "may not read", f"set {TRT}.all_to_all: deepep"),
    "forced twice": (Change(own={"all_to_all": "deepep"}, env={"TRTLLM_FORCE_COMM_METHOD": "DEEPEP"}), "error", "wideep_pools.decode.env.TRTLLM_FORCE_COMM_METHOD",
        "say the same thing", f"keep {TRT}.all_to_all"),
    "a socket's path": (Change(variables={"wideep_state_dir": "/" + "d" * 60}), "error", "wideep_state_dir on host decode0", "longer than 107 bytes", "57 characters at most"),
    "balancer of another model": (Change(model=LITE, variables=eplb(redundant_experts=8)), "error", "wideep_eplb", "refuses the load balancer at its start: it does not balance DeepseekV2ForCausalLM", "remove wideep_eplb"),
    "balancer of an unknown model": (Change(variables={"wideep_model": "example/unknown"}), "error", "wideep_model_card", "how many experts", "set it"),
    "balancer without a backend": (Change(own={"moe_backend": "TRITON"}), "error", f"{TRT}.moe_backend", "no load balancing", "remove moe_backend"),
    "the lab's WIDEEP on Hopper": (Change(own={"moe_backend": "WIDEEP"}, variables=NO_EPLB), "error", f"{TRT}.moe_backend",
        "WIDEEP is gone from TensorRT-LLM 1.3.0rc", "one that fits is chosen"),
    "WIDEEP on GB200": (Change(own={"moe_backend": "WIDEEP"}, variables=gpu("gb200-nvl72")), "error", f"{TRT}.moe_backend", "WIDEEP is gone", "remove moe_backend"),
    "Blackwell's kernels on Hopper": (Change(own={"moe_backend": "DEEPGEMM"}), "warning", f"{TRT}.moe_backend",
        "no DEEPGEMM for FP8 weights on NVIDIA H200", "remove moe_backend"),
    "FP4's kernels": (Change(own={"moe_backend": "CUTEDSL"}, variables=gpu("b200-180gb")), "warning", f"{TRT}.moe_backend", "no CUTEDSL for FP8", "one that fits"),
    "Hopper's FP8 kernels on Blackwell": (Change(own={"moe_backend": "CUTLASS"}, variables=gpu("b200-180gb")), "warning", f"{TRT}.moe_backend",
        "no CUTLASS for FP8 weights on NVIDIA B200", "one that fits"),
    "kernels of another model": (Change(own={"moe_backend": "TRITON"}, variables=NO_EPLB), "warning", f"{TRT}.moe_backend", "no TRITON for FP8", "one that fits"),
    "which backend": (Change(), "warning", f"{TRT}.moe_backend", "is CUTLASS: TensorRT-LLM has no other for NVIDIA H200", "moe_backend: CUTLASS ends this"),
    "which backend on GB200": (Change(variables=gpu("gb200-nvl72", **NO_EPLB)), "warning", f"{TRT}.moe_backend", "is DEEPGEMM: FP8 blocks on Blackwell", "nothing"),
    "no such backend": (Change(own={"moe_backend": "DEEPEP"}), "error", f"{OPTIONS}: moe_config.backend", "'DEEPEP' is not one of", "use one of"),
    "SGLang's algorithm": (Change(variables=eplb(algorithm="deepseek")), "warning", "wideep_eplb.algorithm", "is SGLang's", "layers_per_chunk"),
    "spares that stay": (Change(variables={"wideep_eplb": {"redundant_experts": 16}}), "warning", "wideep_eplb.enabled", "nothing moves", "redundant_experts: 0"),
    "FP8 blocks that move": (Change(), "warning", "wideep_eplb.enabled", "FP8 experts in blocks is not verified", "enabled: false"),
    "many spares": (Change(variables=eplb(redundant_experts=64)), "warning", "wideep_eplb.redundant_experts", "GPUs/2 to GPUs is usual", "try 16"),
    "host memory": (Change(), "warning", "wideep_eplb.enabled", "609.1 GiB of /dev/shm", "remount"),
    "longer than the model": (Change(both={"context_length": 200000}), "error", f"{OPTIONS}.context_length", "more than the model's 163840", "leave it out"),
    "length unknown": (Change(both={"context_length": None}, variables=MISSING), "error", f"{OPTIONS}.context_length", "longest sequence is unknown", "set context_length"),
    "the lab's prompt budget": (Change(pool=P, own={"max_num_tokens": 256}), "error", "wideep_pools.prefill.options.trtllm.max_num_tokens",
        "256 is less than a prompt can be (context_length 8448)", "chunked_prefill: true"),
    "chunks under a block": (Change(pool=P, own={"max_num_tokens": 32, "chunked_prefill": True}), "error", "wideep_pools.prefill.options.trtllm.max_num_tokens",
        "less than a block of 64", "raise it"),
    "a step too small": (Change(own={"max_num_tokens": 128}), "warning", f"{TRT}.max_num_tokens", "less than a full batch's 256", "raise it to 256"),
    "graphs over the batch": (Change(own={"max_batch_size": 128}), "warning", f"{TRT}.cuda_graph_max_bs", "batches end at max_batch_size 128", "raise max_batch_size to 256"),
    "batch over the graphs": (Change(own={"max_batch_size": 300}), "warning", f"{TRT}.cuda_graph_max_bs", "no graph for the largest batch", "add 300"),
    "two ends": (Change(own={"cuda_graph_batch_sizes": [1, 64]}), "error", f"{TRT}.cuda_graph_max_bs", "is not the largest of", "keep one"),
    "graphs in prefill": (Change(pool=P, own={"cuda_graph_batch_sizes": [1]}), "warning", "wideep_pools.prefill.options.trtllm.cuda_graph_batch_sizes",
        "prefill runs without", "remove"),
    "decode without graphs": (Change(own={"cuda_graphs": False}), "warning", f"{TRT}.cuda_graphs", "slower", "remove"),
    "overlap in prefill": (Change(pool=P, own={"overlap_scheduler": True}), "error", "wideep_pools.prefill.options.trtllm.overlap_scheduler", "does not work", "remove it"),
    "the old transceiver": (Change(variables={"wideep_kv_transfer": "mooncake"}), "warning", "wideep_kv_transfer", "CPP transceiver, which is deprecated", "use nixl"),
    "two transceivers": (Change(own={"engine_args": {"cache_transceiver_config": {"transceiver_runtime": "CPP"}}}), "error",
        f"{TRT}.engine_args.cache_transceiver_config.transceiver_runtime", "different transceivers (CPP, PYTHON)", "the same in both pools"),
    "small buffer": (Change(own={"max_tokens_in_buffer": 4608}), "error", f"{TRT}.max_tokens_in_buffer", "4608 is less than a prompt can be", "raise it to 8448"),
    "pages of 32 on Hopper": (Change(both={"page_size": 32}), "error", f"{OPTIONS}.page_size", "FlashMLA makes it 64", "set page_size: 64"),
    "no prefixes": (Change(pool=P, own={"block_reuse": False}), "warning", "wideep_pools.prefill.options.trtllm.block_reuse", "not reused", "remove"),
    "all the memory": (Change(own={"free_gpu_memory_fraction": 0.99}), "warning", f"{TRT}.free_gpu_memory_fraction", "nothing for graphs", "use 0.1 to 0.95"),
    "hardly any": (Change(own={"free_gpu_memory_fraction": 0.05}), "warning", f"{TRT}.free_gpu_memory_fraction", "nearly all of the free memory unused", "use 0.1"),
    "out of memory at capture": (Change(both={"context_length": 65536}, own={"free_gpu_memory_fraction": 0.95}, variables=gpu("h100-80gb")), "warning",
        f"{TRT}.free_gpu_memory_fraction", "come after the KV cache", "lower it to 0.8"),
    "too short a cache": (Change(both={"context_length": 163840}, own={"free_gpu_memory_fraction": 0.1}, variables=gpu("h100-80gb")), "warning",
        f"{OPTIONS}.context_length", "less than one sequence of 163840", "raise free_gpu_memory_fraction"),
    "does not fit": (Change(both={"data_parallel_size": 8}, variables={"wideep_gpu": "h100-80gb", "nodes": 1, **NO_EPLB}), "error",
        "wideep_pools.decode.nodes_per_replica", "do not fit a GPU of 79.6 GiB", "more GPUs"),
    "no package": (Change(variables={"wideep_runtime": "venv"}), "error", "wideep_runtime", "no lock file", "container; or existing"),
    "no model": (Change(variables={"wideep_model_path": ""}), "error", "wideep_model_path", "needs the model's directory", "set"),
    "a path with a space": (Change(variables={"wideep_model_path": "/data/my models"}), "error", "wideep_model_path", "would be split", "without spaces"),
    "a flag with a star": (Change(extra={"custom-jinja-template": "/x/*.jinja"}), "error", f"{EXTRA}.custom-jinja-template", "expanded by the shell", "without"),
    "no interface": (Change(variables={"wideep_interface": ""}), "error", "wideep_interface on 4 hosts (prefill0, …)", "hang", "ip route get"),
    "pages differ": (Change(both={"page_size": 32}, options={"page_size": 64}, variables=gpu("b200-180gb")), "error", f"{OPTIONS}.page_size", "prefill 32, decode 64", "same page_size"),
    "FP8 on decode only": (Change(pool=P, options={"kv_cache_dtype": "auto"}), "error", f"{OPTIONS}.kv_cache_dtype", "prefill auto, decode fp8", "same kv_cache_dtype"),
    "small buffer, by prefill's prompts": (Change(pool=P, options={"context_length": 8232}, own={"max_tokens_in_buffer": 4096}), "error",
        "wideep_pools.prefill.options.trtllm.max_tokens_in_buffer", "4096 is less than a prompt can be", "raise it to 8232"),
    "small buffer, of decode by prefill's prompts": (Change(pool=D, options={"context_length": 9256}, own={"max_tokens_in_buffer": 4096}), "error",
        f"{TRT}.max_tokens_in_buffer", "longest of prefill 8448", "raise it to 8448"),
    "a budget under the model's own length": (Change(pool=P, both={"context_length": None}, own={"max_num_tokens": 8192, "chunked_prefill": False}), "warning",
        "wideep_pools.prefill.options.trtllm.max_num_tokens", "8192 is less than a prompt can be", "chunked_prefill: true"),
    "a budget just under the longest prompt": (Change(pool=P, options={"context_length": 8232}, own={"max_num_tokens": 8224, "chunked_prefill": False}), "warning",
        "wideep_pools.prefill.options.trtllm.max_num_tokens", "8224 is less than a prompt can be", "raise it to 8232"),
    "UCX by itself": (Change(variables={"wideep_kv_transfer": "ucx"}), "warning", "wideep_kv_transfer", "with ucx TensorRT-LLM moves the KV cache by its CPP", "use nixl"),
    "Mooncake's variables with UCX": (Change(env={"MC_GID_INDEX": "3"}, variables={"wideep_kv_transfer": "ucx"}), "warning", "wideep_pools.decode.env.MC_GID_INDEX",
        "ucx does not read it", "wideep_kv_transfer"),
    "decode is shorter": (Change(options={"context_length": 4096}), "error", f"{OPTIONS}.context_length", "decode sequences of 4096 only", "same context_length"),
    "the lab's --engine-dir": (Change(extra={"engine-dir": "/x"}), "error", f"{EXTRA}.engine-dir", "is gone", "use --model"),
    "the lab's --config-path": (Change(extra={"config-path": "/x"}), "error", f"{EXTRA}.config-path", "is gone", "use --extra-engine-args"),
    "the lab's --nnodes": (Change(extra={"nnodes": 2}), "error", f"{EXTRA}.nnodes", "comes from MPI", "remove it"),
    "the lab's --dist-init-addr": (Change(extra={"dist-init-addr": "x:1"}), "error", f"{EXTRA}.dist-init-addr", "meet through MPI", "remove it"),
    "a flag of the plan": (Change(extra={"extra_engine_args": "/x"}), "error", f"{EXTRA}.extra-engine-args", "is decided by wideep_pools", "remove it"),
    "a flag with an option": (Change(extra={"max-batch-size": 8}), "error", f"{EXTRA}.max-batch-size", "option of its own", f"set {TRT}.max_batch_size"),
    "a field with an option": (Change(own={"engine_args": {"kv_cache_config": {"dtype": "fp8"}}}), "error", f"{TRT}.engine_args.kv_cache_config.dtype",
        "option of its own", f"set {OPTIONS}.kv_cache_dtype"),
    "a field of the plan": (Change(own={"engine_args": {"moe_config": {"load_balancer": {"num_slots": 1}}}}), "error",
        f"{TRT}.engine_args.moe_config.load_balancer", "decided by wideep_eplb", "remove it"),
    "no section": (Change(own={"engine_args": {"cache_transceiver_config": None}}), "error", f"{TRT}.engine_args.cache_transceiver_config",
        "take the place of all fields", "remove it"),
    "no graphs by hand": (Change(own={"engine_args": {"cuda_graph_config": None}}), "error", f"{TRT}.engine_args.cuda_graph_config", "no mapping", "cuda_graphs: false"),
    "a word for a section": (Change(own={"engine_args": {"kv_cache_config": "auto"}}), "error", f"{TRT}.engine_args.kv_cache_config", "no mapping", "further fields"),
    "no experts' section": (Change(pool=P, own={"engine_args": {"moe_config": None}}), "error", "wideep_pools.prefill.options.trtllm.engine_args.moe_config", "no mapping", "remove it"),
    "a step without its drafts": (Change(own={"max_num_tokens": 256, "engine_args": {"speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": 3}}}), "warning",
        f"{TRT}.max_num_tokens", "less than a full batch's 1024", "raise it to 1024"),
    "the lab's moe_max_num_tokens": (Change(own={"engine_args": {"moe_config": {"moe_max_num_tokens": 4096}}}), "error",
        f"{OPTIONS}: moe_config.moe_max_num_tokens", "is gone", "use moe_config.max_num_tokens"),
    "the lab's eplb.yaml": (Change(own={"engine_args": {"moe_config": {"load_balancer": {"algorithm": "deepseek"}}}}), "error",
        f"{OPTIONS}: moe_config.load_balancer.algorithm", "is gone", "remove it"),
    "an old section": (Change(own={"engine_args": {"build_config": {"max_batch_size": 8}}}), "error", f"{OPTIONS}: build_config", "is gone", "at the top level"),
    "no such field": (Change(own={"engine_args": {"enable_atention_dp": True}}), "error", f"{OPTIONS}: enable_atention_dp", "not a field of tensorrt-llm", "did you mean enable_attention_dp?"),
    "an old switch": (Change(env={"TRTLLM_USE_UCX_KVCACHE": "1"}), "error", "wideep_pools.decode.env.TRTLLM_USE_UCX_KVCACHE", "superseded", "wideep_kv_transfer"),
    "unknown option": (Change(own={"max_batchsize": 8}), "error", f"{TRT}.max_batchsize", "unknown option of trtllm", "did you mean max_batch_size?"),
    "UCX with Mooncake": (Change(env={"UCX_TLS": "rc"}, variables={"wideep_kv_transfer": "mooncake"}), "warning", "wideep_pools.decode.env.UCX_TLS",
        "mooncake does not read it", "wideep_kv_transfer"),
    "a pattern for Gloo": (Change(env={"GLOO_SOCKET_IFNAME": "^lo"}, variables={"wideep_interface": ""}), "error", "wideep_pools.decode.env.GLOO_SOCKET_IFNAME",
        "Gloo takes one interface", "set wideep_interface"),
    "an interface twice": (Change(env={"GLOO_SOCKET_IFNAME": "eth1"}), "error", "wideep_pools.decode.env.GLOO_SOCKET_IFNAME",
        "follows from wideep_interface", "correct wideep_interface"),
    "the plan's endpoints": (Change(env={"ETCD_ENDPOINTS": "http://x"}), "error", "wideep_pools.decode.env.ETCD_ENDPOINTS", "the plan sets it", "inventory group control"),
    "remote code": (Change(options={"trust_remote_code": True}), "warning", f"{OPTIONS}.trust_remote_code", "needs no code of its own", "remove trust_remote_code"),
    "not a number": (Change(own={"max_batch_size": 0}), "error", f"{TRT}.max_batch_size", "0 is less than 1", "use 1 or more"),
    "not a section": (Change(options={"trtllm": 7}), "error", TRT, "not a mapping", "write trtllm:"),
}  # fmt: skip


def deployment(change: Change) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """Return groups and hosts: DeepSeek-R1 on 2 + 2 hosts of 8 GPUs, other models on 1 + 1, with a change.

    `nodes` among the variables: hosts of a replica.
    """
    variables = dict(change.variables)
    nodes = variables.pop("nodes", 2 if change.model == R1 else 1)
    if "wideep_model" not in variables:
        variables["wideep_model"] = change.model
    groups = {"control": ["c0"], "frontend": ["c0"]}
    pools: dict[str, Any] = {}
    for pool in (P, D):
        groups[pool] = [f"{pool}{n}" for n in range(nodes)]
        options = {
            "data_parallel_size": 8 * nodes,
            "context_length": 8448,
            "kv_cache_dtype": "fp8",
            **change.both,
        }
        pools[pool] = {
            "nodes_per_replica": nodes,
            "options": {k: v for k, v in options.items() if v is not None},
        }
    pools[D]["options"]["trtllm"] = {"cuda_graph_max_bs": 256}
    changed = pools[change.pool]
    if change.own:
        given = pools[change.pool]["options"].setdefault("trtllm", {})
        if "cuda_graph_batch_sizes" in change.own and change.own["cuda_graph_batch_sizes"] != [1, 64]:
            given.pop("cuda_graph_max_bs", None)
        given.update(change.own)
    changed["options"] |= change.options
    changed |= {"extra_args": change.extra, "env": change.env, **change.pools}
    shared = {
        "wideep_engine": "trtllm",
        "wideep_model_path": "/data/models/it",
        "wideep_state_dir": "/var/lib/wideep",
        "wideep_runtime": "existing",
        "wideep_python": "/opt/trtllm/bin/python3",
        "wideep_service_user": "dynamo",
        "wideep_gpu": "h200-141gb",
        "wideep_gpus_per_node": 8,
        "wideep_interface": "eth0",
        "wideep_network": {"link": "ib", "rdma_devices": ["mlx5_0", "mlx5_1"]},
        "wideep_pools": pools,
        "etcd_install_method": "archive",
        **eplb(),
        **variables,
    }
    names = dict.fromkeys(name for group in groups.values() for name in group)
    return groups, {n: {"ansible_host": f"192.0.2.{i}", **shared} for i, n in enumerate(names, 1)}
