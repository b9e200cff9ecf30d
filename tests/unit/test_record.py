"""Records of deployments: what is in one, which one a rollback takes, what it changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import ledger
from example_inventories import local
from example_playbook import run_action

from wideep.changes.record import choose, differences, digest, input_of, inventory_of, recorded
from wideep.plan import make_plan
from wideep.problems import RefusedError

PLAN = make_plan(*local()).publish()


def record(name: str, run: str, when: str) -> dict[str, Any]:
    return {"digest": name, "run": run, "when": when, "who": "ann", "input": {"groups": {}, "hosts": {}}}


A, B = record("aaa", "r1", "2026-01-01T00:00:00Z"), record("bbb", "r2", "2026-01-02T00:00:00Z")


def ran(*runs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"run": run, "verb": verb} for run, verb in runs]


def test_after_a_change_that_was_verified_the_one_before_is_taken() -> None:
    assert choose([A, B], ran(("r1", "site"), ("r2", "site"))) == A
    assert choose([A, B], ran(("r1", "site"), ("r2", "site"), ("r3", "drain"))) == A


def test_after_a_change_that_failed_the_last_record_is_taken() -> None:
    assert choose([A, B], ran(("r1", "site"), ("r2", "site"), ("r3", "site"))) == B


def test_a_record_can_be_named() -> None:
    assert choose([A, B], ran(("r2", "site")), "bb") == B


@pytest.mark.parametrize(
    ("records", "wanted", "said"),
    [
        ([], "", "no deployment was recorded yet"),
        ([A], "", "what is deployed is all that was recorded: aaa"),
        ([A, B], "c", "no record begins with 'c': bbb (2026-01-02T00:00:00Z), aaa"),
    ],
)
def test_where_there_is_none_it_is_said(records: list[Any], wanted: str, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        choose(records, ran(("r1", "site")), wanted)
    assert said in refused.value.problems[0].message


def test_secrets_and_what_is_about_a_run_are_not_recorded() -> None:
    assert not any(map(recorded, ("secrets_env", "secrets_nats_user", "verify_api_key", "wideep_confirm")))
    assert recorded("wideep_pools")


def test_the_inventorys_directory_stays_that_of_cards() -> None:
    own = {"inventory_dir": "/inv", "wideep_cards_dir": "cards", "secrets_env": {"A": "x"}}
    made = input_of({"control": ["a"], "all": ["a"]}, {"a": own, "b": {"inventory_dir": "/inv"}})
    assert made == {
        "groups": {"control": ["a"]},
        "hosts": {"a": {"wideep_cards_dir": "/inv/cards"}, "b": {"wideep_cards_dir": "/inv"}},
    }
    assert digest(made) == digest(json.loads(json.dumps(made)))


def test_differences_are_told_once() -> None:
    before = {"groups": {"decode": ["a", "b"]}, "hosts": {"a": {"x": 1}, "b": {"x": 1}}}
    after = {"groups": {"decode": ["a", "c"]}, "hosts": {"a": {"x": 2, "y": "z" * 99}, "c": {}}}
    lines = differences(before, after)
    assert lines[:2] == ["group decode: without b, with c", "x: 1 → 2"]
    assert lines[2].startswith('y: (default) → "zzz')
    assert lines[2].endswith("…")
    many = {"groups": {}, "hosts": {host: {"x": 1} for host in "abcde"}}
    some = {"groups": {}, "hosts": {host: {"x": 1 + (host != "e")} for host in "abcde"}}
    assert differences(many, some) == ["x: 1 → 2 on a, b, c …"]


def test_a_record_becomes_an_inventory_with_the_ways_of_today() -> None:
    given = {"groups": {"decode": ["a"]}, "hosts": {"a": {"wideep_x": 1}}}
    made = inventory_of(given, {"a": {"ansible_host": "192.0.2.1"}, "other": {}})
    assert made["all"]["hosts"] == {"a": {"ansible_host": "192.0.2.1", "wideep_x": 1}}
    assert made["all"]["children"] == {"decode": {"hosts": {"a": None}}}
    with pytest.raises(RefusedError) as refused:
        inventory_of(given, {"b": {}})
    assert refused.value.problems[0].where == "host a"


def test_hosts_keep_the_last_ones(tmp_path: Path) -> None:
    assert ledger.record(tmp_path, A, 2)
    assert not ledger.record(tmp_path, {**A, "run": "r9"}, 2)  # verified again
    assert [one["run"] for one in ledger.records(tmp_path)] == ["r9"]
    assert ledger.record(tmp_path, B, 2)
    again = record("aaa", "r3", "2026-01-03T00:00:00Z")
    assert ledger.record(tmp_path, again, 2)
    assert [one["run"] for one in ledger.records(tmp_path)] == ["r2", "r3"]
    ledger.record(tmp_path, record("ccc", "r4", "2026-01-04T00:00:00Z"), 2)
    assert [one["run"] for one in ledger.records(tmp_path)] == ["r3", "r4"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "deployments").glob("*.json"))
    ledger.record(tmp_path, B, 0)
    assert ledger.records(tmp_path) == []
    (tmp_path / "deployments" / "x.json").write_text("{")
    assert ledger.records(tmp_path) == []


def test_the_action_refuses_without_a_record() -> None:
    said = run_action("rollback", {"results": [{"changed": False}]}, wideep_plan=PLAN.to_dict())
    assert said["wideep_refused"]
    assert "no deployment was recorded yet" in said["msg"]
