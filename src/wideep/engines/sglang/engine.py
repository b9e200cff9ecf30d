"""SGLang behind Dynamo (`dynamo.sglang`): one process on each node of a replica; ranks find each other.

What is said here about flags, ports and variables was read in the SGLang and Dynamo of our releases.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from wideep.deployment import network
from wideep.deployment.launch import Health, Launch, Listener
from wideep.deployment.model import (
    PORTS_PER_POOL,
    PORTS_PER_WORKER,
    WORKER_PORTS,
    Deployment,
    Node,
    Pool,
    Replica,
)
from wideep.deployment.site import Site
from wideep.engines.base import Engine
from wideep.engines.importing import ROUTES, Dialect, Reading, Worker
from wideep.engines.sglang import importing
from wideep.engines.sglang.options import (
    ALGORITHMS,
    DISPATCH_ENV,
    PLACEMENT_FLAG,
    SPECULATIVE_FLAGS,
    V2_ENV,
    Case,
    SglangOptions,
    case_of,
)
from wideep.engines.sglang.rules import FLAGS, check
from wideep.engines.sglang.rules.speculative import CHAINS
from wideep.problems import Problem, RefusedError, errors
from wideep.reference.catalogue import Catalogue
from wideep.reference.memory import Budget
from wideep.reference.models import ModelCard
from wideep.reference.release import Release

# SGLang's words where they differ from ours.
KV_DTYPES = {"auto": "auto", "bf16": "bfloat16", "fp8": "fp8_e4m3"}
# With DP attention the head opens more ports, at fixed distances from dist_init (server_args.py: PortArgs,
# DP_ATTENTION_HANDSHAKE_PORT_DELTA).
DERIVED_PORTS = {
    "tokenizer": 1,
    "detokenizer": 2,
    "engine_rpc": 3,
    "engine_metrics": 4,
    "scheduler": 5,
    "load": 6,
    "handshake": 13,
}
# UCX keeps what it has mapped of a peer's GPU memory, and SGLang never lets go of a peer: the KV cache of a
# decode worker that died stays with the prefill workers of its host, and its next start finds little left.
MAPPINGS_KEPT = "UCX_CUDA_IPC_CACHE"
# What a worker's command asks for by a word, and the package that brings it.
MODULE_OF = {
    "deepep": "deep_ep",
    "deepep_v2": "deep_ep",
    "pplx": "pplx_kernels",
    "mooncake": "mooncake-transfer-engine",
}
# A rank without an endpoint is well when it has lived so long; what it lacks its head reports.
SETTLE_S = 10


class Sglang(Engine):
    """See `wideep.engines.base.Engine`."""

    name = "sglang"
    program = "dynamo.sglang"
    package = "sglang"
    disk_gb = 11.0
    options = SglangOptions
    places = True
    # Weights and their form, layout and way of the KV cache, and what the model's card in discovery says.
    agreed = frozenset(
        {
            "model-path",
            "served-model-name",
            "revision",
            "quantization",
            "dtype",
            "page-size",
            "kv-cache-dtype",
            "context-length",
            "disaggregation-transfer-backend",
            "speculative-algorithm",
            "speculative-draft-model-path",
            "chat-template",
            "custom-jinja-template",
            "dyn-tool-call-parser",
            "dyn-reasoning-parser",
        }
    )
    # The controller of data-parallel ranks does not notice that one has died, seen on H200.
    parts = ("sglang::scheduler", "sglang::data_parallel_controller", "sglang::detokenizer")
    dialect = Dialect(
        (program, "sglang.launch_server", "sglang serve"),
        flag_files=frozenset({"--config"}),
        beside=dict.fromkeys(importing.ROUTERS, ROUTES),
    )

    def check(self, deployment: Deployment) -> list[Problem]:
        """Return what the rules, the network and the ports have to say."""
        cases, problems = [], []
        for pool in deployment.pools:
            case, found = case_of(deployment, pool, self._catalogue(deployment))
            cases.append(case)
            problems += found
        if errors(problems):
            return list(dict.fromkeys(problems))  # a rule would judge the default of what could not be read
        replicas = [replica for pool in deployment.pools for replica in pool.replicas]
        problems += check(cases) + [problem for case in cases for problem in _ports(case)]
        problems += network.check(
            replicas,
            disaggregated=deployment.disaggregated,
            routed=not deployment.settings.on_kubernetes,
        )
        if deployment.disaggregated and deployment.settings.kv_transfer in network.UCX_TRANSFERS:
            problems += network.shared_by_ranks(replicas, "SGLang")
        return list(dict.fromkeys(problems))

    def memory(self, deployment: Deployment) -> dict[str, Budget]:
        """Return pool -> the memory of one GPU, where model and GPU are known."""
        cases = (case_of(deployment, pool, self._catalogue(deployment))[0] for pool in deployment.pools)
        return {case.role: budget for case in cases if (budget := case.budget())}

    def modules(self, launch: Launch) -> tuple[str, ...]:
        """Return what the command's all-to-all and KV transfer are made of."""
        return tuple(package for word, package in MODULE_OF.items() if word in launch.argv)

    def launch(self, site: Site, pool: Pool, replica: Replica, node: Node) -> Launch:
        """Return one node's process: the head of a replica answers requests, the other ranks work for it."""
        deployment, settings = site.deployment, site.deployment.settings
        catalogue = self._catalogue(deployment)
        case, _ = case_of(deployment, pool, catalogue)
        name, host, head = replica.service(node), node.host, replica.head
        rank = f", rank {node.rank} of {len(replica.nodes)}" if len(replica.nodes) > 1 else ""
        flags = (
            self._identity(site, pool, replica, node)
            | _options(case, catalogue)
            | _eplb(case)
            | _speculative(case)
            | dict(case.extra)
        )
        cleanup, programs = site.deregister(node) if node == head else ((), ())
        drafts = case.speculative
        cache = f"{site.state_dir}/cache/sglang-{deployment.release.engines['sglang']}"
        return Launch(
            name=name,
            component="worker",
            description=f"{pool.name} worker {replica.index} (SGLang{rank})",
            argv=(site.python, "-m", self.program, *catalogue.to_argv(site.own(flags))),
            working_directory=site.service_dir(name),
            log_file=site.log_file(name),
            env=site.worker_env(node)
            | site.compilers()
            | self._env(case, replica, node, cache)
            | ({MAPPINGS_KEPT: "n"} if self._fills_neighbour(deployment, pool, node) else {})
            | pool.settings.env,
            env_files=site.worker_env_files,
            programs=programs,
            directories=(*site.dynamo_directories, cache),
            ports=_listeners(case, replica, node),
            health=Health(
                "http",
                settings.start_deadline_s,
                url=f"http://{host.address}:{node.port('system')}/health",
                json_path="endpoints.generate",
                json_value="ready",
            )
            if node == head
            else Health("process", settings.start_deadline_s, settle_s=SETTLE_S),
            user=settings.service_user,
            depends_on=site.local_services,
            cleanup=cleanup,
            stop_timeout_s=site.stop_timeout_s,
            lock_memory=True,
            reads=tuple(path for path in (drafts.draft_model if drafts else "", case.placement) if path),
        )

    def placement(self, experts: Sequence[Sequence[int]], layers: Sequence[int]) -> str:
        """Return the JSON of `--init-expert-location`: a row for every layer of the model."""
        if list(layers) != list(range(len(layers))):
            message = f"SGLang wants a row for every layer of the model; the first here is layer {layers[0]}"
            raise RefusedError(
                [Problem(message, "recording", "record it with SGLang, which counts all layers")]
            )
        rows = [list(row) for row in experts]
        return json.dumps({"physical_to_logical_map": rows}, separators=(",", ":")) + "\n"

    def imported(self, worker: Worker, release: Release, card: ModelCard | None) -> Reading:
        """See `Engine`."""
        return importing.read(worker, release)

    def told(self, launch: Launch) -> dict[str, Any]:
        """See `Engine`."""
        return importing.told(launch)

    @staticmethod
    def _fills_neighbour(deployment: Deployment, pool: Pool, node: Node) -> bool:
        """Whether a worker writes its KV cache into that of a process on its own host, through UCX."""
        beside = {replica.pool for replica, _ in deployment.workers_of[node.host.name]}
        return pool.name == "prefill" and "decode" in beside and deployment.settings.kv_transfer == "nixl"

    @staticmethod
    def _catalogue(deployment: Deployment) -> Catalogue:
        return deployment.release.catalogue(Sglang.program)

    def _identity(self, site: Site, pool: Pool, replica: Replica, node: Node) -> dict[str, Any]:
        """Return the flags that follow from the inventory: who this process is, and where its peers are."""
        settings, head = site.deployment.settings, replica.head
        flags: dict[str, Any] = {
            "model-path": site.model_path,
            "served-model-name": settings.model,
            "endpoint": f"dyn://{site.worker_namespace}.{self.components[pool.name]}.generate",
            "host": node.host.address,
            # Also on one node: it decides ports that are otherwise 30233 and up for every worker of a host,
            # and the address under which a prefill worker is reached.
            "dist-init-addr": f"{head.host.address}:{head.port('dist_init')}",
        }
        if len(replica.nodes) > 1:
            flags |= {"nnodes": len(replica.nodes), "node-rank": node.rank}
        if pool.name != "aggregated":
            flags |= {
                "disaggregation-mode": pool.name,
                "disaggregation-transfer-backend": settings.kv_transfer,
            }
            if pool.name == "prefill":
                flags["disaggregation-bootstrap-port"] = head.port("bootstrap")
            if settings.kv_transfer == "mooncake" and node.host.network.rdma_devices:
                flags["disaggregation-ib-device"] = _mooncake_devices(node)
        if _publishes(pool, settings.router_mode):
            # A wildcard is what makes SGLang bind; each DP rank adds its number to the port.
            events = {
                "publisher": "zmq",
                "endpoint": f"tcp://*:{node.port('kv_events')}",
                "topic": "kv-events",
            }
            flags["kv-events-config"] = json.dumps(events, separators=(",", ":"))
        return flags | {"enable-metrics": True}

    @staticmethod
    def _env(case: Case, replica: Replica, node: Node, cache: str) -> dict[str, str]:
        host, options = node.host, case.options
        env = {
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, node.gpus)),
            # Else SGLang publishes the address of the first interface that it finds.
            "SGLANG_HOST_IP": host.address,
            # Kernels compiled at the first start; kept by version, because stale ones hang later starts.
            "SGLANG_DG_CACHE_DIR": f"{cache}/deep_gemm",
            "FLASHINFER_WORKSPACE_BASE": cache,
            "TRITON_CACHE_DIR": f"{cache}/triton",
            "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
            "TVM_FFI_CACHE_DIR": f"{cache}/tvm-ffi",
        }
        dispatch = (DISPATCH_ENV | {"deepep_v2": V2_ENV}).get(options.a2a_backend or "none")
        if dispatch and options.deepep_mode != "normal":
            env[dispatch] = str(options.dispatch_tokens_per_rank)
        if options.a2a_backend == "nixl":
            env["SGLANG_TCP_STORE_PORT"] = str(replica.head.port("tcp_store"))
        return env | network.worker_environment(
            node,
            kv_transfer=case.settings.kv_transfer if case.disaggregated else "",
            all_to_all=options.a2a_backend in ("deepep", "pplx"),
            spans_hosts=len(replica.nodes) > 1,
            gpu=host.card,
            routed=not case.settings.on_kubernetes,
        )


def _mooncake_devices(node: Node) -> str:
    """Return Mooncake's devices: of each GPU as its process counts them, else one list for all."""
    if own := network.devices_of_ranks(node):
        return json.dumps({str(rank): device for rank, device in enumerate(own)}, separators=(",", ":"))
    return ",".join(node.host.network.rdma_devices)


def _options(case: Case, catalogue: Catalogue) -> dict[str, Any]:
    """Return the flags of the typed options that differ from SGLang's own defaults."""
    values: dict[str, Any] = case.options.model_dump()
    values["kv_cache_dtype"] = KV_DTYPES[values["kv_cache_dtype"]]
    values["radix_cache"] = not values["radix_cache"]  # its flag disables
    flags: dict[str, Any] = {}
    for option, flag in FLAGS.items():
        known = catalogue.find(f"--{flag}")
        if values[option] != (known.default if known else None):
            flags[flag] = values[option]
    if not case.options.cuda_graphs and case.decodes:
        flags["cuda-graph-backend-decode"] = "disabled"
    return flags


def _eplb(case: Case) -> dict[str, Any]:
    eplb = case.eplb
    flags: dict[str, Any] = {
        "ep-num-redundant-experts": eplb.redundant_experts or None,
        PLACEMENT_FLAG: case.placement or None,
    }
    if case.placement and eplb.algorithm != "auto":  # copies of a file with counts are placed by it
        flags["eplb-algorithm"] = eplb.algorithm
    if eplb.enabled:
        flags |= {
            "enable-eplb": True,
            "eplb-algorithm": eplb.algorithm,
            "eplb-rebalance-num-iterations": eplb.rebalance_iterations,
            "eplb-min-rebalancing-utilization-threshold": eplb.min_utilization
            if eplb.min_utilization < 1
            else None,
            "eplb-rebalance-layers-per-chunk": eplb.layers_per_chunk,
            "expert-balancedness-report-mode": "prometheus",
        }
    return flags


def _speculative(case: Case) -> dict[str, Any]:
    drafts = case.options.speculative
    if drafts is None:
        return {}
    values = drafts.model_dump() | {"algorithm": ALGORITHMS[drafts.algorithm]}
    if drafts.steps and drafts.algorithm in CHAINS:  # it takes all numbers or none
        values |= {"topk": drafts.topk or 1, "draft_tokens": drafts.verified}
    return {flag: values[name] or None for name, flag in SPECULATIVE_FLAGS.items()}


def _publishes(pool: Pool, router_mode: str) -> bool:
    """Whether a pool's workers tell the router which KV blocks they hold (decode workers keep none)."""
    return router_mode == "kv" and pool.name != "decode"


def _local_ranks(case: Case, replica: Replica, node: Node) -> range:
    """Return the DP ranks whose schedulers run on a node."""
    if not case.options.dp_attention or case.dp == 1:
        return range(1 if node == replica.head else 0)
    each = case.dp // len(replica.nodes)
    return range(node.rank * each, (node.rank + 1) * each)


def _listeners(case: Case, replica: Replica, node: Node) -> tuple[Listener, ...]:
    ports = {"system": node.port("system"), "rpc": node.port("rpc")}
    if node == replica.head:
        ports["dist_init"] = first = node.port("dist_init")
        if case.options.a2a_backend == "nixl":
            ports["tcp_store"] = node.port("tcp_store")
        if case.role == "prefill":
            ports["bootstrap"] = node.port("bootstrap")
        if case.options.dp_attention:
            ports |= {purpose: first + distance for purpose, distance in DERIVED_PORTS.items()}
    if _publishes(case.pool, case.settings.router_mode):
        first = node.port("kv_events")
        ports |= {f"kv_events_{rank}": first + rank for rank in _local_ranks(case, replica, node)}
    return tuple(Listener(purpose, node.host.address, port) for purpose, port in ports.items())


def _ports(case: Case) -> list[Problem]:
    """Return a problem where the KV events of many DP ranks would take the next worker's ports."""
    shared = case.pool.settings.replicas_per_node > 1
    room = (PORTS_PER_WORKER if shared else PORTS_PER_POOL) - WORKER_PORTS["kv_events"]
    if case.dp <= room or not _publishes(case.pool, case.settings.router_mode):
        return []
    return [
        Problem(
            f"each of {case.dp} DP ranks publishes KV events on a port of its own, there are {room}",
            case.at("data_parallel_size"),
            "use fewer ranks, or wideep_router_mode: round-robin",
        )
    ]
