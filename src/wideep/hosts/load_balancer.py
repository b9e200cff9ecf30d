"""The launch of a load balancer: HAProxy in front of the frontends (docs/how-to/load-balancer.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from wideep.deployment.launch import File, Health, Launch, Listener
from wideep.deployment.model import Deployment
from wideep.deployment.site import Site
from wideep.problems import Problem

WHERE = "wideep_load_balancer"
NAME = "load-balancer"
START_DEADLINE_S = 30
# What a health check may take, and what a frontend may take to accept a connection.
CHECK_S, CONNECT_S = 3, 5
# A client that has begun a request sends all of it meanwhile.
REQUEST_S = 60
# A reload leaves the process that has the old configuration to its streams, for so long at most.
OLD_PROCESS_S = 24 * 3600


def check(deployment: Deployment) -> list[Problem]:
    """Return what is wrong with the load balancer's settings."""
    settings, own, tls = (
        deployment.settings,
        deployment.settings.load_balancer,
        deployment.settings.tls.http,
    )
    if not deployment.balancers:
        if own == type(own)() or settings.on_kubernetes:
            return []
        return [
            Problem(
                "the group load_balancer has no host, so it does nothing",
                WHERE,
                "add a host to the group load_balancer, or remove it",
                "warning",
            )
        ]
    problems = []
    if len(deployment.frontends) == 1:
        problems.append(
            Problem(
                "there is one frontend behind the load balancer: whatever restarts it is an outage",
                "inventory group frontend",
                "add a host to the group frontend, or remove the group load_balancer",
                "warning",
            )
        )
    if not own.binary:
        problems.append(
            Problem(
                "the HAProxy binary is not named by an absolute path",
                f"{WHERE}.binary",
                f"set {WHERE}.binary: /path/to/haproxy",
            )
        )
    if tls.certificate and not own.certificate:
        problems.append(
            Problem(
                "clients would speak plain text to the load balancer, and the frontends' API has TLS",
                f"{WHERE}.certificate",
                f"set {WHERE}.certificate: a PEM file on its hosts with certificate and key"
                " (docs/how-to/load-balancer.md)",
            )
        )
    if tls.client_ca and not own.client_certificate:
        problems.append(
            Problem(
                "the frontends ask for a certificate, and the load balancer has none to show",
                f"{WHERE}.client_certificate",
                f"set {WHERE}.client_certificate: a PEM file on its hosts with a certificate of"
                " wideep_tls.http.client_ca and its key",
            )
        )
    return problems


def _frontends(site: Site) -> Iterator[str]:
    """Return the lines that name the frontends."""
    tls, own = site.deployment.settings.tls.http, site.deployment.settings.load_balancer
    secured = ""
    if tls.certificate:
        secured = f" ssl verify required ca-file {tls.ca or '@system-ca'}"
        secured += f" crt {own.client_certificate}" if own.client_certificate else ""
    for host in site.deployment.frontends:
        yield f"    server {host.name} {host.address}:{site.frontend_port}{secured}"


def configuration(site: Site) -> str:
    """Return HAProxy's configuration, without the digest of itself that it answers."""
    settings, own = site.deployment.settings, site.deployment.settings.load_balancer
    host, tls = site.host, site.deployment.settings.tls.http
    any_address = host.address if host.loopback else "*"
    secured = f" ssl crt {own.certificate} alpn h2,http/1.1" if own.certificate else ""
    if own.certificate and tls.client_ca:
        secured += f" ca-file {tls.client_ca} verify required"
    return f"""\
# Made by wideep: changes here are overwritten.
global
    log stdout format raw local0 info
    # What a request may take of memory: it is kept until an answer begins, for another frontend.
    tune.bufsize {own.request_kb * 1024}
    # Of the process that a reload leaves to its streams.
    hard-stop-after {OLD_PROCESS_S}s

defaults
    log global
    mode http
    option httplog
    # Only what was retried or failed.
    option dontlog-normal
    # A token is worth a packet of its own.
    option http-no-delay
    timeout connect {CONNECT_S}s
    timeout check {CHECK_S}s
    timeout http-request {REQUEST_S}s
    timeout http-keep-alive 60s
    # Silence, not length: an answer that is not streamed is silent until its end.
    timeout client {own.silence_s}s
    timeout server {own.silence_s}s

frontend api
    bind {any_address}:{site.balancer_port}{secured}
    option forwardfor
    # Whole, before a frontend is asked: else it could not be sent to another one.
    option http-buffer-request
    default_backend frontends

backend frontends
    balance leastconn
    # Ready: it has prefill and decode workers for the model. A frontend that stops is not, and finishes
    # its streams.
    option httpchk
    http-check send meth GET uri /v1/models/{settings.model}/ready ver HTTP/1.1 hdr Host {NAME}
    http-check expect status 200
    # Requests of which no answer has begun.
    retry-on conn-failure empty-response 503
    retries {own.retries}
    option redispatch 1
    default-server check inter 1s fastinter 250ms fall 2 rise 1 init-addr last,libc,none
{chr(10).join(_frontends(site))}

frontend monitor
    bind {any_address}:{site.balancer_monitor_port}
    option dontlog-normal
    http-request use-service prometheus-exporter if {{ path /metrics }}
    stats enable
    stats uri /
"""


def load_balancer(site: Site) -> Launch:
    """Return the launch of HAProxy: a master that reads its configuration again on SIGUSR2."""
    deployment, own, host = site.deployment, site.deployment.settings.load_balancer, site.host
    text = configuration(site)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    # Tells which configuration runs.
    answer = (
        f'http-request return status 200 content-type application/json string \'{{"config":"{digest}"}}\''
    )
    text += f"    {answer} if {{ path /config }}\n"
    path = f"{site.service_dir(NAME)}/haproxy.cfg"
    local = host.address if host.loopback else "127.0.0.1"
    listens = host.address
    return Launch(
        name=NAME,
        component="load_balancer",
        description=f"HAProxy in front of {len(deployment.frontends)} frontends",
        argv=(own.binary, "-W", "-f", path),
        working_directory=site.service_dir(NAME),
        log_file=site.log_file(NAME),
        files=(File(path, text),),
        ports=(
            Listener("http", listens, site.balancer_port),
            Listener("monitor", listens, site.balancer_monitor_port),
        ),
        health=Health(
            "http",
            START_DEADLINE_S,
            url=f"http://{local}:{site.balancer_monitor_port}/config",
            json_path="config",
            json_value=digest,
        ),
        user=deployment.settings.service_user,
        stop_timeout_s=site.stop_timeout_s,
        # SIGTERM would cut what runs.
        stop_signal="SIGUSR1",
        reload_signal="SIGUSR2",
    )
