"""Manifests before a real API server: accepted, placed on nodes, and answered through a port-forward."""

from __future__ import annotations

import contextlib
import copy
import json
import socket
import subprocess
import sys
import urllib.request
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

import ansible_runs
import pytest
from conftest import BED, REPOSITORY, controller, crd, make_manifests
from kubernetes import client, config
from waiting import until

from wideep.cluster import forward, server
from wideep.cluster.access import Cluster, ClusterError
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


def graph_status(api: client.ApiClient, name: str, version: str = "v1beta1") -> dict[str, Any]:
    custom = client.CustomObjectsApi(api)
    found = custom.get_namespaced_custom_object(
        "nvidia.com", version, "dynamo", "dynamographdeployments", name
    )
    return dict(found.get("status", {}))


def ready(api: client.ApiClient, name: str, version: str = "v1beta1") -> bool:
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
    with crd(api, "v1beta1"):
        guest = config.new_client_from_config(str(Path(kubeconfig).with_name("kubeconfig-guest")))
        problems = server.dry_run(guest, manifests("trtllm").graph)
        assert len(problems) == 3
        assert all("cannot patch resource" in p.message and 'User "guest"' in p.message for p in problems)


def test_cluster_without_the_platform(api: client.ApiClient, namespace: str) -> None:
    (problem,) = server.dry_run(api, manifests("sglang").graph)
    assert "does not know nvidia.com/v1beta1" in problem.message


# ---- what becomes of it --------------------------------------------------------------------------


@pytest.mark.parametrize("version", APIS)
def test_the_pods_of_a_replica_are_on_a_node_each(
    kubeconfig: str, api: client.ApiClient, namespace: str, version: str
) -> None:
    """With half a node's GPUs for each pod, too, where a second deployment has the other half."""
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
        until("the graph is ready", lambda: ready(api, "deepseek-r1-wideep", version))
        found = pods(api)
        nodes = {name: pod.spec.node_name for name, pod in found.items()}
        frontends = {n: node for n, node in nodes.items() if "frontend" in n}
        workers = {n: node for n, node in nodes.items() if n not in frontends}
        assert list(frontends.values()) == ["cpu-0"]
        assert set(workers.values()) <= {f"gpu-{n}" for n in range(8)}
        for pool in ("prefill", "decode"):
            assert len({node for name, node in workers.items() if f"-{pool}-" in name}) == 4
        leader = found["deepseek-r1-wideep-decode-0-ldr"].spec.containers[0]
        third = found["deepseek-r1-wideep-decode-0-wkr-3"].spec.containers[0]
        assert leader.args[-2:] == ["--node-rank", "0"]
        assert third.args[-2:] == ["--node-rank", "3"]
        assert leader.startup_probe.failure_threshold == 720
        assert third.startup_probe is None
        assert leader.resources.limits["nvidia.com/gpu"] == ("4" if half else "8")
        assert leader.resources.requests["memory"] == "80Gi"
        assert found["deepseek-r1-wideep-frontend-0"].status.qos_class == "Burstable"

        # The pods of one more deployment are on the other halves; without any they wait, and say why.
        apply(kubeconfig, *other.graph)
        if half:
            until("the second graph is ready", lambda: ready(api, "deepseek-r1-trtllm", version))
            return
        label = "wideep.dynamo/deployment=deepseek-r1-trtllm,wideep.dynamo/role=worker"
        why = "Insufficient nvidia.com/gpu"

        def waiting() -> bool:
            items = client.CoreV1Api(api).list_namespaced_pod("dynamo", label_selector=label).items
            return len(items) == 4 and all(
                any(why in (c.message or "") for c in pod.status.conditions or []) for pod in items
            )

        until("four pods are pending for a node", waiting)
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
    with crd(api, "v1beta1"), controller(kubeconfig, *serve, "--etcd", etcd):
        name = made.graph[-1]["metadata"]["name"]
        apply(kubeconfig, *made.model, *made.graph)
        until("the graph is ready", lambda: ready(api, name), 120)
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
            until("the port is open", lambda: _open(port), 20)
            answer = _completion(port, "deepseek-ai/DeepSeek-R1")
            assert answer["usage"]["completion_tokens"] == 8
        finally:
            forward.terminate()
            forward.wait()
        logs = client.CoreV1Api(api).read_namespaced_pod_log(f"{name}-frontend-0", "dynamo", container="main")
        assert "http" in logs


def test_a_way_that_was_not_there_yet(
    kubeconfig: str, api: client.ApiClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kubectl listens, and ends with the first connection that it cannot make; it is started again."""
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", kubeconfig)
    core = client.CoreV1Api(api)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    labels = {"app": "web"}
    spec = {"nodeName": "cpu-0", "containers": [{"name": "web", "image": "registry.example.com/web"}]}
    core.create_namespaced_pod(namespace, {"metadata": {"name": "web", "labels": labels}, "spec": spec})
    service = {"selector": labels, "ports": [{"port": 8000, "targetPort": 8000}]}
    core.create_namespaced_service(namespace, {"metadata": {"name": "web"}, "spec": service})
    until("the pod runs", lambda: core.read_namespaced_pod("web", namespace).status.phase == "Running")
    custom = client.CustomObjectsApi(api)
    place = ("kwok.x-k8s.io", "v1alpha1", namespace, "portforwards")
    forwards = [{"ports": [8000], "target": {"address": "127.0.0.1", "port": port}}]
    body = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "PortForward", "metadata": {"name": "web"}}
    custom.create_namespaced_custom_object(*place, {**body, "spec": {"forwards": forwards}})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers(url: str) -> bool:
        try:
            with opener.open(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    way = {"namespace": namespace, "service": "web", "port": 8000}
    try:
        with forward.Forward(Cluster(), **way) as found:
            until("kubectl says why", lambda: not answers(found.url()) and "lost connection" in found.said())
            own = {"forward": way, "base_url": "", "model": "m", "deadline_s": 1}
            own["expected"] = {"decode": {"component": "backend", "count": 1}}
            said = ansible("verify_serving", own)
            assert "kubectl port-forward to service/web in dynamo: " in said
            assert "lost connection to pod" in said
            with HTTPServer(("127.0.0.1", port), SimpleHTTPRequestHandler) as listens:
                Thread(target=listens.serve_forever, daemon=True).start()
                until("it is answered", lambda: answers(found.url()))
                listens.shutdown()
        with (
            forward.Forward(Cluster(), namespace, "none", 8000) as none,
            pytest.raises(ClusterError, match='services "none" not found'),
        ):
            none.url()
    finally:
        custom.delete_namespaced_custom_object(*place, "web")


def ansible(module: str, arguments: dict[str, Any]) -> str:
    """Return what Ansible says of a module on this machine."""
    words = (f"--args={json.dumps(arguments)}", f"--module-name=wideep.dynamo.{module}")
    done = ansible_runs.ansible("ansible", "localhost", *words)
    return done.stdout + done.stderr


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


def test_the_controllers_processes_are_those_of_its_pods(
    kubeconfig: str, api: client.ApiClient, namespace: str, dynamo_bin: Path, tmp_path: Path
) -> None:
    """Whatever ends a pod or the controller, none stays in discovery; the next controller begins anew."""
    made, name = manifests("trtllm"), "deepseek-r1-trtllm"
    model = REPOSITORY / "configs" / "models" / "rehearsal"
    etcd = f"http://127.0.0.1:{23790 + int(BED[-1])}"
    serve = ("--serve", str(tmp_path), "--python", str(dynamo_bin / "python"), "--model", str(model))
    heads = {f"{name}-{head}" for head in ("frontend-0", "prefill-0-ldr", "decode-0-ldr")}

    def running() -> set[int]:
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                found |= {int(folder.name)} if (folder / "cwd").readlink() == tmp_path else set()
        return found

    def anew(before: set[str]) -> set[str]:
        uids = {n: pod.metadata.uid for n, pod in pods(api).items() if n in heads}
        well = ready(api, name) and len(running()) == len(heads) == len(uids)
        return set(uids.values()) if well and not before & set(uids.values()) else set()

    with crd(api, "v1beta1"):
        with controller(kubeconfig, *serve, "--etcd", etcd):
            apply(kubeconfig, *made.model, *made.graph)
            first = until("the graph is ready", lambda: anew(set()), 120)
        assert running() == set()
        with controller(kubeconfig, *serve, "--etcd", etcd) as process:
            second = until("all heads are new", lambda: anew(first), 120)
            for head in heads:
                client.CoreV1Api(api).delete_namespaced_pod(head, namespace, grace_period_seconds=0)
            until("all heads are new again", lambda: anew(second | first), 120)
            process.kill()
            until("they end with their controller", lambda: not running())
        with controller(kubeconfig, *serve, "--etcd", etcd):
            until("the heads run again", lambda: anew(second | first), 120)
            client.CustomObjectsApi(api).delete_namespaced_custom_object(
                "nvidia.com", "v1beta1", namespace, "dynamographdeployments", name
            )
            until("they end with their graph", lambda: not running())


def test_beds_stand_side_by_side_and_leave_nothing(kubeconfig: str, tmp_path: Path) -> None:
    state = tmp_path / "bed"
    bed = [sys.executable, BED[1], "--offset", "900", "--state", str(state)]
    subprocess.run([*bed, "up"], check=True, stdout=subprocess.DEVNULL)
    status = json.loads(subprocess.run([*bed, "status"], capture_output=True, text=True).stdout)
    assert status["memory_mib"] < 2000
    pids = [program["pid"] for program in status["programs"].values()]
    assert all(pids)
    assert oct(state.stat().st_mode & 0o777) == "0o700"
    subprocess.run([*bed, "down"], check=True)
    assert not state.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
