"""TLS between the processes of hosts (`wideep_tls`): who gets which file, and what does not go together.

The plan has paths only. The release's catalogue has the environment variable of each flag, and decides
whether a flag is there.
"""

from __future__ import annotations

from collections.abc import Iterator

from wideep.deployment.model import Deployment
from wideep.inventory.settings import PlaneTls, Settings
from wideep.problems import Problem
from wideep.reference.release import Release

WHERE = "wideep_tls"
# Field of a plane -> flag of Dynamo. Every process is a server and a client of requests; of NATS a client.
REQUESTS = {
    "certificate": "tcp-tls-cert-path",
    "key": "tcp-tls-key-path",
    "ca": "tcp-tls-ca-cert-path",
    "client_certificate": "tcp-tls-client-cert-path",
    "client_key": "tcp-tls-client-key-path",
    "client_ca": "tcp-tls-client-ca-cert-path",
}
NATS = {
    "ca": "nats-tls-ca-cert-path",
    "client_certificate": "nats-tls-client-cert-path",
    "client_key": "nats-tls-client-key-path",
}
HTTP = {"certificate": "tls-cert-path", "key": "tls-key-path", "client_ca": "tls-client-ca-cert-path"}
# Flag -> the variable to use instead.
FLAGS = {
    flag: f"{WHERE}.{plane}.{field}"
    for plane, flags in (("requests", REQUESTS), ("nats", NATS))
    for field, flag in flags.items()
}
HTTP_FLAGS = {flag: f"{WHERE}.http.{field}" for field, flag in HTTP.items()}
CLIENT = ("client_certificate", "client_key", "client_ca")


def variables(release: Release) -> dict[str, str]:
    """Return environment variable of every Dynamo process -> the variable of ours that decides it."""
    catalogue = release.catalogue("dynamo.frontend")
    found = ((catalogue.find(flag), variable) for flag, variable in FLAGS.items())
    return {flag.env: variable for flag, variable in found if flag and flag.env}


def environment(deployment: Deployment) -> dict[str, str]:
    """Return what every Dynamo process gets of `wideep_tls`."""
    tls, found = deployment.settings.tls, {}
    for name, variable in variables(deployment.release).items():
        _, plane, field = variable.split(".")
        found[name] = getattr(getattr(tls, plane), field)
    return {name: path for name, path in found.items() if path}


def frontend_flags(settings: Settings) -> dict[str, str | None]:
    """Return flags of the frontend for its API; None for those that are not set."""
    return {flag: getattr(settings.tls.http, field) or None for field, flag in HTTP.items()}


def files(settings: Settings, component: str) -> dict[str, bool]:
    """Return the paths that a service reads -> whether it is a private key."""
    tls = settings.tls
    if component == "etcd":
        return {}
    if component == "load_balancer":  # certificate and key in one file
        own = settings.load_balancer
        pairs = {path: True for path in (own.certificate, own.client_certificate) if path}
        return pairs | {path: False for path in (tls.http.ca, tls.http.client_ca) if path}
    if component == "prometheus":
        read = [_part(tls.http, ("ca", "client_certificate", "client_key"))]
    elif component == "nats":
        read = [_part(tls.nats, ("certificate", "key", "ca", "client_ca"))]
    else:
        read = [_part(tls.requests, REQUESTS), _part(tls.nats, NATS)]
    if component == "frontend":
        read.append(tls.http.files())
    return {path: "key" in field for part in read for field, path in part.items()}


def _part(plane: PlaneTls, fields: Iterator[str] | tuple[str, ...] | dict[str, str]) -> dict[str, str]:
    return {field: path for field, path in plane.files().items() if field in fields}


def check(deployment: Deployment) -> list[Problem]:
    """Return what of `wideep_tls` is incomplete, or cannot be."""
    settings, tls = deployment.settings, deployment.settings.tls
    planes = {"requests": tls.requests, "nats": tls.nats, "http": tls.http}
    used = [name for name, plane in planes.items() if plane.files()]
    if settings.on_kubernetes:
        remedy = "remove it; secrets and volumes of the graph are the operator's"
        return [Problem("it is for hosts only", WHERE, remedy)] if used else []
    problems = [problem for name in used for problem in _complete(name, planes[name])]
    if "requests" in used and settings.request_plane != "tcp":
        problems.append(
            Problem(
                f"requests go through {settings.request_plane}, not over TCP",
                f"{WHERE}.requests",
                "set wideep_request_plane: tcp, or remove it (wideep_tls.nats encrypts NATS)",
            )
        )
    if "nats" in used and not settings.uses_nats:
        problems.append(
            Problem(
                "nothing goes through NATS here",
                f"{WHERE}.nats",
                "remove it, or set wideep_event_plane: nats",
            )
        )
    catalogue = deployment.release.catalogue("dynamo.frontend")
    problems += [
        Problem(
            f"{catalogue.program} {catalogue.version} has no flag --{flag}",
            f"{WHERE}.http.{field}",
            "remove it, or choose a wideep_release that has the flag",
        )
        for field, flag in HTTP.items()
        if getattr(tls.http, field) and catalogue.find(flag) is None
    ]
    return problems


def _complete(name: str, plane: PlaneTls) -> Iterator[Problem]:
    where, given = f"{WHERE}.{name}", plane.files()
    needed = ("certificate", "key") if name == "http" else ("certificate", "key", "ca")
    if missing := [field for field in needed if field not in given]:
        yield Problem(
            f"{' and '.join(missing)} of it {'is' if len(missing) == 1 else 'are'} missing",
            where,
            f"set {', '.join(f'{where}.{field}' for field in missing)}, or remove {where}",
        )
    missing = [field for field in CLIENT if field not in given]
    if 0 < len(missing) < len(CLIENT):
        others = [field for field in CLIENT if field in given]
        yield Problem(
            f"{' and '.join(others)} without {' and '.join(missing)}",
            where,
            f"set {', '.join(CLIENT)}, all or none: with client_ca whoever shows no certificate is refused,"
            " and without it nobody asks for one",
        )
