"""A way from this machine to a Service in a cluster, for as long as it is needed."""

from __future__ import annotations

import re
import select
import subprocess
from collections.abc import Mapping
from tempfile import TemporaryFile
from typing import IO, Any

from wideep.cluster.access import Cluster, ClusterError

START_S, STOP_S = 20, 5
# Of kubectl's words: the last ones say why.
LINES = 2
FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class Forward:
    """`kubectl port-forward` on a free port of this machine; a context manager that ends it.

    kubectl ends at the first connection that it cannot make, e.g. because the pod has just started or gone.
    """

    def __init__(self, cluster: Cluster, namespace: str, service: str, port: int) -> None:
        self._cluster, self._service, self._port = cluster, service, port
        self._namespace = f"/api/v1/namespaces/{namespace}"
        self._words = cluster.kubectl("--namespace", namespace, "port-forward")
        self._what = f"kubectl port-forward to service/{service} in {namespace}"
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None
        self._url = ""

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
        if self._errors:
            self._errors.close()

    def url(self) -> str:
        """Return the URL on this machine; start kubectl where it does not run.

        Raises:
            ClusterError: the way was never there: kubectl is missing, or says why it cannot.
        """
        if self._process and self._process.poll() is None:
            return self._url
        said = self._start()
        if said and not self._url:
            raise ClusterError(f"{self._what}: {said}")
        return self._url

    def said(self) -> str:
        """Return what kubectl says of connections that it could not make; empty where all is well."""
        if not self._errors:
            return ""
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return f"{self._what}: {'; '.join(lines[-LINES:])}" if lines else ""

    def _target(self) -> tuple[str, str]:
        """Return a ready pod of the Service, and its port; the Service itself where there is none.

        Of a Service kubectl may take a pod that does not run, while others do.
        """
        try:
            pod, port = self._ready_pod()
        except ClusterError:
            pod, port = "", 0  # kubectl says why
        return (f"pod/{pod}", f":{port}") if pod else (f"service/{self._service}", f":{self._port}")

    def _ready_pod(self) -> tuple[str, int]:
        """Return a ready pod of the Service and its port; an empty name where there is none."""
        service = self._cluster.get(f"{self._namespace}/services/{self._service}") or {}
        spec = service.get("spec") or {}
        ports = {own["port"]: own.get("targetPort", own["port"]) for own in spec.get("ports") or ()}
        pods = (
            self._cluster.items(f"{self._namespace}/pods", spec["selector"]) if spec.get("selector") else []
        )
        for pod in pods:
            conditions = (pod.get("status") or {}).get("conditions") or ()
            ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
            port = _number(pod, ports.get(self._port, self._port))
            if ready and port and "deletionTimestamp" not in pod["metadata"]:
                return str(pod["metadata"]["name"]), port
        return "", 0

    def _start(self) -> str:
        """Start kubectl; return why it does not forward, empty if it does."""
        self.__exit__()
        self._errors = TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        try:
            self._process = subprocess.Popen(
                [*self._words, *self._target()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
            )
        except OSError as error:
            self._process = None
            raise ClusterError(f"kubectl cannot be run on this machine: {error.strerror}") from error
        assert self._process.stdout is not None
        # It says so as soon as it listens; the rest of its output is a line for each connection.
        answers, _, _ = select.select([self._process.stdout], [], [], START_S)
        line = self._process.stdout.readline() if answers else ""
        if found := FORWARDING.match(line):
            self._url = f"http://127.0.0.1:{found[1]}"
            return ""
        self._errors.seek(0)
        return self._errors.read().strip() or line.strip() or f"no answer after {START_S} s"


def _number(pod: Mapping[str, Any], port: int | str) -> int | None:
    """Return a pod's port, that may be given by its name; None where it has none of that name."""
    if isinstance(port, int):
        return port
    named = {
        own.get("name"): int(own["containerPort"])
        for container in pod["spec"]["containers"]
        for own in container.get("ports") or ()
    }
    return named.get(port)
