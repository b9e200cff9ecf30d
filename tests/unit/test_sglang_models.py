"""What SGLang's rules make of other models than R1: formats of experts, windows, layers, estimates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wideep.plan import Plan, make_plan
from wideep.problems import Problem, RefusedError
from wideep.reference.models import MODELS, Format, Formats, ModelCard
from wideep.reference.release import releases

R1 = MODELS.all()["deepseek-r1"]
MODEL = R1.names[0]
GQA: dict[str, Any] = {"kind": "gqa", "heads": 64, "kv_heads": 8, "head_dim": 64}
Serve = Callable[..., Plan]
HYBRID = "set the same tensor_parallel_size / data_parallel_size in both pools"


def card(stored: Format | None = None, **changes: Any) -> ModelCard:
    """Return R1 with experts of another format, and other changes."""
    own = {"formats": Formats(experts=stored)} if stored else {}
    return ModelCard.model_validate(R1.model_dump() | own | changes)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Plan one pool, or prefill and decode, of a card on hosts of eight GPUs."""

    def plan(
        of: ModelCard, *, hosts: int = 2, gpu: str = "h200-141gb", pools: Any = None, **variables: Any
    ) -> Plan:
        monkeypatch.setattr("wideep.engines.case.find_model", lambda *_: (of, []))
        names = [f"h{n}" for n in range(hosts)]
        pools = pools or {"aggregated": {"nodes_per_replica": hosts, "options": variables.pop("options", {})}}
        groups = {"control": names[:1], "frontend": names[:1]}
        groups |= dict(zip(pools, [[name] for name in names], strict=False)) if len(pools) > 1 else {}
        groups |= {"aggregated": names} if len(pools) == 1 else {}
        shared = {
            "wideep_engine": "sglang",
            "wideep_model": MODEL,
            "wideep_model_path": "/models/it",
            "wideep_runtime": "existing",
            "wideep_python": "/opt/python3",
            "wideep_gpu": gpu,
            "wideep_gpus_per_node": 8,
            "wideep_interface": "eth0",
            "wideep_state_dir": "/var/lib/wideep",
            "etcd_install_method": "archive",
            "wideep_pools": pools,
            **variables,
        }
        return make_plan(
            groups, {name: {"ansible_host": f"192.0.2.{n}", **shared} for n, name in enumerate(names, 1)}
        )

    return plan


def refusal(plan: Callable[[], Plan]) -> list[Problem]:
    with pytest.raises(RefusedError) as refused:
        plan()
    return list(refused.value.problems)


def worker(made: Plan) -> str:
    return next(
        " ".join(launch.argv)
        for launches in made.launches.values()
        for launch in launches
        if launch.component == "worker"
    )


# ---- formats -------------------------------------------------------------------------------------

SERVED: list[Format] = ["fp8-block", "w4afp8"]
NOT_BY_DEFAULT: list[Format] = [
    "fp8-channel",
    "fp8-tensor",
    "int4",
    "int8",
    "nvfp4",
    "mxfp4",
    "mxfp8",
    "bf16",
]
WIDE = {"data_parallel_size": 16, "context_length": 65536}


@pytest.mark.parametrize("experts", SERVED)
def test_deepep_is_chosen_for_what_it_serves(serve: Serve, experts: Format) -> None:
    assert "--moe-a2a-backend deepep" in worker(serve(card(experts), options=WIDE))


@pytest.mark.parametrize("experts", NOT_BY_DEFAULT)
def test_deepep_is_not_chosen_for_other_formats(serve: Serve, experts: Format) -> None:
    words = worker(serve(card(experts, block=1), gpu="b200-180gb", options=WIDE))
    assert "--moe-a2a-backend" not in words
    assert "--ep-size 16" in words


def test_fp8_of_which_no_block_is_known_does_without_deepep(serve: Serve) -> None:
    assert "--moe-a2a-backend" not in worker(serve(card(block=1), options=WIDE))


@pytest.mark.parametrize("experts", ["fp8", "fp8-channel", "int4", "int8"])
def test_deepep_is_refused_for_formats_without_a_kernel(serve: Serve, experts: Format) -> None:
    asked = WIDE | {"a2a_backend": "deepep"}
    found = refusal(lambda: serve(card(experts, block=1), options=asked))
    (said,) = [p for p in found if p.where.endswith("a2a_backend")]
    assert f"no kernel that takes tokens for {experts} experts" in said.message
    assert said.remedy.startswith("set a2a_backend: none")
    assert serve(card(experts, block=1), options=asked | {"moe_runner_backend": "humming"})


@pytest.mark.parametrize(
    ("experts", "runner"),
    [
        ("nvfp4", "flashinfer_cutedsl"),
        ("fp4", "flashinfer_cutedsl"),
        ("mxfp4", "deep_gemm"),
        ("mxfp8", "deep_gemm"),
    ],
)
def test_formats_whose_kernel_has_to_be_named(serve: Serve, experts: Format, runner: str) -> None:
    asked = WIDE | {"a2a_backend": "deepep", "chunked_prefill_size": 2048}
    found = refusal(lambda: serve(card(experts, block=1), gpu="b200-180gb", options=asked))
    (said,) = [p for p in found if p.where.endswith("moe_runner_backend")]
    assert f"moe_runner_backend auto cannot take tokens for {experts} experts" in said.message
    assert f"set moe_runner_backend: {runner}" in said.remedy
    words = worker(
        serve(card(experts, block=1), gpu="b200-180gb", options=asked | {"moe_runner_backend": runner})
    )
    assert f"--moe-runner-backend {runner}" in words
    assert ("--deepep-mode low_latency" in words) == (runner == "flashinfer_cutedsl")


def test_cutedsl_has_the_low_latency_layout_only(serve: Serve) -> None:
    asked = WIDE | {
        "a2a_backend": "deepep",
        "moe_runner_backend": "flashinfer_cutedsl",
        "deepep_mode": "normal",
    }
    found = refusal(lambda: serve(card("nvfp4", block=1), gpu="b200-180gb", options=asked))
    assert "low-latency layout only" in "".join(p.message for p in found if p.where.endswith("deepep_mode"))


def test_the_experts_of_deepseek_v4_are_fp8_to_sglang(serve: Serve) -> None:
    v4 = card("mxfp4", block=1, architecture="DeepseekV4ForCausalLM")
    assert "deepep" in worker(serve(v4, gpu="b200-180gb", options=WIDE | {"a2a_backend": "deepep"}))


def test_a_quantization_that_is_made_while_loading_counts(serve: Serve) -> None:
    pool = {
        "nodes_per_replica": 2,
        "options": WIDE | {"a2a_backend": "deepep"},
        "extra_args": {"quantization": "fp8"},
    }
    assert serve(card("bf16", block=1), gpu="b200-180gb", pools={"aggregated": pool})


def test_nvfp4_before_blackwell_is_unpacked_or_refused(serve: Serve) -> None:
    made = serve(card("nvfp4", block=1), options=WIDE)
    assert any("does not calculate in NVFP4 (from SM 100 on)" in p.message for p in made.warnings)
    trtllm = WIDE | {"moe_runner_backend": "flashinfer_trtllm"}
    assert any(
        "needs Blackwell" in p.message for p in refusal(lambda: serve(card("nvfp4", block=1), options=trtllm))
    )
    made = serve(card("nvfp4", block=1), gpu="b200-180gb", options=trtllm)
    assert not any("NVFP4" in p.message for p in made.warnings)


def test_megamoe_is_of_fp8_on_hopper_and_of_four_bits_on_blackwell(serve: Serve) -> None:
    asked = WIDE | {"a2a_backend": "megamoe"}
    assert "--moe-a2a-backend megamoe" in worker(serve(card(), options=asked))
    assert "FP4 experts only" in refusal(lambda: serve(card(), gpu="b200-180gb", options=asked))[0].message
    four = card("mxfp4", block=1)
    assert serve(four, gpu="b200-180gb", options=asked)
    assert "FP8 in blocks on Hopper" in refusal(lambda: serve(four, options=asked))[0].message
    older = refusal(lambda: serve(card(), options=asked, wideep_release=releases()[-1]))
    assert "needs Blackwell" in older[0].message


def test_an_all_to_all_of_later_releases_is_named(serve: Serve) -> None:
    asked = WIDE | {"a2a_backend": "deepep_v2"}
    words = serve(card(), options=asked)
    assert "--moe-a2a-backend deepep_v2" in worker(words)
    env = next(x.env for own in words.launches.values() for x in own if x.component == "worker")
    assert env["SGLANG_DEEPEP_V2_NUM_MAX_DISPATCH_TOKENS_PER_RANK"] == "8192"  # a chunk of a rank
    (said,) = refusal(lambda: serve(card(), options=asked, wideep_release=releases()[-1]))
    assert "'deepep_v2' is not one of none, deepep" in said.message


def test_deepseek_v4_has_pages_of_one_size(serve: Serve) -> None:
    v4 = card("mxfp4", block=1, architecture="DeepseekV4ForCausalLM")
    assert "--page-size 256" in worker(serve(v4, gpu="b300"))
    warnings = serve(v4, gpu="b300", options={"page_size": 64}).warnings
    (said,) = [p for p in warnings if "pages of 256" in p.message]
    assert said.where == "wideep_pools.aggregated.options.page_size"


# ---- layers, windows -----------------------------------------------------------------------------


def test_a_model_without_dense_layers_is_not_judged_by_them(serve: Serve) -> None:
    experts = {"routed": 256, "shared": 0, "per_token": 8, "intermediate_size": 1536}
    plain = card(dense_layers=0, intermediate_size=1536, experts=experts, attention=GQA)
    assert serve(plain, hosts=1, options={"tensor_parallel_size": 8, "expert_parallel_size": 8})


def pools(prefill: int, decode: int) -> dict[str, Any]:
    """Return pools of one host each, with attention over so many GPUs."""
    return {
        "prefill": {"options": {"data_parallel_size": 8 // prefill}},
        "decode": {"options": {"data_parallel_size": 8 // decode}},
    }


GROUPED = card("bf16", block=1, attention=GQA)
WINDOWS = card("bf16", block=1, attention=GQA | {"window": {"tokens": 128, "layers": 30}})
NAMED = card("bf16", block=1, attention=GQA, architecture="GptOssForCausalLM")
INDEXED = card(
    "bf16", block=1, attention=GQA | {"index": {"layers": 9, "heads": 4, "head_dim": 128, "tokens": 2048}}
)
STATES = card(
    "bf16", block=1, attention=GQA | {"linear": {"layers": 45, "parameters": 1000, "state_bytes": 1000}}
)


@pytest.mark.parametrize("model", [WINDOWS, NAMED, INDEXED], ids=["windows", "by its class", "index"])
def test_hybrid_models_want_equal_attention_on_both_sides(serve: Serve, model: ModelCard) -> None:
    found = refusal(lambda: serve(model, gpu="b300", pools=pools(8, 1)))
    (said,) = [p for p in found if "different TP sizes" in p.message]
    assert (said.where, said.remedy) == ("wideep_pools.decode.options.data_parallel_size", HYBRID)
    assert serve(model, gpu="b300", pools=pools(2, 2))


@pytest.mark.parametrize("model", [GROUPED, STATES], ids=["heads", "states"])
def test_other_models_without_latent_attention_are_warned_of_unequal_attention(
    serve: Serve, model: ModelCard
) -> None:
    (said,) = [
        p for p in serve(model, gpu="b300", pools=pools(4, 1)).warnings if "cuts the KV cache" in p.message
    ]
    assert said.remedy == HYBRID


def test_latent_attention_has_nothing_to_cut(serve: Serve) -> None:
    made = serve(card(), pools=pools(8, 1))
    assert not any("attention over" in p.message for p in made.warnings)


# ---- memory --------------------------------------------------------------------------------------


def test_a_pipeline_halves_weights_and_cache(serve: Serve) -> None:
    options = {
        "tensor_parallel_size": 8,
        "expert_parallel_size": 1,
        "a2a_backend": "none",
        "mem_fraction_static": 0.88,
        "chunked_prefill_size": 4096,
    }
    pool = {"nodes_per_replica": 2, "options": options, "extra_args": {"pp-size": 2}}
    made = serve(card(), gpu="h100-80gb", pools={"aggregated": pool})
    (budget,) = made.engine.memory(made.deployment).values()
    assert 39 < sum(budget.weights.values()) / 2**30 < 43


def test_what_is_estimated_refuses_nothing(serve: Serve) -> None:
    options = {"expert_parallel_size": 1, "mem_fraction_static": 0.75, "chunked_prefill_size": 163840}
    made = serve(card(), hosts=1, options=options | {"max_running_requests": 16})
    (budget,) = made.engine.memory(made.deployment).values()
    assert budget.beside["activations"] < 25 * 2**30  # 8 GPUs share it
    made = serve(card(), hosts=1, options=options | {"mem_fraction_static": 0.9, "context_length": 8192})
    assert any("an estimated" in p.message for p in made.warnings)


def test_weights_that_do_not_fit_are_exact(serve: Serve) -> None:
    found = refusal(lambda: serve(card(), hosts=1, gpu="h100-80gb"))
    assert any("do not fit" in p.message or "nothing is left" in p.message for p in found)


# ---- defaults ------------------------------------------------------------------------------------

# What the engine itself would say of such a model on so many of such GPUs.
OF_THE_SHAPE = (
    "do not fit",
    "nothing is left",
    "do not divide",
    "not whole FP8 blocks",
    "has no FP8 arithmetic",
)
SHAPES = ((1, 8), (2, 8), (3, 4), (4, 2), (4, 4), (1, 2), (4, 8))
GPUS = ("h100-80gb", "h200-141gb", "b200-180gb", "gb300-nvl72", "a100-80gb")


@pytest.mark.parametrize("name", MODELS.all())
@pytest.mark.parametrize("release", releases())
def test_what_the_plan_chooses_is_not_refused(serve: Serve, name: str, release: str) -> None:
    of = MODELS.all()[name]
    first = list(MODELS.all()).index(name)
    for position, (hosts, gpus) in enumerate(SHAPES[first % 2 :: 2]):
        gpu = GPUS[(first + position) % len(GPUS)]
        try:
            serve(of, hosts=hosts, gpu=gpu, wideep_gpus_per_node=gpus, wideep_release=release)
        except RefusedError as refused:
            said = [p.message for p in refused.problems if not any(s in p.message for s in OF_THE_SHAPE)]
            assert said == [], f"{hosts} x {gpus} {gpu}"


def test_the_share_of_memory_is_raised_for_weights_that_need_it(serve: Serve) -> None:
    (budget,) = (made := serve(card(), hosts=1)).engine.memory(made.deployment).values()
    assert budget.fraction == 0.8
    (budget,) = (made := serve(card(), hosts=1, gpu="h20-96gb")).engine.memory(made.deployment).values()
    assert (budget.fraction, budget.kv > 0) == (0.92, True)
