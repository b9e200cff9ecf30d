#!/usr/bin/env python3
"""Writes configs/grafana/wideep.json, the dashboard of a deployment, by Grafana's own typed builders.

Metrics are Dynamo's and the engines' (configs/releases/<release>/metrics.json) and those of exporters; labels
are those of our targets (`wideep.monitoring.targets`). `make reference` runs it; tests hold the file to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef

TARGET = Path(__file__).resolve().parents[1] / "configs" / "grafana" / "wideep.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# Panels of metrics that the simulated engine lacks, or that are counted from the first event on.
ENGINE = "Of a real engine: empty with the simulated one."
EXPORTER = "Of exporters on the hosts: empty without them."
EVENT = "Empty until it happens for the first time."
RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """A graph: legend -> expression."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    note: str = ""


def quantiles(metric: str, by: str = "") -> dict[str, str]:
    """Return the median and two tails of a histogram."""
    labels = f"le, {by}" if by else "le"
    return {
        f"p{share * 100:g}": f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{RATE})))"
        for share in (0.5, 0.9, 0.99)
    }


def mean(metric: str, by: str) -> str:
    """Return the mean of a histogram or summary."""
    return f"sum by ({by}) (rate({metric}_sum{RATE})) / sum by ({by}) (rate({metric}_count{RATE}))"


def rate(metric: str, by: str) -> str:
    """Return how often something is counted in a second."""
    return f"sum by ({by}) (rate({metric}{RATE}))"


FRONTEND = "dynamo_frontend"
WORKER = "dynamo_component"
EACH = "worker_type, worker_id"
ROUTER = "dynamo_component_router"
ROWS: dict[str, tuple[Panel, ...]] = {
    "Service": (
        Panel(
            "Requests",
            {"{{status}} {{error_type}}": rate(f"{FRONTEND}_requests_total", "status, error_type")},
            "reqps",
        ),
        Panel("Open requests", {"{{model}}": f"sum by (model) ({FRONTEND}_inflight_requests)"}),
        Panel("Time to first token", quantiles(f"{FRONTEND}_time_to_first_token_seconds"), "s"),
        Panel("Between tokens", quantiles(f"{FRONTEND}_inter_token_latency_seconds"), "s"),
        Panel("Whole request", quantiles(f"{FRONTEND}_request_duration_seconds"), "s"),
        Panel(
            "Tokens in a second",
            {
                "generated": rate(f"{FRONTEND}_output_tokens_total", "job"),
                "prompts": rate(f"{FRONTEND}_input_sequence_tokens_sum", "job"),
            },
        ),
        Panel("Requests by stage", {"{{stage}}": f"sum by (stage) ({FRONTEND}_stage_requests)"}),
        Panel(
            "Models that can be served",
            {"{{model}} {{host}}": f"min by (model, host) ({FRONTEND}_model_ready)"},
        ),
        Panel(
            "Requests that lost their worker",
            {"{{migration_type}}": rate(f"{FRONTEND}_model_migration_total", "migration_type")},
            "reqps",
            EVENT,
        ),
        Panel(
            "Failures",
            {"{{error_type}}": rate(f'{FRONTEND}_requests_total{{status="error"}}', "error_type")},
            "reqps",
            EVENT,
        ),
    ),
    "Prefill and decode": (
        Panel("Workers that answer", {"{{pool}}": 'sum by (pool) (up{job="worker"})'}),
        Panel("Requests at a worker", {"{{replica}}": f"sum by (replica) ({WORKER}_inflight_requests)"}),
        Panel("Requests by pool", {"{{pool}}": rate(f"{WORKER}_requests_total", "pool")}, "reqps"),
        Panel(
            "Time of a request by pool", {"{{pool}}": mean(f"{WORKER}_request_duration_seconds", "pool")}, "s"
        ),
        Panel(
            "Waiting before a worker", {"{{replica}}": "sum by (replica) (dynamo_work_handler_queue_depth)"}
        ),
        Panel("Bytes answered by pool", {"{{pool}}": rate(f"{WORKER}_response_bytes_total", "pool")}, "Bps"),
    ),
    "Router and KV cache": (
        Panel(
            "Registered workers", {"{{worker_type}}": f"sum by (worker_type) ({ROUTER}_worker_registered)"}
        ),
        Panel(
            "Prefix found at the chosen worker",
            {"share": mean(f"{ROUTER}_kv_hit_rate", "job")},
            "percentunit",
        ),
        Panel(
            "Prefill done to first token, at most",
            quantiles(f"{ROUTER}_kv_transfer_estimated_latency_seconds"),
            "s",
        ),
        Panel(
            "Blocks of running requests",
            {"{{worker_type}} {{worker_id}}": f"sum by ({EACH}) ({FRONTEND}_worker_active_decode_blocks)"},
        ),
        Panel(
            "KV cache in use", {"{{replica}}": "max by (replica) (sglang:token_usage)"}, "percentunit", ENGINE
        ),
        Panel(
            "KV transfer", {"to {{replica}}": mean("sglang:kv_transfer_speed_gb_s", "replica")}, "GBs", ENGINE
        ),
        Panel(
            "Transfers that failed",
            {"{{replica}}": rate("sglang:num_transfer_failed_reqs_total", "replica")},
            "reqps",
            ENGINE,
        ),
        Panel(
            "Requests taken back",
            {"{{replica}}": rate("sglang:num_retracted_requests_total", "replica")},
            "reqps",
            ENGINE,
        ),
    ),
    "Engine": (
        Panel(
            "Balance of experts (1 is even)",
            {"{{replica}} {{forward_mode}}": mean("sglang:eplb_balancedness", "replica, forward_mode")},
            "percentunit",
            ENGINE,
        ),
        Panel(
            "Running requests by rank",
            {"{{replica}} {{dp_rank}}": "sum by (replica, dp_rank) (sglang:num_running_reqs)"},
            "short",
            ENGINE,
        ),
        Panel(
            "Waiting requests", {"{{replica}}": "sum by (replica) (sglang:num_queue_reqs)"}, "short", ENGINE
        ),
        Panel(
            "Tokens in a second", {"{{replica}}": "sum by (replica) (sglang:gen_throughput)"}, "short", ENGINE
        ),
        Panel(
            "Accepted drafts",
            {"{{replica}}": "avg by (replica) (sglang:spec_accept_length)"},
            "short",
            ENGINE,
        ),
        Panel(
            "Passes with a CUDA graph",
            {"{{replica}}": rate("sglang:cuda_graph_passes_total", "replica")},
            "short",
            ENGINE,
        ),
    ),
    "GPUs": (
        Panel(
            "Tensor cores, busiest and idlest of a host",
            {
                "{{host}} most": "max by (host) (DCGM_FI_PROF_PIPE_TENSOR_ACTIVE)",
                "{{host}} least": "min by (host) (DCGM_FI_PROF_PIPE_TENSOR_ACTIVE)",
            },
            "percentunit",
            EXPORTER,
        ),
        Panel("Memory in use", {"{{host}}": "max by (host) (DCGM_FI_DEV_FB_USED)"}, "decmbytes", EXPORTER),
        Panel("Power", {"{{host}}": "sum by (host) (DCGM_FI_DEV_POWER_USAGE)"}, "watt", EXPORTER),
        Panel(
            "NVLink",
            {
                "{{host}} sent": "sum by (host) (DCGM_FI_PROF_NVLINK_TX_BYTES)",
                "{{host}} received": "sum by (host) (DCGM_FI_PROF_NVLINK_RX_BYTES)",
            },
            "Bps",
            EXPORTER,
        ),
        Panel("Temperature", {"{{host}}": "max by (host) (DCGM_FI_DEV_GPU_TEMP)"}, "celsius", EXPORTER),
        Panel(
            "InfiniBand",
            {
                "{{host}} sent": rate("node_infiniband_port_data_transmitted_bytes_total", "host"),
                "{{host}} received": rate("node_infiniband_port_data_received_bytes_total", "host"),
            },
            "Bps",
            EXPORTER,
        ),
    ),
    "Control plane": (
        Panel("etcd has a leader", {"{{host}}": "etcd_server_has_leader"}),
        Panel("etcd writes to disk", quantiles("etcd_disk_wal_fsync_duration_seconds"), "s"),
        Panel("Event loop of the frontends is late", quantiles(f"{FRONTEND}_event_loop_delay_seconds"), "s"),
        Panel("Processes that run", {"{{job}}": "sum by (job) (up)"}),
    ),
}


def _panel(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .unit(panel.unit)
        .min(0)
        .span(8)
        .height(7)
        .fill_opacity(5)
        .datasource(SOURCE)
        .legend(_legend())
    )
    if panel.note:
        made = made.description(panel.note)
    for letter, (legend, expression) in zip("ABCD", panel.queries.items(), strict=False):
        made = made.with_target(prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter))
    return made


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def document() -> dict[str, Any]:
    """Return the dashboard."""
    made = (
        dashboard.Dashboard("wideep")
        .uid("wideep")
        .tags(["dynamo", "wideep"])
        .refresh("10s")
        .time("now-30m", "now")
        .tooltip(1)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for title, panels in ROWS.items():
        made = made.with_row(dashboard.Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel))
    found: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True, indent=1).encode(made.build()))
    return found


def text() -> str:
    """Return the file."""
    return json.dumps(document(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text(), encoding="utf-8")
