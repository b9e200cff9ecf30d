# ruff: noqa: E501 - a table, one row a line
"""Combinations that our SGLang rules and SGLang itself both judge: right, wrong, and where we differ.

Each changes one of three deployments. `RIGHT` and `WRONG`: both verdicts are equal.
`STRICTER`: SGLang's own checks accept, we refuse, and `why` says what happens then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from wideep.reference.release import releases

R1, LITE, DENSE = "deepseek-r1", "deepseek-v2-lite", "deepseek-r1-0528-qwen3-8b"
LLAMA = "deepseek-r1-distill-llama-8b"
SHAPE_MOE, SHAPE_DENSE = "shape-deepseek-v3", "shape-llama-8b"
KIMI = "kimi-k2-instruct"
NAMES = {
    R1: "deepseek-ai/DeepSeek-R1",
    LITE: "deepseek-ai/DeepSeek-V2-Lite-Chat",
    DENSE: "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
    LLAMA: "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    KIMI: "moonshotai/Kimi-K2-Instruct",
    SHAPE_MOE: "wideep/deepseek-v3-shape",
    SHAPE_DENSE: "wideep/llama-8b-shape",
}


@dataclass(frozen=True)
class Combination:
    """A deployment (by its model), the pool whose command is judged, and what differs from the good one.

    options: for that pool; both: for both pools. extra: extra_args. eplb: of that pool. variables: of the deployment. argv: words
    for SGLang where our typed options cannot even hold it. releases: those whose verdict it is.
    """

    name: str
    model: str
    pool: str
    options: dict[str, Any] = field(default_factory=dict)
    both: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    eplb: dict[str, Any] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    accepted: bool = True
    why: str = ""
    releases: tuple[str, ...] = ()

    def of(self, release: str) -> bool:
        """Whether it is judged so in a release; in all, unless some are named."""
        return not self.releases or release in self.releases


def eplb(**values: Any) -> dict[str, Any]:
    """Return `wideep_eplb`, enabled."""
    return {"wideep_eplb": {"enabled": True, "redundant_experts": 32, **values}}


def right(name: str, model: str, pool: str, **changes: Any) -> Combination:
    """Return a combination that both accept."""
    return Combination(name, model, pool, **changes)


def wrong(name: str, model: str, pool: str, **changes: Any) -> Combination:
    """Return a combination that both refuse."""
    return Combination(name, model, pool, accepted=False, **changes)


def stricter(name: str, model: str, pool: str, why: str, **changes: Any) -> Combination:
    """Return a combination that only we refuse."""
    return Combination(name, model, pool, accepted=False, why=why, **changes)


P, D = "prefill", "decode"
NO_EPLB: dict[str, Any] = {"wideep_eplb": {}}
PLAIN_TP = {"data_parallel_size": 1}
HALF_TP = {"tensor_parallel_size": 16, "data_parallel_size": 16}
VENV = {"wideep_runtime": "venv", "wideep_python": ""}
A100 = {"wideep_gpu": "a100-80gb"}
DRAFTS = {"speculative-algorithm": "EAGLE", "speculative-num-steps": 3, "speculative-eagle-topk": 1,
          "speculative-num-draft-tokens": 4}  # fmt: skip
RIGHT = [
    right("R1 prefill", R1, P),
    right("R1 decode", R1, D),
    right("mooncake, prefill", R1, P, variables={"wideep_kv_transfer": "mooncake"}),
    right("mooncake, decode", R1, D, variables={"wideep_kv_transfer": "mooncake"}),
    right("normal mode on decode", R1, D, options={"deepep_mode": "normal"}),
    right("no EPLB", R1, P, variables=NO_EPLB),
    right("EPLB without spares", R1, D, variables=eplb(redundant_experts=0)),
    right("64 spares on 32 GPUs", R1, D, variables=eplb(redundant_experts=64)),
    right("EPLB deepseek", R1, P, variables=eplb(algorithm="deepseek")),
    right("EPLB deepseek_hierarchical", R1, P, variables=eplb(algorithm="deepseek_hierarchical")),
    right("EPLB deepseek_vec", R1, P, variables=eplb(algorithm="deepseek_vec")),
    right("EPLB every 100 passes", R1, D, variables=eplb(rebalance_iterations=100)),
    right("EPLB layer by layer", R1, D, variables=eplb(layers_per_chunk=1, min_utilization=0.9)),
    right("recorder's buffer smaller", R1, P, extra={"expert-distribution-recorder-buffer-size": 500}),
    right("recorder approximates, normal", R1, P, extra={"expert-distribution-recorder-mode": "stat_approx"}),
    right("attention over 2 GPUs", R1, P, options={"data_parallel_size": 16}),
    right("attention over 4 GPUs", R1, D, options={"data_parallel_size": 8}),
    right("attention over 2 GPUs, head divided", R1, D, options={"data_parallel_size": 16, "dp_lm_head": False}),
    right("head not by data", R1, D, options={"dp_lm_head": False}),
    right("one batch", R1, D, options={"two_batch_overlap": False}),
    right("pages of 32", R1, P, both={"page_size": 32}),
    right("pages of 128", R1, D, both={"page_size": 128}),
    right("FP8 KV cache", R1, D, both={"kv_cache_dtype": "fp8"}),
    right("16 bit KV cache", R1, P, both={"kv_cache_dtype": "bf16"}),
    right("4096 tokens a rank", R1, P, options={"chunked_prefill_size": 131072}),
    right("64 tokens a rank", R1, P, options={"chunked_prefill_size": 2048}),
    right("not chunked", R1, P, options={"chunked_prefill_size": -1}),
    right("graphs to 64", R1, D, options={"cuda_graph_max_bs": 64}),
    right("graphs to 256", R1, D, options={"cuda_graph_max_bs": 256, "dispatch_tokens_per_rank": 256}),
    right("graphs to 512, over 4 GPUs each", R1, D, options={"data_parallel_size": 8, "cuda_graph_max_bs": 512}),
    right("graphs to 256, fewer requests", R1, D, options={"cuda_graph_max_bs": 256, "max_running_requests": 2048}),
    right("a remainder of requests", R1, D, options={"max_running_requests": 4097}),
    right("fewer requests", R1, D, options={"max_running_requests": 1024}),
    right("limited tokens", R1, D, options={"max_total_tokens": 200000}),
    right("short context", R1, P, options={"context_length": 8192}),
    right("short context on both sides", R1, D, both={"context_length": 8192}),
    right("full context", R1, D, options={"context_length": 163840}),
    right("patience", R1, P, options={"dist_timeout_s": 1800, "watchdog_timeout_s": 900}),
    right("dummy weights", R1, D, options={"load_format": "dummy"}),
    right("remote code", R1, P, options={"trust_remote_code": True}),
    right("prefixes not kept", R1, P, options={"radix_cache": False}),
    right("hierarchical cache on prefill", R1, P, extra={"enable-hierarchical-cache": True}),
    right("decode keeps prefixes", R1, D, extra={"disaggregation-decode-enable-radix-cache": True}),
    right("triton attention", R1, P, options={"attention_backend": "triton"}),
    right("FlashMLA", R1, D, options={"attention_backend": "flashmla"}),
    right("mooncake's all-to-all", R1, D, options={"a2a_backend": "mooncake"}, extra={"elastic-ep-backend": "mooncake"}),
    right("NIXL's all-to-all", R1, D, options={"a2a_backend": "nixl"}),
    right("NIXL's all-to-all, prompts", R1, P, options={"a2a_backend": "nixl", "chunked_prefill_size": 4096}),
    right("NIXL's all-to-all, its buffer larger", R1, D,
          options={"a2a_backend": "nixl", "cuda_graph_max_bs": 256, "dispatch_tokens_per_rank": 256}),
    right("low latency for short chunks", R1, P, options={"deepep_mode": "low_latency", "chunked_prefill_size": 4096}),
    right("both modes, no EPLB", R1, D, options={"deepep_mode": "auto"}, variables=NO_EPLB),
    right("DeepEP in venv", R1, P, variables=VENV),
    right("FlashInfer, DeepGEMM's layout", R1, D, releases=("1.6.1",),
          options={"a2a_backend": "flashinfer", "moe_runner_backend": "deep_gemm"}),
    right("DeepGEMM by name", R1, P, options={"moe_runner_backend": "deep_gemm"}),
    right("pipeline of two", R1, P, options=HALF_TP, extra={"pp-size": 2}),
    right("DeepEP's second version", R1, D, releases=("1.6.1",),
          options={"a2a_backend": "deepep_v2", "two_batch_overlap": False}),
    right("pplx", R1, D, options={"a2a_backend": "pplx"}),
    right("ranks may leave", R1, D, extra={"elastic-ep-backend": "mooncake"}),
    right("V2-Lite prefill", LITE, P),
    right("V2-Lite decode", LITE, D),
    right("V2-Lite, tensor parallel", LITE, D, options=PLAIN_TP),
    right("V2-Lite, experts whole in pairs", LITE, P, options={"expert_parallel_size": 2}),
    right("V2-Lite, EPLB", LITE, D, variables=eplb(redundant_experts=4)),
    right("V2-Lite, DeepEP on one node", LITE, P, options={"a2a_backend": "deepep"}),
    right("V2-Lite, DeepEP on one node, decode", LITE, D, options={"a2a_backend": "deepep"}),
    right("V2-Lite, overlap by DP attention", LITE, P, options={"two_batch_overlap": True}),
    right("EPLB for the other pool, whose experts are spread", LITE, D, options={"expert_parallel_size": 1},
          variables=eplb(redundant_experts=4)),
    right("EPLB here and not there", LITE, D, eplb={"enabled": True, "redundant_experts": 4}),
    right("more copies here than there", R1, D, eplb={"redundant_experts": 64}),
    right("experts placed by a file", R1, D, eplb={"enabled": False, "placement": "/data/eplb/decode.json"}),
    right("experts placed by a flag", R1, D, eplb={"enabled": False},
          extra={"init-expert-location": "/data/eplb/decode.json"}),
    right("a watchdog of eleven days", R1, P, options={"watchdog_timeout_s": 1000000}),
    right("single batch overlap on Hopper", R1, D, options={"two_batch_overlap": False, "single_batch_overlap": True}),
    right("single batch overlap on Hopper, its kernel named", R1, D,
          options={"two_batch_overlap": False, "single_batch_overlap": True, "moe_runner_backend": "deep_gemm"}),
    right("a deprecated flag", R1, D, releases=("1.5.1",), extra={"cuda-graph-max-bs": 96}),
    right("deprecated, with a list", R1, D, releases=("1.5.1",), extra={"cuda-graph-bs": [1, 2, 4, 128]}),
    right("deprecated, for two", LITE, D, extra={"disable-cuda-graph": True}),
    right("drafts by MTP", R1, D, options={"speculative": {"algorithm": "mtp", "steps": 1}, "cuda_graph_max_bs": 64}),
    right("drafts by EAGLE, branching", R1, D, options={"attention_backend": "triton", "dispatch_tokens_per_rank": 1024,
          "speculative": {"algorithm": "eagle", "steps": 3, "topk": 2, "draft_tokens": 8}}),
    right("drafts by MTP, as many as SGLang likes", R1, D, options={"speculative": {"algorithm": "mtp"}}),
    right("drafts by MTP on both sides", R1, D, both={"speculative": {"algorithm": "mtp", "steps": 3, "topk": 1}}),
    right("drafts by flags", R1, D, extra=DRAFTS, options={"dispatch_tokens_per_rank": 512}),
    right("dense prefill", DENSE, P),
    right("dense decode", DENSE, D),
    right("dense, tensor parallel", DENSE, D, options=PLAIN_TP),
    right("dense, 128k", DENSE, P, options={"context_length": 131072}),
    right("a Llama, tensor parallel", LLAMA, D, both=PLAIN_TP),
    right("dense, FlashAttention 3 on Ampere", DENSE, P, both={"attention_backend": "fa3"}, variables=A100),
]  # fmt: skip
WRONG = [
    wrong("5 does not divide 32", R1, P, options={"data_parallel_size": 5}),
    wrong("64 attention replicas on 32 GPUs", R1, D, options={"data_parallel_size": 64}),
    wrong("the lab's TP 1, DP 4", DENSE, P, options={"tensor_parallel_size": 1, "data_parallel_size": 4}),
    wrong("3 does not divide 4", LITE, D, options={"data_parallel_size": 3}),
    wrong("copies over nodes", R1, P, options={"dp_attention": False}),
    wrong("30 GPUs on 4 nodes", R1, P, options={"tensor_parallel_size": 30, "data_parallel_size": 30}),
    wrong("the lab's 16 spares", R1, P, variables=eplb(redundant_experts=16)),
    wrong("1 spare", R1, D, variables=eplb(redundant_experts=1)),
    wrong("spares without EPLB do not divide", R1, D, variables={"wideep_eplb": {"redundant_experts": 48}}),
    wrong("V2-Lite, 3 spares", LITE, P, variables=eplb(redundant_experts=3)),
    wrong("EPLB without spread experts", LITE, D, options={"expert_parallel_size": 1},
          eplb={"enabled": True}),
    wrong("EPLB on a dense model", DENSE, P, eplb={"enabled": True}),
    wrong("recorder's buffer larger", R1, P, extra={"expert-distribution-recorder-buffer-size": 2000}),
    wrong("balanced by stale records", R1, D, variables=eplb(rebalance_iterations=50),
          extra={"expert-distribution-recorder-buffer-size": 100}),
    wrong("unknown recorder mode", R1, D, extra={"expert-distribution-recorder-mode": "all"}),
    wrong("unknown algorithm", R1, P, variables=eplb(algorithm="round_robin"),
          argv=("--enable-eplb", "--eplb-algorithm", "round_robin")),
    wrong("dense layers by 2", R1, P, options={"moe_dense_tp_size": 2}),
    wrong("dense layers by 8", R1, D, options={"moe_dense_tp_size": 8}),
    wrong("dense layers by 2 of 4", LITE, P, options={"moe_dense_tp_size": 2}),
    wrong("head by data, attention not", LITE, D, options={"dp_attention": False, "dp_lm_head": True}),
    wrong("nothing to overlap", LITE, P, options={**PLAIN_TP, "two_batch_overlap": True}),
    wrong("100 tokens for 32 ranks", R1, P, options={"chunked_prefill_size": 100}),
    wrong("not whole pages", R1, P, options={"chunked_prefill_size": 8191}),
    wrong("half a page a rank", LITE, P, options={"chunked_prefill_size": 1000}),
    wrong("longer than the model", R1, D, options={"context_length": 200000}),
    wrong("longer than the model, dense", DENSE, P, options={"context_length": 262144}),
    wrong("fake transfer", R1, P, extra={"disaggregation-transfer-backend": "fake"}),
    wrong("prefixes and speculation on decode", R1, D,
          extra={"disaggregation-decode-enable-radix-cache": True, "speculative-algorithm": "EAGLE"}),
    wrong("hierarchical cache on decode", R1, D, extra={"enable-hierarchical-cache": True}),
    wrong("hierarchical without prefixes", R1, P, options={"radix_cache": False},
          extra={"enable-hierarchical-cache": True}),
    wrong("FlashInfer, half the ranks", R1, D, options={"a2a_backend": "flashinfer", "data_parallel_size": 16}),
    wrong("FlashInfer, DeepGEMM", R1, D, releases=("1.5.1",),
          options={"a2a_backend": "flashinfer", "moe_runner_backend": "deep_gemm"}),
    wrong("FlashInfer, Triton", R1, D, releases=("1.5.1",),
          options={"a2a_backend": "flashinfer", "moe_runner_backend": "triton"}),
    wrong("a flag that is gone", R1, D, releases=("1.6.1",), extra={"cuda-graph-bs": 128}),
    wrong("a kernel that is gone", R1, D, releases=("1.6.1",), both={"attention_backend": "cutlass_mla", "page_size": 128}),
    wrong("FP4's all-to-all, two batches", R1, D, releases=("1.6.1",), options={"a2a_backend": "megamoe"}),
    wrong("Blackwell's kernel on Hopper", R1, D, both={"attention_backend": "trtllm_mla"}),
    wrong("another Blackwell kernel", R1, D, both={"attention_backend": "tokenspeed_mla", "kv_cache_dtype": "fp8"}),
    wrong("unknown attention backend", R1, P, both={"attention_backend": "fastest"}),
    wrong("colon in the name", R1, P, variables={"wideep_model": "deepseek:r1", "wideep_model_card": R1}),
    wrong("unknown all-to-all", R1, P, options={"a2a_backend": "nccl"}, argv=("--moe-a2a-backend", "nccl")),
    wrong("unknown DeepEP mode", R1, D, options={"deepep_mode": "fast"}, argv=("--deepep-mode", "fast")),
    wrong("text for a number", R1, D, options={"page_size": "large"}, argv=("--page-size", "large")),
    wrong("unknown flag", R1, P, extra={"expert-paralel-size": 32}),
    wrong("a removed flag", R1, P, extra={"enable-deepep-moe": True}),
    wrong("another removed flag", R1, D, extra={"enable-ep-moe": True}),
    wrong("switch with a value", R1, D, argv=("--enable-torch-compile", "yes"),
          extra={"enable-torch-compile": "yes"}),
    wrong("a kernel that wants all or nothing", LITE, D,
          options={"expert_parallel_size": 2, "moe_runner_backend": "flashinfer_cutlass"}),
    wrong("cutlass with FP8 experts spread", R1, P, options={"moe_runner_backend": "cutlass"},
          extra={"quantization": "fp8"}),
    wrong("CuteDSL for FP8 experts", R1, D, options={"moe_runner_backend": "flashinfer_cutedsl"}),
    wrong("CuteDSL for 16 bit experts", LITE, D, options={"moe_runner_backend": "flashinfer_cutedsl"}),
    wrong("stages and drafts", R1, P, options=HALF_TP,
          extra={"pp-size": 2, "speculative-algorithm": "EAGLE", "speculative-num-draft-tokens": 4}),
    wrong("stages that may shrink", R1, P, options=HALF_TP,
          extra={"pp-size": 2, "elastic-ep-backend": "mooncake"}),
    wrong("ranks may leave, EPLB does not know", R1, D, variables=eplb(algorithm="deepseek"),
          extra={"elastic-ep-backend": "mooncake"}),
    wrong("prefixes and sparse attention on decode", R1, D,
          extra={"disaggregation-decode-enable-radix-cache": True, "enable-hisparse": True}),
    wrong("drafts without a number of steps", LITE, D,
          options={"speculative": {"algorithm": "eagle", "draft_tokens": 4}}),
    wrong("drafts by flags without topk", R1, D, options={"dispatch_tokens_per_rank": 512},
          extra={"speculative-algorithm": "EAGLE", "speculative-num-steps": 3}),
    wrong("drafts by n-grams with DP attention", LITE, D, options={"speculative": {"algorithm": "ngram"}}),
    wrong("drafts of a later release", LITE, D, releases=("1.5.1",), options={"speculative": {"algorithm": "uno"}}),
    wrong("DeepEP's second version, overlapping", R1, D, releases=("1.6.1",), options={"a2a_backend": "deepep_v2"}),
    wrong("DeepEP's second version, Triton", R1, P, releases=("1.6.1",),
          options={"a2a_backend": "deepep_v2", "two_batch_overlap": False, "moe_runner_backend": "triton"}),
    wrong("DeepEP's second version is not in this release", R1, P, releases=("1.5.1",),
          options={"a2a_backend": "deepep_v2", "two_batch_overlap": False}),
    wrong("FlashInfer's megamoe on Hopper", R1, D, releases=("1.6.1",), options={"a2a_backend": "flashinfer_megamoe"}),
    wrong("pplx without DP attention", LITE, D, options={**PLAIN_TP, "a2a_backend": "pplx"}),
    wrong("pplx, Triton", R1, D, options={"a2a_backend": "pplx", "moe_runner_backend": "triton"}),
    wrong("graph padding off while compiling", R1, D,
          extra={"disable-cuda-graph-padding": True, "enable-torch-compile": True}),
]  # fmt: skip
STRICTER = [
    stricter("more ranks than GPUs", R1, P, "64 ranks would be started on 32 GPUs",
             options={"tensor_parallel_size": 64, "data_parallel_size": 64}, variables=NO_EPLB),
    stricter("ep-size ignored", R1, D, "SGLang sets it to 32 silently", options={"expert_parallel_size": 16}),
    stricter("low latency on prefill", R1, P, "a prompt is longer than the dispatch buffer: aborts under load",
             options={"deepep_mode": "low_latency"}),
    stricter("low latency without graphs", R1, D, "loses what the mode is for", options={"cuda_graphs": False}),
    stricter("batch over the dispatch buffer", R1, D, "aborts under load (DeepEP's assertion)",
             options={"cuda_graph_max_bs": 256}),
    stricter("requests over the dispatch buffer", R1, D, "aborts under load (DeepEP's assertion)",
             options={"max_running_requests": 8192}),
    stricter("drafts over the dispatch buffer", R1, D, "aborts under load: SGLang verifies 4 tokens a step",
             options={"speculative": {"algorithm": "mtp"}, "dispatch_tokens_per_rank": 128}),
    stricter("drafts by flags over the dispatch buffer", R1, D, "aborts under load",
             extra={"speculative-algorithm": "EAGLE"}, options={"dispatch_tokens_per_rank": 128}),
    stricter("dispatch buffer over its limit", R1, D, "asserted when the dispatcher is made",
             options={"dispatch_tokens_per_rank": 2048}),
    stricter("dense layers by 32", R1, P, "576 columns are not whole FP8 blocks: fails when weights load",
             options={"moe_dense_tp_size": 32}),
    stricter("experts not spread", R1, P, "64 columns are not whole FP8 blocks: fails when weights load",
             options={"a2a_backend": "none", "expert_parallel_size": 1}, variables=NO_EPLB),
    stricter("page changed silently", R1, D, "SGLang makes it 64; prefill and router would differ",
             both={"attention_backend": "flashmla", "page_size": 32}),
    stricter("copies on one node", LITE, D, "complete copies behind one address: that is what replicas are for",
             options={"dp_attention": False}),
    stricter("all-to-all on a dense model", DENSE, P, "does nothing", options={"a2a_backend": "deepep"}),
    stricter("EP on a dense model", DENSE, D, "does nothing", options={"expert_parallel_size": 2}),
    stricter("spares on a dense model", DENSE, P, "does nothing", variables={"wideep_eplb": {"redundant_experts": 2}}),
    stricter("half the memory unused", R1, P, "starts, and wastes it", options={"mem_fraction_static": 0.4}),
    stricter("all memory for the KV cache", R1, D, "out of memory at capture", options={"mem_fraction_static": 0.99}),
    stricter("statistics per pass", R1, P, "EPLB gets no statistics: fails at the first placement",
             extra={"expert-distribution-recorder-mode": "per_pass"}),
    stricter("attention by data in a Llama", LLAMA, D, "the cache has other heads than a rank: fails at the first batch",
             both={"data_parallel_size": 2}),
    stricter("MLA kernel for a dense model", DENSE, P, "fails when the kernel is made", both={"attention_backend": "flashmla"}),
    stricter("devices that DeepEP cannot drive", R1, D, "its kernels write to ConnectX's queues: fails at start",
             variables={"wideep_network": {"link": "ib", "rdma_devices": ["bnxt_re0"]}}),
    stricter("Triton behind DeepEP", R1, P, "nothing turns DeepEP's tokens into its input: asserted at the first",
             options={"a2a_backend": "deepep", "moe_runner_backend": "triton"}),
    stricter("Marlin behind DeepEP", R1, D, "the same", options={"a2a_backend": "deepep", "moe_runner_backend": "marlin"}),
    stricter("FlashInfer's kernel behind DeepEP", R1, D, "raises when the layers are made",
             options={"a2a_backend": "deepep", "moe_runner_backend": "flashinfer_cutlass"}),
    stricter("Triton behind NIXL", R1, D, "asserted at the first token",
             options={"a2a_backend": "nixl", "moe_runner_backend": "triton"}),
    stricter("cutlass behind DeepEP, quantized by the checkpoint", R1, D, "DeepEP's tokens lack what it reads",
             options={"a2a_backend": "deepep", "moe_runner_backend": "cutlass"}),
    stricter("16 bit experts, normal mode", LITE, P, "NotImplementedError at the first prompt",
             options={"a2a_backend": "deepep", "deepep_mode": "normal"}),
    stricter("16 bit experts, Triton behind DeepEP", LITE, D, "asserted at the first token",
             options={"a2a_backend": "deepep", "moe_runner_backend": "triton"}),
    stricter("16 bit experts, SGLang's choice behind DeepEP", LITE, D, "it chooses Triton",
             options={"a2a_backend": "deepep", "moe_runner_backend": "auto"}),
    stricter("16 bit experts behind NIXL", LITE, D, "it sends FP8: asserted at the first token",
             options={"a2a_backend": "nixl"}),
    stricter("mooncake without elastic ranks", R1, D, "no list of living ranks: raises at the first token",
             options={"a2a_backend": "mooncake"}),
    stricter("both modes of NIXL", R1, D, "raises when the layers are made",
             options={"a2a_backend": "nixl", "deepep_mode": "auto"}),
    stricter("batch over NIXL's buffer", R1, D, "aborts under load", options={"a2a_backend": "nixl", "cuda_graph_max_bs": 256}),
    stricter("batch over mooncake's buffer", R1, D, "aborts under load", extra={"elastic-ep-backend": "mooncake"},
             options={"a2a_backend": "mooncake", "cuda_graph_max_bs": 256}),
    stricter("NIXL's buffer over its limit", R1, D, "asserted when the dispatcher is made",
             options={"a2a_backend": "nixl", "dispatch_tokens_per_rank": 2048}),
    stricter("prompts over NIXL's buffer", R1, P, "aborts at the first prompt", options={"a2a_backend": "nixl"}),
    stricter("graphs over the buffer, over 2 GPUs each", R1, D, "aborts under load",
             options={"data_parallel_size": 16, "cuda_graph_max_bs": 512}),
    stricter("no request for half the ranks", R1, D, "asserted after the weights are loaded",
             options={"max_running_requests": 16}),
    stricter("EPLB where modes take turns", R1, D, "NotImplementedError when the recorder is made",
             options={"deepep_mode": "auto"}),
    stricter("AMD's all-to-all", R1, D, "a package of AMD's is missing", options={"a2a_backend": "mori"}),
    stricter("FP4's all-to-all", R1, D, "never used for FP8 experts: tokens stay where they are",
             releases=("1.5.1",), options={"a2a_backend": "megamoe"}),
    stricter("DeepEP on Ampere", LITE, D, "DeepGEMM is missing: asserted when the layers are made",
             options={"a2a_backend": "deepep"}, variables=A100),
    stricter("FP8 experts on Ampere", R1, P, "Triton's kernel does not compile", variables=A100 | NO_EPLB),
    stricter("FlashAttention 3 for latent attention on Ampere", LITE, P, "asserted when the kernel is made",
             both={"attention_backend": "fa3"}, variables=A100),
    stricter("Mooncake in venv", LITE, D, "ImportError at start", variables=VENV | {"wideep_kv_transfer": "mooncake"}),
    stricter("prompts longer than decode's sequences", R1, D, "decode refuses them when they are computed",
             both={"context_length": 16384}, options={"context_length": 8192}),
    stricter("drafts in prefill alone", LITE, P, "decode registers fewer regions of KV cache: each request fails",
             extra=DRAFTS),
    stricter("stages in decode alone", R1, D, "asserted at the first request", options=HALF_TP, extra={"pp-size": 2}),
    stricter("a flag of the plan", R1, P, "ranks would not find each other", extra={"nnodes": 2}),
]  # fmt: skip


def judged(*combinations: Combination) -> list[Any]:
    """Return parameters of tests: each combination in each release whose verdict it is."""
    return [
        pytest.param(one, release, id=f"{one.name}, {release}")
        for release in releases()
        for one in combinations
        if one.of(release)
    ]


def deployment(
    combination: Combination, models: str, release: str = ""
) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """Return groups and hosts of a combination: R1 on 4 + 4 nodes of 8 GPUs, the others on one of 8 or 4.

    release: unless given the one that the combination names, else the default.
    """
    big = combination.model == R1
    groups = {"control": ["c0"], "frontend": ["c0"]}
    for pool in ("prefill", "decode"):
        groups[pool] = [f"{pool}{n}" for n in range(4)] if big else ["c0"]
    gpus = {R1: 8, LITE: 4, DENSE: 2, LLAMA: 2}[combination.model]
    pools: dict[str, Any] = {}
    for pool in ("prefill", "decode"):
        options: dict[str, Any] = {"data_parallel_size": 4 * gpus if big else gpus}
        options |= {"two_batch_overlap": True} if big else {}
        options |= combination.both
        pools[pool] = {"nodes_per_replica": 4 if big else 1, "gpus_per_node": gpus, "options": options}
    pools[combination.pool]["options"] |= combination.options
    pools[combination.pool]["extra_args"] = combination.extra
    if combination.eplb:
        pools[combination.pool]["eplb"] = combination.eplb
    variables = {
        "wideep_engine": "sglang",
        "wideep_release": release or next(iter(combination.releases), ""),
        "wideep_model": NAMES[combination.model],
        "wideep_model_path": f"{models}/{combination.model}",
        "wideep_state_dir": "/var/lib/wideep",
        "wideep_runtime": "existing",
        "wideep_python": "/opt/dynamo/bin/python3",
        "wideep_gpu": "h100-80gb",
        "wideep_gpus_per_node": 8,
        "wideep_interface": "eth0",
        "wideep_pools": pools,
        "etcd_install_method": "archive",
        "wideep_eplb": {"enabled": True, "redundant_experts": 32} if big else {},
        **combination.variables,
    }
    names = dict.fromkeys(name for group in groups.values() for name in group)
    return groups, {n: {"ansible_host": f"192.0.2.{i}", **variables} for i, n in enumerate(names, 1)}
