"""The list of rules, and the names that flags and options have in SGLang."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wideep.deployment import tls
from wideep.deployment.site import PLANE_FLAGS
from wideep.engines.sglang.options import FLAGS, Case
from wideep.problems import Problem

__all__ = ["FLAGS", "OWNED", "RULES", "rule"]
Rule = Callable[[Case], Iterator[Problem]]
RULES: list[Rule] = []

# Flags that follow from the inventory: flag -> what decides it.
OWNED = {
    "model-path": "wideep_model_path",
    "served-model-name": "wideep_model",
    "namespace": "wideep_namespace",
    "endpoint": "wideep_namespace",
    **PLANE_FLAGS,
    **tls.FLAGS,
    "nnodes": "wideep_pools.<pool>.nodes_per_replica",
    "node-rank": "the order of hosts in the inventory group",
    "dist-init-addr": "wideep_address and wideep_worker_port_base",
    "host": "wideep_address",
    "port": "wideep_worker_port_base",
    "nccl-port": "wideep_worker_port_base",
    "base-gpu-id": "wideep_pools.<pool>.gpus_per_node",
    "gpu-id-step": "wideep_pools.<pool>.gpus_per_node",
    "disaggregation-mode": "the inventory group that a host is in",
    "disaggregation-transfer-backend": "wideep_kv_transfer",
    "disaggregation-bootstrap-port": "wideep_worker_port_base",
    "disaggregation-ib-device": "wideep_network",
    "kv-events-config": "wideep_router_mode",
    "enable-metrics": "the plan, always",
    "config": "wideep_pools.<pool>.options",
    "disagg-config": "wideep_pools.<pool>.options",
    "disagg-config-key": "wideep_pools.<pool>.options",
    "enable-eplb": "wideep_eplb.enabled",
    "ep-num-redundant-experts": "wideep_eplb.redundant_experts",
    "eplb-algorithm": "wideep_eplb.algorithm",
    "eplb-rebalance-num-iterations": "wideep_eplb.rebalance_iterations",
    "eplb-min-rebalancing-utilization-threshold": "wideep_eplb.min_utilization",
    "eplb-rebalance-layers-per-chunk": "wideep_eplb.layers_per_chunk",
}


def rule(function: Rule) -> Rule:
    """Add a rule to the list."""
    RULES.append(function)
    return function
