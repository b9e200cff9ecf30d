"""What a wait says while it waits, and of what is in the way; what teardown may remove."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import controller, crd, wait
from kubernetes import client
from test_cluster import apply, manifests, ready

from wideep.kubernetes import objects, watch
from wideep.kubernetes.access import Cluster

NAME = "deepseek-r1-wideep"
LABELS = {watch.GRAPH_LABEL: NAME}
BASE = {"rdma_resource": "rdma/ib", "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}


@pytest.fixture(autouse=True)
def cluster(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", kubeconfig)
    return Cluster()


def put(kubeconfig: str, **own: Any) -> None:
    made = manifests("sglang", wideep_kubernetes={**BASE, **own})
    apply(kubeconfig, *(objects.marked(item, NAME) for item in (*made.model, *made.graph)))


def says(cluster: Cluster, *words: str) -> None:
    """Wait until the report has these words, and assert that the graph is not called ready."""

    def told() -> bool:
        text = watch.trouble(cluster, "dynamo", LABELS)
        return all(word in text for word in words)

    wait(f"the report says {words}", told)
    assert not watch.graph(cluster, "dynamo", NAME, "v1alpha1").done


def test_image_that_cannot_be_pulled(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    with crd(api, "v1alpha1"), controller(kubeconfig):
        put(kubeconfig, frontend_image="registry.example.com/no-such-image:1.4.2")
        says(cluster, f"pod {NAME}-frontend-0 on cpu-0: ImagePullBackOff", "Failed to pull image: not found")
        assert "1 ImagePullBackOff" in watch.graph(cluster, "dynamo", NAME, "v1alpha1").progress


def test_crash_loop(kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster) -> None:
    with crd(api, "v1alpha1"), controller(kubeconfig):
        put(kubeconfig, annotations={"bed.wideep/crashes": "CUDA out of memory"})
        says(cluster, "CrashLoopBackOff", "exit code 1 (Error) CUDA out of memory", "event BackOff")


def test_no_gpus_are_free(kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster) -> None:
    with crd(api, "v1alpha1"), controller(kubeconfig):
        put(kubeconfig, tolerations=[])
        says(cluster, "unschedulable", "untolerated taint", "event FailedScheduling")


def test_operator_that_does_not_answer(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    with crd(api, "v1alpha1"):
        put(kubeconfig)
        says(cluster, "there are no pods", "operator's log")
        assert watch.graph(cluster, "dynamo", NAME, "v1alpha1").progress == (
            "the operator has not looked at it yet"
        )


def test_teardown_knows_what_is_its_own(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    core = client.CoreV1Api(api)
    with crd(api, "v1alpha1"), controller(kubeconfig):
        put(kubeconfig)
        wait("the graph is ready", lambda: ready(api, NAME))
        assert watch.graph(cluster, "dynamo", NAME, "v1alpha1").done
        owned = objects.owned(cluster, "dynamo", "v1alpha1", NAME)
        kinds = [item["kind"] for item in owned]
        assert kinds == ["DynamoGraphDeployment", "Job", "PersistentVolumeClaim"]
        kept = [item["kind"] for item in objects.removable(owned, keep_model=True)]
        assert kept == ["DynamoGraphDeployment", "Job"]
        # The fixture made the namespace, so it is not ours.
        assert not objects.namespace_removable(cluster, "dynamo", owned)
        core.patch_namespace("dynamo", objects.namespace("dynamo"))
        assert objects.namespace_removable(cluster, "dynamo", owned)
        core.create_namespaced_config_map("dynamo", {"metadata": {"name": "theirs"}})
        assert not objects.namespace_removable(cluster, "dynamo", owned)
        # With a second deployment in the namespace the volume stays.
        other = manifests("trtllm").graph
        apply(kubeconfig, *(objects.marked(item, "deepseek-r1-trtllm") for item in other))
        left = [item["kind"] for item in objects.owned(cluster, "dynamo", "v1alpha1", NAME)]
        assert left == ["DynamoGraphDeployment", "Job"]
        # What the last version had: a ConfigMap that this one has not.
        trtllm = objects.owned(cluster, "dynamo", "v1alpha1", "deepseek-r1-trtllm")
        stale = objects.stale(trtllm, [item for item in other if item["kind"] != "ConfigMap"])
        assert {item["kind"] for item in stale} == {"ConfigMap"}
        assert len(stale) == 2


def test_secrets_are_not_shown(api: client.ApiClient, namespace: str, cluster: Cluster) -> None:
    from wideep.secrets import Secrets

    own = {"namespace": "dynamo", "hf_token_secret": "hf-token-secret", "image_pull_secrets": ["pull"]}
    account = {"server": "registry.example.com", "username": "u", "password": "only-for-tests"}
    values = Secrets({"secrets_hub_token": "hf_only-for-tests", "secrets_registries": [account]})
    for item in objects.secrets(own, values, NAME):
        made = objects.marked(item, NAME)
        assert cluster.apply(objects.path_of(made), made)
        assert not cluster.apply(objects.path_of(made), made)
    found = client.CoreV1Api(api).read_namespaced_secret("pull", "dynamo")
    assert found.type == "kubernetes.io/dockerconfigjson"
    assert objects.foreign(cluster, objects.secrets(own, values, NAME)) == []
