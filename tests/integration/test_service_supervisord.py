"""The service modules on a real supervisord, with real HTTP servers as services."""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible_runs
import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import operations, process
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.health import observe
from ansible_collections.wideep.dynamo.plugins.module_utils.supervisord import Supervisord
from environments import installed
from places import REPOSITORY
from ports import free_port
from waiting import until

from wideep.deployment.launch import File, Gang, Health, Launch, Listener, ProgramFile
from wideep.programs import DIRECTORY, Program, program

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """The program of the lock file."""
    return str(installed("supervisor") / "supervisord")


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
        files = Files(check=False)
        for launch in launches:
            operations.configured(files, launch, str(self.state))
        self.manager.configure(files, {launch["name"]: launch for launch in launches})

    def wait(self, *launches: dict[str, Any]) -> None:
        until("all are healthy", lambda: all(self.look(launch)["healthy"] for launch in launches))

    def look(self, launch: dict[str, Any], log_lines: int = 0) -> dict[str, Any]:
        return observe(self.manager, {launch["name"]: launch}, log_lines)[0]

    def module(self, name: str, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """Run a module as Ansible does on a host; return its result."""
        flags = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(self.state)}
        arguments = {"state_dir": str(self.state), "manager": "supervisord", **arguments}
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "plugins" / "modules" / f"{name}.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **flags}}),
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / ".collections")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout, done.stderr
        assert SECRET not in done.stdout
        assert json.dumps(SECRET)[1:-1] not in done.stdout
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def by_ansible(self, module: str, **arguments: Any) -> tuple[dict[str, Any], str]:
        """Run a module with its action plugin; return its result and what one saw."""
        arguments = {"state_dir": str(self.state), "manager": "supervisord", **arguments}
        with tempfile.TemporaryDirectory() as tree:
            done = ansible_runs.module(f"wideep.dynamo.{module}", arguments, "-t", tree)
            result: dict[str, Any] = json.loads((Path(tree) / "localhost").read_text())
            return {**result, "failed": done.returncode == 2}, done.stdout

    def wait_by_ansible(self, *launches: dict[str, Any]) -> tuple[str, str]:
        """Return the message with which service_wait fails, and what one saw."""
        result, seen = self.by_ansible("service_wait", launches=launches)
        assert result["failed"]
        return str(result["msg"]), seen

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


def fetch(port: int) -> dict[str, Any]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/")
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer


def test_from_nothing_to_healthy_and_back_through_ansible(bed: Bed) -> None:
    files = (
        File(str(bed.state / "services/a/plain.conf"), "plain\n"),
        File(str(bed.state / "services/a/key"), "very secret key\n", "0600"),
    )
    first, second = bed.launch("a", free_port(), files=files), bed.launch("b", free_port(), depends_on=("a",))
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
    # Of another component there is nothing to stop.
    assert not bed.module("service_state", state="stopped", components=["frontend"], at_boot=False)["changed"]

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


def test_only_what_changed_is_restarted(bed: Bed) -> None:
    ports = [free_port(), free_port()]
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


def test_files_of_an_earlier_launch_go(bed: Bed) -> None:
    path = bed.state / "services/a/old.conf"
    number = free_port()
    bed.configure(bed.launch("a", number, files=(File(str(path), "x"),)))
    (path.parent / "not-ours").touch()
    assert path.exists()
    bed.configure(bed.launch("a", number))
    assert sorted(p.name for p in path.parent.iterdir()) == ["launch.json", "not-ours"]


def test_a_killed_service_comes_back_without_its_old_children(bed: Bed) -> None:
    launch = bed.launch("a", free_port(), "child")
    bed.up(launch)
    first = bed.look(launch)
    children = process.tree(first["pid"]) - {first["pid"]}
    assert len(children) == 1
    os.kill(first["pid"], signal.SIGKILL)
    until("another one runs", lambda: bed.look(launch)["pid"] not in (0, first["pid"]))
    bed.wait(launch)
    assert bed.look(launch)["restarts"] == 1
    assert not process.alive(children.pop())


def test_a_crash_loop_is_told_with_its_log_and_cause(bed: Bed) -> None:
    number = free_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", number))
        holder.listen()
        # Long deadlines: the wait ends before them, however busy the machine is.
        launch = bed.launch("a", number, health=Health("http", 600, f"http://127.0.0.1:{number}/"))
        rule = Health("http", 600, f"http://127.0.0.1:{free_port()}/")
        slow = bed.launch("b", 1, argv=("/bin/sleep", "600"), health=rule)
        bed.configure(launch, slow)
        operations.started(bed.manager, {"a": launch, "b": slow}, check=False)
        message, _ = bed.wait_by_ansible(launch, slow)
        # The port is taken until it is seen: between two starts, it is down.
        until("a is down again", lambda: bed.look(launch)["state"] == "failed")
    # A busy machine looks a moment later.
    assert re.match(r"a on localhost ended [3-9] times in ", message)
    assert "likely cause: the port is already in use" in message
    assert "| OSError: [Errno 98] Address already in use" in message
    assert "\x1b" not in message
    assert message.endswith("Not healthy yet either, but still in time: b.")
    # Starting again resets the back-off, and the free port lets it live (or its own next start came first).
    done = bed.up(launch)
    assert done.get("a", "restarted: it ended: exit status 1").startswith(
        "restarted: it ended: exit status 1"
    )


def test_a_deadline_is_told_and_the_wait_is_visible(bed: Bed) -> None:
    number = free_port()
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


def test_orphans_of_a_killed_supervisord_are_ended(bed: Bed) -> None:
    launch, gone = bed.launch("a", free_port()), bed.launch("gone", free_port())
    bed.up(launch, gone)
    orphan, forgotten = bed.look(launch)["pid"], bed.look(gone)["pid"]
    os.kill(bed.manager.pid(), signal.SIGKILL)
    until("it is gone", lambda: not bed.manager.pid())
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


def test_a_deaf_supervisord_is_replaced(bed: Bed) -> None:
    launch = bed.launch("a", free_port())
    bed.up(launch)
    old = bed.manager.pid()
    (bed.state / "supervisor/supervisord.sock").unlink()
    actions = bed.up(launch)
    assert (
        actions["supervisord"] == f"ended a supervisord that did not answer (pid {old}); started supervisord"
    )
    assert not process.alive(old)


def test_many_stop_together(bed: Bed) -> None:
    """Each is told to stop before the first one is killed: their times to stop pass at once."""
    code = (
        "import signal, sys, time; from pathlib import Path; place = Path(sys.argv[1])\n"
        "signal.signal(15, lambda *_: (place / 'told').touch())\n"
        "(place / 'ready').touch()\n"
        "while True: time.sleep(600)"
    )
    launches, places = {}, [bed.state / "services" / f"s{number}" for number in range(4)]
    for place in places:
        argv = (sys.executable, "-c", code, str(place))
        rule = Health("process", 5, settle_s=0)
        launches[place.name] = bed.launch(place.name, 1, argv=argv, stop_timeout_s=2, health=rule)
    bed.up(*launches.values())
    until("they listen to signals", lambda: all((place / "ready").exists() for place in places))
    assert set(operations.stopped(bed.manager, launches, check=False)) == set(launches)
    assert {status.state for status in bed.manager.status(launches).values()} == {"stopped"}
    log = (bed.state / "supervisor" / "supervisord.log").read_text()
    killed = [line.split(" WARN")[0] for line in log.splitlines() if " killing 's" in line]
    assert len(killed) == len(launches)
    first = datetime.strptime(killed[0], "%Y-%m-%d %H:%M:%S,%f").astimezone()
    assert max((place / "told").stat().st_mtime for place in places) <= first.timestamp()


def test_a_program_that_hides_its_environment_is_not_restarted(bed: Bed) -> None:
    """setproctitle overwrites what /proc/PID/environ shows."""
    launch = bed.launch("a", free_port())
    bed.configure(launch)
    hidden = subprocess.Popen([sys.executable, str(bed.state / "server.py"), str(free_port())], env={})
    try:
        from ansible_collections.wideep.dynamo.plugins.module_utils.status import runs_as_configured

        assert runs_as_configured(launch, hidden.pid, str(bed.state))
        time.sleep(0.3)
        changed = bed.launch("a", free_port())
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


def test_purge_deletes_data_and_logs(bed: Bed) -> None:
    launch = bed.launch("a", free_port(), directories=(str(bed.state / "data/a"),))
    bed.up(launch)
    (bed.state / "data/a/store").touch()
    operations.absent(bed.manager, {"a": launch}, whole=True, purge=True, check=False)
    assert {path.name for path in bed.state.iterdir()} == {"secrets", "server.py"}


def test_bad_input_changes_nothing(bed: Bed) -> None:
    bad = [
        bed.launch("a", free_port(), user="no-such-user"),
        bed.launch("a", free_port()),
        bed.launch("Bad_Name", free_port(), working_directory="relative"),
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


# ---- programs, gangs -----------------------------------------------------------------------------


def called(bed: Bed, *some: Program) -> dict[str, Any]:
    """Return what a launch says of the programs that it calls."""
    paths = [bed.state / DIRECTORY / one.file for one in some]
    return {
        "programs": tuple(
            ProgramFile(one.name, one.digest, str(path)) for one, path in zip(some, paths, strict=True)
        ),
    }


def sent(launch: dict[str, Any], *some: Program) -> dict[str, Any]:
    """Return arguments of service_configure as its action plugin completes them."""
    contents = {one.digest: base64.b64encode(one.content).decode() for one in some}
    files = [{**file, "content": contents[file["digest"]]} for file in launch["programs"]]
    return {"launches": [launch], "programs": files}


def test_programs_come_and_go_with_what_calls_them(bed: Bed) -> None:
    server, newer = (Program("server", ".py", f"# {n}\n{SERVER}".encode()) for n in (1, 2))
    clean, cleaner = (Program("clean", ".py", f"print('cleaned {n}')\n".encode()) for n in (1, 2))
    number, place = free_port(), bed.state / DIRECTORY

    def given(one: Program, other: Program) -> dict[str, Any]:
        words = {
            "argv": (sys.executable, str(place / one.file), str(number)),
            "cleanup": (sys.executable, str(place / other.file)),
        }
        return sent(bed.launch("a", number, **called(bed, one, other), **words), one, other)

    def run(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        first = bed.module("service_configure", **arguments, supervisord=bed.supervisord)
        assert not first.get("failed"), first
        only = {"launches": arguments["launches"], "supervisord": bed.supervisord}
        second = bed.module("service_state", **only)
        bed.wait(*arguments["launches"])
        return first, second["actions"]

    def there() -> set[str]:
        return {path.name for path in place.iterdir()}

    refused = {**given(server, clean), "programs": [], "supervisord": bed.supervisord}
    assert "render the launch again" in bed.module("service_configure", **refused)["msg"]
    first, actions = run(given(server, clean))
    assert f"{place / server.file}: new" in first["changes"]
    assert actions["a"] == "started"
    assert there() == {server.file, clean.file}
    pid = fetch(number)["pid"]
    first, actions = run(given(server, clean))
    assert (first["changed"], actions) == (False, {})

    # A program that only the clean-up calls: the service runs on, and may call the old one still.
    _, actions = run(given(server, cleaner))
    assert actions == {}
    assert fetch(number)["pid"] == pid
    assert there() == {server.file, clean.file, cleaner.file}

    # The program that the service itself is.
    only = {"launches": given(newer, cleaner)["launches"], "supervisord": bed.supervisord}
    soon = bed.module("service_state", check=True, **only)["actions"]
    gone = f"removed {clean.file}, {server.file}, which no service calls any more"
    assert soon == {"a": "restarted: its configuration changed", "programs": gone}
    assert there() == {server.file, clean.file, cleaner.file}
    _, actions = run(given(newer, cleaner))
    assert actions == soon
    assert fetch(number)["pid"] != pid
    assert there() == {newer.file, cleaner.file}
    os.kill(fetch(number)["pid"], signal.SIGKILL)
    until("the other engine is cleaned up", lambda: "cleaned 2" in (bed.state / "log" / "a.log").read_text())

    result = bed.module("service_state", state="absent", names=["a"])
    assert result["actions"] == {"a": "stopped, removed"}
    assert not place.exists()


def gang(bed: Bed, number: int, **changes: Any) -> dict[str, Any]:
    """Return the launch of a replica's only rank."""
    rank, place = program("rank"), bed.state / "services" / "a"
    own = Gang("test/a", "f", 0, ("here",), "127.0.0.1", number, f"{place}/gang/state.json", 5)
    # One that every user may run.
    python = "/usr/bin/python3" if changes.get("user") else sys.executable
    words = (python, "-IS", str(bed.state / DIRECTORY / rank.file), "--launch", f"{place}/launch.json")
    values: dict[str, Any] = {
        "argv": (*words, "--", "/bin/sleep", "600"),
        "health": Health("process", 15, settle_s=1),
        "directories": (f"{place}/gang",),
        "gang": own,
        "env_files": (),
        **called(bed, rank),
    }
    return bed.launch("a", number, **{**values, **changes})


@pytest.mark.parametrize("user", ["", *(["daemon"] if os.geteuid() == 0 else [])])
def test_a_rank_reads_its_launch_as_its_user(bed: Bed, user: str) -> None:
    bed.state.chmod(0o755)
    launch = gang(bed, free_port(), user=user)
    for _ in range(2):
        done = bed.module("service_configure", **sent(launch, program("rank")), supervisord=bed.supervisord)
    assert not done["changed"]
    file = (bed.state / "services" / "a" / "launch.json").stat()
    assert file.st_mode & 0o777 == (0o640 if user else 0o600)
    assert (file.st_uid, file.st_gid) == (os.geteuid(), pwd.getpwnam(user).pw_gid if user else os.getegid())
    bed.module("service_state", launches=[launch], supervisord=bed.supervisord)
    bed.wait(launch)
    state = json.loads((bed.state / "services" / "a" / "gang" / "state.json").read_text())
    assert (state["state"], state["generation"]) == ("run", 1)
    status = bed.look(launch)
    [engine] = process.tree(status["pid"]) - {status["pid"]}
    os.kill(engine, signal.SIGKILL)
    until("it is started again", lambda: bed.look(launch)["restarts"] == 1)
    bed.wait(launch)
    assert bed.look(launch)["pid"] == status["pid"]


def test_the_action_sends_the_programs_of_the_package(bed: Bed) -> None:
    launch = gang(bed, free_port())
    [file] = launch["programs"]
    given = {"launches": [launch], "supervisord": bed.supervisord}
    result, seen = bed.by_ansible("service_configure", **given)
    assert result["changed"], seen
    assert Path(file["path"]).read_bytes() == program("rank").content
    assert not bed.by_ansible("service_configure", **given)[0]["changed"]
    older = {**launch, "programs": [{**file, "digest": "0" * 64}]}
    result, _ = bed.by_ansible("service_configure", **given | {"launches": [older]})
    assert result["failed"]
    assert "render the launch again with the installed version" in result["msg"]


# What stands for the watcher of schema 1: its state is where it was then.
WATCHER = """\
import json, sys, time
from pathlib import Path
told = json.loads(Path(sys.argv[1]).read_text())
state = {"state": "gather", "since": time.time(), "generation": 0, "breaks": 3, "detail": "waits for rank 1"}
Path(told["state_file"]).write_text(json.dumps(state))
time.sleep(600)
"""


def first_schema(bed: Bed, number: int) -> dict[str, Any]:
    """Return the launch of a rank as schema 1 had it."""
    place = bed.state / "services" / "a"
    files = (
        File(f"{place}/rank.py", WATCHER),
        File(f"{place}/unit.json", json.dumps({"state_file": f"{place}/unit/state.json"})),
    )
    words = (sys.executable, "-IS", f"{place}/rank.py", f"{place}/unit.json")
    old = gang(bed, number, argv=words, files=files, directories=(f"{place}/unit",))
    return {**{k: v for k, v in old.items() if k not in {"programs", "gang"}}, "schema_version": 1}


def begin_first_schema(bed: Bed, old: dict[str, Any]) -> None:
    bed.configure({**old, "gang": None})
    (bed.state / "services" / "a" / "launch.json").write_text(json.dumps(old))
    operations.started(bed.manager, {"a": old}, check=False)
    until("it is seen", lambda: bed.module("service_info")["services"][0]["restarts"] == 3)


def test_a_deployment_of_the_first_schema_is_seen_and_removed(bed: Bed) -> None:
    begin_first_schema(bed, first_schema(bed, free_port()))
    [row] = bed.module("service_info")["services"]
    assert row["state"] in {"starting", "running"}
    assert row["health_detail"] == "waits for rank 1"
    assert bed.module("service_state", state="absent")["actions"] == {"a": "stopped, removed"}
    assert not (bed.state / "services").exists()


def test_a_deployment_of_the_first_schema_is_taken_over(bed: Bed) -> None:
    number = free_port()
    begin_first_schema(bed, first_schema(bed, number))
    new = gang(bed, number)
    done = bed.module("service_configure", **sent(new, program("rank")), supervisord=bed.supervisord)
    assert not done.get("failed"), done
    place = bed.state / "services" / "a"
    assert {path.name for path in place.iterdir()} == {"gang", "launch.json", "starts"}
    actions = bed.module("service_state", launches=[new], supervisord=bed.supervisord)["actions"]
    assert actions == {"a": "restarted: its configuration changed"}
    bed.wait(new)
    assert bed.module("service_state", launches=[new], supervisord=bed.supervisord)["actions"] == {}
