"""Accounts of etcd, against a real one: on, changed, off, and what needs the old password."""

from __future__ import annotations

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.etcd_auth import Accounts, EtcdError
from etcd import post
from test_deregister import deregister, register


def present(
    etcd: str,
    user: str,
    password: str,
    root: str,
    before: dict[str, str] | None = None,
    *,
    check: bool = False,
) -> list[str]:
    accounts = Accounts(etcd, check=check)
    accounts.present(user, password, root, before or {})
    return accounts.changes


def works(etcd: str, user: str, password: str) -> bool:
    return bool(Accounts(etcd, check=False).log_in(user, password))


def test_accounts_come_change_and_go(etcd: str) -> None:
    assert present(etcd, "dynamo", "password-1", "root-pass-1", check=True)
    assert not Accounts(etcd, check=False).enabled()
    assert present(etcd, "dynamo", "password-1", "root-pass-1") == [
        "accounts are needed now: root and dynamo"
    ]
    assert Accounts(etcd, check=False).enabled()
    first = {"user": "dynamo", "root": "root-pass-1"}
    assert present(etcd, "dynamo", "password-1", "root-pass-1", first) == []

    assert present(etcd, "dynamo", "password-2", "root-pass-1", first) == ["account dynamo"]
    assert works(etcd, "dynamo", "password-2")
    assert not works(etcd, "dynamo", "password-1")

    assert present(etcd, "dynamo", "password-2", "root-pass-2", first) == ["password of root"]
    assert works(etcd, "root", "root-pass-2")
    assert not works(etcd, "root", "root-pass-1")

    second = {"user": "dynamo", "root": "root-pass-2"}
    assert present(etcd, "other", "password-3", "root-pass-2", second) == [
        "account other",
        "account dynamo removed",
    ]
    assert not works(etcd, "dynamo", "password-2")

    with pytest.raises(EtcdError, match="set secrets_etcd_root_password") as refused:
        present(etcd, "other", "password-3", "root-pass-3")
    assert "root-pass" not in str(refused.value)
    with pytest.raises(EtcdError, match="set secrets_etcd_user"):
        Accounts(etcd, check=False).absent({})
    Accounts(etcd, check=False).absent({"user": "other", "root": "root-pass-2"})
    assert not Accounts(etcd, check=False).enabled()
    assert "kvs" not in post(etcd, "/v3/kv/range", {"key": "AA=="})


def test_an_interrupted_first_run_is_finished(etcd: str) -> None:
    post(etcd, "/v3/auth/user/add", {"name": "root", "password": "half a password"})
    post(etcd, "/v3/auth/role/add", {"name": "root"})
    assert present(etcd, "dynamo", "password-1", "root-pass-1")
    assert works(etcd, "root", "root-pass-1")
    assert works(etcd, "dynamo", "password-1")


def test_a_dead_worker_is_taken_out_with_an_account(etcd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register(etcd, "dead", "127.0.0.1:2200")
    present(etcd, "dynamo", "password-1", "root-pass-1")
    assert "did not take out" in deregister(etcd, address="127.0.0.1:2200")
    monkeypatch.setenv("ETCD_AUTH_USERNAME", "dynamo")
    monkeypatch.setenv("ETCD_AUTH_PASSWORD", "password-1")
    assert "revoked lease" in deregister(etcd, address="127.0.0.1:2200")
    assert deregister(etcd, address="127.0.0.1:2200") == ""
