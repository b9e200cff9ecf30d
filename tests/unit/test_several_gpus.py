"""The proofs on several GPUs of one host (tools/gpu_proof): what their steps deploy, and what is packed."""

from __future__ import annotations

import argparse
import struct
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


@pytest.fixture
def wide_ep(program: Any) -> Any:
    import wide_ep

    return wide_ep


WAYS = ("none", "low-latency", "auto", "v2", "eplb", "pools", "split", "overlap", "mtp")


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_handing_over_tokens_is_planned_beside_the_others(
    way: str, wide_ep: Any, program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuple(wide_ep.WAYS) == WAYS
    monkeypatch.setattr(program, "count", lambda: 4)
    monkeypatch.setattr(wide_ep, "count", lambda: 4)
    monkeypatch.setattr(program, "gpu_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(wide_ep, "shown", lambda _: {})
    monkeypatch.setattr(wide_ep.Wide, "model", lambda *_: Path("/srv/models/shape"))
    given = {"results": tmp_path, "state": Path("/srv/state"), "engine_python": "/opt/engine/bin/python"}
    host = wide_ep.Wide(argparse.Namespace(**given, address="192.0.2.7", etcd="", simulate=False))
    host.name, made = "all_to_all", []
    deployment = host.beside(way, WAYS.index(way))

    def deploy(**variables: Any) -> None:
        made.append(make_plan(*inventory("sglang_single_node", **deployment.variables() | variables)))

    monkeypatch.setattr(deployment, "deploy", deploy)
    assert "failed" not in wide_ep.deployed(deployment, *wide_ep.WAYS[way])
    (plan,) = made
    workers = [x for x in plan.launches["gpu01.example.com"] if x.component == "worker"]
    whole = "0,1,2,3"
    gpus = {"pools": [whole, whole], "split": ["0,1", "2,3"]}.get(way, [whole])
    assert [launch.env["CUDA_VISIBLE_DEVICES"] for launch in workers] == gpus
    for launch in workers:
        assert launch.env["NVSHMEM_DISABLE_NVLS"] == launch.env["SGLANG_DG_USE_NVRTC"] == "1"
        assert launch.env["NCCL_NVLS_ENABLE"] == "0"
        assert "--max-total-tokens" in launch.argv


def fat(*codes: tuple[int, int, bytes]) -> bytes:
    """Return a container of code for GPUs: kind (1: assembler, 2: machine code), architecture, code."""
    entries = b"".join(
        struct.pack("<HHIQIIHHI", kind, 0, 64, len(code), 0, 0, 0, 1, sm).ljust(64, b"\0") + code
        for kind, sm, code in codes
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def test_code_of_other_gpus_weighs_nothing_where_there_is_our_own(program: Any, tmp_path: Path) -> None:
    import pack

    ours, others = fat((2, 80, b"A" * 40), (2, 90, b"B" * 40), (1, 120, b"C" * 8)), fat((2, 80, b"D" * 40))
    names = b"\0.nv_fatbin\0.shstrtab\0"
    begin, codes = 64, ours + others
    table = begin + len(codes) + len(names)
    section = "<IIQQQQIIQQ"
    headers = struct.pack(section, *[0] * 10)
    headers += struct.pack(section, 1, 1, 0, 0, begin, len(codes), 0, 0, 8, 0)
    headers += struct.pack(section, 12, 3, 0, 0, begin + len(codes), len(names), 0, 0, 1, 0)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    library = tmp_path / "lib.so"
    library.write_bytes(head + codes + names + headers)
    pack.keep_code_of(90, library)
    left = library.read_bytes()
    assert len(left) == table + len(headers)
    assert b"A" * 40 not in left
    assert b"C" * 8 not in left
    assert b"B" * 40 in left
    assert b"D" * 40 in left
