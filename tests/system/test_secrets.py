"""Secrets on a real deployment: they work, they are nowhere else, a new one restarts its users."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import stat
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from places import REPOSITORY
from waiting import until

from tests.system.conftest import Deployment, free_offset
from wideep import runner

WORKERS = {"prefill-0", "prefill-1", "decode-0", "decode-1"}


def value(kind: str) -> str:
    # Nothing that a shell, systemd, NATS, URLs or YAML leave alone.
    return f"7{kind} #$x%&{secrets.token_hex(8)}:@/?"


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """Variable -> its secret."""
    kinds = {
        "secrets_hub_token": "hub",
        "secrets_nats_password": "nats",
        "secrets_etcd_password": "etcd",
        "secrets_etcd_root_password": "root",
        "secrets_env": "env",
        "secrets_registries": "registry",
    }
    return {variable: value(kind) for variable, kind in kinds.items()}


@dataclass
class Secured(Deployment):
    """A deployment whose runs are looked at: all that they said, and the directories that they left."""

    seen: list[bytes] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)

    def watched(self, verb: str, **options: Any) -> runner.Result:
        """Run a verb as talkative as it can be, and look at all processes meanwhile."""

        def watch(event: Any) -> None:
            self.seen += [json.dumps(event, default=str).encode(), command_lines()]

        result = self.run(verb, verbosity=3, keep=True, on_event=watch, **options)
        self.runs.append(result.private_dir)
        self.seen.append(repr(result.data).encode())
        result.raise_for_status()
        return result


@pytest.fixture(scope="module")
def secured(values: dict[str, str]) -> Iterator[Secured]:
    """A deployment with secrets from an environment variable, a file, and plain values."""
    base = Path(tempfile.mkdtemp(prefix="wideep-secrets-", dir="/tmp"))
    file = base / "password"
    file.write_text(values["secrets_nats_password"] + "\n")
    file.chmod(0o600)
    os.environ["WIDEEP_TEST_SECRET"] = values["secrets_hub_token"]
    registry = {"server": "registry.example.com", "username": "u", "password": values["secrets_registries"]}
    made = Secured(
        base / "state",
        free_offset(4900),
        {
            "secrets_hub_token": {"env": "WIDEEP_TEST_SECRET"},
            "secrets_registries": [registry],
            "secrets_nats_user": "dynamo",
            "secrets_nats_password": {"file": str(file)},
            "secrets_etcd_user": "dynamo",
            "secrets_etcd_password": values["secrets_etcd_password"],
            "secrets_etcd_root_password": values["secrets_etcd_root_password"],
            "secrets_env": {"MY_TOKEN": values["secrets_env"]},
        },
    )
    try:
        made.watched("site", check=True, diff=True)
        made.watched("site", diff=True)
        yield made
    finally:
        del os.environ["WIDEEP_TEST_SECRET"]
        for run in made.runs:
            shutil.rmtree(run)
        made.run("teardown").raise_for_status()
        left = {path.name for path in base.iterdir()}
        shutil.rmtree(base)
    assert left == {"password"}
    assert made.pids() == {}


def forms(values: dict[str, str]) -> dict[str, bytes]:
    """Return each secret in all forms in which it could be written down, by what it is."""
    found: dict[str, bytes] = {}
    for name, secret in values.items():
        found[name] = secret.encode()
        # A shell's or a URL's quoting changes what is around it, not its random part.
        found[f"{name}, its random part"] = secret.split("&")[1].split(":")[0].encode()
        for start in range(3):
            blind = base64.b64encode(b"x" * start + secret.encode())
            found[f"{name}, in base64 at {start}"] = blind[4 if start else 0 : -4]
    return found


def leaks(values: dict[str, str], *places: Path, allowed: tuple[Path, ...] = ()) -> list[str]:
    """Return the files below the places that hold a secret; `allowed` are directories left out."""
    found = []
    looked = 0
    for place in places:
        for path in [place] if place.is_file() else place.rglob("*"):
            if not path.is_file() or path.is_symlink() or any(path.is_relative_to(a) for a in allowed):
                continue
            content = path.read_bytes()
            looked += 1
            found += [f"{path}: {what}" for what, form in forms(values).items() if form in content]
    assert looked, places
    return found


def command_lines() -> bytes:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return b"\n".join(lines)


def test_the_search_finds_a_secret(values: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a").write_text(f"x {values['secrets_hub_token']} y")
    pair = f"u:{values['secrets_registries']}".encode()
    (tmp_path / "b").write_bytes(base64.b64encode(pair))
    assert {Path(line.split(":")[0]).name for line in leaks(values, tmp_path)} == {"a", "b"}


def test_no_secret_is_where_it_should_not_be(
    secured: Secured, values: dict[str, str], tmp_path: Path
) -> None:
    changed = secured.watched("site", check=True, diff=True).stats["localhost"].changed
    assert changed == 0
    secured.watched("plan")
    secured.watched("plan", extra_vars={"wideep_output": "json"})
    secured.watched("render", extra_vars={"wideep_output_dir": str(tmp_path / "rendered")})
    secured.watched("verify")
    secured.watched("status")
    (tmp_path / "seen").write_bytes(b"\n".join(secured.seen))
    own, facts = secured.state_dir / "secrets", REPOSITORY / ".cache" / "facts"
    places = [tmp_path, secured.state_dir, *secured.runs, *([facts] if facts.is_dir() else [])]
    assert leaks(values, *places, allowed=(own,)) == []
    # There they are, and only for their owner.
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    files = {path.name: path for path in own.iterdir()}
    assert set(files) == {
        "hub-token", "registry.json", "nats.env", "etcd.env", "worker.env", "nats-server.env",
        "etcd-accounts.json",
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert files["hub-token"].read_text() == values["secrets_hub_token"] + "\n"
    auth = json.loads(files["registry.json"].read_text())["auths"]["registry.example.com"]["auth"]
    assert base64.b64decode(auth).decode() == f"u:{values['secrets_registries']}"


def test_each_process_has_what_it_needs_and_no_more(secured: Secured, values: dict[str, str]) -> None:
    for name, pid in secured.pids().items():
        entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
        env = dict(entry.split("=", 1) for entry in entries if "=" in entry)
        dynamo = name in {*WORKERS, "frontend"}
        wanted = {
            "NATS_AUTH_PASSWORD": values["secrets_nats_password"] if dynamo else None,
            "ETCD_AUTH_PASSWORD": values["secrets_etcd_password"] if dynamo else None,
            "MY_TOKEN": values["secrets_env"] if name in WORKERS else None,
            "WIDEEP_NATS_PASSWORD": f'"{values["secrets_nats_password"]}"' if name == "nats" else None,
        }
        assert {key: env.get(key) for key in wanted} == wanted, name
    assert secured.complete() == 8


def nats_says(port: int, user: str, password: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        stream = client.makefile("rw", newline="\r\n")
        stream.readline()
        account = {"user": user, "pass": password} if user else {}
        stream.write(f"CONNECT {json.dumps({'verbose': False, **account})}\r\nPING\r\n")
        stream.flush()
        return stream.readline().strip()


def etcd_says(port: int, path: str, body: dict[str, str], token: str = "") -> dict[str, Any]:
    header = {"Authorization": token} if token else {}
    url = f"http://127.0.0.1:{port}/v3/{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), header)
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            answer: dict[str, Any] = json.load(reply)
    except urllib.error.HTTPError as refused:
        answer = json.load(refused)
    return answer


def test_who_has_no_credentials_is_refused(secured: Secured, values: dict[str, str]) -> None:
    nats, etcd = 4222 + secured.offset, 2379 + secured.offset
    password = values["secrets_nats_password"]
    assert nats_says(nats, "dynamo", password) == "PONG"
    assert "Authorization Violation" in nats_says(nats, "", "")
    assert "Authorization Violation" in nats_says(nats, "dynamo", password[:-1])
    assert "user name is empty" in etcd_says(etcd, "kv/range", {"key": "AA==", "range_end": "AA=="})["error"]
    account = {"name": "dynamo", "password": values["secrets_etcd_password"]}
    assert etcd_says(etcd, "auth/authenticate", account)["token"]
    assert "failed" in etcd_says(etcd, "auth/authenticate", {**account, "password": password})["error"]


def test_a_killed_worker_is_taken_out_of_discovery(secured: Secured, values: dict[str, str]) -> None:
    etcd = 2379 + secured.offset
    account = {"name": "dynamo", "password": values["secrets_etcd_password"]}
    token = etcd_says(etcd, "auth/authenticate", account)["token"]
    cards = {"key": base64.b64encode(b"v1/mdc/").decode(), "range_end": base64.b64encode(b"v1/mdc0").decode()}

    def registered() -> set[str]:
        return {pair["key"] for pair in etcd_says(etcd, "kv/range", cards, token)["kvs"]}

    before, victim = registered(), secured.pids()["decode-0"]
    assert len(before) == len(WORKERS)
    os.kill(victim, 9)
    # Its lease of 10 s was renewed at most a third of that before: it is revoked, it does not end.
    until("it is out of discovery", lambda: not before <= registered(), 6)
    until("it runs again", lambda: secured.pids().get("decode-0", victim) != victim)
    secured.run("verify", extra_vars={"verify_deadline_s": 90}).raise_for_status()


@pytest.mark.parametrize(
    ("variable", "users"),
    [
        ("secrets_env", WORKERS),
        ("secrets_etcd_password", {*WORKERS, "frontend"}),
        ("secrets_etcd_root_password", set()),
        ("secrets_nats_password", {*WORKERS, "frontend", "nats"}),
    ],
)
def test_a_new_secret_restarts_only_those_who_use_it(
    secured: Secured, values: dict[str, str], variable: str, users: set[str]
) -> None:
    before = secured.pids()
    new = value("new")
    values[f"{variable}, new"] = new
    secured.variables[variable] = {"MY_TOKEN": new} if variable == "secrets_env" else new
    secured.run("site").raise_for_status()
    after = secured.pids()
    assert {name for name in after if after[name] != before[name]} == users
    assert set(after) == set(before)
    assert leaks(values, secured.state_dir, allowed=(secured.state_dir / "secrets",)) == []


def test_after_all_that_nothing_is_left_to_do(secured: Secured) -> None:
    result = secured.run("site")
    result.raise_for_status()
    assert result.stats["localhost"].changed == 0
    assert secured.complete() == 8


def test_without_accounts_again(secured: Secured) -> None:
    for name in list(secured.variables):
        if name.startswith("secrets_"):
            del secured.variables[name]
    secured.run("site").raise_for_status()
    assert not (secured.state_dir / "secrets").exists()
    assert nats_says(4222 + secured.offset, "", "") == "PONG"
    assert "error" not in etcd_says(2379 + secured.offset, "kv/range", {"key": "AA=="})
    assert secured.complete() == 8
