"""A real etcd of one member, and its HTTP gateway."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ports import free_port
from waiting import until


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask the gateway; a text in the body is base64."""
    with urllib.request.urlopen(url + path, json.dumps(body).encode(), timeout=5) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def text(value: str) -> str:
    """Return a text as the gateway takes it."""
    return base64.b64encode(value.encode()).decode()


@contextmanager
def running(programs: Path, data: Path) -> Iterator[str]:
    """Run etcd on ports of its own while the block lasts; give the clients' URL."""
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = [programs / "etcd", "--data-dir", data, "--log-level", "error"]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    command += ["--initial-cluster", f"default={peer}", "--listen-client-urls", client]
    command += ["--advertise-client-urls", client]

    def answers() -> bool:
        try:
            post(client, "/v3/kv/range", {"key": text("x")})
        except OSError:
            return False
        return True

    process = subprocess.Popen(command)
    try:
        until("etcd answers", answers)
        yield client
    finally:
        process.kill()
        process.wait()
