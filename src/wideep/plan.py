"""The plan: a checked deployment with every Launch of every host. Built once, printed everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from wideep import published
from wideep.deployment import tls
from wideep.deployment.build import examine
from wideep.deployment.launch import Launch
from wideep.deployment.model import Deployment, Generation, Host, Kept, Pool
from wideep.deployment.site import WORKER_ENV, Site
from wideep.engines import ENGINES
from wideep.engines.base import Engine
from wideep.hosts import container, control_plane, gang, load_balancer, prometheus
from wideep.hosts.needs import HostPlan
from wideep.inventory.model_source import check as check_model_source
from wideep.inventory.model_source import model_source
from wideep.inventory.secrets import check_env_names, is_plain, looks_secret
from wideep.kubernetes import check as pods
from wideep.kubernetes import schema
from wideep.kubernetes.manifests import Manifests, make
from wideep.kubernetes.site import HTTP_PORT, PodSite
from wideep.problems import Problem, RefusedError, errors, raise_errors, suggest
from wideep.published import Expected, Objects, OnHost, Published
from wideep.reference.catalogue import Catalogue

COMPONENTS = ("nats", "etcd", "frontend", "load_balancer", "worker", "prometheus")
# What wideep_runtime is about; the control plane has installation methods of its own.
IN_CONTAINERS = ("frontend", "worker")
# A long answer takes minutes; a worker that gets less to finish cuts it.
SHORT_DRAIN_S = 60
# Which variable moves a port that two services of a host want.
PORT_VARIABLES = {
    ("nats", "client"): "nats_port",
    ("nats", "monitor"): "nats_monitor_port",
    ("nats", "cluster"): "nats_cluster_port",
    ("etcd", "client"): "etcd_client_port",
    ("etcd", "peer"): "etcd_peer_port",
    ("frontend", "http"): "wideep_frontend_port",
    ("load_balancer", "http"): "wideep_load_balancer.port",
    ("load_balancer", "monitor"): "wideep_load_balancer.monitor_port",
    ("prometheus", "http"): "wideep_monitoring.port",
}


@dataclass(frozen=True)
class Plan:
    """A deployment, its engine, and host name -> launches in start order."""

    deployment: Deployment
    engine: Engine
    launches: dict[str, tuple[Launch, ...]]
    warnings: tuple[Problem, ...]

    @property
    def site(self) -> Site:
        """Return the places and addresses as the first frontend's host has them."""
        return site_of(self.deployment, self.deployment.frontends[0])

    @cached_property
    def manifests(self) -> Manifests | None:
        """Return what Kubernetes gets; None on hosts."""
        if not self.deployment.settings.on_kubernetes:
            return None
        return make(self.deployment, self.engine, self.launches)

    @property
    def expected(self) -> dict[str, Expected]:
        """Return pool -> what must register of it."""
        return {
            pool.name: Expected(
                self.engine.components[pool.name],
                self.site.namespace,
                len(pool.replicas),
                self.site.generations,
            )
            for pool in self.deployment.pools
        }

    def on(self, host: Host) -> HostPlan:
        """Return what of the plan is one host's."""
        return HostPlan(self.deployment, self.engine, self.launches, host)

    def publish(self) -> Published:
        """Return what Ansible gets."""
        settings = self.deployment.settings
        return Published(
            deployment=settings.deployment,
            engine=self.engine.name,
            simulated=self.engine.simulated,
            one_machine=self.deployment.one_machine,
            keep_state=not self.deployment.one_machine
            if settings.keep_state == "auto"
            else settings.keep_state,
            keepers=() if settings.on_kubernetes else self._keepers,
            model_source=model_source(settings),
            image=container.image_of(self.deployment, self.engine),
            settings=settings,
            release=self._release(),
            frontend_url=self.site.frontend_url,
            expected=self.expected,
            notes=self.warnings,
            pools=tuple(published.Pool(pool.name, self._replicas(pool)) for pool in self.deployment.pools),
            kubernetes=self._objects(),
            hosts={}
            if settings.on_kubernetes
            else {host.name: self._on_host(host) for host in self.deployment.hosts},
        )

    @property
    def _keepers(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.deployment.control or self.deployment.frontends)

    def _release(self) -> published.Release:
        own = self.deployment.release
        locks = str(own.directory / "locks")
        return published.Release(own.dynamo, own.engines, own.packages, own.archives, own.chart, locks)

    def _replicas(self, pool: Pool) -> tuple[published.Replica, ...]:
        return tuple(
            published.Replica(
                replica.name,
                replica.world_size,
                tuple(published.Part(node.host.name, node.rank, node.gpus) for node in replica.nodes),
            )
            for replica in pool.replicas
        )

    def _objects(self) -> Objects | None:
        if self.manifests is None:
            return None
        settings = self.deployment.settings
        service = f"{settings.deployment}-frontend"
        frontend = published.Service(
            settings.kubernetes.namespace, service, HTTP_PORT, settings.deployment, settings.graph_api
        )
        node = self.deployment.hosts[-1]
        return Objects(self.manifests.model, self.manifests.graph, node.gpu, node.own_card, frontend)

    def _on_host(self, host: Host) -> OnHost:
        settings, site, on = self.deployment.settings, Site(self.deployment, host), self.on(host)
        return OnHost(
            address=host.address,
            state_dir=host.state_dir,
            owner=published.Owner(host.state_dir, settings.deployment, settings.service_manager),
            model_path=site.model_path,
            python=host.python,
            secret_files=on.secret_files,
            software=on.software,
            packages=on.packages,
            together=on.together,
            nats_routes=tuple(site.nats_routes),
            launches={
                component: tuple(launch for launch in on.own if launch.component == component)
                for component in COMPONENTS
            },
            needs=on.needs,
        )


def site_of(deployment: Deployment, host: Host) -> Site:
    """Return a host of the deployment's platform as a place."""
    return (PodSite if deployment.settings.on_kubernetes else Site)(deployment, host)


def make_plan(
    groups: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Mapping[str, Any]],
    kept: Sequence[Kept] = (),
    generation: Generation | None = None,
) -> Plan:
    """Build the deployment, let the engine and the catalogues judge it, and make every launch.

    Args: see `wideep.deployment.build.examine`. generation: that of the workers
        (`wideep.changes.generation`); unset, the first.

    Raises:
        RefusedError: with every problem found.
    """
    deployment, problems = _examined(groups, hosts, kept, generation)
    problems += control_plane.check(deployment) + load_balancer.check(deployment)
    problems += prometheus.check(deployment)
    name = deployment.settings.engine
    engine = ENGINES.get(name)
    if engine is None:
        problems.append(Problem(f"unknown engine {name!r}", "wideep_engine", suggest(name, ENGINES)))
        raise RefusedError(errors(problems))
    release = deployment.release
    try:
        catalogue, frontend = release.catalogue(engine.program), release.catalogue("dynamo.frontend")
    except FileNotFoundError as missing:
        remedy = "choose a release that has it, or another wideep_engine"
        raise RefusedError([*errors(problems), Problem(str(missing), "wideep_release", remedy)]) from missing
    own_env = WORKER_ENV | tls.variables(release)
    problems += tls.check(deployment)
    problems += engine.check(deployment)
    problems += _check_drain(deployment, engine)
    if deployment.settings.on_kubernetes:
        problems += pods.check(deployment, engine)
    else:
        problems += check_model_source(deployment.settings, simulated=engine.simulated)
        problems += container.check(deployment, engine)
    for pool in deployment.pools:
        where = f"wideep_pools.{pool.name}"
        problems += catalogue.check_options(pool.settings.extra_args, f"{where}.extra_args")
        problems += _check_no_secret_flags(pool.settings.extra_args, f"{where}.extra_args")
        problems += release.check_environment(pool.settings.env, f"{where}.env")
        problems += [
            Problem(
                "a secret would be shown by plan and render", f"{where}.env.{name}", "put it into secrets_env"
            )
            for name, value in pool.settings.env.items()
            if looks_secret(name) and not is_plain(value)
        ]
        problems += [
            Problem("it is in secrets_env too", f"{where}.env.{name}", "remove one of the two")
            for name in pool.settings.env
            if name in deployment.settings.secrets_env
        ]
        problems += [
            Problem("the plan sets it", f"{where}.env.{name}", f"remove it, use {own_env[name]}")
            for name in pool.settings.env
            if name in own_env
        ]
    problems += check_env_names(deployment.settings.secrets_env, own_env)
    problems += frontend.check_options(deployment.settings.frontend_args, "wideep_frontend_args")
    problems += _check_no_secret_flags(deployment.settings.frontend_args, "wideep_frontend_args")
    raise_errors(problems)
    launches = _launches(deployment, engine)
    problems += _clashes(launches)
    for pool in deployment.pools:
        head = pool.replicas[0].head
        launch = engine.launch(site_of(deployment, head.host), pool, pool.replicas[0], head)
        assert launch is not None, "the head of a replica has a service"
        if deployment.settings.on_kubernetes:
            problems += pods.check_words(pool, launch)
        # Warnings of what stands in extra_args have been given above.
        problems += _ours(catalogue, launch) or errors(
            catalogue.check_argv(_arguments(launch), f"wideep_pools.{pool.name}.options")
        )
    for host in deployment.frontends[:1]:
        site = site_of(deployment, host)
        problems += control_plane.check_frontend(site, control_plane.frontend(site))
    raise_errors(problems)
    plan = Plan(deployment, engine, launches, tuple(dict.fromkeys(problems)))
    if plan.manifests:
        raise_errors(schema.check((*plan.manifests.model, *plan.manifests.graph), deployment.release))
    return plan


def _examined(
    groups: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Mapping[str, Any]],
    kept: Sequence[Kept],
    generation: Generation | None,
) -> tuple[Deployment, list[Problem]]:
    deployment, problems = examine(groups, hosts, kept)
    if deployment is None:
        raise RefusedError(errors(problems))
    return replace(deployment, generation=generation or Generation()), problems


def _check_drain(deployment: Deployment, engine: Engine) -> list[Problem]:
    """Return a warning where a stopping worker of a real engine cuts what it generates."""
    seconds = deployment.settings.drain_timeout_s
    if engine.simulated or seconds >= SHORT_DRAIN_S:
        return []
    return [
        Problem(
            f"a worker that stops gets {seconds} s for its requests: longer answers are cut",
            "wideep_drain_timeout_s",
            f"use more than the longest answer takes, at least {SHORT_DRAIN_S}",
            "warning",
        )
    ]


def _check_no_secret_flags(arguments: Mapping[str, Any], where: str) -> list[Problem]:
    """Return a problem for each flag whose value would be read in `ps` by every user of a host."""
    return [
        Problem(
            "a secret would be shown by plan and render, and in the process's arguments",
            f"{where}.{name}",
            "remove it: clients reach the frontend, not the engine's own server; what a worker itself needs"
            " goes into secrets_env, a key for clients into a proxy of yours in front of it",
        )
        for name in arguments
        if looks_secret(name)
    ]


def _ours(catalogue: Catalogue, launch: Launch) -> list[Problem]:
    """Return a problem for each flag that the release lacks. extra_args were judged before: it is ours."""
    return [
        Problem(
            f"wideep sets {name}, and {catalogue.program} {catalogue.version} has no such flag",
            f"the engine's code for {launch.description}",
            "it is a fault of wideep, not of the inventory: report it, or use another wideep_release",
        )
        for name in catalogue.strangers(_arguments(launch))
    ]


def _arguments(launch: Launch) -> tuple[str, ...]:
    """Return the argv after `python -m module`."""
    return launch.argv[launch.argv.index("-m") + 2 :]


def _launches(deployment: Deployment, engine: Engine) -> dict[str, tuple[Launch, ...]]:
    """Return every host's launches in start order."""
    sites = {host.name: site_of(deployment, host) for host in deployment.hosts}
    launches: dict[str, list[Launch]] = {host.name: [] for host in deployment.hosts}
    for host in deployment.control:
        if deployment.settings.uses_nats:
            launches[host.name].append(control_plane.nats(sites[host.name]))
        if deployment.settings.uses_etcd:
            launches[host.name].append(control_plane.etcd(sites[host.name]))
    for host in deployment.frontends:
        launches[host.name].append(control_plane.frontend(sites[host.name]))
    for host in deployment.balancers:
        launches[host.name].append(load_balancer.load_balancer(sites[host.name]))
    for pool in deployment.pools:
        for replica in pool.replicas:
            own = [
                (node, launch)
                for node in replica.nodes
                if (launch := engine.launch(sites[node.host.name], pool, replica, node)) is not None
            ]
            parts = engine.parts if max(len(node.gpus) for node, _ in own) > 1 else ()
            # On Kubernetes the operator holds the pods of a replica together.
            bound = (len(own) > 1 or bool(parts)) and not deployment.settings.on_kubernetes
            family = gang.family([launch for _, launch in own]) if bound else ""
            watched = engine.watched if not all(launch.argv for _, launch in own) else None
            for node, launch in own:
                site = sites[node.host.name]
                launches[node.host.name].append(
                    gang.bind(site, replica, node, launch, family, watched=watched, parts=parts)
                    if bound
                    else launch
                )
    if deployment.settings.in_container:
        image = container.image_of(deployment, engine)
        launches = {
            host: [
                container.wrap(sites[host], launch, image) if launch.component in IN_CONTAINERS else launch
                for launch in own
            ]
            for host, own in launches.items()
        }
    if deployment.settings.monitoring.enabled and not deployment.settings.on_kubernetes:
        first = deployment.frontends[0].name
        launches[first].append(prometheus.launch(sites[first], launches))
    return {host: tuple(own) for host, own in launches.items()}


def _clashes(launches: Mapping[str, Sequence[Launch]]) -> list[Problem]:
    problems = []
    for host, own in launches.items():
        owner: dict[int, tuple[Launch, str]] = {}
        for launch in own:
            for listener in launch.ports:
                if listener.port in owner:
                    other, purpose = owner[listener.port]
                    variables = sorted(
                        {
                            PORT_VARIABLES.get((x.component, p), "wideep_worker_port_base")
                            for x, p in ((launch, listener.purpose), (other, purpose))
                        }
                    )
                    problems.append(
                        Problem(
                            f"port {listener.port} is wanted by {other.name} ({purpose})"
                            f" and {launch.name} ({listener.purpose})",
                            f"{', '.join(variables)} on host {host}",
                            "give each its own port",
                        )
                    )
                owner.setdefault(listener.port, (launch, listener.purpose))
    return problems
