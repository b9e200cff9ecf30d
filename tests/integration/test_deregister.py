"""The script that takes a dead worker out of discovery, against a real etcd."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

from etcd import post, text
from ports import free_port

from wideep import programs

SCRIPT = Path(programs.__file__).with_name("deregister.py")


def register(etcd: str, worker: str, address: str) -> None:
    """Put what a Dynamo worker puts: an instance and a model card under one lease."""
    lease = post(etcd, "/v3/lease/grant", {"TTL": 60})["ID"]
    card = json.dumps({"card_json": {"config": f"http://{address}/v1/metadata/dynamo/config.json"}})
    for key, value in (
        (f"v1/instances/dynamo/backend/generate/{worker}", "{}"),
        (f"v1/mdc/dynamo/{worker}", card),
    ):
        post(etcd, "/v3/kv/put", {"key": text(key), "value": text(value), "lease": lease})


def keys(etcd: str) -> list[str]:
    found = post(etcd, "/v3/kv/range", {"key": text("v1/"), "range_end": text("v10")}).get("kvs", [])
    return [base64.b64decode(kv["key"]).decode().rpartition("/")[2] for kv in found]


def deregister(*endpoints: str, address: str) -> str:
    command = [sys.executable, "-IS", SCRIPT, ",".join(endpoints), address]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def test_only_the_worker_at_the_address_goes(etcd: str) -> None:
    register(etcd, "dead", "127.0.0.1:2200")
    register(etcd, "alive", "127.0.0.1:22001")
    assert "revoked lease" in deregister(etcd, address="127.0.0.1:2200")
    assert keys(etcd) == ["alive", "alive"]
    assert deregister(etcd, address="127.0.0.1:2200") == ""


def test_the_next_member_is_asked_when_one_is_away(etcd: str) -> None:
    register(etcd, "dead", "127.0.0.1:2200")
    away = f"http://127.0.0.1:{free_port()}"
    assert f"etcd at {away} did not take out" in deregister(away, etcd, address="127.0.0.1:2200")
    assert keys(etcd) == []


def test_without_etcd_it_ends_by_itself(etcd: str) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    assert "did not take out the worker" in deregister(away, address="127.0.0.1:2200")
    assert keys(etcd) == []
