"""Commands and engine YAML of TensorRT-LLM, read back: what becomes of each word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from imports import imported

from wideep.engines.importing import Row
from wideep.importing import read
from wideep.importing.build import Imported, build
from wideep.problems import RefusedError

SERVE = "trtllm-serve serve deepseek-ai/DeepSeek-R1 --tp_size 8"
WORKER = "python3 -m dynamo.trtllm --model-path /data/m --served-model-name deepseek-ai/DeepSeek-R1"


def row(inventory: Imported, name: str) -> Row:
    (found,) = [row for row in inventory.rows if row.name == name]
    return found


@pytest.mark.parametrize(
    ("line", "name", "state", "becomes"),
    [
        (f"{SERVE} --host 0.0.0.0", "--host", "set by wideep", "wideep_address"),
        (f"{SERVE} --tool_parser x", "--tool_parser", "renamed", "extra_args.dyn-tool-call-parser"),
        (f"{SERVE} --frobnicate 1", "--frobnicate", "not understood", "has no such flag"),
        (f"{WORKER} --frobnicate 1", "--frobnicate", "not understood", "no such flag"),
        (f"{WORKER} --override-engine-args x", "--override-engine-args", "not understood", "not JSON"),
        (f"{WORKER} --publish-kv-events", "--publish-kv-events", "set by wideep", "wideep_router_mode"),
    ],
)
def test_a_flag_has_a_row(tmp_path: Path, line: str, name: str, state: str, becomes: str) -> None:
    found = row(imported(tmp_path, line, gpu="h200-141gb"), name)
    assert found.state == state
    assert becomes in found.becomes


def test_flags_of_the_engine_are_options(tmp_path: Path) -> None:
    override = json.dumps({"max_num_tokens": 4096, "kv_cache_config": {"dtype": "fp8"}})
    line = f"{WORKER} --trtllm.max_seq_len 9000 --tensor-parallel-size 8 --override-engine-args '{override}'"
    options = imported(tmp_path, line, gpu="h200-141gb").variables["wideep_pools"]["aggregated"]["options"]
    assert options["tensor_parallel_size"] == 8
    assert 4096 in (options.get("max_num_tokens"), options["trtllm"].get("max_num_tokens"))
    assert "fp8" in (options.get("kv_cache_dtype"), options["trtllm"].get("kv_cache_dtype"))


@pytest.mark.parametrize(
    ("fields", "name", "state", "becomes"),
    [
        ({"frobnicate": 1}, "frobnicate", "not understood", "no such field"),
        ({"backend": "pytorch"}, "backend", "default", "only backend"),
        ({"kv_cache_config": {"dtype": "int3"}}, "kv_cache_config.dtype", "not understood", "takes"),
        ({"load_format": "sharded"}, "load_format", "changed", "auto and dummy"),
        ({"moe_config": {"backend": "WIDEEP"}}, "moe_config.backend", "changed", "gone from the engine"),
        ({"moe_tensor_parallel_size": 2}, "moe_tensor_parallel_size", "renamed", "expert_parallel_size"),
        ({"cuda_graph_config": None}, "cuda_graph_config", "renamed", "cuda_graphs"),
        (
            {"cache_transceiver_config": {"backend": "MPI"}},
            "cache_transceiver_config.backend",
            "changed",
            "nixl",
        ),
        (
            {"moe_config": {"load_balancer": {"frobnicate": 1}}},
            "moe_config.load_balancer.frobnicate",
            "not understood",
            "no such field",
        ),
        (
            {"moe_config": {"load_balancer": "/x/none.yaml"}},
            "moe_config.load_balancer",
            "not understood",
            "beside the source",
        ),
    ],
)
def test_a_field_has_a_row(
    tmp_path: Path, fields: dict[str, Any], name: str, state: str, becomes: str
) -> None:
    (tmp_path / "engine.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    line = f"{SERVE} --extra_llm_api_options engine.yaml"
    found = row(imported(tmp_path, line, gpu="h200-141gb"), name)
    assert found.state == state
    assert becomes in found.becomes


# ---- graphs ------------------------------------------------------------------------------------------


def graph(**services: str) -> str:
    """Return a graph of components: name -> command."""
    components = {
        name: {"extraPodSpec": {"mainContainer": {"command": ["sh", "-c"], "args": [command]}}}
        for name, command in services.items()
    }
    return yaml.safe_dump({"kind": "DynamoGraphDeployment", "spec": {"services": components}})


DECODE = f"{WORKER} --disaggregation-mode decode"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (graph(a=DECODE) + "---\n" + graph(b=DECODE), "2 graphs in one file"),
        (graph(p=f"{WORKER} --disaggregation-mode prefill", a=DECODE, b=DECODE), "are decode workers"),
        (graph(a=DECODE, p="python3 -m dynamo.sglang --model-path m"), "workers of trtllm and of sglang"),
    ],
)
def test_a_graph_that_is_not_one_deployment_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        imported(tmp_path, text, "graph.yaml")


def test_sources_that_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text(graph(a=DECODE), encoding="utf-8")
    (tmp_path / "start.sh").write_text(DECODE, encoding="utf-8")
    with pytest.raises(RefusedError, match="is a whole"):
        read([tmp_path / "graph.yaml", tmp_path / "start.sh"])
    with pytest.raises(RefusedError, match="only a recipe has variants"):
        read([tmp_path / "start.sh"], variant="x")
    with pytest.raises(RefusedError, match="no source"):
        read([])


def test_an_engine_yaml_is_of_its_role(tmp_path: Path) -> None:
    engine, other = tmp_path / "ctx.yaml", tmp_path / "gen.yml"
    engine.write_text("tensor_parallel_size: 4\nmax_batch_size: 16\n", encoding="utf-8")
    other.write_text("tensor_parallel_size: 8\n", encoding="utf-8")
    script = tmp_path / "start.sh"
    script.write_text(f"{WORKER} --disaggregation-mode prefill --max-batch-size 99\n", encoding="utf-8")
    recipe = read([script], roles={"prefill": engine, "decode": other})
    pools = build(recipe, "x", gpu="h200-141gb").variables["wideep_pools"]
    assert pools["prefill"]["options"]["tensor_parallel_size"] == 4
    assert pools["prefill"]["options"]["trtllm"]["max_batch_size"] == 16
    assert pools["decode"]["options"]["tensor_parallel_size"] == 8
    alone = build(read([], roles={"aggregated": other}), "x", model="deepseek-ai/DeepSeek-R1")
    assert alone.variables["wideep_pools"]["aggregated"]["options"]["tensor_parallel_size"] == 8
    script.write_text("python3 -m dynamo.sglang --model-path /data/m --tp 8\n", encoding="utf-8")
    with pytest.raises(RefusedError, match="workers of sglang read no YAML of the engine"):
        read([script], roles={"aggregated": engine})


def test_the_orchestrator_is_no_worker(tmp_path: Path) -> None:
    workers = "\n".join(f"{SERVE} --server_role {role} &" for role in ("CONTEXT", "GENERATION"))
    start = "trtllm-serve disaggregated -c d.yaml -t 7200"
    for line in (start, f'ssh head "{start}"'):
        inventory = imported(tmp_path, f"{workers}\n{line}\n", gpu="h200-141gb")
        assert inventory.groups.keys() >= {"prefill", "decode"}
        found = row(inventory, "trtllm-serve disaggregated")
        assert (found.state, found.value) == ("left out", ["-c", "d.yaml", "-t", "7200"])
        assert "group frontend" in found.becomes
