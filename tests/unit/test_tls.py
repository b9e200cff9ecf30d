"""wideep_tls: who gets which file, what is refused, and what preflight and health checks make of it."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import health, host_facts
from certificates import Authority, Pair
from example_inventories import cluster, local, refusal
from servers import Quiet, serving, url

from wideep.deployment.launch import Launch
from wideep.plan import Plan, make_plan
from wideep.preflight.model import Facts, FileNeed, Host, HostFile, Needs, Settings
from wideep.preflight.tls import files
from wideep.rehearsal import rehearse
from wideep.reports.status import request

OF_SERVERS = ("certificate", "key", "ca")
OF_CLIENTS = ("client_certificate", "client_key", "client_ca")


def plane(name: str, *fields: str) -> dict[str, str]:
    return {field: f"/etc/tls/{name}-{field}.pem" for field in fields}


MUTUAL = {name: plane(name, *OF_SERVERS, *OF_CLIENTS) for name in ("requests", "nats", "http")}
ONE_WAY = {name: plane(name, *OF_SERVERS) for name in ("requests", "nats", "http")}
DYNAMO_ENV = {
    "DYN_TCP_TLS_CERT_PATH": "/etc/tls/requests-certificate.pem",
    "DYN_TCP_TLS_KEY_PATH": "/etc/tls/requests-key.pem",
    "DYN_TCP_TLS_CA_CERT_PATH": "/etc/tls/requests-ca.pem",
    "DYN_TCP_TLS_CLIENT_CERT_PATH": "/etc/tls/requests-client_certificate.pem",
    "DYN_TCP_TLS_CLIENT_KEY_PATH": "/etc/tls/requests-client_key.pem",
    "DYN_TCP_TLS_CLIENT_CA_CERT_PATH": "/etc/tls/requests-client_ca.pem",
    "NATS_TLS_CA_CERT_PATH": "/etc/tls/nats-ca.pem",
    "NATS_TLS_CLIENT_CERT_PATH": "/etc/tls/nats-client_certificate.pem",
    "NATS_TLS_CLIENT_KEY_PATH": "/etc/tls/nats-client_key.pem",
}
FRONTEND_FLAGS = {
    "--tls-cert-path": "/etc/tls/http-certificate.pem",
    "--tls-key-path": "/etc/tls/http-key.pem",
    "--tls-client-ca-cert-path": "/etc/tls/http-client_ca.pem",
}


def on(plan: Plan, host: str) -> dict[str, Launch]:
    return {launch.name: launch for launch in plan.launches[host]}


def nats_config(plan: Plan, host: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(on(plan, host)["nats"].files[0].content)
    return config


def test_every_dynamo_process_gets_its_files_and_no_other_does() -> None:
    plan = make_plan(*local(wideep_tls=MUTUAL))
    for name, launch in on(plan, "localhost").items():
        found = {k: v for k, v in launch.env.items() if "TLS" in k}
        assert found == (DYNAMO_ENV if launch.component in {"frontend", "worker"} else {}), name
    worker = on(plan, "localhost")["decode-0"]
    assert worker.env["NATS_SERVER"] == "tls://127.0.0.1:4222"
    assert worker.health.url.startswith("http://")


@pytest.mark.parametrize(("release", "address"), [("1.6.1", "10.0.0.1"), ("1.5.1", None)])
def test_answers_come_back_to_an_address_that_is_in_the_certificate(
    release: str, address: str | None
) -> None:
    shared = {"wideep_engine": "mocker", "wideep_release": release}
    groups, hosts = cluster(wideep_tls={"requests": ONE_WAY["requests"]}, **shared)
    name = "DYN_TCP_RESPONSE_STREAM_HOST"
    assert on(make_plan(groups, hosts), "control-0")["frontend"].env.get(name) == address
    # A name is nothing that it could listen on; without TLS Dynamo's own choice will do.
    hosts["control-0"]["wideep_address"] = "control-0.example.com"
    assert name not in on(make_plan(groups, hosts), "control-0")["frontend"].env
    assert name not in on(make_plan(*cluster(**shared)), "control-0")["frontend"].env


def test_the_frontend_serves_https_and_is_asked_so() -> None:
    plan = make_plan(*local(wideep_tls=MUTUAL))
    frontend = on(plan, "localhost")["frontend"]
    flags = dict(zip(frontend.argv[3::2], frontend.argv[4::2], strict=True))
    assert FRONTEND_FLAGS.items() <= flags.items()
    assert frontend.health.url == "https://127.0.0.1:8000/live"
    assert frontend.health.client_certificate == "/etc/tls/http-client_certificate.pem"
    assert frontend.health.client_key == "/etc/tls/http-client_key.pem"
    told = plan.publish()
    assert told.frontend_url == "https://127.0.0.1:8000"
    assert (
        "curl -N --cacert /etc/tls/http-ca.pem --cert /etc/tls/http-client_certificate.pem"
        " --key /etc/tls/http-client_key.pem https://127.0.0.1:8000/v1/" in request(told)
    )


def test_without_it_nothing_is_said_of_tls() -> None:
    plan = make_plan(*local(wideep_tls={"http": {}}))
    assert "tls" not in json.dumps([launch.to_dict() for launch in plan.launches["localhost"]]).lower()
    assert "curl -N http://127.0.0.1:8000/" in request(plan.publish())


def test_nats_asks_clients_where_it_knows_their_ca_and_routes_always() -> None:
    own = {"cert_file": "/etc/tls/nats-certificate.pem", "key_file": "/etc/tls/nats-key.pem"}
    one = make_plan(*cluster(wideep_tls={"nats": ONE_WAY["nats"]}))
    assert nats_config(one, "control-0")["tls"] == own
    assert "cluster" not in nats_config(one, "control-0")
    config = nats_config(make_plan(*cluster(control=3, wideep_tls={"nats": MUTUAL["nats"]})), "control-1")
    assert config["tls"] == own | {"ca_file": "/etc/tls/nats-client_ca.pem", "verify": True}
    assert config["cluster"]["tls"] == own | {"ca_file": "/etc/tls/nats-ca.pem"}


@pytest.mark.parametrize(
    ("tls", "where", "message"),
    [
        ({"http": {"certificate": "~/c.pem"}}, "wideep_tls.http.certificate", "not allowed"),
        ({"http": {"certificate": "c.pem", "key": "/k"}}, "wideep_tls.http.certificate", "not allowed"),
        ({"http": {"cert": "/c"}}, "wideep_tls.http.cert", "unknown key"),
        ({"frontend": {}}, "wideep_tls.frontend", "unknown key"),
        ({"http": {"certificate": "/c"}}, "wideep_tls.http", "key of it is missing"),
        ({"http": {"key": "/k"}}, "wideep_tls.http", "certificate of it is missing"),
        ({"nats": {"certificate": "/c", "key": "/k"}}, "wideep_tls.nats", "ca of it is missing"),
        ({"requests": {"ca": "/c"}}, "wideep_tls.requests", "certificate and key of it are missing"),
        (
            {"http": plane("http", "certificate", "key", "client_ca")},
            "wideep_tls.http",
            "client_ca without client_certificate and client_key",
        ),
        (
            {"requests": plane("requests", *OF_SERVERS, "client_certificate", "client_key")},
            "wideep_tls.requests",
            "client_certificate and client_key without client_ca",
        ),
    ],
)
def test_what_is_incomplete_is_refused(tls: dict[str, Any], where: str, message: str) -> None:
    [problem] = refusal(*local(wideep_tls=tls))
    assert problem.where == where
    assert message in problem.message


@pytest.mark.parametrize(
    ("tls", "variables", "where", "message"),
    [
        ("requests", {"wideep_request_plane": "nats"}, "wideep_tls.requests", "requests go through nats"),
        ("nats", {"wideep_event_plane": "zmq"}, "wideep_tls.nats", "nothing goes through NATS"),
        ("http", {"wideep_frontend_args": {"tls-key-path": "/k"}}, "wideep_frontend_args.tls-key-path", ""),
        (
            "requests",
            {"wideep_frontend_args": {"tcp-tls-key-path": "/k"}},
            "wideep_frontend_args.tcp-tls-key-path",
            "the plan sets it",
        ),
        (
            "requests",
            {"wideep_pools": {"decode": {"env": {"DYN_TCP_TLS_CERT_PATH": "/c"}}}},
            "wideep_pools.decode.env.DYN_TCP_TLS_CERT_PATH",
            "the plan sets it",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    tls: str, variables: dict[str, Any], where: str, message: str
) -> None:
    found = {
        problem.where: problem
        for problem in refusal(*cluster(wideep_tls={tls: ONE_WAY[tls]}, wideep_engine="mocker", **variables))
    }
    assert set(found) == {where}
    assert message in found[where].message


def test_the_release_decides_whether_the_frontend_can_ask_for_certificates() -> None:
    [problem] = refusal(*local(wideep_tls={"http": MUTUAL["http"]}, wideep_release="1.5.1"))
    assert problem.where == "wideep_tls.http.client_ca"
    assert "dynamo.frontend 1.5.1 has no flag --tls-client-ca-cert-path" in problem.message
    plan = make_plan(*local(wideep_tls=MUTUAL | {"http": ONE_WAY["http"]}, wideep_release="1.5.1"))
    assert DYNAMO_ENV.items() <= on(plan, "localhost")["decode-0"].env.items()


def test_pods_have_none_of_it() -> None:
    groups, hosts = {"kubernetes": ["localhost"]}, {"localhost": {"ansible_connection": "local"}}
    hosts["localhost"] |= {"wideep_platform": "kubernetes", "wideep_tls": {"http": ONE_WAY["http"]}}
    assert "wideep_tls" in {problem.where for problem in refusal(groups, hosts)}


def test_a_container_sees_the_files_of_its_service_only() -> None:
    plan = make_plan(
        *cluster(
            wideep_tls=MUTUAL,
            wideep_engine="mocker",
            wideep_runtime="container",
            wideep_image="registry.example.com/dynamo@sha256:" + "0" * 64,
        )
    )
    worker, frontend = on(plan, "decode-0")["decode-0"], on(plan, "control-0")["frontend"]
    assert set(DYNAMO_ENV.values()) == mounted(worker)
    assert set(DYNAMO_ENV.values()) | set(MUTUAL["http"].values()) == mounted(frontend)


def mounted(launch: Launch) -> set[str]:
    return {
        word.split("=")[1].split(":")[0]
        for word in launch.argv
        if word.startswith("--volume=/etc/tls") and word.endswith(":ro")
    }


def test_a_rehearsal_on_this_machine_has_no_tls() -> None:
    groups, hosts = cluster(wideep_tls=MUTUAL, wideep_engine="mocker")
    rehearsal = rehearse(groups, hosts, directory="/tmp/rehearsal", python="/usr/bin/python3")
    assert rehearsal.real.site.frontend_url.startswith("https://")
    assert rehearsal.simulated.site.frontend_url.startswith("http://")


def test_the_plan_says_which_files_a_host_needs() -> None:
    plan = make_plan(*cluster(wideep_tls=MUTUAL, wideep_engine="mocker", wideep_service_user="dynamo"))
    hosts = {host.name: plan.on(host).needs for host in plan.deployment.hosts}
    workers = {need.path: need.private for need in hosts["decode-0"].files}
    assert workers == {path: path.endswith("key.pem") for path in DYNAMO_ENV.values()}
    everything = {path for files in MUTUAL.values() for path in files.values()}
    assert {need.path for need in hosts["control-0"].files} == everything
    assert hosts["decode-0"].user == "dynamo"


def test_the_state_of_a_file_as_a_host_has_it(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    assert host_facts._file(str(file), "")["error"] == "no such file or directory"
    file.touch(mode=0o640)
    assert host_facts._file(str(file), "") == {"path": str(file), "error": "", "mode": 0o640}
    assert "is a directory" in host_facts._file(str(tmp_path), "")["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_root_looks_as_the_services_user() -> None:
    assert host_facts._file("/etc/passwd", "nobody")["error"] == ""
    assert host_facts._file("/etc/shadow", "nobody")["error"] == "permission denied"
    assert host_facts._file("/etc/passwd", "no-such-user")["error"] == "the host has no user no-such-user"


def test_preflight_names_files_that_lack_or_are_open() -> None:
    needs = Needs(files=(FileNeed("/c"), FileNeed("/k", private=True)), user="dynamo")
    facts = Facts(
        user="root",
        root=True,
        pythons=(),
        memory=None,  # type: ignore[arg-type]
        limits={},
        listeners=(),
        ephemeral=None,  # type: ignore[arg-type]
        clock=None,  # type: ignore[arg-type]
        files=(HostFile("/c", mode=0o644), HostFile("/k", mode=0o640)),
    )

    def found(*seen: HostFile) -> list[tuple[str, str]]:
        host = Host("a", replace(facts, files=seen), needs)
        return [(check.status, check.seen) for check in files(host, Settings())]

    good = (HostFile("/c", mode=0o644), HostFile("/k", mode=0o640))
    assert found(*good) == [("ok", "2 files readable for dynamo")]
    assert found(good[0], HostFile("/k", mode=0o644)) == [("fail", "/k has mode 0644")]
    assert found(HostFile("/c", "permission denied"), good[1]) == [("fail", "/c: permission denied")]
    assert found() == []


class Live(Quiet):
    def do_GET(self) -> None:
        self.answer(200)


def https(server: ThreadingHTTPServer, authority: Authority, shown: Pair, *, asks: bool) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(shown.certificate, shown.key)
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    server.socket = context.wrap_socket(server.socket, server_side=True)


@pytest.mark.parametrize("asks", [False, True])
def test_health_is_asked_over_https(tmp_path: Path, *, asks: bool) -> None:
    authority = Authority(tmp_path)
    # For a name that clients use, not for the address that the host itself asks.
    shown, client = authority.issue("api.example.com", of="client"), authority.issue("client", of="client")
    with serving(Live) as server:
        https(server, authority, shown, asks=asks)
        launch = {"kind": "http", "url": url(server, "https"), "json_path": ""}
        known = launch | {"client_certificate": client.certificate, "client_key": client.key}
        assert health.check(known, 1) == (True, "HTTP 200")
        assert health.check(launch, 1)[0] is not asks
        plain, said = health.check(launch | {"url": url(server)}, 1)
        assert not plain
        assert said.startswith(f"port {server.server_port}: ")
