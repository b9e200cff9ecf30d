"""What one more host costs a run that changes nothing, against the same roles run naively and against pings.

usage: bench_site.py [SIZE SIZE]

Simulated hosts of this machine, each with an address and a state directory of its own: one with the control
plane and the frontend, one prefill host, and a decode replica over all others, whose ranks but the first are
stand-ins. They use the programs of the local deployment (in WIDEEP_STATE_DIR): `make up` first. Of each size:

- `site.yml`, on hosts where nothing differs;
- the roles of `site.yml` on every host, with Ansible's own settings instead of ours;
- two pings of every host.

The cost of a host is the slope between the two sizes. Connections are local: SSH would cost all alike more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(os.environ.get("WIDEEP_STATE_DIR", "~/.local/state/wideep")).expanduser() / "venv"
SIZES = (10, 30)
OFFSET = 9000
HERE = "control:frontend:prefill:decode"
NAIVE_HOSTS = {
    "state": HERE,
    "secrets": HERE,
    "nats": "control",
    "etcd": "control",
    "dynamo": "frontend:prefill:decode",
    "model_cache": "prefill:decode",
    "frontend": "frontend",
    "worker": "prefill:decode",
}


def program(name: str) -> str:
    """Return a program of the local deployment."""
    found = sorted(PROGRAMS.glob(f"*/bin/{name}"))
    if not found:
        raise SystemExit(f"there is no {name} below {PROGRAMS}; run `make up` first")
    return str(found[0])


def inventory(folder: Path, size: int) -> Path:
    """Write the inventory of so many hosts; return its file."""
    names = [f"h{n:03}" for n in range(size)]
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "wideep_deployment": "bench",
        "wideep_port_offset": OFFSET,
        "wideep_service_manager": "supervisord",
        "wideep_runtime": "existing",
        "wideep_python": str(next(PROGRAMS.glob("ai-dynamo-*")) / "bin" / "python"),
        "service_supervisord": program("supervisord"),
        "nats_install_method": "existing",
        "nats_binary": program("nats-server"),
        "etcd_install_method": "existing",
        "etcd_binary": program("etcd"),
        "wideep_pools": {"decode": {"nodes_per_replica": size - 2}},
        "wideep_drain_timeout_s": 5,
    }
    hosts = {
        name: {"wideep_address": f"127.78.0.{n + 1}", "wideep_state_dir": str(folder / name)}
        for n, name in enumerate(names)
    }
    groups = {"control": names[:1], "frontend": names[:1], "prefill": names[1:2], "decode": names[2:]}
    children = {group: {"hosts": dict.fromkeys(own)} for group, own in groups.items()}
    file = folder / f"{size}.yml"
    file.write_text(yaml.safe_dump({"all": {"vars": shared, "hosts": hosts, "children": children}}))
    return file


def naive() -> list[dict[str, Any]]:
    """Return the roles of site.yml, on all of their hosts."""
    plays: list[dict[str, Any]] = [
        {"name": "Begin", "ansible.builtin.import_playbook": str(ROOT / "playbooks" / "plays" / "begin.yml")},
        {"name": "Preflight", "hosts": HERE, "roles": ["wideep.dynamo.preflight"]},
    ]
    return plays + [
        {"name": role, "hosts": hosts, "gather_facts": False, "roles": [f"wideep.dynamo.{role}"]}
        for role, hosts in NAIVE_HOSTS.items()
    ]


def seconds(playbook: Path, hosts: Path, *, ours: bool = True, changes: bool = False) -> float:
    """Return how long a playbook takes. ours: with the settings of ansible.cfg."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(hosts), str(playbook)]
    env = os.environ | {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections")}
    env["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg" if ours else hosts.with_name("empty.cfg"))
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    took = time.monotonic() - begin
    changed = sum(not part.startswith("0") for part in done.stdout.split("changed=")[1:])
    if done.returncode or (changed and not changes):
        raise SystemExit(f"{playbook.name} of {hosts.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return took


def main(sizes: tuple[int, int]) -> None:
    """Compare and print."""
    site, teardown = (ROOT / "playbooks" / f"{verb}.yml" for verb in ("site", "teardown"))
    took: dict[str, list[float]] = {"site": [], "naive": [], "two pings": []}
    with tempfile.TemporaryDirectory(prefix="wb", dir="/tmp") as directory:
        folder = Path(directory)
        ping = {"name": "ping", "ansible.builtin.ping": {}}
        books = {
            "naive": naive(),
            "two pings": [{"hosts": "all", "gather_facts": False, "tasks": [ping] * 2}],
        }
        (folder / "empty.cfg").touch()
        for name, plays in books.items():
            (folder / f"{name}.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
        for size in sizes:
            hosts = inventory(folder, size)
            try:
                seconds(site, hosts, changes=True)
                took["site"].append(seconds(site, hosts))
                took["naive"].append(seconds(folder / "naive.yml", hosts, ours=False))
                took["two pings"].append(seconds(folder / "two pings.yml", hosts))
            finally:
                seconds(teardown, hosts, changes=True)
    few, many = sizes
    cost = {name: (times[1] - times[0]) / (many - few) for name, times in took.items()}
    for name, times in took.items():
        both = "   ".join(f"{size} hosts {each:5.1f} s" for size, each in zip(sizes, times, strict=True))
        print(f"{name:10} {both}   {cost[name]:.3f} s each")
    print(
        f"a host that has nothing to do costs {cost['site'] / cost['naive']:.2f} of one with naive settings"
    )
    print(f"and {cost['site'] / cost['two pings']:.2f} of two pings")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]] or SIZES
    main((given[0], given[1]))
