"""What a host gives for whoever is to help: what is in it, what is not, and how large it gets."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.support_bundle import (
    HIDDEN,
    LOG_BYTES,
    collect,
    scrub,
    secrets_of,
)

PASSWORD = "correct horse battery"
TOKEN = "hub-0123456789abcdef"
REGISTRY = "user:pull-me-0123"
PROMPT = "my diagnosis is secret"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A host's directory, with secrets in every place where one may be found."""
    files = {
        "secrets/nats-server.env": f"WIDEEP_NATS_PASSWORD='\"{PASSWORD}\"'\nSHORT=abc\n",
        "secrets/hub-token": TOKEN + "\n",
        "secrets/registry.json": json.dumps(
            {"auths": {"r.example.com": {"auth": base64.b64encode(REGISTRY.encode()).decode()}}}
        ),
        "services/decode-0/launch.json": json.dumps(
            {"env": {"MY_API_KEY": "sesame-open", "DYN_LOG": "info"}}
        ),
        "services/decode-0/core": "x" * 300_000,
        "log/decode-0.log": f"connect nats://wideep:{PASSWORD}@h:4222\nGET x Authorization: Bearer {TOKEN}\n",
        "log/decode-0.log.1": f'{{"messages": [{{"role": "user", "content": "{PROMPT}"}}]}}\n',
        "log/frontend.log": "".join(f"line {n}\n" for n in range(400_000)),
        "venv/ai-dynamo/lib/python3.12/site-packages/torch-2.13.0.dist-info/METADATA": "",
        "data/etcd/wal": "nothing of it",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    os.utime(tmp_path / "log" / "frontend.log", (1, 1))
    return tmp_path


def test_what_is_in_it(state: Path) -> None:
    found, left = collect(state, 20_000_000)
    assert set(found) == {
        "system.txt",
        "packages.txt",
        "services/decode-0/launch.json",
        "log/decode-0.log",
        "log/decode-0.log.1",
        "log/frontend.log",
    }
    assert left == []
    assert found["packages.txt"] == "ai-dynamo torch-2.13.0\n"
    assert "Linux" in found["system.txt"]


def test_no_secret_and_no_prompt_is_in_it(state: Path) -> None:
    found, _ = collect(state, 20_000_000)
    everything = "\n".join(found.values())
    encoded = base64.b64encode(REGISTRY.encode()).decode()
    for secret in (PASSWORD, TOKEN, REGISTRY, encoded, "pull-me-0123", "sesame-open", PROMPT):
        assert secret not in everything
    assert f"nats://wideep:{HIDDEN}@h:4222" in everything
    assert '"DYN_LOG": "info"' in everything


def test_a_large_log_is_its_end(state: Path) -> None:
    text = collect(state, 20_000_000)[0]["log/frontend.log"]
    assert text.startswith(f"(the last {LOG_BYTES} of ")
    assert text.endswith("line 399999\n")


def test_what_does_not_fit_is_named_and_the_oldest_goes_first(state: Path) -> None:
    found, left = collect(state, 1_000_000)
    assert left == ["log/frontend.log"]
    assert sum(len(text.encode()) for text in found.values()) <= 1_000_000


def test_a_host_without_anything_still_tells_of_itself(tmp_path: Path) -> None:
    found, left = collect(tmp_path / "nowhere", 1_000_000)
    assert (set(found), left) == ({"system.txt", "packages.txt"}, [])


def test_short_values_and_plain_ones_stay(state: Path) -> None:
    assert "abc" not in secrets_of(state)
    for text in (
        "MAX_TOKEN=123456",
        "KEY_FILE=/etc/tls/key",
        "TOKEN: true",
        "tokens=4096",
        "the key is there",
    ):
        assert scrub(text, []) == text
    for text in (
        "HF_TOKEN=abcdef123",
        "password: 'opensesame'",
        "hf_abcdefghijklmnopqrst",
        "'prompt': 'hello you'",
    ):
        assert HIDDEN in scrub(text, [])
