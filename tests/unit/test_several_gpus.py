"""The proof on several GPUs of one host (tools/gpu_proof/several_gpus.py): what its steps deploy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from example_inventories import inventory
from places import REPOSITORY

from wideep.plan import Plan, make_plan

DEPLOYING = (
    "wide_dp",
    "kill_decode_mappings_kept",
    "mappings_kept_or_not",
    "experts_halves",
    "experts_whole",
    "experts_whole_eplb",
    "experts_all_to_all",
)


@pytest.fixture
def program() -> Iterator[Any]:
    folder = str(REPOSITORY / "tools" / "gpu_proof")
    sys.path.insert(0, folder)
    import several_gpus

    yield several_gpus
    sys.path.remove(folder)


def plans(program: Any, step: str, place: Path, gpus: int, monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Return what a step would deploy, on a machine with so many H100."""
    given = {"results": place, "state": place / "state", "engine_python": "/opt/engine/bin/python"}
    given |= {"address": "192.0.2.7", "etcd": "/opt/bin/etcd", "simulate": False}
    proof, made = program.Several(argparse.Namespace(**given)), []
    proof.name = step
    proof.log_dir.mkdir()

    def deploy(**variables: Any) -> None:
        made.append(make_plan(*inventory("sglang_single_node", **proof.variables() | variables)))

    monkeypatch.setattr(program, "count", lambda: gpus)
    monkeypatch.setattr(program, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(program, "used", list)
    monkeypatch.setattr(program, "by_process", list)
    monkeypatch.setattr(proof, "deploy", deploy)
    monkeypatch.setattr(proof, "load", lambda *_, **__: {"errors": []})
    monkeypatch.setattr(program, "killed", lambda *_: {})
    monkeypatch.setattr(program.one, "services", lambda: iter(()))
    monkeypatch.setattr(program, "lines_of", lambda *_: [])
    program.STEPS[step][1](proof)
    return made


@pytest.mark.parametrize("gpus", [4, 8])
@pytest.mark.parametrize("step", DEPLOYING)
def test_what_a_step_deploys_is_accepted_and_keeps_multicast_off(
    step: str, gpus: int, program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for plan in plans(program, step, tmp_path, gpus, monkeypatch):
        workers = [x for x in plan.launches["gpu01.example.com"] if x.component == "worker"]
        used = [gpu for x in workers for gpu in x.env["CUDA_VISIBLE_DEVICES"].split(",")]
        assert used == [str(gpu) for gpu in range(gpus)]
        for launch in workers:
            assert launch.env["NCCL_NVLS_ENABLE"] == "0"
            assert launch.env["TORCH_SYMM_MEM_DISABLE_MULTICAST"] == "1"
            assert "--enforce-disable-flashinfer-allreduce-fusion" in launch.argv
            assert launch.argv[launch.argv.index("--load-format") + 1] == "dummy"


def test_the_mappings_are_kept_once_and_once_not(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plans(program, "mappings_kept_or_not", tmp_path, 4, monkeypatch)
    prefill = [
        next(x for x in plan.launches["gpu01.example.com"] if x.name == "prefill-0").env for plan in made
    ]
    assert [env["UCX_CUDA_IPC_CACHE"] for env in prefill] == ["n", "y"]
