"""What people run on TensorRT-LLM, over models, GPUs and widths: accepted, or refused as the engine would.

Written from facts about published recipes (models, GPUs, widths, options that they set), none is a copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from wideep.plan import Plan, make_plan
from wideep.problems import RefusedError
from wideep.reference.release import releases

R1, R1_FP4 = "deepseek-ai/DeepSeek-R1-0528", "nvidia/DeepSeek-R1-0528-NVFP4-v2"
KIMI, GPT = "nvidia/Kimi-K2.5-NVFP4", "openai/gpt-oss-120b"
H100, H200, B200 = "h100-80gb", "h200-141gb", "b200-180gb"
GB200, GB300 = "gb200-nvl72", "gb300-nvl72"
# Prompt and whole sequence, with some room.
SHORT, LONG = (1064, 2088), (8232, 9256)

LOGS = {"print_iter_log": True, "stream_interval": 100, "num_postprocess_workers": 4}
MTP = {"speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": 3}}
BALANCED = {"attention_dp_config": {"enable_balance": True, "batching_wait_iters": 0, "timeout_iters": 60}}
NVFP4 = {
    "moe_config": {"use_low_precision_moe_combine": True},
    "nvfp4_gemm_config": {"allowed_backends": ["cutlass", "cublaslt", "cutedsl", "cuda_core"]},
    "allreduce_strategy": "MNNVL",
}
ENV = {
    "TLLM_LOG_LEVEL": "INFO",
    "TRTLLM_ENABLE_PDL": "1",
    "TRTLLM_SERVER_DISABLE_GC": "1",
    "TRTLLM_WORKER_DISABLE_GC": "1",
    "NCCL_GRAPH_MIXING_SUPPORT": "0",
    "UCX_CUDA_IPC_ENABLE_MNNVL": "n",
}


@dataclass(frozen=True)
class Side:
    """One pool. data: whether attention is by data. ep: GPUs of the experts, unset all. pp: stages."""

    tp: int
    batch: int
    tokens: int
    backend: str = ""
    fraction: float = 0.85
    data: bool = True
    ep: int | None = None
    pp: int = 1
    own: dict[str, Any] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)
    eplb: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def pool(self, length: int, dtype: str, each: int) -> dict[str, Any]:
        gpus = self.tp * self.pp
        own = {
            "max_batch_size": self.batch,
            "max_num_tokens": self.tokens,
            "free_gpu_memory_fraction": self.fraction,
            "block_reuse": False,
            "pipeline_parallel_size": self.pp,
            **({"moe_backend": self.backend} if self.backend else {}),
            **self.own,
            "engine_args": LOGS | self.args,
        }
        return {
            "nodes_per_replica": max(1, gpus // each),
            "gpus_per_node": min(each, gpus),
            "options": {
                "tensor_parallel_size": self.tp,
                "data_parallel_size": self.tp if self.data else 1,
                "expert_parallel_size": self.ep or self.tp,
                "context_length": length,
                "kv_cache_dtype": dtype,
                "trtllm": own,
            },
            "env": ENV | self.env,
            **({"eplb": self.eplb} if self.eplb else {}),
        }


@dataclass(frozen=True)
class Recipe:
    """Two pools of a model on a GPU. lengths: of a prompt, and of the whole sequence."""

    model: str
    gpu: str
    prefill: Side
    decode: Side
    lengths: tuple[int, int] = LONG
    dtype: str = "fp8"
    variables: dict[str, Any] = field(default_factory=dict)

    def plan(self) -> Plan:
        each = 4 if self.gpu in (GB200, GB300) else 8
        sides = {"prefill": (self.prefill, self.lengths[0]), "decode": (self.decode, self.lengths[1])}
        pools = {name: side.pool(length, self.dtype, each) for name, (side, length) in sides.items()}
        groups = {"control": ["c0"], "frontend": ["c0"]}
        for name, pool in pools.items():
            groups[name] = [f"{name}{n}" for n in range(pool["nodes_per_replica"])]
        shared = {
            "wideep_engine": "trtllm",
            "wideep_model": self.model,
            "wideep_model_path": "/data/models/it",
            "wideep_state_dir": "/var/lib/wideep",
            "wideep_runtime": "container",
            "wideep_gpu": self.gpu,
            "wideep_gpus_per_node": each,
            "wideep_interface": "eth0",
            "wideep_network": {"link": "ib", "rdma_devices": [f"mlx5_{n}" for n in range(each)]},
            "wideep_kv_transfer": "ucx",
            "wideep_pools": pools,
            "etcd_install_method": "archive",
            **self.variables,
        }
        names = dict.fromkeys(host for group in groups.values() for host in group)
        return make_plan(
            groups, {n: {"ansible_host": f"192.0.2.{i}", **shared} for i, n in enumerate(names, 1)}
        )


def buffer(tokens: int) -> dict[str, Any]:
    return {"max_tokens_in_buffer": tokens}


def graphs(*sizes: int) -> dict[str, Any]:
    return {"cuda_graph_batch_sizes": list(sizes)}


DENSE_SIZES = graphs(1, 2, 4, *range(8, 129, 8), 256, 512, 1024, 2048)
SPARES = {"enabled": True, "redundant_experts": 32, "layers_per_chunk": 1}
RECIPES = {
    "R1 on H200, a host each": Recipe(
        R1, H200,
        Side(8, 8, 8192, "CUTLASS", 0.6, own=buffer(4608)),
        Side(8, 256, 256, "CUTLASS", 0.9, own=buffer(4608) | graphs(1, 2, 4, 8, 16, 32, 64, 128, 256)),
        SHORT,
    ),
    "R1 on H200, MTP, attention by tensors, little load": Recipe(
        R1, H200,
        Side(8, 1, 8448, data=False, args=MTP, own=buffer(8448)),
        Side(8, 16, 64, data=False, ep=1, args=MTP, own=buffer(8448)),
    ),
    "R1 on H200, a patient transfer": Recipe(
        R1, H200,
        Side(8, 2, 8448, args={"cache_transceiver_config": {"kv_transfer_timeout_ms": 600000}}),
        Side(8, 32, 32, own={"kv_transfer_timeout_ms": 600000}),
    ),
    "R1 on H100, two hosts, DeepEP": Recipe(
        R1, H100,
        Side(16, 4, 8448, "CUTLASS", 0.3, env={"TRTLLM_FORCE_ALLTOALL_METHOD": "DeepEP"}),
        Side(16, 64, 64, "CUTLASS", 0.9, own={"all_to_all": "deepep"}),
    ),
    "R1 on H100, two stages to one world": Recipe(
        R1, H100,
        Side(8, 1, 8448, "CUTLASS", 0.6, data=False, pp=2),
        Side(16, 64, 64, "CUTLASS", 0.9, data=False),
    ),
    "R1 on B200, FP8": Recipe(
        R1, B200,
        Side(8, 2, 16896, "DEEPGEMM", 0.6, own=buffer(8448)),
        Side(8, 64, 256, "TRTLLM", args=MTP | BALANCED, own=buffer(8448) | DENSE_SIZES),
    ),
    "R1 on B200, NVFP4, half a host": Recipe(
        R1_FP4, B200,
        Side(4, 4, 16896, "CUTLASS", 0.3, own=buffer(8448)),
        Side(8, 128, 128, "TRTLLM", args={"allreduce_strategy": "MNNVL"}, own=buffer(8448)),
    ),
    "R1 on GB200, wide, balanced": Recipe(
        R1_FP4, GB200,
        Side(4, 16, 16640, "CUTLASS", 0.8, args=MTP, own=buffer(4608)),
        Side(32, 128, 512, "CUTEDSL", 0.9, args=MTP | NVFP4, own=buffer(4608) | DENSE_SIZES, eplb=SPARES),
        SHORT,
    ),
    "R1 on GB200, balanced by what both share, prefill by tensors": Recipe(
        R1_FP4, GB200, Side(4, 1, 8448, "TRTLLM", data=False), Side(32, 64, 64, "CUTEDSL"),
        variables={"wideep_eplb": SPARES},
    ),
    "R1 on GB300, FP8": Recipe(
        R1, GB300,
        Side(8, 4, 33792, "DEEPGEMM", 0.4, own=buffer(8448)),
        Side(16, 128, 128, "DEEPGEMM", own=buffer(8448)),
    ),
    "R1 on GB300, attention by tensors": Recipe(
        R1_FP4, GB300,
        Side(4, 1, 8448, "TRTLLM", 0.3, data=False),
        Side(8, 32, 128, "TRTLLM", 0.9, data=False, args={"allreduce_strategy": "MNNVL"}),
    ),
    "Kimi K2.5 on GB200": Recipe(
        KIMI, GB200, Side(4, 2, 16384, "TRTLLM", 0.6, own=buffer(16384)),
        Side(16, 128, 128, "CUTEDSL", 0.8, own=buffer(16384), args={"moe_config": NVFP4["moe_config"]}),
    ),
    "Kimi K2.5 on GB200, balanced": Recipe(
        KIMI, GB200, Side(4, 2, 16384, "TRTLLM", 0.6), Side(32, 128, 128, "CUTEDSL", 0.8, eplb=SPARES)
    ),
    "gpt-oss on B200": Recipe(
        GPT, B200, Side(1, 64, 20000, "TRTLLM", data=False), Side(4, 512, 20000, "TRTLLM", args=BALANCED)
    ),
    "gpt-oss on H200, Triton": Recipe(
        GPT, H200, Side(1, 64, 20000, "TRITON", data=False), Side(4, 256, 20000, "TRITON")
    ),
    "gpt-oss on H100, the model's own length": Recipe(
        GPT, H100,
        Side(2, 16, 20000, "CUTLASS", data=False, own={"chunked_prefill": True}),
        Side(8, 64, 20000, "CUTLASS", data=False, ep=1),
        (131072, 131072), "auto",
    ),
    "Qwen3-235B on H200": Recipe(
        "Qwen/Qwen3-235B-A22B-FP8", H200, Side(4, 16, 8448, data=False), Side(4, 256, 256)
    ),
    "Qwen3-235B on GB200, fixed copies": Recipe(
        "nvidia/Qwen3-235B-A22B-NVFP4", GB200, Side(2, 4, 16896),
        Side(16, 256, 256, "CUTEDSL", eplb={"redundant_experts": 16}),
    ),
    "Qwen3.5-397B on GB200": Recipe(
        "nvidia/Qwen3.5-397B-A17B-NVFP4", GB200, Side(4, 4, 16896, "TRTLLM"),
        Side(8, 256, 256, "TRTLLM", args={"kv_cache_config": {"mamba_ssm_cache_dtype": "float16"}}),
    ),
    "GLM-5 on B200": Recipe(
        "nvidia/GLM-5-NVFP4", B200,
        Side(8, 4, 16896, "TRTLLM", args=MTP | {"custom_tokenizer": "glm_moe_dsa"}),
        Side(8, 64, 256, "TRTLLM", args=MTP | {"custom_tokenizer": "glm_moe_dsa"}),
    ),
    "DeepSeek-V3.2 on GB200": Recipe(
        "nvidia/DeepSeek-V3.2-NVFP4", GB200, Side(4, 4, 16896, "TRTLLM"), Side(16, 64, 64, "CUTEDSL")
    ),
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_what_people_run_is_accepted(recipe: Recipe) -> None:
    made = recipe.plan()
    said = [f"{w.where}: {w.message}" for w in made.warnings]
    assert not [line for line in said if "no kernels" in line or "no backend is known" in line], said
    # None of them is told to change what the plan itself chose.
    if not any("cuda_graph" in str(side.own) for side in (recipe.prefill, recipe.decode)):
        assert not [line for line in said if "graphs up to" in line or "no graph for" in line], said


@pytest.mark.parametrize("release", releases())
def test_a_backend_that_is_gone_is_refused_with_the_ones_that_there_are(release: str) -> None:
    side = Side(16, 4, 8448, "WIDEEP", 0.3)
    with pytest.raises(RefusedError) as refused:
        Recipe(R1, H100, side, side, (8448, 8448), variables={"wideep_release": release}).plan()
    assert {p.where for p in refused.value.problems} == {
        f"wideep_pools.{pool}.options.trtllm.moe_backend" for pool in ("prefill", "decode")
    }
    assert all("is one of AUTO, CUTLASS, " in p.message for p in refused.value.problems)


@pytest.mark.parametrize(
    ("model", "balances"),
    [
        (R1_FP4, True),
        (KIMI, True),
        ("nvidia/Qwen3-235B-A22B-NVFP4", True),
        ("nvidia/Qwen3.5-397B-A17B-NVFP4", True),
        (GPT, True),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", False),
        ("MiniMaxAI/MiniMax-M2", False),
    ],
)
def test_experts_are_balanced_by_architecture(model: str, balances: bool) -> None:
    """The engine compares the name of the class, whatever the model is called."""
    side = Side(8, 4, 8448, eplb={"enabled": True, "redundant_experts": 8 if "Next" not in model else 0})
    recipe = Recipe(model, GB200, side, side, (8448, 8448))
    if balances:
        assert recipe.plan()
        return
    with pytest.raises(RefusedError) as refused:
        recipe.plan()
    assert all("it does not balance" in p.message for p in refused.value.problems)
