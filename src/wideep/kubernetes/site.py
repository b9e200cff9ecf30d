"""A pod as a place: what `wideep.deployment.site.Site` is for a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from wideep.deployment.launch import ProgramFile
from wideep.deployment.model import Node
from wideep.deployment.site import Site

# Where a ConfigMap puts the engine's files.
CONFIG_PATH = "/etc/wideep"
# Ports that the operator gives its containers.
HTTP_PORT = 8000
SYSTEM_PORT = 9090
# Flags that the operator adds (ranks), or whose variable it sets: a second value would win over it.
OPERATOR_FLAGS = frozenset(
    {
        "dist-init-addr",
        "nnodes",
        "node-rank",
        "endpoint",
        "namespace",
        "namespace-prefix",
        "http-host",
        "http-port",
    }
)
# Environment of a host that a pod has from its image or its device plugin.
HOST_ENV = frozenset({"PATH", "CUDA_VISIBLE_DEVICES"})
# What the operator sets in every container, so nothing else may.
OPERATOR_ENV = frozenset(
    {
        "DYN_NAMESPACE",
        "DYN_NAMESPACE_PREFIX",
        "DYN_NAMESPACE_WORKER_SUFFIX",
        "DYN_COMPONENT",
        "DYN_DISCOVERY_BACKEND",
        "DYN_HTTP_PORT",
        "DYN_PARENT_DGD_K8S_NAME",
        "DYN_PARENT_DGD_K8S_NAMESPACE",
        "DYN_SYSTEM_ENABLED",
        "DYN_SYSTEM_PORT",
        "DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS",
        "ETCD_ENDPOINTS",
        "NATS_SERVER",
        "POD_NAME",
        "POD_NAMESPACE",
        "POD_UID",
    }
)


@dataclass(frozen=True)
class PodSite(Site):
    """A pod. Its host is made by `wideep.deployment.build` and stands for a node of the cluster."""

    wires_ranks: ClassVar[bool] = True

    def own(self, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Return the flags without those that the operator adds."""
        return {name: value for name, value in flags.items() if name not in OPERATOR_FLAGS}

    def service_dir(self, service: str) -> str:
        """Return the directory of the engine's files: a pod runs one service."""
        return CONFIG_PATH

    @property
    def python(self) -> str:
        """Return the image's interpreter. The operator knows a Python command by this name."""
        return "python3"

    @property
    def namespace(self) -> str:
        """Return the Dynamo namespace, which the operator derives from the graph's name."""
        settings = self.deployment.settings
        return f"{settings.kubernetes.namespace}-{settings.deployment}"

    @property
    def frontend_url(self) -> str:
        """Return where the frontend's Service is forwarded to."""
        return f"http://127.0.0.1:{self.frontend_port}"

    def deregister(self, node: Node) -> tuple[tuple[str, ...], tuple[ProgramFile, ...]]:
        """Return nothing: a dead pod leaves discovery with its endpoint or its lease."""
        return (), ()

    @property
    def worker_env_files(self) -> tuple[str, ...]:
        """Return nothing: a pod has secrets by reference to a Secret (`wideep.kubernetes.manifests`)."""
        return ()

    @property
    def dynamo_env(self) -> dict[str, str]:
        """Return the environment of every Dynamo process; the operator adds discovery, ports and names."""
        return self.common_env

    def worker_env(self, node: Node) -> dict[str, str]:
        """Return the environment of a worker process."""
        # Dynamo's canary sends requests of its own; releases of the operator differ in whether it is on.
        return self.dynamo_env | {"DYN_HEALTH_CHECK_ENABLED": "false"}
