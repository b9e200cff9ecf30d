"""A way from this machine to a Service in a cluster, for as long as it is needed."""

from __future__ import annotations

import contextlib
import re
import select
import subprocess
from collections.abc import Iterator
from tempfile import TemporaryFile

from wideep.kubernetes.access import Cluster, UnreachableError

START_S = 20
FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


@contextlib.contextmanager
def forwarded(cluster: Cluster, namespace: str, service: str, port: int) -> Iterator[str]:
    """Run `kubectl port-forward` on a free port; yield the URL on this machine.

    Raises:
        UnreachableError: kubectl is missing, or says why it cannot.
    """
    words = cluster.kubectl("--namespace", namespace, "port-forward", f"service/{service}", f":{port}")
    with TemporaryFile("w+") as said:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True
            )
        except OSError as error:
            raise UnreachableError(f"kubectl cannot be run on this machine: {error.strerror}") from error
        try:
            assert process.stdout is not None
            # It says so as soon as it listens; the rest of its output is a line for each connection.
            answers, _, _ = select.select([process.stdout], [], [], START_S)
            line = process.stdout.readline() if answers else ""
            found = FORWARDING.match(line)
            if not found:
                said.seek(0)
                why = said.read().strip() or line.strip() or f"no answer after {START_S} s"
                raise UnreachableError(f"kubectl port-forward to service/{service} in {namespace}: {why}")
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
