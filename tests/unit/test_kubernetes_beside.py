"""Objects beside a graph: NVLink domains, ways in, policies, budgets, monitors; placement in the graph."""

from __future__ import annotations

from typing import Any

import pytest
from example_inventories import inventory as of_repository
from example_inventories import refusal

from wideep.cluster import objects
from wideep.inventory.kubernetes import KubernetesSettings
from wideep.plan import make_plan

ASKED = {
    "compute_domain": "r1",
    "network_policy": {"enabled": True, "clients": ["apps"], "monitoring": ["monitoring"]},
    "disruption_budgets": True,
    "pod_monitors": True,
    "expose": {"kind": "ingress", "host": "llm.example.com", "tls_secret": "llm-tls"},
}
KINDS = [
    "ComputeDomain",
    *["NetworkPolicy"] * 2,
    *["PodDisruptionBudget"] * 3,
    *["PodMonitor"] * 2,
    "Ingress",
]


def variables(own: dict[str, Any], **more: Any) -> Any:
    _, hosts = of_repository("kubernetes_sglang")
    return of_repository(
        "kubernetes_sglang", wideep_kubernetes=hosts["localhost"]["wideep_kubernetes"] | own, **more
    )


def made(own: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    manifests = make_plan(*variables(own, **more)).manifests
    assert manifests is not None
    return list(manifests.graph)


def one(items: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = (item for item in items if item["kind"] == kind and name in ("", item["metadata"]["name"]))
    return found


def test_nothing_stands_beside_a_graph_unless_it_is_asked_for() -> None:
    assert {item["kind"] for item in made({})} <= {"ConfigMap", "DynamoGraphDeployment"}


def test_what_is_asked_for_is_known_to_teardown_and_comes_before_the_graph() -> None:
    items = [item for item in made(ASKED) if item["kind"] != "ConfigMap"]
    assert [item["kind"] for item in items] == [*KINDS, "DynamoGraphDeployment"]
    for item in items:
        assert objects.path_of(item).endswith(item["metadata"]["name"])
        version = item["apiVersion"].rpartition("/")[2]
        assert objects.reference(item["kind"], version, item)["apiVersion"] == item["apiVersion"]


@pytest.mark.parametrize(("nodes", "rendered"), [({}, 8), ({"compute_domain_nodes": 0}, 0)])
def test_worker_pods_claim_the_channel_of_the_domain(nodes: dict[str, int], rendered: int) -> None:
    items = made({"compute_domain": "r1"} | nodes)
    domain = one(items, "ComputeDomain")["spec"]
    assert domain == {"numNodes": rendered, "channel": {"resourceClaimTemplate": {"name": "r1-channel"}}}
    for component in one(items, "DynamoGraphDeployment")["spec"]["components"]:
        spec = component["podTemplate"]["spec"]
        if component["name"] == "frontend":
            assert "resourceClaims" not in spec
            continue
        assert spec["resourceClaims"] == [{"name": "channel", "resourceClaimTemplateName": "r1-channel"}]
        assert spec["containers"][0]["resources"]["claims"] == [{"name": "channel"}]


def test_workers_take_connections_of_their_deployment_and_prometheus_only() -> None:
    policy = one(made(ASKED), "NetworkPolicy", "deepseek-r1-wideep-worker")["spec"]
    ours = {"wideep.dynamo/deployment": "deepseek-r1-wideep"}
    assert policy["podSelector"]["matchLabels"] == ours | {"wideep.dynamo/role": "worker"}
    inside, metrics = policy["ingress"]
    assert inside == {"from": [{"podSelector": {"matchLabels": ours}}]}
    assert metrics["ports"] == [{"port": 9090}]
    frontends = one(made(ASKED), "NetworkPolicy", "deepseek-r1-wideep-frontend")["spec"]
    assert frontends["ingress"][-1] == {
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "apps"}}}],
        "ports": [{"port": 8000}],
    }
    everybody = one(
        made(ASKED | {"network_policy": {"enabled": True}}), "NetworkPolicy", "deepseek-r1-wideep-frontend"
    )
    assert everybody["spec"]["ingress"][-1] == {"ports": [{"port": 8000}]}


@pytest.mark.parametrize(("replicas", "stays"), [(1, 1), (3, 2)])
def test_evictions_leave_all_frontends_but_one(replicas: int, stays: int) -> None:
    items = made({"disruption_budgets": True, "frontend_replicas": replicas})
    assert one(items, "PodDisruptionBudget", "deepseek-r1-wideep-frontend")["spec"]["minAvailable"] == stays
    # One replica of four pods: none may go.
    assert one(items, "PodDisruptionBudget", "deepseek-r1-wideep-prefill")["spec"]["minAvailable"] == 4


def test_a_way_in_lets_answers_stream() -> None:
    ingress = one(made(ASKED), "Ingress")
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "3600"
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert ingress["spec"]["tls"] == [{"hosts": ["llm.example.com"], "secretName": "llm-tls"}]
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "deepseek-r1-wideep-frontend", "port": {"number": 8000}}
    way = {"kind": "gateway", "host": "llm.example.com", "gateway": "edge/public", "timeout_s": 900}
    route = one(made({"expose": way}), "HTTPRoute")["spec"]
    assert route["parentRefs"] == [{"name": "public", "namespace": "edge"}]
    assert route["rules"][0]["timeouts"] == {"request": "900s", "backendRequest": "900s"}
    assert "hostnames" not in one(made({"expose": way | {"host": "*"}}), "HTTPRoute")["spec"]


@pytest.mark.parametrize(
    ("api", "field"), [("v1beta1", "clusterTopologyName"), ("v1alpha1", "topologyProfile")]
)
def test_placement_by_topology(api: str, field: str) -> None:
    own = {
        "topology": {"cluster_topology": "racks", "pack_domain": "block"},
        "pools": {"decode": {"pack_domain": "rack", "min_available": 1}},
        "kv_locality": {
            "domain": "rack",
            "label_key": "topology.kubernetes.io/rack",
            "enforcement": "preferred",
            "preferred_weight": 0.5,
        },
    }
    spec = one(made(own, wideep_graph_api=api), "DynamoGraphDeployment")["spec"]
    assert spec["topologyConstraint"] == {field: "racks", "packDomain": "block"}
    assert spec["experimental"]["kvTransferPolicy"]["preferredWeight"] == 0.5
    parts = spec.get("services") or {part["name"]: part for part in spec["components"]}
    assert parts["decode"]["topologyConstraint"] == {"packDomain": "rack"}
    assert parts["decode"]["minAvailable"] == 1
    assert not {"minAvailable", "topologyConstraint"} & parts["prefill"].keys()


@pytest.mark.parametrize(("api", "said"), [("v1beta1", {}), ("v1alpha1", {"enabled": True})])
def test_a_pool_that_others_scale(api: str, said: dict[str, Any]) -> None:
    own = {"pools": {"decode": {"scaling_adapter": True}}}
    spec = one(made(own, wideep_graph_api=api), "DynamoGraphDeployment")["spec"]
    parts = spec.get("services") or {part["name"]: part for part in spec["components"]}
    assert parts["decode"]["scalingAdapter"] == said
    assert "scalingAdapter" not in parts["prefill"]


@pytest.mark.parametrize(
    ("own", "grove"),
    [
        ({}, False),
        ({"topology": {"cluster_topology": "racks"}}, True),
        ({"pools": {"decode": {"min_available": 1}}}, True),
        ({"pools": {"decode": {"min_available": 1}}, "orchestrator": "lws"}, False),
    ],
)
def test_what_only_grove_does_brings_grove_to_replicas_of_one_pod(own: dict[str, Any], grove: bool) -> None:
    assert KubernetesSettings.model_validate(own).uses_grove(several_nodes=False) is grove


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"topology": {"pack_domain": "rack"}}, "a level without a topology"),
        ({"pools": {"decode": {"pack_domain": "rack"}}}, "a level without a topology"),
        ({"topology": {"cluster_topology": "racks"}}, "nothing is placed by it"),
        ({"pools": {"decode": {"min_available": 2}}}, "2 of 1 replicas"),
        ({"pools": {"decode": {"min_available": 1}}, "orchestrator": "lws"}, "only Grove reads it"),
        ({"kv_locality": {"domain": "rack"}}, "one place"),
        ({"kv_locality": {"domain": "rack", "label_key": "a", "cluster_topology": "b"}}, "one place"),
        ({"kv_locality": {"label_key": "rack"}}, "it has no level"),
        ({"kv_locality": {"domain": "rack", "label_key": "a", "preferred_weight": 1}}, "needs a weight"),
        ({"kv_locality": {"domain": "rack", "label_key": "a", "enforcement": "preferred"}}, "needs a weight"),
        (
            {"kv_locality": {"domain": "rack", "cluster_topology": "r"}, "orchestrator": "lws"},
            "it is Grove's",
        ),
        ({"expose": {"kind": "ingress"}}, "without a host"),
        ({"expose": {"host": "llm.example.com"}}, "without a kind"),
        ({"expose": {"kind": "ingress", "host": "*", "gateway": "edge/a"}}, "kind ingress has none of it"),
        ({"expose": {"kind": "gateway", "host": "*", "gateway": "a", "tls_secret": "b"}}, "has none of it"),
        ({"network_policy": {"clients": ["apps"]}}, "nobody is kept out"),
        ({"compute_domain_nodes": 4}, "of no domain"),
        ({"resource_claims": [{"name": "nic", "template": "a", "claim": "b"}]}, "or one that all share"),
        ({"labels": {"wideep.dynamo/pool": "z"}}, "pods are found by it"),
        ({"pools": {"decode": {"min_availble": 1}}}, "unknown key"),
        ({"pools": {"decode": {"resource_claims": [{"nam": "x"}]}}}, "unknown key"),
        ({"expose": {"kind": "ingress", "host": "https://llm.example.com/"}}, "expose.host"),
        ({"expose": {"kind": "gateway", "host": "a.example.com"}}, "a route needs its Gateway"),
    ],
)
def test_what_the_operator_or_a_server_would_refuse(own: dict[str, Any], said: str) -> None:
    assert any(said in f"{problem.where}: {problem.message}" for problem in refusal(*variables(own)))


def test_the_nearest_key_of_a_map_is_named() -> None:
    (problem,) = refusal(*variables({"pools": {"decode": {"min_availble": 1}}}))
    assert problem.remedy == "did you mean min_available?"


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"disruption_budgets": True}, "prefill, decode, frontend there is one"),
        ({"network_policy": {"enabled": True}, "host_network": True}, "pods with the node's network"),
        ({"compute_domain": "r1"}, "has no NVLink between nodes"),
        ({**ASKED, "compute_domain": ""}, "comes from the namespace of its controller"),
        ({"pools": {"aggregated": {"pack_domain": ""}}}, "there is no such pool"),
    ],
)
def test_what_does_less_than_it_says_is_a_warning(own: dict[str, Any], said: str) -> None:
    warnings = [problem.message for problem in make_plan(*variables(own)).warnings]
    assert any(said in warning for warning in warnings)
