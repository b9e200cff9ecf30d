"""Programs that live on hosts: their bytes, what launches say of them, when they come and go there."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import programs as on_host
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.status import Status
from example_inventories import inventory, local

from wideep import programs
from wideep.deployment.launch import Health, Launch, ProgramFile
from wideep.plan import Plan, make_plan
from wideep.programs import Program, names, program, rank_devices

SOURCES = Path(programs.__file__).parent
# JSON of the plan of inventories/deepseek_r1_sglang, bytes: it had 409 KiB with a copy of each script in each
# launch.
LARGEST_PLAN = 123 * 1024


# ---- bytes ---------------------------------------------------------------------------------------


def test_every_program_of_the_room_is_known() -> None:
    assert names() == ["deregister", "launch_agent", "rank", "rank_devices", "rank_stand_in"]


@pytest.mark.parametrize("name", names())
def test_a_program_is_of_the_standard_library_and_of_old_pythons(name: str) -> None:
    own = [SOURCES / f"{name}.py"] if (SOURCES / f"{name}.py").exists() else [*(SOURCES / name).glob("*.py")]
    assert own
    for path in own:
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
        imported = {
            (node.module or "", node.level) if isinstance(node, ast.ImportFrom) else (alias.name, 0)
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        absolute = {module.partition(".")[0] for module, level in imported if not level}
        assert absolute <= sys.stdlib_module_names, path


@pytest.mark.parametrize("name", names())
def test_a_file_is_named_by_its_content(name: str) -> None:
    found = program(name)
    assert found.digest == hashlib.sha256(found.content).hexdigest()
    assert re.fullmatch(rf"{name}-{found.digest[:12]}\.pyz?", found.file)


def test_an_archive_has_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    code = "import sys; from wideep.programs import program; sys.stdout.buffer.write(program('rank').content)"
    env = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    made = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=env, umask=0o077)
    assert made.stdout == program("rank").content
    with zipfile.ZipFile(io.BytesIO(made.stdout)) as archive:
        entries = archive.infolist()
    inside = {f"rank/{path.name}" for path in (SOURCES / "rank").glob("*.py")} | {"__main__.py"}
    assert [entry.filename for entry in entries] == sorted(inside)
    assert {(entry.date_time, entry.compress_type) for entry in entries} == {((1980, 1, 1, 0, 0, 0), 0)}


def test_the_archive_runs_by_itself(tmp_path: Path) -> None:
    """Isolated and without site-packages, as launches call it."""
    path = tmp_path / program("rank").file
    path.write_bytes(program("rank").content)
    done = subprocess.run([sys.executable, "-IS", path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "usage: rank.pyz --launch LAUNCH_JSON [-- COMMAND...]\n"


# ---- launches ------------------------------------------------------------------------------------


def test_the_plan_of_a_large_deployment_stays_small() -> None:
    data = make_plan(*inventory("deepseek_r1_sglang")).publish().to_dict()
    assert len(json.dumps(data).encode()) < LARGEST_PLAN


def replaced(monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[Plan, Plan]:
    """Return the plan before and after a program changes."""
    real = programs.program
    before = make_plan(*inventory("deepseek_r1_sglang"))
    newer = replace(real(name), content=real(name).content + b"\n")
    monkeypatch.setattr(programs, "program", lambda asked: newer if asked == name else real(asked))
    return before, make_plan(*inventory("deepseek_r1_sglang"))


@pytest.mark.parametrize(("name", "restarts"), [("rank", True), ("deregister", False)])
def test_which_programs_restart_workers_when_they_change(
    monkeypatch: pytest.MonkeyPatch, name: str, restarts: bool
) -> None:
    before, after = replaced(monkeypatch, name)
    digests = [
        {(host, launch.name): launch.digest for host, own in plan.launches.items() for launch in own}
        for plan in (before, after)
    ]
    workers = {
        (host, launch.name)
        for host, own in before.launches.items()
        for launch in own
        if launch.component == "worker"
    }
    changed = {key for key, digest in digests[0].items() if digests[1][key] != digest}
    assert changed == (workers if restarts else set())
    assert before != after


def test_every_path_of_a_program_is_one_that_the_launch_names() -> None:
    for plan in (
        make_plan(*inventory("deepseek_r1_sglang")),
        make_plan(*inventory("deepseek_r1_trtllm_h100")),
    ):
        for launch in (launch for own in plan.launches.values() for launch in own):
            words = " ".join([*launch.argv, *launch.cleanup, *launch.env.values()])
            called = set(re.findall(r"\S+/programs/\S+", words))
            assert called == {file.path for file in launch.programs}
            for file in launch.programs:
                assert Path(file.path).name == program(file.name).file
                assert file.digest == program(file.name).digest


# ---- on hosts ------------------------------------------------------------------------------------


class Manager:
    """A service manager that knows pids."""

    kind = "none"

    def __init__(self, state_dir: Path, **pids: int) -> None:
        self.state_dir = str(state_dir)
        self.pids = pids

    def status(self, services: Any) -> dict[str, Status]:
        return {name: Status("running", self.pids.get(name, 0), 0, "") for name in services}


def launch(state: Path, *called: Program, name: str = "decode-0") -> dict[str, Any]:
    files = tuple(
        ProgramFile(one.name, one.digest, str(state / programs.DIRECTORY / one.file)) for one in called
    )
    return Launch(
        name=name,
        component="worker",
        description="",
        argv=("/bin/true",),
        working_directory=str(state),
        log_file=f"{state}/log",
        health=Health("process", 1),
        programs=files,
    ).to_dict()


def sent(state: Path, *given: Program) -> list[dict[str, Any]]:
    return [
        {
            "path": str(state / programs.DIRECTORY / one.file),
            "digest": one.digest,
            "content": base64.b64encode(one.content).decode(),
        }
        for one in given
    ]


def write(state: Path, data: dict[str, Any], *, written: float = 0) -> None:
    """Have a launch.json there, written so many seconds after this process started, or long before it."""
    path = state / "services" / data["name"] / "launch.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    os.utime(path, (written, written))


OLD, NEW = Program("rank", ".pyz", b"PK old"), Program("rank", ".pyz", b"PK new\xff")


def test_both_sides_mean_the_same_directory() -> None:
    assert on_host.DIRECTORY == programs.DIRECTORY


def test_programs_are_installed_once(tmp_path: Path) -> None:
    check = Files(True)
    on_host.install(check, sent(tmp_path, NEW))
    assert len(check.changes) == 2
    assert not (tmp_path / programs.DIRECTORY).exists()
    first, second = Files(False), Files(False)
    on_host.install(first, sent(tmp_path, NEW))
    on_host.install(second, sent(tmp_path, NEW))
    path = tmp_path / programs.DIRECTORY / NEW.file
    assert path.read_bytes() == NEW.content
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert (len(first.changes), second.changes) == (2, [])
    assert "PK" not in "".join(part["after"] for part in first.diff)


def test_a_launch_of_another_version_is_refused(tmp_path: Path) -> None:
    of_old = launch(tmp_path, OLD)
    [problem] = on_host.problems([of_old], [])
    assert problem.startswith(f"service decode-0: {tmp_path}/programs/{OLD.file} with digest ")
    assert "render the launch again" in problem
    wrong = [{**sent(tmp_path, NEW)[0], "path": of_old["programs"][0]["path"]}]
    assert on_host.problems([of_old], wrong)
    assert on_host.problems([of_old], sent(tmp_path, OLD)) == []
    # Without the package on the controller, what is there already.
    on_host.install(Files(False), sent(tmp_path, OLD))
    assert on_host.problems([of_old], []) == []


def test_a_program_goes_when_no_service_may_call_it(tmp_path: Path) -> None:
    on_host.install(Files(False), sent(tmp_path, OLD, NEW))
    old = tmp_path / programs.DIRECTORY / OLD.file
    of_old, of_new = launch(tmp_path, OLD), launch(tmp_path, NEW)
    running = Manager(tmp_path, **{"decode-0": os.getpid()})
    write(tmp_path, of_old)
    assert on_host.unused(running, {"decode-0": of_old}) == [tmp_path / programs.DIRECTORY / NEW.file]
    # A check: its launch is not written yet, and whether it will be started again decides.
    assert on_host.unused(running, {"decode-0": of_new}) == []
    assert on_host.unused(running, {"decode-0": of_new}, gone=["decode-0"]) == [old]
    # Written, and the service was started after it.
    write(tmp_path, of_new)
    assert on_host.unused(running, {"decode-0": of_new}) == [old]
    # Written, and the service runs on as the launch before it said.
    write(tmp_path, of_new, written=2**32)
    assert on_host.unused(running, {"decode-0": of_new}) == []
    assert on_host.unused(Manager(tmp_path), {"decode-0": of_new}) == [old]
    # Another service of the host calls it.
    write(tmp_path, launch(tmp_path, OLD, name="decode-1"))
    assert on_host.unused(Manager(tmp_path), {"decode-0": of_new}) == []


def test_services_of_the_first_schema_call_no_program(tmp_path: Path) -> None:
    first = {k: v for k, v in launch(tmp_path).items() if k not in {"programs", "gang"}}
    write(tmp_path, {**first, "schema_version": 1})
    assert on_host.named(first) == {}
    assert on_host.unused(Manager(tmp_path), {}) == []
    on_host.install(Files(False), sent(tmp_path, OLD))
    assert [path.name for path in on_host.unused(Manager(tmp_path), {})] == [OLD.file]


@pytest.mark.parametrize("name", ["kubernetes_sglang", "kubernetes_trtllm"])
def test_pods_call_no_program(name: str) -> None:
    """The operator holds the ranks together, and a dead pod leaves discovery by itself."""
    every = [launch for own in make_plan(*inventory(name)).launches.values() for launch in own]
    assert any(launch.component == "worker" for launch in every)
    assert not any(launch.programs or launch.gang for launch in every)


def test_a_service_without_programs_has_none() -> None:
    own = {launch.name: launch for launch in make_plan(*local()).launches["localhost"]}
    assert own["nats"].programs == own["etcd"].programs == own["frontend"].programs == ()
    assert [file.name for file in own["decode-0"].programs] == ["deregister"]


# ---- before a rank -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "rank", "expected"),
    [
        ("a:1,b:1", "1", "b:1"),
        ("a:1,b:1", "2", None),
        ("a:1", "x", None),
        ("", "0", None),
        (",b:1", "0", "b:1"),
    ],
)
def test_a_rank_gets_the_device_of_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch, devices: str, rank: str, expected: str | None
) -> None:
    became: list[Any] = []
    monkeypatch.setattr(os, "execvp", lambda name, words: became.append((name, words)))
    monkeypatch.setenv("WIDEEP_RANK_DEVICES", devices)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", rank)
    monkeypatch.setenv("UCX_NET_DEVICES", "")
    rank_devices.main("engine", "--tp", "2")
    assert os.environ["UCX_NET_DEVICES"] == (expected or "")
    assert became == [("engine", ("engine", "--tp", "2"))]
