"""Who runs what: inventory groups and `wideep_*` variables become a checked, typed deployment.

Invariants (property-tested in tests/unit/test_topology.py): every GPU belongs to at most one replica (of
each pool, with `wideep_share_gpus`); a replica's ranks are 0…n-1; no two listeners share a host and port;
hosts appended to a group move no rank. With what hosts have already (`kept`), hosts added or removed anywhere
move none of a replica whose own hosts stay (tests/unit/test_kept.py).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from wideep.deployment.model import (
    POD_ADDRESS,
    POD_CACHE,
    PORTS_PER_POOL,
    PORTS_PER_WORKER,
    Deployment,
    Host,
    Kept,
    Node,
    Pool,
    Replica,
)
from wideep.inventory.settings import (
    POOLS,
    HostSettings,
    PoolName,
    PoolSettings,
    Settings,
    parse,
)
from wideep.problems import Problem, raise_errors, some_hosts
from wideep.reference.hardware import own_card

SERVICE_PORTS = (
    "frontend_port",
    "nats_port",
    "nats_monitor_port",
    "nats_cluster_port",
    "etcd_client_port",
    "etcd_peer_port",
)
ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
# Dynamo reads DYN_SYSTEM_PORT as a signed 16-bit number.
HIGHEST_WORKER_PORT = 32767
# For supervisord's socket below it: module_utils/launch.py computes it.
LONGEST_STATE_DIR = 71
# Inventory groups that the plan reads. The host of `kubernetes` talks to the cluster, and runs nothing of it.
CLUSTER = "kubernetes"
BALANCER = "load_balancer"
GROUPS = ("control", "frontend", BALANCER, CLUSTER, *POOLS)


def build(
    groups: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Mapping[str, Any]],
    kept: Sequence[Kept] = (),
) -> Deployment:
    """Build the deployment; arguments as for `examine`.

    Raises:
        RefusedError: with every problem found.
    """
    deployment, problems = examine(groups, hosts, kept)
    raise_errors(problems)
    assert deployment is not None
    return deployment


def examine(
    groups: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Mapping[str, Any]],
    kept: Sequence[Kept] = (),
) -> tuple[Deployment | None, list[Problem]]:
    """Build and check the deployment.

    Args:
        groups: inventory group -> host names in inventory order (`GROUPS`; others are ignored).
        hosts: host name -> its variables as set in the inventory (role defaults are added here).
        kept: replicas that hosts have; the first of two that want the same place has it. Nothing: replicas
            are numbered in inventory order.

    Returns:
        The deployment and every problem found. It is None where variables do not parse; where there is an
        error it serves to look for more of them, for nothing else.
    """
    settings, own, problems = parse(hosts)
    members = {name: list(groups.get(name, ())) for name in GROUPS}
    if settings and settings.on_kubernetes:
        return _examine_cluster(settings, own, members, problems)
    if settings is None and members[CLUSTER]:
        return None, problems
    if settings and settings.aggregated:
        every = (host for pool in POOLS for host in members[pool])
        members["aggregated"] = list(dict.fromkeys(every))
        members["prefill"] = members["decode"] = []
    problems += _check_groups(members, hosts, [name for name in groups if name not in GROUPS])
    if settings is None or any(name not in own for names in members.values() for name in names):
        return None, problems
    machines = {
        name: Host(
            name,
            _address(name, hosts[name], host),
            host.gpus_per_node,
            host.interface,
            host.python,
            host.gpu,
            host.network,
            host.state_dir,
            own_card(host.gpu, settings.card_places),
        )
        for name, host in own.items()
    }
    problems += _check_settings(settings, members)
    problems += _check_state_dirs(settings, machines.values())
    problems += _check_addresses(machines.values(), members)
    pools: list[Pool] = []
    used: dict[str, int] = dict.fromkeys(machines, 0)
    for position, pool in enumerate(POOLS):
        if members[pool]:
            nodes = [machines[name] for name in members[pool]]
            base = settings.worker_port_base + settings.port_offset + position * PORTS_PER_POOL
            mine = dict.fromkeys(machines, 0) if settings.share_gpus else used
            own_settings = settings.pools.get(pool, PoolSettings())
            made, found = _cut(pool, own_settings, nodes, base, mine, kept)
            pools.append(made)
            problems += found
            if settings.share_gpus:
                problems += _check_gpus([made], machines, mine)
    if not settings.share_gpus:
        problems += _check_gpus(pools, machines, used)
    problems += [
        Problem(
            f"{getattr(settings, name)} + wideep_port_offset {settings.port_offset} passes 65535",
            f"wideep_{name}" if name == "frontend_port" else name,
            "lower it, or wideep_port_offset",
        )
        for name in SERVICE_PORTS
        if getattr(settings, name) + settings.port_offset > 65535
    ]
    problems += _check_balancer_ports(settings)
    highest_base = HIGHEST_WORKER_PORT + 1 - len(POOLS) * PORTS_PER_POOL
    if settings.worker_port_base + settings.port_offset > highest_base:
        problems.append(
            Problem(
                f"the workers' ports would pass {HIGHEST_WORKER_PORT}, the highest that Dynamo accepts",
                "wideep_worker_port_base + wideep_port_offset",
                f"keep wideep_worker_port_base + wideep_port_offset at most {highest_base}",
            )
        )
    deployment = Deployment(
        settings=settings,
        hosts=tuple(machines.values()),
        control=tuple(machines[n] for n in members["control"]),
        frontends=tuple(machines[n] for n in members["frontend"]),
        pools=tuple(pool for pool in pools if pool.replicas),
        balancers=tuple(machines[n] for n in members[BALANCER]),
    )
    return deployment, problems


def _check_balancer_ports(settings: Settings) -> list[Problem]:
    return [
        Problem(
            f"{port} + wideep_port_offset {settings.port_offset} passes 65535",
            f"wideep_load_balancer.{name}",
            "lower it, or wideep_port_offset",
        )
        for name in ("port", "monitor_port")
        if (port := getattr(settings.load_balancer, name)) + settings.port_offset > 65535
    ]


def _examine_cluster(
    settings: Settings,
    own: Mapping[str, HostSettings],
    members: Mapping[str, Sequence[str]],
    problems: list[Problem],
) -> tuple[Deployment | None, list[Problem]]:
    """Build and check a deployment on Kubernetes: each pod is a host, as the one host's variables say."""
    problems += [
        Problem(
            "pods are described by wideep_pools, not by hosts",
            f"inventory group {group}",
            f"remove the group; set wideep_pools.{group}.replicas"
            if group in POOLS
            else "remove the group: wideep_kubernetes.expose makes a way in"
            if group == BALANCER
            else "remove the group: the platform's chart or an address brings the control plane",
        )
        for group in GROUPS
        if members[group] and group != CLUSTER
    ]
    if len(members[CLUSTER]) != 1:
        problems.append(
            Problem(
                f"the group has {len(members[CLUSTER])} hosts",
                f"inventory group {CLUSTER}",
                "name one host in it, from which the cluster's API is reached: localhost",
            )
        )
    if len(members[CLUSTER]) != 1 or members[CLUSTER][0] not in own:
        return None, problems
    of = own[members[CLUSTER][0]]

    def pod(name: str) -> Host:
        return Host(
            name,
            POD_ADDRESS,
            of.gpus_per_node,
            of.interface,
            gpu=of.gpu,
            network=of.network,
            state_dir=POD_CACHE,
            own_card=own_card(of.gpu, settings.card_places),
        )

    alone = settings.aggregated or set(settings.pools) == {"aggregated"}
    served = ("aggregated",) if alone else ("prefill", "decode")
    problems += [
        Problem(
            f"{pool} is missing: no request could complete",
            "wideep_pools",
            f"describe wideep_pools.{pool} (replicas, nodes_per_replica)",
        )
        for pool in served
        if pool not in settings.pools
    ]
    pools: list[Pool] = []
    for position, name in enumerate(POOLS):
        if name not in served or name not in settings.pools:
            continue
        pool = settings.pools[name]
        if pool.replicas_per_node > 1:
            problems.append(
                Problem(
                    "a pod has its node for itself",
                    f"wideep_pools.{name}.replicas_per_node",
                    "remove it; set replicas, and gpus_per_node to the GPUs of one pod",
                )
            )
        width = pool.nodes_per_replica
        pods = [pod(f"{name}-{n // width}-{n % width}") for n in range((pool.replicas or 1) * width)]
        base = settings.worker_port_base + settings.port_offset + position * PORTS_PER_POOL
        made, found = _cut(name, pool, pods, base, dict.fromkeys((p.name for p in pods), 0))
        pools.append(made)
        problems += found
    workers = [n for pool in pools for r in pool.replicas for n in r.nodes]
    used = {node.host.name: len(node.gpus) for node in workers}
    problems += _check_gpus(pools, {node.host.name: node.host for node in workers}, used)
    frontends = tuple(pod(f"frontend-{n}") for n in range(settings.kubernetes.frontend_replicas))
    problems += _check_planes(settings, disaggregated=len(pools) > 1)
    return Deployment(
        settings, (*frontends, *(n.host for n in workers)), (), frontends, tuple(pools)
    ), problems


def _address(name: str, variables: Mapping[str, Any], host: HostSettings) -> str:
    if host.address:
        return host.address
    if variables.get("ansible_connection") == "local" and "ansible_host" not in variables:
        return "127.0.0.1"
    return str(variables.get("ansible_host", name))


def _check_groups(
    members: Mapping[str, Sequence[str]], hosts: Mapping[str, Any], others: Sequence[str]
) -> list[Problem]:
    """Check our groups. others: the inventory's other groups, among which may be a misspelled one."""
    problems = [
        Problem(
            "the host has no variables: it is in no inventory",
            f"host {name} of group {group}",
            "add it to the inventory, or remove it from the group",
        )
        for group, names in members.items()
        for name in names
        if name not in hosts
    ]
    if not members["frontend"]:
        problems.append(
            Problem("the group has no host", "inventory group frontend", "name the host that serves HTTP")
        )
    if not members["control"]:
        problems.append(
            Problem(
                "the group has no host",
                "inventory group control",
                "name the hosts for NATS and etcd: 1, 3 or 5",
            )
        )
    prefill, decode, aggregated = members["prefill"], members["decode"], members["aggregated"]
    for there, missing in (("prefill", "decode"), ("decode", "prefill")):
        if members[there] and not members[missing]:
            near = get_close_matches(missing, others, n=1, cutoff=0.75)
            meant = f"did you mean group {near[0]}? Else " if near else ""
            problems.append(
                Problem(
                    f"group {there} has hosts, but {missing} has none: no request could complete",
                    f"inventory group {missing}",
                    f"{meant}add hosts to {missing}, or move those of {there} to the group aggregated",
                )
            )
    if aggregated and (prefill or decode):
        problems.append(
            Problem(
                "aggregated and disaggregated workers are mixed",
                "inventory group aggregated",
                "use either aggregated, or prefill and decode; two deployments may share hosts",
            )
        )
    if not (prefill or decode or aggregated):
        problems.append(
            Problem(
                "no pool has a host", "inventory groups prefill, decode", "name the hosts that run workers"
            )
        )
    problems += [
        Problem(
            f"host {name} is listed {names.count(name)} times",
            f"inventory group {group}",
            "a group lists a host once; for more replicas on it set wideep_pools.<pool>.replicas_per_node",
        )
        for group, names in members.items()
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    return problems


def _check_settings(settings: Settings, members: Mapping[str, Sequence[str]]) -> list[Problem]:
    problems = [
        Problem(
            f"the group {pool} has no host, so its settings do nothing",
            f"wideep_pools.{pool}",
            f"add hosts to the group {pool} or remove wideep_pools.{pool}",
            "warning",
        )
        for pool in settings.pools
        # Settings of the other mode may stay: one variable switches.
        if not members[pool] and (pool == "aggregated") == settings.aggregated
    ]
    problems += _check_planes(settings, disaggregated=bool(members["prefill"]))
    count = len(members["control"])
    if settings.discovery == "kubernetes":
        problems.append(
            Problem("there is no Kubernetes to ask", "wideep_discovery", "set wideep_discovery: etcd")
        )
    if settings.discovery == "etcd" and count not in (0, 1, 3, 5):
        problems.append(
            Problem(
                f"{count} hosts for etcd: a quorum needs 1, 3 or 5 members",
                "inventory group control",
                "keep 1, 3 or 5 hosts in the group control",
            )
        )
    if settings.discovery == "file" and len({n for names in members.values() for n in names}) > 1:
        problems.append(
            Problem(
                "discovery by files works on one host only",
                "wideep_discovery",
                "set wideep_discovery: etcd",
            )
        )
    return problems


def _check_planes(settings: Settings, *, disaggregated: bool) -> list[Problem]:
    problems = []
    if settings.migration_limit == 0:
        problems.append(
            Problem(
                "request migration is off: requests fail when their worker dies",
                "wideep_migration_limit",
                "set it to 3 (the default) unless clients retry by themselves",
                "warning",
            )
        )
    if settings.router_mode in {"power-of-two", "least-loaded"} and disaggregated:
        problems.append(
            Problem(
                f"{settings.router_mode} makes requests wait for prefill before decode is chosen",
                "wideep_router_mode",
                "set wideep_router_mode: kv, round-robin or random",
                "warning",
            )
        )
    return problems


def _check_state_dirs(settings: Settings, machines: Iterable[Host]) -> list[Problem]:
    if settings.service_manager == "systemd":
        return []
    too_long: dict[str, list[str]] = {}
    for machine in machines:
        if len(machine.state_dir) > LONGEST_STATE_DIR:
            too_long.setdefault(machine.state_dir, []).append(machine.name)
    return [
        Problem(
            f"the path has {len(path)} characters: supervisord's Unix socket below it would"
            " exceed the kernel's limit of 107 bytes",
            f"wideep_state_dir on {some_hosts(names)}",
            f"use a path of at most {LONGEST_STATE_DIR} characters, or wideep_service_manager: systemd",
        )
        for path, names in too_long.items()
    ]


def _check_addresses(machines: Any, members: Mapping[str, Sequence[str]]) -> list[Problem]:
    in_use = {name for names in members.values() for name in names}
    mine = [m for m in machines if m.name in in_use]
    loopback = [m.name for m in mine if m.loopback]
    problems = _duplicates(mine)
    problems += [
        Problem(
            f"{m.address!r} is neither an IPv4 address nor a host name (IPv6 is not supported)",
            f"wideep_address on host {m.name}",
            "set wideep_address to the IPv4 address or name that the other hosts reach it by",
        )
        for m in mine
        if not ADDRESS.fullmatch(m.address) or m.address == "0.0.0.0"  # noqa: S104 - not bound, refused
    ]
    # All on loopback: they are one machine, each with an address of its own (a rehearsal).
    if len(loopback) < len(mine):
        problems += [
            Problem(
                f"{name} is one of {len(mine)} hosts, which cannot reach its loopback address",
                f"wideep_address on host {name}",
                "set wideep_address to the address that the other hosts reach it by",
            )
            for name in loopback
        ]
    return problems


def _duplicates(machines: Sequence[Host]) -> list[Problem]:
    owner: dict[str, str] = {}
    problems = []
    for machine in machines:
        if machine.address in owner:
            problems.append(
                Problem(
                    f"address {machine.address} is also that of host {owner[machine.address]}",
                    f"wideep_address on host {machine.name}",
                    "list a machine under one name, in as many groups as it serves",
                )
            )
        owner.setdefault(machine.address, machine.name)
    return problems


def _cut(  # noqa: PLR0917
    pool: PoolName,
    settings: PoolSettings,
    hosts: Sequence[Host],
    port_base: int,
    used: dict[str, int],
    kept: Sequence[Kept] = (),
) -> tuple[Pool, list[Problem]]:
    """Cut a pool's hosts into replicas; `used` counts the GPUs taken on each host.

    What is kept stays; the places that are left become replicas in inventory order, with the lowest numbers
    that are free.
    """
    problems = []
    where = f"wideep_pools.{pool}"
    width = settings.nodes_per_replica
    if width > 1 and settings.replicas_per_node > 1:
        problems.append(
            Problem(
                f"replicas of {width} nodes cannot share a node with {settings.replicas_per_node - 1} more",
                f"{where}.replicas_per_node",
                "set either nodes_per_replica or replicas_per_node to 1",
            )
        )
    slots = 1 if width > 1 else settings.replicas_per_node
    places = _stay(pool, width, slots, [host.name for host in hosts], port_base, kept)
    taken = {(host, slot) for members, slot in places.values() for host in members}
    free = [host.name for host in hosts if any((host.name, slot) not in taken for slot in range(slots))]
    if len(free) % width:
        left = free[len(free) // width * width :]
        together = f", beside {len(places)} that stay" if places else ""
        problems.append(
            Problem(
                f"{len(hosts)} hosts do not divide into replicas of {width}{together}:"
                f" {', '.join(left)} left over",
                f"{where}.nodes_per_replica",
                f"add {width - len(left)} hosts to the group {pool}, remove {len(left)},"
                " or change nodes_per_replica",
            )
        )
    most = len(hosts) // width * slots
    wanted = most if settings.replicas is None else settings.replicas
    if wanted > most:
        problems.append(
            Problem(
                f"{wanted} replicas, and the hosts of group {pool} hold {most}",
                f"{where}.replicas",
                f"add hosts to the group {pool}, or set replicas to {most} or less",
            )
        )
    for index in sorted(places, reverse=True)[: max(0, len(places) - wanted)]:
        del places[index]
    numbers = (number for number in itertools.count() if number not in places)
    new: dict[int, tuple[tuple[str, ...], int]] = {}
    for start in range(0, len(free) // width * width, width):
        members = tuple(free[start : start + width])
        for slot in range(slots):
            if len(places) + len(new) < wanted and (members[0], slot) not in taken:
                new[next(numbers)] = members, slot
    places |= new
    machines = {host.name: host for host in hosts}
    size = {host.name: settings.gpus_per_node or host.gpus // slots for host in hosts}
    replicas = tuple(
        Replica(
            pool,
            index,
            tuple(
                Node(
                    machines[name],
                    rank,
                    tuple(range(first, first + size[name])),
                    port_base + slot * PORTS_PER_WORKER,
                )
                for rank, name in enumerate(members)
                for first in [used[name] + slot * size[name]]
            ),
        )
        for index, (members, slot) in sorted(places.items())
    )
    highest: dict[str, int] = {}
    for members, slot in places.values():
        highest |= {name: max(slot, highest.get(name, 0)) for name in members}
    for name, slot in highest.items():
        used[name] += (slot + 1) * size[name]
    # Those that do not divide are told of above.
    idle = [name for name in machines if name not in highest]
    idle = idle[: len(idle) // width * width]
    if idle:
        problems.append(
            Problem(
                f"{wanted} replicas leave hosts without one",
                f"{where}.replicas with {some_hosts(idle)}",
                f"remove them from the group {pool}, or raise replicas",
                "warning",
            )
        )
    return Pool(pool, settings, replicas), problems


def _stay(  # noqa: PLR0917
    pool: PoolName, width: int, slots: int, hosts: Sequence[str], port_base: int, kept: Sequence[Kept]
) -> dict[int, tuple[tuple[str, ...], int]]:
    """Return what stays of a pool: number -> its hosts in rank order, and its slot on them."""
    there = set(hosts)
    mine = [
        one
        for one in kept
        if one.name == f"{pool}-{one.index}" and len(one.hosts) == width == len(there & {*one.hosts})
    ]
    places: dict[int, tuple[tuple[str, ...], int]] = {}
    taken: set[tuple[str, int]] = set()
    for one in mine:
        slot = (one.port - port_base) // PORTS_PER_WORKER if width == 1 else 0
        if not 0 <= slot < PORTS_PER_POOL // PORTS_PER_WORKER:
            # The pool's ports are others now: their order on the host tells.
            slot = sum(other.hosts == one.hosts and other.port < one.port for other in mine)
        wanted = {(host, slot) for host in one.hosts}
        if slot < slots and one.index not in places and not wanted & taken:
            places[one.index] = one.hosts, slot
            taken |= wanted
    return places


def _check_gpus(
    pools: Sequence[Pool], machines: Mapping[str, Host], used: Mapping[str, int]
) -> list[Problem]:
    problems = []
    serves = {p.name: {n.host.name for r in p.replicas for n in r.nodes} for p in pools}
    for name, taken in used.items():
        serving = [pool for pool, there in serves.items() if name in there]
        if not serving:
            continue
        gpus = machines[name].gpus
        variables = ", ".join(f"wideep_pools.{p}.gpus_per_node" for p in serving)
        if taken > gpus:
            problems.append(
                Problem(
                    f"{' and '.join(serving)} need {taken} GPUs on it, it has {gpus}",
                    f"wideep_gpus_per_node on host {name}",
                    f"lower {variables} so that they add up to {gpus}, or remove the host from a group",
                )
            )
    for pool in pools:
        starved = dict.fromkeys(n.host for r in pool.replicas for n in r.nodes if not n.gpus)
        problems += [
            Problem(
                f"replicas of {pool.name} would get no GPU of its {host.gpus}",
                f"wideep_gpus_per_node on host {host.name}",
                f"raise wideep_gpus_per_node, or lower wideep_pools.{pool.name}.replicas_per_node",
            )
            for host in starved
        ]
        for replica in pool.replicas:
            sizes = {len(node.gpus) for node in replica.nodes}
            if len(sizes) > 1:
                problems.append(
                    Problem(
                        f"{replica.name} would take different numbers of GPUs on its nodes: "
                        + ", ".join(f"{n.host.name} {len(n.gpus)}" for n in replica.nodes),
                        f"wideep_pools.{pool.name}.gpus_per_node",
                        "give all nodes of a replica the same wideep_gpus_per_node, or set gpus_per_node",
                    )
                )
    return problems
