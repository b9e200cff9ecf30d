"""Alerts before Prometheus' own promtool: each fires where it should, and none where all is well."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_inventories import cluster
from prometheus import program

from wideep.monitoring.rules import alerts, document
from wideep.monitoring.targets import targets
from wideep.plan import make_plan

MONITORING = {
    "enabled": True,
    "node_exporter_port": 9100,
    "dcgm_exporter_port": 9400,
    "nats_exporter_port": 7777,
    "kv_floor_gbs": 5,
}
STEPS = 360  # of 5 s
WORKER = 'up{{job="worker",pool="{0}",rank="0",replica="{0}-{1}",instance="{0}-{1}"}}'
FRONTEND = 'host="h",instance="f",job="frontend"'
OF_MODEL = f'{FRONTEND},model="m"'
AT = 'replica="decode-0"'
DISK = 'host="h",mountpoint="/data",fstype="ext4"'
GOOD = f'dynamo_frontend_requests_total{{{OF_MODEL},status="success",error_type=""}}'
HEALTHY = {
    f"up{{{FRONTEND}}}": "1x360",
    **{WORKER.format(pool, n): "1x360" for pool in ("prefill", "decode") for n in (0, 1)},
    'up{job="load_balancer",host="h"}': "1x360",
    'up{job="etcd",host="h"}': "1x360",
    'up{job="node",host="h"}': "1x360",
    'up{job="dcgm",host="h"}': "1x360",
    'up{job="nats",host="h",instance="n"}': "1x360",
    'gnatsd_varz_connections{job="nats",host="h",instance="n"}': "9x360",
    'etcd_server_has_leader{host="h"}': "1x360",
    f"dynamo_frontend_model_ready{{{OF_MODEL}}}": "1x360",
    f"dynamo_frontend_inflight_requests{{{OF_MODEL}}}": "8x360",
    f"dynamo_frontend_output_tokens_total{{{OF_MODEL}}}": "0+500x360",
    f'dynamo_frontend_output_sequence_tokens_bucket{{{OF_MODEL},le="0"}}': "0x360",
    f"dynamo_frontend_output_sequence_tokens_count{{{OF_MODEL}}}": "0+5x360",
    GOOD: "0+5x360",
    f'dynamo_frontend_model_migration_total{{{OF_MODEL},migration_type="ongoing_request"}}': "0x360",
    f"sglang:num_transfer_failed_reqs_total{{{AT}}}": "0x360",
    f"sglang:num_bootstrap_failed_reqs_total{{{AT}}}": "0x360",
    f"sglang:num_retracted_requests_total{{{AT}}}": "0x360",
    f"sglang:eplb_balancedness_sum{{{AT}}}": "0+9x360",
    f"sglang:eplb_balancedness_count{{{AT}}}": "0+10x360",
    f"sglang:kv_transfer_speed_gb_s_sum{{{AT}}}": "0+400x360",
    f"sglang:kv_transfer_speed_gb_s_count{{{AT}}}": "0+10x360",
    f"node_filesystem_avail_bytes{{{DISK}}}": "50x360",
    f"node_filesystem_size_bytes{{{DISK}}}": "100x360",
    'DCGM_FI_DEV_XID_ERRORS{host="h",gpu="3"}': "0x360",
}
NEVER = "_x360"
# What is otherwise -> what fires then.
CASES: dict[str, tuple[dict[str, str], set[str]]] = {
    "healthy": ({}, set()),
    "nobody asks": (
        {
            f"dynamo_frontend_inflight_requests{{{OF_MODEL}}}": "0x360",
            f"dynamo_frontend_output_tokens_total{{{OF_MODEL}}}": "100x360",
            f"dynamo_frontend_output_sequence_tokens_count{{{OF_MODEL}}}": "5x360",
            GOOD: "5x360",
        },
        set(),
    ),
    "a frontend that does not answer": (
        {f"up{{{FRONTEND}}}": "0x360", f"dynamo_frontend_model_ready{{{OF_MODEL}}}": NEVER},
        {"FrontendDown"},
    ),
    "a frontend that knows no model": (
        {f"dynamo_frontend_model_ready{{{OF_MODEL}}}": NEVER},
        {"ModelNotReady"},
    ),
    "no worker for the model": ({f"dynamo_frontend_model_ready{{{OF_MODEL}}}": "0x360"}, {"ModelNotReady"}),
    "streams that stand still": (
        {f"dynamo_frontend_output_tokens_total{{{OF_MODEL}}}": "0+500x340 170000x20"},
        {"StreamsStalled"},
    ),
    "answers without a token": (
        {f'dynamo_frontend_output_sequence_tokens_bucket{{{OF_MODEL},le="0"}}': "0+1x360"},
        {"EmptyAnswers"},
    ),
    "one in a thousand is empty": (
        {
            f'dynamo_frontend_output_sequence_tokens_bucket{{{OF_MODEL},le="0"}}': "0x350 1x10",
            f"dynamo_frontend_output_sequence_tokens_count{{{OF_MODEL}}}": "0+100x360",
        },
        set(),
    ),
    "one of three requests fails": (
        {
            f'dynamo_frontend_requests_total{{{OF_MODEL},status="error",error_type="internal"}}': "0+3x360",
        },
        {"RequestsFail"},
    ),
    "requests that are wrong": (
        {f'dynamo_frontend_requests_total{{{OF_MODEL},status="error",error_type="validation"}}': "0+3x360"},
        set(),
    ),
    "requests that lose their worker": (
        {
            f'dynamo_frontend_model_migration_total{{{OF_MODEL},migration_type="ongoing_request"}}': "0x340"
            " 20x20"
        },
        {"Migrations"},
    ),
    "one of two workers": ({WORKER.format("decode", 1): "0x360"}, {"InstancesMissing"}),
    "a pool that was never seen": (
        {WORKER.format("prefill", 0): NEVER, WORKER.format("prefill", 1): NEVER},
        {"InstancesMissing"},
    ),
    "transfers that fail": (
        {f"sglang:num_transfer_failed_reqs_total{{{AT}}}": "0x340 2x20"},
        {"TransfersFail"},
    ),
    "peers that are not found": (
        {f"sglang:num_bootstrap_failed_reqs_total{{{AT}}}": "0x340 2x20"},
        {"TransfersFail"},
    ),
    "transfers over the wrong link": (
        {f"sglang:kv_transfer_speed_gb_s_sum{{{AT}}}": "0+16x360"},
        {"TransfersSlow"},
    ),
    "a cache that is too small": (
        {f"sglang:num_retracted_requests_total{{{AT}}}": "0+1x360"},
        {"Retractions"},
    ),
    "a hot expert": ({f"sglang:eplb_balancedness_sum{{{AT}}}": "0+4x360"}, {"ExpertsUnbalanced"}),
    "etcd is gone": ({'up{job="etcd",host="h"}': "0x360"}, {"EtcdDown"}),
    "etcd without a leader": ({'etcd_server_has_leader{host="h"}': "0x360"}, {"EtcdNoLeader"}),
    "NATS behind its exporter": (
        {'gnatsd_varz_connections{job="nats",host="h",instance="n"}': NEVER},
        {"NatsDown"},
    ),
    "a load balancer that is gone": ({'up{job="load_balancer",host="h"}': "0x360"}, {"LoadBalancerDown"}),
    "a full disk": ({f"node_filesystem_avail_bytes{{{DISK}}}": "3x360"}, {"DiskFull"}),
    "a host that is gone": ({'up{job="node",host="h"}': "0x360"}, {"HostDown"}),
    "a GPU with an XID": ({'DCGM_FI_DEV_XID_ERRORS{host="h",gpu="3"}': "79x360"}, {"GpuError"}),
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The rules of an inventory that has everything, and the names of its alerts."""
    groups, hosts = cluster(wideep_engine="mocker", wideep_monitoring=MONITORING)
    hosts["balancer-0"] = hosts["control-0"] | {"ansible_host": "10.0.0.99"}
    frontends = ["control-0", "prefill-0"]
    plan = make_plan({**groups, "frontend": frontends, "load_balancer": ["balancer-0"]}, hosts)
    made = alerts(plan.deployment, targets(plan.deployment, plan.launches))
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(yaml.safe_dump(document(made)), encoding="utf-8")
    return path, sorted({alert.name for alert in made})


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False)


def test_each_alert_has_a_case(rules: tuple[Path, list[str]]) -> None:
    assert set().union(*(fires for _, fires in CASES.values())) == set(rules[1])


def test_the_rules_are_valid(rules: tuple[Path, list[str]]) -> None:
    done = promtool("check", "rules", rules[0])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
def test_what_fires(case: str, rules: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, names = rules
    otherwise, fires = CASES[case]
    test: dict[str, Any] = {
        "interval": "5s",
        "input_series": [
            {"series": series, "values": values} for series, values in (HEALTHY | otherwise).items()
        ],
        "promql_expr_test": [
            {
                "expr": f'count(count by (alertname) (ALERTS{{alertname="{name}",alertstate="firing"}}))',
                "eval_time": f"{STEPS * 5}s",
                "exp_samples": [{"labels": "{}", "value": 1}] if name in fires else [],
            }
            for name in names
        ],
    }
    tests = tmp_path / "tests.yml"
    tests.write_text(
        yaml.safe_dump({"rule_files": [str(path)], "evaluation_interval": "5s", "tests": [test]}),
        encoding="utf-8",
    )
    done = promtool("test", "rules", tests)
    assert done.returncode == 0, done.stdout + done.stderr
