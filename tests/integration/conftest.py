"""What integration tests share: the real Dynamo, NATS and etcd, installed once from the lock files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import environments
import etcd as etcd_server
import pytest

dynamo_bin = environments.dynamo_bin


@pytest.fixture
def etcd(dynamo_bin: Path, tmp_path: Path) -> Iterator[str]:
    """Run an empty etcd; return its URL."""
    with etcd_server.running(dynamo_bin, tmp_path / "etcd-data") as url:
        yield url
