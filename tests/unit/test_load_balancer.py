"""The group load_balancer: what the plan makes of it and refuses, who reaches whom, where clients ask."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.health import is_stale
from ansible_collections.wideep.dynamo.plugins.module_utils.supervisord import Supervisord
from ansible_collections.wideep.dynamo.plugins.module_utils.systemd import Systemd
from example_inventories import Groups, Hosts, cluster, refusal
from servers import Quiet, serving, url

from wideep.deployment.launch import Launch
from wideep.plan import Plan, make_plan
from wideep.rehearsal import rehearse

TLS = {"certificate": "/c.pem", "key": "/k.pem", "ca": "/ca.pem"}
CLIENTS = dict.fromkeys(("client_ca", "client_certificate", "client_key"), "/x.pem")


def balanced(frontends: int = 2, **variables: Any) -> tuple[Groups, Hosts]:
    groups, hosts = cluster(etcd_install_method="archive", **variables)
    more = [f"frontend-{n}" for n in range(1, frontends)]
    for n, name in enumerate(["balancer-0", *more], 99):
        hosts[name] = {**hosts["control-0"], "ansible_host": f"10.0.0.{n}"}
    return {**groups, "frontend": [*groups["frontend"], *more], "load_balancer": ["balancer-0"]}, hosts


def launch(plan: Plan) -> Launch:
    [found] = plan.launches["balancer-0"]
    return found


def test_it_stands_before_all_frontends() -> None:
    plan = make_plan(*balanced(3, wideep_port_offset=100, wideep_drain_timeout_s=300))
    made = launch(plan)
    [config] = made.files
    servers = [line.split()[1:] for line in config.content.splitlines() if line.startswith("    server ")]
    addresses = {"control-0": "10.0.0.1", "frontend-1": "10.0.0.100", "frontend-2": "10.0.0.101"}
    assert servers == [[name, f"{address}:8100"] for name, address in addresses.items()]
    assert "bind *:8180\n" in config.content
    assert "uri /v1/models/deepseek-ai/DeepSeek-R1/ready " in config.content
    assert made.argv == ("/usr/sbin/haproxy", "-W", "-f", config.path)
    assert made.stop_timeout_s > 300
    assert plan.warnings == ()


def test_clients_ask_it() -> None:
    assert make_plan(*balanced()).publish().frontend_url == "http://10.0.0.99:8080"
    secured = {"certificate": "/b.pem"}
    plan = make_plan(*balanced(wideep_load_balancer=secured))
    assert plan.publish().frontend_url == "https://10.0.0.99:8080"
    groups, hosts = balanced()
    assert make_plan({**groups, "load_balancer": []}, hosts).publish().frontend_url == "http://10.0.0.1:8000"


def test_another_frontend_is_read_by_the_process_that_runs() -> None:
    two, three = launch(make_plan(*balanced(2))), launch(make_plan(*balanced(3)))
    assert two.digest == three.digest
    assert two.files != three.files
    assert two.health.json_value != three.health.json_value
    moved = launch(make_plan(*balanced(wideep_load_balancer={"binary": "/opt/haproxy"})))
    assert moved.digest != two.digest


def test_other_services_have_the_digest_that_they_had() -> None:
    """A field that all launches got must restart none of them."""
    groups, hosts = balanced()
    without = make_plan({**groups, "load_balancer": []}, hosts)
    for host, own in without.launches.items():
        for service in own:
            assert service.reload_signal == ""
            assert service.digest in {other.digest for other in make_plan(groups, hosts).launches[host]}


def test_preflight_tries_the_frontends_from_it() -> None:
    published = make_plan(*balanced(3)).publish().hosts["balancer-0"]
    assert {(p.name, p.ports) for p in published.needs.peers if 8000 in p.ports} == {
        ("control-0", (2379, 4222, 8000)),
        ("frontend-1", (8000,)),
        ("frontend-2", (8000,)),
    }
    assert {p.port for p in published.needs.ports} == {8080, 8404}


def test_tls_on_both_sides() -> None:
    own = {"certificate": "/pair.pem", "client_certificate": "/client.pem"}
    plan = make_plan(*balanced(wideep_load_balancer=own, wideep_tls={"http": TLS | CLIENTS}))
    text = launch(plan).files[0].content
    assert "bind *:8080 ssl crt /pair.pem alpn h2,http/1.1 ca-file /x.pem verify required\n" in text
    assert ":8000 ssl verify required ca-file /ca.pem crt /client.pem\n" in text
    needs = plan.publish().hosts["balancer-0"].needs.files
    assert {(file.path, file.private) for file in needs} == {
        ("/pair.pem", True),
        ("/client.pem", True),
        ("/ca.pem", False),
        ("/x.pem", False),
    }


REFUSED = {
    "a port of the frontend on its host": (
        {"wideep_load_balancer": {"port": 2379}},
        ["control-0"],
        "etcd_client_port, wideep_load_balancer.port on host control-0",
        "2379",
    ),
    "a port past the last": (
        {"wideep_load_balancer": {"monitor_port": 65000}, "wideep_port_offset": 600},
        ["balancer-0"],
        "wideep_load_balancer.monitor_port",
        "passes 65535",
    ),
    "no binary": (
        {"wideep_load_balancer": {"install_method": "existing", "binary": ""}},
        ["balancer-0"],
        "wideep_load_balancer.binary",
        "absolute path",
    ),
    "plain text before TLS": (
        {"wideep_tls": {"http": TLS}},
        ["balancer-0"],
        "wideep_load_balancer.certificate",
        "plain text",
    ),
    "nothing to show": (
        {
            "wideep_tls": {"http": TLS | CLIENTS},
            "wideep_load_balancer": {"certificate": "/pair.pem"},
        },
        ["balancer-0"],
        "wideep_load_balancer.client_certificate",
        "ask for a certificate",
    ),
}


@pytest.mark.parametrize(("variables", "on", "where", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(variables: dict[str, Any], on: list[str], where: str, message: str) -> None:
    groups, hosts = balanced(**variables)
    [problem] = refusal({**groups, "load_balancer": on}, hosts)
    assert problem.where == where
    assert message in problem.message


def test_what_is_of_little_use_is_a_warning() -> None:
    [one] = make_plan(*balanced(1)).warnings
    assert (one.where, one.severity) == ("inventory group frontend", "warning")
    groups, hosts = balanced(wideep_load_balancer={"port": 80})
    [nobody] = make_plan({**groups, "load_balancer": []}, hosts).warnings
    assert nobody.where == "wideep_load_balancer"


def test_service_managers_stop_it_softly(tmp_path: Any) -> None:
    made = launch(make_plan(*balanced())).to_dict()
    unit = Systemd(str(tmp_path), "chat").render_unit(made, 252)  # type: ignore[arg-type]
    assert "\nKillSignal=SIGUSR1\n" in unit
    assert "\nRestartSec=1\n" in unit
    section = Supervisord(str(tmp_path), "/v/supervisord").render_program(made)  # type: ignore[arg-type]
    assert "\nstopsignal = USR1\n" in section
    low = launch(make_plan(*balanced(wideep_load_balancer={"port": 80}))).to_dict()
    unit = Systemd(str(tmp_path), "chat").render_unit(low, 252)  # type: ignore[arg-type]
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n" in unit


class Answers(Quiet):
    body = b'{"config": "new"}'

    def do_GET(self) -> None:
        self.answer(200, self.body)


@pytest.mark.parametrize(
    ("body", "stale"), [(Answers.body, False), (b'{"config": "old"}', True), (b"", False)]
)
def test_whether_files_were_read_is_asked(body: bytes, stale: bool) -> None:
    with serving(type("Own", (Answers,), {"body": body})) as server:
        health = {"url": f"{url(server)}/config", "json_path": "config", "json_value": "new"}
        assert is_stale(health) is stale
    assert not is_stale(health)  # nobody listens


def test_rehearsals_have_one_where_this_machine_does() -> None:
    groups, hosts = balanced(wideep_load_balancer={"port": 8085, "certificate": "/pair.pem"})
    without = rehearse(groups, hosts, directory="/tmp/r", python="/usr/bin/python3")
    assert without.simulated.deployment.balancers == ()
    assert "balancer-0" not in without.inventory["all"]["hosts"]
    assert "no HAProxy" in without.text
    made = rehearse(groups, hosts, directory="/tmp/r", python="/usr/bin/python3", haproxy="/opt/haproxy")
    [own] = made.simulated.launches["balancer-0"]
    assert own.argv[0] == "/opt/haproxy"
    assert made.simulated.publish().frontend_url.endswith(":8085")
    assert "no HAProxy" not in made.text
