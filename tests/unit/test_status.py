"""Texts for people: status, summary, removal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from example_inventories import local

from wideep.deployment.launch import Health, Launch, Listener
from wideep.plan import make_plan
from wideep.published import Expected
from wideep.reports.status import missing, removal, status_report, status_table, summary

PORTS = [{"port": 8000}, {"port": 8001}]


def launch(name: str) -> Launch:
    ports = (Listener("a", "192.0.2.1", 8000), Listener("b", "192.0.2.1", 8001))
    return Launch(name, "worker", name, ("/bin/x",), "/srv", "/srv/log", Health("process", 10), ports=ports)


MADE = make_plan(*local()).publish()
ON_HOST = replace(
    MADE.hosts["localhost"],
    state_dir="/var/lib/wideep",
    launches={"nats": (launch("nats"),), "worker": (launch("prefill-0"),)},
)
PLAN = replace(
    MADE,
    deployment="prod",
    frontend_url="http://192.0.2.1:8000",
    settings=MADE.settings.model_copy(update={"model": "deepseek-ai/DeepSeek-R1"}),
    expected={"prefill": Expected("prefill", "dynamo", 1), "decode": Expected("backend", "dynamo", 2)},
    hosts={"a": ON_HOST},
)


def service(name: str, **over: Any) -> dict[str, Any]:
    row = {
        "name": name,
        "state": "running",
        "healthy": True,
        "health_detail": "ok",
        "pid": 42,
        "uptime_s": 3700.0,
        "restarts": 0,
        "rss_bytes": 3 * 1024**3,
        "ports": PORTS,
        "log_file": f"/var/lib/wideep/log/{name}.log",
    }
    return row | over


GOOD = {"a": [service("nats"), service("prefill-0")]}
INSTANCES = [
    {"component": "prefill", "endpoint": "generate", "namespace": "dynamo"},
    {"component": "backend", "endpoint": "generate", "namespace": "dynamo"},
    {"component": "backend", "endpoint": "generate", "namespace": "other"},
    {"component": "backend", "endpoint": "clear", "namespace": "dynamo"},
]


def test_a_line_holds_what_an_operator_looks_for() -> None:
    line = status_table({"a": [service("nats", restarts=None)]}).splitlines()[1]
    expected = ["a", "nats", "running", "healthy", "42", "1h1m", "-", "3.0G", "8000,8001"]
    assert line.split() == [*expected, "/var/lib/wideep/log/nats.log"]


def test_a_stopped_service_has_no_process_columns() -> None:
    line = status_table({"a": [service("nats", state="stopped", healthy=None, pid=0)]}).splitlines()[1]
    assert line.split()[2:8] == ["stopped", "-", "-", "-", "0", "-"]


def test_registrations_are_counted_by_component_endpoint_and_namespace() -> None:
    text = status_report(PLAN, GOOD, INSTANCES).text
    assert "registered at the frontend: prefill 1 of 1, decode 1 of 2" in text
    assert "decode: 1 workers are registered, 2 are planned" in text
    assert "are healthy" not in text
    whole = status_report(PLAN, GOOD, [*INSTANCES, INSTANCES[1]])
    assert "all 2 services are healthy; frontend: http://192.0.2.1:8000" in whole.text
    assert whole.findings == ()


def registered_at(address: str, namespace: str = "dynamo") -> dict[str, Any]:
    transport = {"tcp": f"{address}/1f/dynamo/backend/generate"}
    kind = {"component": "backend", "endpoint": "generate", "namespace": namespace}
    return {**kind, "instance_id": 7, "transport": transport}


def test_workers_that_are_registered_and_not_planned_have_a_row() -> None:
    ours, other = registered_at("192.0.2.1:8000"), registered_at("192.0.2.9:22001")
    near = registered_at("192.0.2.1:22001")
    status = status_report(PLAN, GOOD, [INSTANCES[0], ours, other, near])
    lines = [line.split() for line in status.text.splitlines() if "UNPLANNED" in line]
    assert [line[:4] for line in lines] == [
        ["192.0.2.9", "backend", "registered", "UNPLANNED"],
        ["192.0.2.1", "backend", "registered", "UNPLANNED"],
    ]
    assert [row["instance_id"] for row in status.services["192.0.2.9"]] == [7]
    assert "backend on 192.0.2.9: instance 7 of dynamo/backend is registered and not planned; stop it" in (
        status.text
    )
    assert "decode: 3 workers are registered, 2 are planned" in status.findings
    # Somebody else's, in their namespace, is shown and no fault of ours.
    two = [INSTANCES[0], ours, {**ours, "instance_id": 8}]
    status = status_report(PLAN, GOOD, [*two, registered_at("192.0.2.9:22001", "theirs")])
    assert "not in our namespace" in status.services["192.0.2.9"][0]["health_detail"]
    assert status.findings == ()


def test_services_that_are_not_planned_are_said() -> None:
    more = {"a": [*GOOD["a"], service("decode-9")]}
    said = "decode-9 on a: there, but not planned; playbooks/site.yml stops and removes it"
    assert said in status_report(PLAN, more, []).findings


def test_a_silent_frontend_is_said() -> None:
    text = status_report(PLAN, GOOD, None).text
    assert "registered: unknown, the frontend at http://192.0.2.1:8000 does not answer" in text
    assert "are healthy" not in text


def test_unhealthy_and_absent_services_are_explained() -> None:
    bad = {
        "a": [service("nats", healthy=False, state="failed", health_detail="port 4222: connection refused")]
    }
    text = status_report(PLAN, bad, []).text
    assert "nats on a: failed; port 4222: connection refused; log: /var/lib/wideep/log/nats.log" in text
    assert "prefill-0 on a: planned, but not there; run playbooks/site.yml" in text
    assert "are healthy" not in text
    assert missing(PLAN, {"a": []}) == [("a", "nats"), ("a", "prefill-0")]
    # Of a host that did not answer nobody knows.
    assert missing(PLAN, {}) == []
    assert status_report(PLAN, {}, []).text == ""
    two = replace(PLAN, hosts={**PLAN.hosts, "b": replace(ON_HOST, launches={})})
    partial = status_report(two, GOOD, INSTANCES).text
    assert "are healthy" not in partial


def test_nothing_deployed_says_what_deploys() -> None:
    for found in ({"a": []}, {"a": [service("nats", state="absent", healthy=None)]}):
        assert status_report(PLAN, found, None).text.startswith(
            "prod: nothing is deployed on these hosts; `make up`"
        )


def test_the_summary_ends_with_a_request_to_copy() -> None:
    verified = {"ttft_s": 0.1234, "itl_s": 0.0061, "completion_tokens": 16, "text": " words\nthat  follow "}
    text = summary(PLAN, GOOD, verified)
    assert "deepseek-ai/DeepSeek-R1 serves at http://192.0.2.1:8000" in text
    assert "first token after 123 ms, 6.1 ms between tokens, 16 tokens streamed (simulated" in text
    assert "  words that follow\n" in text
    assert text.splitlines()[-3] == "  curl -N http://192.0.2.1:8000/v1/chat/completions \\"
    assert '"stream": true' in text.splitlines()[-1]


def test_without_frontends_in_the_limit_the_summary_says_that_it_proved_nothing() -> None:
    text = summary(PLAN, GOOD, None)
    assert "prefill-0" in text
    assert text.endswith(
        "not verified, --limit leaves the frontends out: playbooks/verify.yml (`wideep verify`) does it\n"
    )


def test_a_real_engine_is_not_called_simulated_and_one_token_has_no_interval() -> None:
    verified = {"ttft_s": 0.1, "itl_s": None, "completion_tokens": 1, "text": "x"}
    text = summary(replace(PLAN, engine="sglang", simulated=False), GOOD, verified)
    assert "first token after 100 ms, 1 tokens streamed:" in text


def test_a_removal_names_what_went_and_what_stayed() -> None:
    text = removal(
        PLAN,
        {"a": {"existed": True, "removed": ["/var/lib/wideep/data"], "left": ["/var/lib/wideep/notes.txt"]}},
    )
    assert "a: stopped and removed the services of prod, and /var/lib/wideep/data" in text
    assert "left, because wideep did not make it: /var/lib/wideep/notes.txt" in text
    kept = replace(PLAN, keep_state=True)
    text = removal(kept, {"a": {"existed": True, "removed": [], "left": []}})
    assert text.splitlines() == [
        "a: stopped and removed the services of prod",
        "kept below /var/lib/wideep: data, logs, environments and models",
    ]


def test_other_ports_than_planned_are_said() -> None:
    moved = {"a": [service("nats", ports=[{"port": 9000}]), service("prefill-0")]}
    text = status_report(PLAN, moved, INSTANCES).text
    assert "nats on a: runs with ports 9000, the inventory says 8000,8001; run playbooks/site.yml" in text
    assert "are healthy" not in text


def test_a_removal_that_only_would_be_and_one_of_nothing() -> None:
    text = removal(PLAN, {"a": {"existed": True, "removed": ["/x"], "left": []}}, check=True)
    assert text == "a: would stop and remove the services of prod, and /x\n"
    nothing = {"a": {"existed": False, "removed": [], "left": []}}
    assert removal(PLAN, nothing) == "a: nothing of prod was there, in /var/lib/wideep\n"
