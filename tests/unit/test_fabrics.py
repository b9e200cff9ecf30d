"""GPUs and networks of a whole plan: what an inventory says of them, and what workers get."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_inventories import inventory as example
from sglang_cases import R1, Combination, D, P, deployment

from wideep import published
from wideep.deployment.launch import Launch
from wideep.plan import Plan, make_plan
from wideep.problems import Problem, RefusedError
from wideep.programs import program
from wideep.reference.hardware import GpuCard, find_gpu

MODELS = "/models"
EFA = {"link": "efa", "rdma_devices": ["rdmap85s0", "rdmap86s0"]}
TRAY = {"link": "ib", "rdma_devices": ["mlx5_0", "mlx5_1", "mlx5_3", "mlx5_4"]}
NODES = 2
NVLINK_LIST = "cuda_copy,cuda_ipc,sm,self,tcp"


def plan(model: str, pool: str, env: dict[str, str] | None = None, /, **changes: Any) -> Plan:
    groups, hosts = deployment(Combination("", model, pool, **changes), MODELS)
    for own in hosts.values():
        own["wideep_pools"][pool]["env"] = env or {}
        for shape in own["wideep_pools"].values():
            shape["nodes_per_replica"] = min(shape["nodes_per_replica"], NODES)
            shape["options"]["data_parallel_size"] = NODES * 8
    return make_plan(groups, hosts)


def refused(*args: Any, **changes: Any) -> list[Problem]:
    with pytest.raises(RefusedError) as caught:
        plan(*args, **changes)
    return list(caught.value.problems)


def envs(made: Plan) -> list[dict[str, str]]:
    return [
        launch.env
        for launches in made.launches.values()
        for launch in launches
        if launch.component == "worker"
    ]


@pytest.mark.parametrize("env", [{}, {"UCX_TLS": "srd,cuda_copy,cuda_ipc"}])
def test_on_aws_no_default_is_refused(env: dict[str, str]) -> None:
    network = {"wideep_network": EFA, "wideep_eplb": {}}
    made = plan(R1, P, env, variables=network, both={"two_batch_overlap": False, "moe_dense_tp_size": 1})
    for found in envs(made):
        assert found["UCX_TLS"] == "srd,cuda_copy,cuda_ipc"
        assert "NCCL_NET" not in found
        assert not any(name.startswith("NVSHMEM") for name in found)


@pytest.mark.parametrize("asked", [{}, {"a2a_backend": "deepep"}])
def test_on_aws_the_remedies_for_32_gpus_lead_to_a_plan(asked: dict[str, Any]) -> None:
    groups, hosts = example("deepseek_r1_sglang", wideep_network=EFA)
    pools = deepcopy(next(iter(hosts.values()))["wideep_pools"])
    for own in pools.values():
        own["options"]["sglang"] = {**own["options"]["sglang"], **asked}
    hosts = {host: {**own, "wideep_pools": pools} for host, own in hosts.items()}
    with pytest.raises(RefusedError) as caught:
        make_plan(groups, hosts)
    remedies = {problem.remedy for problem in caught.value.problems}
    assert all("nodes_per_replica: 2, data_parallel_size: 16" in remedy for remedy in remedies)
    assert all("a2a_backend: none" in remedy for remedy in remedies) == bool(asked)
    for own in pools.values():
        own["nodes_per_replica"] = 2
        own["options"]["data_parallel_size"] = 16
        own["options"]["sglang"] |= dict.fromkeys(asked, "none")
    make_plan(groups, hosts)


@pytest.mark.parametrize("device", ["mlx5_0", "bnxt_re0", "erdma_0"])
def test_other_makers_devices_are_no_adapters_of_aws(device: str) -> None:
    network = {"wideep_network": {"link": "efa", "rdma_devices": ["rdmap85s0", device]}, "wideep_eplb": {}}
    found = refused(R1, P, variables=network)
    assert [p.message for p in found] == [f"link is efa, and {device} is the name of another maker's device"]


def test_a_link_of_aws_with_nvidias_devices_does_not_contradict_itself() -> None:
    network = {"wideep_network": {"link": "efa", "rdma_devices": ["mlx5_0"]}, "wideep_eplb": {}}
    found = refused(R1, D, both={"a2a_backend": "deepep"}, variables=network)
    assert [p.where.partition(" ")[0] for p in found] == ["wideep_network.rdma_devices"]


@pytest.mark.parametrize("device", ["rdmap85s0", "efa_0", "erdma_0"])
def test_deepep_drives_no_other_devices(device: str) -> None:
    network = {"wideep_network": {"link": "ib", "rdma_devices": [device]}}
    found = refused(R1, D, both={"a2a_backend": "deepep"}, variables=network)
    assert any(device in problem.message and "mlx5" in problem.message for problem in found)


@pytest.mark.parametrize("gpu", ["gb200-nvl72", "gb300-nvl72"])
def test_nvlink_between_hosts_is_no_way_by_tcp(gpu: str) -> None:
    made = plan(
        R1,
        P,
        {"UCX_TLS": NVLINK_LIST},
        variables={"wideep_network": TRAY, "wideep_gpu": gpu, "wideep_eplb": {}},
    )
    (told,) = [p for p in made.warnings if p.where == "wideep_pools.prefill.env.UCX_TLS"]
    assert "beyond the hosts that NVLink joins" in told.message


def test_the_same_list_goes_by_tcp_elsewhere() -> None:
    found = refused(R1, P, {"UCX_TLS": NVLINK_LIST}, variables={"wideep_network": TRAY})
    assert [p.where for p in found] == ["wideep_pools.prefill.env.UCX_TLS"]


def test_a_list_without_cuda_registers_no_cache() -> None:
    found = refused(R1, P, {"UCX_TLS": "rc_x,dc_x"}, variables={"wideep_network": TRAY})
    assert [p.remedy for p in found] == ["add cuda_copy and cuda_ipc to it, or remove it"]


OWN = {
    "product": "NVIDIA H200 in our build",
    "source": "nvidia-smi",
    "memory_mib": 143771,
    "compute": 90,
    "gpus_per_node": 8,
    "nvlink_domain": 8,
    "nics_per_node": 8,
    "nic_gbit": 200,
}


def own_card(place: Path, name: str, **changes: Any) -> None:
    (place / "hardware").mkdir(exist_ok=True)
    (place / "hardware" / f"{name}.yml").write_text(yaml.safe_dump(OWN | changes), encoding="utf-8")


def test_an_operators_card_is_known_to_plan_launches_and_preflight(tmp_path: Path) -> None:
    own_card(tmp_path, "our-rack", product="NVIDIA GB200 of ours", gpus_per_node=4, nvlink_domain=36)
    variables = {"wideep_gpu": "our-rack", "wideep_cards_dir": str(tmp_path), "wideep_network": TRAY}
    made = plan(R1, P, variables={**variables, "wideep_eplb": {}})
    assert {env["NCCL_MNNVL_ENABLE"] for env in envs(made)} == {"1"}
    needs = next(on.needs.gpu for on in (made.on(host) for host in made.deployment.hosts) if on.needs.gpu)
    assert needs.system is not None
    assert needs.system.product == "NVIDIA GB200 of ours"
    assert needs.system.fits("NVIDIA GB200", 143771)


def test_a_broken_card_names_its_file_and_fields(tmp_path: Path) -> None:
    own_card(tmp_path, "ours", memory="141 GB", compute=9)
    variables = {"wideep_gpu": "ours", "wideep_cards_dir": str(tmp_path)}
    (problem,) = refused(R1, P, variables=variables)
    assert problem.where == str(tmp_path / "hardware" / "ours.yml")
    assert "a card has no field `memory`" in problem.message
    assert "did you mean memory_mib?" in problem.remedy
    assert "`compute`" in problem.message


def test_a_broken_card_that_nobody_names_disturbs_no_plan(tmp_path: Path) -> None:
    own_card(tmp_path, "ours", compute=9)
    assert plan(R1, P, variables={"wideep_cards_dir": str(tmp_path)})


def test_an_operators_card_goes_before_the_projects(tmp_path: Path) -> None:
    own_card(tmp_path, "h100-80gb", memory_mib=90000)
    found, problems = find_gpu("h100-80gb", "a", [tmp_path])
    assert found is not None
    assert (found.memory_mib, problems) == (90000, [])
    assert find_gpu("h100-8gb", "a", [tmp_path])[1][0].remedy == "did you mean h100-80gb?"


def test_an_operators_card_comes_through_the_published_plan(tmp_path: Path) -> None:
    own_card(tmp_path, "ours", product="NVIDIA H200 of ours")
    made = plan(R1, P, variables={"wideep_gpu": "ours", "wideep_cards_dir": str(tmp_path)})
    again = published.read(json.loads(json.dumps(made.publish().to_dict())))
    found = [on.needs.gpu.own_card for on in again.hosts.values() if on.needs.gpu]
    assert set(found) == {GpuCard.model_validate(OWN | {"product": "NVIDIA H200 of ours"})}


NICS = [f"mlx5_{n}" for n in (3, 0, 5, 4, 9, 6, 11, 10)]
NAMED = {"link": "ib", "rdma_devices": sorted(NICS), "gpu_devices": NICS}


def workers(made: Plan) -> dict[str, Launch]:
    return {x.name: x for each in made.launches.values() for x in each if x.component == "worker"}


def flag(launch: Launch, name: str) -> str:
    return launch.argv[launch.argv.index(name) + 1]


def test_mooncake_has_the_device_of_each_gpu() -> None:
    network = {"wideep_network": NAMED, "wideep_kv_transfer": "mooncake"}
    made = plan(R1, P, variables=network)
    for launch in workers(made).values():
        devices = json.loads(flag(launch, "--disaggregation-ib-device"))
        assert devices == {str(n): name for n, name in enumerate(NICS)}
    assert not [p for p in made.warnings if "gpu_devices" in p.where]
    made = plan(R1, P, variables=network | {"wideep_network": {**NAMED, "gpu_devices": []}})
    assert flag(workers(made)["prefill-0-rank-1"], "--disaggregation-ib-device") == ",".join(sorted(NICS))


def test_ucx_of_sglang_has_all_devices_and_the_plan_says_so() -> None:
    made = plan(R1, P, variables={"wideep_network": NAMED})
    assert {len(env["UCX_NET_DEVICES"].split(",")) for env in envs(made)} == {8}
    (told,) = [p for p in made.warnings if "gpu_devices" in p.where]
    assert "chooses by PCI distance" in told.message


def test_a_rank_of_tensorrt_llm_has_its_own_device() -> None:
    groups, hosts = example("deepseek_r1_trtllm_h100", wideep_network=NAMED)
    made = make_plan(groups, hosts)
    found = workers(made)
    heads = [launch for launch in found.values() if "mpirun" in " ".join(launch.argv)]
    assert heads
    for launch in heads:
        at = launch.argv.index("trtllm-llmapi-launch")
        assert launch.argv[at - 3 : at - 1] == ("python3", "-IS")
        assert launch.argv[at - 1].endswith(program("rank_devices").file)
    for launch in found.values():
        assert launch.env["WIDEEP_RANK_DEVICES"] == ",".join(f"{name}:1" for name in NICS)
        assert "rank_devices" in {each.name for each in launch.programs}
    assert not [p for p in made.warnings if "gpu_devices" in p.where]


def test_tensorrt_llm_on_one_host_starts_its_ranks_itself() -> None:
    made = make_plan(*example("deepseek_r1_trtllm", wideep_network=NAMED))
    (told,) = [p for p in made.warnings if "gpu_devices" in p.where]
    assert "TensorRT-LLM starts the ranks" in told.message


@pytest.mark.parametrize(("rank", "device"), [("0", "a:1"), ("1", "b:1"), ("2", "all:1"), ("", "all:1")])
def test_the_program_before_a_rank_sets_its_device_and_becomes_the_command(
    rank: str, device: str, tmp_path: Path
) -> None:
    path = tmp_path / "rank_devices.py"
    path.write_bytes(program("rank_devices").content)
    given = {"WIDEEP_RANK_DEVICES": "a:1,b:1", "UCX_NET_DEVICES": "all:1", "OMPI_COMM_WORLD_LOCAL_RANK": rank}
    shown = "import os; print(os.environ['UCX_NET_DEVICES'])"
    words = [sys.executable, "-IS", str(path), sys.executable, "-c", shown]
    assert subprocess.check_output(words, env=given, text=True).strip() == device


@pytest.mark.parametrize(
    ("names", "words"), [(NICS[:4], "4 devices for 8 GPUs"), ([*NICS[:7], "mlx5_2"], "mlx5_2 is not in rdma")]
)
def test_a_wrong_list_of_devices_is_refused(names: list[str], words: str) -> None:
    found = refused(R1, P, variables={"wideep_network": {**NAMED, "gpu_devices": names}})
    assert all(p.where.startswith("wideep_network.gpu_devices") for p in found)
    assert words in found[0].message
