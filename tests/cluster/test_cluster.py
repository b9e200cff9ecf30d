"""Manifests before a real API server: accepted, placed on nodes, and answered through a port-forward."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from conftest import BED, REPOSITORY, controller, crd, make_manifests, wait
from kubernetes import client, config

from wideep.kubernetes import server
from wideep.kubernetes.manifests import Manifests, to_yaml

ENGINES = ("sglang", "trtllm")
APIS = ("v1alpha1", "v1beta1")


def manifests(engine: str, **variables: Any) -> Manifests:
    made = make_manifests.manifests(f"kubernetes_{engine}", **variables)
    assert isinstance(made, Manifests)
    return made


def apply(kubeconfig: str, *objects: dict[str, Any]) -> None:
    """Apply objects as k8s/README.md says."""
    command = ["kubectl", f"--kubeconfig={kubeconfig}", "apply", "--server-side", "--filename=-"]
    subprocess.run(command, input=to_yaml(objects), text=True, check=True, stdout=subprocess.DEVNULL)


def graph_status(api: client.ApiClient, name: str, version: str = "v1alpha1") -> dict[str, Any]:
    custom = client.CustomObjectsApi(api)
    found = custom.get_namespaced_custom_object(
        "nvidia.com", version, "dynamo", "dynamographdeployments", name
    )
    return dict(found.get("status", {}))


def ready(api: client.ApiClient, name: str, version: str = "v1alpha1") -> bool:
    conditions = graph_status(api, name, version).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def pods(api: client.ApiClient) -> dict[str, Any]:
    label = "nvidia.com/dynamo-graph-deployment-name"
    found = client.CoreV1Api(api).list_namespaced_pod("dynamo", label_selector=label).items
    return {pod.metadata.name: pod for pod in found}


# ---- what the API server says --------------------------------------------------------------------


@pytest.mark.parametrize("version", APIS)
def test_every_manifest_is_accepted_strictly(api: client.ApiClient, namespace: str, version: str) -> None:
    with crd(api, version):
        for engine in ENGINES:
            made = manifests(engine, wideep_graph_api=version)
            assert server.dry_run(api, (*made.model, *made.graph)) == []
            graph = copy.deepcopy(made.graph[-1])
            graph["spec"]["backendFramwork"] = "sglang"
            (problem,) = server.dry_run(api, [graph])
            assert "backendFramwork" in problem.message
            graph = copy.deepcopy(made.graph[-1])
            graph["spec"]["backendFramework"] = "other"
            assert any("backendFramework" in p.where + p.message for p in server.dry_run(api, [graph]))


def test_pod_templates_are_accepted_as_pods(api: client.ApiClient, namespace: str) -> None:
    """The CRD takes any pod template; the API server judges it as the pod that the operator makes of it."""
    everything = {
        "host_network": True,
        "host_ipc": True,
        "privileged": True,
        "run_as_user": 0,
        "resources": {"worker": {"requests": {"cpu": "96"}, "limits": {"memory": "1Ti"}}},
        "cache_host_path": "/srv/cache",
        "node_selector": {"a": "b"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    }
    for engine in ENGINES:
        for own in ({}, {"wideep_kubernetes": {**everything, "rdma_resource": "rdma/ib"}}):
            graph = manifests(engine, wideep_graph_api="v1beta1", **own).graph[-1]
            for component in graph["spec"]["components"]:
                metadata = {"name": component["name"], "namespace": "dynamo"}
                template = component["podTemplate"]
                metadata |= template["metadata"]
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
                assert server.dry_run(api, [pod]) == []


def test_who_may_not_is_told(kubeconfig: str, api: client.ApiClient, namespace: str) -> None:
    with crd(api, "v1alpha1"):
        guest = config.new_client_from_config(str(Path(kubeconfig).with_name("kubeconfig-guest")))
        problems = server.dry_run(guest, manifests("trtllm").graph)
        assert len(problems) == 3
        assert all("cannot patch resource" in p.message and 'User "guest"' in p.message for p in problems)


def test_cluster_without_the_platform(api: client.ApiClient, namespace: str) -> None:
    (problem,) = server.dry_run(api, manifests("sglang").graph)
    assert "does not know nvidia.com/v1alpha1" in problem.message


# ---- what becomes of it --------------------------------------------------------------------------


@pytest.mark.parametrize("version", APIS)
def test_one_worker_pod_a_node(kubeconfig: str, api: client.ApiClient, namespace: str, version: str) -> None:
    """With half a node's GPUs for each pod, too: their labels keep them apart, as Grove leaves those."""
    half = version == "v1beta1"
    made = manifests("sglang", wideep_graph_api=version)
    other = manifests("trtllm", wideep_graph_api=version)
    for component in (c for m in (made, other) for c in m.graph[-1]["spec"].get("components", ())):
        limits = component["podTemplate"]["spec"]["containers"][0]["resources"].get("limits", {})
        limits |= dict.fromkeys(limits, "4")
    with crd(api, version), controller(kubeconfig):
        apply(kubeconfig, *made.model)
        # As k8s/README.md says.
        readme = (REPOSITORY / "k8s" / "README.md").read_text(encoding="utf-8")
        (line,) = (line for line in readme.splitlines() if "wait --for=condition=complete" in line)
        words = [*line.replace("--timeout=6h", "--timeout=60s").split(), f"--kubeconfig={kubeconfig}"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        apply(kubeconfig, *made.graph)
        wait("the graph is ready", lambda: ready(api, "deepseek-r1-wideep", version))
        found = pods(api)
        nodes = {name: pod.spec.node_name for name, pod in found.items()}
        frontends = {n: node for n, node in nodes.items() if "frontend" in n}
        workers = {n: node for n, node in nodes.items() if n not in frontends}
        assert list(frontends.values()) == ["cpu-0"]
        assert sorted(workers.values()) == [f"gpu-{n}" for n in range(8)]
        leader = found["deepseek-r1-wideep-decode-0-ldr"].spec.containers[0]
        third = found["deepseek-r1-wideep-decode-0-wkr-3"].spec.containers[0]
        assert leader.args[-2:] == ["--node-rank", "0"]
        assert third.args[-2:] == ["--node-rank", "3"]
        assert leader.startup_probe.failure_threshold == 720
        assert third.startup_probe is None
        assert leader.resources.limits["nvidia.com/gpu"] == ("4" if half else "8")
        assert leader.resources.requests["memory"] == "80Gi"
        assert found["deepseek-r1-wideep-frontend-0"].status.qos_class == "Burstable"

        # No node is left: the pods of one more deployment wait, and say why.
        apply(kubeconfig, *other.graph)
        label = "wideep.dynamo/deployment=deepseek-r1-trtllm,wideep.dynamo/role=worker"
        why = "anti-affinity" if half else "Insufficient nvidia.com/gpu"

        def waiting() -> bool:
            items = client.CoreV1Api(api).list_namespaced_pod("dynamo", label_selector=label).items
            return len(items) == 4 and all(
                any(why in (c.message or "") for c in pod.status.conditions or []) for pod in items
            )

        wait("four pods are pending for a node", waiting)
        assert not ready(api, "deepseek-r1-trtllm", version)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.usefixtures("namespace")
def test_a_forwarded_request_is_answered(
    kubeconfig: str, api: client.ApiClient, dynamo_bin: Path, tmp_path: Path, engine: str
) -> None:
    """Through the API server to the frontend's pod: Dynamo's own frontend, and its mocker for the engine."""
    made = manifests(engine)
    model = REPOSITORY / "configs" / "models" / "rehearsal"
    etcd = f"http://127.0.0.1:{23790 + int(BED[-1])}"
    serve = ("--serve", str(tmp_path), "--python", str(dynamo_bin / "python"), "--model", str(model))
    with crd(api, "v1alpha1"), controller(kubeconfig, *serve, "--etcd", etcd):
        name = made.graph[-1]["metadata"]["name"]
        apply(kubeconfig, *made.model, *made.graph)
        wait("the graph is ready", lambda: ready(api, name), 120)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        forward = subprocess.Popen(
            [
                "kubectl",
                f"--kubeconfig={kubeconfig}",
                "--namespace=dynamo",
                "port-forward",
                f"svc/{name}-frontend",
                f"{port}:8000",
            ]
        )
        try:
            wait("the port is open", lambda: _open(port), 20)
            answer = _completion(port, "deepseek-ai/DeepSeek-R1")
            assert answer["usage"]["completion_tokens"] == 8
        finally:
            forward.terminate()
            forward.wait()
        logs = client.CoreV1Api(api).read_namespaced_pod_log(f"{name}-frontend-0", "dynamo", container="main")
        assert "http" in logs


def _open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _completion(port: int, model: str) -> dict[str, Any]:
    body = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return dict(json.load(answer))


# ---- the bed itself ------------------------------------------------------------------------------


def test_beds_stand_side_by_side_and_leave_nothing(kubeconfig: str, tmp_path: Path) -> None:
    state = tmp_path / "bed"
    bed = [sys.executable, BED[1], "--offset", "900", "--state", str(state)]
    subprocess.run([*bed, "up"], check=True, stdout=subprocess.DEVNULL)
    status = json.loads(subprocess.run([*bed, "status"], capture_output=True, text=True).stdout)
    assert status["memory_mib"] < 2000
    pids = [program["pid"] for program in status["programs"].values()]
    assert all(pids)
    assert oct(state.stat().st_mode & 0o777) == "0o700"
    started = time.monotonic()
    subprocess.run([*bed, "down"], check=True)
    assert time.monotonic() - started < 60
    assert not state.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
