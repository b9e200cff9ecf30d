"""The action plugins plan and report, run in this process on real inventories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from example_playbook import run_action

from wideep.plan import make_plan

PLAN = "plan"
HERE = {"wideep_state_dir": "/srv/wideep"}


def inventory(path: Path, **variables: Any) -> Path:
    """Write an inventory of two hosts that serve aggregated, and return its file."""
    hosts = {"b": {"ansible_host": "10.0.0.2"}, "a": {"ansible_host": "10.0.0.1"}}
    groups = {"control": ["b"], "frontend": ["b"], "aggregated": ["b", "a"]}
    tree = {
        "all": {
            "hosts": hosts,
            "vars": {"wideep_state_dir": "/srv/wideep", **variables},
            "children": {name: {"hosts": dict.fromkeys(members)} for name, members in groups.items()},
        }
    }
    path.mkdir(exist_ok=True)
    (path / "hosts.yml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path / "hosts.yml"


def test_the_plan_as_data(tmp_path: Path) -> None:
    result = run_action(PLAN, {}, inventory=inventory(tmp_path))
    assert result["changed"] is False
    assert json.loads(json.dumps(result)) == result
    # Inventory order, not alphabetical order, decides who is first.
    [pool] = result["pools"]
    assert [(r["name"], r["nodes"][0]["host"]) for r in pool["replicas"]] == [
        ("aggregated-0", "b"),
        ("aggregated-1", "a"),
    ]
    groups = {"control": ["b"], "frontend": ["b"], "aggregated": ["b", "a"]}
    state = {"wideep_state_dir": "/srv/wideep"}
    hosts = {"b": {**state, "ansible_host": "10.0.0.2"}, "a": {**state, "ansible_host": "10.0.0.1"}}
    expected = make_plan(groups, hosts).publish().to_dict()
    assert {key: result[key] for key in expected} == expected


def test_the_table_comes_with_the_data() -> None:
    data, shown = (run_action(PLAN, {"output": output}, **HERE) for output in ("data", "table"))
    assert shown["changed"] is False
    assert "decode-1" in shown["text"]
    assert {"changed": False, **shown["data"]} == data


def test_files_are_written_once(tmp_path: Path) -> None:
    arguments = {"output": "files", "path": str(tmp_path / "out")}
    first = run_action(PLAN, arguments, **HERE)
    assert first["changed"] is True
    assert str(tmp_path / "out" / "localhost" / "nats" / "nats.conf") in first["files"]
    again = run_action(PLAN, arguments, **HERE)
    assert (again["changed"], again["files"]) == (False, first["files"])
    assert run_action(PLAN, arguments, **HERE, wideep_log_level="debug")["changed"] is True


def test_files_need_a_directory_that_is_no_state_directory(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="wideep_output_dir is empty"):
        run_action(PLAN, {"output": "files"}, **HERE, wideep_output_dir="")
    (tmp_path / ".wideep.json").touch()
    running = tmp_path / "services" / "nats" / "launch.json"
    running.parent.mkdir(parents=True)
    running.touch()
    with pytest.raises(AnsibleActionFail, match="is a state directory: set wideep_output_dir"):
        run_action(PLAN, {"output": "files", "path": str(tmp_path)}, **HERE)
    assert running.exists()


def test_a_refusal_is_a_failure_with_its_problems() -> None:
    result = run_action(PLAN, {}, **HERE, wideep_enginge="x", wideep_frontend_port="y")
    assert (result["failed"], result["wideep_refused"]) == (True, True)
    assert result["msg"].startswith("nothing was changed: 2 problems")
    assert {(p["where"], p["severity"]) for p in result["problems"]} == {
        ("wideep_enginge on host localhost", "error"),
        ("wideep_frontend_port", "error"),
    }
    assert json.dumps(result["problems"])


def test_variables_may_be_templates(tmp_path: Path) -> None:
    file = inventory(tmp_path, site="lab", wideep_namespace="{{ site }}-1", nats_port="{{ 4000 + 1 }}")
    result = run_action(PLAN, {}, inventory=file)
    assert result["settings"]["namespace"] == "lab-1"
    assert result["settings"]["nats_port"] == 4001


def test_values_keep_their_types(tmp_path: Path) -> None:
    pools = {"aggregated": {"gpus_per_node": None, "extra_args": {"enable-chunked-prefill": True}}}
    file = inventory(tmp_path, wideep_pools=pools, wideep_keep_state=True)
    result = run_action(PLAN, {}, inventory=file)
    assert result["settings"]["keep_state"] is True
    assert result["settings"]["pools"]["aggregated"]["extra_args"] == {"enable-chunked-prefill": True}


def test_an_undefined_variable_is_named_with_its_host(tmp_path: Path) -> None:
    result = run_action(PLAN, {}, inventory=inventory(tmp_path, wideep_namespace="{{ no_such_variable }}"))
    assert result["failed"]
    assert {p["where"] for p in result["problems"]} == {
        "wideep_namespace on host b",
        "wideep_namespace on host a",
    }
    assert "no_such_variable" in result["msg"]


def test_variables_that_only_the_hosts_can_fill_are_left_to_them(tmp_path: Path) -> None:
    file = inventory(tmp_path, nats_archive_url="https://mirror/nats-{{ ansible_facts.architecture }}.tar.gz")
    assert "failed" not in run_action(PLAN, {}, inventory=file)


def test_hosts_that_serve_nothing_are_not_asked(tmp_path: Path) -> None:
    file = inventory(tmp_path)
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    tree["all"]["hosts"]["laptop"] = {"wideep_state_dir": "{{ undefined_here }}", "ansible_host": "10.0.0.1"}
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    assert set(run_action(PLAN, {}, inventory=file)["hosts"]) == {"a", "b"}


def test_the_plan_of_an_earlier_play_is_no_unknown_variable() -> None:
    assert "failed" not in run_action(PLAN, {}, **HERE, wideep_plan={"settings": {}})


def test_report_prints_and_hands_over(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_action("report", {"text": "two\nlines\n\n", "data": {"a": 1}})
    assert "two\nlines\n" in capsys.readouterr().out
    assert result["changed"] is False
    stats = result["ansible_stats"]
    assert stats["data"] == {"wideep_summary": "two\nlines\n\n", "wideep_data": {"a": 1}}
    assert (stats["per_host"], stats["aggregate"]) == (False, False)
    assert "wideep_data" not in run_action("report", {"text": "x"})["ansible_stats"]["data"]


def test_a_misspelled_variable_of_a_role_is_told(tmp_path: Path) -> None:
    wrong = {"nats_prot": 1, "secrets_hub_tokn": "x", "wideep_log_level": "info", "frontend_team": "blue"}
    result = run_action(PLAN, {}, inventory=inventory(tmp_path, **wrong))
    notes = {note["where"]: note["remedy"] for note in result["notes"]}
    assert notes["nats_prot on 2 hosts (b, …)"] == "did you mean nats_port?"
    assert notes["secrets_hub_tokn on 2 hosts (b, …)"] == "did you mean secrets_hub_token?"
    # The operator's own, though a role's name begins it.
    assert not any("frontend_team" in where for where in notes)


def test_the_hosts_that_restart_together(tmp_path: Path) -> None:
    pools = {"aggregated": {"nodes_per_replica": 2}}
    for variables, together in (({}, ["a"]), ({"wideep_pools": pools}, ["b", "a"])):
        result = run_action(PLAN, {}, inventory=inventory(tmp_path, **variables))
        assert result["hosts"]["a"]["together"] == together


def test_what_all_hosts_lack_of_secrets_is_said_once(tmp_path: Path) -> None:
    wrong = {"secrets_hub_token": {"env": "NO_SUCH_NAME"}, "secrets_nats_user": "dynamo"}
    result = run_action(
        "secret_files",
        {"check_only": True},
        inventory=inventory(tmp_path, **wrong),
        ansible_play_hosts_all=["b", "a"],
    )
    assert (result["failed"], result["wideep_refused"]) == (True, True)
    assert [p["where"] for p in result["problems"]] == ["secrets_hub_token", "secrets_nats_password"]
