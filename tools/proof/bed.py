"""Hosts with systemd in containers of podman, as molecule/hosts has them, and a deployment on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wideep import runner
from wideep.console.result import Result

ROOT = Path(__file__).resolve().parents[2]
NETWORK, NET = "wideep-proof", "10.213.78"
PREFIX = "wideep-proof-"
MODEL = "deepseek-ai/DeepSeek-R1"
NAME = "chat"
PORT = 8080
FRONTEND_PORT = 8000
GROUPS = ("control", "frontend", "load_balancer", "prefill", "decode")


@dataclass(frozen=True)
class Shape:
    """Who is there. width: hosts of a replica. spare: GPU hosts that are in no group at first.

    speedup: of the simulated engine; 1 is some 160 tokens a second, so 0.1 makes 5 s of 80 tokens.
    """

    prefill: int = 2
    decode: int = 2
    width: int = 1
    spare: int = 2
    speedup: float = 0.1


@dataclass
class Bed:
    """The hosts, and what the inventory says of them now. Needs root, podman and tools/hosts_image."""

    shape: Shape
    variables: dict[str, Any]
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="wideep-proof-")))
    groups: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        width = self.shape.width
        gpus = [f"gpu{n:02}" for n in range(1, (self.shape.prefill + self.shape.decode) * width + 1)]
        cut = self.shape.prefill * width
        self.spares = [f"spare{n:02}" for n in range(1, self.shape.spare + 1)]
        self.groups = {
            "control": ["control01"],
            "frontend": ["frontend01", "frontend02"],
            "load_balancer": ["balancer01"],
            "prefill": gpus[:cut],
            "decode": gpus[cut:],
        }
        names = [name for group in GROUPS for name in self.groups[group]] + self.spares
        self.addresses = {name: f"{NET}.{number}" for number, name in enumerate(["mirror01", *names], 10)}

    # The hosts

    def up(self) -> None:
        """Make the hosts."""
        self.down()
        image = self._local([str(ROOT / "tools" / "hosts_image")]).strip()
        self._local(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / "key")])
        self._podman("network", "create", "--internal", "--subnet", f"{NET}.0/24", NETWORK)
        cgroups = ("memory", "pids", "unified") if Path("/sys/fs/cgroup/unified").is_dir() else ()
        for name, address in self.addresses.items():
            self._podman(
                *("run", "--detach", "--name", PREFIX + name, "--hostname", name),
                *("--network", NETWORK, "--ip", address, "--systemd", "always", "--cgroupns", "host"),
                *("--cap-add", "SYS_ADMIN,SYS_PTRACE"),
                *("--volume", f"{self.directory}/key.pub:/home/deploy/.ssh/authorized_keys:ro"),
                *(f"--volume=/sys/fs/cgroup/{one}:/sys/fs/cgroup/{one}:rw" for one in cgroups),
                *(image, "/sbin/init"),
            )
        for name in self.addresses:
            until(f"{name} is up", lambda name=name: self.on(name, "true", check=False) == 0)
        serve = ("python3", "-m", "http.server", "--directory", "/srv/mirror", "8080")
        self.on("mirror01", "systemd-run", "--unit", "mirror", *serve)

    def down(self) -> None:
        """Remove hosts and network."""
        names = self._local(
            ["podman", "ps", "--all", "--filter", f"name=^{PREFIX}", "--format", "{{.Names}}"]
        ).split()
        if names:
            self._podman("rm", "--force", "--time", "0", *names)
        self._podman("network", "rm", "--force", NETWORK, check=False)

    def close(self) -> None:
        """Remove all of it."""
        self.down()
        shutil.rmtree(self.directory)

    def on(self, host: str, *command: str, check: bool = True) -> int:
        """Run a command as root of a host; return its status."""
        return self._podman("exec", PREFIX + host, *command, check=check)

    def output(self, host: str, *command: str) -> str:
        """Return what a command prints."""
        return self._local(["podman", "exec", PREFIX + host, *command])

    def kill(self, host: str, service: str, signal: str = "SIGKILL") -> None:
        """Send a signal to all processes of a service."""
        self.on(host, "systemctl", "kill", f"--signal={signal}", f"{NAME}-{service}.service")

    def power_off(self, host: str) -> None:
        """End a host as a power cut does."""
        self._podman("kill", "--signal", "KILL", PREFIX + host)

    def power_on(self, host: str) -> None:
        """Start it again."""
        self._podman("start", PREFIX + host)

    def cut_off(self, host: str, seconds: float) -> None:
        """Take a host from the network for a while."""
        pid = self._local(["podman", "inspect", "--format", "{{.State.Pid}}", PREFIX + host]).strip()
        link = ["nsenter", "--net", "--target", pid, "ip", "link", "set", "eth0"]
        self._local([*link, "down"])
        time.sleep(seconds)
        self._local([*link, "up"])

    # The deployment

    @property
    def url(self) -> str:
        """Return the address that clients ask."""
        return f"http://{self.addresses['balancer01']}:{PORT}"

    @property
    def frontends(self) -> tuple[str, ...]:
        """Return the addresses of the frontends."""
        return tuple(f"http://{self.addresses[name]}:{FRONTEND_PORT}" for name in self.groups["frontend"])

    def inventory(self) -> Path:
        """Write the inventory as it is now; return its directory."""
        place = self.directory / "inventory"
        (place / "group_vars").mkdir(parents=True, exist_ok=True)
        known = f"-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={self.directory}/known_hosts"
        connection = {
            "ansible_user": "deploy",
            "ansible_become": True,
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_ssh_common_args": f"{known} -o ControlMaster=auto -o ControlPersist=60s",
        }
        children = {
            group: {"hosts": {name: {"ansible_host": self.addresses[name]} for name in names}}
            for group, names in self.groups.items()
        }
        text = yaml.safe_dump({"all": {"vars": connection, "children": children}}, sort_keys=False)
        (place / "hosts.yml").write_text(text, encoding="utf-8")
        text = yaml.safe_dump(self._settings() | self.variables, sort_keys=False)
        (place / "group_vars" / "all.yml").write_text(text, encoding="utf-8")
        return place

    def pool(self) -> dict[str, Any]:
        """Return what the inventory says of each pool."""
        return {"nodes_per_replica": self.shape.width, "options": {"speedup_ratio": self.shape.speedup}}

    def _settings(self) -> dict[str, Any]:
        archive = "nats-server-v{{ wideep_plan.release.archives['nats-server'] }}-linux-amd64.tar.gz"
        return {
            "wideep_deployment": NAME,
            "wideep_engine": "mocker",
            "wideep_gpus_per_node": 8,
            "wideep_interface": "eth0",
            "wideep_service_manager": "systemd",
            "wideep_service_user": "wideep",
            "wideep_state_dir": "/var/lib/wideep",
            "wideep_drain_timeout_s": 90,
            "wideep_start_deadline_s": 180,
            "wideep_pools": {"prefill": self.pool(), "decode": self.pool()},
            "dynamo_offline": True,
            "dynamo_find_links": ["/srv/wheels"],
            "nats_install_method": "archive",
            "nats_archive_url": f"http://{self.addresses['mirror01']}:8080/{archive}",
            "etcd_install_method": "existing",
            "etcd_binary": "/usr/local/bin/etcd",
            "preflight_open_files": 20000,
        }

    def run(self, verb: str, **variables: Any) -> Result:
        """Run a verb; raise where it fails."""
        result = runner.run(verb, self.inventory(), extra_vars=variables, forks=20)
        result.raise_for_status()
        return result

    def site(self, **variables: Any) -> None:
        """Change variables for good, and deploy."""
        self.variables |= variables
        self.run("site")

    def workers(self) -> Counter[str]:
        """Return component -> how many workers every frontend knows."""
        counts = [self._known(url) for url in self.frontends]
        return counts[0] & counts[1]

    @staticmethod
    def _known(url: str) -> Counter[str]:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                found = json.load(answer).get("instances") or []
        except (OSError, ValueError):
            return Counter()
        return Counter(one["component"] for one in found if one.get("endpoint") == "generate")

    def recovered(self, deadline_s: float = 180) -> float:
        """Wait until clients are answered and all workers are known; return how long that took."""
        width = self.shape.width
        wanted = Counter(
            prefill=len(self.groups["prefill"]) // width, backend=len(self.groups["decode"]) // width
        )
        begun = time.monotonic()
        until(
            f"{dict(wanted)} are registered",
            lambda: self.workers() == wanted == self._known(self.url),
            deadline_s,
        )
        return time.monotonic() - begun

    def _podman(self, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            ["podman", *arguments], env=_environment(), capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"podman {' '.join(arguments)}: {done.stderr.strip()}")
        return done.returncode

    def _local(self, command: list[str]) -> str:
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout


def _environment() -> Mapping[str, str]:
    conf = ROOT / "molecule" / "hosts" / "containers.conf"
    return {**os.environ, "CONTAINERS_CONF": str(conf)}


def until(what: str, holds: Any, deadline_s: float = 60) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: with what was waited for.
    """
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.5)
