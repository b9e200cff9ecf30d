"""`wideep import`: commands, recipes and manifests become inventories that say the same again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imports import check_round_trip, check_rows, imported, plan_rows, states, told

from wideep import cli
from wideep.engines import ENGINES
from wideep.engines.importing import Setting, Worker
from wideep.engines.sglang.rules.registry import OWNED as SGLANG_OWNED
from wideep.engines.trtllm.rules.registry import FIELDS, OWNED_FIELDS
from wideep.importing import build, import_from, read
from wideep.importing.source import Group, Recipe
from wideep.plan import make_plan
from wideep.problems import RefusedError
from wideep.reference.catalogue import Field, Flag
from wideep.reference.release import find_release

PREFILL = """
export NCCL_SOCKET_IFNAME=bond0 HF_TOKEN=hf_0123456789
MODEL=/data/models/DeepSeek-R1
for rank in 0 1; do
  python3 -m dynamo.sglang --model-path $MODEL --served-model-name deepseek-ai/DeepSeek-R1 \\
    --disaggregation-mode prefill --disaggregation-transfer-backend nixl --nnodes 2 --node-rank $rank \\
    --dist-init-addr $HEAD:5000 --tp 16 --dp 16 --enable-dp-attention --moe-a2a-backend deepep \\
    --deepep-mode normal --chunked-prefill-size 131072 --page-size 64 --mem-fraction-static 0.8 \\
    --max-prefill-tokens 32768 --frobnicate 3 &
done
"""
DECODE = """
for rank in 0 1; do
  SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK=256 python3 -m dynamo.sglang \\
    --model-path /data/models/DeepSeek-R1 --served-model-name deepseek-ai/DeepSeek-R1 \\
    --disaggregation-mode decode --nnodes 2 --node-rank $rank --tp-size 16 --dp-size 16 \\
    --enable-dp-attention --moe-a2a-backend deepep --deepep-mode low_latency --cuda-graph-max-bs 128 \\
    --max-running-requests 2048 --page-size 64 --mem-fraction-static 0.8 --kv-cache-dtype auto &
done
"""


def test_a_script_with_both_roles(tmp_path: Path) -> None:
    inventory = imported(tmp_path, PREFILL + DECODE, gpu="h200-141gb")
    assert inventory.groups["prefill"] == ["prefill01.example.com", "prefill02.example.com"]
    assert inventory.groups["decode"] == ["decode01.example.com", "decode02.example.com"]
    variables = inventory.variables
    assert variables["wideep_model"] == "deepseek-ai/DeepSeek-R1"
    assert variables["wideep_interface"] == "bond0"
    assert variables["secrets_env"] == {"HF_TOKEN": {"env": "HF_TOKEN"}}
    assert "hf_0123456789" not in json.dumps([variables, [str(row) for row in inventory.rows]])
    prefill, decode = variables["wideep_pools"]["prefill"], variables["wideep_pools"]["decode"]
    assert prefill["nodes_per_replica"] == 2
    assert prefill["extra_args"] == {"max-prefill-tokens": 32768}
    assert decode["options"]["cuda_graph_max_bs"] == 128
    assert decode["options"]["sglang"]["dispatch_tokens_per_rank"] == 256
    assert states(inventory, "prefill")["--frobnicate"] == "not understood"
    assert states(inventory, "decode")["--cuda-graph-max-bs"] == "renamed"
    check_round_trip(inventory)
    added = plan_rows(inventory)
    assert added["decode", "ep-size"] == "added"
    assert "changed" not in added.values()


def test_what_is_written_is_read_back_by_yaml(tmp_path: Path) -> None:
    inventory = imported(tmp_path, PREFILL + DECODE, gpu="h200-141gb")
    done = import_from([tmp_path / "start.sh"], tmp_path / "made", gpu="h200-141gb")
    assert [path.relative_to(tmp_path / "made").as_posix() for path in done.files] == [
        "hosts.yml",
        "group_vars/all.yml",
    ]
    hosts, variables = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in done.files)
    assert {g: list(own["hosts"]) for g, own in hosts["all"]["children"].items()} == inventory.groups
    assert variables == {**inventory.variables, "wideep_deployment": "made"}
    assert "not understood" in done.table
    assert "--frobnicate 3" in done.files[1].read_text(encoding="utf-8")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "start.sh").write_text(DECODE.replace("decode", "null"), encoding="utf-8")
    with pytest.raises(RefusedError, match="nothing is overwritten"):
        import_from([tmp_path / "start.sh"], tmp_path / "made")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["notes.txt"]


def test_roles_of_files_that_do_not_say_them(tmp_path: Path) -> None:
    command = (
        "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V2-Lite --tp 2 --trust-remote-code"
    )
    for name in ("one.sh", "two.sh"):
        (tmp_path / name).write_text(command, encoding="utf-8")
    recipe = read([], roles={"prefill": tmp_path / "one.sh", "decode": tmp_path / "two.sh"})
    assert [group.worker.role for group in recipe.groups] == ["prefill", "decode"]
    inventory = build(recipe, "two files", gpu="h100-80gb")
    assert inventory.variables["wideep_gpus_per_node"] == 2
    with pytest.raises(RefusedError, match="no pool 'prefil'"):
        read([], roles={"prefil": tmp_path / "one.sh"})


def test_a_switch_that_became_an_all_to_all(tmp_path: Path) -> None:
    text = (
        "SGLANG_OPT_USE_DEEPGEMM_MEGA_MOE=1 python -m sglang.launch_server --model-path"
        " deepseek-ai/DeepSeek-V4-Pro --tp 8 --dp 8 --enable-dp-attention --moe-a2a-backend deepep"
    )
    inventory = imported(tmp_path, text, gpu="b300")
    assert inventory.variables["wideep_pools"]["aggregated"]["options"]["sglang"]["a2a_backend"] == "megamoe"
    assert "changed" in {
        row.state for row in inventory.rows if row.name == "SGLANG_OPT_USE_DEEPGEMM_MEGA_MOE"
    }
    check_round_trip(inventory)


def test_one_host_for_workers_that_name_their_gpus(tmp_path: Path) -> None:
    text = "".join(
        f"CUDA_VISIBLE_DEVICES={gpus} python3 -m dynamo.sglang --model-path /data/m --served-model-name"
        f" deepseek-ai/DeepSeek-V2-Lite --disaggregation-mode {role} --tp-size 2 --port {port} &\n"
        for port, (role, gpus) in enumerate((("prefill", "0,1"), ("decode", "2,3"), ("decode", "4,5")), 8000)
    )
    inventory = imported(tmp_path, text)
    assert inventory.groups["prefill"] == inventory.groups["decode"] == ["worker01.example.com"]
    assert inventory.variables["wideep_gpus_per_node"] == 6
    pools = inventory.variables["wideep_pools"]
    assert (pools["prefill"]["gpus_per_node"], pools["decode"]["gpus_per_node"]) == (2, 2)
    assert pools["decode"]["replicas_per_node"] == 2


ONE = "python3 -m dynamo.sglang --model-path /data/m --served-model-name deepseek-ai/DeepSeek-R1"


def test_replicas_of_a_role_are_alike(tmp_path: Path) -> None:
    inventory = imported(tmp_path, f"{ONE} --tp 8 --port 9000\n{ONE} --tp-size 8 --port 9001 --host h2\n")
    assert len(inventory.groups["aggregated"]) == 2
    with pytest.raises(RefusedError) as refused:
        imported(tmp_path, f"{ONE} --tp 8 --page-size 64\n{ONE} --tp 8 --page-size 32 --log-requests\n")
    problem = refused.value.problems[0]
    assert "--page-size (64, 32)" in problem.message
    assert "--log-requests (not given, on)" in problem.message
    assert "--tp" not in problem.message
    assert problem.where.count("start.sh:") == 2
    assert "--role aggregated=FILE" in problem.remedy
    mode = "--tp 8 --disaggregation-mode"
    lines = (f"{mode} prefill", f"{mode} prefill --page-size 32", f"{mode} decode")
    with pytest.raises(RefusedError) as refused:
        imported(tmp_path, "\n".join(f"{ONE} {line}" for line in lines))
    assert refused.value.problems[0].remedy.endswith("--role prefill=FILE --role decode=FILE")


def test_a_variable_without_a_value_is_no_difference(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="SIZE has no value, and stands behind --tp"):
        imported(tmp_path, f"{ONE} --tp 8\n{ONE} --tp $SIZE\n")


def test_what_no_program_reads_may_differ_and_is_told(tmp_path: Path) -> None:
    inventory = imported(tmp_path, f"OWN_LOG=1 {ONE} --tp 8\nOWN_LOG=2 {ONE} --tp 8\n")
    assert [(row.name, row.value) for row in inventory.rows if row.state == "changed"] == [("OWN_LOG", "2")]


def test_ranks_of_a_replica_that_are_told_otherwise_are_in_the_table(tmp_path: Path) -> None:
    ranks = "\n".join(
        f"{ONE} --tp 16 --nnodes 2 --node-rank {rank} --dist-init-addr a:5000 --page-size {size}"
        for rank, size in enumerate((64, 32))
    )
    inventory = imported(tmp_path, ranks, gpu="h200-141gb")
    assert len(inventory.groups["aggregated"]) == 2
    assert [(row.name, row.value) for row in inventory.rows if row.state == "changed"] == [
        ("--page-size", "32")
    ]


def test_a_file_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    prefill, decode = tmp_path / "p.sh", tmp_path / "d.sh"
    for path, role in ((prefill, "prefill"), (decode, "decode")):
        path.write_text(f"{ONE} --tp 8 --disaggregation-mode {role}\n", encoding="utf-8")
    recipe = read([prefill, prefill, decode, tmp_path / "." / "d.sh"], roles={"prefill": prefill})
    assert [(group.worker.role, group.replicas) for group in recipe.groups] == [("prefill", 1), ("decode", 1)]
    both = tmp_path / "both.sh"
    both.write_text(
        prefill.read_text(encoding="utf-8") + decode.read_text(encoding="utf-8"), encoding="utf-8"
    )
    recipe = read([], roles={"prefill": both, "decode": both})
    assert [(group.worker.role, group.replicas) for group in recipe.groups] == [("prefill", 1), ("decode", 1)]
    with pytest.raises(RefusedError, match="its command is of decode workers"):
        read([], roles={"prefill": decode})


# ---- what has no value -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("--tp $N", "N has no value, and stands behind --tp", "give --var N=…"),
        ("--tp ${N} --dp $N", "N has no value, and stands behind --tp, --dp", "give --var N=…"),
        ("--tp ${N:?how many}", "N has no value", "give --var N=…"),
        ("--tp $1", "$1 has no value", "give --var 1=…"),
        ("--tp $((N*K))", "N has no value", "give --var N=…"),
        ("--tp 8 --page-size=$N", "N has no value, and stands behind --page-size", "give --var N=…"),
        ("--tp 8 $MORE", "MORE has no value, and stands among the flags", "give --var MORE=…"),
        ("--tp $(nvidia-smi -L)", "what $(nvidia-smi -L) becomes is not known", "write into the script"),
        ("--tp $GPUS", "GPUS has no value", "give --var GPUS=…"),
        (
            "--tp 8 --model-path $DIR/m",
            "DIR has no value, and stands behind --model-path",
            "--model-path DIR",
        ),
        (
            "--tp 8 --disaggregation-mode $ROLE",
            "ROLE has no value, and says which role",
            "--role prefill=FILE",
        ),
        ("--tp 8 --config /x/$N.yml", "N has no value, and stands behind --config", "give --var N=…"),
    ],
)
def test_a_variable_without_a_value_is_named(tmp_path: Path, text: str, message: str, remedy: str) -> None:
    script = f"K=2\nGPUS=$(nvidia-smi -L | wc -l)\n{ONE} {text}\n"
    with pytest.raises(RefusedError) as refused:
        imported(tmp_path, script)
    problem = refused.value.problems[0]
    assert message in problem.message
    assert remedy in problem.remedy
    assert "K has" not in str(refused.value)


def test_all_that_has_no_value_is_told_at_once(tmp_path: Path) -> None:
    script = "python3 -m sglang.launch_server --model-path $MODEL --tp $N --page-size ${SIZE}\n"
    with pytest.raises(RefusedError, match="MODEL has no value, and names the model"):
        imported(tmp_path, script)
    with pytest.raises(RefusedError) as refused:
        imported(tmp_path, script, model="deepseek-ai/DeepSeek-R1")
    assert [problem.message.split()[0] for problem in refused.value.problems] == ["MODEL", "N", "SIZE"]
    assert refused.value.problems[0].remedy == "give --var MODEL=… or --model-path DIR"
    with pytest.raises(RefusedError) as refused:
        imported(tmp_path, script, model="deepseek-ai/DeepSeek-R1", model_path="/data/m")
    assert [problem.message.split()[0] for problem in refused.value.problems] == ["N", "SIZE"]
    recipe = read([tmp_path / "start.sh"], given={"N": "8", "SIZE": "64", "MODEL": "deepseek-ai/DeepSeek-R1"})
    assert build(recipe, "x").variables["wideep_pools"]["aggregated"]["options"]["page_size"] == 64


def test_an_engine_yaml_with_a_variable_without_a_value(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="SIZE has no value, and stands behind tensor_parallel_size"):
        imported(tmp_path, TRTLLM.replace("parallel_size: 16", "parallel_size: $SIZE", 1))


def test_what_the_plan_decides_needs_no_value(tmp_path: Path) -> None:
    text = (
        f"export UCX_RNDV_THRESH=$FOO HF_TOKEN=$HF_TOKEN\n{ONE} --tp 8 --host $(hostname -i)"
        ' --port $PORT --nnodes $N --node-rank $RANK --dist-init-addr $HEAD:5000 "$@"\n'
    )
    inventory = imported(tmp_path, text)
    told_of = states(inventory)
    assert told_of["UCX_RNDV_THRESH"] == "not understood"
    assert told_of["$@"] == "left out"
    assert "env" not in inventory.variables["wideep_pools"]["aggregated"]


def test_variables_of_a_graph_are_those_of_its_pods(tmp_path: Path) -> None:
    command = (
        "exec python3 -m dynamo.sglang --model-path m --served-model-name deepseek-ai/DeepSeek-R1 --tp $TP"
    )
    worker = {
        "componentType": "worker",
        "envs": [{"name": "TP", "value": "8"}],
        "extraPodSpec": {
            "mainContainer": {
                "command": ["sh", "-c"],
                "args": [f"{command} --page-size $(PAGE) --dp ${{DP}}"],
            }
        },
    }
    graph = {"kind": "DynamoGraphDeployment", "spec": {"services": {"Worker": worker}}}
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(graph), encoding="utf-8")
    recipe = read([path], given={"PAGE": "64", "DP": "1"})
    options = build(recipe, "graph").variables["wideep_pools"]["aggregated"]["options"]
    assert (options["tensor_parallel_size"], options["page_size"]) == (8, 64)
    with pytest.raises(RefusedError, match="DP has no value, and stands behind --dp"):
        build(read([path], given={"PAGE": "64"}), "graph")


@pytest.mark.parametrize(
    ("sizes", "why"), [("128", "captured that single size only"), ("1 2 4 128", "the name for a list")]
)
def test_one_size_of_cuda_graphs_and_a_list(tmp_path: Path, sizes: str, why: str) -> None:
    line = f"{ONE} --tp 8 --disaggregation-mode decode --cuda-graph-bs {sizes}"
    inventory = imported(tmp_path, line, gpu="h200-141gb")
    (found,) = [row for row in inventory.rows if row.name == "--cuda-graph-bs"]
    assert why in found.becomes


@pytest.mark.parametrize(
    ("launcher", "path", "left_out"),
    [
        ("docker run --rm -it --gpus all -v /data:/models -v /x:/y IMAGE", "/data/q/m", [("-v", "/x:/y")]),
        (
            "docker run -v/data/a:/models/q:ro --shm-size=8g -v /b:/models IMAGE",
            "/data/a/m",
            [("-v", "/b:/models")],
        ),
        ("sudo podman run -e A=b --mount type=bind,src=/d,target=/models IMAGE", "/d/q/m", []),
        (
            "srun --container-image=IMAGE --container-mounts /d:/models,/x:/y",
            "/d/q/m",
            [("--container-mounts", "/x:/y")],
        ),
        ("docker run --gpus all -v cache:/models IMAGE", "/models/q/m", [("-v", "cache:/models")]),
    ],
)
@pytest.mark.parametrize("inside", ["{}", "bash -c '{}'"])
def test_a_container_has_rows_and_its_model_is_the_hosts(
    tmp_path: Path, launcher: str, path: str, left_out: list[tuple[str, str]], inside: str
) -> None:
    worker = ONE.replace("/data/m", "/models/q/m") + " --tp 8"
    inventory = imported(tmp_path, f"{launcher} {inside.format(worker)}\n", gpu="h200-141gb")
    assert inventory.variables["wideep_model_path"] == path
    assert [row.value for row in inventory.rows if row.name == "image"] == ["IMAGE"]
    assert [(row.name, row.value) for row in inventory.rows if row.state == "left out"] == left_out


def test_a_mount_without_a_value_is_named(tmp_path: Path) -> None:
    worker = ONE.replace("/data/m", "/models/m") + " --tp 8"
    line = f"docker run -v $STORE:/models IMAGE {worker}"
    with pytest.raises(RefusedError, match="STORE has no value, and stands behind -v"):
        imported(tmp_path, line)
    assert imported(tmp_path, line, model_path="/m").variables["wideep_model_path"] == "/m"


def test_a_router_has_a_row(tmp_path: Path) -> None:
    router = "python3 -m sglang_router.launch_router --pd-disaggregation --policy cache_aware"
    inventory = imported(tmp_path, f"{ONE} --tp 8 &\n{router}\n", gpu="h200-141gb")
    (found,) = [row for row in inventory.rows if row.name == "sglang_router.launch_router"]
    assert (found.state, found.where.rpartition(":")[2]) == ("left out", "2")
    assert found.value == ["--pd-disaggregation", "--policy", "cache_aware"]


PAIR = """
python3 -m dynamo.sglang --model-path /data/m --served-model-name deepseek-ai/DeepSeek-R1 \\
  --disaggregation-mode prefill --tp-size 8 {}
python3 -m dynamo.sglang --model-path /data/m --served-model-name deepseek-ai/DeepSeek-R1 \\
  --disaggregation-mode decode --tp-size 8 {}
"""


@pytest.mark.parametrize(
    "flags",
    [
        "--speculative-algorithm EAGLE --speculative-num-steps 3 --speculative-eagle-topk 1"
        " --speculative-num-draft-tokens 4",
        "--speculative-algo NEXTN --speculative-draft-model /data/draft",
        "--disaggregation-transfer-backend nixl --enable-metrics",
        "--page-size 64 --mem-fraction-static 0.8 --chunked-prefill-size 8192 --disable-radix-cache",
        "--enable-eplb --ep-num-redundant-experts 32 --moe-a2a-backend deepep --deepep-mode normal",
    ],
)
def test_what_the_source_says_is_not_added(tmp_path: Path, flags: str) -> None:
    inventory = imported(tmp_path, PAIR.format(flags, flags), gpu="h200-141gb", benchmark=True)
    words = tuple(flag.removeprefix("--") for flag in flags.split() if flag.startswith("--"))
    for role, again in told(inventory).items():
        mine = {name for name in again if name.startswith(words)}
        assert len(mine) == len(words)
        assert mine <= inventory.readings[role].said.keys()


@pytest.mark.parametrize("sides", [("--page-size 32", ""), ("", "--page-size 1")])
def test_a_page_size_of_one_side_is_both_sides(tmp_path: Path, sides: tuple[str, str]) -> None:
    inventory = imported(tmp_path, PAIR.format(*sides), gpu="h200-141gb")
    size = "".join(sides).rpartition(" ")[2]
    assert {said["page-size"] for said in told(inventory).values()} == {size}
    role = "decode" if sides[0] else "prefill"
    assert plan_rows(inventory).get((role, "page-size")) == "added"


def test_a_refused_plan_has_a_whole_table(tmp_path: Path) -> None:
    (tmp_path / "start.sh").write_text(PAIR.format("--tp-size 3", "--tp-size 3"), encoding="utf-8")
    done = import_from([tmp_path / "start.sh"], tmp_path / "made", gpu="h200-141gb")
    with pytest.raises(RefusedError):
        make_plan(done.imported.groups, done.imported.hosts)
    assert re.search(r"decode +mem-fraction-static +0.82 +added", done.table)


def test_an_algorithm_of_a_placement_comes_back(tmp_path: Path) -> None:
    spread = "--moe-a2a-backend deepep --deepep-mode normal --init-expert-location /data/counts.json"
    both = f"{spread} --eplb-algorithm deepseek"
    inventory = imported(tmp_path, PAIR.format(both, both), gpu="h200-141gb")
    assert told(inventory)["decode"]["eplb-algorithm"] == "deepseek"
    check_round_trip(inventory)
    assert "eplb-algorithm" not in told(imported(tmp_path, PAIR.format(spread, spread)))["decode"]
    alone = "--eplb-algorithm deepseek --eplb-rebalance-num-iterations 500"
    inventory = imported(tmp_path, PAIR.format(alone, alone), gpu="h200-141gb")
    assert states(inventory, "decode")["--eplb-algorithm"] == "left out"
    assert states(inventory, "decode")["--eplb-rebalance-num-iterations"] == "left out"
    assert not inventory.variables.get("wideep_eplb")
    check_round_trip(inventory)


def test_numbers_of_drafts_that_nothing_makes_are_left_out(tmp_path: Path) -> None:
    flags = "--speculative-num-steps 3"
    inventory = imported(tmp_path, PAIR.format(flags, flags), gpu="h200-141gb")
    assert states(inventory, "decode")["--speculative-num-steps"] == "left out"
    assert "speculative" not in inventory.variables["wideep_pools"]["decode"]["options"]
    check_round_trip(inventory)


def test_a_transfer_that_the_source_leaves_open_is_the_engines_own(tmp_path: Path) -> None:
    open_, mixed = PAIR.format("", ""), PAIR.format("--disaggregation-transfer-backend nixl", "")
    inventory = imported(tmp_path, open_, gpu="h200-141gb")
    assert inventory.variables["wideep_kv_transfer"] == "mooncake"
    assert states(inventory)["wideep_kv_transfer"] == "default"
    added = plan_rows(inventory)
    assert ("decode", "disaggregation-transfer-backend") not in added
    # What is ours is told, of the frontend and the workers.
    assert added["", "router-mode"] == added["", "migration-limit"] == "added"
    assert added["prefill", "kv-events-config"] == added["decode", "enable-metrics"] == "added"
    inventory = imported(tmp_path, mixed, gpu="h200-141gb")
    assert inventory.variables["wideep_kv_transfer"] == "nixl"
    added = plan_rows(inventory)
    assert added["decode", "disaggregation-transfer-backend"] == added["decode", "UCX_NET_DEVICES"] == "added"


@pytest.mark.parametrize(
    ("frontend", "mode"),
    [
        ("python3 -m dynamo.frontend --http-port 8000 &", "round-robin"),
        ("python3 -m dynamo.frontend --router-mode kv &", "kv"),
        ("DYN_ROUTER_MODE=random python3 -m dynamo.frontend &", "random"),
        ("", None),
    ],
)
def test_requests_are_routed_as_by_the_sources_frontend(
    tmp_path: Path, frontend: str, mode: str | None
) -> None:
    inventory = imported(tmp_path, frontend + PAIR.format("", ""), gpu="h200-141gb")
    assert inventory.variables.get("wideep_router_mode") == mode


@pytest.mark.parametrize(
    ("port", "becomes"), [("--http-port 9000", 9000), ("--http-port $PORT", None), ("", None)]
)
def test_the_frontends_port_is_the_sources(tmp_path: Path, port: str, becomes: int | None) -> None:
    script = f"python3 -m dynamo.frontend {port} &" + PAIR.format("", "")
    inventory = imported(tmp_path, script, gpu="h200-141gb")
    assert inventory.variables.get("wideep_frontend_port") == becomes


TRTLLM = """
cat > /tmp/engine.yaml <<EOF
tensor_parallel_size: 16
moe_expert_parallel_size: 16
enable_attention_dp: true
max_batch_size: 64
max_num_tokens: 8448
max_seq_len: 8448
kv_cache_config:
  free_gpu_memory_fraction: 0.7
  dtype: fp8
  enable_block_reuse: false
cuda_graph_config:
  enable_padding: true
  batch_sizes: [1, 2, 4, 8, 16, 32, 64]
moe_config:
  backend: CUTLASS
  load_balancer: {num_slots: 288, layer_updates_per_iter: 0}
print_iter_log: true
stream_interval: 20
EOF
export TRTLLM_ENABLE_PDL=1
mpirun -n 16 -x NCCL_DEBUG=INFO trtllm-llmapi-launch python3 -m dynamo.trtllm \\
  --model-path /data/models/DeepSeek-R1 --served-model-name deepseek-ai/DeepSeek-R1 \\
  --extra-engine-args /tmp/engine.yaml
"""


def test_an_engine_yaml_with_its_launch_line(tmp_path: Path) -> None:
    inventory = imported(tmp_path, TRTLLM, gpu="h200-141gb")
    pool = inventory.variables["wideep_pools"]["aggregated"]
    assert pool["options"]["data_parallel_size"] == 16
    assert pool["options"]["trtllm"]["engine_args"] == {"print_iter_log": True, "stream_interval": 20}
    assert pool["env"] == {"TRTLLM_ENABLE_PDL": "1", "NCCL_DEBUG": "INFO"}
    assert inventory.variables["wideep_eplb"] == {"redundant_experts": 32}
    assert pool["nodes_per_replica"] == 2
    rows = {row.name: row for row in inventory.rows}
    assert rows["kv_cache_config.dtype"].where.endswith("start.sh:11")
    check_round_trip(inventory)


def test_an_engine_yaml_beside_its_launch_line(tmp_path: Path) -> None:
    engine = yaml.safe_dump({"tensor_parallel_size": 8, "moe_config": {"load_balancer": "/x/slots.yaml"}})
    (tmp_path / "engine.yaml").write_text(engine, encoding="utf-8")
    (tmp_path / "slots.yaml").write_text("num_slots: 264\n", encoding="utf-8")
    line = "trtllm-serve serve deepseek-ai/DeepSeek-R1 --ep_size 8 --extra_llm_api_options /x/engine.yaml"
    inventory = imported(tmp_path, line)
    options = inventory.variables["wideep_pools"]["aggregated"]["options"]
    assert (options["tensor_parallel_size"], options["expert_parallel_size"]) == (8, 8)
    assert inventory.variables["wideep_eplb"] == {"redundant_experts": 8}
    (tmp_path / "engine.yaml").unlink()
    with pytest.raises(RefusedError, match="neither written by the script nor beside it"):
        imported(tmp_path, line)


@pytest.mark.parametrize("name", ["kubernetes_sglang", "kubernetes_trtllm"])
@pytest.mark.parametrize("api", ["v1alpha1", "v1beta1"])
def test_our_own_manifests_come_back(tmp_path: Path, name: str, api: str) -> None:
    from example_inventories import inventory as example

    from wideep.render import render

    plan = make_plan(*example(name, wideep_graph_api=api))
    graph = next(path for path in render(plan, tmp_path) if path.name == "graph.yaml")
    back = build(read([graph]), "graph.yaml", gpu=plan.deployment.hosts[-1].gpu)
    assert {row.state for row in back.rows} <= {"kept", "renamed", "default", "set by wideep", "left out"}
    again = make_plan(back.groups, back.hosts)
    for pool, other in zip(plan.deployment.pools, again.deployment.pools, strict=True):
        assert (pool.name, len(pool.replicas), pool.replicas[0].world_size) == (
            other.name,
            len(other.replicas),
            other.replicas[0].world_size,
        )
    assert not [row for row in back.added(again.deployment) if row.state in ("added", "changed")]


def test_what_a_graph_says_of_its_pods_has_rows(tmp_path: Path) -> None:
    pod = {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "gpu"}],
        "affinity": {"x": {}},
        "terminationGracePeriodSeconds": 60,
        "volumes": [
            {"name": "models", "hostPath": {"path": "/m"}},
            {"name": "own", "configMap": {"name": "c"}},
        ],
    }
    main = {
        "command": f"{ONE} --tp 8".split(),
        "resources": {"limits": {"nvidia.com/gpu": "8", "rdma/ib": "8"}},
    }
    side = {"name": "side", "image": "x"}
    front = {"image": "y"}
    services = {
        "Frontend": {
            "componentType": "frontend",
            "replicas": 2,
            "extraPodSpec": {"mainContainer": front} | pod,
        },
        "Worker": {"componentType": "worker", "extraPodSpec": {"mainContainer": main} | pod},
    }
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "main", **main}, side], **pod},
    }
    components = [
        {"name": "f", "type": "frontend", "replicas": 2, "podTemplate": {"spec": pod}},
        {"name": "w", "type": "worker", "podTemplate": template},
    ]
    config = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {}}
    names = {f"pod.{name}" for name in pod} | {"resources.limits.rdma/ib"}
    for spec, more in (
        ({"services": services}, set()),
        ({"components": components}, {"pod.containers", "podTemplate.metadata"}),
    ):
        path = tmp_path / "graph.yaml"
        path.write_text(
            yaml.safe_dump_all([config, {"kind": "DynamoGraphDeployment", "spec": spec}]), "utf-8"
        )
        inventory = build(read([path]), "graph", gpu="h200-141gb")
        assert inventory.groups["frontend"] == ["control01.example.com", "frontend02.example.com"]
        out = {row.name: row for row in inventory.rows if row.role and row.state == "left out"}
        assert out.keys() == names | more
        assert out["pod.volumes"].value == ["models"]
        front_out = {row.name for row in inventory.rows if not row.role and row.state == "left out"}
        assert front_out == {f"pod.{name}" for name in pod}
        make_plan(inventory.groups, inventory.hosts)


def test_a_recipes_frontends_and_unknown_gpus(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "model": {"path": "deepseek-ai/DeepSeek-R1"},
        "resources": {"gpu_type": "h2000", "gpus_per_node": 8, "agg_nodes": 1, "agg_workers": 1},
        "backend": {"type": "sglang", "sglang_config": {"aggregated": {"tp-size": 8}}},
        "frontend": {"enable_multiple_frontends": True, "num_additional_frontends": 2},
    }
    inventory = imported(tmp_path, yaml.safe_dump(recipe), "recipe.yaml")
    assert len(inventory.groups["frontend"]) == 3
    assert states(inventory)["gpu_type"] == "not understood"
    recipe["frontend"]["enable_multiple_frontends"] = False
    recipe["resources"]["gpu_type"] = "h200"
    inventory = imported(tmp_path, yaml.safe_dump(recipe), "recipe.yaml")
    assert len(inventory.groups["frontend"]) == 1
    assert "gpu_type" not in states(inventory)
    with pytest.raises(RefusedError, match="there is no hardware card 'x9'"):
        imported(tmp_path, yaml.safe_dump(recipe), "recipe.yaml", gpu="x9")


def test_a_graph_without_workers_is_refused(tmp_path: Path) -> None:
    graph = {
        "kind": "DynamoGraphDeployment",
        "spec": {"services": {"Frontend": {"componentType": "frontend"}}},
    }
    with pytest.raises(RefusedError, match="no worker whose command is known"):
        imported(tmp_path, yaml.safe_dump(graph), "graph.yaml")


# ---- bad sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("recipe.yaml", "name: x\nmodel: [\n", "recipe.yaml:3"),
        ("start.sh", "echo nothing\n", "start.sh"),
        ("start.sh", "\npython -m sglang.launch_server --x 'y\n", "start.sh:2"),
        (
            "recipe.yaml",
            "name: x\nmodel: {path: m}\nresources: {gpu_type: h100}\nbackend: {type: vllm}\n",
            "recipe.yaml:4",
        ),
        (
            "recipe.yaml",
            "name: x\nmodel: {path: m}\nresources:\n  gpus_per_node: many\nbackend: {type: sglang}\n",
            "recipe.yaml:4",
        ),
    ],
)
def test_a_bad_source_is_refused_with_its_place(tmp_path: Path, name: str, text: str, where: str) -> None:
    with pytest.raises(RefusedError) as refused:
        imported(tmp_path, text, name)
    problem = refused.value.problems[0]
    assert problem.where.endswith(where)
    assert problem.remedy


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="No such file"):
        read([tmp_path / "none.sh"])


def test_workers_of_two_engines_are_refused(tmp_path: Path) -> None:
    text = "python -m dynamo.sglang --model-path m\npython -m dynamo.trtllm --model-path m\n"
    with pytest.raises(RefusedError, match="several engines"):
        imported(tmp_path, text)


# ---- the verb ----------------------------------------------------------------------------------------


def test_the_verb_writes_and_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned: list[Any] = []
    monkeypatch.setattr(
        cli, "execute", lambda verb, options: planned.append((verb.name, options.inventory)) or 0
    )
    (tmp_path / "start.sh").write_text(PREFILL + DECODE, encoding="utf-8")
    out = tmp_path / "made"
    code = cli.app(
        [
            "import",
            str(tmp_path / "start.sh"),
            "--out",
            str(out),
            "--gpu",
            "h200-141gb",
            "--var",
            "HEAD=10.0.0.1",
        ],
        standalone_mode=False,
    )
    assert code == 0
    assert planned == [("plan", [str(out)])]
    said = capsys.readouterr().out
    assert "10.0.0.1:5000" in said
    assert str(out / "hosts.yml") in said


def test_the_verb_wants_names_and_values(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="has no ="):
        cli.app(["import", "x.sh", "--out", str(tmp_path / "x"), "--role", "prefill"], standalone_mode=False)


# ---- every flag and field of the release -------------------------------------------------------------

RELEASE = find_release()
SGLANG = RELEASE.catalogue("dynamo.sglang")
# What has no one word: JSON, files of flags, and what follows from hosts.
SPECIAL = {
    "config",
    "load-format",
    "kv-cache-dtype",
    "moe-a2a-backend",
    "speculative-algorithm",
    "init-expert-location",
}
texts = st.text("abcdefgh/._-0123456789", min_size=1, max_size=12).filter(
    lambda text: not text.startswith("-")
)


def flag_values(flag: Flag) -> st.SearchStrategy[Any]:
    kind = flag.type.removeprefix("list[").removesuffix("]")
    if not flag.takes_value:
        return st.none()
    if flag.choices:
        one = st.sampled_from([str(choice) for choice in flag.choices if choice is not None])
    elif kind == "int":
        one = st.integers(max(1, int(flag.minimum or 1)), 4096).map(str)
    elif kind == "float":
        one = st.integers(1, 99).map(lambda n: f"0.{n:02}")
    elif kind == "bool":
        one = st.sampled_from(["true", "false"])
    elif kind == "json":
        one = st.just('{"a": 1}')
    else:
        one = texts
    return st.lists(one, min_size=2, max_size=3) if flag.many else one


DRAWN = [
    flag
    for flag in SGLANG.flags
    if not flag.deprecated and flag.flag.removeprefix("--") not in SGLANG_OWNED | dict.fromkeys(SPECIAL)
]


@st.composite
def commands(draw: st.DrawFn) -> tuple[Setting, ...]:
    chosen = draw(st.lists(st.sampled_from(DRAWN), unique_by=lambda flag: flag.flag, max_size=12))
    return tuple(
        Setting(draw(st.sampled_from(flag.names[:2])), draw(flag_values(flag)), "x:1") for flag in chosen
    )


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(commands())
def test_every_flag_of_the_release_comes_back(flags: tuple[Setting, ...]) -> None:
    worker = Worker("decode", "dynamo.sglang", flags)
    other = Worker("prefill", "dynamo.sglang")
    recipe = Recipe(
        "x", "sglang", [Group(other, gpus=8), Group(worker, gpus=8)], models=["deepseek-ai/DeepSeek-R1"]
    )
    inventory = build(recipe, "x", gpu="h200-141gb")
    check_rows(inventory.readings["decode"], [flag.name for flag in flags])
    check_round_trip(inventory)


TREE = RELEASE.fields("tensorrt-llm")


def field_values(field: Field) -> st.SearchStrategy[Any]:
    if field.choices:
        return st.sampled_from(list(field.choices))
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "int": st.integers(max(1, int(field.minimum or 1)), int(field.maximum or 512)),
        "float": st.integers(1, 99).map(lambda n: n / 100),
        "str": texts,
        "bool": st.booleans(),
        "list[int]": st.lists(st.integers(1, 64), min_size=1, max_size=4),
    }
    return kinds[field.type]


FIELDS_DRAWN = [
    field
    for field in TREE.fields.values()
    if field.type in ("int", "float", "str", "bool", "list[int]")
    and not field.deprecated
    and RELEASE.renamed("tensorrt-llm", field.path) is None
    and field.path not in OWNED_FIELDS
    and field.path not in ("load_format", "kv_cache_config.dtype", "backend")
    and not field.path.startswith(("moe_config.load_balancer", "build_config"))
]


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_field_of_the_engine_yaml_comes_back(data: st.DataObject) -> None:
    chosen = data.draw(
        st.lists(st.sampled_from(FIELDS_DRAWN), unique_by=lambda field: field.path, max_size=10)
    )
    fields = tuple(Setting(field.path, data.draw(field_values(field)), "x:1") for field in chosen)
    worker = Worker("decode", "dynamo.trtllm", fields=fields)
    recipe = Recipe(
        "x",
        "trtllm",
        [Group(Worker("prefill", "dynamo.trtllm"), gpus=8), Group(worker, gpus=8)],
        models=["deepseek-ai/DeepSeek-R1"],
    )
    inventory = build(recipe, "x", gpu="h200-141gb")
    check_rows(inventory.readings["decode"], [field.name for field in fields])
    check_round_trip(inventory)


def test_every_typed_option_of_sglang_has_a_way_back(tmp_path: Path) -> None:
    """An option that is added without one would be refused as an extra argument."""
    from wideep.engines.sglang.rules.registry import FLAGS

    text = "python -m dynamo.sglang --model-path /data/m --served-model-name deepseek-ai/DeepSeek-R1"
    for option, flag in FLAGS.items():
        known = SGLANG.find(f"--{flag}")
        assert known is not None
        value = "" if not known.takes_value else "1" if known.type in ("int", "float") else "auto"
        inventory = imported(tmp_path, f"{text} --{flag} {value}")
        options = inventory.variables["wideep_pools"]["aggregated"]["options"]
        assert option in options | options.get("sglang", {}), option


def test_engines_that_read_sources_say_so() -> None:
    assert {name for name, engine in ENGINES.items() if engine.dialect} == {"sglang", "trtllm"}
    assert set(FIELDS) <= set(TREE.fields)
