"""The platform's values: one release for all deployments of a cluster, and its addresses."""

from __future__ import annotations

from typing import Any

import pytest
from example_inventories import inventory

from wideep.cluster import platform
from wideep.cluster.platform import Platform, Release
from wideep.plan import make_plan
from wideep.published import Published
from wideep.reference.release import find_release

OTHERS = ("chat in team-a",)


def plan(engine: str = "sglang", *, single: bool = False, **variables: Any) -> Published:
    """Return the plan of inventories/kubernetes_<engine>. single: of replicas on one node."""
    groups, hosts = inventory(f"kubernetes_{engine}")
    shared = hosts["localhost"]
    own = {name: variables.pop(name) for name in list(variables) if not name.startswith("wideep_")}
    if single:
        pool = {"nodes_per_replica": 1, "options": {"data_parallel_size": 8}}
        variables |= {"wideep_pools": {"prefill": pool, "decode": pool}, "wideep_gpu": "h200-141gb"}
        variables |= {"wideep_eplb": {}}
    host = {**shared, "wideep_kubernetes": {**shared["wideep_kubernetes"], **own}, **variables}
    return make_plan(groups, {"localhost": host}).publish()


def test_a_deployment_asks_for_what_it_needs() -> None:
    found = platform.values(plan(), Platform(), None)
    assert found["global"] == {
        "grove": {"install": True, "enabled": True},
        "kai-scheduler": {"install": False, "enabled": False},
        "nats": {"install": False},
        "etcd": {"install": False},
    }
    assert found["dynamo-operator"] == {"natsAddr": "", "etcdAddr": "", "discoveryBackend": "kubernetes"}
    found = platform.values(
        plan(wideep_event_plane="nats", wideep_discovery="etcd", orchestrator="lws"),
        Platform(etcd_address="http://etcd.infra:2379"),
        None,
    )
    # LeaderWorkerSet has no value: the operator finds it, or it does not.
    assert found["global"]["grove"] == {"install": False, "enabled": False}
    assert "lws" not in found["global"]
    assert found["global"]["nats"] == {"install": True}
    assert found["global"]["etcd"] == {"install": False}
    assert found["dynamo-operator"]["etcdAddr"] == "http://etcd.infra:2379"
    # A queue is Grove's also where every replica is one pod.
    queued = platform.values(plan(single=True, queue="team"), Platform(), None)
    assert queued["global"]["grove"] == {"install": True, "enabled": True}
    there = platform.values(plan(), Platform(install_orchestrator=False), None)
    assert there["global"]["grove"] == {"install": False, "enabled": True}


def test_a_deployment_takes_nothing_from_another() -> None:
    """The one needs Grove, NATS and a toleration; the other has single nodes and events over ZMQ."""
    tolerated = {"dynamo-operator": {"controllerManager": {"tolerations": [{"operator": "Exists"}]}}}
    first = platform.values(plan(wideep_event_plane="nats"), Platform(values=tolerated), None)
    second = platform.values(plan(single=True), Platform(), first)
    assert second == first
    assert platform.changes(Release(first, OTHERS), second) == []
    # And the other way round it is added.
    alone = platform.values(plan(single=True), Platform(), None)
    both = platform.values(plan(wideep_event_plane="nats"), Platform(), alone)
    assert both["global"]["grove"] == {"install": True, "enabled": True}
    assert platform.changes(Release(alone), both) == [
        "global.grove.install: true (was false)",
        "global.grove.enabled: true (was false)",
        "global.nats.install: true (was false)",
    ]
    # It is stable: another run changes nothing.
    assert platform.values(plan(), Platform(), both) == both


def test_an_address_that_is_there_is_used() -> None:
    there = platform.values(plan(wideep_event_plane="nats"), Platform(nats_address="nats://infra:4222"), None)
    found = platform.values(plan(wideep_event_plane="nats"), Platform(), there)
    assert found["global"]["nats"] == {"install": False}
    assert found["dynamo-operator"]["natsAddr"] == "nats://infra:4222"


def test_own_values_win_and_null_brings_the_charts_back() -> None:
    own = {"global": {"grove": {"install": False}}, "dynamo-operator": {"controllerManager": None}}
    there = {"dynamo-operator": {"controllerManager": {"tolerations": []}}}
    found = platform.values(plan(), Platform(values=own), there)
    assert found["global"]["grove"] == {"install": False, "enabled": True}
    assert found["dynamo-operator"]["controllerManager"] is None


def test_names_that_the_chart_does_not_have_are_told() -> None:
    known = find_release().chart_values()
    given = {
        "global": {"groove": {"install": True}, "etcd": {"instal": True}},
        "dynamo-operator": {"natsAdr": "nats://infra:4222", "controllerManager": {"anything": 1}},
        "nats": {"anything": None},
        "dynamoOperator": {},
    }
    notes = list(platform.unknown(given, known))
    assert [(note.message.split(",")[0], note.remedy) for note in notes] == [
        ("the chart has no global.groove", "did you mean grove?"),
        ("the chart has no global.etcd.instal", "did you mean install?"),
        ("the chart has no dynamo-operator.natsAdr", "did you mean natsAddr?"),
        ("the chart has no dynamoOperator", "did you mean dynamo-operator?"),
    ]
    assert {note.severity for note in notes} == {"warning"}
    assert not list(platform.unknown(platform.values(plan(), Platform(), None), known))


def test_what_was_there_is_shown() -> None:
    there = Release({"test": {"silent": False, "hook": ""}, "other": None})
    wanted = {"test": None, "other": None, "new": {"a.b": 1}}
    assert platform.changes(there, wanted) == [
        'test: null (was {"silent": false, "hook": ""})',
        "new.a.b: 1 (was not set)",
    ]


@pytest.mark.parametrize(
    ("own", "queue"), [({"queue": "team"}, "team"), ({"scheduler": "kai-scheduler"}, "dynamo"), ({}, "")]
)
def test_a_queue_needs_kai(own: dict[str, Any], queue: str) -> None:
    made = plan(**own)
    assert platform.queue(made) == queue
    switches = platform.values(made, Platform(), None)["global"]["kai-scheduler"]
    # NVIDIA's own advice: installed apart from the platform.
    assert switches == {"install": False, "enabled": bool(queue)}


NATS = {"wideep_event_plane": "nats"}
WRONG: dict[str, tuple[dict[str, Any], Platform, Release, str, str]] = {
    "an address that nothing uses": (
        {},
        Platform(nats_address="nats://infra:4222"),
        Release(),
        "platform_nats_address",
        "nothing of the deployment uses it",
    ),
    "no platform of ours, either": (
        {},
        Platform(install=False, etcd_address="http://infra:2379"),
        Release(),
        "platform_etcd_address",
        "nothing of the deployment uses it",
    ),
    "own values that take it away": (
        NATS,
        Platform(values={"global": {"nats": {"install": False}}}),
        Release(),
        "platform_values",
        "without nats",
    ),
    "another address under others": (
        NATS,
        Platform(nats_address="nats://mine:4222"),
        Release({"dynamo-operator": {"natsAddr": "nats://theirs:4222"}}, OTHERS),
        "platform_nats_address",
        "also for chat in team-a",
    ),
    "an address where the chart's own is used": (
        NATS,
        Platform(nats_address="nats://mine:4222"),
        Release({"global": {"nats": {"install": True}}}, OTHERS),
        "platform_nats_address",
        "from the chart's own to nats://mine:4222",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_addresses(name: str) -> None:
    variables, own, release, where, says = WRONG[name]
    (problem,) = platform.check(plan(**variables), own, release)
    assert problem.where == where
    assert says in problem.message
    assert problem.remedy


def test_right_addresses() -> None:
    theirs = Release({"dynamo-operator": {"natsAddr": "nats://infra:4222"}}, OTHERS)
    assert platform.check(plan(**NATS), Platform(), theirs) == []
    assert platform.check(plan(**NATS), Platform(nats_address="nats://infra:4222"), theirs) == []
    assert platform.check(plan(), Platform(), theirs) == []
    # Alone, it may change its own.
    mine = Release({"dynamo-operator": {"natsAddr": "nats://old:4222"}})
    assert platform.check(plan(**NATS), Platform(nats_address="nats://new:4222"), mine) == []
    assert platform.check(plan(**NATS), Platform(install=False), Release()) == []
