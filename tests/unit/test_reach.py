"""Which ports a host connects to, and that each engine takes both inventories of DeepSeek-R1."""

from __future__ import annotations

import pytest
from example_inventories import inventory

from wideep.plan import make_plan


def peers(host: str, engine: str = "sglang") -> dict[str, list[int]]:
    plan = make_plan(*inventory("deepseek_r1_sglang", wideep_engine=engine))
    needs = plan.publish().to_dict()["hosts"][f"{host}.example.com"]["needs"]
    return {peer["name"].partition(".")[0]: peer["ports"] for peer in needs["peers"]}


def test_ranks_reach_their_head_and_everybody_the_control_plane() -> None:
    assert peers("prefill03") == {"control01": [2379, 4222], "prefill01": [21003, 21016, 21017]}
    # The head looks at the way to a rank, for its interface.
    assert peers("prefill01") == {"control01": [2379, 4222], "prefill02": []}


def test_decode_hosts_reach_the_bootstrap_server_of_a_prefill_head() -> None:
    assert peers("decode02") == {
        "control01": [2379, 4222],
        "decode01": [22003, 22016, 22017],
        "prefill01": [21002],
    }


def test_frontends_reach_every_worker() -> None:
    found = peers("control01")
    assert len(found) == 8
    assert found["decode04"] == [22000, 22001]


def test_each_prefill_head_is_tried_by_a_decode_host() -> None:
    groups, hosts = inventory("deepseek_r1_sglang")
    for n in range(5, 13):
        groups["prefill"].append(f"p{n}")
        hosts[f"p{n}"] = {**hosts["prefill01.example.com"], "ansible_host": f"192.0.2.{100 + n}"}
    data = make_plan(groups, hosts).publish().to_dict()["hosts"]
    tried = {
        peer["name"]
        for host in groups["decode"]
        for peer in data[host]["needs"]["peers"]
        if 21002 in peer["ports"]
    }
    assert tried == {"prefill01.example.com", "p5", "p9"}


@pytest.mark.parametrize(
    "name", ["deepseek_r1_sglang", "deepseek_r1_trtllm", "deepseek_r1_trtllm_h100", "sglang_single_node"]
)
@pytest.mark.parametrize("engine", ["sglang", "trtllm"])
def test_the_engine_is_one_variable(name: str, engine: str) -> None:
    # An inventory that installs from a lock file takes a second one: TensorRT-LLM has none.
    also = {"wideep_runtime": "container"} if (name, engine) == ("sglang_single_node", "trtllm") else {}
    plan = make_plan(*inventory(name, wideep_engine=engine, **also))
    workers = [launch for own in plan.launches.values() for launch in own if launch.component == "worker"]
    # What answers; TensorRT-LLM's other ranks wait for mpirun.
    heads = [launch for launch in workers if launch.health.kind == "http"]
    assert len(heads) == sum(len(pool.replicas) for pool in plan.deployment.pools)
    assert all(f"dynamo.{engine}" in launch.argv for launch in heads)


def test_ranks_of_tensorrt_llm_reach_the_watcher_of_their_head() -> None:
    assert peers("decode02", "trtllm") == {"control01": [2379, 4222], "decode01": [22017]}
    assert peers("prefill04", "trtllm") == {"control01": [2379, 4222], "prefill01": [21017]}
