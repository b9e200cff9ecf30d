"""TensorRT-LLM behind Dynamo (`dynamo.trtllm`): one MPI world for each replica, started on its head.

Where a replica spans hosts, the head's command is `mpirun`: it starts one rank for each GPU, each inside
`trtllm-llmapi-launch`. Rank 0 runs Dynamo's worker beside its engine rank, the others engine ranks only. On
the other hosts `mpirun` wants a daemon, which the services there start for it (`wideep.hosts.gang`).

What is said here was read in Dynamo's packages and in what TensorRT-LLM publishes; the engine itself has not
been run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import yaml

from wideep.deployment import network
from wideep.deployment.launch import File, Health, Launch, Listener, ProgramFile
from wideep.deployment.model import Deployment, Node, Pool, Replica
from wideep.deployment.site import SYSTEM_PATH, Site
from wideep.engines.base import Engine
from wideep.engines.importing import ROUTES, Dialect, Reading, Worker
from wideep.engines.trtllm import importing
from wideep.engines.trtllm.mpi import host_file, mpi_env, mpi_programs, mpirun, rank_devices
from wideep.engines.trtllm.options import Case, TrtllmOptions, case_of
from wideep.engines.trtllm.rules import check
from wideep.engines.trtllm.rules.mpi import one_mpirun
from wideep.engines.trtllm.yaml import engine_args, load_balancer, text
from wideep.problems import Problem, errors
from wideep.reference.catalogue import Catalogue
from wideep.reference.memory import Budget
from wideep.reference.models import ModelCard
from wideep.reference.release import Release

# Dynamo's words for the pools.
MODES = {"aggregated": "agg", "prefill": "prefill", "decode": "decode"}
# Behind TensorRT-LLM's environment: Open MPI's place in images, and what the launcher calls (ps, openssl).
PATH = f"/usr/local/mpi/bin:{SYSTEM_PATH}"
# Of the services that are not a head's: they have nothing that could be asked.
SETTLE_S = 10


# What prefill and decode must have alike in the engine's YAML (`Engine.agreed`).
AGREED_FIELDS = {
    "kv_cache_config": ("dtype", "tokens_per_block"),
    "cache_transceiver_config": ("backend",),
    "speculative_config": ("decoding_type", "speculative_model"),
}


class Trtllm(Engine):
    """See `wideep.engines.base.Engine`."""

    name = "trtllm"
    program = "dynamo.trtllm"
    package = "tensorrt-llm"
    disk_gb = 11.0
    options = TrtllmOptions
    places = True
    agreed = frozenset(
        {
            "model",
            "served-model-name",
            "kv-block-size",
            "custom-jinja-template",
            "dyn-tool-call-parser",
            "dyn-reasoning-parser",
        }
    )
    # Below `trtllm-llmapi-launch`: Dynamo's worker beside rank 0, and the ranks.
    watched = (
        "dynamo.trtllm",
        "tensorrt_llm.llmapi.mgmn_leader_node",
        "tensorrt_llm.llmapi.mgmn_worker_node",
    )
    dialect = Dialect(
        (program, importing.SERVE),
        fields=True,
        field_files=frozenset({"--extra-engine-args", "--extra-llm-api-options", "--config"}),
        beside={f"{importing.SERVE} disaggregated": ROUTES},
    )

    def check(self, deployment: Deployment) -> list[Problem]:
        """Return what the rules, the engine's field tree and the network have to say."""
        cases, problems = [], []
        fields = deployment.release.fields("tensorrt-llm")
        for pool in deployment.pools:
            case, found = case_of(deployment, pool, self._catalogue(deployment))
            cases.append(case)
            problems += found
        if errors(problems):
            return list(dict.fromkeys(problems))  # a rule would judge the default of what could not be read
        for case in cases:
            tree = engine_args(case, "eplb.yaml")
            experts = tree.get("moe_config")
            if isinstance(experts, dict) and experts.get("backend") in case.facts.gone_backends:
                del experts["backend"]  # a rule says more of it
            problems += fields.check(tree, f"wideep_pools.{case.role}.options")
            problems += fields.check(load_balancer(case), case.eplb_at(), under="moe_config.load_balancer")
        replicas = [replica for pool in deployment.pools for replica in pool.replicas]
        problems += check(cases)
        problems += one_mpirun(deployment)
        problems += network.check(replicas, disaggregated=deployment.disaggregated)
        alone = [r for r in replicas if len(r.nodes) == 1 or deployment.settings.on_kubernetes]
        if deployment.disaggregated:
            problems += network.shared_by_ranks(alone, "TensorRT-LLM")
        return list(dict.fromkeys(problems))

    def memory(self, deployment: Deployment) -> dict[str, Budget]:
        """Return pool -> the memory of one GPU, where model and GPU are known."""
        cases = (case_of(deployment, pool, self._catalogue(deployment))[0] for pool in deployment.pools)
        return {case.role: budget for case in cases if (budget := case.budget())}

    def programs(self, pool: Pool, *, head: bool) -> tuple[tuple[str, ...], ...]:
        """Return what MPI starts the ranks with."""
        return mpi_programs(pool, head=head)

    def host_memory(self, deployment: Deployment, pool: Pool) -> int:
        """Return the bytes of all routed experts: from there online balancing copies them to GPUs."""
        return case_of(deployment, pool, self._catalogue(deployment))[0].host_memory

    def placement(self, experts: Sequence[Sequence[int]], layers: Sequence[int]) -> str:
        """Return `initial_global_assignments`, which `eplb.placement` holds itself: JSON, and so YAML."""
        rows = zip(layers, experts, strict=True)
        return "{" + ",\n ".join(f'"{layer}": {json.dumps(list(row))}' for layer, row in rows) + "}\n"

    def agreement(self, flags: Mapping[str, Sequence[str]], files: Mapping[str, str]) -> dict[str, Any]:
        """See `Engine`: layout and way of the KV cache stand in the engine's YAML."""
        paths = [path for path in flags.get("extra-engine-args", ()) if path in files]
        tree = (yaml.safe_load(files[paths[0]]) if paths else None) or {}
        fields = {
            f"{section}.{name}": (tree.get(section) or {}).get(name)
            for section, names in AGREED_FIELDS.items()
            for name in names
        }
        return super().agreement(flags, files) | fields | {"max_seq_len": tree.get("max_seq_len")}

    def imported(self, worker: Worker, release: Release, card: ModelCard | None) -> Reading:
        """See `Engine`."""
        return importing.read(worker, release, card)

    def told(self, launch: Launch) -> dict[str, Any]:
        """See `Engine`."""
        return importing.told(launch)

    def launch(self, site: Site, pool: Pool, replica: Replica, node: Node) -> Launch | None:
        """Return one node's service: the head runs `mpirun`, the others what it starts on their hosts."""
        is_head = node == replica.head
        if site.wires_ranks and not is_head:
            return None
        deployment, settings = site.deployment, site.deployment.settings
        case, _ = case_of(deployment, pool, self._catalogue(deployment))
        name, host = replica.service(node), node.host
        rank = f", rank {node.rank} of {case.nodes}" if case.spans_hosts else ""
        command, files, agent, mpi = self._head(case, site, replica) if is_head else ((), (), (), {})
        cleanup, programs = site.deregister(node) if is_head else ((), ())
        if case.spans_hosts and not site.wires_ranks:  # mpirun calls it on every host
            programs += rank_devices(case, site)[1]
        return Launch(
            name=name,
            component="worker",
            description=f"{pool.name} worker {replica.index} (TensorRT-LLM{rank})",
            argv=command,
            working_directory=site.service_dir(name),
            log_file=site.log_file(name),
            env=site.worker_env(node) | self._env(case, site, replica, node) | mpi | pool.settings.env,
            env_files=site.worker_env_files,
            files=files,
            programs=(*agent, *programs),
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
            # So its all-to-all over NVLink maps memory of other GPUs, where NVLink does not span hosts.
            reads=(drafts.draft_model,) if (drafts := case.speculative) and drafts.draft_model else (),
            shares_descriptors=case.exchanges and not (case.gpu and case.gpu.multi_node_nvlink),
        )

    def _head(
        self, case: Case, site: Site, replica: Replica
    ) -> tuple[tuple[str, ...], tuple[File, ...], tuple[ProgramFile, ...], dict[str, str]]:
        """Return the head's command, its files and programs, and Open MPI's own environment."""
        place = site.service_dir(replica.service(replica.head))
        files = [File(f"{place}/engine.yaml", text(engine_args(case, f"{place}/eplb.yaml")))]
        if balancer := load_balancer(case):
            files.append(File(f"{place}/eplb.yaml", text(balancer)))
        flags = site.own(self._flags(case, site, replica.head, files[0].path))
        worker = (site.python, "-m", self.program, *self._catalogue(site.deployment).to_argv(flags))
        if not case.spans_hosts or site.wires_ranks:
            return worker, tuple(files), (), {}
        agent, program = site.launch_agent(replica.service(replica.head))
        hosts = File(f"{place}/hosts", host_file(replica))
        command = (*mpirun(case, site, hosts.path, rank_devices(case, site)[0]), *worker)
        environment = mpi_env(case, agent, replica.head.host.interface)
        return command, (*files, hosts), (program,), environment

    @staticmethod
    def _catalogue(deployment: Deployment) -> Catalogue:
        return deployment.release.catalogue(Trtllm.program)

    def _flags(self, case: Case, site: Site, node: Node, engine_yaml: str) -> dict[str, Any]:
        """Return who this process is; how the engine works stands in its YAML."""
        settings = site.deployment.settings
        return {
            "model": site.model_path,
            "served-model-name": settings.model,
            "endpoint": f"dyn://{site.worker_namespace}.{self.components[case.role]}.generate",
            "disaggregation-mode": MODES[case.role],
            "gpus-per-node": len(node.gpus),
            "kv-block-size": case.options.page_size,
            # Decode workers keep no prefixes that a router could ask for.
            "publish-kv-events": True if settings.router_mode == "kv" and case.prefills else None,
            # Where the release has no such flag, statistics come with KV events.
            "publish-metrics": True
            if case.release.catalogue(self.program).find("--publish-metrics")
            else None,
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
        if case.options.all_to_all != "auto":
            forced = case.facts.all_to_all
            env[forced.variable] = forced.words[case.options.all_to_all][0]
        if case.spans_hosts and not site.wires_ranks and rank_devices(case, site)[0]:
            port = node.host.network.rdma_port
            named = (f"{device}:{port}" for device in network.devices_of_ranks(node))
            env["WIDEEP_RANK_DEVICES"] = ",".join(named)
        return env | network.worker_environment(
            node,
            kv_transfer=case.settings.kv_transfer if case.disaggregated else "",
            all_to_all=case.may_deep_ep,
            spans_hosts=case.spans_hosts,
            gpu=node.host.card,
        )
