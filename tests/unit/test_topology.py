"""The deployment: its invariants over generated inventories; refusals with variable, host and remedy."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from example_inventories import (
    GPUS,
    Groups,
    Hosts,
    anything,
    check_complete,
    cluster,
    local,
    pools_anything,
    refusal,
    valid,
)
from hypothesis import given
from hypothesis import strategies as st

from wideep.deployment.build import build, examine
from wideep.deployment.model import is_loopback
from wideep.inventory.settings import known_variables, planned_variables
from wideep.plan import make_plan
from wideep.problems import RefusedError
from wideep.render import table

# ---- invariants ----------------------------------------------------------------------------------


@given(valid(multi_node=True))
def test_every_gpu_is_in_at_most_one_replica(inventory: tuple[Groups, Hosts]) -> None:
    deployment = build(*inventory)
    taken = Counter((n.host.name, gpu) for _, n in deployment.workers for gpu in n.gpus)
    assert set(taken.values()) == {1}
    assert all(0 <= gpu < GPUS for _, gpu in taken)
    assert all(node.gpus for _, node in deployment.workers)
    for pool in deployment.pools:
        for replica in pool.replicas:
            assert replica.world_size == sum(len(n.gpus) for n in replica.nodes)
            assert len({len(n.gpus) for n in replica.nodes}) == 1


@given(valid(multi_node=True))
def test_ranks_count_from_the_head(inventory: tuple[Groups, Hosts]) -> None:
    groups, hosts = inventory
    deployment = build(groups, hosts)
    assert deployment.disaggregated == ("prefill" in groups)
    for pool in deployment.pools:
        settings = deployment.settings.pools[pool.name]
        assert [replica.index for replica in pool.replicas] == list(range(len(pool.replicas)))
        assert len(pool.replicas) == (
            len(groups[pool.name]) // settings.nodes_per_replica * settings.replicas_per_node
        )
        for replica in pool.replicas:
            assert [node.rank for node in replica.nodes] == list(range(settings.nodes_per_replica))
            assert replica.head is replica.nodes[0]
        # A pool's hosts become replicas in inventory order.
        order = [n.host.name for r in pool.replicas for n in r.nodes]
        assert list(dict.fromkeys(order)) == groups[pool.name]


@given(valid(multi_node=True))
def test_names_are_unique_on_a_host_and_worker_ports_do_not_meet(inventory: tuple[Groups, Hosts]) -> None:
    deployment = build(*inventory)
    names = [(node.host.name, replica.service(node)) for replica, node in deployment.workers]
    assert len(set(names)) == len(names)
    replicas = [replica.name for pool in deployment.pools for replica in pool.replicas]
    assert len(set(replicas)) == len(replicas)
    # Each process owns a block of 100 ports.
    for host in deployment.hosts:
        bases = sorted(n.port_base for _, n in deployment.workers if n.host == host)
        assert all(after - before >= 100 for before, after in pairwise(bases))
        assert not bases or bases[-1] + 99 <= 32767


@given(valid(multi_node=False))
def test_no_two_listeners_share_a_host_and_port(inventory: tuple[Groups, Hosts]) -> None:
    plan = make_plan(*inventory)
    assert len({host.address for host in plan.deployment.hosts}) == len(plan.deployment.hosts)
    for launches in plan.launches.values():
        ports = [listener.port for launch in launches for listener in launch.ports]
        assert len(set(ports)) == len(ports)
        assert all(1 <= port <= 65535 for port in ports)
        names = [launch.name for launch in launches]
        assert len(set(names)) == len(names)
        for launch in launches:
            purposes = [listener.purpose for listener in launch.ports]
            assert len(set(purposes)) == len(purposes)
            # What a service starts after is on the same host and comes before it.
            assert set(launch.depends_on) <= set(names[: names.index(launch.name)])


def _extended(groups: Groups, hosts: Hosts, pool: str, replicas: int) -> tuple[Groups, Hosts]:
    width = next(iter(hosts.values()))["wideep_pools"][pool]["nodes_per_replica"]
    groups, hosts = copy.deepcopy(groups), copy.deepcopy(hosts)
    for n in range(width * replicas):
        hosts[f"new-{n}"] = {**next(iter(hosts.values())), "ansible_host": f"10.0.1.{n}"}
        groups[pool].append(f"new-{n}")
    return groups, hosts


@given(valid(multi_node=True, overlap=False), st.integers(1, 3), st.data())
def test_hosts_appended_to_a_group_move_nothing(
    inventory: tuple[Groups, Hosts], replicas: int, data: st.DataObject
) -> None:
    pool = data.draw(st.sampled_from(sorted({"prefill", "decode", "aggregated"} & set(inventory[0]))))
    before = build(*inventory)
    after = build(*_extended(*inventory, pool, replicas))

    def places(deployment: Any) -> dict[tuple[str, int], tuple[Any, ...]]:
        return {
            (replica.name, node.rank): (node.host, node.gpus, node.port_base, replica.service(node))
            for replica, node in deployment.workers
        }

    old, new = places(before), places(after)
    assert old.items() <= new.items()
    assert len(new) > len(old)


@given(valid(multi_node=False, overlap=False), st.integers(1, 3), st.data())
def test_hosts_appended_to_a_group_restart_nothing(
    inventory: tuple[Groups, Hosts], replicas: int, data: st.DataObject
) -> None:
    pool = data.draw(st.sampled_from(sorted({"prefill", "decode", "aggregated"} & set(inventory[0]))))
    before = make_plan(*inventory)
    after = make_plan(*_extended(*inventory, pool, replicas))
    for host, launches in before.launches.items():
        assert [launch.digest for launch in after.launches[host]] == [launch.digest for launch in launches]


@given(valid(multi_node=False))
def test_equal_input_gives_equal_digests(inventory: tuple[Groups, Hosts]) -> None:
    groups, hosts = inventory
    first = make_plan(groups, hosts)
    # Neither the order of variables nor that of a host's entry decides anything.
    again = make_plan(
        dict(reversed(groups.items())), {h: dict(reversed(v.items())) for h, v in hosts.items()}
    )
    assert first.publish().to_dict() == again.publish().to_dict()
    digests = [launch.digest for own in first.launches.values() for launch in own]
    assert digests == [launch.digest for own in again.launches.values() for launch in own]


NAMES = ["a", "b", "c", "d"]


@given(
    st.dictionaries(
        st.sampled_from(["control", "frontend", "prefill", "decode", "aggregated"]),
        st.lists(st.sampled_from([*NAMES, "nowhere"]), max_size=4),
    ),
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [*sorted(planned_variables()), "wideep_enginge", "ansible_host", "ansible_connection"]
            ),
            anything,
            max_size=3,
        ),
        min_size=4,
        max_size=4,
    ),
    st.booleans(),
    st.dictionaries(st.just("wideep_pools"), pools_anything),
)
def test_whatever_comes_in_only_a_refusal_comes_out(
    groups: Groups, own: list[dict[str, Any]], one_host: bool, shared: dict[str, Any]
) -> None:
    if one_host:
        groups = {name: ["a"] for name in ("control", "frontend", "prefill", "decode")}
        own = own[:1]
    names = NAMES[: len(own)]
    hosts = {
        name: {"ansible_host": f"10.0.0.{n}", "wideep_state_dir": "/srv/wideep", **shared, **variables}
        for n, (name, variables) in enumerate(zip(names, own, strict=True))
    }
    try:
        plan = make_plan(groups, hosts)
    except RefusedError as refused:
        check_complete(refused)
    else:
        assert plan.launches
        table(plan)


# ---- refusals ------------------------------------------------------------------------------------


def _without(group: str, **counts: int) -> tuple[Groups, Hosts]:
    groups, hosts = cluster(**counts)
    groups[group] = []
    return groups, hosts


def _with(group: str, *names: str, **variables: Any) -> tuple[Groups, Hosts]:
    groups, hosts = cluster(**variables)
    groups.setdefault(group, []).extend(names)
    return groups, hosts


def _host(name: str, **variables: Any) -> tuple[Groups, Hosts]:
    groups, hosts = cluster()
    hosts[name].update(variables)
    return groups, hosts


def _pools(**pools: Any) -> dict[str, Any]:
    return {"wideep_pools": pools}


REFUSALS: dict[str, tuple[tuple[Groups, Hosts], str, str, str]] = {
    # id: inventory, where, words of the message, words of the remedy
    "no frontend": (_without("frontend"), "inventory group frontend", "has no host", "serves HTTP"),
    "no control host": (_without("control"), "inventory group control", "has no host", "1, 3 or 5"),
    "no worker": (
        ({"control": ["control-0"], "frontend": ["control-0"]}, cluster()[1]),
        "inventory groups prefill, decode",
        "no pool has a host",
        "name the hosts",
    ),
    "prefill without decode": (
        _without("decode"),
        "inventory group decode",
        "group prefill has hosts, but decode has none",
        "add hosts to decode",
    ),
    "a misspelled group": (
        ({**_without("decode")[0], "decod": ["decode-0", "decode-1"]}, cluster()[1]),
        "inventory group decode",
        "decode has none",
        "did you mean group decod?",
    ),
    "decode without prefill": (
        _without("prefill"),
        "inventory group prefill",
        "group decode has hosts, but prefill has none",
        "add hosts to prefill",
    ),
    "aggregated mixed with pools": (
        _with("aggregated", "prefill-0"),
        "inventory group aggregated",
        "are mixed",
        "either aggregated, or prefill and decode",
    ),
    "a host twice in a group": (
        _with("decode", "decode-0"),
        "inventory group decode",
        "host decode-0 is listed 2 times",
        "replicas_per_node",
    ),
    "a host without variables": (
        _with("decode", "decode-9"),
        "host decode-9 of group decode",
        "in no inventory",
        "add it to the inventory",
    ),
    "two etcd members": (cluster(control=2), "inventory group control", "2 hosts for etcd", "1, 3 or 5"),
    "four etcd members": (cluster(control=4), "inventory group control", "4 hosts for etcd", "1, 3 or 5"),
    "discovery by files on many hosts": (
        cluster(wideep_discovery="file"),
        "wideep_discovery",
        "one host only",
        "wideep_discovery: etcd",
    ),
    "loopback among many": (
        _host("decode-1", wideep_address="127.0.0.1"),
        "wideep_address on host decode-1",
        "decode-1 is one of 5 hosts, which cannot reach its loopback address",
        "set wideep_address",
    ),
    "the same address twice": (
        _host("decode-1", wideep_address="10.0.0.1"),
        "wideep_address on host decode-1",
        "address 10.0.0.1 is also that of host control-0",
        "under one name",
    ),
    "an IPv6 address": (
        _host("decode-1", wideep_address="fd00::1"),
        "wideep_address on host decode-1",
        "'fd00::1' is neither an IPv4 address nor a host name",
        "IPv4",
    ),
    "an address for all interfaces": (
        _host("decode-1", wideep_address="0.0.0.0"),
        "wideep_address on host decode-1",
        "'0.0.0.0' is neither",
        "IPv4",
    ),
    "a replica of too few hosts": (
        cluster(prefill=3, **_pools(prefill={"nodes_per_replica": 2})),
        "wideep_pools.prefill.nodes_per_replica",
        "3 hosts do not divide into replicas of 2: prefill-2 left over",
        "add 1 hosts to the group prefill, remove 1, or change nodes_per_replica",
    ),
    "replicas of several nodes that share a node": (
        cluster(**_pools(prefill={"nodes_per_replica": 2, "replicas_per_node": 2})),
        "wideep_pools.prefill.replicas_per_node",
        "replicas of 2 nodes cannot share a node with 1 more",
        "set either",
    ),
    "a host in both pools without enough GPUs": (
        _with("decode", "prefill-1", wideep_gpus_per_node=8),
        "wideep_gpus_per_node on host prefill-1",
        "prefill and decode need 16 GPUs on it, it has 8",
        "lower wideep_pools.prefill.gpus_per_node, wideep_pools.decode.gpus_per_node",
    ),
    "more GPUs than there are": (
        cluster(**_pools(decode={"gpus_per_node": 4, "replicas_per_node": 3})),
        "wideep_gpus_per_node on host decode-1",
        "decode need 12 GPUs on it, it has 8",
        "lower wideep_pools.decode.gpus_per_node",
    ),
    "a worker host without GPU": (
        _host("decode-1", wideep_gpus_per_node=0),
        "wideep_gpus_per_node on host decode-1",
        "replicas of decode would get no GPU of its 0",
        "raise wideep_gpus_per_node",
    ),
    "more replicas than GPUs": (
        cluster(wideep_gpus_per_node=2, **_pools(decode={"replicas_per_node": 3})),
        "wideep_gpus_per_node on host decode-0",
        "replicas of decode would get no GPU of its 2",
        "lower wideep_pools.decode.replicas_per_node",
    ),
    "more replicas than GPUs in one of a host's two pools": (
        local(
            wideep_gpus_per_node=4,
            **_pools(prefill={"replicas_per_node": 5}, decode={"gpus_per_node": 1}),
        ),
        "wideep_gpus_per_node on host localhost",
        "replicas of prefill would get no GPU of its 4",
        "lower wideep_pools.prefill.replicas_per_node",
    ),
    "worker ports beyond the last": (
        cluster(wideep_worker_port_base=29769),
        "wideep_worker_port_base + wideep_port_offset",
        "would pass 32767",
        "at most 29768",
    ),
    "a path too long for supervisord's socket": (
        cluster(wideep_state_dir="/srv/" + "x" * 67),
        "wideep_state_dir on 5 hosts (control-0, …)",
        "the path has 72 characters",
        "at most 71 characters, or wideep_service_manager: systemd",
    ),
    "a service port beyond the last": (
        cluster(wideep_port_offset=9000, wideep_frontend_port=60000),
        "wideep_frontend_port",
        "60000 + wideep_port_offset 9000 passes 65535",
        "lower it",
    ),
    "a NATS port beyond the last": (
        cluster(wideep_port_offset=9000, nats_monitor_port=56536),
        "nats_monitor_port",
        "56536 + wideep_port_offset 9000 passes 65535",
        "lower it",
    ),
}


@pytest.mark.parametrize(("inventory", "where", "message", "remedy"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(inventory: tuple[Groups, Hosts], where: str, message: str, remedy: str) -> None:
    problems = refusal(*inventory)
    there = [p for p in problems if p.where == where and message in p.message]
    assert len(there) == 1, problems
    assert remedy in there[0].remedy


def _halves(**decode: Any) -> tuple[Groups, Hosts]:
    """Return seven prefill replicas of half a host on four hosts, and decode on a fifth and the half left."""
    half = {"gpus_per_node": GPUS // 2, "replicas_per_node": 2}
    groups, hosts = cluster(
        prefill=4, decode=1, **_pools(prefill=half | {"replicas": 7}, decode=half | decode)
    )
    groups["decode"] = [*groups["decode"], groups["prefill"][-1]]
    return groups, hosts


def test_an_odd_number_of_replicas_leaves_half_a_host_to_another_pool() -> None:
    made = build(*_halves(replicas=3))
    prefill, decode = (pool.replicas for pool in made.pools)
    assert (len(prefill), len(decode)) == (7, 3)
    assert prefill[-1].head.host == decode[-1].head.host
    assert decode[-1].head.gpus == tuple(range(GPUS // 2, GPUS))
    assert [problem.message for problem in refusal(*_halves())] == [
        f"prefill and decode need {GPUS // 2 * 3} GPUs on it, it has {GPUS}"
    ]


def test_a_number_of_replicas_is_what_the_hosts_hold_at_most() -> None:
    problem, *_ = refusal(*_halves(replicas=5))
    assert (problem.where, problem.message) == (
        "wideep_pools.decode.replicas",
        "5 replicas, and the hosts of group decode hold 4",
    )
    groups, hosts = cluster(prefill=2, **_pools(prefill={"replicas": 1}))
    _, problems = examine(groups, hosts)
    (idle,) = [p for p in problems if "leave hosts without one" in p.message]
    assert (idle.severity, idle.where) == ("warning", "wideep_pools.prefill.replicas with host prefill-1")


def test_unequal_gpus_within_a_replica() -> None:
    groups, hosts = cluster(**_pools(decode={"nodes_per_replica": 2}))
    hosts["decode-1"]["wideep_gpus_per_node"] = 4
    [problem] = [p for p in refusal(groups, hosts) if "different numbers" in p.message]
    assert (
        "decode-0 would take different numbers of GPUs on its nodes: decode-0 8, decode-1 4"
        in problem.message
    )
    assert problem.where == "wideep_pools.decode.gpus_per_node"


def test_several_problems_come_at_once() -> None:
    groups, hosts = cluster(
        control=2,
        wideep_engine="sglagn",
        etcd_install_method="pypi",
        wideep_migration_limit=0,
        **_pools(prefill={"nodes_per_replica": 3}, decode={"gpus_per_node": 16}),
    )
    hosts["decode-0"]["wideep_address"] = "10.0.0.1"
    hosts["decode-1"]["wideep_interfaze"] = "eth0"
    assert {p.where for p in refusal(groups, hosts)} == {
        "inventory group control",
        "wideep_engine",
        "etcd_install_method",
        "wideep_pools.prefill.nodes_per_replica",
        "wideep_gpus_per_node on host decode-0",
        "wideep_gpus_per_node on host decode-1",
        "wideep_address on host decode-0",
        "wideep_interfaze on host decode-1",
    }


def test_nothing_at_all_is_refused_without_noise() -> None:
    assert {p.where for p in refusal({}, {})} == {
        "inventory group frontend",
        "inventory group control",
        "inventory groups prefill, decode",
    }


def test_build_lets_warnings_pass_and_raises_errors() -> None:
    groups, hosts = cluster(
        wideep_migration_limit=0, wideep_router_mode="least-loaded", **_pools(aggregated={"gpus_per_node": 2})
    )
    # Settings for the mode that wideep_aggregated would switch to are no mistake.
    deployment, problems = examine(groups, hosts)
    assert {(p.severity, p.where) for p in problems} == {
        ("warning", "wideep_migration_limit"),
        ("warning", "wideep_router_mode"),
    }
    assert build(groups, hosts) == deployment
    with pytest.raises(RefusedError):
        build(*cluster(control=2))


# ---- single facts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"ansible_connection": "local"}, "127.0.0.1"),
        ({"ansible_connection": "local", "ansible_host": "10.0.0.9"}, "10.0.0.9"),
        ({"ansible_host": "10.0.0.9"}, "10.0.0.9"),
        ({"ansible_host": "10.0.0.9", "wideep_address": "192.0.2.1"}, "192.0.2.1"),
        ({}, "gpu.example"),
    ],
)
def test_the_address_of_a_host(variables: dict[str, Any], address: str) -> None:
    groups = {name: ["gpu.example"] for name in ("control", "frontend", "aggregated")}
    deployment = build(groups, {"gpu.example": {"wideep_state_dir": "/srv/wideep", **variables}})
    assert deployment.hosts[0].address == address
    assert deployment.one_machine == (address == "127.0.0.1")


def test_loopback_names() -> None:
    assert [is_loopback(a) for a in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(a) for a in ("10.0.0.1", "gpu1", "127.example")] == [False] * 3


def test_ports_of_a_pool_do_not_depend_on_the_other_pools() -> None:
    aggregated = {name: ["prefill-0"] for name in ("control", "frontend", "aggregated")}
    bases = [
        [(r.pool, n.port_base, n.port("rpc")) for r, n in build(groups, cluster()[1]).workers]
        for groups in (aggregated, cluster(prefill=1, decode=1)[0])
    ]
    assert bases == [
        [("aggregated", 20000, 20001)],
        [("prefill", 21000, 21001), ("decode", 22000, 22001)],
    ]


def test_which_parts_of_the_control_plane_are_used() -> None:
    def used(**variables: str) -> tuple[bool, bool]:
        settings = build(*local(**variables)).settings
        return settings.uses_nats, settings.uses_etcd

    assert used() == (True, True)
    assert used(wideep_event_plane="zmq") == (False, True)
    assert used(wideep_event_plane="zmq", wideep_request_plane="nats") == (True, True)
    assert used(wideep_event_plane="zmq", wideep_discovery="file") == (False, False)


def test_every_known_variable_of_the_deployment_is_planned() -> None:
    assert known_variables() <= set(planned_variables())
