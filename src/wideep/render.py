"""A plan for people: one table, or a directory with what every host would get."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from wideep import programs
from wideep.deployment.model import Node, Replica
from wideep.kubernetes.manifests import Manifests, to_yaml
from wideep.plan import Plan
from wideep.problems import together
from wideep.reports.text import print_table


def table(plan: Plan) -> str:
    """Return the plan for a person: one line a service."""
    settings = plan.deployment.settings
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("HOST", "SERVICE", "POOL", "RANK", "GPUS", "PORTS"):
        rows.add_column(column, no_wrap=column != "PORTS")
    place = {
        (node.host.name, replica.service(node)): (replica, node) for replica, node in plan.deployment.workers
    }
    for host in plan.deployment.hosts:
        for launch in plan.launches[host.name]:
            replica, node = place.get((host.name, launch.name), (None, None))
            rows.add_row(
                host.name,
                launch.name,
                replica.pool if replica else "-",
                f"{node.rank} of {len(replica.nodes)}" if replica and node else "-",
                ",".join(map(str, node.gpus)) if node else "-",
                "-"
                if settings.on_kubernetes  # the operator's
                else " ".join(f"{p.purpose}:{p.port}" for p in launch.ports),
            )
        for replica, node in plan.deployment.workers_of.get(host.name, ()):
            if not _has_service(plan, replica, node):
                rows.add_row(
                    host.name,
                    f"(started by {replica.service(replica.head)})",
                    replica.pool,
                    f"{node.rank} of {len(replica.nodes)}",
                    ",".join(map(str, node.gpus)),
                    "-",
                )
    pools = ", ".join(
        f"{len(pool.replicas)} {pool.name} x {_counted(len(pool.replicas[0].nodes), 'node')}"
        f" ({_counted(pool.replicas[0].world_size, 'GPU')} each)"
        for pool in plan.deployment.pools
    )
    flavour = f" ({settings.engine_flavour} flavour)" if plan.engine.simulated else ""
    release = plan.deployment.release
    engine = f", {plan.engine.package} {release.engines[plan.engine.package]}" if plan.engine.package else ""
    head = (
        f"{settings.deployment}: {settings.model} with {plan.engine.name}{flavour}\n"
        f"release: Dynamo {release.dynamo}{engine}\n"
        f"pools: {pools}\n"
        f"planes: discovery {settings.discovery}, requests {settings.request_plane},"
        f" events {settings.event_plane}; router {settings.router_mode}\n"
        f"{_places(plan)}\n"
    )
    memory = plan.engine.memory(plan.deployment)
    head += "".join(f"memory of each GPU of {name}, {budget.text}\n" for name, budget in memory.items())
    notes = "".join(f"\nwarning: {warning}" for warning in together(plan.warnings))
    return head + "\n" + print_table(rows) + notes


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _places(plan: Plan) -> str:
    settings = plan.deployment.settings
    if settings.on_kubernetes:
        own = settings.kubernetes
        return f"Kubernetes: namespace {own.namespace}, DynamoGraphDeployment in {settings.graph_api}"
    directories = ", ".join(dict.fromkeys(host.state_dir for host in plan.deployment.hosts))
    return f"frontend: {plan.site.frontend_url}; state on each host: {directories}"


def _has_service(plan: Plan, replica: Replica, node: Node) -> bool:
    return any(launch.name == replica.service(node) for launch in plan.launches[node.host.name])


def render(plan: Plan, directory: Path) -> list[Path]:
    """Write what every host would get: `<dir>/<host>/<service>/launch.json` and the files beside it.

    Programs lie once in `<dir>/<host>/programs`. Returns the paths written; a directory of an earlier
    rendering keeps no service that this plan lacks.
    """
    if plan.manifests:
        return _render_manifests(plan, directory, plan.manifests)
    written = []
    for host, launches in plan.launches.items():
        for launch in launches:
            data = launch.to_dict()
            contents = {"launch.json": json.dumps(data, indent=2) + "\n"}
            contents |= {Path(f["path"]).name: f["content"] for f in data["files"]}
            written += _fill(directory / host / launch.name, {k: v.encode() for k, v in contents.items()})
        called = {programs.program(file.name) for launch in launches for file in launch.programs}
        written += _fill(directory / host / programs.DIRECTORY, {one.file: one.content for one in called})
    rendered = {path: path.parents[1] for path in directory.glob("*/*/launch.json")}
    for launch_file in rendered.keys() - written:
        _fill(launch_file.parent, {})
    for folder in set(rendered.values()):
        if folder.name not in plan.launches:
            _fill(folder / programs.DIRECTORY, {})
        if not any(folder.iterdir()):
            folder.rmdir()
    return written


def _fill(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Have just these files in a directory, and no directory without files; return the files."""
    if contents:
        folder.mkdir(parents=True, exist_ok=True)
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in contents:
            path.unlink()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    if folder.is_dir() and not contents:
        folder.rmdir()
    return [folder / name for name in contents]


def _render_manifests(plan: Plan, directory: Path, manifests: Manifests) -> list[Path]:
    """Write `<dir>/<namespace>/<deployment>/{model,graph}/`: a file of objects and a kustomization each.

    Two, because the graph waits for the model: Flux by dependsOn, Argo CD by waves, people by `kubectl wait`.
    """
    settings = plan.deployment.settings
    folder = directory / settings.kubernetes.namespace / settings.deployment
    written = []
    for name, objects in (("model", manifests.model), ("graph", manifests.graph)):
        texts = {f"{name}.yaml": to_yaml(objects), "kustomization.yaml": to_yaml([_kustomization(name)])}
        for file, text in texts.items():
            path = folder / name / file
            if objects:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                written.append(path)
            else:
                path.unlink(missing_ok=True)
    return written


def _kustomization(name: str) -> dict[str, Any]:
    """Return what makes a folder with one file of objects a base of Kustomize."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{name}.yaml"],
    }
