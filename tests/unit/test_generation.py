"""Workers that hand each other KV cache are of one generation: it changes only with what they share."""

from __future__ import annotations

from typing import Any

import pytest
import seen
from seen import looks

from wideep.changes.generation import agreement, generation, suffix_of
from wideep.changes.look import HostLook
from wideep.deployment.model import Generation
from wideep.engines import ENGINES
from wideep.published import Published

GROUPS = {
    "control": ["c0"],
    "frontend": ["c0"],
    "prefill": ["p0", "p1"],
    "decode": ["d0", "d1"],
}


def planned(made: Generation | None = None, **variables: Any) -> Published:
    return seen.planned(GROUPS, made, **variables)


def options(**options: Any) -> dict[str, Any]:
    return seen.pools(options=options)


def test_nothing_runs_and_nothing_is_behind_the_namespace() -> None:
    plan = planned()
    assert generation(plan, {name: HostLook(name) for name in plan.hosts}) == Generation()
    words = plan.hosts["d0"].launches["worker"][0].argv
    assert "dyn://dynamo.backend.generate" in words


@pytest.mark.parametrize(
    "change",
    [
        {"wideep_log_level": "debug"},
        {"wideep_drain_timeout_s": 77},
        {"wideep_migration_limit": 2},
        options(max_batch_size=99),
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_need_not_be_alike_changes_no_generation(change: dict[str, Any]) -> None:
    plan = planned(**change)
    assert generation(plan, looks(planned(), plan)) == Generation()


@pytest.mark.parametrize(
    "change",
    [options(block_size=32), {"wideep_release": "1.5.1"}, {"wideep_model": "other/Model"}],
    ids=["block size", "release", "model"],
)
def test_what_must_be_alike_makes_another_one_that_stays(change: dict[str, Any]) -> None:
    plan = planned(**change)
    made = generation(plan, looks(planned(), plan))
    assert len(made.suffix) == 8
    assert made.prefixed
    again = planned(made, **change)
    assert again.expected["decode"].has(f"dynamo-{made.suffix}")
    assert f"dyn://dynamo-{made.suffix}.prefill.generate" in again.hosts["p0"].launches["worker"][0].argv
    # The plan is made anew without it at each run.
    assert generation(plan, looks(again, plan)) == made
    # Half of them, after a run that was interrupted: what runs decides nothing, what is planned does.
    half = looks(again, plan) | {host: looks(planned(), plan)[host] for host in ("p1", "d1")}
    assert generation(plan, half) == made


def test_the_way_back_takes_the_generation_that_still_runs() -> None:
    plan, made = planned(), Generation("0123abcd")
    other = planned(made, **options(block_size=32))
    there = looks(plan, plan) | {host: looks(other, plan)[host] for host in ("p0", "d0")}
    assert generation(plan, there) == Generation()


def test_frontends_of_earlier_versions_stay_until_a_generation_needs_them() -> None:
    before, plan = planned(Generation(prefixed=False)), planned()
    assert "--namespace" in before.hosts["c0"].launches["frontend"][0].argv
    assert generation(plan, looks(before, plan)) == Generation(prefixed=False)
    changed = planned(**options(block_size=32))
    assert generation(changed, looks(before, changed)).prefixed


def test_images_and_interpreters_tell_releases_apart() -> None:
    launch = planned().hosts["d0"].launches["worker"][0].to_dict()
    newer = {**launch, "argv": [launch["argv"][0].replace("1.6.1", "1.7.0"), *launch["argv"][1:]]}
    assert agreement(newer) != agreement(launch)
    inside = ["podman", "run", "--rm", "image@sha256:1", *launch["argv"][1:]]
    other = ["podman", "run", "--init", "image@sha256:2", *launch["argv"][1:]]
    assert agreement({**launch, "argv": inside})["runtime"] == "image@sha256:1"
    assert agreement({**launch, "argv": inside}) != agreement({**launch, "argv": other})
    assert agreement({**launch, "argv": ["sleep", "1"]}) == {}


def test_a_suffix_is_read_from_the_endpoint() -> None:
    def of(namespace: str) -> str:
        return suffix_of({"argv": [f"dyn://{namespace}.backend.generate"]}, "dynamo")

    assert [of("dynamo"), of("dynamo-0a1b2c3d"), of("dynamo2")] == ["", "0a1b2c3d", "dynamo2"]


def test_tensorrt_llm_s_layout_of_the_cache_stands_in_its_yaml() -> None:
    engine = ENGINES["trtllm"]
    flags = {"extra-engine-args": ["/x/engine.yaml"], "kv-block-size": ["32"]}
    one = engine.agreement(flags, {"/x/engine.yaml": "kv_cache_config: {dtype: fp8, tokens_per_block: 32}"})
    other = engine.agreement(
        flags, {"/x/engine.yaml": "kv_cache_config: {dtype: auto, tokens_per_block: 32}"}
    )
    more = engine.agreement(
        flags, {"/x/engine.yaml": "kv_cache_config: {dtype: fp8, tokens_per_block: 32}\nmax_batch_size: 9"}
    )
    assert one == more
    assert one != other
    assert engine.agreement({}, {})["kv_cache_config.dtype"] is None
