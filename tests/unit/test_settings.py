"""Variables in, settings out: wrong types and values are refused with the variable's name, never a crash."""

from __future__ import annotations

import os
from typing import Any

import pytest
from example_inventories import FLAGS, OPTIONS, anything, check_complete, cluster, local, pool_values, refusal
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from wideep.inventory.settings import HOST_VARIABLES, parse, planned_variables, role_defaults
from wideep.plan import make_plan
from wideep.problems import RefusedError
from wideep.reference.release import releases

# ---- anything at all -----------------------------------------------------------------------------


@given(st.sampled_from([*planned_variables(), "ansible_host", "wideep_polls"]), anything)
def test_one_wrong_value_is_a_refusal_at_most(variable: str, value: Any) -> None:
    try:
        make_plan(*local(**{variable: value}))
    except RefusedError as refused:
        check_complete(refused)


@given(
    st.sampled_from(["prefill", "decode"]),
    st.sampled_from(["options", "extra_args"]),
    st.dictionaries(st.sampled_from(OPTIONS + FLAGS), anything | st.integers(0, 99), max_size=3),
)
def test_wrong_options_are_a_refusal_at_most(pool: str, key: str, options: dict[str, Any]) -> None:
    pools = {"prefill": {"gpus_per_node": 2}, "decode": {"gpus_per_node": 2}}
    pools[pool] |= {key: options}
    try:
        plan = make_plan(*local(wideep_pools=pools))
    except RefusedError as refused:
        check_complete(refused)
    else:
        assert all(isinstance(word, str) for own in plan.launches.values() for x in own for word in x.argv)


@given(st.sampled_from(["nodes_per_replica", "replicas_per_node", "gpus_per_node", "env"]), pool_values)
def test_wrong_pool_settings_are_a_refusal_at_most(key: str, value: Any) -> None:
    try:
        make_plan(*local(wideep_gpus_per_node=64, wideep_pools={"decode": {"gpus_per_node": 1, key: value}}))
    except RefusedError as refused:
        check_complete(refused)


# ---- single refusals -----------------------------------------------------------------------------

SHARED = {
    # variable: (wrong value, where, words of the message)
    "wideep_deployment": (
        "My_Deployment",
        "wideep_deployment",
        "'My_Deployment' has characters that are not allowed",
    ),
    "wideep_platform": ("kubernets", "wideep_platform", "'kubernets' is not one of its values"),
    "wideep_engine_flavour": ("vllm", "wideep_engine_flavour", "'vllm' is not one of its values"),
    "wideep_model": ("a model", "wideep_model", "'a model' has characters"),
    "wideep_namespace": ("Dynamo", "wideep_namespace", "'Dynamo' has characters"),
    "wideep_discovery": ("consul", "wideep_discovery", "'consul' is not one of its values"),
    "wideep_frontend_port": (70000, "wideep_frontend_port", "70000 is more than 65535"),
    "wideep_migration_limit": (-1, "wideep_migration_limit", "-1 is less than 0"),
    "wideep_inhibition_s": (-1, "wideep_inhibition_s", "-1 is less than 0"),
    "wideep_drain_timeout_s": ("soon", "wideep_drain_timeout_s", "'soon' is not a whole number"),
    "wideep_model_path": ("models/r1", "wideep_model_path", "'models/r1' is not an absolute path"),
    "nats_port": ("x", "nats_port", "'x' is not a whole number"),
    "etcd_install_method": ("apt", "etcd_install_method", "'apt' is not one of its values"),
    "wideep_release": (1.6, "wideep_release", "1.6 is not a text"),
    "wideep_pools": ([], "wideep_pools", "a list is not a mapping"),
}


@pytest.mark.parametrize(("variable", "case"), SHARED.items(), ids=SHARED.keys())
def test_wrong_values(variable: str, case: tuple[Any, str, str]) -> None:
    value, where, message = case
    [problem] = refusal(*local(**{variable: value}))
    assert problem.where == where
    assert message in problem.message
    assert f"describes {variable}" in problem.remedy


@pytest.mark.parametrize(
    ("pools", "where", "message", "remedy"),
    [
        ({"prefil": {}}, "wideep_pools.prefil", "unknown pool", "did you mean prefill?"),
        (
            {"prefill": {"node_per_replica": 1}},
            "wideep_pools.prefill.node_per_replica",
            "unknown key",
            "did you mean nodes_per_replica?",
        ),
        (
            {"prefill": {"replicas_per_node": 11}},
            "wideep_pools.prefill.replicas_per_node",
            "11 is more than 10",
            "use 10 or less",
        ),
        (
            {"prefill": {"gpus_per_node": 10**9}},
            "wideep_pools.prefill.gpus_per_node",
            "1000000000 is more than 64",
            "use 64 or less",
        ),
        (
            {"prefill": {"extra_args": {"block-size": {"a": 1}}}},
            "wideep_pools.prefill.extra_args.block-size",
            "neither a value nor a list of values",
            "correct",
        ),
    ],
)
def test_wrong_pools(pools: dict[str, Any], where: str, message: str, remedy: str) -> None:
    [problem] = refusal(*local(wideep_pools=pools))
    assert problem.where == where
    assert message in problem.message
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("var/lib/wideep", "'var/lib/wideep' is not an absolute path"),
        ("~/wideep", "'~/wideep' is not an absolute path (~ is expanded on this machine only)"),
        ("", "'' is not an absolute path"),
        ("/", "it is the root directory"),
        ("//", "it is the root directory"),
        ("/srv/my state", "spaces, quotes, backslashes and % are not allowed"),
        ("/srv/50%", "spaces, quotes"),
        ("/srv/it's", "spaces, quotes"),
        ("/srv/a\\b", "spaces, quotes"),
        ("/srv/a\n", "spaces, quotes"),
        ("/srv/a\0", "spaces, quotes"),
        (5, "5 is not a text"),
        (None, "null is not a text"),
    ],
)
def test_a_bad_state_dir_on_remote_hosts(path: Any, message: str) -> None:
    [problem] = refusal(*cluster(wideep_state_dir=path))
    assert problem.where == "wideep_state_dir on 5 hosts (control-0, …)"
    assert message in problem.message


def test_a_tilde_is_this_machines_home_for_local_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/operator")
    groups, hosts = local(wideep_state_dir="~/state/", wideep_model_path="~/model")
    settings, own, problems = parse(hosts)
    assert problems == []
    assert settings is not None
    assert (own["localhost"].state_dir, settings.model_path) == (
        "/home/operator/state",
        "/home/operator/model",
    )
    hosts["localhost"]["wideep_state_dir"] = "~no-such-user-here/state"
    [problem] = refusal(groups, hosts)
    assert problem.where == "wideep_state_dir on host localhost"
    assert "not an absolute path" in problem.message


def test_an_unknown_variable_is_named_with_the_nearest_known_one() -> None:
    [problem] = refusal(*cluster(wideep_enginge="mocker"))
    assert problem.where == "wideep_enginge on 5 hosts (control-0, …)"
    assert (problem.message, problem.remedy) == ("unknown variable", "did you mean wideep_engine?")
    groups, hosts = cluster()
    hosts["decode-1"]["wideep_xyzzy"] = 1
    [problem] = refusal(groups, hosts)
    assert problem.where == "wideep_xyzzy on host decode-1"
    assert problem.remedy.startswith(
        "use one of: wideep_address, wideep_aggregated, wideep_benchmark_only, wideep_cards_dir, "
    )


def test_variables_of_the_deployment_must_agree() -> None:
    groups, hosts = cluster()
    hosts["decode-0"]["wideep_frontend_port"] = 8001
    hosts["decode-1"]["nats_port"] = 4223
    problems = {p.where: p for p in refusal(groups, hosts)}
    assert set(problems) == {"wideep_frontend_port on host decode-0", "nats_port on host decode-1"}
    problem = problems["wideep_frontend_port on host decode-0"]
    assert problem.message == "differs from host control-0 (8001 here, 8000 there)"
    assert "group_vars/all.yml" in problem.remedy


def test_where_pools_differ_their_content_is_not_shown() -> None:
    groups, hosts = cluster(wideep_pools={"decode": {"env": {"HF_HOME": "hunter2"}}})
    hosts["decode-1"]["wideep_pools"] = {"decode": {"env": {"HF_HOME": "hunter3"}}}
    [problem] = refusal(groups, hosts)
    assert problem.where == "wideep_pools on host decode-1"
    assert "hunter" not in str(problem)


def test_variables_of_hosts_and_of_roles_alone_may_differ() -> None:
    groups, hosts = cluster(prefill=1, decode=1)
    hosts["prefill-0"] |= {
        "wideep_gpus_per_node": 4,
        "wideep_interface": "eth1",
        "nats_archive_url": "https://a/",
    }
    hosts["decode-0"] |= {"wideep_gpus_per_node": 2, "dynamo_python": "/usr/bin/python3.12"}
    plan = make_plan(groups, hosts)
    assert {h.name: (h.gpus, h.interface) for h in plan.deployment.hosts} == {
        "control-0": (8, ""),
        "prefill-0": (4, "eth1"),
        "decode-0": (2, ""),
    }


def test_wrong_values_of_a_host_name_the_host() -> None:
    groups, hosts = cluster()
    hosts["decode-1"] |= {"wideep_gpus_per_node": "all", "wideep_interface": 5}
    problems = {p.where: p.message for p in refusal(groups, hosts)}
    assert set(problems) == {"wideep_gpus_per_node on host decode-1", "wideep_interface on host decode-1"}
    assert "'all' is not a whole number" in problems["wideep_gpus_per_node on host decode-1"]


def test_environment_values_become_strings() -> None:
    pool = {"prefill": {"gpus_per_node": 1, "env": {"A": 1, "B": "x"}}, "decode": {"gpus_per_node": 1}}
    settings, _, _ = parse(local(wideep_pools=pool)[1])
    assert settings is not None
    assert settings.pools["prefill"].env == {"A": "1", "B": "x"}


@pytest.mark.parametrize("value", [True, None, [1], {"a": 1}])
def test_environment_values_that_have_no_one_text_form_are_refused(value: Any) -> None:
    [problem] = refusal(*local(wideep_pools={"prefill": {"gpus_per_node": 1, "env": {"A": value}}}))
    assert problem.where == "wideep_pools.prefill.env.A"
    assert "is not a text" in problem.message


def test_defaults_are_those_of_the_roles() -> None:
    defaults = role_defaults()
    settings, own, problems = parse({"a": {"wideep_state_dir": "/srv/wideep"}})
    assert problems == []
    assert settings is not None
    for name in planned_variables():
        field = name if name in type(settings).model_fields else name.removeprefix("wideep_")
        value = getattr(own["a"] if name in HOST_VARIABLES else settings, field)
        if name == "secrets_env":  # the plan keeps the names only
            assert (value, defaults[name]) == ((), {})
        elif name == "wideep_release":  # the newest, by its name
            assert (value, defaults[name]) == (releases()[0], "")
        elif not isinstance(value, BaseModel):
            assert value == (defaults[name] if name != "wideep_state_dir" else "/srv/wideep")


def test_expansion_leaves_the_environment_alone() -> None:
    before = dict(os.environ)
    make_plan(*local())
    assert dict(os.environ) == before
