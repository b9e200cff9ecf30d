"""What is written for systemd and supervisord, judged by their own parsers where they are here."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.launch import STATE_DIR_MAX, problems
from ansible_collections.wideep.dynamo.plugins.module_utils.status import in_start_order
from ansible_collections.wideep.dynamo.plugins.module_utils.supervisord import Supervisord, launcher_source
from ansible_collections.wideep.dynamo.plugins.module_utils.systemd import Systemd, render_environment

from wideep.deployment.launch import File, Health, Launch, Listener

STATE = "/var/lib/wideep"
NASTY = "a\\b \"q\" 'x' $HOME ${X} `id` %n 100% #1 ;"


def launch(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "decode-0",
        "component": "worker",
        "description": "Decode 100% worker",
        "argv": ("/bin/sh", "-c", NASTY, "", "plain=%i"),
        "working_directory": f"{STATE}/services/decode-0",
        "log_file": f"{STATE}/log/decode-0.log",
        "health": Health("process", 5),
        "env": {"A": NASTY},
        "depends_on": ("etcd", "nats"),
        "lock_memory": True,
        "open_files": 1000000,
        "stop_timeout_s": 900,
        "user": "root",
    }
    return Launch(**{**values, **changes}).to_dict()


def unit(version: int = 257, hardening: bool = True, state: str = STATE, **changes: Any) -> str:
    return Systemd(state, "blue", hardening).render_unit(launch(**changes), version)


def setting(text: str, key: str) -> str:
    values = re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)
    assert len(values) == 1, (key, values)
    return str(values[0])


def test_a_unit_says_how_the_launch_runs() -> None:
    text = unit()
    assert setting(text, "After") == "network-online.target blue-etcd.service blue-nats.service"
    assert setting(text, "Wants") == setting(text, "After")
    assert setting(text, "Description") == "Decode 100%% worker"
    assert setting(text, "EnvironmentFile") == f"{STATE}/services/decode-0/environment"
    secrets = [f"{STATE}/secrets/{name}.env" for name in ("etcd", "worker")]
    files = re.findall(r"^EnvironmentFile=(.*)$", unit(env_files=secrets), re.MULTILINE)
    assert files == [f"{STATE}/services/decode-0/environment", *secrets]
    assert setting(text, "StandardOutput") == f"append:{STATE}/log/decode-0.log"
    for key, value in {
        "User": "root",
        "Restart": "always",
        "StartLimitIntervalSec": "0",
        "RestartMaxDelaySec": "60",
        "TimeoutStopSec": "900",
        "KillMode": "mixed",
        "LimitNOFILE": "1000000",
        "LimitMEMLOCK": "infinity",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ReadWritePaths": STATE,
        "ProtectHome": "yes",
    }.items():
        assert setting(text, key) == value
    # GPUs, RDMA devices, namespaces and shared memory stay.
    assert not re.search(r"PrivateDevices|DeviceAllow|ProtectClock|CapabilityBoundingSet|PrivateIPC", text)


def test_less_is_said_where_less_is_asked() -> None:
    text = unit(version=252, hardening=False, user="", lock_memory=False, depends_on=())
    assert not re.search(r"^(User|LimitMEMLOCK|RestartSteps|ProtectSystem)=", text, re.MULTILINE)
    assert setting(text, "RestartSec") == "5"


def test_the_control_plane_gets_no_devices_and_no_capabilities() -> None:
    text = unit(component="etcd")
    assert setting(text, "PrivateDevices") == "yes"
    assert setting(text, "CapabilityBoundingSet") == ""
    low = unit(component="frontend", user="web", ports=(Listener("http", "0.0.0.0", 443),))
    assert setting(low, "AmbientCapabilities") == "CAP_NET_BIND_SERVICE"


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "/home/me/wideep"},
        {"env": {"HF_HOME": "/home/me/cache"}},
        {"argv": ("/usr/bin/x", "--model-path=/root/model")},
        {"files": (File("/home/me/x", ""),)},
    ],
)
def test_homes_stay_visible_where_they_are_used(changes: dict[str, Any]) -> None:
    assert "ProtectHome" not in unit(**changes)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
@pytest.mark.parametrize("component", ["worker", "frontend"])
def test_systemd_takes_the_unit_without_a_word(tmp_path: Path, component: str) -> None:
    version = int(subprocess.check_output(["systemd-analyze", "--version"], text=True).split()[1])
    path = tmp_path / "blue-decode-0.service"
    path.write_text(unit(version, component=component, depends_on=()))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=30
    )
    assert [line for line in done.stderr.splitlines() if path.name in line] == []
    assert done.returncode == 0, done.stderr


def unquote(text: str) -> str:
    """Read a value of an EnvironmentFile as systemd does within double quotes."""
    assert text[0] == text[-1] == '"'
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def test_the_environment_file_keeps_every_character() -> None:
    lines = dict(line.split("=", 1) for line in render_environment(launch(), STATE).splitlines())
    assert unquote(lines["A"]) == NASTY
    assert unquote(lines["WIDEEP_SERVICE"]) == "decode-0"
    assert unquote(lines["WIDEEP_STATE_DIR"]) == STATE
    assert unquote(lines["WIDEEP_DIGEST"]) == launch()["digest"]


def test_log_rotation_cuts_the_file_that_systemd_keeps_open() -> None:
    text = Systemd(STATE, "blue", log_max_mb=7, log_backups=2).render_logrotate(launch())
    assert f"{STATE}/log/decode-0.log {{" in text
    assert {"size 7M", "rotate 2", "copytruncate"} <= {line.strip() for line in text.splitlines()}


def test_a_program_section_escapes_percent() -> None:
    manager = Supervisord("/srv/100%", "/srv/100%/venv/bin/supervisord", log_max_mb=9, log_backups=3)
    text = manager.render_program(launch(log_file="/srv/100%/log/x.log"))
    section = configparser.ConfigParser(inline_comment_prefixes=(";", "#"))
    section.read_string(text)
    program = section["program:decode-0"]
    assert program["stdout_logfile"] == "/srv/100%/log/x.log"
    assert program["command"] == (
        "/srv/100%/venv/bin/python -I /srv/100%/supervisor/start.py /srv/100%/services/decode-0/launch.json"
    )
    assert program["stopwaitsecs"] == "900"
    assert program["stdout_logfile_maxbytes"] == "9MB"
    assert int(program["startretries"]) > 100000


def test_the_launcher_stands_alone() -> None:
    assert "ansible" not in launcher_source().replace("Ansible", "")
    compile(launcher_source(), "start.py", "exec")


def test_dependencies_start_first_and_a_circle_does_no_harm() -> None:
    launches = {
        "w": {"depends_on": ["front", "elsewhere"]},
        "front": {"depends_on": ["etcd"]},
        "etcd": {"depends_on": []},
        "x": {"depends_on": ["y"]},
        "y": {"depends_on": ["x"]},
    }
    assert in_start_order(launches) == ["etcd", "front", "w", "y", "x"]


def test_a_state_directory_too_deep_for_the_socket_is_refused_for_supervisord_only() -> None:
    fits, deep = "/" + "x" * (STATE_DIR_MAX - 1), "/" + "x" * STATE_DIR_MAX
    assert problems([], fits, "supervisord") == []
    assert "107 bytes" in problems([], deep, "supervisord")[0]
    assert problems([], deep, "systemd") == []


@pytest.mark.parametrize("state", ["relative", "/a b", "/a/../b", "/a;b", '/a"b', "/", "/a/"])
def test_paths_that_configuration_files_cannot_hold_are_refused(state: str) -> None:
    assert "must be an absolute, normal path" in problems([], state, "systemd")[0]


def test_an_unknown_schema_is_refused() -> None:
    assert "schema_version 1" in problems([{"name": "a", "schema_version": 1}], STATE, "systemd")[0]


class Quiet(Systemd):
    """systemd's files in a directory of ours, with the words that systemctl would get."""

    def __init__(self, place: Path) -> None:
        super().__init__(str(place / "state"), "blue")
        self.units, self.containers, self.logrotate = (place / n for n in ("units", "containers", "rotate"))
        self.generator = place / "none"
        self.told: list[str] = []

    def _systemctl(self, *arguments: str, check: bool = True, timeout: float = 60) -> str:
        self.told.append(arguments[0])
        return "systemd 257"


def test_systemd_reads_units_again_when_they_change_and_only_then(tmp_path: Path) -> None:
    """Else a worker that is not restarted would be cleaned up after by a program that is gone."""
    manager = Quiet(tmp_path)

    def told(check: bool = False, **changes: Any) -> int:
        manager.told.clear()
        manager.configure(Files(check), {"decode-0": launch(**changes)})
        return manager.told.count("daemon-reload")

    assert told(check=True) == 0
    assert told() == 1
    assert told() == 0
    # In the environment's file only.
    assert told(env={"A": "b"}) == 0
    assert told(env={"A": "b"}, cleanup=("python3", "/srv/programs/deregister-1.py")) == 1


def test_what_stays_stopped_is_disabled_where_it_is_a_plain_unit(tmp_path: Path) -> None:
    manager = Quiet(tmp_path)
    manager.configure(Files(False), {"decode-0": launch()})
    manager.told.clear()
    manager.not_at_boot({"decode-0": launch(), "in-a-container": launch()})
    assert manager.told == ["disable"]
    manager.told.clear()
    manager.not_at_boot({"in-a-container": launch()})
    assert manager.told == []
