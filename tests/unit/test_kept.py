"""What hosts have already stays theirs: names, ranks, ports and GPUs, whatever is added or removed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from example_inventories import Groups, Hosts, cluster, valid
from hypothesis import given
from hypothesis import strategies as st

from wideep.deployment.build import build, examine
from wideep.deployment.model import PORTS_PER_WORKER, Deployment, Kept
from wideep.problems import errors

POOLS = ("prefill", "decode", "aggregated")


def kept(deployment: Deployment) -> list[Kept]:
    """Return what the hosts of a deployment say of it, in no order that helps."""
    found = [
        Kept(replica.name, tuple(node.host.name for node in replica.nodes), replica.head.port_base)
        for pool in deployment.pools
        for replica in pool.replicas
    ]
    return sorted(found, key=lambda one: (one.hosts, -one.port))


def places(deployment: Deployment) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Return (replica, rank) -> all that is its own."""
    return {
        (replica.name, node.rank): (node.host.name, node.gpus, node.port_base, replica.service(node))
        for replica, node in deployment.workers
    }


def without(groups: Groups, hosts: Hosts, gone: set[str]) -> tuple[Groups, Hosts]:
    """Return the inventory without these hosts."""
    rest = {name: [host for host in members if host not in gone] for name, members in groups.items()}
    return rest, {name: own for name, own in hosts.items() if name not in gone}


def with_new(groups: Groups, hosts: Hosts, pool: str, at: int, names: list[str]) -> tuple[Groups, Hosts]:
    """Return the inventory with new hosts in the pool, before the one at a position."""
    groups, hosts = copy.deepcopy((groups, hosts))
    for n, name in enumerate(names):
        hosts[name] = {**next(iter(hosts.values())), "ansible_host": f"10.0.7.{n}"}
        hosts[name].pop("ansible_connection", None)
    groups[pool][at:at] = names
    return groups, hosts


def pool_of(inventory: tuple[Groups, Hosts], data: st.DataObject) -> str:
    return data.draw(st.sampled_from(sorted(set(POOLS) & set(inventory[0]))))


# Members of the control plane on hosts of their own: workers come and go beside them.
def _apart(inventory: tuple[Groups, Hosts]) -> tuple[Groups, Hosts]:
    groups, hosts = copy.deepcopy(inventory)
    shared = {k: v for k, v in next(iter(hosts.values())).items() if k != "ansible_connection"}
    hosts["head"] = {**shared, "ansible_host": "10.0.9.1"}
    for n, own in enumerate(hosts.values(), 1):
        own.pop("ansible_connection", None)
        own["ansible_host"] = f"10.0.0.{n}"
    groups["control"] = groups["frontend"] = ["head"]
    return groups, hosts


@given(valid(multi_node=True), st.data())
def test_a_replica_removed_from_anywhere_moves_no_other(
    inventory: tuple[Groups, Hosts], data: st.DataObject
) -> None:
    inventory = _apart(inventory)
    before = build(*inventory)
    name = pool_of(inventory, data)
    pool = next(p for p in before.pools if p.name == name)
    replica = data.draw(st.sampled_from(pool.replicas))
    gone = {node.host.name for node in replica.nodes}
    after, problems = examine(*without(*inventory, gone), kept(before))
    if after is None or errors(problems):  # the pool was one replica, or half of one is left in the other
        return
    old = {key: place for key, place in places(before).items() if place[0] not in gone}
    # A host in both pools may have been a part of a replica that has lost a rank: that one forms again.
    whole = {key for key in old if all(k in old for k in places(before) if k[0] == key[0])}
    broken = {key[0] for key in old} - {key[0] for key in whole}
    new = places(after)
    assert {key: new[key] for key in whole} == {key: old[key] for key in whole}
    assert {key[0] for key in new} <= {key[0] for key in whole} | broken


@given(valid(multi_node=True), st.integers(1, 3), st.data())
def test_hosts_added_anywhere_move_nothing(
    inventory: tuple[Groups, Hosts], more: int, data: st.DataObject
) -> None:
    before = build(*(inventory := _apart(inventory)))
    pool = pool_of(inventory, data)
    width = next(iter(inventory[1].values()))["wideep_pools"][pool]["nodes_per_replica"]
    names = [f"new-{n}" for n in range(width * more)]
    at = data.draw(st.integers(0, len(inventory[0][pool])))
    after = build(*with_new(*inventory, pool, at, names), kept(before))
    assert places(before).items() <= places(after).items()
    added = places(after).keys() - places(before).keys()
    assert {places(after)[key][0] for key in added} == {*names}


@given(valid(multi_node=True, overlap=False), st.data())
def test_a_host_replaced_by_another_forms_its_own_replica_again_only(
    inventory: tuple[Groups, Hosts], data: st.DataObject
) -> None:
    before = build(*(inventory := _apart(inventory)))
    groups, hosts = inventory
    pool = pool_of(inventory, data)
    old = data.draw(st.sampled_from(groups[pool]))
    at = groups[pool].index(old)
    after = build(*without(*with_new(groups, hosts, pool, at, ["new"]), {old}), kept(before))
    formed = {key[0] for key, place in places(before).items() if place[0] == old}
    stay = {key: place for key, place in places(before).items() if key[0] not in formed}
    assert stay.items() <= places(after).items()
    assert places(after).keys() == places(before).keys()


@given(valid(multi_node=True), st.data())
def test_any_words_of_hosts_lead_to_a_plan_whose_names_and_places_do_not_meet(
    inventory: tuple[Groups, Hosts], data: st.DataObject
) -> None:
    names = [*inventory[1], "gone"]
    said = st.builds(
        Kept,
        st.sampled_from(
            [f"{pool}-{n}" for pool in (*POOLS, "x") for n in range(4)] + ["decode", "decode--1"]
        ),
        st.lists(st.sampled_from(names), max_size=4).map(tuple),
        st.integers(0, 32000),
    )
    known = data.draw(st.lists(said, max_size=8))
    made, plain = build(*inventory, known), build(*inventory)
    assert len(places(made)) == len(places(plain))
    replicas = [replica.name for pool in made.pools for replica in pool.replicas]
    assert len(set(replicas)) == len(replicas)
    ports = [(node.host.name, node.port_base) for _, node in made.workers]
    gpus = [(node.host.name, gpu) for _, node in made.workers for gpu in node.gpus]
    assert len(set(ports)) == len(ports)
    assert len(set(gpus)) == len(gpus)


@given(valid(multi_node=True))
def test_what_is_kept_of_a_numbered_deployment_is_that_deployment(inventory: tuple[Groups, Hosts]) -> None:
    before = build(*inventory)
    assert places(build(*inventory, kept(before))) == places(before)


def _pool(name: str, **settings: Any) -> dict[str, Any]:
    return {"wideep_pools": {name: settings}}


def _names(deployment: Deployment) -> dict[str, list[str]]:
    return {
        replica.name: [node.host.name for node in replica.nodes]
        for pool in deployment.pools
        if pool.name == "decode"
        for replica in pool.replicas
    }


def test_fewer_replicas_end_those_with_the_highest_numbers() -> None:
    groups, hosts = cluster(decode=3, **_pool("decode", replicas=2))
    known = [
        Kept("decode-7", ("decode-0",), 22000),
        Kept("decode-0", ("decode-2",), 22000),
        Kept("decode-3", ("decode-1",), 22000),
    ]
    assert _names(build(groups, hosts, known)) == {"decode-0": ["decode-2"], "decode-3": ["decode-1"]}


def test_places_on_a_host_are_kept_where_the_first_is_free() -> None:
    groups, hosts = cluster(decode=1, **_pool("decode", replicas=1, replicas_per_node=2))
    (node,) = (
        n
        for r, n in build(groups, hosts, [Kept("decode-0", ("decode-0",), 22100)]).workers
        if r.pool == "decode"
    )
    assert node.port_base == 22000 + PORTS_PER_WORKER
    assert node.gpus == (4, 5, 6, 7)
    # What had the second place ends where a host has one.
    groups, hosts = cluster(decode=2)
    known = [Kept(f"decode-{n}", (f"decode-{n // 2}",), 22000 + n % 2 * 100) for n in range(4)]
    assert _names(build(groups, hosts, known)) == {"decode-0": ["decode-0"], "decode-2": ["decode-1"]}


def test_places_are_kept_when_all_ports_move() -> None:
    groups, hosts = cluster(decode=2, wideep_port_offset=3000, **_pool("decode", replicas_per_node=2))
    known = [
        Kept("decode-5", ("decode-1",), 22100),
        Kept("decode-1", ("decode-1",), 22000),
    ]
    made = {r.name: n.port_base for r, n in build(groups, hosts, known).workers if r.pool == "decode"}
    assert made == {"decode-0": 25000, "decode-2": 25100, "decode-1": 25000, "decode-5": 25100}


def test_hosts_that_are_left_over_are_those_that_have_no_replica() -> None:
    groups, hosts = cluster(decode=5, **_pool("decode", nodes_per_replica=2))
    known = [Kept("decode-0", ("decode-0", "decode-3")), Kept("decode-1", ("decode-4", "decode-2"))]
    _, problems = examine(groups, hosts, known)
    (problem,) = [p for p in problems if "do not divide" in p.message]
    assert problem.message == (
        "5 hosts do not divide into replicas of 2, beside 2 that stay: decode-1 left over"
    )
    assert problem.remedy.startswith("add 1 hosts to the group decode, remove 1")


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_that_want_the_same_place_the_first_has_it(order: int) -> None:
    groups, hosts = cluster(decode=3, **_pool("decode", nodes_per_replica=2))
    groups["decode"].append("decode-3")
    hosts["decode-3"] = {**hosts["decode-2"], "ansible_host": "10.0.0.77"}
    known = [Kept("decode-4", ("decode-0", "decode-3")), Kept("decode-9", ("decode-3", "decode-1"))][::order]
    made = _names(build(groups, hosts, known))
    assert made[known[0].name] == list(known[0].hosts)
    assert known[1].name not in made
