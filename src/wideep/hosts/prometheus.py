"""The launch of Prometheus: its configuration, its targets and its rules are all of the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from wideep import yaml_text
from wideep.deployment.launch import File, Health, Launch, Listener
from wideep.deployment.model import Deployment
from wideep.deployment.site import Site
from wideep.monitoring.rules import alerts, document
from wideep.monitoring.targets import Targets, targets
from wideep.problems import Problem

NAME = "prometheus"
WHERE = "wideep_monitoring"
DEADLINE_S = 60


def check(deployment: Deployment) -> list[Problem]:
    """Return what is wrong with `wideep_monitoring`."""
    settings = deployment.settings.monitoring
    if not settings.enabled:
        return []
    if deployment.settings.on_kubernetes:
        remedy = "remove it; wideep_kubernetes.pod_monitors tells the cluster's Prometheus"
        return [Problem("it is for hosts only", f"{WHERE}.enabled", remedy)]
    problems = []
    if settings.install_method in {"existing", "package"} and not settings.binary.startswith("/"):
        remedy = f"set {WHERE}.binary: /path/to/prometheus"
        problems.append(Problem("the program is not named by an absolute path", f"{WHERE}.binary", remedy))
    if deployment.port(settings.port) > 65535:
        remedy = "lower it, or wideep_port_offset"
        problems.append(Problem("with wideep_port_offset it passes 65535", f"{WHERE}.port", remedy))
    return problems


def binary(site: Site) -> str:
    """Return the program's path on the host, which its install method decides."""
    settings = site.deployment.settings.monitoring
    if settings.install_method == "archive":
        version = settings.version or site.deployment.release.archives[NAME]
        return f"{site.state_dir}/opt/{NAME}-{version}/{NAME}"
    if settings.install_method == "unpack":
        return f"{site.state_dir}/opt/{NAME}-package/usr/bin/{NAME}"
    return settings.binary


def launch(site: Site, launches: Mapping[str, Sequence[Launch]]) -> Launch:
    """Return what the first frontend's host runs. launches: of all hosts, whose metrics are scraped."""
    deployment, settings = site.deployment, site.deployment.settings.monitoring
    folder, data = site.service_dir(NAME), site.data_dir(NAME)
    address = site.host.address if site.host.loopback else settings.address
    port = deployment.port(settings.port)
    found = targets(deployment, launches)
    made = document(alerts(deployment, found))
    files = {
        "prometheus.yml": yaml_text.dump(_configuration(deployment, folder, found)),
        "rules.yml": yaml_text.dump(made),
        **{
            f"targets/{job}.json": json.dumps([target.group for target in own], indent=2) + "\n"
            for job, own in found.items()
        },
    }
    return Launch(
        name=NAME,
        component="prometheus",
        description="Prometheus, which scrapes the deployment",
        argv=(
            binary(site),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={data}",
            f"--storage.tsdb.retention.time={settings.retention}",
            f"--web.listen-address={address}:{port}",
        ),
        working_directory=data,
        log_file=site.log_file(NAME),
        files=tuple(File(f"{folder}/{name}", content) for name, content in files.items()),
        directories=(data,),
        ports=(Listener("http", address, port),),
        health=Health("http", DEADLINE_S, url=f"http://{address}:{port}/-/ready"),
        user=deployment.settings.service_user,
    )


def _configuration(deployment: Deployment, folder: str, found: Targets) -> dict[str, Any]:
    settings = deployment.settings.monitoring
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": f"{settings.interval_s}s",
            "scrape_timeout": f"{min(settings.interval_s, 10)}s",
            "evaluation_interval": f"{settings.interval_s}s",
            "external_labels": {"deployment": deployment.settings.deployment},
        },
        "rule_files": [f"{folder}/rules.yml"],
        "scrape_configs": [
            {"job_name": job, "file_sd_configs": [{"files": [f"{folder}/targets/{job}.json"]}]}
            | (_tls(deployment) if job == "frontend" else {})
            for job in found
        ],
    }
    if settings.alertmanagers:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": settings.alertmanagers}]}]}
    return config


def _tls(deployment: Deployment) -> dict[str, Any]:
    """Return how the frontends' API is asked where it has TLS."""
    plane = deployment.settings.tls.http
    if not plane.certificate:
        return {}
    given = {"ca_file": plane.ca, "cert_file": plane.client_certificate, "key_file": plane.client_key}
    return {"scheme": "https", "tls_config": {name: path for name, path in given.items() if path}}
