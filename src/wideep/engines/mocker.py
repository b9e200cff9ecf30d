"""`dynamo.mocker`: Dynamo's own simulated engine. Same registration, router and disaggregated path, no GPU.

It stands for SGLang or TensorRT-LLM (`wideep_engine_flavour`): KV blocks, bootstrap and scheduling follow the
flavour; timing and text do not say anything about the real engines. It is one process a replica, on its head.
On the replica's other hosts a stand-in has each rank's place.
"""

from __future__ import annotations

from typing import Any

from wideep import programs
from wideep.deployment.launch import File, Health, Launch, Listener
from wideep.deployment.model import PORTS_PER_WORKER, WORKER_PORTS, Deployment, Node, Pool, Replica
from wideep.deployment.site import PLANE_FLAGS, Site
from wideep.problems import Problem, suggest
from wideep.reference.catalogue import load
from wideep.reference.memory import Budget

BLOCK_SIZE = {"sglang": 64, "trtllm": 32}
START_DEADLINE_S = 180
# A stand-in is up or it is not.
SETTLE_S = 1
# Of several hosts on one machine: the mocker of Dynamo 1.4.2 opens its bootstrap port on all addresses, so
# each prefill replica gets another one, from the range for KV events (the mocker's go over NATS).
SHARED_BOOTSTRAP = range(WORKER_PORTS["kv_events"], PORTS_PER_WORKER)
# Options that an operator sets under wideep_pools.<pool>.options; all are flags of the same name.
OPTIONS = {
    "data_parallel_size": "--data-parallel-size",
    "block_size": "--block-size",
    "max_batch_size": "--max-num-seqs",
    "max_prefill_tokens": "--max-num-batched-tokens",
    "kv_blocks": "--num-gpu-blocks-override",
    "kv_cache_dtype": "--kv-cache-dtype",
    "speedup_ratio": "--speedup-ratio",
    "startup_time_s": "--startup-time",
}
# What the plan itself sets, with the variable to use instead: set twice, plan and process would disagree.
OWN_FLAGS = {
    "model-path": "wideep_model_path",
    "model-name": "wideep_model",
    "endpoint": "wideep_namespace",
    "engine-type": "wideep_engine_flavour",
    "disaggregation-mode": "the inventory's groups",
    "bootstrap-ports": "wideep_worker_port_base",
    "num-workers": "replicas_per_node",
    **PLANE_FLAGS,
}


class Mocker:
    """See `wideep.engines.base.Engine`."""

    name = "mocker"
    program = "dynamo.mocker"
    components = {"prefill": "prefill", "decode": "backend", "aggregated": "backend"}  # noqa: RUF012

    def version(self, deployment: Deployment) -> str:
        """The mocker is a part of Dynamo."""
        return deployment.settings.dynamo_version

    def check(self, deployment: Deployment) -> list[Problem]:
        """Refuse unknown options and layouts of prefill and decode that do not fit each other."""
        problems = []
        blocks: dict[str, Any] = {}
        for pool in deployment.pools:
            where = f"wideep_pools.{pool.name}"
            problems += [
                Problem("unknown option", f"{where}.options.{name}", suggest(name, OPTIONS))
                for name in pool.settings.options
                if name not in OPTIONS
            ]
            problems += [
                Problem("the plan sets it", f"{where}.extra_args.{name}", f"remove it, use {OWN_FLAGS[name]}")
                for name in _flags(pool)
                if name in OWN_FLAGS
            ]
            if _machine_is_shared(deployment) and pool.name == "prefill":
                room = len(SHARED_BOOTSTRAP)
                if len(pool.replicas) > room:
                    problems.append(
                        Problem(
                            f"{len(pool.replicas)} prefill replicas on one machine, which has {room}"
                            " bootstrap ports for them",
                            "inventory group prefill",
                            f"leave hosts out until there are at most {room} replicas",
                        )
                    )
            blocks[pool.name] = self._block_size(deployment, pool)
        if {"prefill", "decode"} <= blocks.keys() and str(blocks["prefill"]) != str(blocks["decode"]):
            problems.append(
                Problem(
                    f"KV block sizes differ ({blocks['prefill']} and {blocks['decode']} tokens):"
                    " the KV cache could not be handed over",
                    "wideep_pools.decode.options.block_size",
                    "set the same block_size in both pools",
                )
            )
        return problems

    def memory(self, deployment: Deployment) -> dict[str, Budget]:
        """It has no GPU."""
        return {}

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
                if _machine_is_shared(site.deployment)
                else node.port("bootstrap")
            )
        mode = "agg" if pool.name == "aggregated" else pool.name
        flags: dict[str, Any] = {
            "model-path": site.model_path,
            "model-name": settings.model,
            "endpoint": f"dyn://{settings.namespace}.{self.components[pool.name]}.generate",
            "engine-type": settings.engine_flavour,
            "disaggregation-mode": mode,
            "block-size": self._block_size(site.deployment, pool),
        }
        if "bootstrap" in ports:
            flags["bootstrap-ports"] = ports["bootstrap"]
        flags |= {
            OPTIONS[option].removeprefix("--"): value
            for option, value in pool.settings.options.items()
            if option in OPTIONS
        }
        flags |= _flags(pool)
        cleanup, scripts = site.deregister(node, name)
        return Launch(
            name=name,
            component="worker",
            description=f"{pool.name} worker {replica.index} ({settings.engine_flavour} mocker)",
            argv=(
                site.python,
                "-m",
                "dynamo.mocker",
                *load(self.program, settings.dynamo_version).to_argv(site.own(flags)),
            ),
            working_directory=site.service_dir(name),
            log_file=site.log_file(name),
            env=site.worker_env(node) | pool.settings.env,
            env_files=site.worker_env_files,
            files=scripts,
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
        path = f"{site.service_dir(name)}/rank_stand_in.py"
        script = programs.source("rank_stand_in.py")
        meeting = (
            f"would meet the others at {head.host.address}:{head.port('dist_init')}"
            if settings.engine_flavour == "sglang"
            else f"would be started by mpirun on {head.host.name}"
        )
        return Launch(
            name=name,
            component="worker",
            description=f"{pool.name} worker {replica.index} (stands for rank {node.rank} of {ranks})",
            argv=(site.python, "-IS", path, replica.name, str(node.rank), str(ranks), meeting),
            working_directory=site.service_dir(name),
            log_file=site.log_file(name),
            files=(File(path, script),),
            health=Health("process", min(START_DEADLINE_S, settings.start_deadline_s), settle_s=SETTLE_S),
            user=settings.service_user,
            depends_on=site.local_services,
            stop_timeout_s=site.stop_timeout_s,
        )

    @staticmethod
    def _block_size(deployment: Deployment, pool: Pool) -> Any:
        default = BLOCK_SIZE[deployment.settings.engine_flavour]
        value = pool.settings.options.get("block_size", default)
        return _flags(pool).get("block-size", value)


def _machine_is_shared(deployment: Deployment) -> bool:
    return deployment.one_machine and len(deployment.hosts) > 1


def _flags(pool: Pool) -> dict[str, Any]:
    """Return a pool's extra_args, however they are written, by the name that `launch` uses."""
    return {k.removeprefix("--").replace("_", "-"): v for k, v in pool.settings.extra_args.items()}
