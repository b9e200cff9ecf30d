"""Alerts: what of the metrics of a deployment somebody has to hear of. Each has a section of its runbook.

Names of Dynamo's and engines' metrics are those of `configs/releases/<release>/metrics.json`; tests hold
every expression to it. Numbers that are the plan's (workers of a pool) are written into the expressions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wideep.deployment.model import Deployment
from wideep.monitoring.targets import Target

RUNBOOK = "docs/how-to/alerts.md"


@dataclass(frozen=True)
class Alert:
    """An expression that holds for `for_s` seconds. engine: it is of a real engine, the mocker lacks it."""

    name: str
    expr: str
    for_s: int
    severity: str
    summary: str
    engine: bool = False

    @property
    def rule(self) -> dict[str, Any]:
        """Return it as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": f"{self.for_s}s",
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "runbook": f"{RUNBOOK}#{self.name.lower()}"},
        }


def alerts(deployment: Deployment, found: Mapping[str, Sequence[Target]]) -> list[Alert]:
    """Return the alerts of a deployment, as far as there is somebody to measure them."""
    settings = deployment.settings.monitoring
    made = [
        *_frontend(settings.stall_s, settings.interval_s),
        *_instances(found["worker"]),
        *_engine(settings.kv_floor_gbs),
    ]
    if "etcd" in found:
        made += _etcd(len(found["etcd"]))
    if "load_balancer" in found:
        made.append(
            Alert(
                "LoadBalancerDown",
                'up{job="load_balancer"} == 0',
                15,
                "critical",
                "the load balancer on {{ $labels.host }} does not answer",
            )
        )
    if "nats" in found:
        made.append(
            Alert(
                "NatsDown",
                'up{job="nats"} == 0 or (up{job="nats"} unless on (instance) gnatsd_varz_connections)',
                15,
                "critical",
                "NATS on {{ $labels.host }} does not answer its exporter, or that does not answer",
            )
        )
    if "node" in found:
        made += _nodes()
    if "dcgm" in found:
        made.append(
            Alert(
                "GpuError",
                "DCGM_FI_DEV_XID_ERRORS > 0",
                0,
                "critical",
                "GPU {{ $labels.gpu }} of {{ $labels.host }} reported XID {{ $value }}",
            )
        )
    return made


def document(made: Sequence[Alert]) -> dict[str, Any]:
    """Return a file of rules."""
    return {"groups": [{"name": "wideep", "rules": [alert.rule for alert in made]}]}


def _frontend(stall_s: int, interval_s: int) -> Iterator[Alert]:
    # A rate needs two scrapes in its window.
    window = max(stall_s, 4 * interval_s)
    yield Alert(
        "FrontendDown",
        'up{job="frontend"} == 0',
        15,
        "critical",
        "the frontend on {{ $labels.host }} does not answer",
    )
    yield Alert(
        "ModelNotReady",
        "min by (host, model) (dynamo_frontend_model_ready) == 0"
        ' or (up{job="frontend"} == 1 unless on (instance) dynamo_frontend_model_ready)',
        30,
        "critical",
        "the frontend on {{ $labels.host }} cannot route a request",
    )
    yield Alert(
        "StreamsStalled",
        "sum by (host, model) (min_over_time(dynamo_frontend_inflight_requests"
        f"[{window}s])) > 0 and sum by (host, model)"
        f" (increase(dynamo_frontend_output_tokens_total[{window}s])) == 0",
        0,
        "critical",
        f"requests of {{{{ $labels.model }}}} are open and no token came for {window} s",
    )
    yield Alert(
        "EmptyAnswers",
        'sum by (host, model) (increase(dynamo_frontend_output_sequence_tokens_bucket{le=~"0|0.0"}[5m]))'
        " > 0.01 * sum by (host, model) (increase(dynamo_frontend_output_sequence_tokens_count[5m]))",
        0,
        "critical",
        "{{ $value | humanize }} answers of {{ $labels.model }} had no token in 5 minutes",
    )
    yield Alert(
        "RequestsFail",
        'sum by (host, model) (rate(dynamo_frontend_requests_total{status="error",'
        'error_type!~"validation|cancelled|not_found"}[5m]))'
        " / sum by (host, model) (rate(dynamo_frontend_requests_total[5m])) > 0.02",
        60,
        "critical",
        "{{ $value | humanizePercentage }} of the requests of {{ $labels.model }} fail",
    )
    yield Alert(
        "Migrations",
        "sum by (host, model) (increase(dynamo_frontend_model_migration_total[5m]))"
        " > 3 + 0.01 * sum by (host, model) (increase(dynamo_frontend_requests_total[5m]))",
        0,
        "warning",
        "{{ $value | humanize }} requests of {{ $labels.model }} lost their worker in 5 minutes",
    )


def _instances(workers: Sequence[Target]) -> Iterator[Alert]:
    """Count heads: what the other ranks of a replica answer depends on the engine."""
    pools = [target.labels["pool"] for target in workers if target.labels["rank"] == "0"]
    for pool in dict.fromkeys(pools):
        yield Alert(
            "InstancesMissing",
            f'(sum(up{{job="worker",pool="{pool}",rank="0"}}) or vector(0)) < {pools.count(pool)}',
            15,
            "critical",
            f"{{{{ $value }}}} of {pools.count(pool)} workers of the pool {pool} answer",
        )


def _engine(kv_floor_gbs: float) -> Iterator[Alert]:
    for name, metric, word in (
        ("TransfersFail", "sglang:num_transfer_failed_reqs_total", "transfers of a KV cache failed"),
        (
            "TransfersFail",
            "sglang:num_bootstrap_failed_reqs_total",
            "requests found no peer for the KV cache",
        ),
    ):
        yield Alert(
            name,
            f"sum by (replica) (increase({metric}[5m])) > 0",
            0,
            "critical",
            f"{{{{ $value | humanize }}}} {word} at {{{{ $labels.replica }}}} in 5 minutes",
            engine=True,
        )
    yield Alert(
        "Retractions",
        "sum by (replica) (rate(sglang:num_retracted_requests_total[5m])) > 0",
        300,
        "warning",
        "{{ $labels.replica }} takes requests back all the time: its KV cache is too small",
        engine=True,
    )
    yield Alert(
        "ExpertsUnbalanced",
        "sum by (replica) (rate(sglang:eplb_balancedness_sum[10m]))"
        " / sum by (replica) (rate(sglang:eplb_balancedness_count[10m])) < 0.6",
        600,
        "warning",
        "the experts of {{ $labels.replica }} are balanced to {{ $value | humanizePercentage }}",
        engine=True,
    )
    if kv_floor_gbs:
        yield Alert(
            "TransfersSlow",
            "sum by (replica) (rate(sglang:kv_transfer_speed_gb_s_sum[5m]))"
            f" / sum by (replica) (rate(sglang:kv_transfer_speed_gb_s_count[5m])) < {kv_floor_gbs:g}",
            120,
            "critical",
            f"KV caches reach {{{{ $labels.replica }}}} at {{{{ $value | humanize }}}} GB/s, less than"
            f" {kv_floor_gbs:g}",
            engine=True,
        )


def _etcd(members: int) -> Iterator[Alert]:
    yield Alert(
        "EtcdDown",
        f'(sum(up{{job="etcd"}}) or vector(0)) < {members}',
        15,
        "critical",
        f"{{{{ $value }}}} of {members} members of etcd answer",
    )
    yield Alert(
        "EtcdNoLeader",
        "etcd_server_has_leader == 0",
        15,
        "critical",
        "etcd on {{ $labels.host }} has no leader: nobody is discovered",
    )


def _nodes() -> Iterator[Alert]:
    yield Alert(
        "DiskFull",
        'node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|overlay"}'
        ' / node_filesystem_size_bytes{fstype!~"tmpfs|ramfs|overlay"} < 0.05',
        120,
        "critical",
        "{{ $labels.mountpoint }} on {{ $labels.host }} has {{ $value | humanizePercentage }} left",
    )
    yield Alert(
        "HostDown",
        'up{job="node"} == 0',
        30,
        "critical",
        "the node exporter on {{ $labels.host }} does not answer",
    )
