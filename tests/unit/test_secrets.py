"""Secrets: three sources, what is refused, and the files that hosts get."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.process import digest, secret_environment
from ansible_collections.wideep.dynamo.plugins.module_utils.secret_files import write
from example_inventories import cluster, local, refusal
from example_inventories import inventory as of_hosts
from test_kubernetes import inventory

from wideep.inventory.secrets import VARIABLES, Secrets, looks_secret
from wideep.inventory.settings import role_defaults
from wideep.plan import make_plan
from wideep.reference.release import find_release, releases

LONG = "7pass word#$x:@/?"


def problems(environment: dict[str, str] | None = None, **variables: Any) -> list[tuple[str, str]]:
    found = Secrets(variables, environment or {}).problems
    assert all(LONG not in str(problem) for problem in found)
    return [(problem.where, problem.message) for problem in found]


def test_the_variables_are_those_of_the_role() -> None:
    assert {k: v for k, v in role_defaults().items() if k.startswith("secrets_")} == VARIABLES


def test_a_secret_is_a_value_or_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(LONG + "\n")
    file.chmod(0o640)
    for source in (LONG, {"env": "X"}, {"file": str(file)}):
        made = Secrets({"secrets_hub_token": source}, {"X": LONG})
        assert made.problems == []
        assert made.content("hub-token") == LONG + "\n"
    assert Secrets({}, {}).problems == []
    assert [Secrets({}, {}).content(name) for name in ("hub-token", "registry.json", "nats.env")] == [""] * 3


def test_what_cannot_be_a_secret_is_refused_without_showing_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(LONG)
    file.chmod(0o644)
    empty = tmp_path / "empty"
    empty.touch(0o600)
    name = "secrets_hub_token"
    assert problems(secrets_hub_token={"file": str(file)}) == [
        (name, f"everybody on this machine may open {file}")
    ]
    assert problems(secrets_hub_token={"file": str(empty)}) == [(name, f"{empty} on this machine is empty")]
    assert problems(secrets_hub_token={"file": "/nowhere/x"}) == [
        (name, "cannot read /nowhere/x on this machine: No such file or directory")
    ]
    assert problems({"X": ""}, secrets_hub_token={"env": "X"}) == [
        (name, "X is empty or unset in the environment of this machine")
    ]
    assert problems(secrets_hub_token={"vault": LONG}) == [(name, "unknown source vault")]
    assert problems(secrets_hub_token=12345678) == [(name, "neither a string nor a source")]
    assert problems(secrets_hub_token="1234567") == [(name, "a secret has at least 8 characters")]
    for bad in ("'", '"', "\\", "\n", "\x7f"):
        [(where, message)] = problems(secrets_hub_token=f"{LONG}{bad}x")
        assert (where, "cannot be passed on" in message) == (name, True)
    assert problems(secrets_hub_tokn=LONG) == [("secrets_hub_tokn", "unknown variable")]


def test_an_account_is_whole() -> None:
    assert problems(secrets_nats_user="dynamo") == [
        ("secrets_nats_password", "it is needed with secrets_nats_user")
    ]
    [(where, message)] = problems(secrets_nats_user="dynamo", secrets_nats_password={"env": "NO_SUCH_NAME"})
    assert (where, "empty or unset" in message) == ("secrets_nats_password", True)
    assert problems(secrets_nats_password=LONG) == [("secrets_nats_user", "a password without a user")]
    assert problems(secrets_etcd_user="dynamo", secrets_etcd_password=LONG) == [
        ("secrets_etcd_root_password", "it is needed with secrets_etcd_user")
    ]
    root = Secrets({"secrets_etcd_user": "root", "secrets_etcd_password": LONG}, {})
    assert (root.problems, root.etcd_root_password) == ([], LONG)
    assert problems(secrets_registries=[{"server": "r.example.com"}]) == [
        ("secrets_registries[0]", "a registry is described by server, username and password")
    ]
    registry = {"server": "https://r.example.com", "username": "u", "password": LONG}
    assert problems(secrets_registries=[registry]) == [("secrets_registries[0]", "server is a URL")]


def test_the_files_that_hosts_get() -> None:
    made = Secrets(
        {
            "secrets_nats_user": "dynamo",
            "secrets_nats_password": LONG,
            "secrets_registries": [{"server": "r.example.com", "username": "u", "password": {"env": "X"}}],
            "secrets_env": {"B_TOKEN": LONG, "A_KEY": {"env": "X"}},
        },
        {"X": "from the environment"},
    )
    assert made.problems == []
    assert made.content("nats.env") == f"NATS_AUTH_USERNAME=dynamo\nNATS_AUTH_PASSWORD={LONG}\n"
    assert made.content("etcd.env") == ""
    assert made.content("worker.env") == f"A_KEY=from the environment\nB_TOKEN={LONG}\n"
    assert json.loads(made.content("registry.json")) == {
        "auths": {"r.example.com": {"auth": base64.b64encode(b"u:from the environment").decode()}}
    }
    assert made.content("nats-server.env", ["192.0.2.2:6222"]) == (
        f"WIDEEP_NATS_PASSWORD='\"{LONG}\"'\n"
        "WIDEEP_NATS_ROUTES='[\"nats://dynamo:7pass%20word%23%24x%3A%40%2F%3F@192.0.2.2:6222\"]'\n"
    )


def test_the_files_are_private_and_only_content_changes_them(tmp_path: Path) -> None:
    place = tmp_path / "secrets"
    contents = {"worker.env": f"A={LONG}\nB='quoted'\n", "hub-token": LONG}

    def put(wanted: dict[str, str], check: bool = False) -> list[str]:
        files = Files(check)
        write(files, place, wanted, ["worker.env", "hub-token"])
        assert LONG not in str(files.diff)
        return [Path(change.split(":")[0]).name for change in files.changes]

    assert put(contents, check=True) == ["secrets", "worker.env", "hub-token"]
    assert not place.exists()
    assert put(contents) == ["secrets", "worker.env", "hub-token"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o600}
    assert secret_environment(str(place / "worker.env")) == {"A": LONG, "B": "quoted"}
    assert put(contents) == []
    # The digest changes with a secret, comes back with it, and differs from host to host.
    launch = {"digest": "d", "env_files": [str(place / "worker.env")]}
    first = digest(launch)
    assert put({**contents, "worker.env": "A=another one\n"}) == ["worker.env"]
    assert digest(launch) != first
    put(contents)
    assert digest(launch) == first
    put({})
    assert not place.exists()
    put(contents)
    assert digest(launch) != first
    (place / "hub-token").chmod(0o644)
    assert put(contents) == ["hub-token"]
    (place / "other").touch()
    put({})
    assert [path.name for path in place.iterdir()] == ["other"]


def test_launches_name_the_files_that_they_need() -> None:
    variables = {"secrets_nats_user": "n", "secrets_etcd_user": "e", "secrets_env": {"MY_TOKEN": "hidden"}}
    plan = make_plan(*cluster(**variables))
    assert "hidden" not in json.dumps(plan.publish().to_dict())
    own = {
        launch.name: [Path(path).name for path in launch.env_files]
        for launches in plan.launches.values()
        for launch in launches
    }
    assert own["nats"] == ["nats-server.env"]
    assert own["etcd"] == []
    assert own["frontend"] == ["nats.env", "etcd.env"]
    assert own["decode-0"] == ["nats.env", "etcd.env", "worker.env"]
    data = plan.publish().to_dict()["hosts"]
    # It has the frontend too.
    assert data["control-0"]["secret_files"] == [
        "etcd.env", "nats-server.env", "nats.env", "registry.json",
    ]  # fmt: skip
    assert data["decode-0"]["secret_files"] == [
        "etcd.env", "nats.env", "worker.env", "hub-token", "registry.json",
    ]  # fmt: skip
    files = {x.name: x.files[0].content for x in plan.launches["control-0"] if x.files}
    assert '"authorization": {\n    "user": "n",\n    "password": $WIDEEP_NATS_PASSWORD\n' in files["nats"]
    assert "auth-token-ttl: 315360000" in files["etcd"]
    # Without them nothing is different.
    assert all(not x.env_files for own in make_plan(*cluster()).launches.values() for x in own)


def pools(env: dict[str, str]) -> dict[str, Any]:
    made = {"replicas_per_node": 2, "gpus_per_node": 1}
    return {"prefill": made, "decode": {**made, "env": env}}


def test_secrets_in_the_plan_are_refused() -> None:
    env = {"MY_API_KEY": "x", "TOKENIZERS_PARALLELISM": "false"}
    [problem] = refusal(*local(wideep_pools=pools(env)))
    assert (problem.where, problem.remedy) == (
        "wideep_pools.decode.env.MY_API_KEY",
        "put it into secrets_env",
    )
    found = refusal(*local(secrets_env={"NATS_SERVER": "x", "ETCD_AUTH_PASSWORD": "x", "A-B": "x"}))
    assert [p.where for p in found] == [
        f"secrets_env.{x}" for x in ("A-B", "ETCD_AUTH_PASSWORD", "NATS_SERVER")
    ]
    [problem] = refusal(*local(wideep_pools=pools({"MINE": "x"}), secrets_env={"MINE": "x"}))
    assert problem.message == "it is in secrets_env too"
    assert [p.where for p in refusal(*local(secrets_nats_user="a b"))] == ["secrets_nats_user"]


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *(("HF_TOKEN", True), ("aws_secret_access_key", True), ("MAX_TOKENS", False), ("KEYS", False)),
        *(("OPENAI_API_KEY", True), ("MY_KEY", True), ("DB_PASSWORD", True), ("SOME_MAX_NEW_TOKEN", False)),
    ],
)
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert looks_secret(name) is secret


@pytest.mark.parametrize("version", releases())
def test_variables_of_the_release_that_hold_secrets_are_few(version: str) -> None:
    names = json.loads((find_release(version).directory / "environment.json").read_text(encoding="utf-8"))
    found = {name for known in names.values() for name in known if looks_secret(name)}
    assert found == {
        *("ETCD_AUTH_CLIENT_KEY", "ETCD_AUTH_PASSWORD", "NATS_AUTH_PASSWORD", "NATS_AUTH_TOKEN"),
        *("SGLANG_DIFFUSION_SLACK_TOKEN", "SGLANG_PRECISION_HF_TOKEN", "SGLANG_S3_SECRET_ACCESS_KEY"),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SGLANG_PER_TOKEN_GROUP_QUANT_8BIT_V2", "1"),
        ("SGLANG_INIT_NEW_TOKEN_RATIO", "0.7"),
        ("SGLANG_LOG_DECODE_GRAPH_KEY", "true"),
        ("MY_TOKEN", "4096"),
        ("MY_KEY", "/etc/keys/mine.pem"),
    ],
)
def test_counts_switches_and_paths_may_be_in_the_environment(name: str, value: str) -> None:
    groups, hosts = local(wideep_pools=pools({name: value}))
    assert make_plan(groups, hosts)


@pytest.mark.parametrize("name", ["api_key", "--admin-api-key", "ssl-keyfile-password"])
def test_secrets_in_arguments_are_refused(name: str) -> None:
    groups, hosts = of_hosts("sglang_single_node")
    for own in hosts.values():
        own["wideep_pools"] = {**own["wideep_pools"]}
        own["wideep_pools"]["decode"] = {**own["wideep_pools"]["decode"], "extra_args": {name: LONG}}
    [problem] = refusal(groups, hosts)
    assert problem.where == f"wideep_pools.decode.extra_args.{name}"
    assert "secrets_env" in problem.remedy
    assert LONG not in str(problem)
    found = refusal(*of_hosts("sglang_single_node", wideep_frontend_args={"api-key": LONG}))
    assert {p.where for p in found} == {"wideep_frontend_args.api-key"}
    assert any("would be shown" in p.message for p in found)


def test_flags_of_secrets_are_those_that_take_one() -> None:
    programs = ("dynamo.sglang", "dynamo.trtllm", "dynamo.frontend", "dynamo.mocker")
    release = find_release()
    names = {flag.flag for program in programs for flag in release.catalogue(program).flags}
    assert {name for name in names if looks_secret(name)} == {
        "--api-key",
        "--admin-api-key",
        "--ssl-keyfile-password",
    }
    assert looks_secret("hf_token")


def test_kubernetes_has_accounts_of_its_own() -> None:
    found = refusal(*inventory(secrets_nats_user="n", secrets_env={"MY_TOKEN": "x"}))
    assert [problem.where for problem in found] == ["secrets_nats_user"]
