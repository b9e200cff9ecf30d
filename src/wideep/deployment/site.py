"""Paths on the hosts and the environment that all Dynamo processes of a deployment share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

from wideep import programs
from wideep.deployment import tls
from wideep.deployment.launch import ProgramFile
from wideep.deployment.model import Deployment, Host, Node
from wideep.inventory import secrets

# What Dynamo does after SIGTERM, in order: leave discovery, grace, drain. We allow for all of it.
GRACE_S = 5
MARGIN_S = 25

# What services get by themselves (module_utils/process.py), and where NVIDIA's packages put the compiler.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CUDA_PATH = "/usr/local/cuda/bin"

# Flags of every Dynamo program that follow from the deployment, with the variable to use instead.
PLANE_FLAGS = {
    "discovery-backend": "wideep_discovery",
    "request-plane": "wideep_request_plane",
    "event-plane": "wideep_event_plane",
}
# Environment that the plan sets for every worker, likewise.
WORKER_ENV = {
    "ETCD_ENDPOINTS": "the inventory group control",
    "NATS_SERVER": "the inventory group control",
    "CUDA_VISIBLE_DEVICES": "wideep_pools.<pool>.gpus_per_node",
    "DYN_SYSTEM_PORT": "wideep_worker_port_base",
    "DYN_SYSTEM_HOST": "wideep_address",
    "DYN_TCP_RPC_PORT": "wideep_worker_port_base",
    "DYN_TCP_RPC_HOST": "wideep_address",
    "DYN_DISCOVERY_BACKEND": "wideep_discovery",
    "DYN_REQUEST_PLANE": "wideep_request_plane",
    "DYN_EVENT_PLANE": "wideep_event_plane",
}


@dataclass(frozen=True)
class Site:
    """A host of a deployment: the places on it, and the addresses that follow from the settings."""

    deployment: Deployment
    host: Host
    # Whether the platform starts all ranks of a replica, and tells them who they are.
    wires_ranks: ClassVar[bool] = False
    # What may follow the namespace of workers, as a regular expression: their generation. On Kubernetes the
    # operator puts it there, a sum of their specifications; Dynamo 1.4 did so for replicas of one pod without
    # Grove, 1.5 does for all (deploy/operator, ComputeDGDWorkersSpecHash).
    generations: ClassVar[str] = "-[0-9a-f]{8}"

    def own(self, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Return the flags without those that the platform adds by itself."""
        return dict(flags)

    @property
    def state_dir(self) -> str:
        """Return the directory that holds everything on the host."""
        return self.host.state_dir

    def service_dir(self, service: str) -> str:
        """Return the directory of a service's own files."""
        return f"{self.state_dir}/services/{service}"

    def launch_json(self, service: str) -> str:
        """Return the file with a service's launch."""
        return f"{self.service_dir(service)}/launch.json"

    def data_dir(self, service: str) -> str:
        """Return the directory of a service's data."""
        return f"{self.state_dir}/data/{service}"

    def log_file(self, service: str) -> str:
        """Return the file that holds a service's output."""
        return f"{self.state_dir}/log/{service}.log"

    @property
    def python(self) -> str:
        """Return the interpreter that has Dynamo."""
        settings = self.deployment.settings
        if settings.runtime == "existing":
            return self.host.python
        if settings.in_container:
            return settings.container.python
        return f"{self.state_dir}/venv/ai-dynamo-{self.deployment.release.dynamo}/bin/python"

    def compilers(self) -> dict[str, str]:
        """Return PATH for an engine that compiles kernels: its environment's ninja, CUDA's nvcc."""
        settings = self.deployment.settings
        if settings.on_kubernetes or settings.in_container:  # the image has its own
            return {}
        return {"PATH": f"{PurePosixPath(self.python).parent}:{SYSTEM_PATH}:{CUDA_PATH}"}

    @property
    def model_path(self) -> str:
        """Return the model directory on the workers' hosts.

        The same for all: a frontend takes no worker whose directory has another path than that of the first.
        """
        deployment = self.deployment
        home = (deployment.control or deployment.hosts)[0] if deployment.one_machine else self.host
        return deployment.settings.model_path or f"{home.state_dir}/model/rehearsal"

    @property
    def etcd_endpoints(self) -> str:
        """Return the client URLs of all etcd members, comma separated."""
        port = self.deployment.port(self.deployment.settings.etcd_client_port)
        return ",".join(f"http://{host.address}:{port}" for host in self.deployment.control)

    @property
    def nats_servers(self) -> str:
        """Return the client URLs of all NATS servers, comma separated."""
        port = self.deployment.port(self.deployment.settings.nats_port)
        scheme = "tls" if self.deployment.settings.tls.nats.certificate else "nats"
        return ",".join(f"{scheme}://{host.address}:{port}" for host in self.deployment.control)

    @property
    def frontend_url(self) -> str:
        """Return the URL that clients use: of the first load balancer, else of the first frontend."""
        if self.deployment.balancers:
            secured = self.deployment.settings.load_balancer.certificate
            address = self.deployment.balancers[0].address
            return f"http{'s' if secured else ''}://{address}:{self.balancer_port}"
        return self.frontend_url_of(self.deployment.frontends[0])

    def frontend_url_of(self, host: Host) -> str:
        """Return the URL of the frontend on a host."""
        scheme = "https" if self.deployment.settings.tls.http.certificate else "http"
        return f"{scheme}://{host.address}:{self.frontend_port}"

    @property
    def namespace(self) -> str:
        """Return the Dynamo namespace that frontends look in."""
        return self.deployment.settings.namespace

    @property
    def worker_namespace(self) -> str:
        """Return the Dynamo namespace that workers register in: that of their generation."""
        suffix = self.deployment.generation.suffix
        return f"{self.namespace}-{suffix}" if suffix else self.namespace

    @property
    def frontend_port(self) -> int:
        """Return the HTTP port of the frontends."""
        return self.deployment.port(self.deployment.settings.frontend_port)

    @property
    def balancer_port(self) -> int:
        """Return the HTTP port of the load balancers."""
        return self.deployment.port(self.deployment.settings.load_balancer.port)

    @property
    def balancer_monitor_port(self) -> int:
        """Return the port of the load balancers' metrics and page."""
        return self.deployment.port(self.deployment.settings.load_balancer.monitor_port)

    @property
    def stop_timeout_s(self) -> int:
        """Return how long a Dynamo process may take to drain before it is killed."""
        return GRACE_S + self.deployment.settings.drain_timeout_s + MARGIN_S

    @property
    def local_services(self) -> tuple[str, ...]:
        """Return the control-plane services of the host, which its Dynamo processes start after."""
        settings = self.deployment.settings
        if self.host not in self.deployment.control:
            return ()
        return tuple(
            name for name, used in (("nats", settings.uses_nats), ("etcd", settings.uses_etcd)) if used
        )

    def program(self, name: str) -> ProgramFile:
        """Return where one of `wideep.programs` lies on the host."""
        found = programs.program(name)
        return ProgramFile(name, found.digest, f"{self.state_dir}/{programs.DIRECTORY}/{found.file}")

    def deregister(self, node: Node) -> tuple[tuple[str, ...], tuple[ProgramFile, ...]]:
        """Return the command that takes a dead worker out of discovery at once, and its program."""
        if not self.deployment.settings.uses_etcd:
            return (), ()
        program = self.program("deregister")
        address = f"{node.host.address}:{node.port('system')}"
        # It needs the standard library only: beside a container it is the host's Python that runs it.
        python = "python3" if self.deployment.settings.in_container else self.python
        return (python, "-IS", program.path, self.etcd_endpoints, address), (program,)

    def gang_dir(self, service: str) -> str:
        """Return the directory that a rank's user may write to, unlike that of the service's files."""
        return f"{self.service_dir(service)}/gang"

    def launch_socket(self, service: str) -> str:
        """Return the Unix socket through which the head's command starts processes of the other ranks."""
        return f"{self.gang_dir(service)}/launch"

    def launch_agent(self, service: str) -> tuple[str, ProgramFile]:
        """Return what the head's command calls in ssh's place (`HOST COMMAND...` follow), and its program."""
        program = self.program("launch_agent")
        return f"{self.python} -IS {program.path} {self.launch_socket(service)}", program

    def secret_file(self, name: str) -> str:
        """Return the path of one of the files that role `secrets` writes (`wideep.inventory.secrets`)."""
        return f"{self.state_dir}/{secrets.DIRECTORY}/{name}"

    @property
    def dynamo_env_files(self) -> tuple[str, ...]:
        """Return the files with the credentials of every Dynamo process."""
        deployment, settings = self.deployment, self.deployment.settings
        return tuple(
            self.secret_file(name)
            for name, used in (
                (secrets.NATS, deployment.settings.uses_nats and settings.secrets_nats_user),
                (secrets.ETCD, deployment.settings.uses_etcd and settings.secrets_etcd_user),
            )
            if used
        )

    @property
    def worker_env_files(self) -> tuple[str, ...]:
        """Return the files with the credentials of a worker."""
        own = (self.secret_file(secrets.WORKER),) if self.deployment.settings.secrets_env else ()
        return self.dynamo_env_files + own

    @property
    def nats_routes(self) -> list[str]:
        """Return `address:port` of the NATS cluster's other servers."""
        port = self.deployment.port(self.deployment.settings.nats_cluster_port)
        return [f"{peer.address}:{port}" for peer in self.deployment.control if peer != self.host]

    @property
    def dynamo_directories(self) -> tuple[str, ...]:
        """Return the directories that all Dynamo processes of a host share."""
        discovery = self.deployment.settings.discovery == "file"
        return (self.home, self.temporary, *((self.data_dir("discovery"),) if discovery else ()))

    @property
    def temporary(self) -> str:
        """Return the directory for temporary files: Dynamo leaves one in it at each start."""
        return f"{self.state_dir}/tmp"  # noqa: S108

    @property
    def home(self) -> str:
        """Return the home directory of Dynamo processes: they and the engines keep caches there."""
        return f"{self.state_dir}/cache/home"

    @property
    def common_env(self) -> dict[str, str]:
        """Return the environment of every Dynamo process on every platform."""
        settings = self.deployment.settings
        return {
            "DYN_LOG": settings.log_level,
            "DYN_SDK_DISABLE_ANSI_LOGGING": "1",
            "DYN_REQUEST_PLANE": settings.request_plane,
            "DYN_EVENT_PLANE": settings.event_plane,
            # Workers publish this address; without it Dynamo takes the first interface it finds, and pods
            # with RDMA have several.
            "DYN_TCP_RPC_HOST": self.host.address,
            "DYN_GRACEFUL_SHUTDOWN_GRACE_PERIOD_SECS": str(GRACE_S),
            "DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": str(settings.drain_timeout_s),
            "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS": str(settings.drain_timeout_s),
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def dynamo_env(self) -> dict[str, str]:
        """Return the environment of every Dynamo process on the host."""
        deployment, settings = self.deployment, self.deployment.settings
        env = self.common_env | {
            "DYN_DISCOVERY_BACKEND": settings.discovery,
            "HOME": self.home,
            "TMPDIR": self.temporary,
        }
        if deployment.settings.uses_etcd:
            env["ETCD_ENDPOINTS"] = self.etcd_endpoints
        if settings.discovery == "file":
            env["DYN_FILE_KV"] = self.data_dir("discovery")
        if deployment.settings.uses_nats:
            env["NATS_SERVER"] = self.nats_servers
        # Unset, Dynamo takes the IPv4 address of the default route, which a certificate need not name.
        any_address = deployment.release.behaves("responses_come_back_to_an_address")
        if self.host.loopback:
            env["DYN_TCP_RESPONSE_STREAM_HOST"] = self.host.address if any_address else "lo"
        elif settings.tls.requests.certificate and any_address and self.host.numeric:
            env["DYN_TCP_RESPONSE_STREAM_HOST"] = self.host.address
        return env | tls.environment(deployment)

    def worker_env(self, node: Node) -> dict[str, str]:
        """Return the environment of a Dynamo worker process on one node of a replica."""
        return self.dynamo_env | {
            # The system port also serves the model's metadata; without it the frontend asks a hub.
            "DYN_SYSTEM_PORT": str(node.port("system")),
            "DYN_SYSTEM_HOST": node.host.address,
            # Otherwise /health answers 503 for ever, although its endpoints are ready.
            "DYN_SYSTEM_STARTING_HEALTH_STATUS": "ready",
            "DYN_TCP_RPC_PORT": str(node.port("rpc")),
        }
