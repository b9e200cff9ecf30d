"""The model directory: what host_facts sees of it, and what is made of that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.host_facts import _model

from wideep.preflight import Facts, Host, Needs, Settings
from wideep.preflight.model import Clock, Disk, Ephemeral, Memory, ModelDirectory
from wideep.preflight.storage import disk, model


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
    seen = _model(path)
    return ModelDirectory(seen["path"], tuple(seen["files"]), tuple(seen["missing"]), seen["error"])


def test_nothing_is_asked_of_hosts_without_workers() -> None:
    assert list(model(host(), Settings())) == []


def test_a_complete_directory(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "a.safetensors"):
        (tmp_path / name).write_text("{}")
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
    for name in ("config.json", "tokenizer.json", "w0.safetensors"):
        (tmp_path / name).write_text("{}")
    shards = {str(n): f"w{n}.safetensors" for n in range(6)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (check,) = model(host(look(tmp_path)), Settings())
    assert check.seen.endswith(
        "lacks 5 of its weight files (w1.safetensors, w2.safetensors, w3.safetensors, …)"
    )


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
