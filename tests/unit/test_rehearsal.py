"""Rehearsals: what stays as in production, what changes, what is refused."""

from __future__ import annotations

import ipaddress
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_inventories import REPOSITORY, Groups, Hosts, check_complete, cluster, inventory, local
from example_playbook import run_action

from wideep.plan import make_plan
from wideep.problems import RefusedError
from wideep.rehearsal import Rehearsal, on_hosts, rehearse, retired

DIRECTORY = "/home/somebody/.local/state/wideep-rehearsal"
INVENTORIES = (
    *("deepseek_r1_sglang", "deepseek_v4_gb300_sglang", "qwen3_5_h200_sglang"),
    *("deepseek_r1_h100_sglang", "deepseek_r1_h200_sglang", "glm_5_b200_sglang", "kimi_k2_h200_sglang"),
    *("deepseek_r1_trtllm", "deepseek_r1_trtllm_h100"),
    *("sglang_single_node", "local"),
)


@pytest.fixture
def short() -> Iterator[Path]:
    """Return a directory with a short path: supervisord's sockets would be below it."""
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as path:
        yield Path(path)


def made(groups: Groups, hosts: Hosts, directory: str = DIRECTORY) -> Rehearsal:
    return rehearse(groups, hosts, directory=directory, python="/usr/bin/python3")


@pytest.mark.parametrize("name", INVENTORIES)
def test_the_topology_is_that_of_production(name: str) -> None:
    result = made(*inventory(name))
    real, simulated = result.real.deployment, result.simulated.deployment
    for one in (real, simulated):
        assert [host.name for host in one.hosts] == [host.name for host in real.hosts]
        assert [host.name for host in one.control] == [host.name for host in real.control]
        assert [host.name for host in one.frontends] == [host.name for host in real.frontends]

    def shape(result: Any) -> Any:
        return [
            (r.name, [(n.host.name, n.rank, n.gpus, n.port_base) for n in r.nodes])
            for p in result.pools
            for r in p.replicas
        ]

    assert shape(simulated) == shape(real)
    # The same services, by name, on the same hosts.
    services = [
        {host: [x.name for x in own] for host, own in plan.launches.items()}
        for plan in (result.real, result.simulated)
    ]
    assert services[0] == services[1]
    for field in (
        *("model", "namespace", "router_mode", "migration_limit", "frontend_args", "aggregated"),
        *("discovery", "request_plane", "event_plane", "frontend_port", "port_offset", "worker_port_base"),
    ):
        assert getattr(simulated.settings, field) == getattr(real.settings, field), field
    assert result.simulated.expected == result.real.expected


@pytest.mark.parametrize("name", INVENTORIES)
def test_every_host_is_this_machine_with_a_place_of_its_own(name: str) -> None:
    result = made(*inventory(name))
    hosts = result.simulated.deployment.hosts
    assert result.simulated.deployment.one_machine
    assert len({h.address for h in hosts}) == len({h.state_dir for h in hosts}) == len(hosts)
    assert all(ipaddress.ip_address(h.address).is_loopback for h in hosts)
    assert all(h.state_dir.startswith(f"{DIRECTORY}/") for h in hosts)
    # Nothing in the inventory leads to a real host.
    text = yaml.safe_dump(result.inventory)
    assert "192.0.2." not in text
    assert "ansible_host" not in text
    assert result.inventory["all"]["vars"]["ansible_connection"] == "local"
    assert result.simulated.engine.name == "mocker"


def test_the_inventory_is_the_plan_again() -> None:
    """Read by Ansible, it gives the launches that were checked."""
    result = made(*inventory("deepseek_r1_sglang"))
    tree = json.loads(json.dumps(result.inventory))["all"]
    groups = {group: list(own["hosts"]) for group, own in tree["children"].items()}
    again = make_plan(groups, {name: tree["vars"] | own for name, own in tree["hosts"].items()})
    assert again.launches == result.simulated.launches


def test_two_prefill_replicas_of_one_machine_do_not_meet() -> None:
    two = {pool: {"nodes_per_replica": 2} for pool in ("prefill", "decode")}
    result = made(*cluster(prefill=4, decode=6, wideep_pools=two))
    launches = [x for own in result.simulated.launches.values() for x in own]
    everywhere = [p.port for x in launches for p in x.ports if p.purpose == "bootstrap"]
    assert len(everywhere) == len(set(everywhere)) == 2
    assert "2 prefill of 2 nodes, 3 decode of 2 nodes" in result.text
    assert result.text.startswith("simulated: ")


@pytest.mark.parametrize(
    ("name", "flavour"), [("deepseek_r1_sglang", "sglang"), ("deepseek_r1_trtllm", "trtllm")]
)
def test_the_engine_decides_the_flavour_and_its_options_stay_behind(name: str, flavour: str) -> None:
    result = made(*inventory(name))
    shared = result.inventory["all"]["vars"]
    assert shared["wideep_engine_flavour"] == flavour
    for pool in shared["wideep_pools"].values():
        assert set(pool) <= {"nodes_per_replica", "options"}
        assert set(pool["options"]) == {"data_parallel_size"}
    assert result.simulated.warnings == ()


def test_one_variable_switches_the_engine_here_too() -> None:
    groups, hosts = inventory("deepseek_r1_trtllm_h100", wideep_engine="sglang", wideep_eplb={})
    pool = {"nodes_per_replica": 2, "options": {"data_parallel_size": 16}}
    for own in hosts.values():
        own["wideep_pools"] = {"prefill": pool, "decode": pool}
    assert made(groups, hosts).simulated.deployment.settings.engine_flavour == "sglang"


def test_options_of_a_mocker_inventory_are_kept() -> None:
    pool = {"gpus_per_node": 1, "options": {"block_size": 16}, "env": {"A": "b"}}
    pools = {"prefill": pool, "decode": pool}
    result = made(*local(wideep_pools=pools, wideep_engine_flavour="trtllm"))
    assert result.inventory["all"]["vars"]["wideep_pools"] == pools
    assert result.simulated.deployment.settings.engine_flavour == "trtllm"


def test_what_production_refuses_is_refused() -> None:
    groups, hosts = inventory("deepseek_r1_sglang", wideep_gpus_per_node=4)
    with pytest.raises(RefusedError) as refused:
        made(groups, hosts)
    check_complete(refused.value)
    assert "data_parallel_size" in str(refused.value)


def test_kubernetes_is_refused() -> None:
    with pytest.raises(RefusedError) as refused:
        made({"kubernetes": ["localhost"]}, inventory("kubernetes_sglang")[1])
    check_complete(refused.value)
    [problem] = refused.value.problems
    assert problem.where == "wideep_platform"
    assert "render" in problem.remedy


def test_an_address_that_is_not_this_machine_is_refused() -> None:
    for wrong in ("10.0.0.1", "::1", "here"):
        with pytest.raises(RefusedError, match="wideep_rehearsal_address"):
            made(*inventory("deepseek_r1_sglang", wideep_rehearsal_address=wrong))


def test_places_are_short_and_different() -> None:
    groups, hosts = cluster()
    assert made(groups, hosts).simulated.deployment.hosts[1].state_dir == f"{DIRECTORY}/wideep/prefill-0"
    deep = "/srv/" + "x" * 55
    assert made(groups, hosts, deep).simulated.deployment.hosts[1].state_dir == f"{deep}/wideep/1"
    renamed = {"control-0": "a.one", "prefill-0": "a.two"}
    groups = {g: [renamed.get(n, n) for n in names] for g, names in groups.items()}
    hosts = {renamed.get(n, n): own for n, own in hosts.items()}
    assert made(groups, hosts).simulated.deployment.hosts[1].state_dir == f"{DIRECTORY}/wideep/1"
    with pytest.raises(RefusedError, match="wideep_state_dir"):
        made(groups, hosts, "/srv/" + "x" * 70)


def test_hosts_that_went_away_are_noticed() -> None:
    before = made(*cluster(decode=3)).inventory
    now = made(*cluster(decode=2)).inventory
    assert retired(before, now) == ["decode-2"]
    assert retired(now, before) == retired({}, now) == []


def test_the_action_writes_a_private_inventory(short: Path) -> None:
    source = REPOSITORY / "inventories" / "deepseek_r1_sglang"
    arguments = {"path": str(short), "python": "/usr/bin/python3"}
    predicted = run_action("rehearsal", arguments, inventory=source, check=True)
    assert predicted["changed"] is True
    assert list(short.iterdir()) == []
    written = run_action("rehearsal", arguments, inventory=source)
    path = Path(written["inventory"])
    assert (written["changed"], written["retired"]) == (True, "")
    assert path == short / "deepseek-r1" / "hosts.yml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["all"]["vars"]["wideep_engine"] == "mocker"
    assert run_action("rehearsal", arguments, inventory=source)["changed"] is False
    # The other inventory of the same deployment has fewer hosts: those that only the first had must go first.
    other = run_action("rehearsal", arguments, inventory=source.with_name("deepseek_r1_trtllm_h100"))
    assert Path(other["retired"]).read_text(encoding="utf-8") != path.read_text(encoding="utf-8")
    assert set(other["retired_hosts"]) == {
        f"{pool}0{n}.example.com" for pool in ("prefill", "decode") for n in (3, 4)
    }


def test_cards_beside_the_inventory_are_used_and_need_not_be_at_the_rehearsal(
    short: Path, tmp_path: Path
) -> None:
    source = tmp_path / "own"
    shutil.copytree(REPOSITORY / "inventories" / "deepseek_r1_h200_sglang", source)
    for kind, name, old, new in (
        ("models", "deepseek-r1", "deepseek-ai/DeepSeek-R1", "lab/own"),
        ("hardware", "h200-141gb", "product: ", "product: Own "),
    ):
        (source / kind).mkdir()
        text = (REPOSITORY / "configs" / kind / f"{name}.yml").read_text(encoding="utf-8")
        (source / kind / f"own-{kind}.yml").write_text(text.replace(old, new), encoding="utf-8")
    own = {"wideep_model": "lab/own", "wideep_model_path": "/data/own", "wideep_gpu": "own-hardware"}
    planned = run_action("plan", {}, inventory=source, **own)
    notes = " ".join(note["message"] for note in planned["notes"])
    assert "not checked" not in notes
    written = run_action(
        "rehearsal", {"path": str(short), "python": "/usr/bin/python3"}, inventory=source, **own
    )
    rehearsed = run_action("plan", {}, inventory=Path(written["inventory"]))
    assert "problems" not in rehearsed


def test_the_action_refuses_as_the_plan_does(short: Path) -> None:
    source = REPOSITORY / "inventories" / "deepseek_r1_sglang"
    arguments = {"path": str(short), "python": "/usr/bin/python3"}
    result = run_action("rehearsal", arguments, inventory=source, wideep_gpus_per_node=4)
    assert result["failed"] is True
    assert result["wideep_refused"] is True
    assert result["problems"]
    assert list(short.iterdir()) == []


@pytest.mark.parametrize("name", INVENTORIES)
def test_on_the_hosts_themselves_only_the_engine_and_the_place_change(name: str) -> None:
    groups, hosts = inventory(name)
    variables = on_hosts(groups, hosts)
    real = make_plan(groups, hosts)
    simulated = make_plan(groups, {host: own | variables for host, own in hosts.items()})
    assert simulated.engine.name == "mocker"
    assert simulated.deployment.settings.deployment == f"{real.deployment.settings.deployment}-rehearsal"
    for one, other in zip(real.deployment.hosts, simulated.deployment.hosts, strict=True):
        assert (other.name, other.address) == (one.name, one.address)
        assert other.state_dir == f"{one.state_dir}-rehearsal"
    assert [r.name for r, _ in simulated.deployment.workers] == [r.name for r, _ in real.deployment.workers]
    assert [n.port_base for _, n in simulated.deployment.workers] == [
        n.port_base for _, n in real.deployment.workers
    ]
    assert simulated.expected == real.expected


def test_on_the_hosts_a_refused_inventory_is_refused() -> None:
    groups, hosts = inventory("deepseek_r1_sglang")
    for own in hosts.values():
        own["wideep_eplb"] = {"enabled": True, "redundant_experts": 31}
    with pytest.raises(RefusedError, match="redundant"):
        on_hosts(groups, hosts)
