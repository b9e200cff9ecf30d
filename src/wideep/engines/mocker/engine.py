"""`dynamo.mocker`: Dynamo's own simulated engine. Same registration, router and disaggregated path, no GPU.

It stands for SGLang or TensorRT-LLM (`wideep_engine_flavour`): KV blocks, bootstrap and scheduling follow the
flavour; timing and text do not say anything about the real engines. It is one process a replica, on its head.
On the replica's other hosts a stand-in has each rank's place.
"""

from __future__ import annotations

from typing import Any

from wideep.deployment.launch import Health, Launch, Listener
from wideep.deployment.model import Deployment, Node, Pool, Replica
from wideep.deployment.site import Site
from wideep.engines.base import Engine
from wideep.engines.mocker.options import (
    OPTIONS,
    SHARED_BOOTSTRAP,
    block_size,
    extra_flags,
    machine_is_shared,
)
from wideep.engines.mocker.rules import check
from wideep.inventory.settings import Settings
from wideep.problems import Problem

START_DEADLINE_S = 180
# A stand-in is up or it is not.
SETTLE_S = 1


class Mocker(Engine):
    """See `wideep.engines.base.Engine`."""

    name = "mocker"
    program = "dynamo.mocker"
    disk_gb = 1.5
    options = OPTIONS
    agreed = frozenset({"model-path", "model-name", "engine-type", "block-size", "kv-cache-dtype"})
    simulated = True

    def check(self, deployment: Deployment) -> list[Problem]:
        """Return what the rules have to say."""
        return list(check(deployment))

    def flavour(self, settings: Settings) -> str:
        """It stands for whatever it stood for before."""
        return settings.engine_flavour

    def image(self, settings: Settings) -> str:
        """Every image of an engine has it."""
        return settings.engine_flavour

    def launch(self, site: Site, pool: Pool, replica: Replica, node: Node) -> Launch:
        """Return the mocker for a replica's head, a stand-in for its other ranks."""
        if node != replica.head:
            return self._stand_in(site, pool, replica, node)
        settings = site.deployment.settings
        name, host = replica.service(node), node.host
        ports = {"system": node.port("system"), "rpc": node.port("rpc")}
        # TensorRT-LLM hands the KV cache over without a bootstrap server, and the mocker knows only that way.
        if pool.name == "prefill" and settings.engine_flavour == "sglang":
            ports["bootstrap"] = (
                node.port_base + SHARED_BOOTSTRAP[replica.index]
                if machine_is_shared(site.deployment)
                else node.port("bootstrap")
            )
        mode = "agg" if pool.name == "aggregated" else pool.name
        flags: dict[str, Any] = {
            "model-path": site.model_path,
            "model-name": settings.model,
            "endpoint": f"dyn://{site.worker_namespace}.{self.components[pool.name]}.generate",
            "engine-type": settings.engine_flavour,
            "disaggregation-mode": mode,
            "block-size": block_size(site.deployment, pool),
        }
        if "bootstrap" in ports:
            flags["bootstrap-ports"] = ports["bootstrap"]
        flags |= {
            OPTIONS[option].removeprefix("--"): value
            for option, value in pool.settings.options.items()
            if option in OPTIONS
        }
        flags |= extra_flags(pool)
        cleanup, programs = site.deregister(node)
        return Launch(
            name=name,
            component="worker",
            description=f"{pool.name} worker {replica.index} ({settings.engine_flavour} mocker)",
            argv=(
                site.python,
                "-m",
                self.program,
                *site.deployment.release.catalogue(self.program).to_argv(site.own(flags)),
            ),
            working_directory=site.service_dir(name),
            log_file=site.log_file(name),
            env=site.worker_env(node) | pool.settings.env,
            env_files=site.worker_env_files,
            programs=programs,
            directories=site.dynamo_directories,
            ports=tuple(Listener(purpose, host.address, port) for purpose, port in ports.items()),
            health=Health(
                "http",
                min(START_DEADLINE_S, settings.start_deadline_s),
                url=f"http://{host.address}:{ports['system']}/health",
                json_path="endpoints.generate",
                json_value="ready",
            ),
            user=settings.service_user,
            depends_on=site.local_services,
            cleanup=cleanup,
            stop_timeout_s=site.stop_timeout_s,
        )

    @staticmethod
    def _stand_in(site: Site, pool: Pool, replica: Replica, node: Node) -> Launch:
        """Return the process that has a rank's place. It is no Dynamo process and opens no port."""
        settings, head, ranks = site.deployment.settings, replica.head, len(replica.nodes)
        name = replica.service(node)
        program = site.program("rank_stand_in")
        meeting = (
            f"would meet the others at {head.host.address}:{head.port('dist_init')}"
            if settings.engine_flavour == "sglang"
            else f"would be started by mpirun on {head.host.name}"
        )
        return Launch(
            name=name,
            component="worker",
            description=f"{pool.name} worker {replica.index} (stands for rank {node.rank} of {ranks})",
            argv=(site.python, "-IS", program.path, replica.name, str(node.rank), str(ranks), meeting),
            working_directory=site.service_dir(name),
            log_file=site.log_file(name),
            programs=(program,),
            health=Health("process", min(START_DEADLINE_S, settings.start_deadline_s), settle_s=SETTLE_S),
            user=settings.service_user,
            depends_on=site.local_services,
            stop_timeout_s=site.stop_timeout_s,
        )
