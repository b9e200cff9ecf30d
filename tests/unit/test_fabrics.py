"""GPUs and networks of a whole plan: what an inventory says of them, and what workers get."""

from __future__ import annotations

from typing import Any

import pytest
from sglang_cases import R1, Combination, D, P, deployment

from wideep.plan import Plan, make_plan
from wideep.problems import Problem, RefusedError

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
