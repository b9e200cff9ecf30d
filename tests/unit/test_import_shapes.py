"""YAML sources of any shape: an inventory, or a refusal with file and line; never a traceback."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imports import states

from wideep.importing import build, read
from wideep.problems import RefusedError

RECIPE: dict[str, Any] = yaml.safe_load("""
name: x
model: {path: "hf:deepseek-ai/DeepSeek-R1", precision: fp8, container: c}
identity: {model: {repo: deepseek-ai/DeepSeek-R1}}
resources: {gpu_type: h200, gpus_per_node: 8, prefill_nodes: 1, prefill_workers: 1, decode_nodes: 1,
  decode_workers: 1, gpus_per_prefill: 8}
environment: {A: "1"}
slurm: {time_limit: "1:00"}
backend:
  type: sglang
  prefill_environment: {SGLANG_X: "1"}
  decode_extra_args: [--page-size, "64"]
  kv_events_config: {prefill: true}
  sglang_config:
    prefill: {tensor-parallel-size: 8, page-size: 64, cuda-graph-bs: [1, 2]}
    decode: {tensor-parallel-size: 8, disaggregation-transfer-backend: nixl}
frontend: {type: dynamo, args: {router-mode: kv}, env: {DYN_MIGRATION_LIMIT: 1}}
dynamo: {version: "1", request_plane: tcp}
sweep: {c: [1, 2]}
""")
ROLES: dict[str, Any] = yaml.safe_load("""
schema: 2
engine: {type: trtllm}
model: {path: deepseek-ai/DeepSeek-R1}
resources: {gpu_type: gb200, gpus_per_node: 4}
roles:
  prefill:
    workers: 1
    nodes: 2
    gpus: 8
    env: {TLLM_X: 1}
    kv_events: true
    extra_args: [--x]
    args:
      tensor_parallel_size: 8
      enable_attention_dp: true
      moe_config: {backend: CUTLASS, load_balancer: {num_slots: 288, initial_global_assignments: {3: [1, 2]}}}
      cache_transceiver_config: {backend: DEFAULT, max_tokens_in_buffer: 100}
      speculative_config: {decoding_type: MTP, num_nextn_predict_layers: 1}
  decode:
    workers: 1
    nodes: 2
    args:
      tensor_parallel_size: 8
      moe_tensor_parallel_size: 8
      cuda_graph_config: {batch_sizes: [1, 2], max_batch_size: 4}
""")
VARIANTS = {"base": RECIPE, "override_a": {"resources": {"decode_nodes": 2}}}
WORKER: dict[str, Any] = yaml.safe_load("""
componentType: worker
subComponentType: decode
replicas: 1
multinode: {nodeCount: 2}
resources: {limits: {gpu: "8"}}
envs: [{name: A, value: b}, {name: C, valueFrom: {fieldRef: {fieldPath: x}}}]
extraPodSpec:
  volumes: [{name: v, configMap: {name: fields}}]
  mainContainer:
    image: i
    command: [python3]
    args: [-m, dynamo.trtllm, --model-path, deepseek-ai/DeepSeek-R1, --extra-engine-args, /x/engine.yaml]
    env: [{name: D, value: "1"}]
    resources: {limits: {nvidia.com/gpu: 8}}
""")
FRONTEND = {"componentType": "frontend", "envs": [{"name": "DYN_ROUTER_MODE", "value": "kv"}]}
FIELDS = {
    "kind": "ConfigMap",
    "metadata": {"name": "fields"},
    "data": {"engine.yaml": "tensor_parallel_size: 16\n"},
}
GRAPH: dict[str, Any] = {
    "kind": "DynamoGraphDeployment",
    "metadata": {"name": "g"},
    "spec": {"envs": [{"name": "A", "value": "x"}], "services": {"Frontend": FRONTEND, "Decode": WORKER}},
}


def beta(worker: dict[str, Any]) -> dict[str, Any]:
    """Return a component of the newer API."""
    pod = worker["extraPodSpec"]
    containers = [{"name": "main", **pod["mainContainer"]}]
    template = {"spec": {"volumes": pod["volumes"], "containers": containers}}
    return {"name": "w", "type": "decode", "replicas": 1, "podTemplate": template}


BETA = {"kind": GRAPH["kind"], "spec": {"components": [beta(WORKER)]}}
SOURCES: dict[str, tuple[list[Any], str]] = {
    "layout 1": ([RECIPE], ""),
    "layout 2": ([ROLES], ""),
    "variants": ([VARIANTS], "override_a"),
    "graph": ([FIELDS, GRAPH], ""),
    "newer graph": ([FIELDS, BETA], ""),
}
SHAPES: list[Any] = [
    None,
    0,
    -1,
    "x",
    "$X",
    "{{ x }}",
    True,
    [],
    [1],
    [{}],
    {"x": 1},
    {1: {"y": [2]}},
    "9" * 30,
]


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield every path of a tree."""
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*at, key))


def put(tree: Any, at: tuple[Any, ...], value: Any) -> Any:
    """Return a tree with another value at a path."""
    if not at:
        return value
    made = copy.deepcopy(tree)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return made


def take(folder: Path, documents: list[Any], variant: str = "") -> Any:
    """Import documents of one file."""
    path = folder / "source.yaml"
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    return build(read([path], variant=variant), "source.yaml")


@pytest.mark.parametrize("name", SOURCES)
def test_each_is_a_source(tmp_path: Path, name: str) -> None:
    assert take(tmp_path, *SOURCES[name]).groups


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_shape_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    documents, variant = SOURCES[data.draw(st.sampled_from(sorted(SOURCES)))]
    at = data.draw(st.sampled_from(list(places(documents))).filter(bool))
    with suppress(RefusedError):
        take(tmp_path, put(documents, at, data.draw(st.sampled_from(SHAPES))), variant)


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("layout 1", ("frontend",), "nginx", "frontend is 'nginx', not a mapping of names to values"),
        ("layout 1", ("model",), ["x"], "model is a list, not a mapping"),
        (
            "layout 1",
            ("backend", "decode_extra_args"),
            {"a": 1},
            "decode_extra_args is a mapping, not a list",
        ),
        (
            "layout 1",
            ("resources", "decode_workers"),
            "two",
            "resources.decode_workers is 'two', not a whole",
        ),
        ("layout 2", ("roles",), ["prefill"], "roles is a list, not a mapping"),
        ("layout 2", ("roles", "decode", "args"), [1], "roles.decode.args is a list, not a mapping"),
        ("variants", ("base", "identity"), "x", "identity is 'x', not a mapping"),
        (
            "graph",
            ("spec", "services", "Decode", "replicas"),
            "{{ .n }}",
            "replicas is '{{ .n }}', not a whole",
        ),
        ("graph", ("spec", "services", "Decode", "multinode"), 2, "multinode is 2, not a mapping"),
        ("graph", ("spec", "services", "Decode", "envs"), {"A": "b"}, "envs is a mapping, not a list"),
        ("newer graph", ("spec", "components"), {}, "components is a mapping, not a list"),
    ],
)
def test_another_shape_is_said_with_its_line(
    tmp_path: Path, name: str, at: tuple[Any, ...], value: Any, message: str
) -> None:
    documents, variant = SOURCES[name]
    with pytest.raises(RefusedError) as refused:
        take(tmp_path, put(documents, (len(documents) - 1, *at), value), variant)
    problem = refused.value.problems[0]
    assert message in problem.message
    assert problem.where.rpartition(":")[2].isdecimal()


def test_a_component_without_replicas_does_not_run(tmp_path: Path) -> None:
    prefill = {**WORKER, "subComponentType": "prefill", "replicas": 0}
    made = take(tmp_path, [FIELDS, put(GRAPH, ("spec", "services", "Prefill"), prefill)])
    assert "prefill" not in made.groups
    assert states(made, "prefill")["Prefill.replicas"] == "left out"
