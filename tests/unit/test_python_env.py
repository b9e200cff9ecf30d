"""python_env without the network: choices, refusals, messages."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import python_env
from ansible_collections.wideep.dynamo.plugins.module_utils.python_env import (
    MARKER,
    STAMP,
    EnvError,
    Request,
    absent,
    choose_python,
    explain,
    find_pythons,
    locked,
    present,
    uv_version,
)

LOCK = """one==1.0 \\
    --hash=sha256:00
Two_x[y]==2.0 \\
    --hash=sha256:00
win==3 ; sys_platform == 'win32' \\
"""


def interpreter(folder: Path, name: str, version: tuple[int, int, int], *, venv: bool = True) -> Path:
    """Make a program that answers as a Python of this version would."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{json.dumps([str(path), version, venv])}'\n")
    path.chmod(0o755)
    return path


def test_the_newest_supported_python_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, version in (("python3.11", (3, 11, 9)), ("python3.12", (3, 12, 1)), ("python3", (3, 14, 0))):
        interpreter(tmp_path / "bin", name, version)
    (tmp_path / "bin" / "python3.13").write_text("#!/bin/sh\nexit 127\n")  # a shim of nothing
    (tmp_path / "bin" / "python3.13").chmod(0o755)
    found = find_pythons(str(tmp_path / "bin"))
    assert [p.text for p in found] == ["3.14.0", "3.12.1", "3.11.9"]
    monkeypatch.setattr(python_env, "find_pythons", lambda: found)
    assert choose_python("auto").text == "3.12.1"
    monkeypatch.setattr(python_env, "find_pythons", lambda: found[:1])
    with pytest.raises(EnvError, match=r"found: .*python3 \(3\.14\.0\)\); install one"):
        choose_python("auto")


def test_a_named_python_is_judged(tmp_path: Path) -> None:
    assert choose_python(sys.executable).version == sys.version_info[:3]
    old = interpreter(tmp_path, "python3", (3, 9, 2))
    with pytest.raises(EnvError, match=r"is Python 3\.9\.2; 3\.11 or newer is needed"):
        choose_python(str(old))
    with pytest.raises(EnvError, match="is not a Python interpreter"):
        choose_python(str(tmp_path / "nothing"))


def test_a_python_without_venv_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = interpreter(tmp_path / "bin", "python3", (3, 11, 2), venv=False)
    monkeypatch.setattr(sys, "executable", str(bare))
    monkeypatch.setenv("PATH", "/nowhere")
    request = Request(tmp_path / "venv" / "x", LOCK, "uv==0.0.1 \\\n --hash=sha256:00", python=str(bare))
    with pytest.raises(EnvError, match="apt-get install python3-venv"):
        present(request)
    assert not request.path.exists()
    with pytest.raises(EnvError, match="has no uv"):
        present(Request(request.path, LOCK, python=str(bare)))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "error: Failed to download `x==1`\n  cause: Hash mismatch for `x==1`",
            "x==1: the file that the index",
        ),
        ("cause: No space left on device (os error 28)", "the disk is full"),
        ("cause: invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("error: Request failed after 3 retries\n cause: tcp connect error", "find_links"),
        ("The virtual environment was not created because ensurepip is not available", "python3-venv"),
        ("error: No solution found when resolving dependencies", "has no file that fits"),
        ("error: Failed to read `--find-links` directory: /x", "find_links must name"),
        ("HTTP status client error (401 Unauthorized)", "credentials"),
    ],
)
def test_causes_are_explained(output: str, message: str) -> None:
    text = explain(output)
    assert message in text.splitlines()[0]
    assert output.splitlines()[-1] in text


def test_an_unknown_failure_shows_its_last_lines() -> None:
    assert explain("a\n" * 50 + "the end\n").splitlines()[-1] == "the end"
    assert len(explain("a\n" * 50).splitlines()) == 12


def test_lock_files_are_read() -> None:
    assert locked(LOCK) == ({"one==1.0", "two-x==2.0"}, {"win"})
    assert uv_version("# comment\nuv==0.13.9 \\\n") == "0.13.9"
    with pytest.raises(EnvError, match="uv==<version>"):
        uv_version("pip==1")


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="absolute"):
        present(Request(Path("venv"), LOCK))
    with pytest.raises(EnvError, match="absolute"):
        absent(Path("venv"))
    with pytest.raises(EnvError, match="with hashes"):
        present(Request(tmp_path / "x", "one==1.0\n"))


def test_what_others_made_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("mine")
    for act in (lambda: present(Request(tmp_path, LOCK)), lambda: absent(tmp_path)):
        with pytest.raises(EnvError, match="did not make"):
            act()
    with pytest.raises(EnvError, match="is a file"):
        present(Request(tmp_path / "pyvenv.cfg", LOCK), check=True)
    assert (tmp_path / "pyvenv.cfg").read_text() == "mine"


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvError, match=r"file.*(Not a directory|File exists)"):
        present(Request(tmp_path / "file" / "venv", LOCK))


def test_absent(tmp_path: Path) -> None:
    path = tmp_path / "venv" / "x"
    assert not absent(path).changed
    path.mkdir(parents=True)
    (path / MARKER).touch()
    assert absent(path, check=True).changed
    assert path.exists()
    assert absent(path).changed
    assert not path.exists()


def test_a_broken_stamp_counts_as_none(tmp_path: Path) -> None:
    for text in ("", "[]", "{}"):
        (tmp_path / STAMP).write_text(text)
        assert python_env.read_stamp(tmp_path) is None


def test_indexes_and_certificates_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    env = python_env._environ(Request(tmp_path, LOCK))
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert env["HTTPS_PROXY"] == os.environ["HTTPS_PROXY"]
    assert "VIRTUAL_ENV" not in env
    own = python_env._environ(Request(tmp_path, LOCK, index_url="https://own.example/simple"))
    assert own["UV_DEFAULT_INDEX"] == own["PIP_INDEX_URL"] == "https://own.example/simple"
