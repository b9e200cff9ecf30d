"""host_facts and preflight for real: this machine, a listening socket, Ansible's own way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.host_facts import gather, resolve
from ansible_collections.wideep.dynamo.plugins.module_utils.reach import probe
from ansible_collections.wideep.dynamo.plugins.module_utils.sockets import listeners
from ansible_runs import playbook

from wideep.preflight import judge, read_facts, read_needs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def needs(port: int, state_dir: Path) -> dict[str, Any]:
    return {
        "ports": [{"port": port, "address": "127.0.0.1", "service": "frontend"}],
        "peers": [{"name": "me", "address": "localhost"}, {"name": "gone", "address": "gone.invalid"}],
        "state_dir": str(state_dir),
    }


def test_a_listening_socket_names_its_process(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    (found,) = listeners({port})
    assert (found["address"], found["port"], found["pid"]) == ("127.0.0.1", port, os.getpid())
    assert "python" in found["process"] or "pytest" in found["process"]
    assert found["service"] == ""


def test_ipv6_and_connections_that_are_no_listeners(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert listeners({client.getsockname()[1]}) == []
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert listeners({server.getsockname()[1]})[0]["address"] == "::1"
    assert listeners(set()) == []


def test_a_service_of_ours_is_known_by_its_environment() -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    code += "; input()"
    env = {**os.environ, "WIDEEP_STATE_DIR": "/opt/wideep", "WIDEEP_SERVICE": "frontend"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        (found,) = listeners({int(process.stdout.readline())})
        process.communicate("\n")
    assert (found["pid"], found["state_dir"], found["service"]) == (process.pid, "/opt/wideep", "frontend")


def test_the_facts_of_this_machine(listener: socket.socket, tmp_path: Path) -> None:
    asked = needs(listener.getsockname()[1], tmp_path / "not" / "there")
    before = time.time()
    data = json.loads(json.dumps(gather(asked, may_write=True)))
    assert before <= data["clock"]["time"] <= time.time()
    assert data["disk"]["path"] == str(tmp_path)
    assert data["disk"]["error"] == ""
    assert list(tmp_path.iterdir()) == [], "the trial file is gone"
    assert data["peers"][0]["interface"] == "lo"
    assert data["addresses"]["127.0.0.1"] == "lo"
    assert data["peers"][1]["resolved"] == []
    assert data["kernel"] == os.uname().release
    assert any(p["version"][:2] == list(sys.version_info[:2]) for p in data["pythons"])
    report = judge({"here": read_needs(asked)}, {"here": read_facts(data)})
    failed = {c.topic: c.seen for c in report.checks if c.status == "fail"}
    assert set(failed) == {"ports", "names"}
    assert f"pid {os.getpid()}" in failed["ports"]


def test_a_state_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for may_write in (True, False):
        disk = gather({"state_dir": str(tmp_path / "file" / "x")}, may_write=may_write)["disk"]
        assert disk["error"] == f"{tmp_path}/file is not a directory"
    assert gather({"state_dir": "/proc/nowhere"}, may_write=True)["disk"]["error"].startswith("/proc: ")


def test_silent_name_servers_cost_the_deadline_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(["localhost"])["localhost"]["addresses"]
    released, asked = threading.Event(), threading.Semaphore(0)

    def silent(*_: Any, **__: Any) -> list[Any]:
        asked.release()
        released.wait()
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    names = [f"host{n}.invalid" for n in range(50)]
    answers = resolve(names, deadline_s=0.01)
    assert all(asked.acquire(timeout=60) for _ in names), "all are asked at once, though none answers"
    assert {answer["error"] for answer in answers.values()} == {"no answer within 0.01 s"}
    released.set()


def play(tmp_path: Path, hosts: dict[str, Any], *more: str) -> tuple[int, dict[str, Any], str]:
    """Run role preflight on names of this machine: host -> needs. Returns code, judgement and output."""
    plan = {"hosts": {name: {"needs": wanted} for name, wanted in hosts.items()}}
    inventory = {"all": {"hosts": dict.fromkeys(hosts), "vars": {"ansible_connection": "local"}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    copy = {
        "content": "{{ __preflight_report | to_json }}",
        "dest": str(tmp_path / "out.json"),
        "mode": "0600",
    }
    tasks = [
        {
            "block": [{"ansible.builtin.import_role": {"name": "wideep.dynamo.preflight"}}],
            "always": [{"ansible.builtin.copy": copy, "check_mode": False, "run_once": True}],
        }
    ]
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    # As an extra variable: of an inventory it would lose against the role's own, which asks for the plan.
    extra = json.dumps({"wideep_plan": plan})
    done = playbook(tmp_path / "play.json", "-i", tmp_path / "hosts.json", "-e", extra, *more)
    output = done.stdout + done.stderr
    assert (tmp_path / "out.json").exists(), output
    return done.returncode, json.loads((tmp_path / "out.json").read_text()), output


@pytest.mark.parametrize("mode", [[], ["--check"]])
def test_the_role_fails_once_for_all_hosts(listener: socket.socket, tmp_path: Path, mode: list[str]) -> None:
    port = listener.getsockname()[1]
    good = {"state_dir": str(tmp_path)}
    bad = {**needs(port, tmp_path), "peers": []}
    code, outcome, output = play(tmp_path, {"a": good, "b": bad, "c": bad}, *mode)
    assert code != 0
    assert outcome["wideep_refused"]
    assert outcome["report"]["counts"]["fail"] == 2
    assert "b,c" in outcome["msg"]
    assert f"pid {os.getpid()}" in outcome["msg"]
    assert {c["topic"] for c in outcome["report"]["checks"]} == {"ephemeral", "ports"}
    assert output.count("fatal:") == 1


def test_the_role_passes(tmp_path: Path) -> None:
    hosts = {"a": {"state_dir": str(tmp_path)}}
    code, outcome, output = play(tmp_path, hosts)
    assert code == 0, output
    assert not outcome["changed"]
    assert outcome["report"]["counts"]["fail"] == 0


# ---- ports of peers ----


def test_open_and_refused_ports_are_within_reach(listener: socket.socket) -> None:
    taken = listener.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    targets = [("127.0.0.1", taken), ("127.0.0.1", free)]
    assert probe(targets) == dict.fromkeys(targets, "")


def test_a_port_that_drops_packets_is_told_from_one_that_refuses() -> None:
    with socket.socket() as deaf, ExitStack() as queue:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        target = deaf.getsockname()
        for _ in range(4):  # the kernel drops what does not fit into the queue of connections
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(target)
        found = probe([target, ("255.255.255.255", 1)], deadline_s=0.5)
    assert found[target] == "no answer within 0.5 s"
    assert found["255.255.255.255", 1]


def test_peers_ports_are_tried_where_the_name_resolves(listener: socket.socket, tmp_path: Path) -> None:
    port = listener.getsockname()[1]
    asked = needs(port, tmp_path)
    for peer in asked["peers"]:
        peer["ports"] = [port]
    here, gone = gather(asked, may_write=False)["peers"]
    assert (here["blocked"], gone["blocked"]) == ([], [])
    assert gone["error"]
