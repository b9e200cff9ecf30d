"""Our manifests before the CRDs of Dynamo's operator itself, in an API server that takes no unknown field.

The CRDs are no part of the project: they lie beside it (`../shared/crds`) where these tests are to see them.
Elsewhere the release's own schema stands for them, and the names of the tests say so.
"""

from __future__ import annotations

import copy
import lzma
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from places import REPOSITORY, program
from waiting import until

from wideep.cluster import server

CRDS = REPOSITORY.parent / "shared" / "crds"
NAME = "dynamographdeployments"
BED = (sys.executable, str(REPOSITORY / "tools" / "kube" / "bed.py"), "--offset", "1100")
OWN = "the release's own schema"
APIS = ("v1alpha1", "v1beta1")
SOURCES = {
    path.name.removeprefix(f"{NAME}-").removesuffix(".yaml.xz"): path
    for path in sorted(CRDS.glob(f"{NAME}-*.yaml.xz"))
}
DIGEST = "registry.example.com/sglang@sha256:" + "0" * 64
# wideep_kubernetes beyond what the inventories have.
MORE: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without Grove": {"orchestrator": "lws"},
    "by digest, with all that is added": {
        "image": DIGEST,
        "queue": "team",
        "priority_class": "high",
        "host_network": True,
        "host_ipc": True,
        "privileged": True,
        "run_as_user": 0,
        "cache_host_path": "/srv/cache",
        "resource_claims": [{"name": "imex", "template": "imex"}],
        "volumes": [{"name": "gdr", "hostPath": {"path": "/dev/gdrdrv"}}],
        "volume_mounts": [{"name": "gdr", "mountPath": "/dev/gdrdrv"}],
        "extra_resources": {"rdma/ib_1": "1"},
        "labels": {"y": "n"},
        "tolerations": [{"key": "y", "operator": "Equal", "value": "1e3", "effect": "NoSchedule"}],
    },
}
make_manifests = program("tools/make_manifests.py")


@pytest.fixture(scope="module")
def api() -> Iterator[client.ApiClient]:
    """Start the bed, with the manifests' namespace in it."""
    subprocess.run([REPOSITORY / "tools" / "kube" / "build"], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([*BED, "up"], stdout=subprocess.PIPE, text=True, check=True)
    try:
        made = config.new_client_from_config(done.stdout.strip())
        client.CoreV1Api(made).create_namespace({"metadata": {"name": "dynamo"}})
        yield made
    finally:
        subprocess.run([*BED, "down"], check=True)


def definition(source: str, version: str) -> dict[str, Any]:
    """Return a CRD that serves one version of it alone: the operator, which converts, is not here."""
    if source == OWN:
        return dict(program("tests/cluster/make_crd.py").crd(version))
    text = lzma.decompress(SOURCES[source].read_bytes())
    made = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    made["spec"].pop("conversion", None)
    (one,) = (own for own in made["spec"]["versions"] if own["name"] == version)
    made["spec"]["versions"] = [one | {"storage": True}]
    return {key: made[key] for key in ("apiVersion", "kind", "metadata", "spec")}


@pytest.fixture(scope="module", params=[(s, v) for s in SOURCES or (OWN,) for v in APIS], ids=" ".join)
def served(request: pytest.FixtureRequest, api: client.ApiClient) -> Iterator[str]:
    """Serve one version of one source; return the version."""
    source, version = request.param
    extensions, custom = client.ApiextensionsV1Api(api), client.CustomObjectsApi(api)
    extensions.create_custom_resource_definition(definition(source, version))

    def known() -> bool:
        """Whether the API says so: a CRD is established a moment before."""
        try:
            found = custom.get_api_resources("nvidia.com", version).resources
        except client.ApiException:
            return False
        return NAME in {resource.name for resource in found}

    until("the CRD is served", known)
    yield version
    extensions.delete_custom_resource_definition(f"{NAME}.nvidia.com")
    until("the CRD is gone", lambda: not known())


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("inventory", make_manifests.INVENTORIES)
def test_what_is_rendered_is_taken(api: client.ApiClient, served: str, inventory: str, more: str) -> None:
    shared = REPOSITORY / "inventories" / inventory / "group_vars" / "all.yml"
    own = yaml.safe_load(shared.read_text(encoding="utf-8"))["wideep_kubernetes"]
    variables = {"wideep_graph_api": served, "wideep_kubernetes": {**own, **MORE[more]}}
    made = make_manifests.manifests(inventory, **variables)
    assert server.dry_run(api, (*made.model, *made.graph)) == []
    # It would be said.
    graph = copy.deepcopy(made.graph[-1])
    graph["spec"]["backendFramwork"] = graph["spec"]["backendFramework"]
    (problem,) = server.dry_run(api, [graph])
    assert "backendFramwork" in problem.message


@pytest.mark.parametrize("path", sorted(make_manifests.TARGET.glob("*.yaml")), ids=lambda path: path.name)
def test_files_for_kubectl_are_taken(api: client.ApiClient, served: str, path: Path) -> None:
    items = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    graphs = {item["apiVersion"] for item in items if item["kind"] == "DynamoGraphDeployment"}
    if graphs - {f"nvidia.com/{served}"}:
        pytest.skip("its graph is of the other version")
    assert server.dry_run(api, items) == []
