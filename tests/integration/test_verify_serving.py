"""The role `verify` against a real frontend with mock workers, and against what is missing or wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_runs import playbook
from places import REPOSITORY
from ports import free_low_port
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "rehearsal-model"


@dataclass
class Stack:
    """NATS, etcd and a frontend on own ports; workers on demand. Ended by their pids."""

    bin: Path
    directory: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    http_port: int = field(default_factory=free_low_port)
    nats_port: int = field(default_factory=free_low_port)
    etcd_port: int = field(default_factory=free_low_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def start(self, name: str, *argv: object, **env: object) -> None:
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [self.bin / str(argv[0]), *map(str, argv[1:])],
                cwd=self.directory,
                env={
                    **os.environ,
                    "ETCD_ENDPOINTS": f"http://127.0.0.1:{self.etcd_port}",
                    "NATS_SERVER": f"nats://127.0.0.1:{self.nats_port}",
                    "DYN_EVENT_PLANE": "nats",
                    "DYN_REQUEST_PLANE": "tcp",
                    "DYN_TCP_RPC_HOST": "127.0.0.1",
                    "DYN_TCP_RESPONSE_STREAM_HOST": "lo",
                    "DYN_SYSTEM_HOST": "127.0.0.1",
                    "HF_HUB_OFFLINE": "1",
                    **{key: str(value) for key, value in env.items()},
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start_control_plane(self) -> None:
        peer = f"http://127.0.0.1:{free_low_port()}"
        client = f"http://127.0.0.1:{self.etcd_port}"
        self.start("nats", "nats-server", "-js", "-sd", "nats-data", "-a", "127.0.0.1", "-p", self.nats_port)
        self.start(
            *("etcd", "etcd", "--data-dir", "etcd-data", "--initial-cluster", f"default={peer}"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        )
        self.wait_for(client + "/health")
        self.start(
            *("frontend", "python", "-m", "dynamo.frontend", "--router-mode", "kv"),
            *("--http-host", "127.0.0.1", "--http-port", self.http_port),
            DYN_CONTEXT_WINDOW=32768,
        )
        self.wait_for(self.url + "/health")

    def start_worker(self, name: str, mode: str) -> None:
        bootstrap = ("--bootstrap-ports", free_low_port()) if mode == "prefill" else ()
        self.start(
            *(name, "python", "-m", "dynamo.mocker", "--engine-type", "sglang", "--block-size", 64),
            *("--model-path", REPOSITORY / "configs/models/rehearsal", "--model-name", MODEL),
            *("--disaggregation-mode", mode, *bootstrap),
            DYN_SYSTEM_PORT=free_low_port(),
        )

    def wait_for(self, url: str) -> None:
        def answers() -> bool:
            try:
                urllib.request.urlopen(url, timeout=2).close()
            except OSError:
                return False
            return True

        until(f"{url} answers", answers)

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def frontend(dynamo_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(dynamo_bin, tmp_path_factory.mktemp("stack"))
    try:
        stack.start_control_plane()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def serving(frontend: Stack) -> Stack:
    """Start one prefill and two decode workers; the role waits for them."""
    frontend.start_worker("prefill-0", "prefill")
    frontend.start_worker("decode-0", "decode")
    frontend.start_worker("decode-1", "decode")
    return frontend


def expected(prefill: int, decode: int) -> dict[str, Any]:
    return {
        "prefill": {"component": "prefill", "count": prefill},
        "decode": {"component": "backend", "count": decode},
    }


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str
    result: dict[str, Any]

    @property
    def message(self) -> str:
        return str(self.result["msg"])


@pytest.fixture
def verify(tmp_path: Path) -> Any:
    """Return a function that runs the role through ansible-playbook and returns its Outcome."""

    def run(*arguments: str, url: str, pools: Any, deadline_s: int = 45, **variables: Any) -> Outcome:
        plan = {
            "frontend_url": url,
            "expected": pools,
            "settings": {"model": MODEL, "start_deadline_s": deadline_s},
            "hosts": {"localhost": {"state_dir": "/where"}},
        }
        result_file = tmp_path / "result.json"
        save = {"content": "{{ __verify_result | to_json }}", "dest": str(result_file)}
        role = {"ansible.builtin.import_role": {"name": "wideep.dynamo.verify"}}
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": variables,
            "tasks": [
                {
                    "block": [role],
                    "always": [{"ansible.builtin.copy": save, "check_mode": False}],
                }
            ],
        }
        (tmp_path / "playbook.yml").write_text(json.dumps([play]), encoding="utf-8")
        # As an extra variable: of a play it would lose against the role's own, which asks for the plan.
        extra = json.dumps({"wideep_plan": plan})
        given = ("-i", "localhost,", "-c", "local", "-e", extra)
        done = playbook(tmp_path / "playbook.yml", *given, *arguments)
        output = done.stdout + done.stderr
        assert result_file.exists(), output
        return Outcome(done.returncode, output, json.loads(result_file.read_text(encoding="utf-8")))

    return run


def test_a_frontend_that_is_down_is_named_at_the_deadline(verify: Any) -> None:
    url = f"http://127.0.0.1:{free_low_port()}"
    outcome = verify(url=url, pools=expected(1, 1), deadline_s=1)
    assert outcome.code != 0
    assert url in outcome.message
    assert "Connection refused" in outcome.message
    assert "likely cause: the frontend is not running" in outcome.message
    assert "/where/log" in outcome.message


def test_check_mode_is_skipped_with_the_reason_where_nothing_runs(verify: Any) -> None:
    url = f"http://127.0.0.1:{free_low_port()}"
    outcome = verify("--check", url=url, pools=expected(1, 1))
    assert outcome.code == 0, outcome.output
    assert outcome.result["skipped"]
    assert "Connection refused" in outcome.message
    assert outcome.message in outcome.output


def test_wrong_expectations_are_all_reported_without_waiting(verify: Any) -> None:
    wrong = {"prefill": {"count": 1}, "decode": {"component": "backend", "count": "many"}}
    outcome = verify(url="http://127.0.0.1:1", pools=wrong)
    assert "expected.prefill.component" in outcome.message
    assert "expected.decode.count" in outcome.message


def test_a_healthy_frontend_without_workers_does_not_pass(frontend: Stack, verify: Any) -> None:
    with urllib.request.urlopen(frontend.url + "/health", timeout=5) as answer:
        assert answer.status == 200
    outcome = verify(url=frontend.url, pools=expected(1, 2), deadline_s=14)
    assert outcome.code != 0
    line = r"registered prefill 0/1, decode 0/2; model not listed yet; \d+ s of 14 s"
    assert re.search(line, outcome.output)
    assert "prefill and decode: workers did not start" in outcome.message


def test_a_deployment_that_serves_passes(serving: Stack, verify: Any) -> None:
    outcome = verify(url=serving.url, pools=expected(1, 2), verify_max_tokens=12, deadline_s=45)
    assert outcome.code == 0, outcome.output
    result = outcome.result
    assert result["changed"] is False
    assert result["model"] == MODEL
    assert {pool: len(found) for pool, found in result["registered"].items()} == {"prefill": 1, "decode": 2}
    assert re.fullmatch(r"( [a-z]+){12}", result["text"])
    assert result["completion_tokens"] == 12
    assert 1 < result["chunks"] <= 12
    assert 0 < result["ttft_s"] < result["e2e_s"]
    assert 0 < result["itl_s"] < result["e2e_s"]
    assert result["workers"]["prefill"] == result["registered"]["prefill"][0]["instance_id"]
    addresses = {pool: {one["address"] for one in found} for pool, found in result["registered"].items()}
    assert {pair["prefill"] for pair in result["pairs"]} == addresses["prefill"]
    assert {pair["decode"] for pair in result["pairs"]} == addresses["decode"]
    assert [pair["error"] for pair in result["pairs"]] == ["", ""]
    assert result["workers"]["decode"] in {one["instance_id"] for one in result["registered"]["decode"]}


def test_check_mode_verifies_what_runs(serving: Stack, verify: Any) -> None:
    outcome = verify("--check", url=serving.url, pools=expected(1, 2))
    assert outcome.code == 0, outcome.output
    assert outcome.result["completion_tokens"] == 16


def test_missing_workers_fail_at_the_deadline_and_name_who_is_there(serving: Stack, verify: Any) -> None:
    outcome = verify(url=serving.url, pools=expected(1, 3), deadline_s=1)
    assert outcome.code != 0
    assert "decode 2/3" in outcome.message
    assert "decode: workers did not start" in outcome.message
    assert len(re.findall(r"127\.0\.0\.1:\d+ \(instance \d+\)", outcome.message)) == 3


def test_surplus_workers_fail_at_the_deadline_with_the_remedy(serving: Stack, verify: Any) -> None:
    outcome = verify(url=serving.url, pools=expected(1, 1), deadline_s=1)
    assert outcome.code != 0
    assert "decode 2/1" in outcome.message
    assert "Stale leases" in outcome.message


def test_another_model_name_is_told(serving: Stack, verify: Any) -> None:
    outcome = verify(url=serving.url, pools=expected(1, 2), deadline_s=1, verify_model="other")
    assert outcome.code != 0
    assert f"the workers serve another name: {MODEL}" in outcome.message


def test_the_lease_of_a_killed_worker_is_waited_for(serving: Stack, verify: Any) -> None:
    victim = serving.processes.pop("decode-1")
    victim.kill()
    victim.wait()
    with urllib.request.urlopen(f"{serving.url}/health", timeout=5) as reply:
        listed = [(i["component"], i["endpoint"]) for i in json.load(reply)["instances"]]
    assert listed.count(("backend", "generate")) == 2, "its lease has seconds to go"
    # Accepts exactly one, so it has waited; how often it says so depends on when the lease ends.
    outcome = verify(url=serving.url, pools=expected(1, 1), deadline_s=60)
    assert outcome.code == 0, outcome.output
