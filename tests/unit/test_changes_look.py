"""What module host_look says of a host, typed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wideep.changes.look import HostLook, ServiceLook, kept, read
from wideep.deployment.model import Kept


def test_a_look_is_read_from_the_modules_words() -> None:
    service = {"name": "decode-1", "component": "worker", "state": "running", "gang": "decode-1"}
    look = read({"d1": {"changed": False, "look": {"services": [{**service, "ranks": ["d1"]}]}}})["d1"]
    assert look.by_name["decode-1"] == ServiceLook(
        "decode-1", "worker", "running", gang="decode-1", ranks=("d1",)
    )
    assert look.name == "d1"
    assert look.reachable


@pytest.mark.parametrize(
    ("result", "error"),
    [({"unreachable": True, "msg": "no route"}, "no route"), ({}, "it was not asked")],
)
def test_a_host_that_does_not_answer_is_away(result: dict[str, object], error: str) -> None:
    look = read({"d1": result})["d1"]
    assert not look.reachable
    assert look.error == error
    assert not look.differs
    assert not look.settled
    assert not look.new


def test_words_of_another_version_are_refused() -> None:
    with pytest.raises(ValidationError):
        read({"d1": {"look": {"services": [{"name": "decode-1"}]}}})


RUNS = ServiceLook("decode-1", "worker", "running", healthy=True, planned="a", configured="a", running="a")


def test_a_host_without_a_difference_has_nothing_to_do() -> None:
    assert HostLook("d1", services=(RUNS,)).settled
    assert not HostLook("d1", services=(RUNS,), other=("secrets",)).settled
    assert not HostLook("d1", services=(RUNS,), unplanned=(RUNS,)).settled
    assert not HostLook("d1", services=(RUNS,), strays=("decode-2 (pid 7)",)).settled


def test_one_that_does_not_work_yet_is_waited_for_although_it_does_not_differ() -> None:
    loading = ServiceLook("decode-1", "worker", "running", healthy=False, configured="a")
    look = HostLook("d1", services=(loading,))
    assert not look.differs
    assert not look.settled
    assert not look.new


def test_only_what_runs_is_interrupted() -> None:
    down = ServiceLook("decode-1", "worker", "failed", starts="restarted: it ended")
    assert HostLook("d1", services=(down,)).differs
    assert not down.restarts
    assert ServiceLook("decode-1", "worker", "starting", starts="restarted: its configuration").restarts


def _rank(gang: str, rank: int, *ranks: str, port: int = 22000) -> ServiceLook:
    name = gang if len(ranks) == 1 else f"{gang}-rank-{rank}"
    return ServiceLook(
        name, "worker", "stopped", gang=gang, rank=rank, ranks=ranks, port=port, configured="a"
    )


def test_hosts_say_which_replicas_they_have() -> None:
    looks = {
        "d1": HostLook("d1", services=(_rank("decode-0", 0, "d1"), _rank("decode-5", 0, "d1", port=22100))),
        "d2": HostLook("d2", unplanned=(_rank("decode-3", 1, "d3", "d2", port=0),)),
        "d3": HostLook("d3", reachable=False),
        # Planned, and not there.
        "d4": HostLook("d4", services=(ServiceLook("decode-9", "worker", "absent", gang="decode-9"),)),
    }
    assert set(kept(looks)) == {
        Kept("decode-0", ("d1",), 22000),
        Kept("decode-5", ("d1",), 22100),
        Kept("decode-3", ("d3", "d2"), 0),
    }


def test_of_two_words_about_a_replica_the_one_of_more_hosts_comes_first() -> None:
    old, new = ("d1", "d2"), ("d1", "d3")
    looks = {
        "d1": HostLook("d1", unplanned=(_rank("decode-0", 0, *new),)),
        "d3": HostLook("d3", unplanned=(_rank("decode-0", 1, *new),)),
        "d2": HostLook("d2", unplanned=(_rank("decode-0", 1, *old),)),
    }
    for order in (looks, dict(reversed(looks.items()))):
        assert [one.hosts for one in kept(order)] == [new, old]
