"""GPUs and networks of a whole plan: what an inventory says of them, and what workers get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from sglang_cases import R1, Combination, D, P, deployment

from wideep import published
from wideep.plan import Plan, make_plan
from wideep.problems import Problem, RefusedError
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
