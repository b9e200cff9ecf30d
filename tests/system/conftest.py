"""Real deployments on this machine: real NATS, etcd, frontend and simulated engines, run by the playbooks."""

from __future__ import annotations

import json
import shutil
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from places import LOCAL
from ports import is_free

from wideep import runner


def free_offset(start: int) -> int:
    """Return the first offset from `start` at which no port of a local deployment is taken."""
    ports = (2379, 2380, 4222, 8000, 8222, *range(21000, 21200, 100), *range(22000, 22200, 100))
    for offset in range(start, 9700, 100):
        with_offset = [port + offset for port in ports]
        if all(is_free(port) for port in with_offset):
            return offset
    raise RuntimeError("no free range of ports on this machine")


@dataclass
class Deployment:
    """A deployment of the local inventory in a state directory and on ports of its own.

    context: how its frontend is asked where it has TLS.
    """

    state_dir: Path
    offset: int
    variables: dict[str, Any] = field(default_factory=dict)
    context: ssl.SSLContext | None = None

    def run(self, verb: str, **options: Any) -> runner.Result:
        """Run a verb; extra variables given here go before those of the deployment."""
        own = {"wideep_state_dir": str(self.state_dir), "wideep_port_offset": self.offset} | self.variables
        more = options.pop("extra_vars", {})
        return runner.run(verb, options.pop("inventory", LOCAL), extra_vars=own | more, **options)

    @property
    def url(self) -> str:
        """Return the frontend's address."""
        return f"http{'s' if self.context else ''}://127.0.0.1:{8000 + self.offset}"

    def services(self) -> dict[str, dict[str, Any]]:
        """Return service name -> what `status` says of it, healthy or not."""
        result = self.run("status")
        if not all("wideep_unhealthy" in failure.details for failure in result.failures):
            result.raise_for_status()
        return {row["name"]: row for row in result.data["wideep_data"]["localhost"]}

    def pids(self) -> dict[str, int]:
        """Return service name -> pid, from /proc: every process of this deployment that carries its name."""
        found = {}
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                entries = environ.read_text(errors="replace").split("\0")
            except OSError:
                continue
            pairs = dict(entry.split("=", 1) for entry in entries if "=" in entry)
            if pairs.get("WIDEEP_STATE_DIR") == str(self.state_dir):
                found[pairs["WIDEEP_SERVICE"]] = int(environ.parent.name)
        return found

    def complete(self, tokens: int = 8, timeout_s: float = 60) -> int:
        """Ask for one streamed completion and return the number of tokens that came, all or an exception."""
        body = {
            "model": "deepseek-ai/DeepSeek-R1",
            "messages": [{"role": "user", "content": "What does a router do?"}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        count = 0
        with urllib.request.urlopen(request, timeout=timeout_s, context=self.context) as reply:
            for line in reply:
                if line.startswith(b"data: {"):
                    usage = json.loads(line[6:]).get("usage")
                    count = usage["completion_tokens"] if usage else count
        if count != tokens:
            raise RuntimeError(f"{count} tokens came, {tokens} were asked for")
        return count


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """A deployment that serves; removed at the end, and nothing of it may be left."""
    base = Path(tempfile.mkdtemp(prefix="wideep-system-", dir="/tmp"))
    made = Deployment(base / "state", free_offset(2000))
    try:
        made.run("site").raise_for_status()
        yield made
    finally:
        made.run("teardown").raise_for_status()
        left = list(base.iterdir())
        shutil.rmtree(base)
    assert left == []
    assert made.pids() == {}
