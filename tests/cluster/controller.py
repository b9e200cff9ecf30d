#!/usr/bin/env python3
"""Does in the large what Dynamo's operator does with a DynamoGraphDeployment, for tests on a paper cluster.

usage: controller.py --kubeconfig FILE [--namespace NAME] [--ahead SECONDS] [--one-namespace]
       [--serve DIR --python PROGRAM --model DIR --etcd URL]

It makes one pod for each rank with the variables, ports, probes and flags that the operator injects and the
labels that Grove writes, a Service for each component, mpirun's key, and the graph's status. With --serve it
also runs a process on this machine for the frontend and for each replica's head: Dynamo's own frontend, and
its mocker in place of the engine, so that `kubectl port-forward` ends in a real completion. A pod is ready
when its process is.

Manners of the real operator and of Grove, as they were seen: after a change the status says that all is
ready for --ahead seconds before the first pod is replaced; workers register in a namespace with a suffix that
changes with their specification (--one-namespace: as Dynamo 1.4 does under Grove); scaling groups of several
pods have availableReplicas and no readyReplicas; an update that fails (annotation test.wideep/fails, with the
message) leaves observedGeneration behind. Where the cluster serves Grove's kinds, a graph has its
PodCliqueSet, PodCliques and PodCliqueScalingGroups.

What it cannot show: admission, conversion between API versions, LeaderWorkerSet, updates replica by replica,
gang scheduling, discovery through Kubernetes (its processes find each other in etcd), and anything that an
engine does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grove
from kubernetes import client, config

GROUP, PLURAL = "nvidia.com", "dynamographdeployments"
HTTP, SYSTEM, NIXL, DIST_INIT, SSH = 8000, 9090, 19090, 29500, 2222
DIGEST = "test.wideep/digest"
HELD = "bed.wideep/held"
FAILS = "test.wideep/fails"
GRAPH_LABEL = "nvidia.com/dynamo-graph-deployment-name"
COMPONENT_LABEL = "nvidia.com/dynamo-component"
WORKERS = frozenset({"worker", "prefill", "decode"})
POLL_S = 0.3
# The real one: 10 to 14.
AHEAD_S = 3.0
GRACE_S = 60


@dataclass(frozen=True)
class Component:
    """A component of a graph in one form for both versions of the API."""

    name: str
    role: str
    replicas: int
    nodes: int
    pod: dict[str, Any]
    main: dict[str, Any]
    labels: dict[str, str]
    annotations: dict[str, str]
    shm: str


def components(graph: Mapping[str, Any]) -> Iterator[Component]:
    """Yield a graph's components."""
    spec = graph["spec"]
    for name, service in spec.get("services", {}).items():
        pod = dict(service.get("extraPodSpec", {}))
        main = dict(pod.pop("mainContainer", {}))
        limits = dict(service.get("resources", {}).get("limits", {}))
        requests = dict(service.get("resources", {}).get("requests", {}))
        gpus = {"nvidia.com/gpu": limits.pop("gpu")} if "gpu" in limits else {}
        main["resources"] = {"limits": {**limits.pop("custom", {}), **gpus, **limits}, "requests": requests}
        main["env"] = [*spec.get("envs", []), *service.get("envs", []), *main.get("env", [])]
        main |= {k: service[k] for k in ("livenessProbe", "readinessProbe") if k in service}
        metadata = service.get("extraPodMetadata", {})
        yield Component(
            name,
            service.get("subComponentType") or service.get("componentType", ""),
            service.get("replicas", 1),
            service.get("multinode", {}).get("nodeCount", 1),
            pod,
            main,
            metadata.get("labels", {}),
            metadata.get("annotations", {}),
            str(service.get("sharedMemory", {}).get("size", "8Gi")),
        )
    for component in spec.get("components", []):
        template = component.get("podTemplate", {})
        pod = dict(template.get("spec", {}))
        containers = {c["name"]: c for c in pod.pop("containers", [])}
        main = dict(containers["main"])
        main["env"] = [*spec.get("env", []), *main.get("env", [])]
        metadata = template.get("metadata", {})
        yield Component(
            component["name"],
            component.get("type", ""),
            component.get("replicas", 1),
            component.get("multinode", {}).get("nodeCount", 1),
            pod,
            main,
            metadata.get("labels", {}),
            metadata.get("annotations", {}),
            str(component.get("sharedMemorySize", "8Gi")),
        )


# ---- pods ----------------------------------------------------------------------------------------


def pod_name(graph: str, component: Component, replica: int, rank: int) -> str:
    """Return a pod's name; rank 0 of several is the leader."""
    suffix = "" if component.nodes == 1 else "-ldr" if rank == 0 else f"-wkr-{rank}"
    return f"{graph}-{component.name.lower()}-{replica}{suffix}"


def base_namespace(graph: Mapping[str, Any]) -> str:
    """Return the namespace of Dynamo that a graph has."""
    return f"{graph['metadata']['namespace']}-{graph['metadata']['name']}"


def suffix(graph: Mapping[str, Any]) -> str:
    """Return what tells one generation of workers from the next: it is made of all their specifications."""
    workers = [replace(part, replicas=0) for part in components(graph) if part.role in WORKERS]
    text = json.dumps([asdict(part) for part in workers], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def injected(graph: Mapping[str, Any], component: Component, generation: str) -> dict[str, str]:
    """Return the variables that the operator sets. generation: suffix of the workers' namespace, or none."""
    name, namespace = graph["metadata"]["name"], graph["metadata"]["namespace"]
    env = {
        "DYN_NAMESPACE": base_namespace(graph),
        "DYN_COMPONENT": component.role,
        "DYN_PARENT_DGD_K8S_NAME": name,
        "DYN_PARENT_DGD_K8S_NAMESPACE": namespace,
    }
    annotations = graph["metadata"].get("annotations", {})
    if annotations.get("nvidia.com/dynamo-discovery-backend") != "etcd":
        env["DYN_DISCOVERY_BACKEND"] = "kubernetes"
    if component.role == "frontend":
        return env | {
            "DYNAMO_PORT": str(HTTP),
            "DYN_HTTP_PORT": str(HTTP),
            "DYN_NAMESPACE_PREFIX": env["DYN_NAMESPACE"],
        }
    if generation:
        env["DYN_NAMESPACE_WORKER_SUFFIX"] = generation
    return env | {
        "DYN_SYSTEM_ENABLED": "true",
        "DYN_SYSTEM_PORT": str(SYSTEM),
        "DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS": '["generate"]',
        "DYN_HEALTH_CHECK_ENABLED": "false",
        "NIXL_TELEMETRY_ENABLE": "n",
    }


def make_pod(
    graph: Mapping[str, Any], component: Component, replica: int, rank: int, generation: str, *, held: bool
) -> dict[str, Any]:
    """Return the pod of one rank."""
    metadata, backend = graph["metadata"], graph["spec"].get("backendFramework", "")
    name = pod_name(metadata["name"], component, replica, rank)
    leader = pod_name(metadata["name"], component, replica, 0)
    main = {**component.main, "name": "main"}
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_UID": "metadata.uid"}
    env: dict[str, dict[str, Any]] = {
        **{k: {"name": k, "value": v} for k, v in injected(graph, component, generation).items()},
        **{k: {"name": k, "valueFrom": {"fieldRef": {"fieldPath": path}}} for k, path in fields.items()},
        **{entry["name"]: entry for entry in main.get("env", [])},
    }
    ports = {"http": HTTP} if component.role == "frontend" else {"system": SYSTEM, "nixl": NIXL}
    main["env"] = list(env.values())
    main["ports"] = [{"name": n, "containerPort": p} for n, p in ports.items()]
    main["volumeMounts"] = [*main.get("volumeMounts", []), {"name": "shared-memory", "mountPath": "/dev/shm"}]
    volumes = [
        *component.pod.get("volumes", []),
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": component.shm}},
    ]
    if component.nodes > 1:
        address = f"{leader}.{metadata['name']}-{component.name.lower()}"
        if rank > 0:
            for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                main.pop(probe, None)
        if backend == "sglang":
            ranks = f"--dist-init-addr {address}:{DIST_INIT} --nnodes {component.nodes} --node-rank {rank}"
            main["args"] = [*main.get("args", []), *ranks.split()]
        elif backend == "trtllm" and rank > 0:
            main["command"], main["args"] = ["/bin/sh", "-c"], [f"/usr/sbin/sshd -D -p {SSH}"]
            main["readinessProbe"] = {
                "tcpSocket": {"port": SSH},
                "initialDelaySeconds": 20,
                "periodSeconds": 20,
            }
        elif backend == "trtllm":
            gpus = int(main.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
            words = " ".join([*main["command"], *main["args"]])
            main["command"] = ["/bin/sh", "-c"]
            main["args"] = [f"mpirun -n {component.nodes * gpus} bash -c 'trtllm-llmapi-launch {words}'"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {
                **component.labels,
                **grove_labels(graph, component),
                GRAPH_LABEL: metadata["name"],
                COMPONENT_LABEL: component.name,
                "nvidia.com/dynamo-component-type": component.role,
                "nvidia.com/dynamo-discovery-backend": "kubernetes",
                "nvidia.com/dynamo-discovery-enabled": "true" if rank == 0 else "false",
            },
            "annotations": {**component.annotations, **({HELD: "true"} if held and rank == 0 else {})},
            "ownerReferences": [owner(graph)],
        },
        "spec": {
            "terminationGracePeriodSeconds": GRACE_S,
            **component.pod,
            "hostname": name[:63],
            "subdomain": f"{metadata['name']}-{component.name.lower()}",
            "volumes": volumes,
            "containers": [main],
        },
    }
    pod["metadata"]["annotations"][DIGEST] = digest_of(pod)
    return pod


def digest_of(item: Mapping[str, Any]) -> str:
    """Return a sum by which a change is seen."""
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:16]


def uses_grove(graph: Mapping[str, Any]) -> bool:
    """Whether a graph is Grove's; the other way is LeaderWorkerSet."""
    return graph["metadata"].get("annotations", {}).get("nvidia.com/enable-grove") != "false"


def grove_labels(graph: Mapping[str, Any], component: Component) -> dict[str, str]:
    """Return the labels that Grove writes over those of a template (getLabels of podclique.go, pod.go)."""
    metadata = graph["metadata"]
    if not uses_grove(graph):
        return {}
    return {
        "app.kubernetes.io/name": f"{metadata['name']}-0-{component.name.lower()}",
        "app.kubernetes.io/managed-by": "grove-operator",
        "app.kubernetes.io/part-of": metadata["name"],
        "app.kubernetes.io/component": "pcs-podclique" if component.nodes == 1 else "pcsg-podclique",
    }


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod serves."""
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True"


def status_of(graph: Mapping[str, Any], component: Component, ready: int, generation: str) -> dict[str, Any]:
    """Return what the status says of a component: a scaling group of Grove does not count what is ready."""
    groups = component.nodes > 1
    base = base_namespace(graph)
    suffixed = generation and component.role in WORKERS
    return {
        "componentKind": "PodCliqueScalingGroup" if groups else "PodClique",
        "componentNames": [f"{graph['metadata']['name']}-0-{component.name.lower()}"],
        "replicas": component.replicas,
        "updatedReplicas": component.replicas,
        ("availableReplicas" if groups else "readyReplicas"): ready,
        "runtimeNamespace": f"{base}-{generation}" if suffixed else base,
    }


def owner(graph: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reference that lets Kubernetes remove what the graph had."""
    return {
        "apiVersion": graph["apiVersion"],
        "kind": graph["kind"],
        "name": graph["metadata"]["name"],
        "uid": graph["metadata"]["uid"],
        "controller": True,
    }


def make_service(graph: Mapping[str, Any], component: Component) -> dict[str, Any]:
    """Return the Service of a component: the frontend's has an address, the others are for names only."""
    metadata = graph["metadata"]
    frontend = component.role == "frontend"
    ports = {"http": HTTP} if frontend else {"system": SYSTEM}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"{metadata['name']}-{component.name.lower()}",
            "namespace": metadata["namespace"],
            "labels": {
                GRAPH_LABEL: metadata["name"],
                "nvidia.com/dynamo-discovery-backend": "kubernetes",
                "nvidia.com/dynamo-discovery-enabled": "true",
            },
            "ownerReferences": [owner(graph)],
        },
        "spec": {
            "selector": {GRAPH_LABEL: metadata["name"], COMPONENT_LABEL: component.name},
            "ports": [{"name": n, "port": p, "targetPort": p} for n, p in ports.items()],
            **({} if frontend else {"clusterIP": "None", "publishNotReadyAddresses": True}),
        },
    }


# ---- processes on this machine -------------------------------------------------------------------


@dataclass
class Process:
    """A process that stands for a pod's main container, and the port that its readiness is asked at.

    uid: of the pod; a later one may have its name.
    """

    uid: str
    handle: subprocess.Popen[bytes]
    port: int
    log: Path

    def ready(self, frontend: bool) -> bool:
        """Whether it serves: a worker's endpoint is ready, a frontend lists a model."""
        path = "/v1/models" if frontend else "/health"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                found = json.load(answer)
        except (OSError, ValueError):
            return False
        return bool(found["data"]) if frontend else found["endpoints"].get("generate") == "ready"


@dataclass
class Processes:
    """The processes of all pods. folder: of their logs; python: one that has Dynamo; model: a small one."""

    folder: Path
    python: str
    model: str
    etcd: str
    running: dict[str, Process] = field(default_factory=dict)

    def start(self, pod: Mapping[str, Any], graph: Mapping[str, Any], component: Component) -> None:
        """Start what a pod's main container would run: the frontend as it is, the mocker for an engine."""
        name = pod["metadata"]["name"]
        main = pod["spec"]["containers"][0]
        port, rpc, bootstrap = free_port(), free_port(), free_port()
        given = {e["name"]: e["value"] for e in main["env"] if "value" in e}
        env = {k: v for k, v in given.items() if k.startswith(("DYN_", "HF_", "PYTHON"))} | {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "DYN_DISCOVERY_BACKEND": "etcd",
            "ETCD_ENDPOINTS": self.etcd,
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_TCP_RESPONSE_STREAM_HOST": "lo",
        }
        if component.role == "frontend":
            env["DYN_HTTP_PORT"] = str(port)
            words = [*main["command"][1:], *main["args"], "--http-host", "127.0.0.1"]
        else:
            env |= {
                "DYN_SYSTEM_PORT": str(port),
                "DYN_SYSTEM_HOST": "127.0.0.1",
                "DYN_SYSTEM_STARTING_HEALTH_STATUS": "ready",
                "DYN_TCP_RPC_PORT": str(rpc),
            }
            args = list(component.main["args"])
            mode = component.role if component.role in {"prefill", "decode"} else "agg"
            words = ["-m", "dynamo.mocker", "--model-path", self.model, "--disaggregation-mode", mode]
            words += ["--model-name", args[args.index("--served-model-name") + 1]]
            words += ["--engine-type", graph["spec"]["backendFramework"], "--speedup-ratio", "100"]
            if mode == "prefill" and graph["spec"]["backendFramework"] == "sglang":
                words += ["--bootstrap-ports", str(bootstrap)]
        log = self.folder / f"{name}.log"
        handle = subprocess.Popen(
            # Without its controller a process would stay in discovery, and be taken for one of the next.
            ["setpriv", "--pdeathsig", "TERM", self.python, *words],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            start_new_session=True,
        )
        threading.Thread(target=write_log, args=(handle, log), daemon=True).start()
        self.running[name] = Process(pod["metadata"]["uid"], handle, port, log)

    def stop_others(self, uids: Collection[str]) -> None:
        """End processes whose pods are gone, e.g. with their graph, and those that have ended."""
        for name, process in list(self.running.items()):
            if process.uid not in uids or process.handle.poll() is not None:
                self.stop(name)

    def stop(self, name: str) -> None:
        """End a pod's process."""
        process = self.running.pop(name, None)
        if process is None:
            return
        process.handle.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.handle.wait(timeout=8)
        if process.handle.poll() is None:
            process.handle.kill()
            process.handle.wait()


def write_log(process: subprocess.Popen[bytes], path: Path) -> None:
    """Write a process's output as a container runtime does, which is what `kubectl logs` can read."""
    assert process.stdout is not None
    with path.open("ab", buffering=0) as log:
        for line in process.stdout:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            log.write(f"{now} stdout F ".encode() + line.rstrip(b"\n") + b"\n")


def free_port() -> int:
    """Return a port on loopback that nobody listens on, low enough for DYN_SYSTEM_PORT (16 bits, signed)."""
    for port in range(20000 + os.getpid() % 10000, 32767):
        with socket.socket() as probe:
            if port not in _given and probe.connect_ex(("127.0.0.1", port)) != 0:
                _given.add(port)
                return port
    raise RuntimeError("no free port")


_given: set[int] = set()


# ---- the loop ------------------------------------------------------------------------------------


class Controller:
    """Looks again and again at all graphs, and makes what is there what should be."""

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        processes: Processes | None,
        ahead_s: float = AHEAD_S,
        *,
        one_namespace: bool = False,
    ) -> None:
        self.core = client.CoreV1Api(api)
        self.custom = client.CustomObjectsApi(api)
        self.extensions = client.ApiextensionsV1Api(api)
        self.namespace = namespace
        self.processes = processes
        self.api = api
        self.ahead_s = ahead_s
        self.one_namespace = one_namespace
        # Until when a graph's status is ahead of its pods, by uid.
        self.ahead: dict[str, float] = {}

    def version(self) -> str:
        """Return the version that the CRD serves; empty while there is none."""
        try:
            crd = self.extensions.read_custom_resource_definition(f"{PLURAL}.{GROUP}")
        except client.ApiException as error:
            if error.status == 404:
                return ""
            raise
        return str(next(v.name for v in crd.spec.versions if v.served))

    def pods(self) -> dict[str, dict[str, Any]]:
        """Return the pods of graphs by name."""
        found = self.core.list_namespaced_pod(self.namespace, label_selector=GRAPH_LABEL)
        return {pod.metadata.name: self.api.sanitize_for_serialization(pod) for pod in found.items}

    def step(self) -> None:
        """Look once."""
        there = self.pods()
        if self.processes:
            self.processes.stop_others({pod["metadata"]["uid"] for pod in there.values()})
        version = self.version()
        if not version:
            return
        graphs = self.custom.list_namespaced_custom_object(GROUP, version, self.namespace, PLURAL)["items"]
        wanted: set[str] = set()
        for graph in graphs:
            if "deletionTimestamp" not in graph["metadata"]:
                wanted |= self.reconcile(graph, version, there)
        for name in there.keys() - wanted:
            self.remove(name)
        names = {
            graph["metadata"]["name"] for graph in graphs if "deletionTimestamp" not in graph["metadata"]
        }
        # Kubernetes' own collector takes half a minute to learn of a new CRD.
        for service in self.core.list_namespaced_service(self.namespace, label_selector=GRAPH_LABEL).items:
            if service.metadata.labels[GRAPH_LABEL] not in names:
                self.core.delete_namespaced_service(service.metadata.name, self.namespace)
        for plural in self.grove():
            place = (grove.GROUP, grove.VERSION, self.namespace, plural)
            for item in self.custom.list_namespaced_custom_object(*place)["items"]:
                if item["metadata"]["labels"][GRAPH_LABEL] not in names:
                    self.custom.delete_namespaced_custom_object(*place, item["metadata"]["name"])

    def reconcile(self, graph: Mapping[str, Any], version: str, there: Mapping[str, Any]) -> set[str]:
        """Make a graph's pods and Services, and write its status. Returns the pods' names."""
        metadata, before = graph["metadata"], graph.get("status", {})
        own = {n for n, pod in there.items() if pod["metadata"]["labels"][GRAPH_LABEL] == metadata["name"]}
        if own and before.get("observedGeneration", 0) < metadata["generation"]:
            if why := metadata.get("annotations", {}).get(FAILS):
                self.write_failure(graph, version, why)
                return own
            self.ahead[metadata["uid"]] = time.monotonic() + self.ahead_s
        if own and time.monotonic() < self.ahead.get(metadata["uid"], 0):
            parts = before.get("services") or before.get("components") or {}
            self.write_status(graph, version, parts, all(is_ready(there[name]) for name in own))
            return own
        wanted: set[str] = set()
        report: dict[str, dict[str, Any]] = {}
        generation = "" if self.one_namespace else suffix(graph)
        ready_all = True
        groups: list[grove.Group] = []
        for component in components(graph):
            self.apply_service(make_service(graph, component))
            ready, held = 0, self.processes is not None
            for replica in range(component.replicas):
                made = [
                    make_pod(graph, component, replica, rank, generation, held=held)
                    for rank in range(component.nodes)
                ]
                wanted |= {pod["metadata"]["name"] for pod in made}
                # Not all(…) of a generator: it would stop at the first pod that is not ready.
                ready += sum(self.apply_pod(graph, component, pod, there) for pod in made) == len(made)
            leader, worker = (
                make_pod(graph, component, 0, min(rank, component.nodes - 1), generation, held=held)["spec"]
                for rank in (0, 1)
            )
            sizes = component.nodes - 1, ready
            groups.append(grove.Group(component.name, component.replicas, leader, worker, *sizes))
            report[component.name] = status_of(graph, component, ready, generation)
            ready_all = ready_all and ready == component.replicas
        if any(component.nodes > 1 for component in components(graph)):
            self.make_ssh_secret()
        self.write_status(graph, version, report, ready_all)
        self.apply_grove(graph, groups)
        return wanted

    def grove(self) -> set[str]:
        """Return which of Grove's kinds the cluster serves."""
        try:
            found = self.custom.get_api_resources(grove.GROUP, grove.VERSION).resources
        except client.ApiException as error:
            if error.status == 404:
                return set()
            raise
        return {resource.name for resource in found} & set(grove.PLURALS.values())

    def apply_grove(self, graph: Mapping[str, Any], groups: Sequence[grove.Group]) -> None:
        """Make what stands between the graph and its pods, and remove what does no longer."""
        served, name = self.grove(), graph["metadata"]["name"]
        if not uses_grove(graph):
            groups = ()
        wanted: set[tuple[str, str]] = set()
        for kind, own, spec, status in grove.objects(name, groups) if groups else ():
            plural = grove.PLURALS[kind]
            if plural not in served:
                continue
            wanted.add((plural, own))
            place = (grove.GROUP, grove.VERSION, self.namespace, plural)
            metadata = grove.metadata(graph, own, owner(graph), {GRAPH_LABEL: name})
            metadata["annotations"] = {DIGEST: digest_of(spec)}
            body = {"apiVersion": f"{grove.GROUP}/{grove.VERSION}", "kind": kind}
            body |= {"metadata": metadata, "spec": spec}
            try:
                there = self.custom.get_namespaced_custom_object(*place, own)
            except client.ApiException as error:
                if error.status != 404:
                    raise
                there = self.custom.create_namespaced_custom_object(*place, body, field_validation="Strict")
            if there["metadata"]["annotations"][DIGEST] != metadata["annotations"][DIGEST]:
                body["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
                self.custom.replace_namespaced_custom_object(*place, own, body)
            seen = {**status, "observedGeneration": there["metadata"]["generation"]}
            if there.get("status") != seen:
                # The test chart's own kind has no status.
                with contextlib.suppress(client.ApiException):
                    self.custom.patch_namespaced_custom_object_status(*place, own, {"status": seen})
        for plural in served:
            place = (grove.GROUP, grove.VERSION, self.namespace, plural)
            found = self.custom.list_namespaced_custom_object(*place, label_selector=f"{GRAPH_LABEL}={name}")
            for item in found["items"]:
                if (plural, item["metadata"]["name"]) not in wanted:
                    self.custom.delete_namespaced_custom_object(*place, item["metadata"]["name"])

    def make_ssh_secret(self) -> None:
        """Make mpirun's key as the operator does (SSHKeyManager): without an owner, in both namespaces."""
        labels = {"app.kubernetes.io/managed-by": "dynamo-operator"}
        body = {"metadata": {"name": "mpi-run-ssh-secret", "labels": labels}}
        for namespace in ("dynamo-system", self.namespace):
            with contextlib.suppress(client.ApiException):
                self.core.create_namespaced_secret(namespace, body)

    def apply_service(self, service: dict[str, Any]) -> None:
        with contextlib.suppress(client.ApiException):
            self.core.create_namespaced_service(self.namespace, service)

    def apply_pod(
        self, graph: Mapping[str, Any], component: Component, pod: dict[str, Any], there: Mapping[str, Any]
    ) -> bool:
        """Make a pod, or make it anew if it is another one. Returns whether it is ready."""
        name = pod["metadata"]["name"]
        now = there.get(name)
        if now is None:
            self.core.create_namespaced_pod(self.namespace, pod)
            return False
        if now["metadata"]["annotations"].get(DIGEST) != pod["metadata"]["annotations"][DIGEST]:
            self.remove(name)
            return False
        if self.processes and HELD in now["metadata"]["annotations"]:
            self.serve(graph, component, now)
            return False
        if self.processes and HELD in pod["metadata"]["annotations"] and name not in self.processes.running:
            # Ready, but its process has ended, or was that of a controller before this one.
            self.remove(name)
            return False
        return is_ready(now)

    def serve(self, graph: Mapping[str, Any], component: Component, pod: Mapping[str, Any]) -> None:
        """Run a scheduled pod's process, and let the pod become ready when it is."""
        assert self.processes is not None
        name = pod["metadata"]["name"]
        if not pod["spec"].get("nodeName"):
            return
        if name not in self.processes.running:
            self.processes.start(pod, graph, component)
            port = HTTP if component.role == "frontend" else SYSTEM
            self.forward(pod, self.processes.running[name], port)
        elif self.processes.running[name].ready(component.role == "frontend"):
            self.core.patch_namespaced_pod(name, self.namespace, {"metadata": {"annotations": {HELD: None}}})

    def forward(self, pod: Mapping[str, Any], process: Process, port: int) -> None:
        """Tell kwok where `kubectl port-forward` and `kubectl logs` of a pod end."""
        graph = {GRAPH_LABEL: pod["metadata"]["labels"][GRAPH_LABEL]}
        metadata = {"name": pod["metadata"]["name"], "namespace": self.namespace, "labels": graph}
        target = {"address": "127.0.0.1", "port": process.port}
        for kind, plural, spec in (
            ("PortForward", "portforwards", {"forwards": [{"ports": [port], "target": target}]}),
            ("Logs", "logs", {"logs": [{"containers": ["main"], "logsFile": str(process.log)}]}),
        ):
            body = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
            self.forget(plural, metadata["name"])
            self.custom.create_namespaced_custom_object(
                "kwok.x-k8s.io", "v1alpha1", self.namespace, plural, body
            )

    def remove(self, name: str) -> None:
        """Remove a pod, its process, and what kwok knows of it."""
        if self.processes:
            self.processes.stop(name)
        for plural in ("portforwards", "logs"):
            self.forget(plural, name)
        with contextlib.suppress(client.ApiException):
            self.core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)

    def forget(self, plural: str, name: str) -> None:
        """Remove what kwok knows of a pod."""
        with contextlib.suppress(client.ApiException):
            self.custom.delete_namespaced_custom_object(
                "kwok.x-k8s.io", "v1alpha1", self.namespace, plural, name
            )

    def write_status(
        self, graph: Mapping[str, Any], version: str, report: Mapping[str, Mapping[str, Any]], ready: bool
    ) -> None:
        """Write state, condition and counts, if they changed."""
        reason = "all_resources_are_ready" if ready else "some_resources_are_not_ready"
        report_as = "services" if version == "v1alpha1" else "components"
        wanted = {
            "state": "successful" if ready else "pending",
            "observedGeneration": graph["metadata"]["generation"],
            "conditions": [ready_condition(graph, ready, reason, reason.replace("_", " "))],
            report_as: report,
        }
        self.patch_status(graph, version, wanted)

    def write_failure(self, graph: Mapping[str, Any], version: str, message: str) -> None:
        """Write that a change cannot be made: what was observed and counted stays as it was."""
        condition = ready_condition(graph, False, "failed_to_reconcile_the_resources", message)
        self.patch_status(graph, version, {"state": "failed", "conditions": [condition]})

    def patch_status(self, graph: Mapping[str, Any], version: str, wanted: Mapping[str, Any]) -> None:
        if any(graph.get("status", {}).get(key) != value for key, value in wanted.items()):
            self.custom.patch_namespaced_custom_object_status(
                GROUP, version, self.namespace, PLURAL, graph["metadata"]["name"], {"status": wanted}
            )


def ready_condition(graph: Mapping[str, Any], ready: bool, reason: str, message: str) -> dict[str, str]:
    """Return the condition Ready, with the time at which it became what it is."""
    before = {c["type"]: c for c in graph.get("status", {}).get("conditions", [])}.get("Ready", {})
    status, now = str(ready), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    since = before.get("lastTransitionTime", now) if before.get("status") == status else now
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }


def main() -> int:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--namespace", default="dynamo")
    parser.add_argument("--ahead", type=float, default=AHEAD_S, help="seconds, after a change")
    parser.add_argument("--one-namespace", action="store_true", help="workers' namespaces have no suffix")
    parser.add_argument("--serve", type=Path, help="directory for the processes' logs")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--model", default="")
    parser.add_argument("--etcd", default="")
    own = parser.parse_args()
    processes = None
    if own.serve:
        own.serve.mkdir(parents=True, exist_ok=True)
        processes = Processes(own.serve.resolve(), own.python, own.model, own.etcd)
    api = config.new_client_from_config(own.kubeconfig)
    controller = Controller(api, own.namespace, processes, own.ahead, one_namespace=own.one_namespace)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: sys.exit(0))
    try:
        while True:
            try:
                controller.step()
            except (client.ApiException, OSError) as error:
                print(
                    f"{datetime.now(UTC):%H:%M:%S} {type(error).__name__}: {error}",
                    file=sys.stderr,
                    flush=True,
                )
            time.sleep(POLL_S)
    finally:
        for name in list(processes.running) if processes else ():
            processes.stop(name)  # type: ignore[union-attr]


if __name__ == "__main__":
    sys.exit(main())
