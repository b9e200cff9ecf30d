"""TensorRT-LLM: our verdicts, the reason in each message, and what a process gets."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_inventories import inventory
from places import REPOSITORY
from trtllm_cases import (
    DENSE,
    LITE,
    NO_EPLB,
    OPTIONS,
    RIGHT,
    SAID,
    TRT,
    Change,
    D,
    P,
    deployment,
    gpu,
)

from wideep.deployment.build import examine
from wideep.deployment.launch import Launch
from wideep.deployment.site import Site
from wideep.engines import ENGINES
from wideep.engines.trtllm.options import TrtllmOptions, graph_sizes
from wideep.engines.trtllm.rules import FIELDS, OPTION_OF, OWNED, OWNED_FIELDS, RULES
from wideep.inventory.settings import Settings
from wideep.plan import Plan, make_plan
from wideep.problems import Problem, RefusedError
from wideep.programs import program
from wideep.published import Expected
from wideep.reference.models import find_model
from wideep.reference.release import find_release
from wideep.render import render, table

RELEASE = find_release()
VERSION = RELEASE.engines["tensorrt-llm"]
PREFILL, DECODE = "prefill-0-rank-0", "decode-0-rank-0"


def problems(change: Change) -> list[Problem]:
    """Return errors, or the warnings of what is accepted."""
    try:
        return list(make_plan(*deployment(change)).warnings)
    except RefusedError as refused:
        return list(refused.problems)


def launches(made: Plan) -> dict[str, Launch]:
    return {x.name: x for own in made.launches.values() for x in own if x.component == "worker"}


def launch(change: Change, name: str = DECODE) -> Launch:
    return launches(make_plan(*deployment(change)))[name]


def file(launch: Launch, name: str) -> str:
    return next(f.content for f in launch.files if Path(f.path).name == name)


def engine(change: Change, name: str = DECODE) -> Any:
    return yaml.safe_load(file(launch(change, name), "engine.yaml"))


# ---- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", RIGHT.values(), ids=list(RIGHT))
def test_what_is_right_is_accepted(change: Change) -> None:
    found = problems(change)
    assert [p for p in found if p.severity == "error"] == []
    assert all(p.message and p.where and p.remedy for p in found)


@pytest.mark.parametrize(("change", "severity", "where", "message", "remedy"), SAID.values(), ids=list(SAID))
def test_each_reason_is_said(change: Change, severity: str, where: str, message: str, remedy: str) -> None:
    found = [p for p in problems(change) if p.where == where and message in p.message]
    assert found, problems(change)
    assert any(p.severity == severity and remedy in p.remedy for p in found), found


def test_every_rule_says_why_it_exists_and_speaks_in_a_test() -> None:
    assert all(rule.__doc__ for rule in RULES)
    assert len({rule.__name__ for rule in RULES}) == len(RULES)


def test_copies_of_experts_that_could_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    card, _ = find_model("deepseek-r1", "")
    assert card
    fp4 = card.model_copy(update={"weights": "fp4", "block": 1})
    monkeypatch.setattr("wideep.engines.case.find_model", lambda *_: (fp4, []))
    [still] = [
        p
        for p in problems(Change(variables={"wideep_eplb": {"redundant_experts": 16}}))
        if "nothing moves" in p.message
    ]
    assert still.remedy == "set wideep_eplb.enabled: true"
    assert not [p for p in problems(Change()) if "not verified" in p.message]


def test_a_replica_has_one_kind_of_gpu_and_one_command() -> None:
    groups, hosts = deployment(Change())
    hosts["decode1"] |= {
        "wideep_gpu": "h100-80gb",
        "wideep_interface": "eth1",
        "wideep_python": "/usr/bin/python3",
        "wideep_state_dir": "/srv/wideep",
    }
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, hosts)
    assert {p.where for p in refused.value.problems} == {
        "wideep_gpu on host decode0",
        "wideep_interface on host decode1",
        "wideep_python on host decode1",
        "wideep_state_dir on host decode1",
    }
    assert "mpirun gives all hosts of a replica the same" in str(refused.value)


def test_each_host_has_its_own_devices() -> None:
    groups, hosts = deployment(Change())
    hosts["decode1"]["wideep_network"] = {"link": "ib", "rdma_devices": ["mlx5_4"]}
    made = launches(make_plan(groups, hosts))
    assert made[DECODE].env["UCX_NET_DEVICES"] == "mlx5_0:1,mlx5_1:1"
    assert made[f"{DECODE[:-1]}1"].env["UCX_NET_DEVICES"] == "mlx5_4:1"


def test_in_containers_no_host_has_an_interpreter() -> None:
    groups, hosts = deployment(RIGHT["in containers"])
    hosts["decode1"]["wideep_python"] = "/usr/bin/python3"
    assert make_plan(groups, hosts)


def test_hosts_of_one_node_replicas_may_differ() -> None:
    groups, hosts = deployment(Change(model=LITE, variables=NO_EPLB))
    hosts["decode0"]["wideep_interface"] = "ib0"
    hosts["decode0"]["wideep_service_user"] = hosts["prefill0"]["wideep_service_user"]
    assert make_plan(groups, hosts)


def test_an_aggregated_pool_hands_nothing_over() -> None:
    change = Change(variables={"wideep_aggregated": True})
    groups, hosts = deployment(change)
    pool = {"nodes_per_replica": 2, "options": {"data_parallel_size": 16, "max_tokens_in_buffer": 8192}}
    for variables in hosts.values():
        variables["wideep_pools"] = {"aggregated": pool}
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, hosts)
    assert [p.where for p in refused.value.problems] == [
        "wideep_pools.aggregated.options.max_tokens_in_buffer"
    ]


# ---- names ---------------------------------------------------------------------------------------


def test_every_flag_and_field_exists_in_the_pinned_versions() -> None:
    flags, fields = RELEASE.catalogue("dynamo.trtllm"), RELEASE.fields("tensorrt-llm").fields
    for flag in (*OWNED, *OPTION_OF):
        found = flags.find(f"--{flag}")
        assert found, flag
        assert not found.deprecated
    assert set(FIELDS) | set(OWNED_FIELDS) <= fields.keys()
    assert set(FIELDS.values()) | set(OPTION_OF.values()) <= TrtllmOptions.model_fields.keys()
    assert not OWNED.keys() & OPTION_OF.keys()
    assert not FIELDS.keys() & OWNED_FIELDS.keys()
    settings = {f"wideep_{name}" for name in Settings.model_fields}
    owners = {owner.partition(".")[0] for owner in (*OWNED.values(), *OWNED_FIELDS.values())}
    assert {owner for owner in owners if owner.startswith("wideep_")} <= settings


# ---- launches ------------------------------------------------------------------------------------


def test_the_head_starts_all_ranks_through_mpi() -> None:
    made = make_plan(*deployment(Change()))
    assert set(launches(made)) == {PREFILL, DECODE, f"{PREFILL[:-1]}1", f"{DECODE[:-1]}1"}
    head = launches(made)[DECODE]
    command = head.argv[head.argv.index("--") + 1 :]
    assert command[:5] == ("mpirun", "-n", "16", "--hostfile", f"/var/lib/wideep/services/{DECODE}/hosts")
    assert "--leave-session-attached" in command
    assert file(head, "hosts") == "192.0.2.4 slots=8\n192.0.2.5 slots=8\n"
    worker = head.argv[head.argv.index("trtllm-llmapi-launch") + 1 :]
    assert worker[:3] == ("/opt/trtllm/bin/python3", "-m", "dynamo.trtllm")
    assert head.argv[head.argv.index("--wdir") + 1] == "/var/lib/wideep"
    assert made.expected["decode"] == Expected("backend", "dynamo", 1, Site.generations)


def test_ranks_have_the_environment_of_their_own_service() -> None:
    """Mpirun passes none of it on: no value is on a command line."""
    change = Change(env={"SOME_NAME": "not-to-be-seen"}, variables={"secrets_env": {"TOKEN": "s3cret"}})
    head, rank = (launch(change, name) for name in (DECODE, f"{DECODE[:-1]}1"))
    assert "-x" not in head.argv
    assert not any("not-to-be-seen" in word or "mlx5" in word for word in head.argv)
    ours = {
        "SOME_NAME",
        "PATH",
        "CUDA_VISIBLE_DEVICES",
        "NCCL_IB_HCA",
        "UCX_NET_DEVICES",
        "TRTLLM_EPLB_SHM_NAME",
    }
    assert {name: rank.env[name] for name in ours} == {name: head.env[name] for name in ours}
    assert not any(name.startswith(("OMPI_", "PRTE_")) for name in rank.env)
    assert rank.env_files == head.env_files == ("/var/lib/wideep/secrets/worker.env",)
    assert rank.lock_memory


def test_mpi_uses_the_interface_between_the_hosts_and_no_ssh() -> None:
    env = launch(Change()).env
    assert {v for k, v in env.items() if k.endswith("if_include")} == {"eth0"}
    agents = {v for k, v in env.items() if k.endswith(("rsh_agent", "ssh_agent"))}
    assert {Path(agent.split()[2]).name for agent in agents} == {program("launch_agent").file}
    assert {v for k, v in env.items() if k.endswith(("no_tree_spawn", "fqdn_hostnames"))} == {"1"}
    assert env["PATH"].startswith("/opt/trtllm/bin:")
    assert env["TRTLLM_EPLB_SHM_NAME"] == "moe_wideep_decode-0"
    assert (env["NCCL_SOCKET_IFNAME"], env["UCX_NET_DEVICES"]) == ("=eth0", "mlx5_0:1,mlx5_1:1")
    # DeepEP may be what TensorRT-LLM takes between these hosts.
    assert (env["NVSHMEM_HCA_LIST"], env["NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME"]) == (
        "mlx5_0:1,mlx5_1:1",
        "eth0",
    )


@pytest.mark.parametrize(
    "change",
    [
        Change(options={"data_parallel_size": 1}),
        Change(variables=gpu("gb200-nvl72")),
        Change(own={"all_to_all": "allgather"}),
        Change(variables={"nodes": 3, "wideep_eplb": {"redundant_experts": 8}}),
    ],
    ids=["attention by tensors", "NVLink between hosts", "forced", "three hosts"],
)
def test_where_deepep_is_not_used_nvshmem_has_no_variables(change: Change) -> None:
    assert not any(name.startswith("NVSHMEM") for name in launch(change).env)


def test_what_carries_tokens_may_be_forced() -> None:
    assert launch(Change(own={"all_to_all": "deepep"})).env["TRTLLM_FORCE_COMM_METHOD"] == "DEEPEP"
    assert "TRTLLM_FORCE_COMM_METHOD" not in launch(Change()).env


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({"wideep_service_user": "dynamo"}, False),
        ({"wideep_service_user": "root"}, True),
        ({"wideep_service_user": ""}, True),
        (RIGHT["in containers"].variables, True),
    ],
)
def test_open_mpi_is_told_where_it_runs_as_root(variables: dict[str, Any], root: bool) -> None:
    env = launch(Change(variables=variables)).env
    allowed = {name for name in env if "ALLOW_RUN_AS_ROOT" in name}
    names = {f"{which}_ALLOW_RUN_AS_ROOT{more}" for which in ("OMPI", "PRTE") for more in ("", "_CONFIRM")}
    assert allowed == (names if root else set())


def test_in_containers_the_ranks_are_in_them() -> None:
    made = launches(make_plan(*deployment(RIGHT["in containers"])))
    head, rank = made[DECODE], made[f"{DECODE[:-1]}1"]
    for one in (head, rank):
        assert one.argv[:2] == ("podman", "run")
        assert "--network=host" in one.argv
        assert "--entrypoint=python3" in one.argv
        assert {"--device=nvidia.com/gpu=0", "--device=nvidia.com/gpu=7"} <= set(one.argv)
    assert "--cap-add=SYS_PTRACE" in head.argv
    by_tensors = replace(RIGHT["in containers"], options={"data_parallel_size": 1})
    assert "--cap-add=SYS_PTRACE" not in launch(by_tensors).argv
    assert {"--env=OMPI_MCA_plm_rsh_agent", "--env=PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"} <= set(head.argv)
    assert "mpirun" in head.argv
    assert "mpirun" not in rank.argv
    # The image's own, which has Open MPI and its libraries on it.
    assert not any(word.startswith("--env=PATH") for word in (*head.argv, *rank.argv))


def test_a_draft_model_is_there_in_containers() -> None:
    eagle = {"algorithm": "eagle3", "steps": 2, "draft_model": "/data/models/eagle"}
    change = replace(RIGHT["in containers"], both={"speculative": eagle})
    assert "--volume=/data/models/eagle:/data/models/eagle:ro" in launch(change).argv
    beside = replace(change, both={"speculative": {**eagle, "draft_model": "/data/models/it/eagle"}})
    assert not any("it/eagle" in word for word in launch(beside).argv if word.startswith("--volume"))


def test_two_mpirun_in_containers_of_one_host_are_refused() -> None:
    change = replace(RIGHT["in containers"], both={"data_parallel_size": 8})
    groups, hosts = deployment(change)
    groups["decode"] = groups["prefill"]
    for own in hosts.values():
        own["wideep_eplb"] = {}
        for pool in own["wideep_pools"].values():
            pool["gpus_per_node"] = 4
    with pytest.raises(RefusedError) as refused:
        make_plan(groups, hosts)
    assert {p.where for p in refused.value.problems} == {
        "wideep_runtime, for host prefill0",
        "wideep_runtime, for host prefill1",
    }
    assert "2 replicas of several hosts have a part here" in refused.value.problems[0].message
    existing = {"wideep_runtime": "existing", "wideep_python": "/opt/trtllm/bin/python3"}
    assert make_plan(groups, {name: own | existing for name, own in hosts.items()})


def test_sequences_divided_over_gpus_count_in_the_world() -> None:
    groups, hosts = deployment(Change(both={"data_parallel_size": 1}, variables=NO_EPLB))
    for own in hosts.values():
        for pool in own["wideep_pools"].values():
            divided = {"context_parallel_size": 2, "cp_config": {"cp_type": "HELIX"}}
            pool["options"].setdefault("trtllm", {})["engine_args"] = divided
    head = launches(make_plan(groups, hosts))[DECODE]
    assert yaml.safe_load(file(head, "engine.yaml"))["tensor_parallel_size"] == 8
    assert head.argv[head.argv.index("-n") + 1] == "16"


def test_a_replica_of_one_host_needs_no_mpirun() -> None:
    worker = launch(Change(model=LITE, variables=NO_EPLB), "decode-0")
    assert worker.argv[0] == "/opt/trtllm/bin/python3"
    assert [Path(f.path).name for f in worker.files if f.path.endswith("yaml")] == ["engine.yaml"]
    assert not any(name.startswith(("OMPI_", "PRTE_", "TRTLLM_")) for name in worker.env)


def test_mpirun_may_be_elsewhere() -> None:
    own = {"mpirun": "/opt/hpcx/ompi/bin/mpirun"}
    assert own["mpirun"] in launch(Change(own=own)).argv


def test_the_head_is_asked_for_its_endpoint() -> None:
    head = launch(Change())
    assert head.health.url == "http://192.0.2.4:22000/health"
    assert (head.health.json_path, head.health.json_value) == ("endpoints.generate", "ready")
    assert [p.purpose for p in head.ports] == ["system", "rpc", "gang"]
    assert head.lock_memory
    assert head.cleanup[0] == "/opt/trtllm/bin/python3"
    rank = launch(Change(), f"{DECODE[:-1]}1")
    assert (rank.health.kind, rank.ports, rank.cleanup) == ("process", (), ())


def test_each_side_says_who_it_is() -> None:
    made = launches(make_plan(*deployment(Change())))
    for name, mode, component in ((PREFILL, "prefill", "prefill"), (DECODE, "decode", "backend")):
        argv = made[name].argv
        assert argv[argv.index("--disaggregation-mode") + 1] == mode
        assert argv[argv.index("--endpoint") + 1] == f"dyn://dynamo.{component}.generate"
        assert argv[argv.index("--gpus-per-node") + 1] == "8"
        assert argv[argv.index("--extra-engine-args") + 1] == f"/var/lib/wideep/services/{name}/engine.yaml"
    assert "--publish-kv-events" in made[PREFILL].argv
    assert "--publish-kv-events" not in made[DECODE].argv
    assert "--publish-metrics" in made[DECODE].argv
    older = launches(make_plan(*deployment(Change(variables={"wideep_release": RELEASE.previous}))))
    assert "--publish-metrics" not in older[DECODE].argv
    assert (
        "--publish-kv-events" not in launch(Change(variables={"wideep_router_mode": "random"}), PREFILL).argv
    )


def test_the_engines_files_differ_as_prefill_and_decode_do() -> None:
    prefill, decode = engine(Change(), PREFILL), engine(Change())
    assert prefill["cuda_graph_config"] is None
    assert decode["cuda_graph_config"]["batch_sizes"] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert (prefill["disable_overlap_scheduler"], decode["disable_overlap_scheduler"]) == (True, False)
    assert (prefill["max_num_tokens"], decode["max_num_tokens"]) == (8448, 256)
    assert decode["moe_config"]["max_num_tokens"] == 4096
    for tree in (prefill, decode):
        assert tree["cache_transceiver_config"] == {"backend": "NIXL", "max_tokens_in_buffer": 8448}
        assert tree["kv_cache_config"]["dtype"] == "fp8"
        assert tree["enable_attention_dp"] is True


def test_drafts_are_the_engines() -> None:
    made = engine(RIGHT["MTP"])
    assert made["speculative_config"] == {"decoding_type": "MTP", "max_draft_len": 3}
    assert made["max_num_tokens"] == 64 * 4
    assert engine(RIGHT["MTP"], PREFILL)["speculative_config"] == made["speculative_config"]
    # How many is the model's own, where nobody says it.
    assert engine(Change(both={"speculative": {"algorithm": "mtp"}}))["speculative_config"] == {
        "decoding_type": "MTP"
    }
    eagle = {"algorithm": "eagle3", "steps": 2, "draft_model": "/data/models/eagle"}
    assert engine(Change(both={"speculative": eagle}))["speculative_config"] == {
        "decoding_type": "Eagle3",
        "max_draft_len": 2,
        "speculative_model": "/data/models/eagle",
    }
    assert "speculative_config" not in engine(Change())


def test_experts_begin_where_they_are_placed() -> None:
    made = launch(RIGHT["a placement"])
    placed = yaml.safe_load(file(made, "eplb.yaml"))["initial_global_assignments"]
    assert (len(placed), len(placed[3]), placed[60][-1]) == (58, 272, 15)
    alone = {"wideep_eplb": {"placement": {n: [*range(255, -1, -1)] for n in range(3, 61)}}}
    assert yaml.safe_load(file(launch(Change(variables=alone)), "eplb.yaml"))["num_slots"] == 256


def test_each_pool_may_balance_in_its_own_way() -> None:
    own = Change(pool=P, pools={"eplb": {"enabled": False, "redundant_experts": 0}})
    made = launches(make_plan(*deployment(own)))
    assert not any(f.path.endswith("eplb.yaml") for f in made[PREFILL].files)
    assert yaml.safe_load(file(made[DECODE], "eplb.yaml"))["num_slots"] == 272
    # Attention by tensors: nothing to balance there, and decode has what is shared.
    made = launches(make_plan(*deployment(RIGHT["prefill without balanced experts"])))
    assert not any(f.path.endswith("eplb.yaml") for f in made[PREFILL].files)
    assert "TRTLLM_EPLB_SHM_NAME" not in made[PREFILL].env
    assert "TRTLLM_EPLB_SHM_NAME" in made[DECODE].env


def test_ucx_by_itself_has_the_variables_of_nixl() -> None:
    ucx, nixl = (Change(variables={"wideep_kv_transfer": name}) for name in ("ucx", "nixl"))
    assert engine(ucx)["cache_transceiver_config"]["backend"] == "UCX"
    assert launch(ucx).env == launch(nixl).env


def test_ucx_by_itself_is_not_sglangs() -> None:
    with pytest.raises(RefusedError) as refused:
        make_plan(*inventory("deepseek_r1_sglang", wideep_kv_transfer="ucx"))
    [problem] = refused.value.problems
    assert problem.where == "wideep_kv_transfer"
    assert "no transfer backend ucx (it has mooncake, nixl" in problem.message
    assert make_plan(*inventory("deepseek_r1_sglang", wideep_kv_transfer="nixl"))


def test_decode_buffers_what_prefill_may_send() -> None:
    change = Change(options={"context_length": 9472})
    assert engine(change)["cache_transceiver_config"]["max_tokens_in_buffer"] == 8448
    assert engine(change)["max_seq_len"] == 9472


def test_where_only_decode_says_a_length_prefill_takes_no_longer_prompts() -> None:
    groups, hosts = deployment(Change(options={"context_length": 2088}))
    for own in hosts.values():
        own["wideep_pools"]["prefill"]["options"].pop("context_length", None)
    made = launches(make_plan(groups, hosts))
    for name in (PREFILL, DECODE):
        tree = yaml.safe_load(file(made[name], "engine.yaml"))
        assert tree["max_seq_len"] == tree["cache_transceiver_config"]["max_tokens_in_buffer"] == 2088


def test_the_load_balancer_counts_slots() -> None:
    online = launch(Change())
    assert yaml.safe_load(file(online, "eplb.yaml")) == {"num_slots": 272, "layer_updates_per_iter": 1}
    assert engine(Change())["moe_config"]["load_balancer"].endswith(f"/{DECODE}/eplb.yaml")
    fixed = launch(Change(variables={"wideep_eplb": {"redundant_experts": 16}}))
    assert yaml.safe_load(file(fixed, "eplb.yaml"))["layer_updates_per_iter"] == 0
    assert "load_balancer" not in engine(Change(variables=NO_EPLB))["moe_config"]


def test_options_reach_the_engine() -> None:
    both = {"load_format": "dummy", "trust_remote_code": True, "kv_cache_dtype": "bf16"}
    own = {"engine_args": {"print_iter_log": True, "kv_cache_config": {"host_cache_size": 7}}}
    tree = engine(Change(both=both, own=own))
    assert (tree["load_format"], tree["trust_remote_code"], tree["print_iter_log"]) == ("dummy", True, True)
    assert tree["kv_cache_config"]["dtype"] == "bfloat16"
    assert tree["kv_cache_config"]["host_cache_size"] == 7
    assert engine(Change(own={"cuda_graphs": False}))["cuda_graph_config"] is None
    assert engine(Change(both={"context_length": 65536}), PREFILL)["enable_chunked_prefill"] is True
    assert engine(Change(both={"context_length": 65536}), PREFILL)["max_num_tokens"] == 8192
    assert engine(RIGHT["drafts"])["max_num_tokens"] == 64 * 4
    for config, drafts in (
        ({"decoding_type": "MTP", "num_nextn_predict_layers": 2}, 2),
        ({"decoding_type": "MTP"}, 1),
        ({"decoding_type": "Eagle", "max_draft_len": 5}, 5),
        ({"decoding_type": "NGram", "max_draft_len": "of no use"}, 0),
    ):
        made = Change(own={"cuda_graph_max_bs": 64, "engine_args": {"speculative_config": config}})
        assert engine(made)["max_num_tokens"] == 64 * (1 + drafts)


def test_a_dense_model_has_no_experts_section() -> None:
    change = Change(model=DENSE, both={"data_parallel_size": 8}, variables=NO_EPLB)
    tree = engine(change, "decode-0")
    assert not {"moe_config", "moe_expert_parallel_size"} & tree.keys()
    assert tree["kv_cache_config"]["tokens_per_block"] == 32


def test_graph_sizes_end_at_the_largest() -> None:
    assert graph_sizes(1) == [1]
    assert graph_sizes(24) == [1, 2, 4, 8, 16, 24]


# ---- the repository's inventory ------------------------------------------------------------------


H200, H100 = "deepseek_r1_trtllm", "deepseek_r1_trtllm_h100"


@pytest.mark.parametrize(
    ("reference", "name", "service", "variables"),
    [
        ("dep8_prefill", H200, "prefill-0", {}),
        ("dep8_decode", H200, "decode-3", {}),
        ("wide_ep_prefill", H100, PREFILL, {}),
        ("wide_ep_decode", H100, DECODE, {}),
        ("wide_ep_agg", H100, "aggregated-0-rank-0", {"wideep_aggregated": True}),
        ("eplb", H100, DECODE, {"wideep_eplb": {"redundant_experts": 16}}),
    ],
)
def test_the_reference_files_are_what_the_inventories_give(
    reference: str, name: str, service: str, variables: dict[str, Any]
) -> None:
    made = launches(make_plan(*inventory(name, **variables)))[service]
    text = (REPOSITORY / "configs" / "trtllm" / f"{reference}.yaml").read_text(encoding="utf-8")
    kind = "eplb.yaml" if reference == "eplb" else "engine.yaml"
    assert yaml.safe_load(text) == yaml.safe_load(file(made, kind))


def test_on_h200_a_replica_is_a_host_and_nothing_is_to_be_said_but_the_image() -> None:
    made = make_plan(*inventory(H200))
    assert [(pool.name, len(pool.replicas)) for pool in made.deployment.pools] == [
        ("prefill", 1),
        ("decode", 4),
    ]
    assert {w.where for w in made.warnings} == {"wideep_image"}
    for pool, budget in made.engine.memory(made.deployment).items():
        # Most of what weights leave is used, and what comes later has room.
        assert budget.rest > sum(budget.beside.values()), pool
        assert budget.kv > 0.6 * (budget.memory - sum(budget.weights.values())), pool
    assert not any(launch.gang for own in made.launches.values() for launch in own)


def test_on_h100_the_plan_says_which_backend_and_hosts_talk_by_deepep() -> None:
    made = make_plan(*inventory(H100))
    assert {w.where for w in made.warnings} == {
        "wideep_pools.prefill.options.trtllm.moe_backend",
        "wideep_pools.decode.options.trtllm.moe_backend",
        "wideep_image",
    }
    env = launches(made)[DECODE].env
    assert env["TRTLLM_FORCE_COMM_METHOD"] == "DEEPEP"
    assert env["NVSHMEM_HCA_LIST"].count("mlx5_") == 8
    with pytest.raises(RefusedError, match=r"do not fit a GPU of 79\.6 GiB"):
        make_plan(*inventory(H200, wideep_gpu="h100-80gb"))


def test_one_variable_switches_to_aggregated_and_back() -> None:
    groups, hosts = inventory(H100, wideep_aggregated=True)
    made = make_plan(groups, hosts)
    assert [(pool.name, len(pool.replicas)) for pool in made.deployment.pools] == [("aggregated", 2)]
    assert "cache_transceiver_config" not in file(launches(made)["aggregated-1-rank-0"], "engine.yaml")
    assert not any(w.where.startswith("wideep_pools.prefill") for w in made.warnings)
    shared = copy.deepcopy(groups) | {"decode": groups["prefill"]}
    deployment, _ = examine(shared, hosts)
    assert deployment
    assert [len(pool.replicas) for pool in deployment.pools] == [1]
    made = make_plan(*inventory(H200, wideep_aggregated=True))
    assert [(pool.name, len(pool.replicas)) for pool in made.deployment.pools] == [("aggregated", 5)]


@pytest.mark.parametrize(
    ("name", "other"), [(H200, "sglang"), (H100, "sglang"), ("deepseek_r1_sglang", "trtllm")]
)
def test_the_engine_alone_switches(name: str, other: str, tmp_path: Path) -> None:
    made = make_plan(*inventory(name, wideep_engine=other))
    assert made.engine is ENGINES[other]
    assert render(made, tmp_path)
    assert not [w for w in made.warnings if "memory" in w.where or "context_length" in w.where]


def test_the_single_node_inventory_switches_too() -> None:
    """With a runtime that has the engine: there is no lock file of it."""
    with pytest.raises(RefusedError) as refused:
        make_plan(*inventory("sglang_single_node", wideep_engine="trtllm"))
    assert [p.where for p in refused.value.problems] == ["wideep_runtime"]
    made = make_plan(*inventory("sglang_single_node", wideep_engine="trtllm", wideep_runtime="container"))
    assert "--device=nvidia.com/gpu=2" in launches(made)["decode-0"].argv
    assert [w.where for w in made.warnings] == ["wideep_image"]


def test_the_mocker_takes_hosts_but_not_the_options_of_another_engine() -> None:
    with pytest.raises(RefusedError):
        make_plan(*inventory(H200, wideep_engine="mocker"))


def test_every_host_of_a_replica_has_a_service_and_needs_what_its_ranks_need(tmp_path: Path) -> None:
    online = {"wideep_eplb": {"enabled": True, "redundant_experts": 16}}
    made = make_plan(*inventory(H100, **online))
    [line] = [line for line in table(made).splitlines() if line.startswith("decode02")]
    assert f"{DECODE[:-1]}1" in line
    assert "1 of 2" in line
    host = made.publish().to_dict()["hosts"]["decode02.example.com"]
    assert [launch["name"] for launch in host["launches"]["worker"]] == [f"{DECODE[:-1]}1"]
    assert host["needs"]["model_path"] == "/data/models/DeepSeek-R1"
    assert [p["name"] for p in host["needs"]["peers"]] == ["control01.example.com", "decode01.example.com"]
    # Online balancing keeps all experts in shared memory.
    assert 600 < host["needs"]["gpu"]["shm_gb"] < 700
    assert host["needs"]["gpu"]["packages"]["tensorrt-llm"] == VERSION
    folders = {p.parent.parent.name for p in render(made, tmp_path)}
    assert folders == {f"{host.name}" for host in made.deployment.hosts}


def test_more_hosts_make_more_replicas() -> None:
    groups, hosts = deployment(Change(pool=P))
    for n in (2, 3):
        groups["prefill"].append(f"prefill{n}")
        hosts[f"prefill{n}"] = {**hosts["prefill0"], "ansible_host": f"192.0.2.{50 + n}"}
    made = make_plan(groups, hosts)
    assert made.expected["prefill"].count == 2
    assert file(launches(made)["prefill-1-rank-0"], "hosts") == "192.0.2.52 slots=8\n192.0.2.53 slots=8\n"


def test_where_an_option_is_said_to_be_set() -> None:
    beside = replace(Change(), options={"max_num_tokens": 1})
    assert f"{OPTIONS}.max_num_tokens" in {p.where for p in problems(beside)}
    assert f"{TRT}.max_num_tokens" in {p.where for p in problems(Change(own={"max_num_tokens": 1}))}
    assert D in OPTIONS
