"""TLS on a real deployment: whoever speaks plainly or shows no certificate is refused, on every plane."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
from certificates import Authority, Pair

from tests.system.conftest import Deployment, free_offset

ONE_EACH = {pool: {"replicas_per_node": 1, "gpus_per_node": 1} for pool in ("prefill", "decode")}
SERVICES = {"nats", "etcd", "frontend", "prefill-0", "decode-0"}
DECODE_RPC = 22001
ALERT = b"\x15\x03"  # of TLS: what it says to whoever speaks anything else


@dataclass
class Secured(Deployment):
    """A deployment with TLS on all planes. client: what its own processes show; ca: who signed all of it."""

    ca: str = ""
    client: Pair = field(default_factory=lambda: Pair("", ""))

    def asking(self, client: Pair | None) -> ssl.SSLContext:
        """Return how to connect, with a certificate or without."""
        context = ssl.create_default_context(cafile=self.ca)
        if client:
            context.load_cert_chain(client.certificate, client.key)
        return context


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    base = Path(tempfile.mkdtemp(prefix="wideep-tls-", dir="/tmp"))
    authority = Authority(base)
    server, client = authority.issue("server", of="server"), authority.issue("client", of="client")
    plane = asdict(server) | {
        "ca": authority.file,
        "client_ca": authority.file,
        **{f"client_{name}": path for name, path in asdict(client).items()},
    }
    made = Secured(
        base / "state",
        free_offset(5000),
        {"wideep_pools": ONE_EACH, "wideep_tls": {"requests": plane, "nats": plane, "http": plane}},
        ca=authority.file,
        client=client,
    )
    made.context = made.asking(client)
    try:
        yield made
    finally:
        made.run("teardown").raise_for_status()
        shutil.rmtree(base)
    assert made.pids() == {}


def talk(port: int, text: bytes, context: ssl.SSLContext | None) -> bytes:
    """Connect, say something and return the first that comes back; an OSError where that is refused."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        if context is None:
            plain.sendall(text)
            return plain.recv(1000)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as tls:
            tls.sendall(text)
            return tls.recv(1000)


def test_it_serves_and_says_how(secured: Secured) -> None:
    result = secured.run("site")
    result.raise_for_status()
    summary = result.data["wideep_summary"]
    client = secured.client
    assert f"curl -N --cacert {secured.ca} --cert {client.certificate} --key {client.key} https://" in summary
    assert secured.complete(tokens=20) == 20
    services = secured.services()
    assert set(services) == SERVICES
    assert all(row["healthy"] for row in services.values())
    assert "prefill 1 of 1, decode 1 of 1" in secured.run("status").data["wideep_summary"]


def test_a_second_run_changes_nothing(secured: Secured) -> None:
    before = secured.pids()
    result = secured.run("site")
    result.raise_for_status()
    assert result.stats["localhost"].changed == 0
    assert secured.pids() == before


def test_the_frontend_refuses_plain_http_and_who_shows_no_certificate(secured: Secured) -> None:
    path = f"127.0.0.1:{8000 + secured.offset}/v1/models"
    with urllib.request.urlopen(f"https://{path}", timeout=5, context=secured.context) as reply:
        assert json.load(reply)["data"]
    with pytest.raises((OSError, http.client.HTTPException)):
        urllib.request.urlopen(f"http://{path}", timeout=5)
    with pytest.raises(OSError, match="certificate required"):
        urllib.request.urlopen(f"https://{path}", timeout=5, context=secured.asking(None))


def test_nats_refuses_plain_text_and_who_shows_no_certificate(secured: Secured) -> None:
    def ask(context: ssl.SSLContext | None) -> bytes:
        with socket.create_connection(("127.0.0.1", 4222 + secured.offset), timeout=5) as plain:
            told = json.loads(plain.recv(4000).removeprefix(b"INFO ").split(b"\r\n")[0])
            assert told["tls_required"] is told["tls_verify"] is True
            words = b'CONNECT {"verbose":false}\r\nPING\r\n'
            if context is None:
                plain.sendall(words)
                return plain.recv(1000)
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as tls:
                tls.sendall(words)
                return tls.recv(1000)

    assert ask(secured.asking(secured.client)) == b"PONG\r\n"
    assert b"PONG" not in ask(None)
    with pytest.raises(OSError, match=r"certificate|reset"):
        ask(secured.asking(None))


def test_a_worker_refuses_plain_text_and_who_shows_no_certificate(secured: Secured) -> None:
    port = DECODE_RPC + secured.offset
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        secured.asking(secured.client).wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.settimeout(1)
        with pytest.raises(TimeoutError):  # it waits for a request: whoever is refused is told at once
            tls.recv(1)
    with pytest.raises(OSError, match="certificate required"):
        talk(port, b"x", secured.asking(None))
    assert talk(port, b"GET / HTTP/1.0\r\n\r\n", None).startswith(ALERT)
    assert secured.complete() == 8


def test_a_key_that_everybody_can_read_is_refused_before_anything_changes(secured: Secured) -> None:
    key = Path(secured.client.key)
    key.chmod(0o644)
    try:
        result = secured.run("preflight")
    finally:
        key.chmod(0o600)
    assert result.status == "failed"
    assert f"{key} has mode 0644" in result.failures[0].message
    assert result.stats["localhost"].changed == 0
