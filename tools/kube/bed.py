#!/usr/bin/env python3
"""A real Kubernetes API on this machine to try manifests on; its nodes exist on paper.

usage: bed.py up|down|status [--state DIR] [--offset N]

etcd, kube-apiserver, kube-controller-manager and kube-scheduler are real; kwok plays eight nodes with eight
GPUs each and one without, and the life of their pods (stages.yaml). No process runs in a pod: exec, Services
and webhooks in the cluster do nothing. All ports are on loopback, moved by --offset, so that beds can stand
side by side. `up` prints the kubeconfig; `down` ends the processes by their ids and removes the directory.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import ipaddress
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from kubernetes import client, config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GPU_NODES = 8
GPUS = 8
DEADLINE_S = 90
STOP_S = 15
# Who may do what: RBAC's own roles know the two system users; `guest` may do nothing.
USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kwok": ("kwok", "system:masters"),
    "guest": ("guest", ""),
}


@dataclass(frozen=True)
class Bed:
    """A bed: its directory and its ports."""

    state: Path
    offset: int

    @property
    def etcd(self) -> str:
        """Return etcd's client URL."""
        return f"http://127.0.0.1:{23790 + self.offset}"

    @property
    def port(self) -> int:
        """Return the API server's port."""
        return 26443 + self.offset

    @property
    def kubelet_port(self) -> int:
        """Return the port on which kwok answers for all kubelets."""
        return 26250 + self.offset

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig."""
        return self.state / "kubeconfig"

    def user_config(self, user: str) -> Path:
        """Return a user's kubeconfig."""
        return self.kubeconfig if user == "admin" else self.state / f"kubeconfig-{user}"


# ---- processes -----------------------------------------------------------------------------------


def started_at(pid: int) -> str:
    """Return a process's start time in clock ticks, which tells it from a later one with the same id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def alive(bed: Bed, name: str) -> int:
    """Return the process id of a program of the bed; 0 if it does not run."""
    try:
        pid, start = (bed.state / "run" / name).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return 0
    return int(pid) if started_at(int(pid)) == start else 0


def start(bed: Bed, name: str, argv: Sequence[str | Path]) -> None:
    """Start a program in a session of its own, with its output in log/."""
    if alive(bed, name):
        return
    with (bed.state / "log" / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=bed.state,
        )
    (bed.state / "run" / name).write_text(f"{process.pid} {started_at(process.pid)}\n", encoding="utf-8")


def stop(bed: Bed, name: str) -> None:
    """End a program: politely, then not."""
    for sign, patience in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, 5)):
        pid = alive(bed, name)
        if not pid:
            return
        os.kill(pid, sign)
        end = time.monotonic() + patience
        while time.monotonic() < end and alive(bed, name):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)


def wait(bed: Bed, name: str, what: str, ready: Callable[[], bool], deadline: float = DEADLINE_S) -> None:
    """Wait until something is so; the process that is to make it so has to live.

    Raises:
        SystemExit: with the last lines of its log.
    """
    end = time.monotonic() + deadline
    while not ready():
        late = time.monotonic() > end
        if late or not alive(bed, name):
            log = (bed.state / "log" / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            why = f"not after {deadline:.0f} s" if late else "the process ended"
            tail = "\n".join(log.splitlines()[-15:])
            raise SystemExit(f"{name}: {what}: {why}; the end of its log:\n{tail}")
        time.sleep(0.1)


def answers(url: str, ca: Path | None = None, token: str = "") -> bool:
    """Whether GET url is answered with 200."""
    context = ssl.create_default_context(cafile=str(ca)) if ca else None
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


# ---- keys, tokens, kubeconfigs -------------------------------------------------------------------


def write(path: Path, content: bytes | str) -> Path:
    """Write a file that only its owner may read."""
    data = content.encode() if isinstance(content, str) else content
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def make_key(path: Path) -> rsa.RSAPrivateKey:
    """Make a private key and write it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    write(
        path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    return key


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return what an authority's key is for, or a server's."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def make_certificates(bed: Bed) -> None:
    """Make the bed's own authority, and the server's certificate."""
    pki = bed.state / "pki"
    pki.mkdir(mode=0o700)
    now = datetime.datetime.now(datetime.UTC)
    names: dict[str, x509.Name] = {
        who: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"wideep-bed-{who}")])
        for who in ("ca", "server")
    }
    authority = make_key(pki / "ca.key")
    for who in ("ca", "server"):
        key = authority if who == "ca" else make_key(pki / "server.key")
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[who])
            .issuer_name(names["ca"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=who == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            # Python 3.13 wants an issuer's key named, and an authority that may sign, as RFC 5280 does.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
            )
            .add_extension(key_usage(signs_certificates=who == "ca"), critical=True)
        )
        if who == "server":
            alternatives = [
                x509.DNSName("localhost"),
                x509.DNSName("kubernetes.default.svc"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(authority, hashes.SHA256())
        write(pki / f"{who}.crt", certificate.public_bytes(serialization.Encoding.PEM))
    make_key(pki / "service-account.key")


def make_users(bed: Bed) -> None:
    """Make a token and a kubeconfig for each user."""
    lines = []
    for name, (user, group) in USERS.items():
        token = secrets.token_hex(24)
        lines.append(f"{token},{user},{name},{group}")
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "wideep-bed",
            "clusters": [
                {
                    "name": "wideep-bed",
                    "cluster": {
                        "server": f"https://127.0.0.1:{bed.port}",
                        "certificate-authority": str(bed.state / "pki" / "ca.crt"),
                    },
                }
            ],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "wideep-bed", "context": {"cluster": "wideep-bed", "user": name}}],
        }
        write(bed.user_config(name), yaml.safe_dump(content, sort_keys=False))
    write(bed.state / "pki" / "tokens.csv", "\n".join(lines) + "\n")


# ---- what the cluster has ------------------------------------------------------------------------


def nodes() -> list[dict[str, Any]]:
    """Return the nodes: GPU nodes with a taint, as clusters often have them, and one for everything else."""
    plain = {"cpu": "192", "memory": "2Ti", "pods": "110", "ephemeral-storage": "7Ti"}
    made = []
    for number in range(GPU_NODES + 1):
        gpu = number < GPU_NODES
        name = f"gpu-{number}" if gpu else "cpu-0"
        capacity = plain | ({"nvidia.com/gpu": str(GPUS), "rdma/ib": str(GPUS)} if gpu else {})
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        if gpu:
            labels |= {
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.count": str(GPUS),
                "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
            }
        taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
        made.append(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": labels},
                "spec": {"taints": [taint]} if gpu else {},
                "status": {"capacity": capacity, "allocatable": capacity},
            }
        )
    return made


STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "kwok-volume",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "kwok.x-k8s.io/volume",
}


def furnish(api: client.ApiClient) -> None:
    """Create nodes and the storage class, where they are not there yet."""
    core, storage = client.CoreV1Api(api), client.StorageV1Api(api)
    for create, body in [
        *((core.create_node, node) for node in nodes()),
        (storage.create_storage_class, STORAGE_CLASS),
    ]:
        try:
            create(body)
        except client.ApiException as error:
            if error.status != 409:
                raise


def ready_nodes(api: client.ApiClient) -> int:
    """Return the number of nodes that are ready."""
    found = client.CoreV1Api(api).list_node().items
    return sum(
        any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or []) for node in found
    )


# ---- verbs ---------------------------------------------------------------------------------------


def commands(bed: Bed, programs: Path) -> dict[str, list[str | Path]]:
    """Return the programs in the order in which they are started."""
    pki = bed.state / "pki"
    common = ["--leader-elect=false", "--secure-port=0"]
    return {
        "etcd": [
            programs / "etcd",
            f"--data-dir={bed.state / 'etcd'}",
            f"--listen-client-urls={bed.etcd}",
            f"--advertise-client-urls={bed.etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{23800 + bed.offset}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
        "kube-apiserver": [
            programs / "kube-apiserver",
            f"--etcd-servers={bed.etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={bed.port}",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={pki / 'server.crt'}",
            f"--tls-private-key-file={pki / 'server.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--token-auth-file={pki / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki / 'service-account.key'}",
            f"--service-account-signing-key-file={pki / 'service-account.key'}",
            # kwok answers for the kubelets, with the server's certificate.
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--event-ttl=10m",
            # As distributions have it: whether a pod may is for Pod Security to say.
            "--allow-privileged",
            "--profiling=false",
        ],
        "kube-controller-manager": [
            programs / "kube-controller-manager",
            f"--kubeconfig={bed.user_config('controller-manager')}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--service-account-private-key-file={pki / 'service-account.key'}",
            # RBAC has a role for each controller, not one for all of them.
            "--use-service-account-credentials",
            # Nodes on paper renew no leases, and say every ten minutes that they live.
            "--node-monitor-grace-period=1h",
            *common,
        ],
        "kube-scheduler": [
            programs / "kube-scheduler",
            f"--kubeconfig={bed.user_config('scheduler')}",
            *common,
        ],
        "kwok": [
            programs / "kwok",
            f"--kubeconfig={bed.user_config('kwok')}",
            "--manage-all-nodes",
            f"--config={bed.state / 'kwok.yaml'}",
            "--node-ip=127.0.0.1",
            f"--node-port={bed.kubelet_port}",
            f"--server-address=127.0.0.1:{bed.kubelet_port}",
            f"--tls-cert-file={pki / 'server.crt'}",
            f"--tls-private-key-file={pki / 'server.key'}",
            "--enable-crds=Logs,PortForward",
        ],
    }


def up(bed: Bed) -> None:
    """Start what does not run yet, and wait for ready nodes."""
    made = subprocess.run([HERE / "build"], stdout=subprocess.PIPE, check=True, text=True)
    programs = Path(made.stdout.strip().splitlines()[-1])
    if not (bed.state / "pki" / "tokens.csv").exists():
        shutil.rmtree(bed.state, ignore_errors=True)
        bed.state.mkdir(parents=True, mode=0o700)
        for name in ("log", "run"):
            (bed.state / name).mkdir()
        make_certificates(bed)
        make_users(bed)
    stages = (HERE / "stages.yaml", programs / "kwok-volume-stages.yaml")
    write(bed.state / "kwok.yaml", "".join(path.read_text(encoding="utf-8") for path in stages))
    ca = bed.state / "pki" / "ca.crt"
    token = yaml.safe_load(bed.kubeconfig.read_text(encoding="utf-8"))["users"][0]["user"]["token"]
    api = None
    for name, argv in commands(bed, programs).items():
        if name == "kwok":
            api = config.new_client_from_config(str(bed.kubeconfig))
            crds = yaml.safe_load_all((programs / "kwok-crds.yaml").read_text(encoding="utf-8"))
            for crd in filter(None, crds):
                apply_crd(api, crd)
        start(bed, name, argv)
        if name == "etcd":
            wait(bed, name, "healthy", lambda: answers(f"{bed.etcd}/health"))
        if name == "kube-apiserver":
            wait(bed, name, "ready", lambda: answers(f"https://127.0.0.1:{bed.port}/readyz", ca, token))
    assert api is not None
    furnish(api)
    count = len(nodes())
    wait(bed, "kwok", f"{count} nodes ready", lambda: ready_nodes(api) == count)
    core = client.CoreV1Api(api)
    wait(
        bed,
        "kube-controller-manager",
        "service account of the namespace default",
        lambda: bool(core.list_namespaced_service_account("default").items),
    )
    print(bed.kubeconfig)


def apply_crd(api: client.ApiClient, crd: dict[str, Any]) -> None:
    """Create a CustomResourceDefinition, where it is not there yet."""
    try:
        client.ApiextensionsV1Api(api).create_custom_resource_definition(crd)
    except client.ApiException as error:
        if error.status != 409:
            raise


def down(bed: Bed) -> None:
    """End the processes, the last one first, and remove the directory."""
    run = bed.state / "run"
    for name in ("kwok", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
        stop(bed, name)
    left = [path.name for path in run.iterdir() if alive(bed, path.name)] if run.is_dir() else []
    if left:
        raise SystemExit(f"still running: {', '.join(left)}")
    shutil.rmtree(bed.state, ignore_errors=True)


def status(bed: Bed) -> int:
    """Print what runs; return the exit status: 0 if all of it does."""
    found = {}
    for name in commands(bed, Path()):
        pid = alive(bed, name)
        memory = 0
        if pid:
            text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            memory = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
        found[name] = {"pid": pid, "memory_mib": memory // 1024}
    total = sum(each["memory_mib"] for each in found.values())
    print(json.dumps({"kubeconfig": str(bed.kubeconfig), "memory_mib": total, "programs": found}, indent=2))
    return 0 if all(each["pid"] for each in found.values()) else 1


def main() -> int:
    """Run a verb."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("verb", choices=["up", "down", "status"])
    parser.add_argument("--offset", type=int, default=0, help="moves all ports")
    parser.add_argument("--state", type=Path, help="directory; default .cache/kube-bed/<offset>")
    arguments = parser.parse_args()
    state = arguments.state or ROOT / ".cache" / "kube-bed" / str(arguments.offset)
    bed = Bed(state.resolve(), arguments.offset)
    if arguments.verb == "status":
        return status(bed)
    (up if arguments.verb == "up" else down)(bed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
