"""TensorRT-LLM behind Dynamo (`dynamo.trtllm`): one MPI world for each replica, started on its head.

Where a replica spans hosts, the head's command is `mpirun`: it starts one rank for each GPU, each inside
`trtllm-llmapi-launch`. Rank 0 runs Dynamo's worker beside its engine rank, the others engine ranks only. On
the other hosts `mpirun` wants a daemon, which the services there start for it (`wideep.hosts.gang`).

What is said here was read in Dynamo 1.4.2 and in TensorRT-LLM's published sources around 1.3.0rc22; the
engine itself has not been run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from wideep.deployment import network
from wideep.deployment.launch import File, Health, Launch, Listener
from wideep.deployment.model import Deployment, Node, Pool, Replica
from wideep.deployment.site import Site
from wideep.engines.options import parse_options
from wideep.engines.trtllm.options import Case, TrtllmOptions, case_of
from wideep.engines.trtllm.rules import check
from wideep.problems import Problem
from wideep.reference.catalogue import Catalogue, load, load_yaml
from wideep.reference.hardware import hardware_cards
from wideep.reference.memory import Budget
from wideep.reference.versions import versions

# TensorRT-LLM's words where they differ from ours.
KV_DTYPES = {"auto": "auto", "bf16": "bfloat16", "fp8": "fp8"}
MODES = {"aggregated": "agg", "prefill": "prefill", "decode": "decode"}
# Behind the environment of TensorRT-LLM: Open MPI's usual places, and what the launcher calls (ps, openssl).
PATH = "/usr/local/mpi/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of the services that are not a head's: they have nothing that could be asked.
SETTLE_S = 10


class Trtllm:
    """See `wideep.engines.base.Engine`."""

    name = "trtllm"
    program = "dynamo.trtllm"
    components = {"prefill": "prefill", "decode": "backend", "aggregated": "backend"}  # noqa: RUF012

    def version(self, deployment: Deployment) -> str:
        """Return Dynamo's version, whose catalogue holds the flags of its TensorRT-LLM worker."""
        return deployment.settings.dynamo_version

    def check(self, deployment: Deployment) -> list[Problem]:
        """Return what the rules, the engine's field tree and the network have to say."""
        cases, problems = [], []
        fields = load_yaml("tensorrt-llm", versions().engines["tensorrt-llm"])
        for pool in deployment.pools:
            case, found = case_of(deployment, pool, self._catalogue(deployment))
            cases.append(case)
            problems += found
            problems += fields.check(engine_args(case, "eplb.yaml"), f"wideep_pools.{pool.name}.options")
            problems += fields.check(load_balancer(case), "wideep_eplb", under="moe_config.load_balancer")
        replicas = [replica for pool in deployment.pools for replica in pool.replicas]
        problems += check(cases)
        problems += network.check(replicas, disaggregated=deployment.disaggregated)
        return list(dict.fromkeys(problems))

    def memory(self, deployment: Deployment) -> dict[str, Budget]:
        """Return pool -> the memory of one GPU, where model and GPU are known."""
        cases = (case_of(deployment, pool, self._catalogue(deployment))[0] for pool in deployment.pools)
        return {case.role: budget for case in cases if (budget := case.budget())}

    def launch(self, site: Site, pool: Pool, replica: Replica, node: Node) -> Launch | None:
        """Return one node's service: the head runs `mpirun`, the others what it starts on their hosts."""
        is_head = node == replica.head
        if site.wires_ranks and not is_head:
            return None
        deployment, settings = site.deployment, site.deployment.settings
        case, _ = case_of(deployment, pool, self._catalogue(deployment))
        name, host = replica.service(node), node.host
        rank = f", rank {node.rank} of {case.nodes}" if case.spans_hosts else ""
        command, files, mpi = self._head(case, site, replica) if is_head else ((), (), {})
        cleanup, scripts = site.deregister(node, name) if is_head else ((), ())
        return Launch(
            name=name,
            component="worker",
            description=f"{pool.name} worker {replica.index} (TensorRT-LLM{rank})",
            argv=command,
            working_directory=site.service_dir(name),
            log_file=site.log_file(name),
            env=site.worker_env(node) | self._env(case, site, replica, node) | mpi | pool.settings.env,
            env_files=site.worker_env_files,
            files=(*files, *scripts),
            directories=site.dynamo_directories,
            ports=tuple(Listener(p, host.address, node.port(p)) for p in ("system", "rpc") if is_head),
            health=Health(
                "http",
                settings.start_deadline_s,
                url=f"http://{host.address}:{node.port('system')}/health",
                json_path="endpoints.generate",
                json_value="ready",
            )
            if is_head
            else Health("process", settings.start_deadline_s, settle_s=SETTLE_S),
            user=settings.service_user,
            depends_on=site.local_services,
            cleanup=cleanup,
            stop_timeout_s=site.stop_timeout_s,
            lock_memory=True,
        )

    def _head(
        self, case: Case, site: Site, replica: Replica
    ) -> tuple[tuple[str, ...], tuple[File, ...], dict[str, str]]:
        """Return the head's command, the files that it reads, and Open MPI's own environment."""
        place = site.service_dir(replica.service(replica.head))
        files = [File(f"{place}/engine.yaml", _text(engine_args(case, f"{place}/eplb.yaml")))]
        if balancer := load_balancer(case):
            files.append(File(f"{place}/eplb.yaml", _text(balancer)))
        flags = site.own(self._flags(case, site, replica.head, files[0].path))
        worker = (site.python, "-m", self.program, *self._catalogue(site.deployment).to_argv(flags))
        if not case.spans_hosts or site.wires_ranks:
            return worker, tuple(files), {}
        agent, script = site.launch_agent(replica.service(replica.head))
        hosts = File(f"{place}/hosts", host_file(replica))
        command = (*_mpirun(case, site, hosts.path), *worker)
        return command, (*files, hosts, script), _mpi_env(case, agent, replica.head.host.interface)

    @staticmethod
    def _catalogue(deployment: Deployment) -> Catalogue:
        return load(Trtllm.program, deployment.settings.dynamo_version)

    def _flags(self, case: Case, site: Site, node: Node, engine_yaml: str) -> dict[str, Any]:
        """Return who this process is; how the engine works stands in its YAML."""
        settings = site.deployment.settings
        return {
            "model": site.model_path,
            "served-model-name": settings.model,
            "endpoint": f"dyn://{settings.namespace}.{self.components[case.role]}.generate",
            "disaggregation-mode": MODES[case.role],
            "gpus-per-node": len(node.gpus),
            "kv-block-size": case.options.page_size,
            # Decode workers keep no prefixes that a router could ask for.
            "publish-kv-events": True if settings.router_mode == "kv" and case.prefills else None,
            "extra-engine-args": engine_yaml,
        } | dict(case.extra)

    @staticmethod
    def _env(case: Case, site: Site, replica: Replica, node: Node) -> dict[str, str]:
        env = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, node.gpus))}
        if not case.settings.in_container:
            # First the environment that has TensorRT-LLM: its launcher calls `python3` by name.
            env["PATH"] = f"{PurePosixPath(site.python).parent}:{PATH}"
        if case.balanced:
            # The experts in shared memory; a start removes what a crash left under the same name.
            env["TRTLLM_EPLB_SHM_NAME"] = f"moe_{case.settings.deployment}_{replica.name}"
        return env | network.environment(
            node.host,
            kv_transfer=case.settings.kv_transfer if case.disaggregated else "",
            all_to_all=False,
            spans_hosts=case.spans_hosts,
            gpu=hardware_cards().get(node.host.gpu),
        )


# ---- MPI -----------------------------------------------------------------------------------------


def host_file(replica: Replica) -> str:
    """Return Open MPI's host file: the head first, as many ranks on a host as it gives GPUs."""
    return "".join(f"{node.host.address} slots={len(node.gpus)}\n" for node in replica.nodes)


def mpi_programs(pool: Pool, *, head: bool) -> tuple[tuple[str, ...], ...]:
    """Return what the service of a replica's host looks for: for each program the names that it may have."""
    mpirun = parse_options(pool, "trtllm", TrtllmOptions)[0].mpirun
    # Named by its path, it has its daemon started from there on the other hosts too.
    place = f"{PurePosixPath(mpirun).parent}/" if mpirun.startswith("/") else ""
    daemon = (f"{place}orted", f"{place}prted")
    return (*([(mpirun,)] if head else []), daemon, ("trtllm-llmapi-launch",))


def _mpirun(case: Case, site: Site, hosts: str) -> tuple[str, ...]:
    """Return the words before Dynamo's own."""
    return (
        case.options.mpirun,
        "-n",
        str(case.world_size),
        "--hostfile",
        hosts,
        # Else mpirun 5 holds a pipe open to rank 0, whose end a reader would wait for.
        *("--stdin", "none"),
        # Ranks in order: those of one host follow each other, as TensorRT-LLM numbers its GPUs.
        *("--map-by", "slot", "--bind-to", "none"),
        # Not UCX: its variables here are for the KV cache's transfer.
        *("--mca", "pml", "ob1"),
        # The service's own directory exists on the head only.
        *("--wdir", site.state_dir),
        # Else the daemons detach themselves: from their services, and from the logs.
        "--leave-session-attached",
        "trtllm-llmapi-launch",
    )


def _mpi_env(case: Case, agent: str, interface: str) -> dict[str, str]:
    """Return Open MPI's own settings, by the names of versions 4 and 5. It hands them on by itself.

    All else the ranks of a host have from their own service: it is not passed on.
    """
    root = case.settings.in_container or case.settings.service_user in ("", "root")
    allowed = ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT") if root else ()
    return {
        "OMPI_MCA_plm_rsh_agent": agent,
        "PRTE_MCA_plm_ssh_agent": agent,
        # Each daemon by the head, none by another daemon: that has no agent.
        "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
        "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        # The agent knows the hosts as the host file names them.
        "OMPI_MCA_orte_keep_fqdn_hostnames": "1",
        "PRTE_MCA_prte_keep_fqdn_hostnames": "1",
        # One interface by name: Open MPI would try those of containers and storage too.
        "OMPI_MCA_btl_tcp_if_include": interface,
        "OMPI_MCA_oob_tcp_if_include": interface,
        "PRTE_MCA_prte_if_include": interface,
        # For a user without a login shell: Open MPI wants to know whose syntax to write.
        "SHELL": "/bin/bash",
        **{f"{name}{more}": "1" for name in allowed for more in ("", "_CONFIRM")},
    }


# ---- the engine's YAML ---------------------------------------------------------------------------


def engine_args(case: Case, balancer: str) -> dict[str, Any]:
    """Return the engine's YAML as a tree. `balancer`: path of the load balancer's file."""
    o = case.options
    tree: dict[str, Any] = {
        "tensor_parallel_size": case.tp,
        "pipeline_parallel_size": o.pipeline_parallel_size,
        "moe_expert_parallel_size": case.ep if case.experts else None,
        "enable_attention_dp": case.dp > 1,
        "max_batch_size": o.max_batch_size,
        "max_num_tokens": o.max_num_tokens,
        "max_seq_len": o.context_length,
        "enable_chunked_prefill": o.chunked_prefill,
        "disable_overlap_scheduler": not o.overlap_scheduler,
        "kv_cache_config": {
            "free_gpu_memory_fraction": o.free_gpu_memory_fraction,
            "dtype": KV_DTYPES[o.kv_cache_dtype],
            "tokens_per_block": o.page_size,
            "enable_block_reuse": o.block_reuse,
        },
        "load_format": o.load_format if o.load_format != "auto" else None,
        "trust_remote_code": o.trust_remote_code or None,
    }
    if case.experts:
        tree["moe_config"] = {
            "backend": o.moe_backend,
            "max_num_tokens": o.moe_max_tokens,
            "load_balancer": balancer if load_balancer(case) else None,
        }
    if case.disaggregated:
        tree["cache_transceiver_config"] = {
            "backend": case.settings.kv_transfer.upper(),
            "max_tokens_in_buffer": o.max_tokens_in_buffer,
        }
    tree = _set(tree)
    # null is a value here: it turns the graphs off, an absent section does not.
    graphs = {"enable_padding": o.cuda_graph_padding, "batch_sizes": o.cuda_graph_batch_sizes}
    tree["cuda_graph_config"] = graphs if case.graphs else None
    return _merged(tree, o.engine_args)


def load_balancer(case: Case) -> dict[str, Any]:
    """Return the load balancer's YAML as a tree; empty where there is none."""
    if not case.balanced or case.slots is None:
        return {}  # of an unknown model the rules want a card first
    eplb = case.settings.eplb
    return {
        "num_slots": case.slots,
        "layer_updates_per_iter": (eplb.layers_per_chunk or 1) if eplb.enabled else 0,
    }


def _set(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree without what is None."""
    found = {k: _set(v) if isinstance(v, Mapping) else v for k, v in tree.items()}
    return {k: v for k, v in found.items() if v is not None}


def _merged(tree: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree with another laid over it."""
    merged = dict(tree)
    for key, value in more.items():
        ours = merged.get(key)
        both = isinstance(ours, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(ours, value) if both else value  # type: ignore[arg-type]
    return merged


def _text(tree: Mapping[str, Any]) -> str:
    return "---\n" + yaml.safe_dump(dict(tree), sort_keys=False)
