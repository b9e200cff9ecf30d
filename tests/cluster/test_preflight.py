"""Wrong inputs before a real API server: each is refused before the first change, with a remedy."""

from __future__ import annotations

import copy
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import DGD, HERE, REPOSITORY, crd, granted, kind, make_manifests
from example_playbook import run_action
from kubernetes import client
from waiting import until

from wideep.cluster import objects, server
from wideep.cluster.access import Cluster
from wideep.cluster.platform import Platform
from wideep.cluster.preflight import PLATFORM_RIGHTS, RIGHTS, judge
from wideep.inventory.secrets import Secrets
from wideep.kubernetes.manifests import to_yaml
from wideep.preflight.model import Check
from wideep.published import Published
from wideep.reference.release import find_release

RELEASE = find_release()

INVENTORY = REPOSITORY / "inventories" / "kubernetes_sglang"
CHART = str(HERE / "chart")
TOKEN = {"secrets_hub_token": "hf_only-for-tests"}
GPU = "nvidia.com/gpu"
THEIRS = Platform(install=False)
# Where `operator` has one.
OURS = Platform(chart_ref=CHART, namespace="default")


def plan(**own: Any) -> Published:
    """Return the plan of inventories/kubernetes_sglang with `wideep_kubernetes` and variables changed."""
    variables = {name: own.pop(name) for name in list(own) if name.startswith("wideep_")}
    shared = yaml.safe_load((INVENTORY / "group_vars" / "all.yml").read_text(encoding="utf-8"))
    cluster = {"wideep_kubernetes": {**shared["wideep_kubernetes"], **own}}
    made = make_manifests.plan(INVENTORY.name, **variables, **cluster).publish()
    assert isinstance(made, Published)
    return made


def failures(
    platform: Platform | None = None, secrets: dict[str, Any] | None = None, **own: Any
) -> list[Check]:
    """Return what preflight refuses."""
    values = Secrets(TOKEN if secrets is None else secrets)
    report = judge(plan(**own), platform or Platform(chart_ref=CHART), values)
    return [check for check in report.checks if check.status == "fail"]


def refused(**own: Any) -> str:
    """Return what the role says itself (`--tags platform` leaves preflight out)."""
    given = {"namespace": "dynamo-system", "release": "dynamo-platform", "chart_ref": CHART}
    done = run_action("cluster_platform", {"platform": {**given, **own}}, wideep_plan=plan().to_dict())
    assert done["failed"]
    assert done["wideep_refused"]
    return str(done["msg"])


def only(found: list[Check], topic: str, *words: str) -> None:
    """Assert one failure, of a topic, that says these words and what to do."""
    assert [check.topic for check in found] == [topic], found
    assert all(word in found[0].seen + found[0].expected + found[0].remedy for word in words), found
    assert found[0].remedy


@pytest.fixture(autouse=True)
def cluster(kubeconfig: str, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package talk to the bed."""
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", kubeconfig)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")


def test_what_is_right_is_accepted() -> None:
    assert failures() == []


# ---- this machine --------------------------------------------------------------------------------


def test_no_api_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", str(tmp_path / "none"))
    only(failures(), "api", f"no usable kubeconfig at {tmp_path / 'none'}: ", "kubectl version")
    done = run_action("cluster_status", {}, wideep_plan=plan().to_dict())
    assert "fix: correct ~/.kube/config" in done["msg"]


def test_no_helm() -> None:
    only(failures(Platform(chart_ref=CHART, helm="/nowhere/helm")), "helm", "cannot be run", "platform_helm")


def test_helm_4(tmp_path: Path) -> None:
    helm = tmp_path / "helm"
    helm.write_text("#!/bin/sh\necho v4.0.1\n", encoding="utf-8")
    helm.chmod(helm.stat().st_mode | stat.S_IXUSR)
    only(failures(Platform(chart_ref=CHART, helm=str(helm))), "helm", "v4.0.1", "does not work with Helm 4")


def test_chart_of_another_release(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "chart")
    file = tmp_path / "chart" / "Chart.yaml"
    file.write_text(
        file.read_text(encoding="utf-8").replace(f"version: {RELEASE.dynamo}", "version: 1.3.0", 1),
        encoding="utf-8",
    )
    found = failures(Platform(chart_ref=str(file.parent)))
    only(found, "chart", "is version 1.3.0", f"the release is Dynamo {RELEASE.dynamo}")
    assert f"is version 1.3.0, the release is Dynamo {RELEASE.dynamo}" in refused(chart_ref=str(file.parent))


def test_chart_of_another_version_than_asked_for() -> None:
    """Helm takes a path as it is."""
    own = Platform(chart_ref=CHART, chart_version="1.3.0")
    only(failures(own), "chart", f"is version {RELEASE.dynamo}, platform_chart_version is 1.3.0", "unset")
    assert "platform_chart_version is 1.3.0" in refused(chart_version="1.3.0")
    assert failures(Platform(chart_ref=CHART, chart_version=f"v{RELEASE.dynamo}")) == []


def test_values_that_the_chart_does_not_take(tmp_path: Path) -> None:
    """Its schema, and its templates."""
    found = failures(Platform(chart_ref=CHART, values={"dynamo-operator": {"natsAddr": 1}}))
    only(found, "release", "natsAddr", "platform_values")
    shutil.copytree(CHART, tmp_path / "chart")
    template = '{{ required "a value is missing" .Values.test.hook }}'
    (tmp_path / "chart" / "templates" / "more.tpl").write_text(template, encoding="utf-8")
    only(failures(Platform(chart_ref=str(tmp_path / "chart"))), "release", "a value is missing")


def test_chart_that_is_not_there() -> None:
    only(failures(Platform(chart_ref="/nowhere/chart.tgz")), "chart", "/nowhere/chart.tgz", "absolute path")


# ---- the cluster ---------------------------------------------------------------------------------


def test_user_without_rights(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", str(Path(kubeconfig).with_name("kubeconfig-guest")))
    mine, all_of_it, theirs = (check for check in failures() if check.topic == "rights")
    begins = "you may not in namespace dynamo: namespaces: get; dynamographdeployments.nvidia.com: get, list,"
    only([mine], "rights", begins, "configmaps: get, list, create, patch, delete;", "administrator")
    assert "more" not in mine.seen
    only(
        [all_of_it], "rights", "you may not in the whole cluster: dynamographdeployments", "platform_install"
    )
    only([theirs], "rights", "you may not in namespace dynamo-system: namespaces: get", "platform_install")


def test_a_missing_right_is_named(
    kubeconfig: str, api: client.ApiClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the roles do is asked for, also in the cluster and in the platform's namespace."""
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", str(Path(kubeconfig).with_name("kubeconfig-guest")))
    with granted(api, namespace, RIGHTS):
        assert "rights" not in {check.topic for check in failures(THEIRS)}
        found = [check.seen for check in failures() if check.topic == "rights"]
        assert "in the whole cluster: dynamographdeployments.nvidia.com: list" in found[0]
    for resource in ("namespaces", "jobs.batch", "events"):
        with granted(api, namespace, {n: v for n, v in RIGHTS.items() if n != resource}):
            (check,) = (check for check in failures(THEIRS) if check.topic == "rights")
            wanted = ", ".join(RIGHTS[resource])
            assert check.seen == f"you may not in namespace {namespace}: {resource}: {wanted}"
    assert "validatingwebhookconfigurations.admissionregistration.k8s.io" in PLATFORM_RIGHTS


def test_nobody_installs_the_platform() -> None:
    found = failures(THEIRS)
    assert [check.topic for check in found] == ["crd", "orchestrator"]


def test_lws_needs_volcano(api: client.ApiClient) -> None:
    """The chart brings neither, and the operator wants both."""
    lws = {"orchestrator": "lws"}
    only(failures(**lws), "orchestrator", "no LeaderWorkerSet and no Volcano", "restart the operator")
    with kind(api, "leaderworkersets", "LeaderWorkerSet", "leaderworkerset.x-k8s.io"):
        only(failures(**lws), "orchestrator", "there is no Volcano", "orchestrator: grove")
        with kind(api, "podgroups", "PodGroup", "scheduling.volcano.sh"):
            assert failures(**lws) == []


def test_a_queue_needs_kai_and_has_to_be_there(api: client.ApiClient) -> None:
    own = {"queue": "team"}
    only(failures(**own), "queue", "there is no queues.scheduling.run.ai", "install the KAI scheduler")
    assert (
        failures(Platform(chart_ref=CHART, values={"global": {"kai-scheduler": {"install": True}}}), **own)
        == []
    )
    with kind(api, "queues", "Queue", "scheduling.run.ai", version="v2", scope="Cluster"):
        only(failures(**own), "queue", "there is no queue team", "wideep_kubernetes.queue")
        custom = client.CustomObjectsApi(api)
        body = {"apiVersion": "scheduling.run.ai/v2", "kind": "Queue", "metadata": {"name": "team"}}
        custom.create_cluster_custom_object("scheduling.run.ai", "v2", "queues", body)
        assert failures(**own) == []


def test_planes_of_an_operator_of_others(api: client.ApiClient) -> None:
    """It hands on NATS and etcd; here it has no address."""
    own = {"wideep_event_plane": "nats"}
    labels = {"app.kubernetes.io/name": "dynamo-operator"}
    core = client.CoreV1Api(api)
    body = {"metadata": {"name": "config", "labels": labels}, "data": {"config.yaml": "infrastructure:\n"}}
    with crd(api, "v1beta1"), kind(api, "podcliquesets", "PodCliqueSet", "grove.io"), operator(api):
        report = judge(plan(**own), THEIRS, Secrets(TOKEN))
        assert any("nothing tells whether the operator knows nats" in c.seen for c in report.checks)
        core.create_namespaced_config_map("default", body)
        try:
            only(failures(THEIRS, **own), "planes", "has no address of nats", "dynamo-operator.natsAddr")
            body["data"] = {"config.yaml": "infrastructure:\n  natsAddress: nats://infra:4222\n"}
            core.replace_namespaced_config_map("config", "default", body)
            assert failures(THEIRS, **own) == []
        finally:
            core.delete_namespaced_config_map("config", "default")


def test_an_address_that_nothing_uses() -> None:
    """Said before the role does."""
    found = failures(Platform(chart_ref=CHART, nats_address="nats://infra:4222"))
    only(found, "planes", "platform_nats_address", "wideep_event_plane")
    assert "platform_nats_address" in refused(nats_address="nats://infra:4222")


def test_crd_of_another_version(api: client.ApiClient) -> None:
    with crd(api, "v1alpha1"):
        only(failures(), "crd", "serves v1alpha1", "wideep_graph_api: v1alpha1")


@contextmanager
def running(kubeconfig: str, made: Published, **metadata: Any) -> Iterator[None]:
    """Have the graph of a plan in the cluster, as a run applied it."""
    graph = objects.marked(made.objects.graph[-1], made.deployment)
    graph["metadata"] |= metadata
    kubectl = ["kubectl", f"--kubeconfig={kubeconfig}"]
    words = ["apply", "--server-side", "--field-manager=wideep", "--filename=-"]
    subprocess.run([*kubectl, *words], input=to_yaml([graph]), text=True, check=True, capture_output=True)
    try:
        yield
    finally:
        words = ["delete", DGD, made.deployment, f"--namespace={made.namespace}"]
        subprocess.run([*kubectl, *words], check=True, capture_output=True)


def refused_graph(made: Published) -> str:
    """Return what the role says of a graph (`--tags graph` leaves preflight out)."""
    done = run_action("cluster_objects", {}, wideep_plan=made.to_dict())
    assert done["failed"]
    assert done["wideep_refused"]
    return str(done["msg"])


def test_a_running_graph_keeps_its_api(kubeconfig: str, api: client.ApiClient, namespace: str) -> None:
    before = plan(wideep_graph_api="v1alpha1")
    with crd(api, "v1alpha1", "v1beta1"), running(kubeconfig, before), operator(api):
        words = "made in nvidia.com/v1alpha1", "run teardown", "wideep_graph_api: v1alpha1"
        only(failures(OURS), "manifests", *words)
        assert words[0] in refused_graph(plan())
        assert failures(OURS, wideep_graph_api="v1alpha1") == []


def test_a_running_graph_keeps_its_orchestrator(
    kubeconfig: str, api: client.ApiClient, namespace: str
) -> None:
    """Also one that does not name it: what it was made by is in its status."""
    made = plan()
    place = ("nvidia.com", "v1beta1", namespace, "dynamographdeployments", made.deployment)
    lws = kind(api, "leaderworkersets", "LeaderWorkerSet", "leaderworkerset.x-k8s.io")
    volcano = kind(api, "podgroups", "PodGroup", "scheduling.volcano.sh")
    with crd(api, "v1beta1"), lws, volcano, operator(api):
        with running(kubeconfig, made):
            assert failures(OURS) == []
            found = failures(OURS, orchestrator="lws")
            only(found, "manifests", "made by Grove; made without Grove", "teardown")
        with running(kubeconfig, made, annotations={}):
            assert failures(OURS) == [], "nothing is made yet"
            report = {"prefill": {"componentKind": "LeaderWorkerSet", "replicas": 1}}
            body = {"status": {"components": report}}
            client.CustomObjectsApi(api).patch_namespaced_custom_object_status(*place, body)
            only(failures(OURS), "manifests", "made by LeaderWorkerSets; made by Grove", "teardown")
            assert failures(OURS, orchestrator="lws") == []
            assert "made by LeaderWorkerSets" in refused_graph(made)


NOBODY = "https://127.0.0.1:1/"


@contextmanager
def webhook(api: client.ApiClient) -> Iterator[None]:
    """Have a webhook for graphs behind which nobody is."""
    rule = {"apiGroups": ["nvidia.com"], "apiVersions": ["*"], "operations": ["*"]}
    rule["resources"] = ["dynamographdeployments"]
    hook = {"name": "graphs.example.com", "rules": [rule], "sideEffects": "None", "failurePolicy": "Fail"}
    hook |= {"admissionReviewVersions": ["v1"], "clientConfig": {"url": NOBODY}}
    hooks = client.AdmissionregistrationV1Api(api)
    hooks.create_validating_webhook_configuration({"metadata": {"name": "theirs"}, "webhooks": [hook]})
    try:
        yield
    finally:
        hooks.delete_validating_webhook_configuration("theirs")


def test_webhooks_that_an_operator_left_behind(api: client.ApiClient, namespace: str) -> None:
    """Without an operator no graph is judged; one that does not answer is looked after by the run."""
    words = "failed calling webhook", "the operator's webhook does not answer: look at its pods"
    with crd(api, "v1beta1"), webhook(api):
        assert failures() == []
        with operator(api), kind(api, "podcliquesets", "PodCliqueSet", "grove.io"):
            report = judge(plan(), OURS, Secrets(TOKEN))
            checks = [check for check in report.checks if check.topic == "manifests"]
            assert [check.status for check in checks] == ["warn"]
            only(checks, "manifests", *words)
            only(failures(THEIRS), "manifests", *words)


def test_graphs_that_an_operator_left_behind(kubeconfig: str, api: client.ApiClient, namespace: str) -> None:
    """Nobody converts them to the version that is asked for."""
    extensions = client.ApiextensionsV1Api(api)
    hook = {"clientConfig": {"url": NOBODY}, "conversionReviewVersions": ["v1"]}
    with crd(api, "v1alpha1", "v1beta1"), running(kubeconfig, plan(wideep_graph_api="v1alpha1")):
        for conversion in ({"strategy": "Webhook", "webhook": hook}, {"strategy": "None", "webhook": None}):
            extensions.patch_custom_resource_definition(DGD, {"spec": {"conversion": conversion}})
            if conversion["webhook"]:
                until("nobody converts", lambda: not listed(api))
                assert failures() == []
        until("they are as they were", lambda: listed(api))


def listed(api: client.ApiClient) -> bool:
    """Whether the server lists graphs in v1beta1."""
    try:
        client.CustomObjectsApi(api).list_cluster_custom_object(
            "nvidia.com", "v1beta1", "dynamographdeployments"
        )
    except client.ApiException:
        return False
    return True


def test_what_may_not_be_changed_is_told_with_what_helps(
    kubeconfig: str, api: client.ApiClient, namespace: str
) -> None:
    made = plan()
    with crd(api, "v1beta1"), running(kubeconfig, made):
        graph = copy.deepcopy(made.objects.graph[-1])
        graph["spec"]["components"][1]["type"] = "worker"
        (problem,) = server.dry_run(api, [graph])
    assert "immutable" in problem.message
    assert problem.remedy.startswith("run teardown first")
    assert problem.remedy.endswith("or give the new one another wideep_deployment")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec}
    claim["metadata"] = {"name": "other", "namespace": namespace}
    client.CoreV1Api(api).create_namespaced_persistent_volume_claim(namespace, claim)
    claim["spec"] = {**spec, "accessModes": ["ReadWriteMany"]}
    (problem,) = server.dry_run(api, [claim])
    assert problem.remedy == "name another claim in wideep_kubernetes.model_cache.claim"


def test_a_graph_applied_by_hand_is_adopted(kubeconfig: str, api: client.ApiClient, namespace: str) -> None:
    """With what only kubectl wrote: a variable of the frontend's, which the next run takes away."""
    made = plan()
    by_hand = [copy.deepcopy(item) for item in made.objects.graph]
    main = by_hand[-1]["spec"]["components"][0]["podTemplate"]["spec"]["containers"][0]
    main["env"] = [*main.get("env", []), {"name": "BY_HAND", "value": "1"}]
    by_hand[-1]["spec"]["components"][1]["replicas"] = 3
    kubectl = ["kubectl", f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]
    place = ("nvidia.com", "v1beta1", namespace, "dynamographdeployments", made.deployment)

    def there() -> dict[str, Any]:
        return dict(client.CustomObjectsApi(api).get_namespaced_custom_object(*place))

    def adopted(*, check: bool = False) -> dict[str, Any]:
        return run_action("cluster_adopt", {}, check=check, wideep_plan=made.to_dict())

    graph = f"DynamoGraphDeployment {made.deployment}"
    with crd(api, "v1beta1"):
        words = [*kubectl, "apply", "--filename=-"]
        subprocess.run(words, input=to_yaml(by_hand), text=True, check=True, capture_output=True)
        try:
            assert "wideep did not make it" in refused_graph(made)
            before = there()["metadata"]["resourceVersion"]
            shown = adopted(check=True)
            assert graph in shown["names"]
            assert there()["metadata"]["resourceVersion"] == before
            done = adopted()
            assert done["names"] == shown["names"]
            assert "BY_HAND" in done["text"]
            assert re.search(r"-    replicas: 3\n +\+    replicas: 1", done["text"])
            assert there()["spec"] == by_hand[-1]["spec"], "adopting changes no pod"
            assert adopted()["changed"] is False
            assert not run_action("cluster_objects", {}, wideep_plan=made.to_dict()).get("failed")
            # What the next run does.
            item = objects.marked(made.objects.graph[-1], made.deployment)
            assert Cluster().apply(objects.path_of(item), item)
            assert there()["spec"] == made.objects.graph[-1]["spec"]
        finally:
            words = [*kubectl, "delete", "--filename=-"]
            subprocess.run(words, input=to_yaml(by_hand), text=True, check=True, capture_output=True)


@contextmanager
def operator(api: client.ApiClient) -> Iterator[None]:
    """The outside of an operator in namespace default."""
    labels = {"app.kubernetes.io/name": "dynamo-operator"}
    container = {"name": "manager", "image": "registry.example.com/operator"}
    body = {
        "metadata": {"name": "theirs", "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    apps = client.AppsV1Api(api)
    apps.create_namespaced_deployment("default", body)
    try:
        yield
    finally:
        apps.delete_namespaced_deployment("theirs", "default")


def test_operator_in_another_namespace(api: client.ApiClient) -> None:
    with operator(api):
        only(failures(), "operator", "there is one in default", "platform_install: false")


def test_release_that_is_pending(api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    labels = {"owner": "helm", "name": "dynamo-platform", "status": "pending-upgrade", "version": "3"}
    core.create_namespaced_secret("default", {"metadata": {"name": "release-3", "labels": labels}})
    try:
        found = failures(Platform(chart_ref=CHART, namespace="default"))
        only(found, "release", "pending-upgrade", "helm -n default rollback dynamo-platform 2")
        assert "helm -n default rollback dynamo-platform 2" in refused(namespace="default")
    finally:
        core.delete_namespaced_secret("release-3", "default")


# ---- nodes ---------------------------------------------------------------------------------------


@pytest.fixture
def allocatable(api: client.ApiClient) -> Iterator[Callable[[str, str], None]]:
    """Change what all GPU nodes offer; put it back afterwards."""
    core = client.CoreV1Api(api)
    names = [f"gpu-{number}" for number in range(8)]

    def change(resource: str, amount: str) -> None:
        for name in names:
            body = {"status": {"allocatable": {resource: amount}, "capacity": {resource: amount}}}
            core.patch_node_status(name, body)

    with ExitStack() as stack:
        stack.callback(change, GPU, "8")
        stack.callback(change, "rdma/ib", "8")
        yield change


def test_no_gpu_nodes(allocatable: Callable[[str, str], None]) -> None:
    allocatable(GPU, "0")
    only(failures(), "nodes", "no node has nvidia.com/gpu", "GPU operator")


def test_nodes_too_small(allocatable: Callable[[str, str], None]) -> None:
    allocatable(GPU, "4")
    only(failures(), "nodes", "0 of 8 GPU nodes take a worker", "has 4 of nvidia.com/gpu, 8 are needed")


def test_no_rdma_on_the_nodes(allocatable: Callable[[str, str], None]) -> None:
    allocatable("rdma/ib", "0")
    only(failures(), "nodes", "has 0 of rdma/ib, 8 are needed")


def test_too_few_nodes() -> None:
    pools = {
        "prefill": {"replicas": 1, "nodes_per_replica": 4, "options": {"data_parallel_size": 32}},
        "decode": {"replicas": 2, "nodes_per_replica": 4, "options": {"data_parallel_size": 32}},
    }
    only(failures(wideep_pools=pools), "nodes", "8 of 8 GPU nodes take a worker", "12 for 12 worker pods")


def test_taint_that_is_not_tolerated() -> None:
    only(failures(tolerations=[]), "nodes", "taint nvidia.com/gpu is not tolerated")


def test_nothing_takes_the_frontend(api: client.ApiClient) -> None:
    """All nodes have the taint, and it may not be on them."""
    core = client.CoreV1Api(api)
    core.patch_node("cpu-0", {"spec": {"unschedulable": True}})
    try:
        assert failures() == []
        found = failures(cpu_pods={"tolerations": []}, **cache(download=False))
        only(found, "nodes", "no node takes a frontend", "taint nvidia.com/gpu", "wideep_kubernetes.cpu_pods")
    finally:
        core.patch_node("cpu-0", {"spec": {"unschedulable": None}})


def test_shared_memory_that_no_node_has() -> None:
    only(failures(shared_memory="3Ti"), "nodes", "has 2Ti of memory, 3Ti are needed")


def test_another_gpu_than_planned() -> None:
    only(failures(wideep_gpu="h200-141gb"), "nodes", "has NVIDIA-H100-80GB-HBM3, the plan is for NVIDIA H200")


def test_pods_of_others(api: client.ApiClient) -> None:
    """Their quantities are of all forms; a worker that bears no other beside it keeps its node."""
    labels = {"wideep.dynamo/role": "worker", "wideep.dynamo/deployment": "chat"}
    container = {"name": "a", "image": "registry.example.com/a"}
    container["resources"] = {"requests": {"memory": "129e6", "cpu": "500u"}}
    term = {"topologyKey": "kubernetes.io/hostname", "namespaceSelector": {}}
    term["labelSelector"] = {"matchLabels": {"wideep.dynamo/role": "worker"}}
    spec = {"nodeName": "gpu-0", "containers": [container], "tolerations": [{"operator": "Exists"}]}
    spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    core = client.CoreV1Api(api)
    core.create_namespaced_pod("default", {"metadata": {"name": "theirs", "labels": labels}, "spec": spec})
    try:
        only(failures(), "nodes", "7 of 8 GPU nodes take a worker", "a worker of chat in default is on it")
    finally:
        core.delete_namespaced_pod("theirs", "default", grace_period_seconds=0)


def test_label_that_no_node_has() -> None:
    only(failures(node_selector={"pool": "h100"}), "nodes", "node_selector pool")


# ---- storage and secrets -------------------------------------------------------------------------


def cache(**own: Any) -> dict[str, Any]:
    return {"model_cache": {"size": "1Ti", **own}}


def test_storage_class_that_is_not_there() -> None:
    only(failures(**cache(storage_class="fast")), "storage", "no storage class fast", "kwok-volume")


def test_a_claim_keeps_its_class(api: client.ApiClient, namespace: str) -> None:
    labels = {"app.kubernetes.io/managed-by": "wideep"}
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Ti"}}}
    spec["storageClassName"] = "kwok-volume"
    body = {"metadata": {"name": "model-cache", "labels": labels}, "spec": spec}
    client.CoreV1Api(api).create_namespaced_persistent_volume_claim(namespace, body)

    def warned(storage_class: str) -> list[str]:
        made = plan(**cache(storage_class=storage_class))
        report = judge(made, Platform(chart_ref=CHART), Secrets(TOKEN))
        return [c.seen for c in report.checks if c.topic == "storage" and c.status == "warn"]

    assert warned("lustre-fast") == ["claim model-cache keeps its class kwok-volume"]
    assert warned("") == warned("kwok-volume") == []


def test_storage_class_of_one_node(api: client.ApiClient) -> None:
    storage = client.StorageV1Api(api)
    storage.create_storage_class({"metadata": {"name": "disk"}, "provisioner": "ebs.csi.aws.com"})
    try:
        only(failures(**cache(storage_class="disk")), "storage", "volumes of one node", "ReadWriteMany")
    finally:
        storage.delete_storage_class("disk")


def test_claim_that_is_not_there() -> None:
    only(failures(**cache(create=False)), "storage", "there is no claim model-cache")


def test_secret_that_is_not_there() -> None:
    only(failures(secrets={}), "secrets", "hf-token-secret", "secrets_hub_token")


def test_pull_secret_that_is_not_there() -> None:
    only(failures(image_pull_secrets=["registry"]), "secrets", "registry", "secrets_registries")


def test_token_of_an_environment_that_has_none() -> None:
    found = failures(secrets={"secrets_hub_token": {"env": "NO_SUCH_TOKEN"}})
    assert "NO_SUCH_TOKEN is empty or unset" in found[0].seen


def test_priority_class_that_is_not_there() -> None:
    only(failures(priority_class="urgent"), "priority", "no priority class urgent")


def test_kinds_that_the_cluster_lacks() -> None:
    way = {"kind": "gateway", "host": "*", "gateway": "edge/public"}
    found = failures(compute_domain="r1", pod_monitors=True, expose=way)
    assert {check.topic for check in found} == {"kinds"}
    lacking = " ".join(check.seen + check.remedy for check in found)
    for words in (
        "ComputeDomain",
        "DRA driver",
        "HTTPRoute",
        "Gateway API",
        "PodMonitor",
        "Prometheus operator",
    ):
        assert words in lacking


def test_what_stands_beside_a_graph_is_asked_rights_for_and_taken_by_the_server(
    kubeconfig: str, api: client.ApiClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {
        "network_policy": {"enabled": True, "clients": ["apps"], "monitoring": ["monitoring"]},
        "disruption_budgets": True,
        "expose": {"kind": "ingress", "host": "llm.example.com", "tls_secret": "llm-tls"},
    }
    assert failures(**asked) == []
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", str(Path(kubeconfig).with_name("kubeconfig-guest")))
    with granted(api, namespace, RIGHTS):
        (check,) = (check for check in failures(THEIRS, **asked) if check.topic == "rights")
    assert "poddisruptionbudgets.policy: get, list, create, patch, delete" in check.seen
    assert "ingresses.networking.k8s.io" in check.seen


def test_pod_security(api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    core.create_namespace({"metadata": {"name": "guarded", "labels": labels}})
    try:
        found = failures(namespace="guarded")
        only(found[:1], "namespace", "Pod Security is baseline", "capabilities")
        assert failures(namespace="guarded", capabilities=[]) == []
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        core.patch_namespace("guarded", {"metadata": {"labels": labels}})
        found = failures(namespace="guarded", capabilities=[])
        only(found[:1], "namespace", "Pod Security is restricted", "enforce=baseline")
    finally:
        core.delete_namespace("guarded")
        until("it is gone", lambda: "guarded" not in {n.metadata.name for n in core.list_namespace().items})


def test_claim_of_others(api: client.ApiClient, namespace: str) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    body = {"metadata": {"name": "model-cache"}, "spec": spec}
    client.CoreV1Api(api).create_namespaced_persistent_volume_claim(namespace, body)
    found = {check.topic: check for check in failures()}
    assert "ReadWriteOnce" in found["storage"].seen
    assert "wideep did not make it" in found["manifests"].seen
