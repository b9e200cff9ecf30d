"""HAProxy as the plan makes it, under a real supervisord, in front of frontends of the test's own."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import operations
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.health import observe
from ansible_collections.wideep.dynamo.plugins.module_utils.supervisord import Supervisord
from certificates import Authority
from environments import installed
from places import REPOSITORY
from ports import free_port
from servers import Quiet
from tools.proof.load import Load, Result, Shape
from waiting import until

from wideep.plan import make_plan

# A subnet of loopback of its own: each frontend has an address, as each host has.
NET = f"127.{random.randint(80, 119)}.{random.randint(1, 250)}"
MODEL = "deepseek-ai/DeepSeek-R1"
TOKEN_S = 0.02


@pytest.fixture(scope="module")
def haproxy() -> str:
    """The machine's own, or one unpacked from the distribution's packages."""
    done = subprocess.run([REPOSITORY / "tools" / "haproxy"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return done.stdout.strip()


class Frontend(Quiet):
    """Streams as many tokens as are asked for. As Dynamo's own it refuses everything once it stops."""

    protocol_version = "HTTP/1.1"
    stopping = False
    breaks = False
    asked = 0

    def do_GET(self) -> None:
        ready = self.path == f"/v1/models/{MODEL}/ready" and not self.stopping
        self.answer(200 if ready else 503, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked += 1
        if self.stopping:
            self.answer(503, b"Service is not ready")
            return
        if self.breaks:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(body["max_tokens"]):
                self._event({"choices": [{"delta": {"content": "a"}}]})
                time.sleep(TOKEN_S)
            self._event({"choices": [], "usage": {"completion_tokens": body["max_tokens"]}})
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Bed:
    """Frontends on addresses of their own, and a load balancer in front of some of them."""

    def __init__(self, state: Path, haproxy: str) -> None:
        self.state, self.haproxy = state, haproxy
        self.ports = [free_port(f"{NET}.{n}") for n in (1, 9, 10)]
        self.manager = Supervisord(str(state), str(installed("supervisor") / "supervisord"))
        self.servers: list[ThreadingHTTPServer] = []

    def frontend(self, number: int) -> type[Frontend]:
        handler = type(f"Frontend{number}", (Frontend,), {})
        server = ThreadingHTTPServer((f"{NET}.{number}", self.ports[0]), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.servers.append(server)
        return handler

    def launch(self, *frontends: int, **settings: Any) -> dict[str, Any]:
        """Return the launch in front of these frontends."""
        common = {
            "wideep_engine": "mocker",
            "wideep_state_dir": str(self.state),
            "wideep_service_manager": "supervisord",
            "wideep_drain_timeout_s": 5,
            "wideep_frontend_port": self.ports[0],
            "wideep_load_balancer": {
                "port": self.ports[1],
                "monitor_port": self.ports[2],
                "install_method": "existing",
                "binary": self.haproxy,
                **settings.pop("wideep_load_balancer", {}),
            },
            **settings,
        }
        names = [f"f{n}" for n in frontends]
        groups = {"control": ["lb"], "frontend": names, "load_balancer": ["lb"], "aggregated": ["lb"]}
        addresses = {"lb": 200} | {f"f{n}": n for n in frontends}
        hosts = {name: {"wideep_address": f"{NET}.{n}", **common} for name, n in addresses.items()}
        [launch] = [x for x in make_plan(groups, hosts).launches["lb"] if x.component == "load_balancer"]
        return launch.to_dict()

    def start(self, launch: dict[str, Any]) -> dict[str, str]:
        """Configure and start it as the role does; return what was done to it."""
        files, launches = Files(check=False), {launch["name"]: launch}
        operations.configured(files, launch, str(self.state))
        self.manager.configure(files, launches)
        actions = operations.started(self.manager, launches, check=False)
        until("it is healthy", lambda: self.look(launch)["healthy"])
        return {name: action for name, action in actions.items() if name == launch["name"]}

    def look(self, launch: dict[str, Any]) -> dict[str, Any]:
        return observe(self.manager, {launch["name"]: launch})[0]

    def stop(self, launch: dict[str, Any]) -> None:
        operations.stopped(self.manager, {launch["name"]: launch}, check=False)

    @property
    def url(self) -> str:
        return f"http://{NET}.200:{self.ports[1]}"

    def load(self, **shape: Any) -> Load:
        return Load(Shape(self.url, MODEL, **{"streams": 8, "tokens": (20, 60), **shape}))

    def end(self) -> None:
        operations.absent(self.manager, {}, whole=True, purge=True, check=False)
        for server in self.servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def bed(haproxy: str) -> Iterator[Bed]:
    # Short, for supervisord's socket.
    state = Path(tempfile.mkdtemp(prefix="wideep-lb-", dir="/tmp"))
    made = Bed(state, haproxy)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(state)


def good(result: Result) -> bool:
    return result.kept or bool(pytest.fail(json.dumps(result.to_dict(), indent=1)))


def test_a_configuration_that_changes_cuts_nothing(bed: Bed) -> None:
    one, two = bed.frontend(1), bed.frontend(2)
    alone, both = bed.launch(1), bed.launch(1, 2)
    bed.start(alone)
    pid = bed.look(alone)["pid"]
    with bed.load() as load:
        load.wait_for(8)
        assert bed.start(both) == {"load-balancer": "reloaded: its files changed"}
        load.wait_for(load.ended + 24)
        assert two.asked
        assert bed.start(alone) == {"load-balancer": "reloaded: its files changed"}
        asked = two.asked
        load.wait_for(load.ended + 24)
        assert two.asked == asked
    assert good(load.result)
    assert one.asked
    assert bed.look(alone)["pid"] == pid
    assert bed.start(alone) == {}


@pytest.mark.parametrize("keep_alive", [False, True])
def test_a_frontend_that_stops_loses_nothing(bed: Bed, keep_alive: bool) -> None:
    one, two = bed.frontend(1), bed.frontend(2)
    bed.start(bed.launch(1, 2))
    with bed.load(keep_alive=keep_alive) as load:
        for frontend, other in ((one, two), (two, one)):
            load.wait_for(load.ended + 16)
            frontend.stopping = True
            asked = other.asked
            load.wait_for(load.ended + 16)
            assert other.asked > asked
            frontend.stopping = False
            time.sleep(1.5)  # it is looked at every second
    assert good(load.result)


def test_what_had_not_begun_is_asked_again(bed: Bed) -> None:
    one, two = bed.frontend(1), bed.frontend(2)
    one.breaks = True
    bed.start(bed.launch(1, 2))
    with bed.load(tokens=(2, 4)) as load:
        load.wait_for(40)
    assert good(load.result)
    assert one.asked
    assert two.asked >= 40


def test_nobody_is_ready(bed: Bed) -> None:
    bed.frontend(1).stopping = True
    bed.start(bed.launch(1))
    with bed.load(streams=1) as load:
        load.wait_for(3)
    assert load.result.statuses == {"503": load.result.sent}


def test_a_stop_finishes_the_streams(bed: Bed) -> None:
    bed.frontend(1)
    launch = bed.launch(1)
    bed.start(launch)
    with bed.load(streams=4, tokens=(100, 100)) as load:
        until("streams run", lambda: load.capacity.looks + load.capacity.unanswered > 1)
        time.sleep(0.5)
        bed.stop(launch)
        load.wait_for(8)
    assert load.result.cut == load.result.empty == 0
    assert load.result.complete >= 3
    assert set(load.result.statuses) == {"200", "0"}


def test_metrics(bed: Bed) -> None:
    bed.frontend(1)
    bed.start(bed.launch(1))
    with urllib.request.urlopen(f"http://{NET}.200:{bed.ports[2]}/metrics", timeout=5) as answer:
        assert 'haproxy_server_status{proxy="frontends",server="f1",state="UP"}' in answer.read().decode()


TLS = {
    "plain": {},
    "clients": {"wideep_load_balancer": {"certificate": "PAIR"}},
    "both": {
        "wideep_load_balancer": {"certificate": "PAIR"},
        "wideep_tls": {"http": {"certificate": "CERT", "key": "KEY", "ca": "CA"}},
    },
    "certificates of clients": {
        "wideep_load_balancer": {"certificate": "PAIR", "client_certificate": "PAIR"},
        "wideep_tls": {
            "http": dict.fromkeys(("certificate", "client_certificate"), "CERT")
            | dict.fromkeys(("key", "client_key"), "KEY")
            | dict.fromkeys(("ca", "client_ca"), "CA")
        },
    },
    "the system's CAs": {
        "wideep_load_balancer": {"certificate": "PAIR"},
        "wideep_tls": {"http": {"certificate": "CERT", "key": "KEY"}},
    },
}


@pytest.mark.parametrize("settings", TLS.values(), ids=TLS)
def test_haproxy_accepts_what_the_plan_writes(bed: Bed, settings: dict[str, Any], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    made = authority.issue("frontend", of="server")
    (tmp_path / "pair.pem").write_text(Path(made.certificate).read_text() + Path(made.key).read_text())
    text = json.dumps(settings).replace('"PAIR"', f'"{tmp_path}/pair.pem"')
    for name, path in {"CERT": made.certificate, "KEY": made.key, "CA": authority.file}.items():
        text = text.replace(f'"{name}"', f'"{path}"')
    launch = bed.launch(1, 2, **json.loads(text))
    path = tmp_path / "haproxy.cfg"
    path.write_text(launch["files"][0]["content"])
    done = subprocess.run([bed.haproxy, "-c", "-f", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
