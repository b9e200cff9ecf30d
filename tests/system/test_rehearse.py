"""Rehearsals: inventories of GPU hosts on this machine, 200 requests at once, replicas killed among them."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import REPOSITORY
from waiting import until

from tests.system.load import Answer, ask, burst, describe, instances
from wideep import runner

MODEL = "deepseek-ai/DeepSeek-R1"
REQUESTS = 200


@dataclass
class Rehearsal:
    """One inventory, rehearsed at addresses and ports of its own."""

    inventory: Path
    base: Path
    address: str
    offset: int

    def rehearse(self) -> runner.Result:
        """Run the verb as an operator does."""
        result = runner.run(
            "rehearse",
            self.inventory,
            extra_vars={
                "wideep_rehearsal_dir": str(self.base),
                "wideep_rehearsal_address": self.address,
                "wideep_port_offset": self.offset,
            },
        )
        result.raise_for_status()
        return result

    @property
    def simulated(self) -> Path:
        return self.base / "deepseek-r1" / "hosts.yml"

    @property
    def url(self) -> str:
        return f"http://{self.address}:{8000 + self.offset}"

    def services(self) -> dict[str, dict[str, Any]]:
        """Return service name -> what `status` says of it, over all hosts."""
        result = runner.run("status", self.simulated)
        result.raise_for_status()
        return {row["name"]: row for rows in result.data["wideep_data"].values() for row in rows}

    def engines(self) -> dict[str, int]:
        """Return service name -> pid of its engine: a mocker, or what stands for a rank."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                argv = (directory / "cmdline").read_bytes().split(b"\0")
                environ = (directory / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            entries = dict(e.decode(errors="replace").split("=", 1) for e in environ if b"=" in e)
            mine = entries.get("WIDEEP_STATE_DIR", "").startswith(f"{self.base}/")
            if mine and (
                argv[1:3] == [b"-m", b"dynamo.mocker"] or (argv[2:3][0:1] and b"stand_in" in argv[2])
            ):
                found[entries["WIDEEP_SERVICE"]] = int(directory.name)
        return found


def variant(source: Path, target: Path, *, prefill: int, decode: int, nodes: int) -> Path:
    """Copy an inventory with other numbers of replicas, all of `nodes` hosts with 8 GPUs."""
    shutil.copytree(source, target)
    tree = yaml.safe_load((target / "hosts.yml").read_text(encoding="utf-8"))
    for pool, replicas, network in (("prefill", prefill, 2), ("decode", decode, 3)):
        tree["all"]["children"][pool]["hosts"] = {
            f"{pool}{n:02}.example.com": {"ansible_host": f"192.0.2.{network}{n:02}"}
            for n in range(1, replicas * nodes + 1)
        }
    (target / "hosts.yml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    path = target / "group_vars" / "all.yml"
    shared = yaml.safe_load(path.read_text(encoding="utf-8"))
    for pool in ("prefill", "decode"):
        own = copy.deepcopy(shared["wideep_pools"][pool])
        own["nodes_per_replica"] = nodes
        own["options"]["data_parallel_size"] = nodes * 8
        shared["wideep_pools"][pool] = own
    path.write_text(yaml.safe_dump(shared), encoding="utf-8")
    return target


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """One directory for all rehearsals: the programs are installed once."""
    path = Path(tempfile.mkdtemp(prefix="wideep-reh-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def rehearsed(request: pytest.FixtureRequest, base: Path, tmp_path: Path) -> Iterator[Rehearsal]:
    """Rehearse the inventory that the test names; nothing of it is left at the end but the programs."""
    name, replicas = request.param
    inventory = REPOSITORY / "inventories" / name
    if replicas:
        inventory = variant(inventory, tmp_path / name, **replicas)
    made = Rehearsal(inventory, base, "127.78.0.1", 700)
    try:
        result = made.rehearse()
        print(f"{name}: up in {result.duration_s:.0f} s")
        assert "simulated" in result.data["wideep_summary"]
        # Only Ansible's controller side ran for the inventory's hosts; they were not contacted.
        assert set(result.stats) <= {"localhost", "control01.example.com"}
        yield made
    finally:
        if made.simulated.exists():
            runner.run("teardown", made.simulated).raise_for_status()
            left = [p.name for p in made.simulated.parent.iterdir()]
            shutil.rmtree(made.simulated.parent)
            assert left == ["hosts.yml"]
    assert made.engines() == {}


SGLANG = ("deepseek_r1_sglang", {})
TRTLLM = ("deepseek_r1_trtllm_h100", {})
FIVE = {"prefill": 2, "decode": 3, "nodes": 2}


def serve(rehearsed: Rehearsal) -> None:
    answers = burst(rehearsed.url, MODEL, REQUESTS, tokens=64)
    print(describe(answers))
    assert [a.error for a in answers if a.error] == []
    assert sum(a.tokens for a in answers) == REQUESTS * 64


@pytest.mark.parametrize("rehearsed", [SGLANG], indirect=True, ids=["sglang"])
def test_deepseek_r1_on_sglang(rehearsed: Rehearsal) -> None:
    services = rehearsed.services()
    ranks = {f"{pool}-0-rank-{n}" for pool in ("prefill", "decode") for n in range(4)}
    assert set(services) == {"nats", "etcd", "frontend", *ranks}
    assert all(row["healthy"] for row in services.values())
    serve(rehearsed)
    # Again: nothing is restarted, because nothing differs.
    before = rehearsed.engines()
    assert set(before) == ranks
    result = rehearsed.rehearse()
    print(f"second run: {result.duration_s:.0f} s")
    assert sum(stats.changed for stats in result.stats.values()) == 0
    assert rehearsed.engines() == before


@pytest.mark.parametrize("rehearsed", [TRTLLM], indirect=True, ids=["trtllm"])
def test_deepseek_r1_on_tensorrt_llm(rehearsed: Rehearsal) -> None:
    services = rehearsed.services()
    ranks = {f"{pool}-0-rank-{n}" for pool in ("prefill", "decode") for n in range(2)}
    assert set(services) == {"nats", "etcd", "frontend", *ranks}
    assert all(row["healthy"] for row in services.values())
    assert set(rehearsed.engines()) == ranks
    serve(rehearsed)


@pytest.mark.parametrize(
    ("rehearsed", "victims"),
    [
        (("deepseek_r1_sglang", FIVE), ("decode-1-rank-0", "decode-2-rank-1", "prefill-1-rank-0")),
        (("deepseek_r1_trtllm_h100", FIVE), ("decode-1-rank-1",)),
    ],
    indirect=["rehearsed"],
    ids=["sglang, 2 + 3 replicas", "trtllm, 2 + 3 replicas"],
)
def test_a_replica_dies_under_load_and_comes_back(rehearsed: Rehearsal, victims: tuple[str, ...]) -> None:
    serve(rehearsed)
    for victim in victims:
        _kill_under_load(rehearsed, victim)


def _healthy_for(seconds: float, answers: list[Answer]) -> bool:
    """Whether requests were answered since then, and none failed."""
    since = time.monotonic() - seconds
    last = [answer for answer in list(answers) if answer.start + answer.total_s > since]
    return bool(last) and not any(answer.error for answer in last)


def _kill_under_load(rehearsed: Rehearsal, victim: str) -> None:
    """200 clients ask without a pause; one rank of one replica is killed. Failed requests are counted."""
    before = rehearsed.engines()
    replica = victim.rpartition("-rank-")[0]
    stop, lock = threading.Event(), threading.Lock()
    answers: list[Answer] = []

    def client(number: int) -> None:
        while not stop.is_set():
            answer = ask(rehearsed.url, MODEL, number, tokens=300)
            with lock:
                answers.append(answer)

    with ThreadPoolExecutor(REQUESTS) as pool:
        clients = [pool.submit(client, n) for n in range(REQUESTS)]
        try:
            until("some are answered", lambda: len(answers) >= REQUESTS // 2)
            workers, killed = instances(rehearsed.url), time.monotonic()
            os.kill(before[victim], signal.SIGKILL)
            until("the frontend knows", lambda: not workers <= instances(rehearsed.url))
            answered = len(answers)
            until("what was on its way is answered", lambda: len(answers) >= answered + REQUESTS)
            ranks = {name for name in before if name.startswith(f"{replica}-")}

            def again() -> bool:
                now = rehearsed.engines()
                return all(now.get(rank, before[rank]) != before[rank] for rank in ranks)

            until("its ranks run again", again)
            back = time.monotonic() - killed
            until("all take requests", lambda: len(instances(rehearsed.url)) == len(workers))
            # Dynamo may inhibit healthy workers for wideep_inhibition_s: docs/explanation/failures.md
            until("a second without a failure", lambda: _healthy_for(1.0, answers))
        finally:
            stop.set()
        for made in clients:
            made.result()
    failed = [a for a in answers if a.error]
    during = [a for a in answers if a.start <= killed <= a.start + a.total_s]
    last = max((a.start - killed for a in failed), default=0.0)
    print(
        f"{victim} killed under {REQUESTS} clients: {len(answers)} requests, {len(failed)} failed"
        f" ({sum(bool(a.error) for a in during)} of the {len(during)} open at that moment,"
        f" the last one began {last:+.1f} s after it); all its ranks started again after {back:.1f} s"
    )
    for error in sorted({a.error for a in failed})[:3]:
        print(f"  {error}")
    # How many is measured by tests.system.kills; here all are answered again.
    serve(rehearsed)
    # Only the replica's own ranks were started again, without help, and it serves.
    until("all are healthy", lambda: all(row["healthy"] for row in rehearsed.services().values()), 90)
    after = rehearsed.engines()
    assert {name for name in before if before[name] != after.get(name)} == ranks
    runner.run("verify", rehearsed.simulated).raise_for_status()
