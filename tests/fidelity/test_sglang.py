"""Our SGLang commands and rules before the judge: the parser and checks of each release's own SGLang.

Needs its packages, which tools/sglang_env installs. No GPU. One process judges all commands of a release.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from example_inventories import inventory
from places import REPOSITORY
from sglang_cases import (
    DENSE,
    KIMI,
    LITE,
    NAMES,
    R1,
    RIGHT,
    SHAPE_DENSE,
    SHAPE_MOE,
    STRICTER,
    WRONG,
    Combination,
    deployment,
    judged,
)

from wideep.deployment.build import examine
from wideep.deployment.site import Site
from wideep.engines import ENGINES
from wideep.eplb.balance import balance
from wideep.eplb.placement import Cluster
from wideep.eplb.recording import read
from wideep.eplb.work import work_out
from wideep.plan import make_plan
from wideep.problems import RefusedError
from wideep.reference.models import ModelCard
from wideep.reference.release import releases

pytestmark = pytest.mark.fidelity


@pytest.fixture(params=releases())
def release(request: pytest.FixtureRequest) -> str:
    """A release of Dynamo whose SGLang is installed."""
    version = str(request.param)
    if not judge(version).exists():
        pytest.skip(f"SGLang of {version} is not installed: tools/sglang_env {version}")
    return version


def judge(release: str) -> Path:
    """Return the interpreter that has a release's SGLang."""
    return REPOSITORY / ".cache" / "releases" / release / "ai-dynamo-sglang" / "bin" / "python"


# Inventory, model, variables: each inventory that SGLang can serve, in each mode that it has.
ONE_POOL = {"wideep_aggregated": True}
TWO_ON_ONE = {"wideep_aggregated": False, "wideep_address": "192.0.2.7", "wideep_discovery": "file"}
SERVED: list[tuple[str, str, dict[str, Any]]] = [
    ("deepseek_r1_sglang", R1, {}),
    ("deepseek_r1_h100_sglang", R1, {}),
    ("deepseek_r1_h200_sglang", R1, {}),
    ("kimi_k2_h200_sglang", KIMI, {}),
    ("deepseek_r1_trtllm", R1, {}),
    ("deepseek_r1_trtllm_h100", R1, {}),
    ("deepseek_r1_trtllm", R1, ONE_POOL),
    ("sglang_single_node", DENSE, {}),
    ("sglang_single_node", LITE, {}),
    ("one_gpu", SHAPE_DENSE, {}),
    ("one_gpu", SHAPE_DENSE, TWO_ON_ONE),
    ("one_gpu", SHAPE_MOE, {}),
    ("one_gpu", SHAPE_MOE, TWO_ON_ONE),
    ("kubernetes_sglang", R1, {}),
    ("kubernetes_trtllm", R1, {}),
]


def config_json(card: ModelCard) -> dict[str, Any]:
    """Return the model's config.json as far as SGLang's checks read it."""
    a, e = card.attention, card.experts
    config: dict[str, Any] = {
        "hidden_size": card.hidden_size,
        "intermediate_size": card.intermediate_size,
        "num_hidden_layers": card.layers,
        "num_attention_heads": a.heads,
        "vocab_size": card.vocabulary,
        "max_position_embeddings": card.context_length,
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000,
    }
    if e is None:
        return config | {
            "architectures": [card.architecture],
            "model_type": card.architecture.removesuffix("ForCausalLM").lower(),
            "num_key_value_heads": a.kv_heads,
            "head_dim": a.head_dim,
        }
    third = card.weights == "fp8"
    config |= {
        "architectures": ["DeepseekV3ForCausalLM" if third else "DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v3" if third else "deepseek_v2",
        "num_key_value_heads": a.heads,
        "q_lora_rank": a.q_lora_rank,
        "kv_lora_rank": a.kv_lora_rank,
        "qk_nope_head_dim": a.head_dim,
        "qk_rope_head_dim": a.rope_head_dim,
        "v_head_dim": a.v_head_dim,
        "first_k_dense_replace": card.dense_layers,
        "moe_intermediate_size": e.intermediate_size,
        "moe_layer_freq": 1,
        "n_routed_experts": e.routed,
        "n_shared_experts": e.shared,
        "num_experts_per_tok": e.per_token,
        "n_group": e.groups,
        "topk_group": max(1, e.groups // 2),
        "topk_method": "noaux_tc" if third else "greedy",
        "scoring_func": "sigmoid" if third else "softmax",
        "routed_scaling_factor": 2.5 if third else 1.0,
    }
    if third:
        config["quantization_config"] = {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [card.block, card.block],
        }
    return config


def ours(combination: Combination, models: Path, release: str) -> bool:
    try:
        make_plan(*deployment(combination, str(models), release))
    except RefusedError:
        return False
    return True


def command(combination: Combination, models: Path, release: str) -> list[str]:
    """Return what SGLang would be given if nothing had been checked before."""
    groups, hosts = deployment(combination, str(models), release)
    colon = hosts["c0"]["wideep_model"] if ":" in hosts["c0"]["wideep_model"] else ""
    algorithm = "round_robin" in combination.argv
    for variables in hosts.values():  # what our types cannot hold goes in through argv
        variables["wideep_model"] = variables["wideep_model"].replace(":", "-")
        if algorithm:
            variables["wideep_eplb"] = {}
    made, problems = examine(groups, hosts)
    assert made is not None, problems
    pool = next(p for p in made.pools if p.name == combination.pool)
    replica = pool.replicas[0]
    launch = ENGINES["sglang"].launch(Site(made, replica.head.host), pool, replica, replica.head)
    words = [*launch.argv[3:], *combination.argv]
    return [*words, "--served-model-name", colon] if colon else words


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    for name in NAMES:
        card = ModelCard.model_validate(
            yaml.safe_load((REPOSITORY / "configs" / "models" / f"{name}.yml").read_text(encoding="utf-8"))
        )
        (directory / name).mkdir()
        (directory / name / "config.json").write_text(json.dumps(config_json(card)), encoding="utf-8")
    return directory


def inventory_commands(models: Path, release: str) -> dict[str, list[str]]:
    """Return every SGLang command of SERVED: inventory, mode, host, service -> arguments."""
    found = {}
    for name, model, changes in SERVED:
        own = {"wideep_engine": "sglang", "wideep_model": NAMES[model], "wideep_release": release, **changes}
        made = make_plan(*inventory(name, **own))
        mode = "aggregated" if made.deployment.pools[0].name == "aggregated" else "two pools"
        for replica, node in made.deployment.workers:
            (launch,) = (x for x in made.launches[node.host.name] if x.name == replica.service(node))
            words = list(launch.argv[launch.argv.index("-m") + 2 :])  # under the replica's `rank`
            words[words.index("--model-path") + 1] = str(models / model)
            if made.deployment.settings.on_kubernetes:
                words += operators_flags(len(replica.nodes), node.rank)
            found[f"{name} {model}, {mode}: {node.host.name} {launch.name}"] = words
    return found


def operators_flags(nodes: int, rank: int) -> list[str]:
    """Return what Dynamo's operator adds to the command of a pod that is one of several."""
    return ["--dist-init-addr", "leader:29500", "--nnodes", str(nodes), "--node-rank", str(rank)]


@pytest.fixture(scope="session")
def judged_already() -> dict[str, dict[str, Any]]:
    """Release -> verdicts."""
    return {}


@pytest.fixture
def verdicts(models: Path, release: str, judged_already: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if release not in judged_already:
        judged_already[release] = verdicts_of(models, release)
    return judged_already[release]


def verdicts_of(models: Path, release: str) -> dict[str, Any]:
    """Ask the release's SGLang about all commands at once."""
    commands = inventory_commands(models, release)
    commands |= {c.name: command(c, models, release) for c in (*RIGHT, *WRONG, *STRICTER) if c.of(release)}
    return asked(commands, release)


def asked(commands: dict[str, list[str]], release: str) -> dict[str, Any]:
    """Return the release's verdicts on commands."""
    tool = REPOSITORY / "tools" / "check_sglang_commands.py"
    done = subprocess.run(
        [judge(release), tool],
        input=json.dumps(list(commands.values())),
        capture_output=True,
        text=True,
        timeout=1800,
        check=True,
    )
    return dict(zip(commands, json.loads(done.stdout), strict=True))


def test_every_command_of_our_inventories_is_accepted(
    models: Path, release: str, verdicts: dict[str, Any]
) -> None:
    names = list(inventory_commands(models, release))
    assert len(names) == 8 + 8 + 7 + 6 + 5 + 4 + 5 + 2 + 2 + (1 + 2) * 2 + 8 + 4
    refused = {name: verdicts[name]["reason"] for name in names if not verdicts[name]["accepted"]}
    assert refused == {}
    for inventory_name, size in (("deepseek_r1_sglang", 32), ("deepseek_r1_trtllm_h100", 16)):
        own = [verdicts[name]["resolved"]["ep_size"] for name in names if name.startswith(inventory_name)]
        assert set(own) == {size}


def test_there_are_enough_combinations_and_each_is_named_once() -> None:
    names = [c.name for c in (*RIGHT, *WRONG, *STRICTER)]
    assert len(names) == len(set(names))
    assert len(RIGHT) + len(WRONG) >= 60
    assert min(len(RIGHT), len(WRONG)) >= 25


@pytest.mark.parametrize(("combination", "release"), judged(*RIGHT, *WRONG), indirect=["release"])
def test_our_verdict_is_sglangs(
    combination: Combination, release: str, models: Path, verdicts: dict[str, Any]
) -> None:
    theirs = verdicts[combination.name]
    assert theirs["accepted"] == combination.accepted, theirs.get("reason")
    assert ours(combination, models, release) == combination.accepted


@pytest.mark.parametrize(("combination", "release"), judged(*STRICTER), indirect=["release"])
def test_where_we_refuse_what_sglang_accepts(
    combination: Combination, release: str, models: Path, verdicts: dict[str, Any]
) -> None:
    theirs = verdicts[combination.name]
    assert combination.why
    assert theirs["accepted"], f"SGLang refuses it by now: {theirs.get('reason')}"
    assert not ours(combination, models, release)


def test_sglang_begins_with_the_placement_that_was_written(
    models: Path, release: str, tmp_path: Path
) -> None:
    counts = np.random.default_rng(7).integers(1, 1000, (4, 61, 256))
    counts[:, :3] = 0  # dense layers
    recording = tmp_path / "recording.json"
    recording.write_text(json.dumps({"logical_count": counts.tolist()}), encoding="utf-8")
    done = work_out(read(recording), Cluster(gpus=32, nodes=4, redundant=32), groups=8)
    ours, short = tmp_path / "decode.json", tmp_path / "short.json"
    ours.write_text(done.file("sglang"), encoding="utf-8")
    short.write_text(json.dumps({"physical_to_logical_map": done.placed[:, :-32].tolist()}), encoding="utf-8")

    begin = {"placed": ours, "counted": recording, "other slots": short}
    offered = {
        name: Combination(name, R1, "decode", eplb={"placement": str(file), "redundant_experts": 32})
        for name, file in begin.items()
    }
    theirs = asked({name: command(one, models, release) for name, one in offered.items()}, release)
    assert theirs["placed"]["accepted"], theirs["placed"].get("reason")
    assert theirs["placed"]["placed"] == done.placed.tolist()
    assert theirs["counted"]["accepted"], theirs["counted"].get("reason")
    assert not theirs["other slots"]["accepted"]

    # By SGLang's own placement of the same counts: ours is as even.
    own = balance(counts.sum(axis=0), tuple(range(61)), np.asarray(theirs["counted"]["placed"]), 32)
    assert done.after.overall <= own.overall * 1.001
