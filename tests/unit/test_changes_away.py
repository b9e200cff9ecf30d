"""All looks together: hosts that do not answer, names that hosts keep, who has something to do."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from example_inventories import cluster

from wideep.changes import away
from wideep.changes.look import HostLook, ServiceLook, judged, kept
from wideep.plan import make_plan
from wideep.published import Published

GANGS = {"wideep_pools": {"decode": {"nodes_per_replica": 2}}}


@lru_cache
def planned(unreachable: str = "fail", **counts: int) -> Published:
    """Return a plan in which decode replicas have two hosts each."""
    return make_plan(*cluster(decode=4, **counts, wideep_unreachable=unreachable, **GANGS)).publish()


def looks(plan: Published, **changes: dict[str, Any]) -> dict[str, HostLook]:
    """Return looks at hosts on which all is as planned, with fields of some changed; `_` is `-` of a name."""
    changed = {name.replace("_", "-"): values for name, values in changes.items()}
    found = {}
    for host, own in plan.hosts.items():
        services = []
        for launch in own.services:
            gang = launch.gang.name.rpartition("/")[2] if launch.gang else launch.name
            service = ServiceLook(
                launch.name,
                launch.component,
                "running",
                gang=gang if launch.component == "worker" else "",
                rank=launch.gang.rank if launch.gang else 0,
                ranks=launch.gang.ranks if launch.gang else (host,),
                port=min((listener.port for listener in launch.ports), default=0),
                healthy=True,
                configured=launch.digest,
                content=hashlib.sha256(launch.text.encode()).hexdigest(),
            )
            services.append(service)
        found[host] = replace(HostLook(host, services=tuple(services)), **changed.get(host, {}))
    return found


def gone(error: str = "ssh: no route to host") -> dict[str, Any]:
    return {"reachable": False, "services": (), "error": f"Failed to connect\n{error}\n"}


def groups(plan: Published, seen: dict[str, HostLook]) -> dict[str, str]:
    return {member.host: member.group for member in away.members(plan, seen)}


def test_hosts_without_a_difference_are_in_no_group() -> None:
    plan = planned()
    assert away.check(plan, looks(plan)) == []
    assert away.notes(plan, looks(plan)) == []
    assert groups(plan, looks(plan)) == {}
    assert away.fits(plan, kept(looks(plan)))


def test_hosts_that_do_not_answer_are_named_and_nothing_is_changed() -> None:
    plan = planned()
    (problem,) = away.check(plan, looks(plan, decode_1=gone(), prefill_0=gone()))
    assert problem.where == "hosts prefill-0, decode-1"
    assert problem.message == "2 hosts cannot be looked at: ssh: no route to host"
    assert "wideep_unreachable=skip" in problem.remedy
    (problem,) = away.check(plan, looks(plan, decode_1=gone()))
    assert (problem.where, problem.message[:22]) == ("host decode-1", "it cannot be looked at")


def test_the_rest_is_done_where_that_is_wanted_and_there_is_a_rest() -> None:
    plan = planned("skip")
    seen = looks(plan, decode_1=gone())
    assert away.check(plan, seen) == []
    assert away.check(plan, {name: replace(look, reachable=False) for name, look in seen.items()})
    (note,) = away.notes(plan, seen)
    assert note.message == "1 of 7 hosts cannot be reached; left as they are: decode-0"
    assert note.severity == "warning"


def test_a_member_of_the_control_plane_that_is_away_is_said() -> None:
    plan = planned("skip", control=3)
    found = [note.message for note in away.notes(plan, looks(plan, control_2=gone()))]
    assert found[1] == "1 of 3 members of the control plane are among them"


@pytest.mark.parametrize(
    ("change", "group"),
    [
        ({"other": ("secrets",)}, "wideep_changing"),
        ({"services": (ServiceLook("x", "nats", "running", healthy=False),)}, "wideep_changing"),
        (gone(), "wideep_away"),
    ],
)
def test_who_has_something_to_do_is_named(change: dict[str, Any], group: str) -> None:
    plan = planned("skip")
    assert groups(plan, looks(plan, prefill_0=change)) == {"prefill-0": group}


def test_the_reachable_rank_of_a_replica_that_has_lost_one_keeps_what_runs() -> None:
    plan = planned("skip")
    differs = replace(looks(plan)["decode-0"].services[0], differs=("launch.json",), starts="restarted")
    seen = looks(plan, decode_1=gone(), decode_0={"services": (differs,)})
    assert groups(plan, seen) == {"decode-1": "wideep_away"}
    seen = looks(plan, decode_1=gone(), decode_0={"services": (differs,), "other": ("secrets",)})
    assert groups(plan, seen)["decode-0"] == "wideep_changing"
    # With its peer it is a change.
    assert groups(plan, looks(plan, decode_0={"services": (differs,)})) == {"decode-0": "wideep_changing"}


def test_what_hosts_have_decides_names_and_is_judged_by_the_plan_with_them() -> None:
    before = planned()
    inventory = cluster(decode=4, **GANGS)
    names = {("decode-0", "decode-1"): "decode-4", ("decode-2", "decode-3"): "decode-1"}
    known = [replace(one, name=names.get(one.hosts, one.name)) for one in kept(looks(before))]
    assert not away.fits(before, known)
    after = make_plan(*inventory, known).publish()
    assert [r.name for r in after.pools[1].replicas] == ["decode-1", "decode-4"]
    # Hosts that have the first plan's services differ from the second.
    found = groups(after, judged(looks(before), after))
    assert found == {"decode-0": "wideep_changing", "decode-1": "wideep_changing"}


def test_the_first_frontend_that_answers_is_asked() -> None:
    inventory = cluster(decode=2)
    inventory[0]["frontend"] = ["control-0", "prefill-0"]
    plan = make_plan(*inventory).publish()
    assert away.frontend_url(plan, looks(plan)) == plan.frontend_url
    assert away.frontend_url(plan, looks(plan, control_0=gone())) == "http://10.0.0.2:8000"
    assert away.frontend_url(plan, {}) == plan.frontend_url


def test_workers_on_hosts_that_are_away_may_serve_or_not() -> None:
    plan = planned("skip")
    found = away.expected(plan, looks(plan, decode_1=gone()))
    assert {name: (one.count, one.may_lack) for name, one in found.items()} == {
        "prefill": (2, 0),
        "decode": (2, 1),
    }
    assert away.expected(plan, looks(plan)) == plan.expected


def test_a_load_balancer_is_asked_as_long_as_there_is_one() -> None:
    inventory = cluster(decode=2, wideep_load_balancer={"certificate": "/pair.pem"})
    inventory[0]["frontend"] = ["control-0", "prefill-0"]
    inventory[0]["load_balancer"] = ["prefill-1"]
    plan = make_plan(*inventory).publish()
    assert away.frontend_url(plan, looks(plan)) == plan.frontend_url == "https://10.0.0.3:8080"
    assert away.frontend_url(plan, looks(plan, prefill_1=gone())) == "http://10.0.0.1:8000"
    assert away.frontend_url(plan, {}) == plan.frontend_url
