"""TensorRT-LLM behind Dynamo (`dynamo.trtllm`): one MPI world for each replica, started on its head.

Where a replica spans hosts, the head's service is `mpirun`: it starts one rank for each GPU, on the other
hosts through SSH, each inside `trtllm-llmapi-launch`. Rank 0 runs Dynamo's worker beside its engine rank, the
others engine ranks only, so the other hosts have no service of their own.

What is said here was read in Dynamo 1.4.2 and in TensorRT-LLM's published sources around 1.3.0rc22; the
engine itself has not been run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from wideep import network
from wideep.catalogue import Catalogue, load, load_yaml
from wideep.engines.trtllm_options import Case, case_of
from wideep.hardware import hardware_cards
from wideep.launch import File, Health, Launch, Listener
from wideep.problems import Problem
from wideep.rules.trtllm import check
from wideep.runtime import Site
from wideep.topology import Deployment, Node, Pool, Replica
from wideep.versions import versions

# TensorRT-LLM's words where they differ from ours.
KV_DTYPES = {"auto": "auto", "bf16": "bfloat16", "fp8": "fp8"}
MODES = {"aggregated": "agg", "prefill": "prefill", "decode": "decode"}
# Behind the environment of TensorRT-LLM: Open MPI's usual places, and what the launcher calls (ps, openssl).
PATH = "/usr/local/mpi/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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

    def launch(self, site: Site, pool: Pool, replica: Replica, node: Node) -> Launch | None:
        """Return the head's service; the other nodes' ranks are started by its `mpirun`."""
        if node != replica.head:
            return None
        deployment, settings = site.deployment, site.deployment.settings
        catalogue = self._catalogue(deployment)
        case, _ = case_of(deployment, pool, catalogue)
        name, host = replica.service(node), node.host
        place = site.service_dir(name)
        files = [File(f"{place}/engine.yaml", _text(engine_args(case, f"{place}/eplb.yaml")))]
        if balancer := load_balancer(case):
            files.append(File(f"{place}/eplb.yaml", _text(balancer)))
        env = site.worker_env(node) | self._env(case, site, replica, node) | pool.settings.env
        worker = (
            site.python,
            "-m",
            self.program,
            *catalogue.to_argv(site.own(self._flags(case, site, node, files[0].path))),
        )
        mpi: tuple[str, ...] = ()
        if case.spans_hosts and not site.wires_ranks:
            files.append(File(f"{place}/hosts", host_file(replica)))
            mpi = _mpirun(case, site, files[-1].path, env)
            env |= _mpi_env(host.interface)
        cleanup, scripts = site.deregister(node, name)
        world = f", {case.world_size} ranks on {case.nodes} hosts" if case.spans_hosts else ""
        return Launch(
            name=name,
            component="worker",
            description=f"{pool.name} worker {replica.index} (TensorRT-LLM{world})",
            argv=(*mpi, *worker),
            working_directory=place,
            log_file=site.log_file(name),
            env=env,
            env_files=site.worker_env_files,
            files=(*files, *scripts),
            directories=site.dynamo_directories,
            ports=tuple(Listener(p, host.address, node.port(p)) for p in ("system", "rpc")),
            health=Health(
                "http",
                settings.start_deadline_s,
                url=f"http://{host.address}:{node.port('system')}/health",
                json_path="endpoints.generate",
                json_value="ready",
            ),
            user=settings.service_user,
            depends_on=site.local_services,
            cleanup=cleanup,
            stop_timeout_s=site.stop_timeout_s,
            lock_memory=True,
        )

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


def _mpirun(case: Case, site: Site, hosts: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the words before Dynamo's own. Variables go by name: process lists would show values."""
    # The other hosts have homes and temporary directories of their own.
    own = {"HOME", "TMPDIR"}
    names = [word for name in sorted({*env, *case.settings.secrets_env} - own) for word in ("-x", name)]
    return (
        case.options.mpirun,
        "-n",
        str(case.world_size),
        "--hostfile",
        hosts,
        # Else mpirun 5 may wait for the end of its input when all ranks have ended (supervisord's is a pipe).
        *("--stdin", "none"),
        # Ranks in order: those of one host follow each other, as TensorRT-LLM numbers its GPUs.
        *("--map-by", "slot", "--bind-to", "none"),
        # Not UCX: its variables here are for the KV cache's transfer.
        *("--mca", "pml", "ob1"),
        # The service's own directory exists on the head only.
        *("--wdir", site.state_dir),
        *names,
        "trtllm-llmapi-launch",
    )


def _mpi_env(interface: str) -> dict[str, str]:
    """Return Open MPI's own settings, by the names of versions 4 and 5. It hands them on by itself."""
    # A host that asks for a password or a confirmation is an error, not a wait.
    ssh = dict.fromkeys(("OMPI_MCA_plm_rsh_args", "PRTE_MCA_plm_ssh_args"), "-o BatchMode=yes")
    # One interface by name: Open MPI would try those of containers and storage too.
    names = ("OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include", "PRTE_MCA_prte_if_include")
    return ssh | dict.fromkeys(names, interface)


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
