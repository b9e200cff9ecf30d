"""The inventory of one GPU and what the proof on a real one is made of (tools/gpu_proof)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.logs import tail
from example_inventories import inventory
from places import program
from servers import Quiet, serving, url

from wideep.deployment.launch import Launch
from wideep.plan import Plan, make_plan
from wideep.problems import Problem, RefusedError
from wideep.reference.models import ModelCard, find_model
from wideep.reference.paths import configs_dir
from wideep.reports.diagnosis import explain

ADDRESS = "192.0.2.7"
SHARED = {"wideep_aggregated": False, "wideep_address": ADDRESS, "wideep_discovery": "file"}
MOE = {"wideep_model": "wideep/deepseek-v3-shape"}


def plan(**variables: Any) -> Plan:
    own = {
        "wideep_state_dir": "/srv/wideep",
        "wideep_runtime": "existing",
        "wideep_python": "/opt/x/bin/python",
    }
    return make_plan(*inventory("one_gpu", **own, **variables))


def refusal(**variables: Any) -> list[Problem]:
    with pytest.raises(RefusedError) as refused:
        plan(**variables)
    return list(refused.value.problems)


def pools(role: str, **options: Any) -> dict[str, Any]:
    """Return the inventory's pools with changed options in one; None takes an option out."""
    _, hosts = inventory("one_gpu")
    all_pools: dict[str, Any] = json.loads(json.dumps(hosts["localhost"]["wideep_pools"]))
    changed = all_pools[role]["options"] | options
    all_pools[role]["options"] = {k: v for k, v in changed.items() if v is not None}
    return {"wideep_pools": all_pools}


def workers(made: Plan) -> dict[str, Launch]:
    return {x.name: x for x in made.launches["localhost"] if x.component == "worker"}


# ---- one GPU for all -----------------------------------------------------------------------------


def test_pools_that_share_the_gpu_both_see_it_and_use_the_hosts_address() -> None:
    made = workers(plan(**SHARED))
    assert set(made) == {"prefill-0", "decode-0"}
    assert {x.env["CUDA_VISIBLE_DEVICES"] for x in made.values()} == {"0"}
    for launch in made.values():
        words = launch.argv
        assert words[words.index("--host") + 1] == ADDRESS
        assert words[words.index("--dist-init-addr") + 1].startswith(f"{ADDRESS}:")
        assert "--max-total-tokens" in words


def test_without_sharing_one_gpu_is_too_few() -> None:
    found = refusal(**SHARED, wideep_share_gpus=False)
    assert "prefill and decode need 2 GPUs on it, it has 1" in [p.message for p in found]


def test_on_a_shared_gpu_each_pool_bounds_its_cache() -> None:
    (problem,) = refusal(**SHARED, **pools("decode", max_total_tokens=None))
    assert problem.where == "wideep_pools.decode.options.max_total_tokens"
    assert "would take each other's" in problem.message


def test_pools_on_a_shared_gpu_have_to_fit_together() -> None:
    (problem,) = refusal(**SHARED, **pools("prefill", max_total_tokens=1_000_000))
    assert "share a GPU of 140.4 GiB" in problem.message
    assert "prefill" in problem.message
    assert "wideep_share_gpus: false" in problem.remedy


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        (pools("aggregated", expert_parallel_size=2), "wideep_pools.aggregated.options.expert_parallel_size"),
        (pools("aggregated", a2a_backend="deepep"), "wideep_pools.aggregated.options.a2a_backend"),
        ({"wideep_eplb": {"enabled": True, "redundant_experts": 8}}, "wideep_eplb.enabled"),
    ],
)
def test_what_takes_several_gpus_is_refused_on_one(variables: dict[str, Any], where: str) -> None:
    assert [problem.where for problem in refusal(**MOE, **variables)] == [where]


def test_an_engine_finds_the_compilers_of_its_environment_first() -> None:
    path = workers(plan())["aggregated-0"].env["PATH"].split(":")
    assert path[0] == "/opt/x/bin"  # ninja
    assert path[-1] == "/usr/local/cuda/bin"  # nvcc


# ---- model shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "card"),
    [
        ("llama_8b", "shape-llama-8b"),
        ("deepseek_v3_small", "shape-deepseek-v3"),
        ("deepseek_v3_small_fp8", "shape-deepseek-v3-fp8"),
    ],
)
def test_the_card_of_a_shape_is_its_configuration(shape: str, card: str) -> None:
    config = json.loads((configs_dir() / "models" / "shapes" / f"{shape}.json").read_text())
    found, _ = find_model(card, "")
    assert isinstance(found, ModelCard)
    names = {
        "layers": "num_hidden_layers",
        "hidden_size": "hidden_size",
        "intermediate_size": "intermediate_size",
        "vocabulary": "vocab_size",
        "context_length": "max_position_embeddings",
    }
    assert {k: getattr(found, k) for k in names} == {k: config[v] for k, v in names.items()}
    quantized = config.get("quantization_config", {})
    assert found.weights == quantized.get("quant_method", "bf16")
    assert found.block == quantized.get("weight_block_size", [1])[0]
    assert found.attention.heads == config["num_attention_heads"]
    if found.experts:
        assert found.dense_layers == config["first_k_dense_replace"]
        assert found.experts.routed == config["n_routed_experts"]
        assert found.experts.per_token == config["num_experts_per_tok"]
        assert found.experts.intermediate_size == config["moe_intermediate_size"]
        assert found.attention.kv_lora_rank == config["kv_lora_rank"]


def test_a_shape_speaks_the_vocabulary_of_its_tokenizer() -> None:
    models = configs_dir() / "models"
    words = json.loads((models / "rehearsal" / "tokenizer.json").read_text())["model"]["vocab"]
    for path in (models / "shapes").glob("*.json"):
        assert json.loads(path.read_text())["vocab_size"] == len(words)


# ---- logs of the real engine ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "pattern", "word"),
    [
        ("ninja-missing", "compiler-missing", "ninja"),
        ("cuda-out-of-memory", "cuda-out-of-memory", "GPU"),
        ("fraction-too-low", "memory-fraction-low", "0.527"),
        ("attention-by-data", "attention-by-data", "Llama"),
        ("gpu-taken", "gpu-taken", "other processes"),
    ],
)
def test_the_cause_in_a_real_log_of_a_crash_loop(log: str, pattern: str, word: str) -> None:
    """Recorded on an H200 and on four H100. The newest start has written only what our launcher says."""
    lines = tail(str(Path(__file__).parent / "logs" / f"{log}.log"), 200)
    (cause,) = explain(lines)
    assert cause.pattern == pattern
    assert word in cause.cause


@pytest.mark.parametrize("log", ["starting-deepep-graphs", "starting-deepep-prefill"])
def test_an_engine_that_is_starting_has_no_cause_but_our_launchers_note(log: str) -> None:
    """Recorded on two H200 with SGLang 0.5.21: DeepEP, prefill and decode, before the first request."""
    lines = tail(str(Path(__file__).parent / "logs" / f"{log}.log"), 400)
    assert [cause.pattern for cause in explain(lines)] == ["limit-low"]


# ---- the load client -----------------------------------------------------------------------------


class Stream(Quiet):
    """Streams three tokens in two events, whatever is asked for."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        events: list[dict[str, Any]] = [
            {"choices": [{"delta": {"content": "a"}}]},
            {"choices": [{"delta": {"content": "b c"}}]},
            {"choices": [], "usage": {"completion_tokens": 3}},
        ]
        for event in events:
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


@pytest.fixture
def server() -> Iterator[str]:
    with serving(Stream) as listening:
        yield url(listening)


@pytest.mark.parametrize(("tokens", "good"), [(3, 5), (4, 0)])
def test_an_answer_of_another_length_is_an_error(
    server: str,
    tokens: int,
    good: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--requests", "5", "--concurrency", "2", "--tokens", str(tokens)]
    monkeypatch.setattr(sys, "argv", ["load.py", server, "m", *options])
    ended = program("tools/gpu_proof/load.py").main()
    report = json.loads(capsys.readouterr().out)
    assert (report["good"], ended) == (good, 0 if good else 1)
    assert report["errors"] == ([] if good else ["3 tokens instead of 4"])
    if good:
        assert report["events"] == 2
