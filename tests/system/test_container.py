"""Dynamo's processes in real containers on this machine: served, unchanged, killed, orphaned, removed.

The image is made here, from that of the systemd hosts and the wheels in it; nothing is pulled.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import REPOSITORY
from waiting import until

from tests.system.conftest import Deployment, free_offset
from wideep.hosts.container import container_name
from wideep.reference.release import find_release

SERVICES = ("frontend", "prefill-0", "decode-0")
CONF = REPOSITORY / "molecule" / "hosts" / "containers.conf"
LOCK = find_release().lock("ai-dynamo")
BUILD = """
python3 -m venv /opt/dynamo
/opt/dynamo/bin/pip install --quiet --no-deps --no-index --find-links /srv/wheels -r /lock
"""
TOOLS = ("podman", "runc", "debootstrap")
MISSING = [tool for tool in TOOLS if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
LACKS = "root" if os.geteuid() else ", ".join(MISSING)

pytestmark = pytest.mark.skipif(
    bool(LACKS) and os.environ.get("WIDEEP_REQUIRE_ALL") != "1",
    reason=f"needs {LACKS} (tools/hosts_image names the packages)",
)


def podman(*arguments: str) -> str:
    """Run podman as the deployment does and return its output."""
    done = subprocess.run(
        ["podman", *arguments],
        env={**os.environ, "CONTAINERS_CONF": str(CONF)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> str:
    """An image with Dynamo in an environment of its own that is first in its PATH, by its digest."""
    base = subprocess.run(
        [REPOSITORY / "tools" / "hosts_image"], capture_output=True, text=True, check=True
    ).stdout
    name = base.strip().replace("wideep-hosts", "wideep-dynamo")
    if subprocess.run(["podman", "image", "exists", name], check=False).returncode:
        builder = f"wideep-build-{os.getpid()}"
        own = [f"--name={builder}", "--network=none", "--entrypoint=/bin/sh", f"--volume={LOCK}:/lock:ro"]
        try:
            podman("run", *own, base.strip(), "-ec", BUILD)
            path = "ENV PATH=/opt/dynamo/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            podman("commit", "--quiet", "--change", path, builder, name)
        finally:
            podman("rm", "--force", builder)
    digest = podman("image", "inspect", "--format", "{{.Digest}}", name)
    return f"{name.partition(':')[0]}@{digest}"


@pytest.fixture(scope="module")
def contained(image: str) -> Iterator[Deployment]:
    """A deployment whose frontend and workers are containers; nothing of it may be left at the end."""
    base = Path(tempfile.mkdtemp(prefix="wideep-container-", dir="/tmp"))
    program = base / "bin" / "podman"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nCONTAINERS_CONF={CONF} exec podman "$@"\n')
    program.chmod(0o755)
    init = any(shutil.which("catatonit", path=path) for path in ("/usr/libexec/podman", os.environ["PATH"]))
    pool = {"replicas_per_node": 1, "gpus_per_node": 1}
    made = Deployment(
        base / "state",
        free_offset(4600),
        {
            "wideep_runtime": "container",
            "wideep_image": image,
            "wideep_container": {
                "program": str(program),
                "init": init,
                "mounts": [f"{REPOSITORY / 'configs'}:/srv/configs:ro"],
            },
            "wideep_pools": {"prefill": pool, "decode": pool},
            "wideep_drain_timeout_s": 10,
            "dynamo_image_pull": "never",
        },
    )
    try:
        made.run("site").raise_for_status()
        yield made
    finally:
        made.run("teardown").raise_for_status()
        left = [path for path in base.iterdir() if path != program.parent]
        shutil.rmtree(base)
    assert left == []
    assert made.pids() == {}
    assert containers(made) == {}


def containers(deployment: Deployment) -> dict[str, str]:
    """Return service -> ID of the deployment's containers."""
    lines = podman("ps", "--all", "--format", "{{.Names}} {{.ID}}").splitlines()
    found = dict(line.split() for line in lines)
    names = {s: container_name("wideep", str(deployment.state_dir), s) for s in SERVICES}
    return {service: found[name] for service, name in names.items() if name in found}


def inside(container: str) -> int:
    """Return a container's first process, as this machine numbers it."""
    return int(podman("inspect", "--format", "{{.State.Pid}}", container))


def test_it_serves_from_containers(contained: Deployment) -> None:
    assert set(containers(contained)) == set(SERVICES)
    assert contained.complete(tokens=20) == 20
    assert podman("exec", containers(contained)["decode-0"], "ls", "/srv/configs/releases")


def test_a_second_run_changes_nothing(contained: Deployment) -> None:
    before = containers(contained)
    for options in ({}, {"check": True, "diff": True}):
        result = contained.run("site", **options)
        result.raise_for_status()
        assert result.stats["localhost"].changed == 0
    assert containers(contained) == before


def test_status_counts_the_memory_in_the_container(contained: Deployment) -> None:
    services = contained.services()
    assert all(row["healthy"] and row["digest_ok"] for row in services.values())
    for name in SERVICES:
        # Python with Dynamo; podman alone would be a third of it.
        assert services[name]["rss_bytes"] > 100e6, name


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_process_comes_back(contained: Deployment, service: str) -> None:
    before = containers(contained)[service]
    os.kill(inside(before), signal.SIGKILL)
    until("it runs again", lambda: containers(contained).get(service, before) != before)
    contained.run("verify", extra_vars={"verify_deadline_s": 90}).raise_for_status()


def test_a_killed_podman_leaves_no_orphan_behind(contained: Deployment) -> None:
    before = containers(contained)["decode-0"]
    victim, main = contained.services()["decode-0"]["pid"], inside(before)
    assert victim != main
    os.kill(victim, signal.SIGKILL)
    until("it runs again", lambda: containers(contained).get("decode-0", before) != before)
    assert not Path(f"/proc/{main}").exists()
    contained.run("verify", extra_vars={"verify_deadline_s": 90}).raise_for_status()
    until("all are healthy", lambda: all(row["healthy"] for row in contained.services().values()))


def test_an_image_that_is_not_there_is_refused_before_anything_changes(contained: Deployment) -> None:
    before = containers(contained)
    missing = f"localhost/wideep-dynamo@sha256:{'0' * 64}"
    result = contained.run("site", extra_vars={"wideep_image": missing})
    assert result.status == "failed"
    assert "dynamo_image_pull is never" in result.failures[0].message
    assert containers(contained) == before
