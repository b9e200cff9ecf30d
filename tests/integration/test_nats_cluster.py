"""NATS as it is planned with an account: two servers find each other, strangers are refused."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path

from ansible_collections.wideep.dynamo.plugins.module_utils.process import secret_environment
from waiting import until

from wideep.inventory.secrets import NATS_SERVER, Secrets
from wideep.plan import make_plan

# What NATS would read as a number with a unit, a variable or a comment, and URLs as something else.
PASSWORD = "12345678 #$x,@]:/?%"
ADDRESSES = {"control-0": "127.0.71.1", "control-1": "127.0.71.2", "control-2": "127.0.71.3"}


def routes(address: str) -> set[str]:
    """Return the names of the servers that it has routes to; one that is being refused is there too."""
    try:
        with urllib.request.urlopen(f"http://{address}:8222/routez", timeout=2) as reply:
            return {route.get("remote_name", "") for route in json.load(reply)["routes"]}
    except OSError:
        return set()


def stay(address: str, peer: str) -> bool:
    """Whether the route to the peer is there for a second."""
    for _ in range(20):
        if peer not in routes(address):
            return False
        time.sleep(0.05)
    return True


def test_two_servers_with_an_account_make_a_cluster(dynamo_bin: Path, tmp_path: Path) -> None:
    variables = {"secrets_nats_user": "dynamo", "wideep_service_manager": "systemd"}
    variables |= {"nats_install_method": "existing", "nats_binary": str(dynamo_bin / "nats-server")}
    groups = {"control": [*ADDRESSES], "frontend": ["control-0"], "aggregated": ["control-0"]}
    hosts = {
        name: {"wideep_address": address, "wideep_state_dir": str(tmp_path / name), **variables}
        for name, address in ADDRESSES.items()
    }
    for host in hosts.values():
        host |= {"wideep_aggregated": True, "wideep_gpus_per_node": 1}
    plan = make_plan(groups, hosts)
    data = plan.publish().to_dict()["hosts"]
    servers: list[subprocess.Popen[bytes]] = []
    route = (ADDRESSES["control-0"], "wideep-control-1")

    def start(name: str, password: str) -> None:
        launch = next(x for x in plan.launches[name] if x.name == "nats")
        for directory in launch.directories:
            Path(directory).mkdir(parents=True, exist_ok=True)
        for file in launch.files:
            Path(file.path).parent.mkdir(parents=True, exist_ok=True)
            Path(file.path).write_text(file.content)
        secrets = Secrets({"secrets_nats_user": "dynamo", "secrets_nats_password": password}, {})
        assert secrets.problems == []
        (tmp_path / "env").write_text(secrets.content(NATS_SERVER, data[name]["nats_routes"]))
        env = {**os.environ, **secret_environment(str(tmp_path / "env"))}
        with (tmp_path / f"{name}.log").open("ab") as log:
            servers.append(subprocess.Popen(launch.argv, env=env, stdout=log, stderr=log))

    try:
        start("control-0", PASSWORD)
        start("control-1", "another password")

        def both_refused() -> bool:
            return all("authentication error" in path.read_text() for path in tmp_path.glob("*.log"))

        until("both are refused", both_refused)
        assert not stay(*route)
        servers[1].kill()
        servers[1].wait()
        start("control-1", PASSWORD)
        until("the route stays", lambda: stay(*route))
    finally:
        for server in servers:
            server.kill()
            server.wait()
    for log in tmp_path.glob("*.log"):
        assert PASSWORD not in log.read_text()
