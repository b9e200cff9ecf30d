"""The ranks of a replica as a gang (wideep.programs.rank): real processes, signals, shared memory.

Where the head starts the other ranks' processes, a launcher of ours stands for mpirun; the real one is in
test_trtllm_mpirun.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from processes import alive
from waiting import until

from wideep.programs import program

# An engine: says who it is, holds shared memory where told to, has a process of its own, ends as told.
ENGINE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from multiprocessing import shared_memory, resource_tracker
place = Path(sys.argv[1])
options = json.loads((place / "engine.json").read_text())
if options.get("fail"):
    print(*options["fail"], sep="\\n", flush=True)
    sys.exit(3)
sleep = ["engine::part", "-IS", "-c", "import time; time.sleep(600)"]
helper = subprocess.Popen(sleep, executable=sys.executable, start_new_session=True)
if options.get("segment"):
    memory = shared_memory.SharedMemory(options["segment"], create=True, size=4096)
    resource_tracker.unregister(memory._name, "shared_memory")
def end(*_):
    (place / "drained").write_text(str(time.monotonic()))
    helper.kill()
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if options.get("deaf") else end)
print("engine of", place.name, flush=True)
(place / "pids.new").write_text(f"{os.getpid()} {helper.pid}")
(place / "pids.new").rename(place / "pids")
print("met over", os.environ.get("GLOO_SOCKET_IFNAME"), os.environ.get("NCCL_SOCKET_IFNAME"), flush=True)
while True:
    time.sleep(0.1)
"""


# mpirun: has a command run on each of the other hosts, and ends like the first of them, or as it is told.
LAUNCHER = """
import json, subprocess, sys, time
from pathlib import Path
place = Path(sys.argv[1])
options = json.loads((place / "engine.json").read_text())
agent = [sys.executable, "-IS", options["agent"], str(place / "launch")]
started = {host: subprocess.Popen([*agent, host, *words]) for host, words in options["launches"]}
(place / "agents").write_text(" ".join(str(one.pid) for one in started.values()))
if "worker" in options:
    worker = subprocess.Popen([sys.executable, "-m", "stand_in.worker", str(place), *options["worker"]])
    print("the worker ended with", worker.wait(), flush=True)
    time.sleep(600 if options.get("stays") else 0)
    sys.exit(0)
for host, one in started.items() if not options.get("deaf") else ():
    print(host, "ended with", one.wait(), flush=True)
    sys.exit(one.wait())
time.sleep(600)
"""


# Below the launcher: told to stop, it has a request yet, for which all ranks are needed.
WORKER = """
import os, signal, sys, time
from pathlib import Path
place, needed = Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]]
def end(*_):
    time.sleep(1.5)
    there = [os.path.exists(f"/proc/{path.read_text().split()[0]}") for path in needed]
    (place / "finished").write_text(str(there))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(place / "worker.new").write_text(str(os.getpid()))
(place / "worker.new").rename(place / "worker")
while True:
    time.sleep(0.1)
"""
WATCHED = ["stand_in.worker", "stand_in.rank"]


def each(pids: list[list[int]]) -> set[int]:
    return {pid for own in pids for pid in own}


class Replica:
    """Ranks with a directory each: launch.json, engine.json, log, state.json.

    relays: whether the head starts the other ranks' processes.
    """

    def __init__(self, place: Path, name: str, size: int, net: int, *, relays: bool) -> None:
        self.place, self.name, self.size, self.relays = place, name, size, relays
        self.addresses = [f"127.88.{net}.{n + 1}" for n in range(size)]
        self.port = free_port(self.addresses[0])
        self.wrappers: dict[int, subprocess.Popen[bytes]] = {}
        for rank in range(size):
            self.at(rank).mkdir(parents=True)
            self.options(rank)
            self.configure(rank)
        # As they are installed.
        self.programs: dict[str, str] = {}
        for one in map(program, ("rank", "launch_agent")):
            self.programs[one.name] = str(place / one.file)
            (place / one.file).write_bytes(one.content)
        (place / "engine.py").write_text(ENGINE)
        (place / "launcher.py").write_text(LAUNCHER)
        (place / "stand_in").mkdir(exist_ok=True)
        (place / "stand_in" / "worker.py").write_text(WORKER)
        (place / "stand_in" / "rank.py").write_text(ENGINE)

    def at(self, rank: int) -> Path:
        return self.place / f"{self.name}-rank-{rank}"

    def options(self, rank: int, **options: Any) -> None:
        (self.at(rank) / "engine.json").write_text(json.dumps(options))

    def configure(self, rank: int, **changes: Any) -> None:
        config = {
            "name": f"test/{self.name}",
            "family": "f",
            "rank": rank,
            "ranks": [f"host{n}" for n in range(self.size)],
            "address": self.addresses[0],
            "port": self.port,
            "stop_timeout_s": 5,
            "status_file": str(self.at(rank) / "state.json"),
            "heartbeat_s": 0.2,
            "silence_s": 3,
            "settle_s": 0.1,
            "retry_s": 0.1,
            "remind_s": 0.5,
            "backoff_s": [0.1, 60],
            "calm_s": 600,
            "break_timeout_s": 1,
            "route": None,
            "relay": None,
        }
        if self.relays and rank == 0:
            config["relay"] = {"socket": str(self.at(0) / "launch"), "hosts": self.addresses}
        launch = {
            "name": f"{self.name}-rank-{rank}",
            "cleanup": [sys.executable, "-c", f"open({str(self.at(rank) / 'cleaned')!r}, 'a').write('.')"],
            "gang": {**config, **changes},
        }
        (self.at(rank) / "launch.json").write_text(json.dumps(launch))

    def start(self, *ranks: int, env: dict[str, str] | None = None) -> None:
        for rank in ranks or range(self.size):
            with (self.at(rank) / "log").open("ab") as log:
                launch = self.at(rank) / "launch.json"
                command = [sys.executable, "-IS", self.programs["rank"], "--launch", str(launch)]
                if not (self.relays and rank):
                    program = "launcher.py" if self.relays else "engine.py"
                    command += ["--", sys.executable, str(self.place / program), str(self.at(rank))]
                own = {
                    **os.environ,
                    "PYTHONPATH": str(self.place),
                    "PLACE": f"place of {rank}",
                    **(env or {}),
                }
                self.wrappers[rank] = subprocess.Popen(command, stdout=log, stderr=log, env=own)

    def launches(self, *words: tuple[int, str], **options: Any) -> None:
        """Have the launcher run words of the shell, each at a rank."""
        pairs = [(self.addresses[rank], text.split(" ")) for rank, text in words]
        self.options(0, launches=pairs, agent=self.programs["launch_agent"], **options)

    def log(self, rank: int) -> str:
        return (self.at(rank) / "log").read_text()

    def state(self, rank: int) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.at(rank) / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        return state

    def pids(self, rank: int) -> list[int]:
        """The engine and its helper."""
        return [int(word) for word in until("pids", lambda: _read(self.at(rank) / "pids")).split()]

    def running(self, generation: int) -> bool:
        states = [self.state(rank) for rank in range(self.size)]
        return all(
            s.get("state") == "run"
            and s["generation"] == generation
            and f"(generation {generation})" in self.log(rank)
            for rank, s in enumerate(states)
        ) and all(all(alive(pid) for pid in self.pids(rank)) for rank in range(self.size))

    def until_running(self, generation: int) -> list[list[int]]:
        until(f"generation {generation} of {self.name}", lambda: self.running(generation))
        return [self.pids(rank) for rank in range(self.size)]

    def end(self) -> None:
        for wrapper in self.wrappers.values():
            wrapper.kill()
            wrapper.wait()
        for rank in range(self.size):
            for pid in map(int, _read(self.at(rank) / "pids").split()):
                if alive(pid) and str(self.place) in _read(Path(f"/proc/{pid}/cmdline")):
                    os.kill(pid, signal.SIGKILL)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    made: list[Replica] = []

    def one(name: str = "decode-0", size: int = 4, *, relays: bool = False) -> Replica:
        made.append(Replica(tmp_path, name, size, len(made), relays=relays))
        return made[-1]

    yield one
    for replica in made:
        replica.end()


def test_none_starts_before_all_are_there_and_the_missing_are_named(make: Callable[..., Replica]) -> None:
    gang = make()
    gang.start(1, 2)
    until("a rank without its head says so", lambda: "waits for the head, rank 0 on host0" in gang.log(1))
    gang.start(0)
    until("the head names the missing", lambda: "waits for rank 3 on host3\n" in gang.log(0))
    until("the others know too", lambda: gang.state(2).get("detail") == "waits for rank 3 on host3")
    until("it says so again", lambda: gang.log(0).count("waits for rank 3 on host3\n") > 1)
    assert not any((gang.at(rank) / "pids").exists() for rank in range(4))
    gang.start(3)
    gang.until_running(1)
    for rank in range(4):
        said = f"engine of decode-0-rank-{rank}"
        until(said, lambda said=said, rank=rank: said in gang.log(rank))  # it comes through a pipe


@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_engine_restarts_its_replica_and_no_other(make: Callable[..., Replica], victim: int) -> None:
    gang, other = make(), make("decode-1", 2)
    gang.start()
    other.start()
    first = gang.until_running(1)
    untouched = other.until_running(1)
    os.kill(first[victim][0], signal.SIGKILL)
    second = gang.until_running(2)
    assert not each(first) & each(second)
    assert not any(alive(pid) for pid in each(first))  # helpers with a session of their own too
    assert f"rank {victim} on host{victim} was killed by SIGKILL" in gang.log(0)
    assert all(wrapper.poll() is None for wrapper in gang.wrappers.values())
    assert [len(_read(gang.at(rank) / "cleaned")) for rank in range(4)] == [1, 1, 1, 1]
    assert [gang.state(rank)["breaks"] for rank in range(4)] == [1, 1, 1, 1]
    assert other.running(1)
    assert [other.pids(rank) for rank in range(2)] == untouched


def test_a_killed_watcher_takes_its_engine_and_the_replica_with_it(make: Callable[..., Replica]) -> None:
    gang = make()
    gang.start()
    first = gang.until_running(1)
    gang.wrappers[3].kill()
    gang.wrappers[3].wait()
    until("the engine ends with its watcher", lambda: not alive(first[3][0]))
    until("the head waits for it", lambda: "waits for rank 3 on host3 (stopped because" in gang.log(0))
    assert not any(alive(pid) for rank in range(3) for pid in first[rank])
    gang.start(3)  # what the service manager does
    gang.until_running(2)


def test_without_its_head_a_replica_stops_and_waits(make: Callable[..., Replica]) -> None:
    gang = make()
    gang.start()
    first = gang.until_running(1)
    gang.wrappers[0].kill()
    gang.wrappers[0].wait()
    until("all stop", lambda: not any(alive(pid) for rank in (1, 2, 3) for pid in first[rank]))
    until("they wait", lambda: "waits for the head" in gang.state(1).get("detail", ""))
    assert all(wrapper.poll() is None for rank, wrapper in gang.wrappers.items() if rank)
    gang.start(0)
    gang.until_running(1)
    assert not each(first) & {pid for rank in range(4) for pid in gang.pids(rank)}


def test_a_silent_rank_is_gone(make: Callable[..., Replica]) -> None:
    gang = make(size=2)
    gang.start()
    gang.until_running(1)
    gang.wrappers[1].send_signal(signal.SIGSTOP)  # as a host without power: the connection stays open
    until(
        "the head sees it", lambda: "rank 1 on host1 is gone: nothing was heard of it for 3 s" in gang.log(0)
    )
    gang.wrappers[1].send_signal(signal.SIGCONT)
    gang.until_running(2)


def test_the_back_off_grows_and_the_broken_ranks_last_lines_are_at_the_head(
    make: Callable[..., Replica],
) -> None:
    gang = make(size=3)
    gang.options(2, fail=[*(f"line {n}" for n in range(30)), "torch.OutOfMemoryError: CUDA out of memory"])
    gang.start()
    until("four breaks", lambda: gang.state(0).get("breaks", 0) >= 4)
    log = gang.log(0)
    assert "rank 2 on host2 ended with 3:\n" in log
    assert "    | torch.OutOfMemoryError: CUDA out of memory\n" in log
    assert "    | line 11\n" in log
    assert "    | line 10\n" not in log  # the last twenty
    delays = [line.split(" in ")[1].split(" s ")[0] for line in log.splitlines() if "at the earliest" in line]
    assert delays[:4] == ["0.1", "0.2", "0.4", "0.8"]
    until("why", lambda: "rank 2 on host2 ended with 3" in str(gang.state(1).get("detail")))
    gang.options(2)
    until("it runs when the cause is gone", lambda: gang.running(gang.state(0)["generation"]))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_told_rank_lets_the_head_finish_first(make: Callable[..., Replica], rank: int) -> None:
    gang = make(size=3)
    gang.start()
    first = gang.until_running(1)
    gang.wrappers[rank].terminate()
    assert gang.wrappers[rank].wait(timeout=20) == 0
    until("all have stopped", lambda: not any(alive(pid) for pid in each(first)))
    drained = [float((gang.at(n) / "drained").read_text()) for n in range(3)]
    assert drained[0] == min(drained)
    others = [gang.wrappers[n] for n in range(3) if n != rank]
    assert all(wrapper.poll() is None for wrapper in others)
    gang.start(rank)
    gang.until_running(2 if rank else 1)
    assert gang.state(2)["breaks"] == 0
    assert "at the earliest" not in gang.log(0)  # no back-off for what was wanted


def test_all_told_at_once_end_in_time_also_when_deaf(make: Callable[..., Replica]) -> None:
    gang = make(size=3)
    for rank in range(3):
        gang.options(rank, deaf=True)
        gang.configure(rank, stop_timeout_s=1)
    gang.start()
    first = gang.until_running(1)
    for wrapper in gang.wrappers.values():
        wrapper.terminate()
    assert [wrapper.wait(timeout=20) for wrapper in gang.wrappers.values()] == [0, 0, 0]
    assert not any(alive(pid) for pid in each(first))


def test_only_the_shared_memory_of_the_dead_engine_goes(make: Callable[..., Replica]) -> None:
    mark = f"wideep-test-{os.getpid()}"
    gang, other = make(size=2), make("decode-1", 2)
    gang.options(1, segment=f"{mark}-dead")
    other.options(1, segment=f"{mark}-other")
    foreign = Path("/dev/shm") / f"{mark}-foreign"
    unheld = Path("/dev/shm") / f"{mark}-unheld"
    held = shared_memory.SharedMemory(f"{mark}-held", create=True, size=4096)
    try:
        foreign.write_bytes(b"before the start, held by nobody")
        gang.start()
        other.start()
        engine = gang.until_running(1)[1][0]
        other.until_running(1)
        unheld.write_bytes(b"after the start, held by nobody, never the engine's")
        segment = Path("/dev/shm") / f"{mark}-dead"
        inode = segment.stat().st_ino
        time.sleep(1)  # the rule: a segment that the watcher saw the engine hold (it looks 5 times a second)
        gang.options(1)
        os.kill(engine, signal.SIGKILL)
        gang.until_running(2)
        assert f"removed shared memory that was left: {mark}-dead" in gang.log(1)
        assert not segment.exists(), inode
        names = ("foreign", "unheld", "held", "other")
        assert all((Path("/dev/shm") / f"{mark}-{name}").exists() for name in names)
    finally:
        held.close()
        held.unlink()
        for path in Path("/dev/shm").glob(f"{mark}-*"):
            path.unlink()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "test/prefill-0"}, "its gang is 'test/prefill-0', ours is 'test/decode-0'"),
        ({"ranks": ["host0", "host1", "host2"]}, "its size is 3, ours is 2"),
        ({"ranks": ["host0", "elsewhere"]}, "it is on 'elsewhere', rank 1 is planned on 'host1'"),
        ({"family": "older"}, "rank 1 on host1 runs with another plan than the head"),
    ],
)
def test_a_stranger_is_refused_at_both_ends(
    make: Callable[..., Replica], changes: dict[str, Any], said: str
) -> None:
    gang = make(size=2)
    gang.configure(1, **changes)
    gang.start()
    until("the head says why", lambda: said in gang.log(0))
    until("the rank says why", lambda: f"refuses this rank: {said}" in gang.log(1))
    until("the head waits on", lambda: "waits for rank 1 on host1" in gang.log(0))
    assert not any((gang.at(rank) / "pids").exists() for rank in range(2))


def test_noise_on_the_port_disturbs_nobody(make: Callable[..., Replica]) -> None:
    gang = make(size=2)
    gang.start()
    pids = gang.until_running(1)
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"type": "ended"}\n', b"x" * 100_000):
        with socket.create_connection((gang.addresses[0], gang.port)) as stranger:
            with contextlib.suppress(OSError):
                stranger.sendall(noise)
            stranger.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(4096):
                    pass
    assert gang.running(1)
    assert [gang.pids(rank) for rank in range(2)] == pids


def test_a_port_in_use_is_said(make: Callable[..., Replica]) -> None:
    gang = make(size=2)
    with socket.create_server((gang.addresses[0], gang.port)):
        gang.start(0)
        assert gang.wrappers[0].wait(timeout=10) == 1
    assert f"cannot listen on {gang.addresses[0]}:{gang.port}" in gang.log(0)
    assert "Address already in use" in gang.log(0)


# It would take a moment of some microseconds: here the child has ended before it is told to.
ENDED_UNSEEN = """
import selectors, sys, time
from pathlib import Path
from wideep.programs.rank.child import Child, Log
child = Child({"service": "it", "cleanup": [], "route": None}, Log(), selectors.DefaultSelector())
child.start(1, ["true"])
stat = Path(f"/proc/{child._process.pid}/stat")
while stat.read_text().rpartition(")")[2].split()[0] != "Z":
    time.sleep(0.01)
child.stop(600)
for _ in range(1000):
    child.look()
    if child.idle:
        sys.exit(child.code)
    time.sleep(0.01)
sys.exit("still not idle")
"""


def test_a_child_that_ends_in_the_moment_it_is_stopped_is_seen_to_end() -> None:
    assert subprocess.run([sys.executable, "-c", ENDED_UNSEEN], check=False).returncode == 0


# ---- where the head starts the other ranks' processes --------------------------------------------


def engine(gang: Replica, rank: int) -> str:
    """Return the words of a shell that becomes a rank's engine."""
    return f"exec {sys.executable} {gang.place / 'engine.py'} {gang.at(rank)}"


def until_launched(gang: Replica, generation: int) -> dict[int, list[int]]:
    """Return rank -> pids of engine and helper, when the launcher runs and has started the others."""
    ranks = range(1, gang.size)

    def running() -> bool:
        states = [gang.state(rank) for rank in range(gang.size)]
        return all(x.get("state") == "run" and x["generation"] == generation for x in states) and all(
            alive(pid) for rank in ranks for pid in gang.pids(rank)
        )

    until(f"generation {generation} of {gang.name}", running)
    return {rank: gang.pids(rank) for rank in ranks}


def test_a_rank_runs_what_the_head_launches_there_in_its_own_environment(
    make: Callable[..., Replica],
) -> None:
    gang = make(size=3, relays=True)
    say = "echo $PLACE '<a  b>' >&2; read x || echo no input; "
    gang.launches((1, say + engine(gang, 1)), (2, say + engine(gang, 2)))
    gang.start(1, 2)
    until("they wait for their head", lambda: "waits for the head" in gang.log(2))
    gang.start(0)
    until_launched(gang, 1)
    assert (gang.at(0) / "launch").stat().st_mode & 0o777 == 0o600
    for rank in (1, 2):
        said = f"place of {rank} <a  b>\nno input\nengine of decode-0-rank-{rank}\n"
        assert said in gang.log(rank)
        assert "waits for mpirun of rank 0 on host0" in gang.log(rank)
    assert "engine of" not in gang.log(0)


def test_what_the_head_launched_ends_and_all_start_again(make: Callable[..., Replica]) -> None:
    gang = make(size=3, relays=True)
    gang.configure(0, break_timeout_s=30)  # for the launcher, to say it by its own end
    gang.launches((1, engine(gang, 1)), (2, engine(gang, 2)))
    gang.start()
    first = until_launched(gang, 1)
    os.kill(first[1][0], signal.SIGKILL)
    second = until_launched(gang, 2)
    assert not {pid for pids in first.values() for pid in pids if alive(pid)}
    assert not each(list(first.values())) & each(list(second.values()))
    log = gang.log(0)
    # As a shell would have said it.
    assert f"{gang.addresses[1]} ended with 137" in log
    assert "rank 0 on host0 ended with 137, after rank 1 on host1 was killed by SIGKILL" in log
    assert [gang.state(rank)["breaks"] for rank in range(3)] == [1, 1, 1]


def test_what_cannot_be_launched_is_said_at_the_head(make: Callable[..., Replica]) -> None:
    gang = make(size=2, relays=True)
    gang.configure(0, break_timeout_s=30)
    gang.launches((1, "echo but first this; no-such-daemon --with 'a  value'"))
    gang.start()
    until("the head knows", lambda: "rank 0 on host0 ended with 127" in gang.log(0))
    assert "rank 1 on host1 ended with 127:\nwideep:     | but first this\n" in gang.log(0)
    assert "no-such-daemon" in gang.log(0)


def test_a_head_that_ignores_the_end_of_a_rank_is_stopped(make: Callable[..., Replica]) -> None:
    gang = make(size=2, relays=True)
    gang.launches((1, engine(gang, 1)), deaf=True)
    gang.start()
    first = until_launched(gang, 1)
    os.kill(first[1][0], signal.SIGTERM)  # an end without a failure
    until_launched(gang, 2)
    assert gang.log(0).count("wideep: rank 1 on host1 ended with 0") == 2


def test_an_agent_that_is_killed_ends_what_it_started(make: Callable[..., Replica]) -> None:
    gang = make(size=2, relays=True)
    gang.launches((1, engine(gang, 1)), deaf=True)
    gang.start()
    first = until_launched(gang, 1)
    os.kill(int(_read(gang.at(0) / "agents")), signal.SIGKILL)
    until_launched(gang, 2)
    assert not any(alive(pid) for pid in first[1])
    assert "mpirun let go of rank 1 on host1" in gang.log(0)


def test_a_rank_runs_one_command_a_generation_and_no_other_host_any(make: Callable[..., Replica]) -> None:
    gang = make(size=2, relays=True)
    gang.launches((1, engine(gang, 1)))
    agent = [sys.executable, "-IS", gang.programs["launch_agent"], str(gang.at(0) / "launch")]

    def refused(host: str, reason: str) -> bool:
        done = subprocess.run([*agent, host, "true"], capture_output=True, text=True, check=False)
        said = f"refused to start a command of mpirun on {host}: {reason}"
        return done.returncode == 255 and until(said, lambda: said in gang.log(0))

    assert subprocess.run([*agent, "elsewhere", "true"], capture_output=True, check=False).returncode == 255
    gang.start(0)
    until("it listens", (gang.at(0) / "launch").exists)
    assert refused(gang.addresses[1], "no rank is there")
    gang.start(1)
    first = until_launched(gang, 1)
    assert refused("elsewhere", "no rank is there")
    assert refused(gang.addresses[0], "no interface of this host")
    assert refused(gang.addresses[1], "rank 1 on host1 runs one in each generation")
    assert until_launched(gang, 1) == first


def test_a_rank_with_a_command_of_its_own_takes_none_from_its_head(make: Callable[..., Replica]) -> None:
    gang = make(size=2)
    with socket.create_server((gang.addresses[0], gang.port)) as false_head:
        gang.start(1)
        connection, _ = false_head.accept()
        with connection:
            connection.sendall(b'{"type": "start", "generation": 1, "command": "exit 9"}\n')
            until("it starts its own", lambda: "engine of decode-0-rank-1" in gang.log(1))


@pytest.mark.parametrize("told", [0, 1])
def test_a_stop_ends_the_launcher_first(make: Callable[..., Replica], told: int) -> None:
    gang = make(size=2, relays=True)
    gang.launches((1, engine(gang, 1)))
    gang.start()
    first = until_launched(gang, 1)
    gang.wrappers[told].terminate()
    assert gang.wrappers[told].wait(timeout=20) == 0
    until("all have stopped", lambda: not any(alive(pid) for pid in first[1]))
    assert gang.wrappers[1 - told].poll() is None
    assert "at the earliest" not in gang.log(0)
    gang.start(told)
    until_launched(gang, 2 if told else 1)


def worker(gang: Replica) -> int:
    return int(until("the worker", lambda: _read(gang.at(0) / "worker")))


@pytest.mark.parametrize("told", [0, 1])
def test_the_worker_below_a_launcher_finishes_its_requests(make: Callable[..., Replica], told: int) -> None:
    """The launcher itself would end at once, and its ranks with it."""
    gang = make(size=2, relays=True)
    for rank in range(2):
        gang.configure(rank, watched=WATCHED, stop_timeout_s=20)
    gang.launches((1, engine(gang, 1)), worker=[str(gang.at(1) / "pids")])
    gang.start()
    first, pid = until_launched(gang, 1), worker(gang)
    gang.wrappers[told].terminate()
    assert gang.wrappers[told].wait(timeout=15) == 0
    assert _read(gang.at(0) / "finished") == "[True]"
    assert f"told stand_in.worker (pid {pid}) to finish its requests" in gang.log(0)
    assert "the worker ended with 0" in gang.log(0)
    until("all have stopped", lambda: not any(alive(pid) for pid in first[1]))
    assert "at the earliest" not in gang.log(0)


def test_a_launcher_that_goes_on_without_its_worker_is_stopped(make: Callable[..., Replica]) -> None:
    gang = make(size=2, relays=True)
    gang.configure(0, watched=WATCHED, stop_timeout_s=5)
    gang.launches((1, engine(gang, 1)), worker=[], stays=True)
    gang.start()
    until_launched(gang, 1)
    worker(gang)
    gang.wrappers[0].terminate()
    assert gang.wrappers[0].wait(timeout=15) == 0
    assert "has not ended by itself: its launcher is told to stop" in gang.log(0)


def test_without_a_worker_yet_the_launcher_is_told(make: Callable[..., Replica]) -> None:
    gang = make(size=2, relays=True)
    gang.configure(0, watched=WATCHED, stop_timeout_s=20)
    gang.launches((1, engine(gang, 1)), deaf=True)
    gang.start()
    until_launched(gang, 1)
    gang.wrappers[0].terminate()
    assert gang.wrappers[0].wait(timeout=10) == 0


def test_a_worker_that_its_launcher_outlives_breaks_the_replica(make: Callable[..., Replica]) -> None:
    gang = make(size=2, relays=True)
    gang.configure(0, watched=WATCHED)
    gang.launches((1, engine(gang, 1)), worker=[], stays=True)
    gang.start()
    until_launched(gang, 1)
    pid = worker(gang)
    time.sleep(2.5)  # it has been counted
    os.kill(pid, signal.SIGKILL)
    until_launched(gang, 2)
    assert f"rank 0 on host0: stand_in.worker (pid {pid}) ended, and the launcher goes on" in gang.log(0)
    assert gang.state(0)["breaks"] == 1
    until("the next worker", lambda: worker(gang) != pid)
    os.kill(worker(gang), signal.SIGKILL)  # it stays, as an engine that hangs does


@pytest.mark.parametrize(("size", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_a_part_that_dies_without_the_engines_notice_breaks_the_replica(
    make: Callable[..., Replica], size: int, rank: int
) -> None:
    gang = make(size=size)
    for each_rank in range(size):
        gang.configure(each_rank, parts=["engine::"])
    gang.start()
    engine, part = gang.until_running(1)[rank]
    time.sleep(2.5)  # it has been counted
    os.kill(part, signal.SIGKILL)
    gang.until_running(2)
    assert not alive(engine)
    assert f"engine::part (pid {part}) died, and the worker goes on without" in gang.log(0)
    assert gang.state(0)["breaks"] == 1
    assert (gang.at(rank) / "cleaned").read_text() == "."


def test_so_does_a_rank_on_another_host(make: Callable[..., Replica]) -> None:
    gang = make(size=2, relays=True)
    gang.configure(1, watched=WATCHED)
    gang.launches((1, f"{sys.executable} -m stand_in.rank {gang.at(1)}; sleep 600"), deaf=True)
    gang.start()
    pid = until_launched(gang, 1)[1][0]
    time.sleep(2.5)  # it has been counted
    os.kill(pid, signal.SIGKILL)
    until_launched(gang, 2)
    assert f"rank 1 on host1: stand_in.rank (pid {pid}) ended, and the launcher goes on" in gang.log(0)


def test_the_socket_has_room_in_a_deep_directory(make: Callable[..., Replica]) -> None:
    gang = make("x" * 120, size=2, relays=True)
    assert len(str(gang.at(0) / "launch")) > 108  # what a socket's address may have
    gang.launches((1, engine(gang, 1)))
    gang.start()
    until_launched(gang, 1)


def test_an_interface_that_is_not_named_is_that_of_the_route(make: Callable[..., Replica]) -> None:
    gang = make(size=2)
    names = ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"]
    for rank in range(2):
        route = {"to": gang.addresses[1 - rank], "names": names}
        gang.configure(rank, route=route)
    gang.start(env={"GLOO_SOCKET_IFNAME": "{route}", "NCCL_SOCKET_IFNAME": "={route}"})
    gang.until_running(1)
    for rank in range(2):
        until("the engine says so", lambda rank=rank: "met over lo =lo" in gang.log(rank))
        assert f"lo is the interface of the route to {gang.addresses[1 - rank]}" in gang.log(rank)


def test_no_route_to_the_other_ranks_is_told(make: Callable[..., Replica]) -> None:
    gang = make(size=2)
    gang.configure(1, route={"to": "255.255.255.255", "names": []})
    gang.start()
    until("it is told", lambda: "cannot start decode-0-rank-1" in gang.log(1))
    until("the head knows", lambda: "rank 1 on host1 ended with 127" in gang.log(0))
