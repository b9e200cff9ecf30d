"""SGLang: our verdicts, the reason in each message, and what a process gets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from example_inventories import inventory
from sglang_cases import (
    A100,
    DENSE,
    DRAFTS,
    HALF_TP,
    LITE,
    LLAMA,
    NAMES,
    R1,
    RIGHT,
    STRICTER,
    VENV,
    WRONG,
    Combination,
    D,
    P,
    deployment,
    eplb,
    judged,
)

from wideep.deployment.build import examine
from wideep.deployment.launch import Launch
from wideep.engines import ENGINES
from wideep.engines.sglang.options import SglangOptions
from wideep.engines.sglang.rules import FLAGS, OWNED, RULES
from wideep.inventory.settings import Settings
from wideep.plan import Plan, make_plan
from wideep.problems import Problem, RefusedError
from wideep.reference.models import MODELS as CARDS
from wideep.reference.release import find_release

RELEASE = find_release()

MODELS = "/models"
IB = {"link": "ib", "rdma_devices": ["mlx5_0", "mlx5_1"]}
MISSING = {"wideep_model": "example/unknown"}


def plan(model: str = R1, pool: str = D, /, **changes: Any) -> Plan:
    return make_plan(*deployment(Combination("", model, pool, **changes), MODELS))


def problems(combination: Combination, release: str = "") -> list[Problem]:
    """Return errors, or the warnings of what is accepted."""
    try:
        return list(make_plan(*deployment(combination, MODELS, release)).warnings)
    except RefusedError as refused:
        return list(refused.problems)


def flags(launch: Launch) -> dict[str, Any]:
    """Return the command line as flag -> value; a switch is True."""
    words, found = launch.argv[launch.argv.index("-m") + 2 :], {}
    for position, word in enumerate(words):
        if word.startswith("--"):
            following = words[position + 1] if position + 1 < len(words) else "--"
            found[word] = True if following.startswith("--") else following
    return found


def workers(made: Plan) -> dict[str, Launch]:
    return {
        launch.name: launch
        for launches in made.launches.values()
        for launch in launches
        if launch.component == "worker"
    }


# ---- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("combination", "release"), judged(*RIGHT, *WRONG, *STRICTER))
def test_verdicts(combination: Combination, release: str) -> None:
    found = problems(combination, release)
    errors = [p for p in found if p.severity == "error"]
    assert bool(errors) != combination.accepted
    for problem in found:
        assert problem.message
        assert problem.where
        assert problem.remedy


def test_our_inventories_are_accepted_and_warn_of_nothing_but_the_images_tag() -> None:
    for model in (DENSE, LITE):
        made = make_plan(*inventory("sglang_single_node", wideep_model=NAMES[model]))
        assert made.warnings == ()
    made = make_plan(*inventory("deepseek_r1_sglang"))
    assert [w.where for w in made.warnings] == ["wideep_image"]
    assert make_plan(*inventory("deepseek_r1_sglang", wideep_gpu="h200-141gb"))


# Inventory -> pools, replicas of each, GPUs of one, and words of its workers.
READY: dict[str, tuple[dict[str, tuple[int, int]], str]] = {
    "deepseek_r1_h100_sglang": ({"prefill": (2, 16), "decode": (2, 16)}, "--moe-a2a-backend deepep"),
    "deepseek_r1_h200_sglang": ({"prefill": (1, 8), "decode": (6, 8)}, "--speculative-algorithm NEXTN"),
    "deepseek_v4_gb300_sglang": ({"prefill": (2, 8), "decode": (1, 16)}, "--moe-a2a-backend megamoe"),
    "kimi_k2_h200_sglang": ({"prefill": (1, 16), "decode": (2, 16)}, "--trust-remote-code"),
    "qwen3_5_h200_sglang": ({"aggregated": (2, 8)}, "--tp-size 8"),
    "glm_5_b200_sglang": ({"prefill": (1, 8), "decode": (2, 8)}, "--speculative-num-draft-tokens 2"),
}


@pytest.mark.parametrize("name", READY)
def test_ready_inventories_are_what_they_are_called_and_warn_of_nothing_but_the_images_tag(name: str) -> None:
    pools, words = READY[name]
    made = make_plan(*inventory(name))
    assert [w.where for w in made.warnings] == ["wideep_image"]
    assert pools == {
        pool.name: (len(pool.replicas), pool.replicas[0].world_size) for pool in made.deployment.pools
    }
    budgets = made.engine.memory(made.deployment)
    assert budgets.keys() == pools.keys()
    assert all(budget.kv > 0 for budget in budgets.values())
    assert all(words in " ".join(launch.argv) for launch in workers(made).values())


OPTIONS = "wideep_pools.decode.options"
EXTRA = "wideep_pools.decode.extra_args"
PREFILL = "wideep_pools.prefill"
SAID: list[tuple[Combination, str, str, str]] = [
    (Combination("", R1, D, options={"tensor_parallel_size": 16}), f"{OPTIONS}.tensor_parallel_size",
     "not the replica's 32 GPUs (4 nodes x 8)", "set it to 32"),
    (Combination("", LITE, D, options={"tensor_parallel_size": 4}, extra={"pp-size": 2}),
     f"{OPTIONS}.tensor_parallel_size", "4 x pp-size 2 is not the replica's 4 GPUs", "set it to 2"),
    (Combination("", DENSE, D, options={"data_parallel_size": 4}), f"{OPTIONS}.data_parallel_size",
     "attention replicas share the GPUs", "use one of 1, 2"),
    (Combination("", LITE, D, options={"data_parallel_size": 1, "dp_attention": True}),
     f"{OPTIONS}.dp_attention", "does nothing", "data_parallel_size"),
    (Combination("", LITE, D, options={"data_parallel_size": 2, "dp_attention": False, "dp_lm_head": True}),
     f"{OPTIONS}.dp_lm_head", "needs dp_attention", "dp_attention: true"),
    (Combination("", R1, D, options={"sglang": {"moe_dense_tp_size": 4}}),
     f"{OPTIONS}.sglang.moe_dense_tp_size", "neither 1 nor", "set it to 1"),
    (Combination("", R1, D, options={"moe_dense_tp_size": 32}), f"{OPTIONS}.moe_dense_tp_size",
     "18432 columns divided by 32 GPUs are not whole FP8 blocks of 128", "set it to 1"),
    (Combination("", R1, D, variables=eplb(redundant_experts=16)), "wideep_eplb.redundant_experts",
     "256 experts + 16 redundant ones do not divide by expert parallel size 32", "use 0 or 32"),
    (Combination("", R1, D, variables={"wideep_eplb": {"redundant_experts": 32}}), "wideep_eplb.enabled",
     "nothing is ever rebalanced", "enabled: true"),
    (Combination("", R1, D, variables=eplb(redundant_experts=0)), "wideep_eplb.redundant_experts",
     "0 redundant experts for 32 GPUs", "try 32"),
    (Combination("", R1, D, variables=eplb(redundant_experts=64)), "wideep_eplb.redundant_experts",
     "64 redundant experts for 32 GPUs", "try 32"),
    (Combination("", R1, D, variables=eplb(redundant_experts=5) | MISSING),
     "wideep_eplb.redundant_experts", "5 redundant experts", "try 32"),
    (Combination("", R1, D, extra={"expert-distribution-recorder-mode": "stat_approx"}),
     f"{EXTRA}.expert-distribution-recorder-mode", "normal dispatch only", "remove it"),
    (Combination("", R1, D, options={"deepep_mode": "normal"}), f"{OPTIONS}.deepep_mode",
     "turns CUDA graphs off", "use low_latency"),
    (Combination("", LITE, D, options={"deepep_mode": "auto"}), f"{OPTIONS}.deepep_mode",
     "of no use with a2a_backend none", "a2a_backend: deepep"),
    (Combination("", R1, D, extra={"cuda-graph-backend-decode": "disabled"}), f"{OPTIONS}.cuda_graphs",
     "without CUDA graphs", "remove"),
    (Combination("", R1, D, extra=DRAFTS, options={"dispatch_tokens_per_rank": 128}),
     f"{OPTIONS}.cuda_graph_max_bs", "128 sequences a rank x 4 draft tokens are 512 tokens",
     "lower cuda_graph_max_bs to 32, or raise dispatch_tokens_per_rank to 512"),
    (Combination("", R1, D, options={"speculative": {"algorithm": "ngram"}, "dispatch_tokens_per_rank": 128}),
     f"{OPTIONS}.cuda_graph_max_bs", "x 12 draft tokens are 1020 tokens", "to 10"),
    (Combination("", R1, D, options={"cuda_graph_max_bs": 1280, "dispatch_tokens_per_rank": 1024}),
     f"{OPTIONS}.cuda_graph_max_bs", "1280 sequences a rank", "lower cuda_graph_max_bs to 1024"),
    (Combination("", R1, D, options={"speculative": {"algorithm": "eagl"}}),
     f"{OPTIONS}.speculative.algorithm", "'eagl' is not one of its values", "did you mean eagle?"),
    (Combination("", R1, D, options={"speculative": {"algorithm": "mtp", "step": 3}}),
     f"{OPTIONS}.speculative.step", "unknown option", "did you mean steps?"),
    (Combination("", R1, D, options={"speculative": {"algorithm": "mtp"}}, extra=DRAFTS),
     f"{EXTRA}.speculative-algorithm", "option of its own", f"set {OPTIONS}.speculative"),
    (Combination("", R1, D, eplb={"placement": "/data/counts"}), "wideep_pools.decode.eplb.placement",
     "by .json and .pt", "ending"),
    (Combination("", R1, D, variables=eplb(placement={3: [0, 1]})), "wideep_eplb.placement",
     "reads where experts begin from a file", ".json or .pt"),
    (Combination("", R1, D, eplb={"placement": "counts"}), "wideep_pools.decode.eplb.placement",
     "not an absolute path", "correct"),
    (Combination("", R1, D, eplb={"placement": "/x.json"}, extra={"init-expert-location": "/y.json"}),
     f"{EXTRA}.init-expert-location", "set twice", "wideep_pools.decode.eplb.placement is the same"),
    (Combination("", R1, D, variables={"wideep_eplb": {}},
                 extra={"engine-route": ["dump_expert_distribution_record:tm"]}),
     f"{EXTRA}.engine-route", "ends when a record is asked of it", "recorder-mode: stat"),
    (Combination("", R1, D, eplb={"redundant_expert": 3}), "wideep_pools.decode.eplb.redundant_expert",
     "unknown key", "did you mean redundant_experts?"),
    (Combination("", R1, D, eplb={"redundant_experts": 16}), "wideep_pools.decode.eplb.redundant_experts",
     "256 experts + 16 redundant ones", "use 0 or 32"),
    (Combination("", R1, D, options={"max_running_requests": 4128}), f"{OPTIONS}.max_running_requests",
     "129 sequences a rank", "lower max_running_requests to 4096"),
    (Combination("", R1, D, options={"data_parallel_size": 16, "cuda_graph_max_bs": 512}),
     f"{OPTIONS}.cuda_graph_max_bs",
     "512 sequences a rank over 2 GPUs are 256 tokens of a GPU in a step; DeepEP's low-latency buffer holds",
     "lower cuda_graph_max_bs to 256"),
    (Combination("", R1, D, options={"a2a_backend": "nixl", "max_running_requests": 8192}),
     f"{OPTIONS}.max_running_requests", "NIXL's low-latency buffer holds 128", "to 4096"),
    (Combination("", R1, D, options={"max_running_requests": 31}), f"{OPTIONS}.max_running_requests",
     "31 is none for each of 32 ranks", "use a multiple of 32, e.g. 4096"),
    (Combination("", R1, P, options={"deepep_mode": "low_latency"}), f"{PREFILL}.options.deepep_mode",
     "carries 128 tokens of a GPU at a time, prompts are longer (chunks of 8192)", "use normal"),
    (Combination("", R1, P, options={"a2a_backend": "nixl", "chunked_prefill_size": -1}),
     f"{PREFILL}.options.chunked_prefill_size", "longer (not chunked)", "chunked_prefill_size: 4096"),
    (Combination("", R1, P, options={"a2a_backend": "nixl", "dispatch_tokens_per_rank": 32}),
     f"{PREFILL}.options.chunked_prefill_size", "carries 32 tokens", "use smaller pages"),
    (Combination("", LITE, P, options={"a2a_backend": "deepep", "deepep_mode": "low_latency"}),
     f"{PREFILL}.options.deepep_mode", "prompts are longer", "use auto"),
    (Combination("", R1, D, options={"deepep_mode": "auto"}), "wideep_eplb.enabled",
     "not where steps take turns (deepep_mode auto, pool decode)", "options.deepep_mode: low_latency"),
    (Combination("", R1, P, options={"deepep_mode": "auto"}), "wideep_eplb.enabled", "pool prefill",
     "options.deepep_mode: normal"),
    (Combination("", LITE, P, options={"a2a_backend": "deepep", "deepep_mode": "normal"}),
     f"{PREFILL}.options.deepep_mode", "no kernel for 16 bit experts", "a2a_backend: none"),
    (Combination("", R1, D, options={"a2a_backend": "deepep", "moe_runner_backend": "triton"}),
     f"{OPTIONS}.moe_runner_backend", "triton cannot take tokens for fp8-block experts from a2a_backend",
     "remove moe_runner_backend"),
    (Combination("", R1, D, options={"a2a_backend": "deepep", "moe_runner_backend": "marlin"},
                 variables=MISSING),
     f"{OPTIONS}.moe_runner_backend", "marlin cannot take tokens for experts", "remove"),
    (Combination("", R1, D, options={"a2a_backend": "mooncake"}), f"{EXTRA}.elastic-ep-backend",
     "which ranks are alive", "set it to mooncake"),
    (Combination("", R1, D, options={"a2a_backend": "mori"}), f"{OPTIONS}.a2a_backend", "AMD's", "deepep"),
    (Combination("", LITE, D, options={"a2a_backend": "deepep"}, variables=A100), f"{OPTIONS}.a2a_backend",
     "A100-SXM4-80GB (HGX A100) cannot run", "a2a_backend: none"),
    (Combination("", R1, P, variables=VENV), "wideep_runtime",
     "DeepEP comes with SGLang's own packages, and this project has not run it", "wideep_runtime: container"),
    (Combination("", LITE, D, variables=VENV | {"wideep_kv_transfer": "mooncake"}), "wideep_runtime",
     "wideep_kv_transfer mooncake needs the package Mooncake", "or existing"),
    (Combination("", R1, D, options={"a2a_backend": "flashinfer_megamoe"}), f"{OPTIONS}.a2a_backend",
     "needs Blackwell of data centres (SM 100), not", "another a2a_backend"),
    (Combination("", R1, D, options={"a2a_backend": "flashinfer_megamoe"}), f"{OPTIONS}.a2a_backend",
     "takes MXFP8, NVFP4 or MXFP4 experts, not fp8-block", "another a2a_backend"),
    (Combination("", R1, D, options={"a2a_backend": "flashinfer_megamoe", "data_parallel_size": 1}),
     f"{OPTIONS}.a2a_backend", "needs dp_attention with data_parallel_size 32", "data_parallel_size: 32"),
    (Combination("", R1, D, options={"a2a_backend": "flashinfer_megamoe", "moe_runner_backend": "triton"}),
     f"{OPTIONS}.moe_runner_backend", "needs moe_runner_backend flashinfer_megamoe", "remove"),
    (Combination("", R1, D, options={"a2a_backend": "deepep_v2", "moe_runner_backend": "triton"}),
     f"{OPTIONS}.moe_runner_backend", "works with moe_runner_backend deep_gemm only", "remove"),
    (Combination("", LITE, D, options={"a2a_backend": "deepep_v2"}), f"{OPTIONS}.a2a_backend",
     "is not validated for DeepseekV2ForCausalLM", "a2a_backend: deepep"),
    (Combination("", R1, D, options={"a2a_backend": "deepep_v2", "cuda_graph_max_bs": 256,
                                     "dispatch_tokens_per_rank": 128}),
     f"{OPTIONS}.cuda_graph_max_bs", "256 tokens of a rank are more than the 128", "to 256"),
    (Combination("", R1, D, variables=VENV,
                 options={"a2a_backend": "mooncake"}, extra={"elastic-ep-backend": "mooncake"}),
     "wideep_runtime", "a2a_backend mooncake needs the package Mooncake", "container"),
    (Combination("", LITE, D, both={"speculative": {"algorithm": "mtp", "steps": 1}}),
     f"{OPTIONS}.speculative", "has no draft layers", "give the card `draft`"),
    (Combination("", R1, D, options={"context_length": 8192}), f"{PREFILL}.options.context_length",
     "prefill takes prompts of 163840 tokens, and decode sequences of 8192", "set it to 8192"),
    (Combination("", LITE, P, extra=DRAFTS), f"{PREFILL}.extra_args.speculative-algorithm",
     "drafts with EAGLE and decode with nothing", "drafts are of use in decode"),
    (Combination("", R1, D, options=HALF_TP, extra={"pp-size": 2}), f"{EXTRA}.pp-size",
     "decode's pp-size 2 is neither prefill's 1 nor 1", "remove it"),
    (Combination("", R1, D, options={"page_size": 1}, both={"page_size": 1}), f"{OPTIONS}.page_size",
     "KV event of nearly every token", "use 64"),
    (Combination("", R1, D, both={"page_size": 64}, options={"page_size": 32}), f"{OPTIONS}.page_size",
     "the page size differs (prefill 64, decode 32)", "same page_size"),
    (Combination("", R1, D, options={"kv_cache_dtype": "fp8"}), f"{OPTIONS}.kv_cache_dtype",
     "type of the KV cache differs", "same kv_cache_dtype"),
    (Combination("", R1, D, both={"attention_backend": "trtllm_mla"}), f"{OPTIONS}.attention_backend",
     "runs on Blackwell only", "remove"),
    (Combination("", R1, D, both={"attention_backend": "fa3"}, variables={"wideep_gpu": "b200-180gb"}),
     f"{OPTIONS}.attention_backend", "runs on Hopper only", "remove"),
    (Combination("", R1, P, options={"radix_cache": False}), f"{PREFILL}.options.radix_cache",
     "prefixes are not reused", "remove"),
    (Combination("", R1, P, options={"mem_fraction_static": 0.93}),
     f"{PREFILL}.options.mem_fraction_static",
     "leaves 5.6 GiB of 79.6 GiB, an estimated 8.7 GiB are needed", "lower it to 0.89"),
    (Combination("", R1, D, options={"mem_fraction_static": 0.5}), f"{OPTIONS}.context_length",
     "less than one sequence of 163840", "kv_cache_dtype: fp8"),
    (Combination("", R1, D, options={"watchdog_timeout_s": 1000000}), f"{OPTIONS}.watchdog_timeout_s",
     "11.6 days", "dist_timeout_s"),
    (Combination("", R1, D, extra={"node-rank": 1}), f"{EXTRA}.node-rank", "is decided by", "remove it"),
    (Combination("", R1, D, extra={"page_size": 32}), f"{EXTRA}.page-size", "option of its own",
     f"set {OPTIONS}.page_size"),
    (Combination("", R1, D, variables={"wideep_model_path": ""}), "wideep_model_path",
     "needs the model's directory", "set wideep_model_path"),
    (Combination("", R1, D, options={"x": 8}), f"{OPTIONS}.x", "unknown option of sglang", "use one of"),
    (Combination("", R1, D, options={"sglang": {"deepep_mod": "on"}}), f"{OPTIONS}.sglang.deepep_mod",
     "unknown option of sglang", "did you mean deepep_mode?"),
    (Combination("", R1, D, options={"sglang": 7}), f"{OPTIONS}.sglang", "not a mapping", "write sglang:"),
    (Combination("", R1, D, options={"page_size": 0}),
     f"{OPTIONS}.page_size", "0 is less than 1", "use 1 or more"),
    (Combination("", R1, D, variables={"wideep_gpu": "h100-80"}), "wideep_gpu on host prefill0",
     "no hardware card", "did you mean h100-80gb?"),
    (Combination("", R1, D, variables={"wideep_eplb": {"redundant_expert": 32}}),
     "wideep_eplb.redundant_expert", "unknown key", "did you mean redundant_experts?"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("combination", "where", "message", "remedy"), SAID, ids=lambda x: x if isinstance(x, str) else ""
)
def test_each_reason_is_said(combination: Combination, where: str, message: str, remedy: str) -> None:
    found = [p for p in problems(combination) if p.where == where and message in p.message]
    assert found, problems(combination)
    assert remedy in found[0].remedy


def test_a_dense_model_is_told_what_it_can_do() -> None:
    found = problems(Combination("", DENSE, D, options={"a2a_backend": "deepep", "moe_dense_tp_size": 1}))
    assert {p.where for p in found} == {f"{OPTIONS}.a2a_backend", f"{OPTIONS}.moe_dense_tp_size"}
    assert all("dense model" in p.message and "wide DP" in p.message for p in found)


def test_a_model_that_does_not_fit_is_refused_with_the_numbers() -> None:
    groups, hosts = deployment(Combination("", R1, D), MODELS)
    for variables in hosts.values():
        for pool in variables["wideep_pools"].values():
            pool["nodes_per_replica"] = 1
            pool["options"] = {"data_parallel_size": 8, "a2a_backend": "deepep"}
        variables["wideep_eplb"] = {}
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, hosts)
    message = next(p.message for p in refused.value.problems if "do not fit" in p.message)
    assert "GPU of 79.6 GiB" in message
    assert "experts 76.1" in message
    for variables in hosts.values():
        variables["wideep_gpu"] = "h200-141gb"
    assert make_plan(groups, hosts)


def test_hierarchical_balancing_needs_groups_for_every_node() -> None:
    groups, hosts = deployment(
        Combination("", R1, D, variables=eplb(redundant_experts=8, algorithm="deepseek_hierarchical")), MODELS
    )
    for pool in ("prefill", "decode"):
        groups[pool] = groups[pool][:3]
    for variables in hosts.values():
        for pool in variables["wideep_pools"].values():
            pool["nodes_per_replica"] = 3
            pool["options"]["data_parallel_size"] = 24
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, hosts)
    assert [p.where for p in refused.value.problems] == ["wideep_eplb.algorithm"]


def test_a_replica_has_one_kind_of_gpu() -> None:
    groups, hosts = deployment(Combination("", R1, D), MODELS)
    hosts["decode3"]["wideep_gpu"] = "h200-141gb"
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, hosts)
    assert [p.where for p in refused.value.problems] == ["wideep_gpu on host decode0"]
    assert "decode3 h200-141gb" in refused.value.problems[0].message


def test_dp_ranks_have_ports_for_their_events() -> None:
    groups, hosts = deployment(Combination("", DENSE, P), MODELS)
    for variables in hosts.values():
        variables["wideep_gpus_per_node"] = 64
        variables["wideep_pools"] = {
            "prefill": {"gpus_per_node": 2, "replicas_per_node": 2, "options": {"data_parallel_size": 81}},
            "decode": {"gpus_per_node": 2},
        }
    found = ENGINES["sglang"].check(examine(groups, hosts)[0])  # type: ignore[arg-type]
    assert any("KV events on a port of its own, there are 80" in p.message for p in found)


def test_unknown_model_and_gpu_are_warnings_and_their_rules_are_silent() -> None:
    made = plan(R1, D, variables={"wideep_model": "example/unknown", "wideep_gpu": ""})
    assert {w.where for w in made.warnings} >= {"wideep_model", "wideep_gpu on host prefill0"}


def test_every_rule_says_why_it_exists() -> None:
    assert all(rule.__doc__ for rule in RULES)
    assert len({rule.__name__ for rule in RULES}) == len(RULES)


def test_every_option_is_a_flag_of_the_pinned_engine_and_has_one_way_to_be_set() -> None:
    catalogue = ENGINES["sglang"]._catalogue(examine(*deployment(Combination("", R1, D), MODELS))[0])  # type: ignore[attr-defined]
    for flag in (*FLAGS.values(), *OWNED):
        found = catalogue.find(f"--{flag}")
        assert found, flag
        assert found.flag == f"--{flag}"
    assert not OWNED.keys() & set(FLAGS.values())
    assert set(SglangOptions.model_fields) - FLAGS.keys() == {
        *("dispatch_tokens_per_rank", "cuda_graphs", "speculative")
    }
    assert {value.partition(".")[0] for value in OWNED.values() if value.startswith("wideep_")} <= {
        *(f"wideep_{name}" for name in Settings.model_fields),
        "wideep_address",
        "wideep_address and wideep_worker_port_base",
        "wideep_network",
    }


# ---- launches ------------------------------------------------------------------------------------


def test_the_ranks_of_a_replica_find_their_head() -> None:
    launches = workers(plan())
    assert len(launches) == 8
    for rank in range(4):
        found = flags(launches[f"decode-0-rank-{rank}"])
        assert (found["--nnodes"], found["--node-rank"]) == ("4", str(rank))
        assert found["--dist-init-addr"] == "192.0.2.6:22003"
        assert (found["--tp-size"], found["--dp-size"], found["--ep-size"]) == ("32", "32", "32")
        assert found["--disaggregation-mode"] == "decode"
        assert found["--endpoint"] == "dyn://dynamo.backend.generate"
        assert found["--host"] == f"192.0.2.{6 + rank}"
    assert flags(launches["prefill-0-rank-0"])["--endpoint"] == "dyn://dynamo.prefill.generate"


def test_prefill_and_decode_get_what_suits_them() -> None:
    launches = workers(plan())
    prefill, decode = flags(launches["prefill-0-rank-0"]), flags(launches["decode-0-rank-0"])
    assert (prefill["--deepep-mode"], decode["--deepep-mode"]) == ("normal", "low_latency")
    assert prefill["--chunked-prefill-size"] == str(8192 * 32)
    assert decode["--cuda-graph-max-bs-decode"] == "128"
    assert decode["--max-running-requests"] == str(128 * 32)
    assert not {"--cuda-graph-max-bs-decode", "--max-running-requests"} & prefill.keys()
    assert (
        not {"--chunked-prefill-size", "--kv-events-config", "--disaggregation-bootstrap-port"}
        & decode.keys()
    )
    for found in (prefill, decode):
        assert found["--moe-dense-tp-size"] == "1"
        assert found["--enable-dp-lm-head"] is True
        assert found["--enable-eplb"] is True
        assert found["--ep-num-redundant-experts"] == "32"
        assert found["--page-size"] == "64"
    dispatch = "SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK"
    assert dispatch not in launches["prefill-0-rank-0"].env
    assert launches["decode-0-rank-0"].env[dispatch] == "128"


def test_only_the_head_answers_and_its_health_is_its_endpoints() -> None:
    launches = workers(plan())
    head, follower = launches["decode-0-rank-0"].health, launches["decode-0-rank-1"].health
    assert (head.kind, head.json_path, head.json_value) == ("http", "endpoints.generate", "ready")
    assert head.url == "http://192.0.2.6:22000/health"
    assert (follower.kind, follower.settle_s) == ("process", 10)
    assert all(launch.lock_memory for launch in launches.values())


def test_the_head_lists_every_port_that_sglang_derives() -> None:
    launches = workers(plan())
    head = {p.purpose: p.port for p in launches["prefill-0-rank-0"].ports}
    assert {head[p] - head["dist_init"] for p in ("tokenizer", "load", "handshake")} == {1, 6, 13}
    assert [head[f"kv_events_{n}"] for n in range(8)] == list(range(21020, 21028))
    follower = {p.purpose: p.port for p in launches["prefill-0-rank-3"].ports}
    assert set(follower) == {"system", "rpc", *(f"kv_events_{n}" for n in range(24, 32))}
    assert follower["kv_events_31"] == 21051


def test_ranks_of_nixls_all_to_all_meet_at_a_port_of_the_plan() -> None:
    """SGLang takes 29600 on every head otherwise, whoever else runs on that host."""
    launches = workers(plan(R1, D, options={"a2a_backend": "nixl"}))
    heads = {launch.env["SGLANG_TCP_STORE_PORT"] for name, launch in launches.items() if "decode" in name}
    assert heads == {"22018"}
    assert ("tcp_store", 22018) in [(p.purpose, p.port) for p in launches["decode-0-rank-0"].ports]
    assert "SGLANG_TCP_STORE_PORT" not in launches["prefill-0-rank-0"].env


def test_prefill_keeps_no_mapping_of_a_decode_worker_on_its_host() -> None:
    """A killed decode worker's KV cache stayed on the GPU as long as the prefill worker had it mapped."""
    beside, apart = workers(plan(LITE)), workers(plan(R1))
    assert beside["prefill-0"].env["UCX_CUDA_IPC_CACHE"] == "n"
    for launch in (beside["decode-0"], *apart.values()):
        assert "UCX_CUDA_IPC_CACHE" not in launch.env
    mooncake = workers(plan(LITE, variables={"wideep_kv_transfer": "mooncake"}))["prefill-0"]
    assert "UCX_CUDA_IPC_CACHE" not in mooncake.env


def test_the_operator_may_keep_mappings() -> None:
    groups, hosts = deployment(Combination("", LITE, P), MODELS)
    hosts["c0"]["wideep_pools"]["prefill"]["env"] = {"UCX_CUDA_IPC_CACHE": "y"}
    assert workers(make_plan(groups, hosts))["prefill-0"].env["UCX_CUDA_IPC_CACHE"] == "y"


def test_a_dense_model_that_cannot_divide_attention_by_data_is_named() -> None:
    found = problems(Combination("", LLAMA, D, both={"data_parallel_size": 2}))
    pools = ("prefill", "decode")
    assert [p.where for p in found] == [f"wideep_pools.{pool}.options.data_parallel_size" for pool in pools]
    assert all("LlamaForCausalLM" in p.message and "replicas_per_node" in p.remedy for p in found)


def test_what_an_operator_adds_for_nvshmem_does_not_mean_deepep_between_hosts() -> None:
    groups, hosts = deployment(Combination("", LITE, P), MODELS)
    hosts["c0"]["wideep_pools"]["prefill"]["env"] = {"NVSHMEM_DISABLE_NVLS": "1"}
    assert make_plan(groups, hosts).publish().to_dict()["hosts"]["c0"]["needs"]["gpu"]["nvshmem"] is False


def test_kv_events_bind_on_the_first_port_and_only_for_a_kv_router() -> None:
    config = flags(workers(plan())["prefill-0-rank-1"])["--kv-events-config"]
    assert json.loads(config) == {"publisher": "zmq", "endpoint": "tcp://*:21020", "topic": "kv-events"}
    random = workers(plan(variables={"wideep_router_mode": "random"}))["prefill-0-rank-1"]
    assert "--kv-events-config" not in flags(random)


def test_without_dp_attention_only_the_head_publishes() -> None:
    launches = workers(plan(LITE, P, options={"data_parallel_size": 1}))
    assert {p.purpose for p in launches["prefill-0"].ports} == {
        "system",
        "rpc",
        "dist_init",
        "bootstrap",
        "kv_events_0",
        "gang",
    }


def test_one_node_needs_no_ranks() -> None:
    found = flags(workers(plan(LITE))["decode-0"])
    assert (
        not {"--nnodes", "--node-rank", "--moe-a2a-backend", "--deepep-mode", "--moe-dense-tp-size"}
        & found.keys()
    )
    assert found["--ep-size"] == "4"
    assert workers(plan(LITE))["decode-0"].env["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"


def test_a_dense_model_gets_no_expert_flag() -> None:
    found = flags(workers(plan(DENSE))["decode-0"])
    assert found["--dp-size"] == "2"
    assert not [
        name for name in found if "ep-" in name or "moe" in name or "deepep" in name or "eplb" in name
    ]


def test_an_aggregated_pool_has_no_disaggregation() -> None:
    groups, hosts = deployment(Combination("", LITE, D), MODELS)
    groups = {"control": ["c0"], "frontend": ["c0"], "aggregated": ["c0"]}
    hosts["c0"]["wideep_pools"] = {"aggregated": {"options": {"a2a_backend": "deepep"}}}
    launch = workers(make_plan(groups, hosts))["aggregated-0"]
    found = flags(launch)
    assert not [name for name in found if "disaggregation" in name]
    assert "--deepep-mode" not in found
    assert "--chunked-prefill-size" in found
    assert "--cuda-graph-max-bs-decode" in found
    assert not any(name.startswith("UCX") for name in launch.env)


def test_each_kv_backend_gets_its_devices_the_way_it_reads_them() -> None:
    nixl = workers(plan(variables={"wideep_network": IB}))["decode-0-rank-0"]
    assert nixl.env["UCX_NET_DEVICES"] == "mlx5_0:1,mlx5_1:1"
    assert "--disaggregation-ib-device" not in flags(nixl)
    mooncake = workers(plan(variables={"wideep_network": IB, "wideep_kv_transfer": "mooncake"}))[
        "decode-0-rank-0"
    ]
    assert flags(mooncake)["--disaggregation-ib-device"] == "mlx5_0,mlx5_1"
    assert flags(mooncake)["--disaggregation-transfer-backend"] == "mooncake"
    assert "UCX_NET_DEVICES" not in mooncake.env


def test_addresses_come_from_the_inventory_and_caches_stay_in_the_state_directory() -> None:
    env = workers(plan())["decode-0-rank-2"].env
    assert (env["SGLANG_HOST_IP"], env["DYN_SYSTEM_HOST"]) == ("192.0.2.8", "192.0.2.8")
    assert env["NCCL_SOCKET_IFNAME"] == "=eth0"
    caches = [value for name, value in env.items() if name.endswith(("CACHE_DIR", "WORKSPACE_BASE"))]
    assert len(caches) == 5
    here = f"/var/lib/wideep/cache/sglang-{RELEASE.engines['sglang']}"
    assert all(value.startswith(here) for value in caches)


def test_switches_and_extras_arrive() -> None:
    launch = workers(
        plan(
            LITE,
            D,
            options={"cuda_graphs": False, "kv_cache_dtype": "fp8", "sglang": {"max_total_tokens": 4096}},
            both={"kv_cache_dtype": "fp8"},
            extra={"log_level": "debug"},
        )
    )["decode-0"]
    found = flags(launch)
    assert found["--cuda-graph-backend-decode"] == "disabled"
    assert found["--kv-cache-dtype"] == "fp8_e4m3"
    assert found["--max-total-tokens"] == "4096"
    assert found["--log-level"] == "debug"
    prefill = workers(plan(LITE, P, options={"radix_cache": False}))["prefill-0"]
    assert flags(prefill)["--disable-radix-cache"] is True


def test_deprecated_flags_are_rendered_by_their_new_names() -> None:
    made = plan(R1, D, releases=("1.5.1",), extra={"cuda-graph-max-bs": 96})
    found = flags(workers(made)["decode-0-rank-0"])
    assert found["--cuda-graph-max-bs-decode"] == "96"
    assert found["--max-running-requests"] == "3072"  # as with the option
    assert "--cuda-graph-max-bs" not in found
    (said,) = [p for p in made.warnings if "deprecated" in p.message]
    assert said.where == "wideep_pools.decode.extra_args.cuda-graph-max-bs"
    assert "cuda_graph_max_bs" in said.remedy
    found = flags(workers(plan(LITE, D, extra={"disable-cuda-graph": True}))["decode-0"])
    assert found["--cuda-graph-backend-decode"] == found["--cuda-graph-backend-prefill"] == "disabled"


def test_options_of_another_engine_are_skipped() -> None:
    assert plan(R1, D, options={"trtllm": {"moe_backend": "WIDEEP"}})


def test_cutlass_mla_gets_its_page_size_by_itself() -> None:
    older = {"wideep_gpu": "b200-180gb", "wideep_release": find_release().previous}  # which still has it
    changes = {"both": {"attention_backend": "cutlass_mla"}, "variables": older}
    assert flags(workers(plan(R1, D, **changes))["decode-0-rank-0"])["--page-size"] == "128"
    changes = {"options": {"attention_backend": "cutlass_mla"}, "variables": older}
    assert flags(workers(plan(R1, D, **changes))["prefill-0-rank-0"])["--page-size"] == "128"


def test_a_page_size_of_one_pool_is_that_of_both() -> None:
    made = workers(plan(R1, D, options={"page_size": 128}))
    assert flags(made["prefill-0-rank-0"])["--page-size"] == "128"


def test_more_hosts_make_more_replicas() -> None:
    groups, hosts = deployment(Combination("", R1, P), MODELS)
    for n in range(4, 8):
        name = f"prefill{n}"
        groups["prefill"].append(name)
        hosts[name] = {**hosts["prefill0"], "ansible_host": f"192.0.2.{50 + n}"}
    made = make_plan(groups, hosts)
    assert made.expected["prefill"].count == 2
    assert flags(workers(made)["prefill-1-rank-3"])["--dist-init-addr"] == "192.0.2.54:21003"


def test_deepep_between_hosts_without_rdma_is_said() -> None:
    groups, hosts = inventory("deepseek_r1_sglang")
    assert not any("RDMA" in w.message for w in make_plan(groups, hosts).warnings)
    for own in hosts.values():
        own["wideep_network"] = {}
    said = [w.message for w in make_plan(groups, hosts).warnings]
    assert any("DeepEP between hosts needs RDMA" in message for message in said)


def test_fp8_on_old_gpus_is_refused_with_experts_and_said_without(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = A100 | {"wideep_eplb": {}}
    assert [p.where for p in problems(Combination("", R1, P, variables=variables))] == [
        "wideep_gpu with deepseek-ai/DeepSeek-R1"
    ]
    dense = next(card for name, card in CARDS.all().items() if name == DENSE)
    fp8 = dense.model_copy(update={"weights": "fp8"})
    monkeypatch.setattr("wideep.engines.case.find_model", lambda *_: (fp8, []))
    (said,) = plan(DENSE, P, variables=A100).warnings
    assert "run slowly" in said.message


def spread(nodes: int, each: int, pool: str = "prefill", **variables: Any) -> list[Problem]:
    """Return what is said of R1 over so many hosts with so many GPUs, in pool `pool` (the other as it is)."""
    groups, hosts = deployment(Combination("", R1, P, variables={"wideep_eplb": {}}), MODELS)
    first = hosts[f"{pool}0"]
    groups[pool] = [f"{pool}{n}" for n in range(nodes)]
    hosts |= {name: first | {"ansible_host": f"192.0.2.{99 + n}"} for n, name in enumerate(groups[pool])}
    pools = {
        name: own | ({"nodes_per_replica": nodes, "gpus_per_node": each} if name == pool else {})
        for name, own in first["wideep_pools"].items()
    }
    pools[pool]["options"] = {"data_parallel_size": nodes * each, "a2a_backend": "deepep"}
    for own in hosts.values():
        own |= {"wideep_pools": pools, "wideep_gpu": "h200-141gb", **variables}
    try:
        return list(make_plan(groups, hosts).warnings)
    except RefusedError as refused:
        return list(refused.problems)


@pytest.mark.parametrize(
    ("nodes", "each", "where", "message", "remedy"),
    [
        (5, 4, "nodes_per_replica", "counts GPUs in groups of 8, 20 are not whole", "a2a_backend: none"),
        (
            8,
            4,
            "gpus_per_node",
            "in a row for those of one host (NVLink), and a replica has 4",
            "8 GPUs",
        ),
        (2, 4, "gpus_per_node", "a replica has 4 on each", "give a replica 8 GPUs of each host"),
        (5, 8, "nodes_per_replica", "do not exist for 40 GPUs", "use 32 or 64 GPUs"),
        (21, 8, "nodes_per_replica", "do not exist for 168 GPUs", "use 160 GPUs"),
        (6, 8, "nodes_per_replica", "know 48 GPUs in versions after 1.2.1 only", "or use 32 or 64 GPUs"),
    ],
)
def test_deepep_is_made_for_hosts_of_eight(
    nodes: int, each: int, where: str, message: str, remedy: str
) -> None:
    spares = {"wideep_eplb": {"enabled": True, "redundant_experts": 32}}
    said = spread(nodes, each, **spares)
    found = [p for p in said if p.where == f"{PREFILL}.{where}" and "DeepEP" in p.message]
    assert [(message in p.message, remedy in p.remedy) for p in found] == [(True, True)]


def test_low_latency_takes_any_number_of_whole_groups_and_nvlink_between_hosts_other_hosts() -> None:
    def said(*args: Any, **variables: Any) -> list[Problem]:
        return [p for p in spread(*args, **variables) if "DeepEP" in p.message and "RDMA" not in p.message]

    assert said(5, 8, "decode") == []
    assert said(8, 4, "decode") == []
    assert said(5, 4, "decode")
    assert said(8, 4, "prefill", wideep_gpu="gb200-nvl72") == []
    assert said(8, 8) == []


@pytest.mark.parametrize(("nodes", "redundant"), [(9, 32), (18, 32)])
def test_advice_that_is_followed_is_not_given_again(nodes: int, redundant: int) -> None:
    said = spread(nodes, 8, "decode", wideep_eplb={"enabled": True, "redundant_experts": redundant})
    assert not [p for p in said if p.where == "wideep_eplb.redundant_experts"]


def test_sixteen_bit_experts_over_hosts_do_without_deepep() -> None:
    groups, hosts = inventory("deepseek_r1_sglang", wideep_model=NAMES[LITE], wideep_eplb={})
    found = flags(workers(make_plan(groups, hosts))["prefill-0-rank-0"])
    assert "--moe-a2a-backend" not in found
    assert found["--ep-size"] == "32"


def test_deepep_for_sixteen_bit_experts_gets_the_kernel_that_takes_them() -> None:
    changes = {"both": {"a2a_backend": "deepep"}}
    launches = workers(plan(LITE, D, **changes))
    decode, prefill = flags(launches["decode-0"]), flags(launches["prefill-0"])
    assert (decode["--moe-runner-backend"], decode["--deepep-mode"]) == ("deep_gemm", "low_latency")
    assert prefill["--moe-runner-backend"] == "deep_gemm"
    assert "--deepep-mode" not in prefill  # auto


MOVED = {"enabled": True, "redundant_experts": 16}


def test_one_pool_with_eplb_does_without_deepep() -> None:
    names = {"wideep_engine": "sglang", "wideep_aggregated": True, "wideep_eplb": MOVED}
    found = flags(workers(make_plan(*inventory("deepseek_r1_trtllm_h100", **names)))["aggregated-1-rank-0"])
    assert "--moe-a2a-backend" not in found
    assert found["--enable-eplb"] is True
    found = flags(
        workers(make_plan(*inventory("deepseek_r1_trtllm_h100", **names | {"wideep_eplb": {}})))[
            "aggregated-0-rank-0"
        ]
    )
    assert found["--moe-a2a-backend"] == "deepep"
    assert "--deepep-mode" not in found  # auto


def test_one_pool_with_eplb_and_deepep_is_refused() -> None:
    names = {"wideep_engine": "sglang", "wideep_aggregated": True, "wideep_eplb": MOVED}
    groups, hosts = inventory("deepseek_r1_trtllm_h100", **names)
    for own in hosts.values():
        pools = own["wideep_pools"]
        aggregated = {**pools["aggregated"]}
        aggregated["options"] = {**aggregated["options"], "a2a_backend": "deepep"}
        own["wideep_pools"] = pools | {"aggregated": aggregated}
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, hosts)
    (problem,) = refused.value.problems
    assert problem.where == "wideep_eplb.enabled"
    assert "pools prefill and decode" in problem.remedy


@pytest.mark.parametrize(
    ("backend", "name"), [("mooncake", "SGLANG_MOONCAKE_EP"), ("nixl", "SGLANG_NIXL_EP")]
)
def test_each_all_to_all_reads_its_own_limit(backend: str, name: str) -> None:
    options = {"a2a_backend": backend, "cuda_graph_max_bs": 64, "dispatch_tokens_per_rank": 64}
    launch = workers(plan(R1, D, options=options, extra={"elastic-ep-backend": "mooncake"}))[
        "decode-0-rank-0"
    ]
    limits = {k: v for k, v in launch.env.items() if k.endswith("DISPATCH_TOKENS_PER_RANK")}
    assert limits == {f"{name}_NUM_MAX_DISPATCH_TOKENS_PER_RANK": "64"}
    assert flags(launch)["--deepep-mode"] == "low_latency"


def with_env(**env: str) -> list[Problem]:
    """Return what is said of an environment in R1's decode pool."""
    groups, hosts = deployment(Combination("", R1, D, variables={"wideep_network": IB}), MODELS)
    for own in hosts.values():
        own["wideep_pools"]["decode"]["env"] = env
    try:
        return list(make_plan(groups, hosts).warnings)
    except RefusedError as refused:
        return list(refused.problems)


def test_the_limit_of_each_all_to_all_is_an_option() -> None:
    name = "SGLANG_NIXL_EP_NUM_MAX_DISPATCH_TOKENS_PER_RANK"
    (problem,) = [p for p in with_env(**{name: "256"}) if p.where.endswith(name)]
    assert "options.sglang.dispatch_tokens_per_rank" in problem.remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SGLANG_SIMULATE_ACC_LEN", "2.5"),
        ("SGLANG_SIMULATE_ACC_METHOD", "match-expected"),
        ("SGLANG_SIMULATE_UNIFORM_EXPERTS", "1"),
        ("SGLANG_DISAGGREGATION_WAITING_TIMEOUT", "100000"),
        ("SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT", "100000"),
    ],
)
def test_what_only_a_benchmark_may_do_has_to_be_said(name: str, value: str) -> None:
    groups, hosts = deployment(Combination("", LITE, D), MODELS)
    for own in hosts.values():
        own["wideep_pools"]["decode"]["env"] = {name: value}
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, hosts)
    (problem,) = refused.value.problems
    assert problem.where == f"wideep_pools.decode.env.{name}"
    assert "wideep_benchmark_only: true" in problem.remedy
    for own in hosts.values():
        own["wideep_benchmark_only"] = True
    (said,) = make_plan(groups, hosts).warnings
    assert said.where == problem.where
    assert "accepted for a benchmark" in said.message


def test_more_requests_than_deepep_carries_are_a_benchmarks_own_matter() -> None:
    groups, hosts = deployment(Combination("", R1, D, options={"max_running_requests": 4128}), MODELS)
    with pytest.raises(RefusedError, match="wideep_benchmark_only: true"):
        make_plan(groups, hosts)
    for own in hosts.values():
        own["wideep_benchmark_only"] = True
    said = [problem for problem in make_plan(groups, hosts).warnings if "129 sequences" in problem.message]
    assert [problem.where for problem in said] == [f"{OPTIONS}.max_running_requests"]


def test_patience_that_hides_dead_peers_is_said() -> None:
    names = ("SGLANG_DISAGGREGATION_WAITING_TIMEOUT", "SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT")
    for name in names:
        (said,) = [p for p in with_env(**{name: "3600"}) if p.where.endswith(name)]
        assert (said.severity, "3600 s hide a dead" in said.message) == ("warning", True)
        assert not [p for p in with_env(**{name: "600"}) if p.where.endswith(name)]


@pytest.mark.parametrize(
    ("name", "value", "severity"),
    [
        ("UCX_TLS", "tcp", "error"),
        ("UCX_TLS", "rc,tcp", "warning"),
        ("NCCL_IB_DISABLE", "1", "error"),
        ("NCCL_NET", "Socket", "error"),
    ],
)
def test_environment_that_leaves_rdma_aside_is_not_silent(name: str, value: str, severity: str) -> None:
    (problem,) = [p for p in with_env(**{name: value}) if p.where == f"wideep_pools.decode.env.{name}"]
    assert problem.severity == severity
    assert "past the RDMA devices" in problem.message


def test_a_plugin_of_nccl_has_the_last_word() -> None:
    assert workers(plan(variables={"wideep_network": IB}))["decode-0-rank-1"].env["NCCL_NET"] == "IB"
    assert not [p for p in with_env(NCCL_NET="IBext_v10") if "NCCL_NET" in p.where]
    groups, hosts = deployment(Combination("", LITE, D, variables={"wideep_network": IB}), MODELS)
    hosts["c0"]["wideep_pools"]["decode"]["env"] = {"NCCL_IB_DISABLE": "1"}
    assert not [w for w in make_plan(groups, hosts).warnings if "NCCL" in w.where]  # one host: NVLink


@pytest.mark.parametrize("engine", ["sglang", "trtllm"])
def test_a_drain_that_cuts_answers_is_said(engine: str) -> None:
    def said(seconds: int) -> list[Problem]:
        names = {"wideep_engine": engine, "wideep_runtime": "existing", "wideep_python": "/opt/x/bin/python"}
        made = make_plan(*inventory("sglang_single_node", **names, wideep_drain_timeout_s=seconds))
        return [w for w in made.warnings if w.where == "wideep_drain_timeout_s"]

    assert [w.message.startswith("a worker that stops gets 5 s") for w in said(5)] == [True]
    assert said(60) == []


def test_sixteen_bit_through_the_normal_mode_is_for_who_insists() -> None:
    groups, hosts = deployment(
        Combination("", LITE, P, options={"a2a_backend": "deepep", "deepep_mode": "normal"}), MODELS
    )
    hosts["c0"]["wideep_pools"]["prefill"]["env"] = {"SGLANG_DEEPEP_BF16_DISPATCH": "1"}
    assert make_plan(groups, hosts)


def test_a_directory_of_another_model_is_said() -> None:
    groups, hosts = inventory("deepseek_r1_sglang")
    for own in hosts.values():
        own["wideep_model_path"] = "/data/models/DeepSeek-V2-Lite-Chat"
    [said] = [w for w in make_plan(groups, hosts).warnings if w.where == "wideep_model_path"]
    assert "DeepSeek-V2-Lite-Chat, and deepseek-ai/DeepSeek-R1 would be served from it" in said.message
