"""A change as steps: nothing is taken away that others need, and what was interrupted goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from example_inventories import inventory
from hypothesis import given
from hypothesis import strategies as st
from seen import looks, planned, pools

from wideep.changes.look import HostLook
from wideep.changes.order import Changes, Step, order, table
from wideep.deployment.model import Generation
from wideep.plan import make_plan
from wideep.published import Published

NEW = Generation("0123abcd")
MORE = pools(options={"max_batch_size": 99})
OTHER_BLOCKS = pools(options={"block_size": 32})


def cluster(prefill: int = 2, decode: int = 2, frontends: int = 2) -> dict[str, list[str]]:
    return {
        "control": ["c0", "c1", "c2"],
        "frontend": [f"f{n}" for n in range(frontends)],
        "prefill": [f"p{n}" for n in range(prefill)],
        "decode": [f"d{n}" for n in range(decode)],
    }


def kinds(changes: Changes) -> list[tuple[str, tuple[str, ...]]]:
    return [(step.kind, step.names) for step in changes.steps]


def restarted(steps: Sequence[Step]) -> list[tuple[str, str]]:
    return [(host, name) for step in steps for host, names in step.services.items() for name in names]


def after(there: Published, plan: Published, steps: Sequence[Step]) -> dict[str, HostLook]:
    """Return what is seen when these steps were done, and no other."""
    before, done = looks(there, plan), looks(plan, plan)
    changed = set(restarted(steps))
    gone = {(host, name) for step in steps for host, names in step.remove.items() for name in names}
    found = {}
    for host, look in before.items():
        services = tuple(
            done[host].by_name[one.name] if (host, one.name) in changed else one for one in look.services
        )
        unplanned = tuple(one for one in look.unplanned if (host, one.name) not in gone)
        found[host] = HostLook(host, services=services, unplanned=unplanned)
    return found


def test_nothing_differs_and_nothing_is_done() -> None:
    plan = planned(cluster())
    changes = order(plan, looks(plan, plan))
    assert changes.steps == ()
    assert table(changes) == "nothing to do: what runs is as planned\n"


def test_where_nothing_runs_all_starts_at_once_behind_the_control_plane() -> None:
    plan = planned(cluster())
    nothing = {name: HostLook(name, services=one.services) for name, one in _absent(plan).items()}
    changes = order(plan, nothing)
    assert [step.kind for step in changes.steps] == ["control", "all"]
    assert len(restarted(changes.steps)) == sum(len(own.services) for own in plan.hosts.values())
    assert {canary.name for canary in changes.steps[1].canaries} == {
        "prefill-0",
        "prefill-1",
        "decode-0",
        "decode-1",
    }
    assert not changes.problems


def _absent(plan: Published) -> dict[str, HostLook]:
    everything = {(host, one.name) for host, own in plan.hosts.items() for one in own.services}
    return looks(plan, plan, down=everything)


def test_replicas_of_each_pool_restart_one_at_a_time() -> None:
    there, plan = planned(cluster()), planned(cluster(), **MORE)
    changes = order(plan, looks(there, plan))
    assert kinds(changes) == [
        ("workers", ("decode-0", "prefill-0")),
        ("workers", ("decode-1", "prefill-1")),
    ]
    assert changes.steps[0].left == {"decode": (1, 2), "prefill": (1, 2)}
    assert not changes.problems
    assert changes.steps[0].canaries[0].address == "10.0.0.8:22001"
    assert changes.steps[0].asked == {"f0": "http://10.0.0.4:8000"}
    assert "not touched:        decode-1, prefill-1" in changes.steps[0].message
    assert "meanwhile serve: decode 1 of 2, prefill 1 of 2" in table(changes)


def test_only_the_pool_that_changed_restarts() -> None:
    there = planned(cluster())
    plan = planned(cluster(), wideep_pools={"decode": {"options": {"max_batch_size": 99}}})
    assert kinds(order(plan, looks(there, plan))) == [
        ("workers", ("decode-0",)),
        ("workers", ("decode-1",)),
    ]


def test_more_at_a_time_where_that_is_said() -> None:
    there = planned(cluster(4, 4))
    plan = planned(cluster(4, 4), wideep_rollout={"max_unavailable": 2}, **MORE)
    assert [len(step.names) for step in order(plan, looks(there, plan)).steps] == [4, 4]


def test_a_new_generation_takes_prefill_and_decode_in_proportion() -> None:
    there = planned(cluster(2, 4))
    plan = planned(cluster(2, 4), NEW, **OTHER_BLOCKS)
    changes = order(plan, looks(there, plan))
    assert kinds(changes) == [
        ("workers", ("prefill-0", "decode-0", "decode-1")),
        ("workers", ("prefill-1", "decode-2", "decode-3")),
    ]
    assert [step.left for step in changes.steps] == [{"decode": (2, 4), "prefill": (1, 2)}] * 2
    assert changes.steps[0].canaries[0].namespace == "dynamo-0123abcd"


def test_frontends_of_earlier_versions_go_before_workers_that_they_would_not_find() -> None:
    there = planned(cluster(), Generation(prefixed=False))
    plan = planned(cluster(), NEW, **OTHER_BLOCKS)
    assert [step.kind for step in order(plan, looks(there, plan)).steps] == [
        "frontends",
        "frontends",
        "workers",
        "workers",
    ]


def test_an_upgrade_takes_frontends_last_one_at_a_time() -> None:
    there, plan = planned(cluster(), wideep_release="1.5.1"), planned(cluster(), NEW)
    changes = order(plan, looks(there, plan))
    assert [step.kind for step in changes.steps] == ["workers", "workers", "frontends", "frontends"]
    assert changes.steps[2].left == {"frontend": (1, 2)}
    assert changes.steps[2].asked == {"f0": "http://10.0.0.4:8000"}


@pytest.mark.parametrize(
    ("groups", "change", "who"),
    [
        (cluster(1, 2), MORE, "prefill"),
        (cluster(2, 1), OTHER_BLOCKS, "decode"),
        (cluster(frontends=1), {"wideep_migration_limit": 2}, "frontend"),
    ],
    ids=["prefill", "generation", "frontend"],
)
def test_an_outage_is_refused_unless_it_is_allowed(
    groups: dict[str, list[str]], change: dict[str, Any], who: str
) -> None:
    there = planned(groups)
    made = NEW if change is OTHER_BLOCKS else None
    plan = planned(groups, made, **change)
    (problem,) = order(plan, looks(there, plan)).problems
    assert "leaves nobody who answers" in problem.message
    assert who in problem.message
    allowed = planned(groups, made, wideep_rollout={"outage": "allowed"}, **change)
    changes = order(allowed, looks(there, allowed))
    assert not changes.problems
    assert "(an outage)" in table(changes)


ACCOUNT = {"secrets_etcd_user": "dynamo", "secrets_etcd_password": "x", "secrets_etcd_root_password": "y"}


@pytest.mark.parametrize(("before", "now"), [({}, ACCOUNT), (ACCOUNT, {}), (ACCOUNT, ACCOUNT)])
def test_another_account_of_etcd_restarts_all_at_once(before: dict[str, Any], now: dict[str, Any]) -> None:
    there, plan = planned(cluster(), **before), planned(cluster(), **now)
    seen = looks(there, plan)
    if before == now:  # what the account's file holds is another password
        seen = {
            host: replace(
                look,
                services=tuple(
                    replace(one, starts="restarted: its configuration changed")
                    if one.component in ("frontend", "worker")
                    else one
                    for one in look.services
                ),
            )
            for host, look in seen.items()
        }
    changes = order(plan, seen)
    (step,) = [step for step in changes.steps if step.kind == "all"]
    assert {"decode-0", "decode-1", "prefill-0", "prefill-1", "frontend on f0"} <= {*step.names}
    assert step.outage
    assert "leaves nobody who answers" in changes.problems[0].message


def test_what_does_not_serve_starts_first_and_is_no_outage() -> None:
    plan = planned(cluster(2, 1))
    down = looks(plan, plan, down=[("d0", "decode-0")])
    changes = order(plan, down)
    assert kinds(changes) == [("start", ("decode-0",))]
    assert not changes.problems


def test_new_replicas_start_before_others_go() -> None:
    there = planned(cluster(2, 2))
    groups = cluster(2, 2) | {"decode": ["d0", "d9"]}
    plan = planned(groups)
    seen = looks(there, plan)
    changes = order(plan, seen)
    assert kinds(changes) == [("start", ("decode-1",)), ("remove", ("decode-1 (before)",))]
    assert changes.steps[1].remove == {"d1": ("decode-1",)}
    assert changes.steps[1].left == {"decode": (2, 3), "prefill": (2, 2)}


def test_a_place_that_is_taken_changes_hands_in_one_slice() -> None:
    """Two replicas of a host each become one of two hosts: its ranks need what the two have."""
    groups = cluster(2, 4)
    there = planned(groups)
    plan = planned(groups, wideep_pools={"decode": {"nodes_per_replica": 2}})
    changes = order(plan, looks(there, plan))
    assert [step.kind for step in changes.steps] == ["workers", "workers"]
    assert changes.steps[0].remove == {"d0": ("decode-0",), "d1": ("decode-1",)}
    assert changes.steps[0].left == {"decode": (2, 4), "prefill": (2, 2)}


def test_members_of_the_control_plane_go_one_at_a_time() -> None:
    there, plan = planned(cluster()), planned(cluster(), nats_monitor_port=9000)
    changes = order(plan, looks(there, plan))
    assert kinds(changes) == [("control", (f"nats on c{n}",)) for n in range(3)]


def test_ranks_of_a_replica_restart_together() -> None:
    groups = cluster(4, 4)
    wide = {"nodes_per_replica": 2}
    there = planned(groups, **pools(**wide))
    plan = planned(groups, **pools(**wide, options={"max_batch_size": 99}))
    for step in order(plan, looks(there, plan)).steps:
        assert sorted(step.services) in (["d0", "d1", "p0", "p1"], ["d2", "d3", "p2", "p3"])


def test_what_is_named_restarts_although_nothing_differs() -> None:
    plan = planned(cluster())
    changes = order(plan, looks(plan, plan), restart=["decode-1", "frontend@f1"])
    assert kinds(changes) == [("workers", ("decode-1",)), ("frontends", ("frontend on f1",))]
    assert [step.again for step in changes.steps] == [{"d1": ("decode-1",)}, {"f1": ("frontend",)}]
    assert changes.steps[0].why == ("asked for",)


def test_a_host_that_was_not_reached_has_no_step() -> None:
    there, plan = planned(cluster()), planned(cluster(), **MORE)
    seen = looks(there, plan) | {"d0": HostLook("d0", reachable=False)}
    changes = order(plan, seen)
    assert "d0" not in changes.hosts
    # Nobody knows whether it serves: it does not count.
    assert any("decode" in problem.message for problem in changes.problems)


@given(
    prefill=st.integers(2, 6),
    decode=st.integers(2, 6),
    most=st.integers(1, 3),
    coherent=st.booleans(),
    done=st.integers(0, 4),
)
def test_capacity_is_kept_whenever_a_run_is_interrupted(
    prefill: int, decode: int, most: int, *, coherent: bool, done: int
) -> None:
    groups = cluster(prefill, decode)
    there = planned(groups)
    change = OTHER_BLOCKS if coherent else MORE
    plan = planned(groups, NEW if coherent else None, wideep_rollout={"max_unavailable": most}, **change)
    whole = order(plan, looks(there, plan))
    restarts = restarted(whole.steps)
    assert sorted(restarts) == sorted(
        (host, one.name) for host, own in plan.hosts.items() for one in own.launches["worker"]
    )
    if most == 1:
        assert not whole.problems
        for step in whole.steps:
            assert all(left for left, _ in step.left.values())
    if not coherent:
        for step in whole.steps:
            per = [sum(name.startswith(pool) for name in step.names) for pool in ("prefill", "decode")]
            assert max(per) <= most
    rest = order(plan, after(there, plan, whole.steps[:done]))
    assert sorted(restarted(whole.steps[:done]) + restarted(rest.steps)) == sorted(restarts)
    assert kinds(rest) == kinds(whole)[done:]


def test_a_jump_over_a_minor_version_is_refused() -> None:
    plan = planned(cluster())
    major, minor, *_ = plan.release.dynamo.split(".")
    there = looks(plan, plan)

    def running(version: str) -> list[str]:
        found = {
            name: replace(
                look,
                services=tuple(
                    replace(one, launch={"argv": [f"/x/venv/ai-dynamo-{version}/bin/python"]})
                    for one in look.services
                ),
            )
            for name, look in there.items()
        }
        return [problem.message for problem in order(plan, found).problems]

    assert running(f"{major}.{int(minor) - 1}.0") == []
    assert "more than a minor version away" in running(f"{major}.{int(minor) - 2}.0")[0]
    assert "more than a minor version away" in running(f"{int(major) + 1}.{minor}.0")[0]


def test_a_cluster_has_no_steps() -> None:
    made = make_plan(*inventory("kubernetes_sglang"))
    assert order(made.publish(), {}).steps == ()
