"""The service modules on a real supervisord, with real HTTP servers as services."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import operations, process
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.health import observe
from ansible_collections.wideep.dynamo.plugins.module_utils.supervisord import Supervisord

from wideep.deployment.launch import File, Health, Launch, Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
SECRET = 's3cr\'et %(x)s #1 "q" $HOME'
SERVER = """\
import http.server, json, os, subprocess, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"state": "ready", "pid": os.getpid(), "env": dict(os.environ)}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

print("\\x1b[32mserving\\x1b[0m", sys.argv[1:], flush=True)
if "child" in sys.argv:
    subprocess.Popen(["sleep", "600"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="session")
def supervisord() -> str:
    """The program from the role's own lock file, in an environment that is kept between runs."""
    venv = ROOT / ".cache" / "tests" / "supervisor-4.3.0"
    program = venv / "bin" / "supervisord"
    if not program.exists():
        lock = ROOT / "roles" / "service" / "files" / "supervisor.lock"
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [
            str(venv / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "-q",
            "--require-hashes",
            "-r",
            str(lock),
        ]
        subprocess.run([*pip, "--disable-pip-version-check"], check=True)
    return str(program)


class Bed:
    """One state directory with its services, and the modules as Ansible runs them."""

    def __init__(self, state: Path, supervisord: str) -> None:
        self.state = state
        self.supervisord = supervisord
        self.manager = Supervisord(str(state), supervisord)
        (state / "server.py").write_text(SERVER)
        (state / "secrets").mkdir(mode=0o700)
        (state / "secrets" / "worker.env").write_text(f"# salt\nTOKEN={SECRET}\n")

    def launch(self, name: str, port: int, *more: str, **changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "name": name,
            "component": "worker",
            "description": "a server for tests",
            "argv": (sys.executable, str(self.state / "server.py"), str(port), *more),
            "working_directory": str(self.state / "services" / name),
            "log_file": str(self.state / "log" / f"{name}.log"),
            "health": Health("http", 15, f"http://127.0.0.1:{port}/", "state", "ready"),
            "env_files": (str(self.state / "secrets" / "worker.env"),),
            "ports": (Listener("http", "127.0.0.1", port),),
            "stop_timeout_s": 5,
        }
        return Launch(**{**values, **changes}).to_dict()

    def up(self, *launches: dict[str, Any]) -> dict[str, str]:
        by_name = {launch["name"]: launch for launch in launches}
        self.configure(*launches)
        actions = operations.started(self.manager, by_name, check=False)
        self.wait(*launches)
        return actions

    def configure(self, *launches: dict[str, Any]) -> None:
        from ansible_collections.wideep.dynamo.plugins.modules import service_configure

        files = Files(check=False)
        for launch in launches:
            service_configure.configure(files, launch, str(self.state))
        self.manager.configure(files, {launch["name"]: launch for launch in launches})

    def wait(self, *launches: dict[str, Any]) -> None:
        until = time.monotonic() + 15
        while not all(self.look(launch)["healthy"] for launch in launches):
            assert time.monotonic() < until, [self.look(launch) for launch in launches]
            time.sleep(0.05)

    def look(self, launch: dict[str, Any], log_lines: int = 0) -> dict[str, Any]:
        return observe(self.manager, {launch["name"]: launch}, log_lines)[0]

    def module(self, name: str, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """Run a module as Ansible does on a host; return its result."""
        flags = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(self.state)}
        arguments = {"state_dir": str(self.state), "manager": "supervisord", **arguments}
        done = subprocess.run(
            [sys.executable, str(ROOT / "plugins" / "modules" / f"{name}.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **flags}}),
            env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout, done.stderr
        assert SECRET not in done.stdout
        assert json.dumps(SECRET)[1:-1] not in done.stdout
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def wait_by_ansible(self, *launches: dict[str, Any]) -> tuple[str, str]:
        """Run service_wait with its action plugin; return the message of its failure and what one saw."""
        arguments = {"state_dir": str(self.state), "manager": "supervisord", "launches": launches}
        with tempfile.TemporaryDirectory() as tree:
            command = [
                str(Path(sys.executable).with_name("ansible")),
                "localhost",
                "-i",
                "localhost,",
                "-c",
                "local",
            ]
            command += ["-e", f"ansible_python_interpreter={sys.executable}", "-t", tree]
            command += ["-m", "wideep.dynamo.service_wait", "-a", json.dumps(arguments)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
            assert done.returncode == 2
            return json.loads((Path(tree) / "localhost").read_text())["msg"], done.stdout

    def end(self) -> None:
        operations.absent(self.manager, {}, whole=True, purge=False, check=False)
        for pid in self.manager._daemons():
            os.kill(pid, signal.SIGKILL)
        process.end(process.leftovers(str(self.state), set()), 0.5)
        shutil.rmtree(self.state)


@pytest.fixture
def bed(supervisord: str) -> Iterator[Bed]:
    bed = Bed(Path(tempfile.mkdtemp(prefix="wd", dir="/tmp")), supervisord)
    yield bed
    bed.end()


@pytest.fixture
def port() -> Callable[[], int]:
    def free() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

    return free


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def fetch(port: int) -> dict[str, Any]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/")
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer


def test_from_nothing_to_healthy_and_back_through_ansible(bed: Bed, port: Callable[[], int]) -> None:
    files = (
        File(str(bed.state / "services/a/plain.conf"), "plain\n"),
        File(str(bed.state / "services/a/key"), "very secret key\n", "0600"),
    )
    first, second = bed.launch("a", port(), files=files), bed.launch("b", port(), depends_on=("a",))
    given = {"launches": [first, second], "supervisord": bed.supervisord}

    # Check mode says all, changes nothing, shows no secret.
    result = bed.module("service_configure", check=True, **given)
    seen = json.dumps(result)
    assert result["changed"]
    assert not (bed.state / "services").exists()
    assert "plain.conf" in seen
    assert "********" in seen
    assert "very secret key" not in seen
    result = bed.module("service_state", check=True, **given)
    assert result["actions"] == {"a": "started", "b": "started"}
    assert not bed.manager.pid()

    assert bed.module("service_configure", **given)["changed"]
    private = [
        "services/a/key",
        "services/a/launch.json",
        "supervisor/conf.d/a.conf",
        "supervisor/supervisord.conf",
    ]
    assert {(bed.state / path).stat().st_mode & 0o777 for path in private} == {0o600}
    assert (bed.state / "services/a/plain.conf").stat().st_mode & 0o777 == 0o644
    assert bed.module("service_state", **given)["actions"] == {
        "supervisord": "started supervisord",
        "a": "started",
        "b": "started",
    }
    assert bed.module("service_wait", launches=given["launches"])["healthy"]

    # The environment is exactly the launch's, our marks and a plain base.
    environment = fetch(first["ports"][0]["port"])["env"]
    assert environment["TOKEN"] == SECRET
    assert environment["WIDEEP_DIGEST"] == process.digest(first) != first["digest"]
    assert not {
        key for key in environment if key.startswith(("ANSIBLE", "SUPERVISOR", "PYTEST", "PYTHONPATH"))
    }

    # Again: nothing changes.
    assert not bed.module("service_configure", **given)["changed"]
    assert not bed.module("service_state", **given)["changed"]
    services = bed.module("service_info", log_lines=5)["services"]
    assert [(x["name"], x["state"], x["healthy"], x["digest_ok"], x["restarts"]) for x in services] == [
        ("a", "running", True, True, 0),
        ("b", "running", True, True, 0),
    ]
    # A check that would have written a file of environment says who starts again with it.
    soon = bed.module("service_state", check=True, **given, changing=list(first["env_files"]))
    assert soon["actions"] == dict.fromkeys(("a", "b"), "restarted: its configuration changed")
    assert services[0]["rss_bytes"] > 1_000_000
    assert services[0]["log_tail"][-1].startswith("serving ")

    assert bed.module("service_state", state="stopped", names=["b"])["actions"] == {"b": "stopped"}
    assert not bed.module("service_state", state="stopped", names=["b"])["changed"]

    # What a plan does not have any more goes; the others are not touched.
    assert not bed.module("service_state", state="absent", keep=["a", "b", "new"])["changed"]
    pid = bed.look(first)["pid"]
    only_a = {"state": "absent", "keep": ["a", "new"]}
    assert bed.module("service_state", check=True, **only_a)["changed"]
    assert bed.module("service_state", **only_a)["actions"] == {"b": "removed"}
    assert not bed.module("service_state", **only_a)["changed"]
    assert bed.look(first)["pid"] == pid

    result = bed.module("service_state", state="absent")
    assert result["actions"] == {"a": "stopped, removed"}
    assert sorted(path.name for path in bed.state.iterdir()) == ["log", "secrets", "server.py"]
    assert not bed.manager._daemons()
    assert bed.module("service_info")["services"] == []
    assert not bed.module("service_state", state="absent")["changed"]


def test_only_what_changed_is_restarted(bed: Bed, port: Callable[[], int]) -> None:
    ports = [port(), port()]
    old = [bed.launch("a", ports[0]), bed.launch("b", ports[1])]
    bed.up(*old)
    pids = [fetch(p)["pid"] for p in ports]
    new = bed.launch("b", ports[1], "again", stop_timeout_s=7)
    bed.configure(old[0], new)
    assert bed.look(new)["healthy"] is False  # what answers is the old process
    actions = bed.up(old[0], new)
    assert actions == {"b": "restarted: its configuration changed"}
    assert fetch(ports[0])["pid"] == pids[0]
    assert fetch(ports[1])["pid"] != pids[1]
    assert "stopwaitsecs = 7" in bed.manager.program("b").read_text()


def test_files_of_an_earlier_launch_go(bed: Bed, port: Callable[[], int]) -> None:
    path = bed.state / "services/a/old.conf"
    number = port()
    bed.configure(bed.launch("a", number, files=(File(str(path), "x"),)))
    (path.parent / "not-ours").touch()
    assert path.exists()
    bed.configure(bed.launch("a", number))
    assert sorted(p.name for p in path.parent.iterdir()) == ["launch.json", "not-ours"]


def test_a_killed_service_comes_back_without_its_old_children(bed: Bed, port: Callable[[], int]) -> None:
    launch = bed.launch("a", port(), "child")
    bed.up(launch)
    first = bed.look(launch)
    children = process.tree(first["pid"]) - {first["pid"]}
    assert len(children) == 1
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: bed.look(launch)["pid"] not in (0, first["pid"]))
    bed.wait(launch)
    assert bed.look(launch)["restarts"] == 1
    assert not process.alive(children.pop())


def test_a_crash_loop_is_told_with_its_log_and_cause(bed: Bed, port: Callable[[], int]) -> None:
    number = port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", number))
        holder.listen()
        launch = bed.launch("a", number, health=Health("http", 60, f"http://127.0.0.1:{number}/"))
        slow = bed.launch("b", port(), argv=("/bin/sleep", "600"))
        bed.configure(launch, slow)
        operations.started(bed.manager, {"a": launch, "b": slow}, check=False)
        begin = time.monotonic()
        message, _ = bed.wait_by_ansible(launch, slow)
        assert time.monotonic() - begin < 20
    assert message.startswith("a on localhost ended 3 times in ")
    assert "likely cause: the port is already in use" in message
    assert "| OSError: [Errno 98] Address already in use" in message
    assert "\x1b" not in message
    assert message.endswith("Not healthy yet either, but still in time: b.")
    assert bed.look(launch)["state"] == "failed"
    # Starting again resets the back-off, and the free port lets it live.
    assert bed.up(launch)["a"].startswith("restarted: it ended: exit status 1")


def test_a_deadline_is_told_and_the_wait_is_visible(bed: Bed, port: Callable[[], int]) -> None:
    number = port()
    # Twice as long as a slice of the wait and some, so that a slow machine shows a line, too.
    health = Health("http", 14, f"http://127.0.0.1:{number}/", "state", "done")
    launch = bed.launch("a", number, health=health)
    bed.configure(launch)
    operations.started(bed.manager, {"a": launch}, check=False)
    message, seen = bed.wait_by_ansible(launch)
    assert message.startswith("a on localhost is not healthy after ")
    assert f'expected: GET http://127.0.0.1:{number}/ answers 200 with state = "done"' in message
    assert 'seen: state is "ready" (pid ' in message
    lines = [line for line in seen.splitlines() if "waiting for a (0 of 1 healthy" in line]
    assert lines
    assert all("serving" in line for line in lines)


def test_orphans_of_a_killed_supervisord_are_ended(bed: Bed, port: Callable[[], int]) -> None:
    launch, gone = bed.launch("a", port()), bed.launch("gone", port())
    bed.up(launch, gone)
    orphan, forgotten = bed.look(launch)["pid"], bed.look(gone)["pid"]
    os.kill(bed.manager.pid(), signal.SIGKILL)
    until(lambda: not bed.manager.pid())
    shutil.rmtree(bed.state / "services/gone")  # as after an interrupted removal
    assert process.alive(orphan)
    seen = bed.look(launch)
    assert (seen["state"], seen["healthy"], seen["pid"]) == ("orphaned", False, orphan)
    check = operations.started(bed.manager, {"a": launch}, check=True)
    assert check["a"] == f"started; ended leftover processes that nothing supervised (pid {orphan})"
    assert process.alive(orphan)
    actions = bed.up(launch)
    assert actions["supervisord"] == "started supervisord"
    assert f"(pid {forgotten})" in actions["gone"]
    assert not process.alive(orphan)
    assert not process.alive(forgotten)


def test_a_deaf_supervisord_is_replaced(bed: Bed, port: Callable[[], int]) -> None:
    launch = bed.launch("a", port())
    bed.up(launch)
    old = bed.manager.pid()
    (bed.state / "supervisor/supervisord.sock").unlink()
    actions = bed.up(launch)
    assert (
        actions["supervisord"] == f"ended a supervisord that did not answer (pid {old}); started supervisord"
    )
    assert not process.alive(old)


def test_many_stop_together(bed: Bed, port: Callable[[], int]) -> None:
    stubborn = (
        sys.executable,
        "-c",
        "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)",
    )
    launches = {
        f"s{i}": bed.launch(
            f"s{i}", 1, argv=stubborn, stop_timeout_s=2, health=Health("process", 5, settle_s=1)
        )
        for i in range(4)
    }
    bed.up(*launches.values())
    begin = time.monotonic()
    assert set(operations.stopped(bed.manager, launches, check=False)) == set(launches)
    assert 2 <= time.monotonic() - begin < 6
    assert {status.state for status in bed.manager.status(launches).values()} == {"stopped"}


def test_a_program_that_hides_its_environment_is_not_restarted(bed: Bed, port: Callable[[], int]) -> None:
    """setproctitle overwrites what /proc/PID/environ shows."""
    launch = bed.launch("a", port())
    bed.configure(launch)
    hidden = subprocess.Popen([sys.executable, str(bed.state / "server.py"), str(port())], env={})
    try:
        from ansible_collections.wideep.dynamo.plugins.module_utils.status import runs_as_configured

        assert runs_as_configured(launch, hidden.pid, str(bed.state))
        time.sleep(0.3)
        changed = bed.launch("a", port())
        bed.configure(changed)
        assert not runs_as_configured(changed, hidden.pid, str(bed.state))
    finally:
        hidden.kill()
        hidden.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts services as other users")
def test_a_service_runs_as_its_user(bed: Bed) -> None:
    bed.state.chmod(0o755)
    key = File(str(bed.state / "services/a/key"), "x", "0600")
    sleep = {"argv": ("/bin/sleep", "600"), "health": Health("process", 5), "files": (key,)}
    launch = bed.launch("a", 1, user="daemon", directories=(str(bed.state / "data/a"),), **sleep)
    bed.up(launch)
    daemon = pwd.getpwnam("daemon").pw_uid
    mine = [Path(f"/proc/{bed.look(launch)['pid']}"), Path(key.path), bed.state / "data/a"]
    assert {path.stat().st_uid for path in mine} == {daemon}
    # What root reads to start it stays root's.
    roots = [
        bed.state / "services/a",
        bed.state / "services/a/launch.json",
        bed.state / "supervisor/start.py",
    ]
    assert {path.stat().st_uid for path in roots} == {0}


def test_purge_deletes_data_and_logs(bed: Bed, port: Callable[[], int]) -> None:
    launch = bed.launch("a", port(), directories=(str(bed.state / "data/a"),))
    bed.up(launch)
    (bed.state / "data/a/store").touch()
    operations.absent(bed.manager, {"a": launch}, whole=True, purge=True, check=False)
    assert {path.name for path in bed.state.iterdir()} == {"secrets", "server.py"}


def test_bad_input_changes_nothing(bed: Bed, port: Callable[[], int]) -> None:
    bad = [
        bed.launch("a", port(), user="no-such-user"),
        bed.launch("a", port()),
        bed.launch("Bad_Name", port(), working_directory="relative"),
    ]
    long = bed.state / ("x" * 70)
    result = bed.module("service_configure", launches=bad, supervisord="/none", state_dir=str(long))
    text = result["msg"]
    assert "107 bytes" in text
    assert "user 'no-such-user' does not exist" in text
    assert "service a: given twice" in text
    assert "service Bad_Name: a name is made of" in text
    assert "must be an absolute path, is 'relative'" in text
    assert "/none is no program" in text
    assert not long.exists()
