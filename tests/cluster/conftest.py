"""Suite `cluster`: a bed of its own (tools/kube), with the test chart's CRD and controller.

The first run builds Kubernetes from the Go module proxy, some ten minutes; later ones start in seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import environments
import pytest
from kubernetes import client, config
from places import REPOSITORY, program
from waiting import until

HERE = Path(__file__).resolve().parent
# Two runs on one machine need different ports.
OFFSET = os.environ.get("WIDEEP_BED_OFFSET", "700")
BED = (sys.executable, str(REPOSITORY / "tools" / "kube" / "bed.py"), "--offset", OFFSET)
DGD = "dynamographdeployments.nvidia.com"


make_crd = program("tests/cluster/make_crd.py")
make_manifests = program("tools/make_manifests.py")
dynamo_bin = environments.dynamo_bin


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[str]:
    """Start the bed; return the administrator's kubeconfig."""
    done = subprocess.run([*BED, "up"], stdout=subprocess.PIPE, text=True, check=True)
    yield done.stdout.strip()
    subprocess.run([*BED, "down"], check=True)


@pytest.fixture(scope="session")
def programs() -> Path:
    """Return the directory of helm and of the other programs of the bed."""
    built = subprocess.run(
        [REPOSITORY / "tools" / "kube" / "build"], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(built.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def api(kubeconfig: str) -> client.ApiClient:
    return config.new_client_from_config(kubeconfig)


@pytest.fixture(scope="module")
def empty_namespace(api: client.ApiClient) -> Iterator[str]:
    """Make the namespace of the manifests; remove it at the end, which takes seconds."""
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": "dynamo"}})
    yield "dynamo"
    core.delete_namespace("dynamo")

    def gone() -> bool:
        return "dynamo" not in {n.metadata.name for n in core.list_namespace().items}

    until("the namespace is gone", gone)


@pytest.fixture
def namespace(api: client.ApiClient, empty_namespace: str) -> Iterator[str]:
    """Lend the namespace; remove afterwards what is in it, and what it was labelled with."""
    yield empty_namespace
    core = client.CoreV1Api(api)
    client.BatchV1Api(api).delete_collection_namespaced_job("dynamo", propagation_policy="Foreground")
    client.RbacAuthorizationV1Api(api).delete_collection_namespaced_role("dynamo")
    core.delete_collection_namespaced_persistent_volume_claim("dynamo")
    core.delete_collection_namespaced_pod("dynamo", grace_period_seconds=0)
    for kind in ("service", "config_map", "secret", "event"):
        getattr(core, f"delete_collection_namespaced_{kind}")("dynamo")
    core.patch_namespace("dynamo", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}})

    def empty() -> bool:
        left = (
            client.BatchV1Api(api).list_namespaced_job,
            core.list_namespaced_pod,
            core.list_namespaced_persistent_volume_claim,
        )
        return not any(listed("dynamo").items for listed in left)

    until("the namespace is empty", empty)


@contextmanager
def crd(api: client.ApiClient, stored: str, *others: str) -> Iterator[None]:
    """Serve DynamoGraphDeployments in one version, or in several that nothing converts."""
    extensions = client.ApiextensionsV1Api(api)
    body = make_crd.crd(stored, *others)
    extensions.create_custom_resource_definition(body)
    plural, _, group = DGD.partition(".")

    def known(served: str) -> bool:
        """Whether the API says so: kubectl asks it first, and a CRD is established a moment before."""
        try:
            found = client.CustomObjectsApi(api).get_api_resources(group, served).resources
        except client.ApiException:
            return False
        return plural in {resource.name for resource in found}

    versions = [own["name"] for own in body["spec"]["versions"]]
    until("the CRD is known", lambda: all(map(known, versions)))
    try:
        yield
    finally:
        extensions.delete_custom_resource_definition(DGD)

        def gone() -> bool:
            return DGD not in {c.metadata.name for c in extensions.list_custom_resource_definition().items}

        until("the CRD is gone", lambda: gone() and not any(map(known, versions)))


@contextmanager
def kind(
    api: client.ApiClient,
    plural: str,
    name: str,
    group: str,
    *,
    version: str = "v1",
    scope: str = "Namespaced",
) -> Iterator[None]:
    """Serve a kind of which nothing but its name matters."""
    extensions = client.ApiextensionsV1Api(api)
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": version, "served": True, "storage": True, "schema": schema}]
    names = {"kind": name, "plural": plural, "singular": name.lower(), "listKind": f"{name}List"}
    body = {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": scope, "names": names, "versions": versions},
    }
    extensions.create_custom_resource_definition(body)

    def served() -> bool:
        try:
            client.CustomObjectsApi(api).list_cluster_custom_object(group, version, plural)
        except client.ApiException:
            return False
        return True

    until(f"{plural} are served", served)
    try:
        yield
    finally:
        extensions.delete_custom_resource_definition(f"{plural}.{group}")
        until(f"{plural} are gone", lambda: not served())


@contextmanager
def granted(api: client.ApiClient, namespace: str, rights: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Give the user guest rights in a namespace, as wideep.cluster.preflight has them, and no others."""
    rules = []
    for resource, verbs in rights.items():
        name, _, group = resource.partition(".")
        rules.append({"apiGroups": [group], "resources": [name], "verbs": list(verbs)})
    rbac = client.RbacAuthorizationV1Api(api)
    rbac.create_namespaced_role(namespace, {"metadata": {"name": "guest"}, "rules": rules})
    subject = {"kind": "User", "name": "guest", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": "guest", "apiGroup": "rbac.authorization.k8s.io"}
    body = {"metadata": {"name": "guest"}, "subjects": [subject], "roleRef": reference}
    rbac.create_namespaced_role_binding(namespace, body)

    def allowed(wanted: bool) -> bool:
        attributes = {"verb": "get", "resource": "pods", "subresource": "log", "namespace": namespace}
        review = {"spec": {"user": "guest", "resourceAttributes": attributes}}
        answer = client.AuthorizationV1Api(api).create_subject_access_review(review)
        return bool(answer.status.allowed) is wanted

    until("the rights are known", lambda: allowed(True))
    try:
        yield
    finally:
        rbac.delete_namespaced_role_binding("guest", namespace)
        rbac.delete_namespaced_role("guest", namespace)
        until("the rights are gone", lambda: allowed(False))


@contextmanager
def controller(kubeconfig: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the test controller."""
    argv = [sys.executable, str(HERE / "controller.py"), "--kubeconfig", kubeconfig, *options]
    process = subprocess.Popen(argv, env=dict(os.environ))
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
