"""The model directory: what host_facts sees of it, and what is made of that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.model_files import inspect

from wideep.preflight import Check, Facts, Host, Needs, Settings
from wideep.preflight.model import Clock, Disk, Ephemeral, Memory, ModelDirectory, ModelNeeds
from wideep.preflight.storage import disk, model, same_model, shape


def host(found: ModelDirectory | None = None, place: Disk | None = None, disk_gb: float = 0.0) -> Host:
    facts = Facts(
        user="ops",
        root=False,
        pythons=(),
        memory=Memory(1, 1),
        limits={},
        listeners=(),
        ephemeral=Ephemeral(32768, 60999),
        clock=Clock(0.0),
        disk=place,
        model=found,
    )
    return Host("gpu-1", facts, Needs(disk_gb=disk_gb))


def look(path: Path) -> ModelDirectory:
    return ModelDirectory.of(inspect(path))


def test_nothing_is_asked_of_hosts_without_workers() -> None:
    assert list(model(host(), Settings())) == []


def safetensors(path: Path, size: int = 64) -> None:
    """Write a file of weights: the length of its header, the header, `size` bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))


def test_a_complete_directory(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    safetensors(tmp_path / "a.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    (check,) = model(host(look(tmp_path)), Settings())
    assert check.status == "ok"


@pytest.mark.parametrize(
    ("files", "lack"),
    [
        (["config.json"], "a tokenizer"),
        (["tokenizer.json"], "config.json"),
        ([], "config.json and a tokenizer"),
    ],
)
def test_what_lacks_is_named(tmp_path: Path, files: list[str], lack: str) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    (check,) = model(host(look(tmp_path)), Settings())
    assert check.status == "fail"
    assert f"{tmp_path} lacks {lack}" in check.seen
    assert "wideep_model_path" in check.remedy


def test_weights_that_the_index_names_in_vain(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    safetensors(tmp_path / "w0.safetensors")
    shards = {str(n): f"w{n}.safetensors" for n in range(6)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (check,) = model(host(look(tmp_path)), Settings())
    assert check.seen.endswith(
        "lacks 5 of its weight files (w1.safetensors, w2.safetensors, w3.safetensors, …)"
    )


@pytest.mark.parametrize("left", [4, 40, -1])
def test_weights_that_end_early(tmp_path: Path, left: int) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    weights = tmp_path / "model.safetensors"
    safetensors(weights)
    whole = weights.stat().st_size
    with weights.open("r+b") as file:
        file.truncate(left if left > 0 else whole + left)
    (check,) = model(host(look(tmp_path)), Settings())
    assert check.status == "fail"
    assert "lacks the end of 1 weight files (model.safetensors (" in check.seen
    if left == -1:
        assert f"({whole - 1} of {whole} bytes)" in check.seen


def test_weights_without_a_header_are_not_judged(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "other.safetensors").write_bytes((4).to_bytes(8, "little") + b"nope")
    assert look(tmp_path).truncated == ()


def test_a_download_needs_room_for_what_is_not_there(tmp_path: Path) -> None:
    part = tmp_path / ".wideep" / "partial"
    part.mkdir(parents=True)
    (part / "w0.safetensors").write_bytes(bytes(1000))
    found = look(tmp_path)
    assert found.bytes == 1000
    assert found.free > 0
    assert look(tmp_path / "not" / "there").free > 0

    def judge(free: float, gb: float) -> Check:
        directory = replace(found, free=int(free * 1e9), bytes=10**9)
        one = host(directory)
        (check,) = model(replace(one, needs=Needs(model_gb=gb)), Settings())
        return check

    assert judge(free=4.0, gb=5.0).status == "ok"
    short = judge(free=3.0, gb=5.0)
    assert (short.status, short.seen) == ("fail", "1.0 GB there, 3.0 GB free")
    assert short.remedy.startswith("free 1 GB there, or set wideep_model_path")


@pytest.mark.parametrize("content", ["not json", "[]", "{}"])
def test_a_directory_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    (absent,) = model(host(look(tmp_path / "absent")), Settings())
    assert (absent.status, "No such file" in absent.seen) == ("fail", True)
    (tmp_path / "model.safetensors.index.json").write_text(content)
    (broken,) = model(host(look(tmp_path)), Settings())
    assert broken.status == "fail"


def test_a_full_disk_stops_a_first_deployment_but_not_the_next() -> None:
    small = {"path": "/", "real_path": "/x", "free": 10**8, "total": 10**9}
    (first,) = disk(host(place=Disk(**small), disk_gb=2.0), Settings())
    (later,) = disk(host(place=Disk(**small, ours=True), disk_gb=2.0), Settings())
    assert (first.status, later.status) == ("fail", "warn")


# ---- which model it is ---------------------------------------------------------------------------

R1 = ModelNeeds("deepseek-ai/DeepSeek-R1", 61, 7168, 256, "fp8")
CONFIG = {
    "num_hidden_layers": 61,
    "hidden_size": 7168,
    "n_routed_experts": 256,
    "quantization_config": {"quant_method": "fp8"},
}


def judged(path: Path, config: dict[str, Any] | None) -> list[Check]:
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    asked = host(look(path))
    return list(shape(replace(asked, needs=replace(asked.needs, model=R1)), Settings()))


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({}, "ok", "256 experts"),
        ({"num_hidden_layers": 27, "hidden_size": 2048, "n_routed_experts": 64}, "fail", "27 layers of 2048"),
        ({"n_routed_experts": None}, "fail", "dense"),
        ({"quantization_config": None}, "warn", "16 bits"),
    ],
)
def test_the_model_is_the_one_of_the_plan(
    tmp_path: Path, change: dict[str, Any], status: str, word: str
) -> None:
    (check,) = judged(tmp_path, CONFIG | change)
    assert check.status == status
    assert word in check.seen
    assert check.remedy or status == "ok"


def test_nothing_is_said_of_what_cannot_be_read(tmp_path: Path) -> None:
    assert judged(tmp_path, None) == []
    (tmp_path / "config.json").write_text("{")
    assert judged(tmp_path, None) == []


def test_all_hosts_have_the_same_model(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in "abc"}
    for name, path in places.items():
        path.mkdir()
        (path / "config.json").write_text(json.dumps(CONFIG | ({"rope_theta": 1} if name == "b" else {})))
    hosts = [replace(host(look(path)), name=name) for name, path in places.items()]
    (check,) = same_model(hosts, Settings())
    assert (check.host, check.status) == ("b", "fail")
    assert "as on 2 hosts" in check.expected
    assert list(same_model([hosts[0], hosts[2]], Settings())) == []
