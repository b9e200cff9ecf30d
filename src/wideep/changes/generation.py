"""Generations of workers: a prefill worker hands its KV cache only to decode workers that are like it.

Workers of a generation share a namespace of Dynamo; a frontend pairs prefill with decode in one namespace
only, and serves each that has both. Which generation a worker is of, and what it has to have alike with the
others, stands in its command: nothing else is recorded. So a deployment that was never changed has the first
generation, without a suffix, and keeps it until something changes that must be alike.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wideep.changes.look import HostLook, ServiceLook
from wideep.deployment.launch import Launch
from wideep.deployment.model import Generation
from wideep.engines import ENGINES
from wideep.published import Published

ENDPOINT = re.compile(r"dyn://([^.]+)\..*")
PREFIX = "--namespace-prefix"
DIGITS = 8


def generation(plan: Published, looks: Mapping[str, HostLook]) -> Generation:
    """Return what the plan's workers are to be of.

    plan: made without one. A generation that runs is kept where each of its workers agrees with the plan.
    """
    planned = {name: agreement(_launch(plan, *place).to_dict()) for name, place in heads(plan).items()}
    first = {name.rpartition("-")[0]: agreed for name, agreed in reversed(planned.items())}
    running: dict[str, list[bool]] = {}
    for gang, launch in _workers(looks):
        # Hosts may have interpreters of their own: a replica is compared with itself.
        wanted = planned.get(gang, first.get(gang.rpartition("-")[0]))
        suffix = suffix_of(launch, plan.settings.namespace)
        running.setdefault(suffix, []).append(agreement(launch) == wanted)
    alike = {suffix: len(found) for suffix, found in running.items() if all(found)}
    if alike:
        most = max(alike.values())
        suffix = min(suffix for suffix, count in alike.items() if count == most)
    else:
        text = json.dumps(first, sort_keys=True)
        suffix = hashlib.sha256(text.encode()).hexdigest()[:DIGITS] if running else ""
    return Generation(suffix, prefixed=bool(suffix) or not _exact(looks))


def heads(plan: Published) -> dict[str, tuple[str, str]]:
    """Return replica -> host and service of its head."""
    return {
        replica.name: (
            replica.nodes[0].host,
            replica.name if len(replica.nodes) == 1 else f"{replica.name}-rank-0",
        )
        for pool in plan.pools
        for replica in pool.replicas
    }


def suffix_of(launch: Mapping[str, Any], namespace: str) -> str:
    """Return the generation that a head's launch registers in; of another namespace all of its name."""
    found = next((match[1] for word in launch["argv"] if (match := ENDPOINT.fullmatch(word))), namespace)
    return found[len(namespace) :].lstrip("-") if re.match(rf"{re.escape(namespace)}(-|$)", found) else found


def agreement(launch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a head's launch, in the JSON form of any version, its generation has alike."""
    argv: Sequence[str] = launch["argv"]
    at = next(
        (n for n, word in enumerate(argv[:-1]) if word == "-m" and argv[n + 1].startswith("dynamo.")), -1
    )
    if at < 0:
        return {}
    module = argv[at + 1]
    engine = next((one for one in ENGINES.values() if one.program == module), None)
    files = {file["path"]: file["content"] for file in launch.get("files") or ()}
    agreed = engine.agreement(_flags(argv[at + 2 :]), files) if engine else {}
    # The release stands in the interpreter's path, or in the image.
    image = _image(argv)
    return {"program": module, "runtime": image or argv[at - 1], **agreed}


def _image(argv: Sequence[str]) -> str:
    """Return the image of a command of podman's, its first word without dashes; '' of another command."""
    if list(argv[1:2]) != ["run"]:
        return ""
    return next((word for word in argv[2:] if not word.startswith("-")), "")


def _flags(words: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found.setdefault(name, []).extend([value] if equals else [])
        elif name:
            found[name].append(word)
    return found


def _launch(plan: Published, host: str, service: str) -> Launch:
    return next(launch for launch in plan.hosts[host].services if launch.name == service)


def _workers(looks: Mapping[str, HostLook]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the gangs that hosts have, with their heads' launches."""
    for look in looks.values():
        for service in (*look.services, *look.unplanned):
            if service.component == "worker" and not service.rank and service.launch:
                yield service.gang, service.launch


def _exact(looks: Mapping[str, HostLook]) -> bool:
    """Whether frontends are there that serve one namespace, as those of earlier versions do."""
    return any(serves_one(service) for look in looks.values() for service in look.services)


def serves_one(service: ServiceLook) -> bool:
    """Whether it is a frontend that serves exactly one namespace."""
    there = service.launch
    return service.component == "frontend" and bool(there) and PREFIX not in (there or {})["argv"]
