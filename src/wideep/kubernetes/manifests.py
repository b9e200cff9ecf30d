"""Manifests: a plan's launches as the objects that a cluster takes.

Both versions of the DynamoGraphDeployment are written from the same pod template. GPUs are those of one pod;
the operator starts `nodeCount` pods for a replica and tells each its rank.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from wideep import yaml_text
from wideep.deployment.launch import Launch
from wideep.deployment.model import POD_ADDRESS, POD_CACHE, Deployment
from wideep.engines.base import Engine
from wideep.inventory.kubernetes import KubernetesSettings, ResourceClaim
from wideep.kubernetes import beside
from wideep.kubernetes.check import GPU, images, tag_version
from wideep.kubernetes.names import (
    DEPLOYMENT,
    DISCOVERY,
    DOWNLOAD_LABEL,
    ENABLE_GROVE,
    GANG_LABELS,
    POOL,
    REPOSITORY,
    REVISION,
    ROLE,
    TARGET,
    common_labels,
    env_secret,
)
from wideep.kubernetes.site import CONFIG_PATH, HOST_ENV, HTTP_PORT, SYSTEM_PORT, PodSite

Object = dict[str, Any]

GROUP = "nvidia.com"
KIND = "DynamoGraphDeployment"
PROBE_PERIOD_S = 10
# Says something by being there.
EMPTY = frozenset({"scalingAdapter"})
# Frontends and the download tolerate what workers do, but leave their nodes alone where there are others.
AWAY_FROM_GPUS = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "preference": {
                    "matchExpressions": [
                        {"key": "nvidia.com/gpu.present", "operator": "NotIn", "values": ["true"]}
                    ]
                },
            }
        ]
    }
}
# A worker under load may be slow to answer: the operator's default is one failure, which restarts all ranks.
LIVENESS_FAILURES = 6
FRONTEND_START_S = 120
# What hangs has no requests to finish: it does not get the pod's time for that.
HUNG_END_S = 30
# Exit status where trying again is of no use: no such model, no such revision, or not for this token.
HOPELESS = 2
DOWNLOAD = f"""\
import sys
from huggingface_hub import snapshot_download
from huggingface_hub.utils import RepositoryNotFoundError, RevisionNotFoundError
repository, revision, target, *exclude = sys.argv[1:]
try:
    snapshot_download(repository, revision=revision, local_dir=target, ignore_patterns=exclude)
except (RepositoryNotFoundError, RevisionNotFoundError) as error:
    print(error, file=sys.stderr)
    sys.exit({HOPELESS})
"""


@dataclass(frozen=True)
class Component:
    """A component of the graph: `replicas` times `nodes` equal pods. gpus: of one pod."""

    name: str
    launch: Launch
    image: str
    replicas: int
    nodes: int = 1
    gpus: int = 0

    @property
    def works(self) -> bool:
        """Whether it runs the engine."""
        return self.launch.component == "worker"


@dataclass(frozen=True)
class Manifests:
    """Objects in the order in which they are applied. model: the cache and its download; graph: the rest."""

    model: tuple[Object, ...]
    graph: tuple[Object, ...]


def make(deployment: Deployment, engine: Engine, launches: Mapping[str, Sequence[Launch]]) -> Manifests:
    """Return all objects for a plan's launches by pod; those of a component's first pod stand for all."""
    image = images(deployment, engine)
    frontend = launches[deployment.frontends[0].name][0]
    parts = [Component("frontend", frontend, image["frontend_image"], len(deployment.frontends))]
    for pool in deployment.pools:
        first = pool.replicas[0]
        launch = launches[first.head.host.name][0]
        sizes = len(pool.replicas), len(first.nodes), len(first.head.gpus)
        parts.append(Component(pool.name, launch, image["image"], *sizes))
    writer = _Writer(deployment)
    configs = [writer.config_map(part) for part in parts if part.launch.files]
    graph = writer.graph(parts, engine.name)
    # A ComputeDomain's template is there before the pods that claim of it.
    return Manifests(writer.model_cache(parts[0].image), (*configs, *beside.objects(deployment), graph))


def to_yaml(objects: Iterable[Object]) -> str:
    """Return objects as a YAML stream."""
    return "".join("---\n" + yaml_text.dump(item) for item in objects)


def _set(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping without what is empty."""
    return {k: v for k, v in tree.items() if v not in (None, "", {}, [], ()) or k in EMPTY}


def _claim(claim: ResourceClaim) -> dict[str, str]:
    if claim.claim:
        return {"name": claim.name, "resourceClaimName": claim.claim}
    return {"name": claim.name, "resourceClaimTemplateName": claim.template or claim.name}


class _Writer:
    """Writes the objects of one deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.settings = deployment.settings
        self.own: KubernetesSettings = deployment.settings.kubernetes
        self.site = PodSite(deployment, deployment.frontends[0])

    # ---- what all objects share ------------------------------------------------------------------

    def labels(self, component: str) -> dict[str, str]:
        return common_labels(self.settings.deployment) | {"app.kubernetes.io/component": component}

    def place(self, part: Component) -> dict[str, str]:
        """Return the labels by which pods stand apart.

        Not those of `labels`: Grove writes app.kubernetes.io/name, managed-by, part-of and component of a pod
        itself (operator/internal/controller/podcliqueset/components/podclique/podclique.go, getLabels).
        """
        return {ROLE: part.launch.component, DEPLOYMENT: self.settings.deployment}

    def metadata(self, name: str, component: str, **more: Any) -> dict[str, Any]:
        return _set({"name": name, "namespace": self.own.namespace, "labels": self.labels(component), **more})

    # ---- the model -------------------------------------------------------------------------------

    def model_cache(self, image: str) -> tuple[Object, ...]:
        """Return the claim and the Job that fills it."""
        cache = self.own.model_cache
        objects: list[Object] = []
        if cache.create:
            objects.append(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": cache.claim, "namespace": self.own.namespace},
                    "spec": _set(
                        {
                            "accessModes": [cache.access_mode],
                            "resources": {"requests": {"storage": cache.size}},
                            "storageClassName": cache.storage_class,
                        }
                    ),
                }
            )
        if cache.download:
            objects.append(self.download(image))
        return tuple(objects)

    def download(self, image: str) -> Object:
        """Return the Job. Its name changes with what it downloads: a Job cannot be changed.

        Deployments of a namespace share it: neither a deployment's name nor its image is part of that.
        """
        cache = self.own.model_cache
        repository = self.settings.model_cache_repo or self.settings.model
        words = [repository, self.settings.model_cache_revision or "main", self.settings.model_path]
        words += self.settings.model_cache_exclude
        key = hashlib.sha256("\n".join([cache.claim, *words]).encode()).hexdigest()[:8]
        env: list[dict[str, Any]] = [
            {
                "name": "HF_TOKEN",
                "valueFrom": {"secretKeyRef": {"name": self.own.hf_token_secret, "key": "HF_TOKEN"}},
            },
            {"name": "HF_HOME", "value": "/tmp/huggingface"},  # noqa: S108 - in the pod
        ]
        if self.settings.model_cache_endpoint:
            env.append({"name": "HF_ENDPOINT", "value": self.settings.model_cache_endpoint})
        resources = {"requests": self.own.requests("download"), "limits": self.own.limits("download")}
        container = {
            "name": "download",
            "image": image,
            "command": ["python3", "-c", DOWNLOAD],
            "args": words,
            "env": env,
            "resources": _set(resources),
            "volumeMounts": [{"name": "model-cache", "mountPath": cache.mount_path}],
        }
        # The images' group; without it the volume may be root's alone. Many drivers of shared file systems
        # leave groups as they are: that is what run_as_user is for.
        security = {"runAsUser": cache.run_as_user, "fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}
        pod = _set(
            {
                # Not OnFailure: at the last failure the pod would go, and its log with it.
                "restartPolicy": "Never",
                "imagePullSecrets": self.pull_secrets,
                "securityContext": {k: v for k, v in security.items() if v is not None},
                "affinity": AWAY_FROM_GPUS,
                "nodeSelector": self.own.node_selector_of("download"),
                "tolerations": self.own.tolerations_of("download"),
                "containers": [container],
                "volumes": [self.claim_volume(read_only=False)],
            }
        )
        annotations = dict(zip((REPOSITORY, REVISION, TARGET), words, strict=False))
        hopeless = {"containerName": "download", "operator": "In", "values": [HOPELESS]}
        rules = [
            {"action": "FailJob", "onExitCodes": hopeless},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": f"model-download-{key}",
                "namespace": self.own.namespace,
                "labels": dict([DOWNLOAD_LABEL]),
                "annotations": annotations,
            },
            "spec": {
                "backoffLimit": 10,
                "podFailurePolicy": {"rules": rules},
                "template": {"metadata": {"labels": dict([DOWNLOAD_LABEL])}, "spec": pod},
            },
        }

    def claim_volume(self, *, read_only: bool) -> dict[str, Any]:
        source = _set({"claimName": self.own.model_cache.claim, "readOnly": read_only or None})
        return {"name": "model-cache", "persistentVolumeClaim": source}

    @property
    def pull_secrets(self) -> list[dict[str, str]]:
        return [{"name": name} for name in self.own.image_pull_secrets]

    # ---- a component's pods ----------------------------------------------------------------------

    def config_name(self, part: Component) -> str:
        return f"{self.settings.deployment}-{part.name}"

    def config_map(self, part: Component) -> Object:
        """Return the engine's own files."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.metadata(self.config_name(part), part.launch.component),
            "data": {PurePosixPath(file.path).name: file.content for file in part.launch.files},
        }

    def pod_metadata(self, part: Component) -> dict[str, Any]:
        labels = self.labels(part.launch.component) | self.place(part) | {POOL: part.name}
        labels |= self.own.labels
        annotations = dict(self.own.annotations)
        if part.launch.files:
            # Pods do not notice that a ConfigMap changed.
            text = json.dumps([(file.path, file.content) for file in part.launch.files])
            annotations["wideep.dynamo/config-digest"] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return _set({"labels": labels, "annotations": annotations})

    def env(self, part: Component) -> list[dict[str, Any]]:
        own_address = {"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        plain = [
            {"name": name, **(own_address if value == POD_ADDRESS else {"value": value})}
            for name, value in part.launch.env.items()
            if name not in HOST_ENV
        ]
        # Name by name: of a whole Secret, the operator's mpirun would pass on nothing to the other ranks.
        secret = env_secret(self.settings.deployment)
        return plain + [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
            for name in (self.settings.secrets_env if part.works else ())
        ]

    def container(self, part: Component) -> dict[str, Any]:
        """Return image, command, security and mounts: what both API versions have in the container."""
        # Not $(POD_IP): the operator puts the words of a replica with several pods between quotes of a shell,
        # with a backslash before the dollar that stays when the variable has been replaced.
        words = ["0.0.0.0" if word == POD_ADDRESS else word for word in part.launch.argv]  # noqa: S104
        mounts: list[dict[str, Any]] = [
            {"name": "model-cache", "mountPath": self.own.model_cache.mount_path, "readOnly": True}
        ]
        if part.launch.files:
            mounts.append({"name": "config", "mountPath": CONFIG_PATH, "readOnly": True})
        security: dict[str, Any] = {}
        if part.works:
            mounts.append({"name": "cache", "mountPath": POD_CACHE})
            mounts += map(dict, self.own.additions(part.name).volume_mounts)
            traces = ("SYS_PTRACE",) if part.launch.shares_descriptors else ()
            security = _set(
                {
                    "capabilities": _set({"add": list(dict.fromkeys((*self.own.capabilities, *traces)))}),
                    "privileged": self.own.privileged or None,
                }
            )
            if self.own.run_as_user is not None:
                security["runAsUser"] = self.own.run_as_user
        return _set(
            {
                "image": part.image,
                "command": words[:3],
                "args": words[3:],
                "securityContext": security,
                "volumeMounts": mounts,
            }
        )

    def probes(self, part: Component) -> dict[str, Any]:
        """Return the head's probes: the other ranks of a replica get none from the operator."""
        start = self.settings.start_deadline_s if part.works else FRONTEND_START_S
        port = SYSTEM_PORT if part.works else HTTP_PORT

        def probe(path: str, failures: int, **more: int) -> dict[str, Any]:
            return {
                "httpGet": {"path": path, "port": port},
                "periodSeconds": PROBE_PERIOD_S,
                "timeoutSeconds": 5,
                "failureThreshold": failures,
                **more,
            }

        at_once = {"terminationGracePeriodSeconds": HUNG_END_S}
        begins = "/health" if part.works else "/live"
        return {
            # Loading the weights and compiling kernels take their time before the endpoint is ready.
            "startupProbe": probe(begins, math.ceil(start / PROBE_PERIOD_S), **at_once),
            "livenessProbe": probe("/live", LIVENESS_FAILURES, **at_once),
            "readinessProbe": probe("/health", 3),
        }

    def affinity(self, part: Component) -> dict[str, Any]:
        """Return: the pods of a replica are on a node each; frontends stand apart where they can.

        With the node's network worker pods have the same ports, so a node has one, of whatever deployment.
        """
        apart = {"topologyKey": "kubernetes.io/hostname"}
        if part.works:
            term: dict[str, Any] = {}
            if self.own.host_network:
                term = {"labelSelector": {"matchLabels": {ROLE: "worker"}}, "namespaceSelector": {}}
            elif part.nodes > 1:
                labels = self.place(part) | {POOL: part.name}
                gang = list(GANG_LABELS[self.own.orchestrator])
                term = {"labelSelector": {"matchLabels": labels}, "matchLabelKeys": gang}
            required = {"requiredDuringSchedulingIgnoredDuringExecution": [{**term, **apart}]}
            return {"podAntiAffinity": required} if term else {}
        selector = {"labelSelector": {"matchLabels": self.place(part)}, **apart}
        weighted = {"weight": 100, "podAffinityTerm": selector}
        return {
            **AWAY_FROM_GPUS,
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [weighted]},
        }

    def pod(self, part: Component) -> dict[str, Any]:
        """Return the pod's own part of a PodSpec, without containers."""
        volumes: list[dict[str, Any]] = [self.claim_volume(read_only=True)]
        if part.launch.files:
            volumes.append({"name": "config", "configMap": {"name": self.config_name(part)}})
        placed: dict[str, Any] = {}
        if part.works:
            path = self.own.cache_host_path
            host = {"hostPath": {"path": path, "type": "DirectoryOrCreate"}}
            volumes.append({"name": "cache", **(host if path else {"emptyDir": {}})})
            added = self.own.additions(part.name)
            volumes += map(dict, added.volumes)
            placed = {
                "hostNetwork": self.own.host_network or None,
                "dnsPolicy": "ClusterFirstWithHostNet" if self.own.host_network else None,
                "hostIPC": self.own.host_ipc or None,
                "resourceClaims": [_claim(claim) for claim in added.resource_claims],
            }
        return _set(
            {
                "terminationGracePeriodSeconds": part.launch.stop_timeout_s,
                "priorityClassName": self.own.priority_class,
                "schedulerName": self.own.scheduler,
                "imagePullSecrets": self.pull_secrets,
                "affinity": self.affinity(part),
                "nodeSelector": self.own.node_selector_of(part.launch.component, part.name),
                "tolerations": self.own.tolerations_of(part.launch.component),
                **placed,
                "volumes": volumes,
            }
        )

    def extended(self, part: Component) -> dict[str, str]:
        """Return the extended resources of a worker pod beside GPUs."""
        return self.own.additions(part.name).extra_resources if part.works else {}

    def claims(self, part: Component) -> list[dict[str, str]]:
        """Return the claims of the pod that its container uses: all."""
        claims = self.own.additions(part.name).resource_claims if part.works else ()
        return [{"name": claim.name} for claim in claims]

    def ordinary(self, part: Component) -> tuple[dict[str, str], dict[str, str]]:
        """Return requests and limits of CPU and memory."""
        component = part.launch.component
        return self.own.requests(component, part.gpus), self.own.limits(component)

    # ---- the graph -------------------------------------------------------------------------------

    def graph(self, parts: Sequence[Component], backend: str) -> Object:
        """Return the DynamoGraphDeployment in the API version that is asked for."""
        several = any(part.nodes > 1 for part in parts)
        annotations = {
            # Always: of one that says nothing the operator makes other pods once Grove is there, and the old
            # ones stay. "false": LeaderWorkerSets, and Deployments where a replica is one pod.
            ENABLE_GROVE: "true" if self.own.uses_grove(several_nodes=several) else "false",
            "nvidia.com/kai-scheduler-queue": self.own.queue,
            # Always: the release's own default is one for all deployments of the cluster.
            DISCOVERY: self.settings.discovery,
        }
        spec: dict[str, Any] = {"backendFramework": backend, **beside.graph_fields(self.deployment)}
        if self.settings.graph_api == "v1alpha1":
            spec["services"] = {part.name: self.alpha(part) for part in parts}
        else:
            spec["components"] = [self.beta(part) for part in parts]
        return {
            "apiVersion": f"{GROUP}/{self.settings.graph_api}",
            "kind": KIND,
            "metadata": self.metadata(self.settings.deployment, "graph", annotations=_set(annotations)),
            "spec": spec,
        }

    @staticmethod
    def multinode(part: Component) -> dict[str, int]:
        return {"nodeCount": part.nodes} if part.nodes > 1 else {}

    def runtime_version(self, part: Component) -> str:
        """Return Dynamo's version where the image's tag names none; the operator injects by it."""
        return "" if tag_version(part.image) else self.deployment.release.dynamo

    def alpha(self, part: Component) -> dict[str, Any]:
        """Return a service of v1alpha1."""
        requests, limits = self.ordinary(part)
        probes = self.probes(part)
        return _set(
            {
                "componentType": part.launch.component,
                "subComponentType": part.name if part.name in {"prefill", "decode"} else None,
                "replicas": part.replicas,
                "multinode": self.multinode(part),
                **beside.component_fields(self.deployment, part.name),
                "runtimeVersionOverride": self.runtime_version(part),
                "resources": _set(
                    {
                        "requests": requests,
                        "limits": _set(
                            {**limits, "gpu": str(part.gpus or ""), "custom": self.extended(part)}
                        ),
                        "claims": self.claims(part),
                    }
                ),
                "sharedMemory": {"size": self.own.shared_memory} if part.works else None,
                "envs": self.env(part),
                "livenessProbe": probes["livenessProbe"],
                "readinessProbe": probes["readinessProbe"],
                "extraPodMetadata": self.pod_metadata(part),
                "extraPodSpec": {
                    **self.pod(part),
                    "mainContainer": {**self.container(part), "startupProbe": probes["startupProbe"]},
                },
            }
        )

    def beta(self, part: Component) -> dict[str, Any]:
        """Return a component of v1beta1."""
        requests, limits = self.ordinary(part)
        gpus = {GPU: str(part.gpus)} if part.gpus else {}
        container = {
            "name": "main",
            **self.container(part),
            "env": self.env(part),
            "resources": _set(
                {
                    "requests": requests,
                    "limits": {**limits, **gpus, **self.extended(part)},
                    "claims": self.claims(part),
                }
            ),
            **self.probes(part),
        }
        disaggregated = part.name in {"prefill", "decode"}
        return _set(
            {
                "name": part.name,
                "type": part.name if disaggregated else part.launch.component,
                "replicas": part.replicas,
                "multinode": self.multinode(part),
                **beside.component_fields(self.deployment, part.name),
                "runtimeVersionOverride": self.runtime_version(part),
                "sharedMemorySize": self.own.shared_memory if part.works else None,
                "podTemplate": {
                    "metadata": self.pod_metadata(part),
                    "spec": {**self.pod(part), "containers": [_set(container)]},
                },
            }
        )
