"""Which replicas become gangs, and what each rank's watcher is told."""

from __future__ import annotations

from typing import Any

import pytest
from example_inventories import Groups, Hosts, inventory, local

from wideep.deployment.launch import Gang, Launch, Relay
from wideep.deployment.model import WORKER_PORTS
from wideep.deployment.site import Site
from wideep.hosts.gang import MARGIN_S
from wideep.plan import Plan, make_plan
from wideep.problems import RefusedError
from wideep.programs import program
from wideep.programs.rank import ROUTE

# What a container adds around a command is another test's.
RUNTIME = {"wideep_runtime": "existing", "wideep_python": "/opt/dynamo/venv/bin/python3"}
PROGRAMS = "/var/lib/wideep/programs"
RANK = f"{PROGRAMS}/{program('rank').file}"


def made(name: str = "deepseek_r1_sglang", **variables: Any) -> Plan:
    return make_plan(*inventory(name, **RUNTIME | variables))


def workers(plan: Plan) -> dict[str, Launch]:
    return {host: own[-1] for host, own in plan.launches.items() if own[-1].component == "worker"}


def config(launch: Launch) -> Gang:
    assert launch.gang is not None
    return launch.gang


def engine_launches(plan: Plan) -> dict[str, Launch]:
    found = {}
    for pool in plan.deployment.pools:
        for replica in pool.replicas:
            for node in replica.nodes:
                launch = plan.engine.launch(Site(plan.deployment, node.host), pool, replica, node)
                if launch is not None:
                    found[node.host.name] = launch
    return found


def test_every_rank_runs_under_a_watcher_that_knows_its_replica() -> None:
    plan = made()
    own, bare = workers(plan), engine_launches(plan)
    assert len(own) == 8
    for replica in (replica for pool in plan.deployment.pools for replica in pool.replicas):
        for node in replica.nodes:
            launch, engine = own[node.host.name], bare[node.host.name]
            assert launch.argv[-len(engine.argv) - 1 :] == ("--", *engine.argv)
            place = f"/var/lib/wideep/services/{launch.name}"
            assert launch.argv[1:5] == ("-IS", RANK, "--launch", f"{place}/launch.json")
            assert RANK in {file.path for file in launch.programs}
            told = config(launch)
            assert told.name == f"{plan.deployment.settings.deployment}/{replica.name}"
            assert told.rank == node.rank
            assert told.ranks == tuple(each.host.name for each in replica.nodes)
            assert (told.address, told.port) == (
                replica.head.host.address,
                replica.head.port_base + WORKER_PORTS["gang"],
            )
            assert engine.cleanup == launch.cleanup
            assert bool(launch.cleanup) == (node == replica.head)
            assert told.status_file.rpartition("/")[0] in launch.directories
            assert ("gang" in {port.purpose for port in launch.ports}) == (node == replica.head)
            # The manager's patience is longer than the watcher's, or it would be killed at its work.
            assert told.stop_timeout_s == engine.stop_timeout_s
            assert launch.stop_timeout_s == engine.stop_timeout_s + MARGIN_S
            assert launch.health == engine.health


def test_an_interface_that_is_not_named_is_found_on_the_host() -> None:
    plan = made(wideep_interface="")
    own = workers(plan)
    for replica in (replica for pool in plan.deployment.pools for replica in pool.replicas):
        for node in replica.nodes:
            launch = own[node.host.name]
            assert launch.env["GLOO_SOCKET_IFNAME"] == ROUTE
            assert launch.env["NCCL_SOCKET_IFNAME"] == f"={ROUTE}"
            other = replica.nodes[1] if node == replica.head else replica.head
            route = config(launch).route
            assert route is not None
            assert route.to == other.host.address
            assert {name for name, value in launch.env.items() if ROUTE in value} == set(route.names)
    assert all(config(launch).route is None for launch in workers(made()).values())
    # What a watcher does not start has to be told; Open MPI hands one name on to all hosts.
    with pytest.raises(RefusedError, match="wideep_interface"):
        made("deepseek_r1_trtllm_h100", wideep_interface="")


def test_the_words_of_a_replica_are_one_family() -> None:
    """A change of one rank restarts its replica, and no other."""
    before = workers(made())
    families = {config(launch).family for launch in before.values()}
    assert len(families) == 2
    groups, hosts = inventory("deepseek_r1_sglang", **RUNTIME)
    name = groups["decode"][2]
    hosts[name] = {**hosts[name], "wideep_interface": "ens9"}
    after = workers(make_plan(groups, hosts))
    changed = {host for host in before if before[host].digest != after[host].digest}
    assert changed == {host for host in before if host.startswith("decode")}


def test_ranks_whose_processes_mpirun_starts_wait_for_its_words() -> None:
    plan = made("deepseek_r1_trtllm_h100")
    own, bare = workers(plan), engine_launches(plan)
    head, rank = own["decode01.example.com"], own["decode02.example.com"]
    place = "/var/lib/wideep/services"
    assert head.argv[-len(bare["decode01.example.com"].argv) - 1] == "--"
    assert rank.argv[1:] == (
        *("-IS", RANK),
        *("--launch", f"{place}/decode-0-rank-1/launch.json"),
    )
    socket = f"{place}/decode-0-rank-0/gang/launch"
    assert config(head).relay == Relay(socket, ("192.0.2.31", "192.0.2.32"))
    assert config(rank).relay is None
    assert config(rank).family == config(head).family
    # The directory that the service's user may write to.
    assert f"{place}/decode-0-rank-0/gang" in head.directories
    agent = head.env["OMPI_MCA_plm_rsh_agent"].split()
    assert agent[0] == "/opt/dynamo/venv/bin/python3"
    assert agent[2:] == [f"{PROGRAMS}/{program('launch_agent').file}", socket]
    assert agent[2] in {file.path for file in head.programs}


def test_a_replica_of_several_gpus_on_one_host_is_a_gang_of_one() -> None:
    """Its engine may lose the process of a GPU without noticing."""
    plan = make_plan(*inventory("sglang_single_node"))
    workers = [x for own in plan.launches.values() for x in own if x.component == "worker"]
    assert [x.name for x in workers] == ["prefill-0", "decode-0"]
    for launch in workers:
        assert launch.gang is not None
        assert (launch.gang.ranks, launch.gang.rank) == (("gpu01.example.com",), 0)
        assert "sglang::scheduler" in launch.gang.parts
        assert not launch.gang.watched


@pytest.mark.parametrize("given", [inventory("one_gpu"), local()], ids=["one GPU", "mocker"])
def test_replicas_of_one_service_stay_as_they_are(given: tuple[Groups, Hosts]) -> None:
    plan = make_plan(*given)
    every = [launch for own in plan.launches.values() for launch in own]
    assert any(launch.component == "worker" for launch in every)
    for launch in every:
        assert launch.gang is None
        assert "rank" not in {file.name for file in launch.programs}
        assert "gang" not in {port.purpose for port in launch.ports}
