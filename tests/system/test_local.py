"""The main job: a disaggregated deployment on one machine, its second run, changes, failures, removal."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from waiting import until

from tests.system.conftest import Deployment, free_offset
from tests.system.load import instances

SERVICES = ("nats", "etcd", "frontend", "prefill-0", "prefill-1", "decode-0", "decode-1")


def test_it_serves_and_says_so(deployment: Deployment) -> None:
    result = deployment.run("verify")
    result.raise_for_status()
    summary, verified = result.data["wideep_summary"], result.data["wideep_data"]["verified"]
    assert verified["completion_tokens"] == 16
    assert {pool: len(found) for pool, found in verified["registered"].items()} == {"prefill": 2, "decode": 2}
    # Both halves of the disaggregated path took part.
    assert set(verified["workers"]) == {"prefill", "decode"}
    words = verified["text"].split()
    assert len(words) >= 10
    assert all(word.isalpha() for word in words)
    for service in SERVICES:
        assert f"{deployment.state_dir}/log/{service}.log" in summary
    assert f"curl -N {deployment.url}/v1/chat/completions" in summary
    assert deployment.complete(tokens=20) == 20


def test_a_second_run_changes_nothing(deployment: Deployment) -> None:
    before = deployment.pids()
    assert set(before) == set(SERVICES)
    for options in ({}, {"check": True, "diff": True}):
        result = deployment.run("site", **options)
        result.raise_for_status()
        assert result.stats["localhost"].changed == 0
    assert deployment.pids() == before


def test_status_names_every_service(deployment: Deployment) -> None:
    services = deployment.services()
    assert set(services) == set(SERVICES)
    assert all(row["healthy"] and row["digest_ok"] and row["state"] == "running" for row in services.values())
    assert {name: row["pid"] for name, row in services.items()} == deployment.pids()
    assert all(Path(row["log_file"]).is_file() for row in services.values())


def test_a_changed_variable_restarts_only_what_it_concerns(deployment: Deployment) -> None:
    before = deployment.pids()
    pools = {pool: {"replicas_per_node": 2, "gpus_per_node": 1} for pool in ("prefill", "decode")}
    pools["decode"]["options"] = {"max_batch_size": 128}
    announced = deployment.run("site", extra_vars={"wideep_pools": pools}, check=True, diff=True)
    announced.raise_for_status()
    assert announced.stats["localhost"].changed > 0
    assert deployment.pids() == before
    deployment.run("site", extra_vars={"wideep_pools": pools}).raise_for_status()
    changed = {name for name, pid in deployment.pids().items() if before[name] != pid}
    assert changed == {"decode-0", "decode-1"}
    deployment.run("site").raise_for_status()


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_process_comes_back_without_a_rerun(deployment: Deployment, service: str) -> None:
    victim = deployment.pids()[service]
    os.kill(victim, signal.SIGKILL)
    until("it runs again", lambda: deployment.pids().get(service, victim) != victim)
    # When etcd was away, Dynamo's processes may end themselves because their leases are lost; all come back.
    deployment.run("verify", extra_vars={"verify_deadline_s": 90}).raise_for_status()
    until("all are healthy", lambda: all(row["healthy"] for row in deployment.services().values()))


def test_requests_succeed_while_one_of_two_decode_workers_is_away(deployment: Deployment) -> None:
    """Eight clients ask without a pause; one decode worker is killed.

    The streams that it was serving, and the requests of the moment until it is taken out of
    discovery, may fail under the KV router (docs/explanation/failures.md). From then on none may, although
    the worker is back seconds later only.
    """
    victim = deployment.pids()["decode-0"]
    stop, lock = threading.Event(), threading.Lock()
    requests: list[tuple[float, str]] = []  # start (seconds, monotonic), error or nothing

    def ask() -> None:
        while not stop.is_set():
            start, error = time.monotonic(), ""
            try:
                deployment.complete(tokens=60)
            except Exception as problem:  # noqa: BLE001 - whatever it is, it is a failed request
                error = repr(problem)
            with lock:
                requests.append((start, error))

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask) for _ in range(8)]
        until("some are answered", lambda: len(requests) >= 16)
        workers = instances(deployment.url)
        os.kill(victim, signal.SIGKILL)
        until("the frontend knows", lambda: not workers <= instances(deployment.url))
        answered = len(requests)
        until("what was on its way is answered", lambda: len(requests) >= answered + 8)
        known = time.monotonic()
        until("it runs again", lambda: deployment.pids().get("decode-0", victim) != victim)
        until("more are answered", lambda: sum(start > known for start, _ in requests) >= 40)
        stop.set()
        for client in clients:
            client.result()
    at_once = [error for start, error in requests if start <= known]
    later = [error for start, error in requests if start > known]
    for when, errors in (("before the frontend knew", at_once), ("later", later)):
        print(f"started {when}: {len(errors)} requests, {sum(map(bool, errors))} failed")
    assert [error for error in later if error] == []
    # Whoever was served by the other worker noticed nothing.
    assert sum(map(bool, at_once)) < len(at_once)
    deployment.run("verify").raise_for_status()


def test_a_removal_of_another_name_stops_nothing(deployment: Deployment) -> None:
    before = deployment.pids()
    result = deployment.run("teardown", extra_vars={"wideep_deployment": "other"})
    assert result.status == "failed"
    assert "holds the deployment 'wideep', not 'other'" in result.failures[0].message
    assert deployment.pids() == before


def test_it_stops_and_starts_where_it_is(deployment: Deployment) -> None:
    before = {path: path.read_bytes() for path in deployment.state_dir.glob("services/*/launch.json")}
    stopped = deployment.run("stop")
    stopped.raise_for_status()
    assert deployment.pids() == {}
    assert deployment.run("status").failures[0].details["wideep_unhealthy"]
    assert not deployment.run("stop").stats["localhost"].changed
    deployment.run("start").raise_for_status()
    assert set(deployment.pids()) == set(SERVICES)
    assert not deployment.run("start").stats["localhost"].changed
    assert {path: path.read_bytes() for path in before} == before


def test_another_deployment_lives_beside_it_without_nats(deployment: Deployment) -> None:
    other = Deployment(
        deployment.state_dir.parent / "other",
        free_offset(deployment.offset + 100),
        {"wideep_event_plane": "zmq", "wideep_engine_flavour": "trtllm"},
    )
    before = deployment.pids()
    try:
        other.run("site").raise_for_status()
        assert set(other.pids()) == set(SERVICES) - {"nats"}
        assert other.complete(tokens=12) == 12
        assert deployment.pids() == before
        # Keeping the state keeps data, logs and environments, and no process.
        other.run("teardown", extra_vars={"wideep_keep_state": True}).raise_for_status()
        assert other.pids() == {}
        assert {p.name for p in other.state_dir.iterdir()} >= {"data", "log", "venv"}
        assert "nothing is deployed" in other.run("status").data["wideep_summary"]
    finally:
        other.run("teardown").raise_for_status()
    assert not other.state_dir.exists()
    assert deployment.pids() == before


def test_a_killed_supervisor_is_seen_and_replaced_with_its_orphans(deployment: Deployment) -> None:
    os.kill(int((deployment.state_dir / "supervisor" / "supervisord.pid").read_text()), signal.SIGKILL)
    assert {row["state"] for row in deployment.services().values()} == {"orphaned"}
    assert deployment.complete() == 8
    deployment.run("site").raise_for_status()
    assert set(deployment.pids()) == set(SERVICES)
    result = deployment.run("site")
    result.raise_for_status()
    assert result.stats["localhost"].changed == 0
