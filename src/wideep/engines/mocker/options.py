"""The mocker's options, and what the plan itself decides of its flags."""

from __future__ import annotations

from typing import Any

from wideep.deployment.model import PORTS_PER_WORKER, WORKER_PORTS, Deployment, Pool
from wideep.deployment.site import PLANE_FLAGS

BLOCK_SIZE = {"sglang": 64, "trtllm": 32}
# Of several hosts on one machine: the mocker opens its bootstrap port on all addresses, so
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


def block_size(deployment: Deployment, pool: Pool) -> Any:
    """Return the tokens of a KV block: the imitated engine's, unless the operator says more."""
    default = BLOCK_SIZE[deployment.settings.engine_flavour]
    return extra_flags(pool).get("block-size", pool.settings.options.get("block_size", default))


def extra_flags(pool: Pool) -> dict[str, Any]:
    """Return a pool's extra_args, however they are written, by the name that `launch` uses."""
    return {k.removeprefix("--").replace("_", "-"): v for k, v in pool.settings.extra_args.items()}


def machine_is_shared(deployment: Deployment) -> bool:
    """Whether several hosts of the deployment are one machine."""
    return deployment.one_machine and len(deployment.hosts) > 1
