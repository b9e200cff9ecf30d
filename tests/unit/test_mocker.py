"""The mocker: what it is given, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from example_inventories import cluster, local, refusal

from wideep.deployment.site import Site
from wideep.engines.mocker.options import OPTIONS, OWN_FLAGS
from wideep.plan import make_plan
from wideep.published import Expected
from wideep.reference.release import find_release

RELEASE = find_release()


def pools(key: str = "options", **values: Any) -> dict[str, Any]:
    """Return wideep_pools with the same settings for prefill and decode."""
    return {pool: {"gpus_per_node": 1, key: values} for pool in ("prefill", "decode")}


def arguments(name: str = "decode-0", **variables: Any) -> list[str]:
    launches = {x.name: x for x in make_plan(*local(**variables)).launches["localhost"]}
    return list(launches[name].argv[3:])


def value(argv: list[str], flag: str) -> str:
    assert argv.count(flag) == 1
    return argv[argv.index(flag) + 1]


def test_every_flag_of_ours_is_one_of_the_mockers() -> None:
    catalogue = RELEASE.catalogue("dynamo.mocker")
    for flag in [*OPTIONS.values(), *OWN_FLAGS]:
        assert catalogue.find(flag), flag


@pytest.mark.parametrize(("option", "flag"), OPTIONS.items())
def test_options_become_flags(option: str, flag: str) -> None:
    number = "auto" if option == "kv_cache_dtype" else 7
    argv = arguments(wideep_pools=pools(**{option: number}))
    assert value(argv, flag) == str(number)


@pytest.mark.parametrize(("flavour", "size"), [("sglang", "64"), ("trtllm", "32")])
def test_the_flavour_decides_the_block_size(flavour: str, size: str) -> None:
    argv = arguments(wideep_engine_flavour=flavour)
    assert (value(argv, "--engine-type"), value(argv, "--block-size")) == (flavour, size)


@pytest.mark.parametrize("name", ["block-size", "block_size", "--block-size"])
def test_extra_args_come_last_however_they_are_written(name: str) -> None:
    argv = arguments(wideep_pools=pools("extra_args", **{name: 16, "speedup-ratio": 2.5}))
    assert value(argv, "--block-size") == "16"
    assert value(argv, "--speedup-ratio") == "2.5"


def test_only_the_sglang_flavour_hands_over_by_a_bootstrap_server() -> None:
    """The mocker of Dynamo 1.4.2 answers "handoff does not support TRT-LLM" otherwise."""
    for flavour, expected in (("sglang", True), ("trtllm", False)):
        plan = make_plan(*local(wideep_engine_flavour=flavour))
        prefill = [x for x in plan.launches["localhost"] if x.name.startswith("prefill")]
        assert all(("--bootstrap-ports" in x.argv) is expected for x in prefill)
        assert all(("bootstrap" in {p.purpose for p in x.ports}) is expected for x in prefill)


def test_aggregated_workers() -> None:
    groups, hosts = local(wideep_pools={"aggregated": {"replicas_per_node": 2, "options": {"kv_blocks": 9}}})
    groups = {"control": ["localhost"], "frontend": ["localhost"], "aggregated": ["localhost"]}
    plan = make_plan(groups, hosts)
    workers = [x for x in plan.launches["localhost"] if x.component == "worker"]
    assert [x.name for x in workers] == ["aggregated-0", "aggregated-1"]
    argv = list(workers[0].argv)
    assert value(argv, "--disaggregation-mode") == "agg"
    assert value(argv, "--endpoint") == "dyn://dynamo.backend.generate"
    assert "--bootstrap-ports" not in argv
    assert plan.expected == {"aggregated": Expected("backend", "dynamo", 2, Site.generations)}


def test_environment_of_a_pool() -> None:
    own = pools() | {"decode": {"gpus_per_node": 1, "env": {"DYN_LOG": "debug", "A": 1}}}
    launches = {x.name: x for x in make_plan(*local(wideep_pools=own)).launches["localhost"]}
    assert launches["decode-0"].env["DYN_LOG"] == "debug"
    assert launches["decode-0"].env["A"] == "1"
    assert launches["prefill-0"].env["DYN_LOG"] == "info"
    assert "A" not in launches["prefill-0"].env


REFUSALS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # id: wideep_pools, where, message, remedy
    "unknown option": (
        {"prefill": {"gpus_per_node": 1, "options": {"blocksize": 16}}},
        "wideep_pools.prefill.options.blocksize",
        "unknown option",
        "did you mean block_size?",
    ),
    "unknown flag": (
        {"prefill": {"gpus_per_node": 1, "extra_args": {"speed-up-ratio": 2}}},
        "wideep_pools.prefill.extra_args.speed-up-ratio",
        f"--speed-up-ratio is not a flag of dynamo.mocker {RELEASE.dynamo}",
        "did you mean --speedup-ratio?",
    ),
    "a flag's wrong value": (
        {"prefill": {"gpus_per_node": 1, "extra_args": {"max-num-seqs": "many"}}},
        "wideep_pools.prefill.extra_args.max-num-seqs",
        "'many' is not a whole number",
        "give a whole number",
    ),
    "an option's wrong value": (
        {"prefill": {"gpus_per_node": 1, "options": {"max_batch_size": "many"}}},
        "wideep_pools.prefill.options",
        "--max-num-seqs: 'many' is not a whole number",
        "give a whole number",
    ),
    "different block sizes": (
        {"prefill": {"gpus_per_node": 1}, "decode": {"gpus_per_node": 1, "options": {"block_size": 16}}},
        "wideep_pools.decode.options.block_size",
        "KV block sizes differ (64 and 16 tokens)",
        "same block_size in both pools",
    ),
    "different block sizes by extra_args": (
        {"prefill": {"gpus_per_node": 1, "extra_args": {"block_size": 32}}, "decode": {"gpus_per_node": 1}},
        "wideep_pools.decode.options.block_size",
        "KV block sizes differ (32 and 64 tokens)",
        "same block_size in both pools",
    ),
    "a flag of the plan": (
        {"prefill": {"gpus_per_node": 1, "extra_args": {"bootstrap_ports": "1"}}},
        "wideep_pools.prefill.extra_args.bootstrap-ports",
        "the plan sets it",
        "use wideep_worker_port_base",
    ),
    "a variable of the plan": (
        {"prefill": {"gpus_per_node": 1, "env": {"DYN_SYSTEM_PORT": 1}}},
        "wideep_pools.prefill.env.DYN_SYSTEM_PORT",
        "the plan sets it",
        "use wideep_worker_port_base",
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(case: tuple[dict[str, Any], str, str, str]) -> None:
    own, where, message, remedy = case
    problems = refusal(*local(wideep_pools={"decode": {"gpus_per_node": 1}} | own))
    assert [p.where for p in problems] == [where]
    assert message in problems[0].message
    assert remedy in problems[0].remedy


def test_equal_block_sizes_may_be_written_differently() -> None:
    own = {
        "prefill": {"gpus_per_node": 1, "options": {"block_size": "16"}},
        "decode": {"gpus_per_node": 1, "extra_args": {"block-size": 16}},
    }
    assert value(arguments("prefill-0", wideep_pools=own), "--block-size") == "16"


def test_other_ranks_have_a_stand_in() -> None:
    two = {pool: {"nodes_per_replica": 2} for pool in ("prefill", "decode")}
    sglang = make_plan(*cluster(wideep_pools=two))
    head, rank = sglang.launches["decode-0"][0], sglang.launches["decode-1"][0]
    assert (head.name, rank.name) == ("decode-0-rank-0", "decode-0-rank-1")
    assert "dynamo.mocker" in head.argv
    script = next(file.path for file in rank.programs if file.name == "rank_stand_in")
    assert rank.argv[-5:-1] == (script, "decode-0", "1", "2")
    assert rank.argv[-1] == "would meet the others at 10.0.0.4:22003"
    assert rank.ports == ()
    assert rank.health.kind == "process"
    assert sglang.expected["decode"].count == 1
    trtllm = make_plan(*cluster(wideep_pools=two, wideep_engine_flavour="trtllm"))
    assert trtllm.launches["decode-1"][0].argv[-1] == "would be started by mpirun on decode-0"


def test_prefill_replicas_of_one_machine_have_different_bootstrap_ports() -> None:
    """The mocker opens the port on all addresses."""
    groups, hosts = cluster(prefill=3, decode=1)
    for n, variables in enumerate(hosts.values(), 1):
        variables |= {"ansible_connection": "local", "wideep_address": f"127.9.0.{n}"}
    plan = make_plan(groups, hosts)
    workers = [plan.launches[f"prefill-{n}"][0] for n in range(3)]
    assert [p.port for x in workers for p in x.ports if p.purpose == "bootstrap"] == [21020, 21021, 21022]
    assert value(list(workers[2].argv), "--bootstrap-ports") == "21022"


def test_environment_variables_that_nothing_reads_any_more() -> None:
    [problem] = refusal(*local(wideep_pools=pools("env", DYNAMO_LOG="x") | {"prefill": {"gpus_per_node": 1}}))
    assert problem.where == "wideep_pools.decode.env.DYNAMO_LOG"
