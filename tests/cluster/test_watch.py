"""What a wait says while it waits, and of what is in the way; what teardown may remove."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import crds
import grove
import pytest
from conftest import controller, crd, make_manifests
from kubernetes import client
from test_cluster import apply, graph_status, manifests, pods, ready
from waiting import until

from wideep.cluster import downloads, leftover, objects, rollout, watch
from wideep.cluster.access import Cluster
from wideep.reference.release import find_release

RELEASE = find_release()

NAME = "deepseek-r1-wideep"
GRAPH = watch.Target("graph", "dynamo", NAME)
BASE = {"rdma_resource": "rdma/ib", "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}


@pytest.fixture(autouse=True)
def cluster(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", kubeconfig)
    return Cluster()


def put(kubeconfig: str, **own: Any) -> None:
    made = manifests("sglang", wideep_kubernetes={**BASE, **own})
    items = (objects.marked(item, NAME) for item in (*made.model, *made.graph))
    apply(kubeconfig, *(rollout.stamped(item) for item in items))


def says(cluster: Cluster, *words: str) -> None:
    """Wait until the report has these words, and assert that the graph is not called ready."""

    def told() -> bool:
        text = watch.trouble(cluster, GRAPH)
        return all(word in text for word in words)

    until(f"the report says {words}", told)
    assert not watch.graph(cluster, "dynamo", NAME, "v1beta1").done


def test_a_missing_right_ends_a_wait(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting does not bring it."""
    from example_playbook import run_action

    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", str(Path(kubeconfig).with_name("kubeconfig-guest")))
    own = {"target": "job", "name": "download", "namespace": "dynamo", "deadline_s": 3600}
    done = run_action("cluster_wait", own)
    assert done["failed"]
    assert 'User "guest" cannot get resource "jobs"' in done["msg"]
    assert "gave up" not in done["msg"]


def wait_for_graph() -> str:
    """Return how a wait for the graph ends that has an hour's time."""
    from example_playbook import run_action

    own = {"target": "graph", "name": NAME, "namespace": "dynamo", "deadline_s": 3600}
    done = run_action("cluster_wait", own)
    assert done["failed"]
    assert "gave up" not in done["msg"]
    return str(done["msg"])


def test_image_that_cannot_be_pulled(
    kubeconfig: str,
    api: client.ApiClient,
    namespace: str,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with crd(api, "v1beta1"), controller(kubeconfig):
        put(kubeconfig, frontend_image=f"registry.example.com/no-such-image:{RELEASE.dynamo}")
        event(api, "Pod", f"{NAME}-frontend-0", "Failed", "of a predecessor", uid="2")
        says(cluster, f"pod {NAME}-frontend-0 on cpu-0: ImagePullBackOff", "Failed to pull image: not found")
        assert "predecessor" not in watch.trouble(cluster, GRAPH)
        monkeypatch.setattr(watch, "PULL_S", 2)
        why = "no use: pod deepseek-r1-wideep-frontend-0 has been without its image for 0 minutes"
        assert f"{why} (ImagePullBackOff)" in wait_for_graph()
        assert "1 ImagePullBackOff" in watch.graph(cluster, "dynamo", NAME, "v1beta1").progress


def test_a_changed_image_that_cannot_be_pulled(
    kubeconfig: str,
    api: client.ApiClient,
    namespace: str,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For seconds the operator says of the pods before that all is ready."""
    with crd(api, "v1beta1"), controller(kubeconfig):
        put(kubeconfig)
        until("the graph is ready", lambda: watch.graph(cluster, "dynamo", NAME, "v1beta1").done)
        put(kubeconfig, image=f"registry.example.com/no-such-image:{RELEASE.dynamo}")
        until("the operator has seen it", lambda: graph_status(api, NAME)["observedGeneration"] == 2)
        assert ready(api, NAME)
        look = watch.graph(cluster, "dynamo", NAME, "v1beta1")
        assert not look.done
        lacks = ", ".join(
            f"{pool} has 0 of 4 pods (4 from before the change)" for pool in ("prefill", "decode")
        )
        assert look.progress == (
            f"ready: frontend 1/1, prefill 1/1, decode 1/1; pods: 9 ready; not yet: {lacks}"
        )
        monkeypatch.setattr(watch, "PULL_S", 2)
        said = wait_for_graph()
        assert re.search(rf"no use: pod {NAME}-\S+ has been without its image", said)
        assert "event Failed: Failed to pull image: not found" in said
        assert "8 ImagePullBackOff" in said


def test_a_change_is_waited_for(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    from example_playbook import run_action

    own = {"target": "graph", "name": NAME, "namespace": "dynamo", "deadline_s": 60}

    def uids() -> set[str]:
        return {pod.metadata.uid for pod in pods(api).values()}

    with crd(api, "v1beta1"), controller(kubeconfig):
        put(kubeconfig)
        began = time.monotonic()
        assert not run_action("cluster_wait", own).get("failed")
        assert time.monotonic() - began >= watch.STEADY_S
        first = uids()
        put(kubeconfig, image=f"registry.example.com/other:{RELEASE.dynamo}")
        done = run_action("cluster_wait", own)
        assert done["progress"] == "ready: frontend 1/1, prefill 1/1, decode 1/1; pods: 9 ready"
        images = {pod.spec.containers[0].image for name, pod in pods(api).items() if "frontend" not in name}
        assert images == {f"registry.example.com/other:{RELEASE.dynamo}"}
        assert len(uids() - first) == 8


def test_a_change_that_the_operator_cannot_make(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    """It reports on the version before, and its error is the only word on this one."""
    with crd(api, "v1beta1"), controller(kubeconfig):
        put(kubeconfig)
        until("the graph is ready", lambda: watch.graph(cluster, "dynamo", NAME, "v1beta1").done)
        why = {"test.wideep/fails": "spec.template.cliques is immutable"}
        client.CustomObjectsApi(api).patch_namespaced_custom_object(
            *("nvidia.com", "v1beta1", "dynamo", "dynamographdeployments", NAME),
            {"metadata": {"annotations": why}},
        )
        put(kubeconfig, frontend_replicas=2)
        error = (
            "the operator has not made the change (generation 2, it reports on 1):"
            " failed_to_reconcile_the_resources: spec.template.cliques is immutable"
        )
        says(cluster, error)
        assert watch.graph(cluster, "dynamo", NAME, "v1beta1").progress == f"{error}; pods: 9 ready"


def test_crash_loop(kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster) -> None:
    with crd(api, "v1beta1"), controller(kubeconfig):
        put(kubeconfig, annotations={"bed.wideep/crashes": "CUDA out of memory"})
        says(cluster, "CrashLoopBackOff", "exit code 1 (Error) CUDA out of memory", "event BackOff")
        said = wait_for_graph()
        assert re.search(rf"no use: pod {NAME}-\S+ has crashed \d+ times while all pods ran\nready: ", said)
        assert "CUDA out of memory" in said


def test_no_gpus_are_free(kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster) -> None:
    with crd(api, "v1beta1"), controller(kubeconfig):
        put(kubeconfig, tolerations=[])
        says(cluster, "unschedulable", "untolerated taint", "event FailedScheduling")


def test_operator_that_does_not_answer(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    with crd(api, "v1beta1"):
        put(kubeconfig)
        says(cluster, "there are no pods", "does not answer", "operator's log")
        assert watch.graph(cluster, "dynamo", NAME, "v1beta1").progress == (
            "the operator has not looked at it yet"
        )


def test_operator_that_does_not_see_a_change(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    """All was well, and its last word says so: of the version before."""
    with crd(api, "v1beta1"):
        with controller(kubeconfig):
            put(kubeconfig)
            until("the graph is ready", lambda: ready(api, NAME))
        put(kubeconfig, frontend_replicas=2)
        behind = "the operator has not seen the change (generation 2, it reports on 1)"
        look = watch.graph(cluster, "dynamo", NAME, "v1beta1")
        assert (look.done, look.progress) == (False, f"{behind}; pods: 9 ready")
        assert f"{behind}; look at the Dynamo operator's log" in watch.trouble(cluster, GRAPH)
        made = make_manifests.plan("kubernetes_sglang").publish()
        assert "NOT READY" in watch.status(cluster, made)["text"]
        assert "try next" not in watch.status(cluster, made)["text"]
        assert behind in watch.status(cluster, made)["text"]


def event(api: client.ApiClient, kind: str, name: str, reason: str, message: str, **more: Any) -> None:
    of = {"kind": kind, "name": name, "namespace": "dynamo", "uid": more.pop("uid", "1")}
    body = {"metadata": {"generateName": "test-"}, "involvedObject": of, "type": "Warning", **more}
    client.CoreV1Api(api).create_namespaced_event("dynamo", body | {"reason": reason, "message": message})


def test_the_operators_own_reason(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    """Without pods it is all there is: what the operator, Grove or a quota refuses has none."""
    message = "no multinode orchestrator available"
    status = {"conditions": [{"type": "Ready", "status": "False", "reason": "failed", "message": message}]}
    with crd(api, "v1beta1"):
        put(kubeconfig)
        client.CustomObjectsApi(api).patch_namespaced_custom_object_status(
            "nvidia.com", "v1beta1", "dynamo", "dynamographdeployments", NAME, {"status": status}
        )
        event(api, "DynamoGraphDeployment", NAME, "Refused", "it is not valid")
        event(api, "PodClique", f"{NAME}-0-prefill-0-prefill-ldr", "FailedCreate", "exceeded quota: gpus")
        event(api, "ReplicaSet", f"{NAME}-frontend-abc", "FailedCreate", "violates PodSecurity")
        event(api, "ReplicaSet", f"{NAME}s-are-others", "FailedCreate", "of somebody else")
        old = {"lastTimestamp": "2020-01-01T00:00:00Z"}
        event(api, "ReplicaSet", f"{NAME}-frontend-old", "FailedCreate", "of a predecessor", **old)
        says(cluster, f"the operator says: failed: {message}", "event of PodClique", "exceeded quota: gpus")
        text = watch.trouble(cluster, GRAPH)
        assert "event of DynamoGraphDeployment deepseek-r1-wideep: Refused: it is not valid" in text
        assert "violates PodSecurity" in text
        assert "somebody else" not in text
        assert "predecessor" not in text
        assert "does not answer" not in text
        assert message in watch.graph(cluster, "dynamo", NAME, "v1beta1").progress


def test_an_operator_that_is_being_replaced(api: client.ApiClient) -> None:
    def deployment(**status: Any) -> dict[str, Any]:
        available = {"type": "Available", "status": "True"}
        return {
            "metadata": {"generation": 2},
            "spec": {"replicas": 1},
            "status": {
                "observedGeneration": 2,
                "replicas": 1,
                "updatedReplicas": 1,
                "conditions": [available],
            }
            | status,
        }

    assert watch.rolled_out(deployment())
    # Available, by the pods of the version before.
    assert not watch.rolled_out(deployment(observedGeneration=1))
    assert not watch.rolled_out(deployment(updatedReplicas=0))
    assert not watch.rolled_out(deployment(replicas=2))
    assert not watch.rolled_out(deployment(conditions=[]))


def test_what_came_with_the_operator_is_waited_for(
    api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    """Without Grove's operator no graph is made: its trouble is told before that."""
    apps = client.AppsV1Api(api)
    target = watch.Target("operator", namespace, "dynamo-platform")

    def made(name: str, image: str, release: str) -> None:
        labels = {"app.kubernetes.io/name": name}
        containers = [{"name": "manager", "image": f"registry.example.com/{image}"}]
        spec = {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        }
        metadata = {"name": name, "labels": labels, "annotations": {"meta.helm.sh/release-name": release}}
        apps.create_namespaced_deployment(namespace, {"metadata": metadata, "spec": spec})

    with crd(api, "v1beta1"):
        made("dynamo-operator", "operator", "dynamo-platform")
        made("somebody-else", "no-such-image", "others")
        try:
            until("the operator is there", lambda: target.look(cluster).done)
            made("grove-operator", "no-such-image", "dynamo-platform")
            begin = "operator available, grove-operator not available, CRD there; pods: 1 ready, 1 ImagePull"
            until("its companion is looked at", lambda: begin in target.look(cluster).progress)
            assert not target.look(cluster).done
            said = watch.trouble(cluster, target)
            assert re.search(r"pod grove-operator-\S+ on \S+: ImagePullBackOff", said)
            assert "pod somebody-else" not in said
        finally:
            apps.delete_collection_namespaced_deployment(namespace, propagation_policy="Foreground")
            until("they are gone", lambda: not apps.list_namespaced_deployment(namespace).items)


def test_the_log_of_the_container_that_is_in_trouble(
    api: client.ApiClient, namespace: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sidecar beside it the server wants a name."""
    asked: list[Any] = []
    monkeypatch.setattr(Cluster, "text", lambda _, path, **query: asked.append(query["container"]) or "")
    images = {"proxy": "registry.example.com/proxy", "main": "registry.example.com/no-such-image"}
    spec = {
        "nodeName": "cpu-0",
        "containers": [{"name": name, "image": image} for name, image in images.items()],
    }
    labels = {watch.GRAPH_LABEL: NAME}
    core = client.CoreV1Api(api)
    core.create_namespaced_pod("dynamo", {"metadata": {"name": "one", "labels": labels}, "spec": spec})
    says_image = ("pod one on cpu-0: ImagePullBackOff",)

    def told() -> bool:
        return says_image[0] in watch.trouble(cluster, GRAPH)

    until("the image is refused", told)
    asked.clear()
    begins = {"name": "wait-for-leader", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    core.patch_namespaced_pod_status("one", "dynamo", {"status": {"initContainerStatuses": [begins]}})
    assert "pod one on cpu-0: CrashLoopBackOff" in watch.trouble(cluster, GRAPH)
    assert set(asked) == {"wait-for-leader"}


def test_teardown_knows_what_is_its_own(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    core = client.CoreV1Api(api)
    with crd(api, "v1beta1"), controller(kubeconfig):
        put(kubeconfig)
        until("the graph is ready", lambda: ready(api, NAME))
        assert watch.graph(cluster, "dynamo", NAME, "v1beta1").done
        owned = objects.owned(cluster, "dynamo", "v1beta1", NAME)
        kinds = [item["kind"] for item in owned]
        assert kinds == ["DynamoGraphDeployment", "Job", "PersistentVolumeClaim"]
        assert "mpi-run-ssh-secret" in {s.metadata.name for s in core.list_namespaced_secret("dynamo").items}
        kept = [item["kind"] for item in objects.removable(owned, keep_model=True)]
        assert kept == ["DynamoGraphDeployment", "Job"]
        # The fixture made the namespace, so it is not ours.
        kept = leftover.namespace_kept(cluster, "dynamo", leaving=owned)
        assert kept == "the namespace stays: wideep did not make the namespace dynamo"
        core.patch_namespace("dynamo", objects.namespace("dynamo"))
        # The operator's key has no owner; it is of no use without graphs.
        assert leftover.namespace_kept(cluster, "dynamo", leaving=owned) == ""
        rbac = client.RbacAuthorizationV1Api(api)
        rbac.create_namespaced_role("dynamo", {"metadata": {"name": "theirs"}, "rules": []})
        kept = leftover.namespace_kept(cluster, "dynamo", leaving=owned)
        assert kept == "the namespace stays: dynamo holds Role theirs"
        # What a release of Helm leaves is known by its label.
        labels = {"app.kubernetes.io/instance": "dynamo-platform"}
        data = {"metadata": {"name": "data-nats-0", "labels": labels}}
        data["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        core.create_namespaced_persistent_volume_claim("dynamo", data)
        assert "PersistentVolumeClaim data-nats-0" in leftover.left_in(cluster, "dynamo", leaving=owned)
        left = leftover.left_in(cluster, "dynamo", leaving=owned, release="dynamo-platform")
        assert left == ["Role theirs"]
        # So is Helm's own record, which a check still finds.
        helm = {"owner": "helm", "name": "dynamo-platform"}
        record = {"metadata": {"name": "sh.helm.release.v1.dynamo-platform.v1", "labels": helm}}
        core.create_namespaced_secret("dynamo", record)
        left = leftover.left_in(cluster, "dynamo", leaving=owned, release="dynamo-platform")
        assert left == ["Role theirs"]
        # By-products of a graph that is gone already, as after a teardown that ended half way.
        labels = {watch.GRAPH_LABEL: "gone"}
        core.create_namespaced_config_map("dynamo", {"metadata": {"name": "by-product", "labels": labels}})
        assert leftover.left_in(cluster, "dynamo", leaving=owned, release="dynamo-platform") == left
        left = leftover.left_in(cluster, "dynamo", release="dynamo-platform")
        assert f"DynamoGraphDeployment {NAME}" in left
        # The platform is ours where the namespace is, or where it is marked; and stays for graphs of others.
        mine = "dynamo", NAME
        assert leftover.platform_kept(cluster, "dynamo", "v1beta1", mine) == ""
        core.patch_namespace("dynamo", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}})
        kept = leftover.platform_kept(cluster, "dynamo", "v1beta1", mine)
        assert kept == "the platform stays: wideep did not install the platform in dynamo"
        core.create_namespaced_config_map("dynamo", objects.platform_mark("dynamo"))
        assert leftover.platform_kept(cluster, "dynamo", "v1beta1", mine) == ""
        kept = leftover.platform_kept(cluster, "dynamo", "v1beta1", ("dynamo", "chat"))
        assert kept == f"the platform stays: DynamoGraphDeployment {NAME} in dynamo needs it"
        kept = leftover.platform_kept(cluster, "none", "v1beta1", mine)
        assert kept == "there is no platform: there is no namespace none"
        assert leftover.namespace_kept(cluster, "none") == "there is no namespace none"
        # With a second deployment in the namespace the volume stays, and that it was filled.
        other = manifests("trtllm").graph
        # As k8s/README.md says, by hand: refused, never taken over, and it may read the volume.
        apply(kubeconfig, *other)
        assert len(objects.foreign(cluster, other)) == len(other)
        assert objects.owned(cluster, "dynamo", "v1beta1", "deepseek-r1-trtllm") == []
        left = [item["kind"] for item in objects.owned(cluster, "dynamo", "v1beta1", NAME)]
        assert left == ["DynamoGraphDeployment"]
        apply(kubeconfig, *(objects.marked(item, "deepseek-r1-trtllm") for item in other))
        left = [item["kind"] for item in objects.owned(cluster, "dynamo", "v1beta1", NAME)]
        assert left == ["DynamoGraphDeployment"]
        # What the last version had: a ConfigMap that this one has not.
        trtllm = objects.owned(cluster, "dynamo", "v1beta1", "deepseek-r1-trtllm")
        stale = objects.stale(trtllm, [item for item in other if item["kind"] != "ConfigMap"])
        assert {item["kind"] for item in stale} == {"ConfigMap"}
        assert len(stale) == 2


@contextmanager
def real_kinds(api: client.ApiClient, group: str, version: str, *bodies: dict[str, Any]) -> Iterator[None]:
    """Serve upstream's own CRDs."""
    extensions = client.ApiextensionsV1Api(api)
    names = {body["metadata"]["name"] for body in bodies}

    def served() -> set[str]:
        try:
            found = client.CustomObjectsApi(api).get_api_resources(group, version).resources
        except client.ApiException:
            return set()
        return {f"{resource.name}.{group}" for resource in found} & names

    for body in bodies:
        extensions.create_custom_resource_definition(body)
    until("the kinds are served", lambda: served() == names)
    try:
        yield
    finally:
        for name in names:
            extensions.delete_custom_resource_definition(name)
        until("the kinds are gone", lambda: not served())


@pytest.mark.parametrize("release", ["1.4", "1.5-dev"])
def test_what_is_read_of_a_graph_is_in_the_operators_own_kind(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster, release: str
) -> None:
    """A status that its CRD does not have is not kept by the API server."""
    body = crds.graphs(release, "v1beta1")
    with real_kinds(api, "nvidia.com", "v1beta1", body), controller(kubeconfig):
        put(kubeconfig)
        until("the graph is ready", lambda: watch.graph(cluster, "dynamo", NAME, "v1beta1").done)
        look = watch.graph(cluster, "dynamo", NAME, "v1beta1")
        assert look.progress == "ready: frontend 1/1, prefill 1/1, decode 1/1; pods: 9 ready"
        found = rollout.runtime_namespaces(watch.Target("graph", "dynamo", NAME).item(cluster))
        assert found["frontend"] == f"dynamo-{NAME}"
        assert found["prefill"] == found["decode"] != found["frontend"]


def test_groves_objects_go_with_their_graph(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    """They stand between graph and pods, of Grove's own CRDs; none keeps a namespace."""
    custom = client.CustomObjectsApi(api)

    def found(plural: str) -> dict[str, Any]:
        items = custom.list_namespaced_custom_object("grove.io", "v1alpha1", "dynamo", plural)["items"]
        return {item["metadata"]["name"]: item.get("status") for item in items}

    kinds = real_kinds(api, "grove.io", "v1alpha1", *crds.grove())
    with kinds, crd(api, "v1beta1"), controller(kubeconfig):
        put(kubeconfig)
        until("the graph is ready", lambda: watch.graph(cluster, "dynamo", NAME, "v1beta1").done)
        groups = until("they are counted", lambda: found("podcliquescalinggroups"))
        assert set(groups) == {f"{NAME}-0-prefill", f"{NAME}-0-decode"}
        until("they are ready", lambda: found("podcliquesets")[NAME]["availableReplicas"] == 1)
        assert all("readyReplicas" not in status for status in found("podcliquescalinggroups").values())
        assert len(found("podcliques")) == 5
        owned = objects.owned(cluster, "dynamo", "v1beta1", NAME)
        assert leftover.left_in(cluster, "dynamo", leaving=owned) == []
        custom.delete_namespaced_custom_object(
            "nvidia.com", "v1beta1", "dynamo", "dynamographdeployments", NAME
        )
        until("they are gone", lambda: not any(map(found, grove.PLURALS.values())))


def test_what_deployments_share(
    kubeconfig: str, api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    """One volume, one download: neither changes with another deployment's image or size."""
    core, batch = client.CoreV1Api(api), client.BatchV1Api(api)

    def model(engine: str = "sglang", **variables: Any) -> list[dict[str, Any]]:
        return [objects.marked(item, NAME) for item in manifests(engine, **variables).model]

    def cache(engine: str, **own: Any) -> dict[str, Any]:
        return {"wideep_kubernetes": {**BASE, "shared_memory": "800Gi", **own}}

    mine = model()
    apply(kubeconfig, *mine)
    other = cache(
        "trtllm",
        frontend_image=f"registry.example.com/frontend:{RELEASE.dynamo}-r2",
        model_cache={"size": "700Gi"},
    )
    theirs = model("trtllm", **other)
    assert downloads.needed(cluster, theirs) == downloads.obsolete(cluster, theirs) == []
    larger = model("trtllm", **cache("trtllm", model_cache={"size": "2Ti"}))
    (claim,) = downloads.needed(cluster, larger)
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Ti"
    # Another revision into the same directory, under workers that read it.
    revision = model(model_cache_revision="1" * 40)
    (problem,) = downloads.other_models(cluster, revision)
    assert "/model-cache/deepseek-r1 has deepseek-ai/DeepSeek-R1 at main" in problem.message
    assert "/model-cache/deepseek-r1-11111111" in problem.remedy
    elsewhere = model(model_cache_revision="1" * 40, wideep_model_path="/model-cache/deepseek-r1-11111111")
    assert downloads.other_models(cluster, elsewhere) == downloads.other_models(cluster, theirs) == []
    # A new volume is empty, whatever the Job says.
    name = mine[-1]["metadata"]["name"]
    until("it is downloaded", lambda: batch.read_namespaced_job(name, "dynamo").status.succeeded)
    job = cluster.get(objects.path_of(mine[-1]))
    assert job is not None
    later = {"metadata": {"creationTimestamp": "2999-01-01T00:00:00Z"}}
    assert downloads.is_obsolete(job, later)
    assert downloads.is_obsolete(job, None)
    assert not downloads.is_obsolete(job, cluster.get(objects.path_of(mine[0])))
    # One that failed is in nobody's way, and runs again.
    batch.delete_namespaced_job(name, "dynamo", propagation_policy="Foreground")
    until("the Job is gone", lambda: cluster.get(objects.path_of(mine[-1])) is None)
    failing = model(model_cache_endpoint="https://no-such-hub.example.com")
    apply(kubeconfig, failing[-1])
    target = watch.Target("job", "dynamo", name)
    until("it failed", lambda: target.look(cluster).failed)
    assert [item["metadata"]["name"] for item in downloads.obsolete(cluster, mine)] == [name]
    assert [item["kind"] for item in downloads.needed(cluster, mine)] == ["Job"]
    assert downloads.other_models(cluster, revision) == []
    assert [item["metadata"]["name"] for item in downloads.obsolete(cluster, revision)] == [name]
    said = watch.trouble(cluster, target)
    assert "failed" in said
    assert "download: ended 1 times, last with exit code 2 (Error) no such hub" in said
    assert core.list_namespaced_pod("dynamo").items, "its pods stay, for their logs"


def test_secrets_are_not_shown(api: client.ApiClient, namespace: str, cluster: Cluster) -> None:
    from wideep.inventory.kubernetes import KubernetesSettings
    from wideep.inventory.secrets import Secrets

    own = KubernetesSettings(image_pull_secrets=("pull",))
    account = {"server": "registry.example.com", "username": "u", "password": "only-for-tests"}
    values = Secrets({"secrets_hub_token": "hf_only-for-tests", "secrets_registries": [account]})
    for item in objects.secrets(own, values, NAME):
        made = objects.marked(item, NAME)
        assert cluster.apply(objects.path_of(made), made)
        assert not cluster.apply(objects.path_of(made), made)
    found = client.CoreV1Api(api).read_namespaced_secret("pull", "dynamo")
    assert found.type == "kubernetes.io/dockerconfigjson"
    assert objects.foreign(cluster, objects.secrets(own, values, NAME)) == []
