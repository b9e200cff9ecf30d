"""A small directory of the controller comes to the host: the action plugin, and the module it runs."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.wideep.dynamo.plugins.action import model_directory as action
from ansible_collections.wideep.dynamo.plugins.modules import model_directory as module
from example_playbook import run_action
from modules import call_module

Texts = dict[str, str]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs the module as Ansible does and returns its result."""

    def call(path: Path, want: Texts, sent: Texts | None = None, *, check: bool = False) -> Any:
        arguments = {
            "path": str(path),
            "digests": {name: sha(text) for name, text in want.items()},
            "content": {
                name: base64.b64encode(text.encode()).decode() for name, text in (sent or {}).items()
            },
            "_ansible_check_mode": check,
        }
        return call_module(module, arguments, capsys)

    return call


WANT = {"config.json": "{}", "tokenizer.json": "[]"}


def test_the_module_says_what_is_missing_and_writes_what_is_sent(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "model"
    first = run(path, WANT)
    assert (first["changed"], first["missing"]) == (True, ["config.json", "tokenizer.json"])
    assert first["diff"]["after"] == "config.json\ntokenizer.json\n"
    assert not path.exists()
    assert run(path, WANT, WANT)["changed"]
    assert {p.name: p.read_text(encoding="utf-8") for p in path.iterdir()} == WANT
    assert {p.stat().st_mode & 0o777 for p in path.iterdir()} == {0o644}
    again = run(path, WANT)
    assert (again["changed"], again["missing"], again["diff"]) == (False, [], {})


def test_only_what_differs_is_written(tmp_path: Path, run: Any) -> None:
    run(tmp_path, WANT, WANT)
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "config.json").write_text("changed", encoding="utf-8")
    kept = (tmp_path / "tokenizer.json").stat()
    assert run(tmp_path, WANT, WANT)["missing"] == ["config.json"]
    assert (tmp_path / "config.json").read_text(encoding="utf-8") == "{}"
    assert (tmp_path / "tokenizer.json").stat() == kept
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_check_mode_writes_nothing(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "model"
    assert run(path, WANT, WANT, check=True)["changed"]
    assert not path.exists()


def test_a_file_that_went_missing_in_between_is_told(tmp_path: Path, run: Any) -> None:
    result = run(tmp_path, WANT, {"config.json": "{}"})
    assert result["missing"] == ["config.json", "tokenizer.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_a_path_that_cannot_be_written(tmp_path: Path, run: Any) -> None:
    (tmp_path / "file").touch()
    result = run(tmp_path / "file" / "model", WANT, WANT)
    assert result["failed"]
    assert "cannot write the model directory" in result["msg"]


# ---- the action plugin ----------------------------------------------------------------------------


def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "sub").mkdir()
    for name, text in WANT.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory


@pytest.mark.parametrize("make", [False, True])
def test_a_source_without_files_is_refused(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "empty").mkdir()
    with pytest.raises(AnsibleActionFail, match="has no file to copy"):
        run_action("model_directory", {"src": str(tmp_path / "empty"), "path": "/nowhere"})


def test_weights_are_refused(tmp_path: Path) -> None:
    with (source(tmp_path) / "model.safetensors").open("wb") as file:
        file.truncate(action.LIMIT_BYTES)
    with pytest.raises(AnsibleActionFail, match="larger than 8 MiB: models with weights are not copied"):
        run_action("model_directory", {"src": str(tmp_path / "source"), "path": "/nowhere"})
