"""Whoever stops has the time that its answers take: each manager waits longer than what it stops."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.supervisord import Supervisord
from ansible_collections.wideep.dynamo.plugins.module_utils.systemd import Systemd
from example_inventories import inventory, local
from places import REPOSITORY

from wideep.deployment.launch import Launch
from wideep.deployment.site import GRACE_S
from wideep.plan import Plan, make_plan

INVENTORIES = sorted(path.parent.name for path in REPOSITORY.glob("inventories/*/hosts.yml"))
DRAIN_S = 1234
TOLD = {
    "DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": str(DRAIN_S),
    "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": str(DRAIN_S),
}


def launches(plan: Plan) -> list[Launch]:
    return [one for own in plan.launches.values() for one in own if one.component in {"frontend", "worker"}]


def planned(name: str, **variables: Any) -> Plan:
    groups, hosts = inventory(name, wideep_drain_timeout_s=DRAIN_S, **variables)
    if groups.get("kubernetes"):
        pytest.skip("pods are stopped by the cluster")
    return make_plan(groups, hosts)


@pytest.mark.parametrize("name", INVENTORIES)
def test_the_service_manager_waits_longer_than_dynamo_drains(name: str) -> None:
    plan = planned(name)
    assert launches(plan)
    for launch in launches(plan):
        process_s = launch.gang.stop_timeout_s if launch.gang else launch.stop_timeout_s
        assert process_s > GRACE_S + DRAIN_S, launch.name
        # The watcher of a rank waits for the engine, and is waited for.
        assert launch.stop_timeout_s > process_s or not launch.gang, launch.name
        if launch.argv and "DYN_DISCOVERY_BACKEND" in launch.env:
            assert launch.env.items() >= TOLD.items(), launch.name
        unit = Systemd("/srv", "chat").render_unit(launch.to_dict(), 252)  # type: ignore[arg-type]
        assert f"\nTimeoutStopSec={launch.stop_timeout_s}\n" in unit
        section = Supervisord("/srv", "/v/supervisord").render_program(launch.to_dict())  # type: ignore[arg-type]
        assert f"\nstopwaitsecs = {launch.stop_timeout_s}\n" in section


def test_podman_waits_longer_than_dynamo_and_shorter_than_systemd() -> None:
    plan = planned("deepseek_r1_sglang", wideep_runtime="container")
    for launch in launches(plan):
        [told] = re.findall(r"--stop-timeout=(\d+)", " ".join(launch.argv))
        assert GRACE_S + DRAIN_S < int(told) < launch.stop_timeout_s


def test_a_load_balancer_outlives_the_streams_of_its_frontends() -> None:
    groups, hosts = local(wideep_drain_timeout_s=DRAIN_S)
    plan = make_plan({**groups, "load_balancer": ["localhost"]}, hosts)
    stops = {one.component: one.stop_timeout_s for one in plan.launches["localhost"]}
    assert stops["load_balancer"] >= stops["frontend"] > DRAIN_S
