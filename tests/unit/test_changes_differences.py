"""What runs against what is planned, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from example_inventories import cluster

from wideep.changes.differences import Difference, differences, table, to_dict
from wideep.changes.look import HostLook, ServiceLook
from wideep.deployment.model import Kept
from wideep.plan import make_plan
from wideep.published import Published


def planned(**variables: Any) -> Published:
    return make_plan(*cluster(**variables)).publish()


def look(plan: Published, host: str, before: Published | None = None, **changes: Any) -> HostLook:
    """Return a look at a host that has what `before` says, and runs."""
    there = {launch.name: launch for launch in (before or plan).hosts[host].services}
    services = []
    for launch in plan.hosts[host].services:
        old = there[launch.name]
        same = old.digest == launch.digest
        service = ServiceLook(
            launch.name,
            launch.component,
            "running",
            healthy=True,
            configured=old.digest,
            starts="" if same else "restarted: its configuration changed",
            differs=() if same else (f"/srv/wideep/services/{launch.name}/launch.json: changed",),
            before=None if same else old.to_dict(),
        )
        services.append(service)
    return replace(HostLook(host, services=tuple(services)), **changes)


def test_nothing_is_different() -> None:
    plan = planned()
    assert differences(plan, {host: look(plan, host) for host in plan.hosts}) == ()
    assert table(()) == "what runs is as planned\n"


def test_flags_and_variables_are_told_as_they_change_once_for_all_alike() -> None:
    pools = {"decode": {"options": {"max_batch_size": 64}, "env": {"A_SIZE": "1", "B": "x"}}}
    after = {"decode": {"options": {"max_batch_size": 128}, "env": {"A_SIZE": "2"}}}
    old, new = planned(wideep_pools=pools), planned(wideep_pools=after, wideep_drain_timeout_s=901)
    found = differences(new, {host: look(new, host, old) for host in ("decode-0", "decode-1")})
    assert [one.service for one in found] == ["decode-0", "decode-1"]
    assert found[0].what == "restarted: its configuration changed"
    assert found[0].rows == (
        "--max-num-seqs 64 → 128",
        "DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS 900 → 901",
        "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS 900 → 901",
        "A_SIZE 1 → 2",
        "- B x",
        "stop_timeout_s 930 → 931",
    )
    assert table(found).startswith("decode-0 on decode-0, decode-1 on decode-1: restarted")
    assert to_dict(found)[0]["rows"] == list(found[0].rows)


def test_a_new_version_is_seen_in_the_command() -> None:
    old, new = planned(wideep_release="1.5.1"), planned(wideep_release="1.6.1")
    (one,) = differences(new, {"decode-0": look(new, "decode-0", old)})
    assert any(row.startswith("command ") and "ai-dynamo-1.5.1" in row and "1.6.1" in row for row in one.rows)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"reachable": False, "error": "no\nroute"}, "cannot be reached: route"),
        ({"other": ("ai-dynamo 1.5.1 → 1.6.1",)}, "ai-dynamo 1.5.1 → 1.6.1"),
        ({"strays": ("decode-4: ended",)}, "belongs to no service: decode-4: ended"),
        (
            {"unplanned": (ServiceLook("decode-7", "worker", "running"),)},
            "is not planned any more (running): stopped and removed",
        ),
    ],
)
def test_what_is_the_hosts_is_told(change: dict[str, Any], what: str) -> None:
    plan = planned()
    (one,) = differences(plan, {"decode-0": look(plan, "decode-0", **change)})
    assert one.what == what


@pytest.mark.parametrize(
    ("change", "what", "rows"),
    [
        ({"starts": "restarted: it ended: 1"}, "restarted: it ended: 1", ()),
        (
            {"starts": "restarted: its configuration changed"},
            "runs with another configuration than its files have: restarted",
            (),
        ),
        (
            {"differs": ("/srv/x/unit.conf: changed",)},
            "changes without a restart",
            ("/srv/x/unit.conf: changed",),
        ),
        ({"healthy": False, "health_detail": "HTTP 503"}, "does not work: HTTP 503", ()),
    ],
)
def test_what_is_a_services_is_told(change: dict[str, Any], what: str, rows: tuple[str, ...]) -> None:
    plan = planned()
    seen = look(plan, "decode-0")
    seen = replace(seen, services=(replace(seen.services[0], **change),))
    assert differences(plan, {"decode-0": seen}) == (Difference("decode-0", "decode-0", what, rows),)


def test_of_many_hosts_some_are_named() -> None:
    text = table([Difference(f"d{n}", "", "secrets") for n in range(9)])
    assert text == "d0, d1, d2, d3 and 5 more: secrets\n"


def test_a_host_without_anything_is_told_in_a_line() -> None:
    plan = planned()
    service = replace(look(plan, "decode-0").services[0], configured="", state="absent", starts="started")
    new = HostLook("decode-0", services=(service,), other=("state directory: new", "model: x"))
    (one,) = differences(plan, {"decode-0": new})
    assert (one.service, one.what) == ("", "nothing of the deployment is there yet: gets decode-0")
    beside = replace(new, services=(*new.services, replace(service, name="x", configured="1")))
    assert differences(plan, {"decode-0": replace(beside, services=beside.services[:1])})[0] == one


def test_a_replica_that_gets_another_host_names_its_ranks() -> None:
    pools = {"decode": {"nodes_per_replica": 2}}
    old = make_plan(*cluster(decode=4, wideep_pools=pools)).publish()
    known = [Kept("decode-0", ("decode-0", "decode-3")), Kept("decode-1", ("decode-1", "decode-2"))]
    new = make_plan(*cluster(decode=4, wideep_pools=pools), known).publish()
    (one,) = differences(new, {"decode-0": look(new, "decode-0", old)})
    assert one.rows == ("ranks [decode-0, decode-1] → [decode-0, decode-3]",)
