"""Prometheus of a plan: who is scraped, which alerts there are, and that what they ask for is measured."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from example_inventories import cluster, inventory, local, refusal
from metrics import OTHERS, known
from places import REPOSITORY

from wideep.deployment.launch import Launch
from wideep.deployment.tls import files as tls_files
from wideep.hosts import prometheus
from wideep.monitoring.promql import metrics_of
from wideep.monitoring.rules import RUNBOOK, Alert, alerts
from wideep.monitoring.targets import targets
from wideep.plan import Plan, make_plan
from wideep.reference.release import find_release, releases

ON = {"enabled": True}
ALL = ON | {
    "node_exporter_port": 9100,
    "dcgm_exporter_port": 9400,
    "nats_exporter_port": 7777,
    "kv_floor_gbs": 5,
}


def planned(name: str = "local", release: str = "", **monitoring: Any) -> Plan:
    variables: dict[str, Any] = {"wideep_monitoring": monitoring}
    if release:
        variables["wideep_release"] = release
    groups, hosts = local(**variables) if name == "local" else inventory(name, **variables)
    return make_plan(groups, hosts)


def launch_of(plan: Plan) -> Launch:
    (found,) = (launch for own in plan.launches.values() for launch in own if launch.name == "prometheus")
    return found


def content(launch: Launch, name: str) -> Any:
    (text,) = (file.content for file in launch.files if file.path.endswith(f"/prometheus/{name}"))
    return yaml.safe_load(text)


def with_balancer(**monitoring: Any) -> Plan:
    groups, hosts = cluster(control=3, wideep_engine="mocker", wideep_monitoring=ON | monitoring)
    hosts["balancer-0"] = hosts["control-0"] | {"ansible_host": "10.0.0.99"}
    return make_plan(
        {**groups, "frontend": ["control-0", "control-1"], "load_balancer": ["balancer-0"]}, hosts
    )


def alerts_of(plan: Plan) -> list[Alert]:
    return alerts(plan.deployment, targets(plan.deployment, plan.launches))


def test_it_is_off_unless_it_is_asked_for() -> None:
    plan = planned()
    assert "prometheus" not in {launch.name for own in plan.launches.values() for launch in own}


def test_the_first_frontends_host_scrapes_every_process_that_has_metrics() -> None:
    plan = planned(port=9095, retention="30d", **ON)
    launch = launch_of(plan)
    assert launch in plan.launches["localhost"]
    assert launch.argv == (
        f"/srv/wideep/opt/prometheus-{find_release().archives['prometheus']}/prometheus",
        "--config.file=/srv/wideep/services/prometheus/prometheus.yml",
        "--storage.tsdb.path=/srv/wideep/data/prometheus",
        "--storage.tsdb.retention.time=30d",
        "--web.listen-address=127.0.0.1:9095",
    )
    config = content(launch, "prometheus.yml")
    assert [job["job_name"] for job in config["scrape_configs"]] == ["frontend", "worker", "etcd"]
    assert content(launch, "targets/frontend.json") == [
        {"targets": ["127.0.0.1:8000"], "labels": {"host": "localhost"}}
    ]
    workers = content(launch, "targets/worker.json")
    assert [own["targets"] for own in workers] == [[f"127.0.0.1:{p}"] for p in (21000, 21100, 22000, 22100)]
    assert workers[-1]["labels"] == {
        "host": "localhost",
        "pool": "decode",
        "replica": "decode-1",
        "rank": "0",
    }


def test_every_rank_is_scraped_and_heads_are_counted() -> None:
    plan = planned("deepseek_r1_sglang", **ALL)
    launch = launch_of(plan)
    ranks = [own["labels"]["rank"] for own in content(launch, "targets/worker.json")]
    assert sorted(ranks) == sorted(["0", "1", "2", "3"] * 2)
    hosts = {own["labels"]["host"] for own in content(launch, "targets/dcgm.json")}
    assert hosts == set(plan.deployment.workers_of)
    assert len(content(launch, "targets/node.json")) == len(plan.deployment.hosts)
    missing = [alert.expr for alert in alerts_of(plan) if alert.name == "InstancesMissing"]
    assert [expr.split(" < ")[1] for expr in missing] == ["1", "1"]


def test_a_load_balancer_is_scraped_where_there_is_one() -> None:
    plan = with_balancer()
    launch = launch_of(plan)
    assert launch in plan.launches["control-0"]
    assert content(launch, "targets/load_balancer.json")[0]["targets"] == ["10.0.0.99:8404"]
    assert len(content(launch, "targets/frontend.json")) == 2
    assert "LoadBalancerDown" in {alert.name for alert in alerts_of(plan)}


def test_how_the_program_comes_decides_its_path() -> None:
    for given, path in (
        ({"version": "3.1.0"}, "/srv/wideep/opt/prometheus-3.1.0/prometheus"),
        ({"install_method": "package"}, "/usr/bin/prometheus"),
        ({"install_method": "existing", "binary": "/opt/p"}, "/opt/p"),
        ({"install_method": "unpack"}, "/srv/wideep/opt/prometheus-package/usr/bin/prometheus"),
    ):
        assert launch_of(planned(**ON | given)).argv[0] == path


def test_frontends_with_tls_are_asked_so_and_alertmanagers_are_told() -> None:
    files = {name: f"/etc/tls/{name}" for name in ("certificate", "key", "ca")}
    groups, hosts = local(
        wideep_tls={"http": files}, wideep_monitoring=ON | {"alertmanagers": ["alerts.example.com:9093"]}
    )
    plan = make_plan(groups, hosts)
    config = content(launch_of(plan), "prometheus.yml")
    frontend, worker, _ = config["scrape_configs"]
    assert (frontend["scheme"], frontend["tls_config"]) == ("https", {"ca_file": "/etc/tls/ca"})
    assert "scheme" not in worker
    assert config["alerting"]["alertmanagers"] == [
        {"static_configs": [{"targets": ["alerts.example.com:9093"]}]}
    ]
    assert tls_files(plan.deployment.settings, "prometheus") == {"/etc/tls/ca": False}


@pytest.mark.parametrize(
    ("given", "where", "said"),
    [
        ({"install_method": "existing", "binary": "prometheus"}, "wideep_monitoring.binary", "absolute"),
        ({"port": 8000}, "wideep_frontend_port, wideep_monitoring.port on host", "8000 is wanted"),
        ({"ports": 1}, "wideep_monitoring.ports", "unknown key"),
        ({"retention": "for ever"}, "wideep_monitoring.retention", ""),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], where: str, said: str) -> None:
    (problem,) = refusal(*local(wideep_monitoring=ON | given))
    assert problem.where.startswith(where)
    assert said in problem.message


def test_pods_have_monitors_of_their_own() -> None:
    groups, hosts = inventory("kubernetes_sglang", wideep_monitoring=ON)
    (problem,) = refusal(groups, hosts)
    assert problem.where == "wideep_monitoring.enabled"
    assert "pod_monitors" in problem.remedy


def test_a_port_beyond_the_last_is_refused() -> None:
    groups, hosts = cluster(
        wideep_engine="mocker", wideep_monitoring=ON | {"port": 65000}, wideep_port_offset=1000
    )
    assert "wideep_monitoring.port" in {problem.where for problem in refusal(groups, hosts)}


@pytest.mark.parametrize("release", releases())
def test_alerts_ask_for_metrics_that_the_release_has(release: str) -> None:
    for alert in alerts_of(planned(release=release, **ALL)):
        asked = metrics_of(alert.expr)
        assert asked, alert.expr
        assert asked <= known(release) | OTHERS, alert.name


def test_names_are_found_in_expressions() -> None:
    assert metrics_of(
        'sum by (le, host) (rate(a_bucket{x="up{}",y=~"b"}[5m])) / on (z) c:d > 1e3 or vector(0)'
    ) == {
        "a_bucket",
        "c:d",
    }
    assert metrics_of("increase(typo_total[5m] offset 5m) unless up == 0") == {"typo_total", "up"}


def test_every_alert_has_its_section_in_the_runbook() -> None:
    text = (REPOSITORY / RUNBOOK).read_text(encoding="utf-8")
    headings = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert headings == list(dict.fromkeys(headings))
    assert set(headings) == {alert.name for alert in alerts_of(with_balancer(**ALL))}


def test_rules_are_what_prometheus_reads() -> None:
    (group,) = content(launch_of(planned(**ON)), "rules.yml")["groups"]
    first = group["rules"][0]
    assert first == {
        "alert": "FrontendDown",
        "expr": 'up{job="frontend"} == 0',
        "for": "15s",
        "labels": {"severity": "critical"},
        "annotations": {
            "summary": "the frontend on {{ $labels.host }} does not answer",
            "runbook": "docs/how-to/alerts.md#frontenddown",
        },
    }
    assert json.dumps(group)
    assert prometheus.NAME == "prometheus"
