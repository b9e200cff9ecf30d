"""The module state_dir on real directories: nothing is taken over, nothing foreign is removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.modules import state_dir
from modules import call_module

Call = dict[str, Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs the module as Ansible does and returns its result."""

    def call(path: Path, state: str = "present", *, deployment: str = "wideep", check: bool = False) -> Call:
        options = {"path": str(path), "deployment": deployment, "state": state}
        arguments = {**options, "_ansible_check_mode": check}
        result: Call = call_module(state_dir, arguments, capsys)
        return result

    return call


def fill(path: Path) -> None:
    for name in (
        "services/nats",
        "supervisor",
        "data/etcd",
        "log",
        "model/rehearsal",
        "opt",
        "venv/x",
        "bin",
    ):
        (path / name).mkdir(parents=True)
        (path / name / "file").write_text("x", encoding="utf-8")


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def test_it_is_made_once(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "a" / "state"
    assert run(path, check=True)["changed"]
    assert not path.exists()
    assert run(path)["changed"]
    assert names(path) == {".wideep.json"}
    assert not run(path)["changed"]
    fill(path)
    assert not run(path)["changed"]


def test_an_empty_directory_is_taken(tmp_path: Path, run: Any) -> None:
    assert run(tmp_path)["changed"]


def test_files_of_others_are_not_taken_over(tmp_path: Path, run: Any) -> None:
    (tmp_path / "thesis.tex").touch()
    result = run(tmp_path)
    assert result["failed"]
    assert f"{tmp_path} exists and holds files that are not ours" in result["msg"]
    assert "set wideep_state_dir" in result["msg"]
    assert names(tmp_path) == {"thesis.tex"}


@pytest.mark.parametrize("state", ["present", "absent", "kept"])
def test_another_deployment_is_left_alone(tmp_path: Path, run: Any, state: str) -> None:
    run(tmp_path, deployment="theirs")
    fill(tmp_path)
    before = names(tmp_path)
    result = run(tmp_path, state)
    assert result["failed"]
    assert "holds the deployment 'theirs', not 'wideep'" in result["msg"]
    assert names(tmp_path) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", "7"])
@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_damaged_marker_is_named(tmp_path: Path, run: Any, content: str, state: str) -> None:
    (tmp_path / ".wideep.json").write_text(content, encoding="utf-8")
    result = run(tmp_path, state)
    assert result["failed"]
    assert ".wideep.json is damaged; write" in result["msg"]


def test_all_of_it_is_removed(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "state"
    run(path)
    fill(path)
    predicted = run(path, "absent", check=True)
    assert len(names(path)) == 9
    result = run(path, "absent")
    assert result["changed"]
    assert result["removed"] == predicted["removed"] == [str(path)]
    assert result["left"] == []
    assert not path.exists()
    again = run(path, "absent")
    assert (again["changed"], again["removed"], again["left"]) == (False, [], [])


def test_what_the_roles_did_not_make_stays_and_is_named_each_time(tmp_path: Path, run: Any) -> None:
    run(tmp_path)
    fill(tmp_path)
    (tmp_path / "notes.txt").touch()
    first = run(tmp_path, "absent")
    assert first["changed"]
    assert first["left"] == [str(tmp_path / "notes.txt")]
    assert names(tmp_path) == {"notes.txt", ".wideep.json"}
    second = run(tmp_path, "absent")
    assert (second["changed"], second["left"]) == (False, first["left"])
    # And the deployment can come back.
    assert not run(tmp_path)["changed"]
    (tmp_path / "notes.txt").unlink()
    assert run(tmp_path, "absent")["changed"]
    assert not tmp_path.exists()


def test_state_can_be_kept(tmp_path: Path, run: Any) -> None:
    run(tmp_path)
    fill(tmp_path)
    result = run(tmp_path, "kept")
    assert set(result["removed"]) == {str(tmp_path / "services"), str(tmp_path / "supervisor")}
    assert names(tmp_path) == {".wideep.json", "data", "log", "model", "opt", "venv", "bin"}
    assert not run(tmp_path, "kept")["changed"]
    assert run(tmp_path, "absent")["changed"]


def test_links_are_removed_and_not_what_they_point_to(tmp_path: Path, run: Any) -> None:
    path, elsewhere = tmp_path / "state", tmp_path / "big-disk"
    run(path)
    elsewhere.mkdir()
    (elsewhere / "weights").touch()
    (path / "model").symlink_to(elsewhere)
    (path / "data").symlink_to(tmp_path / "gone")
    (path / "log").touch()
    assert run(path, "absent")["left"] == []
    assert not path.exists()
    assert names(elsewhere) == {"weights"}


def test_the_directory_itself_may_be_a_link(tmp_path: Path, run: Any) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "state"
    link.symlink_to(tmp_path / "real")
    run(link)
    fill(link)
    assert run(link, "absent")["changed"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_marker_is_not_removed(tmp_path: Path, run: Any) -> None:
    fill(tmp_path)
    before = names(tmp_path)
    for state in ("absent", "kept"):
        result = run(tmp_path, state)
        assert result["failed"]
        assert "has no .wideep.json, so wideep did not make it" in result["msg"]
    assert names(tmp_path) == before


def test_an_empty_directory_without_marker_is_nothing_to_remove(tmp_path: Path, run: Any) -> None:
    assert not run(tmp_path, "absent")["changed"]
    assert tmp_path.exists()


def test_running_services_hold_it(tmp_path: Path, run: Any) -> None:
    run(tmp_path)
    fill(tmp_path)
    marks = {"WIDEEP_DIGEST": "d", "WIDEEP_SERVICE": "decode-0", "WIDEEP_STATE_DIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env={**os.environ, **marks},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        result = run(tmp_path, "absent")
        assert f"in use by decode-0 (pid {process.pid})" in result["msg"]
        assert len(names(tmp_path)) == 9
        process.communicate(b"\n")
    assert run(tmp_path, "absent")["changed"]


def test_a_path_that_cannot_be_written(tmp_path: Path, run: Any) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        result = run(path)
        assert result["failed"]
        assert f"cannot change {path}" in result["msg"]
        assert "set wideep_state_dir" in result["msg"]


def test_a_model_that_an_operator_put_there_stays(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "state"
    run(path, "present")
    for name in ("rehearsal", "deepseek-r1"):
        (path / "model" / name).mkdir(parents=True)
    result = run(path, "absent")
    assert result["left"] == [str(path / "model" / "deepseek-r1")]
    assert [p.name for p in (path / "model").iterdir()] == ["deepseek-r1"]
