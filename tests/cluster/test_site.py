"""The verbs on a real API server: converge, change, rotate, fail at a deadline, remove.

The suite molecule-kubernetes does the first of it with SGLang; here it is TensorRT-LLM on four of the nodes.
The platform's namespace is of others. The graph is deployed by a user who has the rights that preflight asks
for, and no others.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import BED, DGD, HERE, REPOSITORY, controller, granted, make_manifests
from kubernetes import client
from waiting import until

from wideep import runner
from wideep.cluster import objects
from wideep.cluster.objects import GENERATION
from wideep.cluster.platform import Platform
from wideep.cluster.preflight import RIGHTS, judge
from wideep.inventory.secrets import Secrets
from wideep.reference.release import find_release

RELEASE = find_release()

INVENTORY = REPOSITORY / "inventories" / "kubernetes_trtllm"
NAME, NAMESPACE = "deepseek-r1-trtllm", "dynamo"
OWN = yaml.safe_load((INVENTORY / "group_vars" / "all.yml").read_text(encoding="utf-8"))
FRONTEND = {f"{NAME}-frontend-0"}
PREFILL, DECODE = ({f"{NAME}-{pool}-0-{rank}" for rank in ("ldr", "wkr-1")} for pool in ("prefill", "decode"))
VARIABLES = {
    "platform_chart_ref": str(HERE / "chart"),
    "platform_deadline_s": 60,
    "graph_deadline_s": 120,
    "graph_model_deadline_s": 60,
    "verify_deadline_s": 60,
    "verify_words": False,
    "secrets_hub_token": "hf_only-for-tests",
    "secrets_env": {"LICENSE_TOKEN": "first-only-for-tests"},
    "platform_values": {"test": {"silent": False, "hook": ""}},
}
# Answers no download.
NO_HUB = {"model_cache_endpoint": "https://no-such-hub.example.com"}


class Site:
    """A deployment by the playbooks, and what the API server has of it."""

    def __init__(self, api: client.ApiClient, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        self.core = client.CoreV1Api(api)
        self.api = api
        self.custom = client.CustomObjectsApi(api)
        self.batch = client.BatchV1Api(api)
        self.variables = dict(VARIABLES)

    def run(self, verb: str, own: dict[str, Any] | None = None, **options: Any) -> runner.Result:
        # The graph's part needs no more than what preflight asks for.
        modest = verb == "status" or options.get("tags") == "graph"
        user = "kubeconfig-guest" if modest else "kubeconfig"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("K8S_AUTH_KUBECONFIG", str(Path(self.kubeconfig).with_name(user)))
            return runner.run(verb, INVENTORY, extra_vars=[self.variables, own or {}], **options)

    def well(self, verb: str, own: dict[str, Any] | None = None, **options: Any) -> runner.Result:
        result = self.run(verb, own, **options)
        result.raise_for_status()
        return result

    def changed(self, **options: Any) -> list[str]:
        """Apply the variables; return what the run says that it changed, or would change."""
        result = self.well("site", tags="graph", **options)
        results = [e["event_data"]["res"] | {"task": e["event_data"]["task"]} for e in oks(result)]
        names = [n for res in results if res.get("changed") for n in res.get("names", [res["task"]])]
        assert len(names) >= result.stats["localhost"].changed
        return sorted(names)

    def graph(self) -> dict[str, Any]:
        found = self.custom.get_namespaced_custom_object(
            "nvidia.com", "v1beta1", NAMESPACE, "dynamographdeployments", NAME
        )
        return dict(found)

    def objects(self) -> dict[str, str]:
        """Return what the deployment has but for its pods -> version."""
        found = {f"DynamoGraphDeployment {NAME}": str(self.graph()["metadata"]["generation"])}
        for kind, listed in (
            ("ConfigMap", self.core.list_namespaced_config_map),
            ("Secret", self.core.list_namespaced_secret),
            ("PersistentVolumeClaim", self.core.list_namespaced_persistent_volume_claim),
            ("Job", self.batch.list_namespaced_job),
        ):
            for item in listed(NAMESPACE, label_selector="app.kubernetes.io/managed-by=wideep").items:
                found[f"{kind} {item.metadata.name}"] = item.metadata.resource_version
        return found

    def pods(self) -> dict[str, Any]:
        label = f"nvidia.com/dynamo-graph-deployment-name={NAME}"
        return {
            p.metadata.name: p for p in self.core.list_namespaced_pod(NAMESPACE, label_selector=label).items
        }

    def uids(self) -> dict[str, str]:
        return {name: pod.metadata.uid for name, pod in self.pods().items()}

    def download(self) -> Any:
        (job,) = self.batch.list_namespaced_job(NAMESPACE).items
        return job

    def release(self) -> dict[str, Any]:
        """Return the values that the platform's release has."""
        words = ["helm", "get", "values", "dynamo-platform", "--namespace=dynamo-system", "--output=json"]
        done = subprocess.run([*words, f"--kubeconfig={self.kubeconfig}"], check=True, capture_output=True)
        return dict(json.loads(done.stdout))


def oks(result: runner.Result) -> list[Any]:
    return [event for event in result.events if event["event"] == "runner_on_ok"]


def shown(result: runner.Result) -> str:
    """Return what a person saw."""
    return "".join(event.get("stdout", "") for event in result.events)


def failed(result: runner.Result) -> str:
    """Return the message with which a run ended."""
    assert result.status == "failed"
    return str(result.failures[-1].message)


def gave_up(result: runner.Result) -> str:
    """Return the message of a wait that ended at its deadline."""
    message = failed(result)
    assert "gave up after" in message
    return message


@pytest.fixture(scope="module")
def bed(kubeconfig: str, programs: Path) -> Iterator[str]:
    """Let playbooks of this module talk to the bed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K8S_AUTH_KUBECONFIG", kubeconfig)
        patch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        yield kubeconfig


@pytest.fixture(scope="module")
def serve(dynamo_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options with which the test controller runs real processes."""
    model = REPOSITORY / "configs" / "models" / "rehearsal"
    etcd = f"http://127.0.0.1:{23790 + int(BED[-1])}"
    logs = str(tmp_path_factory.mktemp("serve"))
    return ("--serve", logs, "--python", str(dynamo_bin / "python"), "--model", str(model), "--etcd", etcd)


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    """What was said, and was there, on the way to the deployment: by the step."""
    return {}


@pytest.fixture(scope="module")
def machines(api: client.ApiClient) -> Iterator[None]:
    """Let the bed's nodes have the GPUs that the inventory names."""
    core = client.CoreV1Api(api)

    def label(product: str) -> None:
        for number in range(8):
            labels = {"nvidia.com/gpu.product": product}
            core.patch_node(f"gpu-{number}", {"metadata": {"labels": labels}})

    label("NVIDIA-H200")
    yield
    label("NVIDIA-H100-80GB-HBM3")


@pytest.fixture(scope="module")
def site(
    bed: str, api: client.ApiClient, machines: None, serve: tuple[str, ...], said: dict[str, Any]
) -> Iterator[Site]:
    """Deploy once. At the end nothing may be left but what others made, and CRDs."""
    made = Site(api, bed)
    extensions = client.ApiextensionsV1Api(api)

    def crds() -> set[str]:
        found = extensions.list_custom_resource_definition().items
        return {item.metadata.name for item in found if not item.metadata.name.endswith("kwok.x-k8s.io")}

    def namespaces() -> set[str]:
        return {item.metadata.name for item in made.core.list_namespace().items} & {
            NAMESPACE,
            "dynamo-system",
        }

    try:
        said["check"] = made.well("site", check=True, diff=True)
        said["after check"] = namespaces() | crds()
        made.core.create_namespace({"metadata": {"name": "dynamo-system"}})
        hook = {"test": {"hook": f"registry.example.com/no-such-image:{RELEASE.dynamo}"}}
        said["hook"] = failed(
            made.run("site", {"platform_values": hook, "platform_deadline_s": 10}, tags="platform")
        )
        silent = {"test": {"silent": True, "hook": ""}}
        said["platform"] = gave_up(
            made.run("site", {"platform_values": silent, "platform_deadline_s": 10}, tags="platform")
        )
        made.core.create_namespace(objects.namespace(NAMESPACE))
        with ExitStack() as rights:
            rights.enter_context(granted(api, NAMESPACE, RIGHTS))
            said["download"] = failed(made.run("site", NO_HUB, tags="graph"))
            graphs = made.custom.list_cluster_custom_object("nvidia.com", "v1beta1", DGD.partition(".")[0])
            said["graphs"] = graphs["items"]
            # The same Job, once the hub is there. Nobody looks at the graph yet.
            said["graph"] = gave_up(made.run("site", {"graph_deadline_s": 1}, tags="graph"))
            with controller(bed, *serve):
                result = made.well("site")
                assert result.data["wideep_data"]["verified"]["completion_tokens"] == 16
                yield made
                rights.close()
                made.core.create_namespaced_config_map("dynamo-system", {"metadata": {"name": "theirs"}})
                gone = made.well("teardown", {"wideep_confirm": True, "wideep_keep_state": False})
        assert "the namespace stays: wideep did not make the namespace dynamo-system" in shown(gone)
        assert namespaces() == {"dynamo-system"}, shown(gone)
        left = {item.metadata.name for item in made.core.list_namespaced_config_map("dynamo-system").items}
        assert left == {"kube-root-ca.crt", "theirs"}
        assert {s.metadata.name for s in made.core.list_namespaced_secret("dynamo-system").items} == {
            "mpi-run-ssh-secret"
        }
        assert DGD in crds(), "teardown keeps CRDs"
    finally:
        for name in crds():
            extensions.delete_custom_resource_definition(name)
        for name in namespaces():
            made.core.delete_namespace(name)
        until("CRDs and namespaces are gone", lambda: not crds() | namespaces())


def test_a_check_shows_all_that_would_be_made(site: Site, said: dict[str, Any]) -> None:
    assert said["after check"] == set(), "a check makes nothing"
    results = [event["event_data"]["res"] for event in oks(said["check"])]
    names = {name for res in results for name in res.get("names", ())}
    job = site.download().metadata.name
    assert {f"Job {job}", "PersistentVolumeClaim model-cache", f"DynamoGraphDeployment {NAME}"} <= names
    assert {f"ConfigMap {NAME}-prefill", f"ConfigMap {NAME}-decode", "hf-token-secret"} <= names
    text = shown(said["check"])
    assert "+kind: DynamoGraphDeployment" in text
    assert "+  name: model-cache" in text


def test_a_hook_of_the_chart_that_does_not_end(site: Site, said: dict[str, Any]) -> None:
    """Helm waits for it, and says no more than that it did."""
    assert "timed out" in said["hook"]
    assert "ImagePullBackOff" in said["hook"]
    assert "crd-apply" in said["hook"]


def test_operator_that_never_answers(site: Site, said: dict[str, Any]) -> None:
    assert "operator not available" in said["platform"]
    assert "pod dynamo-platform-dynamo-operator" in said["platform"]
    assert "the operator has not looked at it yet" in said["graph"]
    assert "kubectl -n dynamo-system logs" in said["graph"]


def test_workers_start_when_the_model_is_there(site: Site, said: dict[str, Any]) -> None:
    """A download that failed is told as one, keeps the graph away, and runs again."""
    assert "the download of the model failed" in said["download"]
    assert "exit code 2" in said["download"]
    assert "operator" not in said["download"]
    assert said["graphs"] == []
    done = site.download().status.completion_time
    assert done <= min(pod.metadata.creation_timestamp for pod in site.pods().values())
    env = {e.name: e.value for e in site.download().spec.template.spec.containers[0].env}
    assert "HF_ENDPOINT" not in env, "it was made anew"


def test_another_deployment_takes_nothing_away(site: Site) -> None:
    """Of the platform, which they share: single nodes need no Grove. What they need is added."""
    before = site.release()
    assert before["global"]["grove"] == {"install": True, "enabled": True}
    pool = {"nodes_per_replica": 1, "options": {"data_parallel_size": 8}}
    other = {
        "wideep_deployment": "chat",
        "wideep_pools": {"prefill": pool, "decode": pool},
        "wideep_eplb": {},
        "platform_values": {},
        "platform_install_orchestrator": "false",
    }
    result = site.well("site", other, tags="platform")
    assert result.stats["localhost"].changed == 0
    assert site.release() == before
    # Preflight says what would change, and who else is concerned.
    plan = make_manifests.plan(INVENTORY.name, wideep_deployment="chat", wideep_event_plane="nats")
    report = judge(plan.publish(), Platform(chart_ref=str(HERE / "chart")), Secrets({}))
    (warning,) = (check for check in report.checks if check.topic == "release")
    assert warning.status == "warn"
    assert "global.nats.install: true (was false)" in warning.seen
    assert f"{NAME} in {NAMESPACE}" in warning.remedy


def test_one_pod_a_node_and_pools_apart(site: Site) -> None:
    nodes = {name: pod.spec.node_name for name, pod in site.pods().items()}
    assert set(nodes) == FRONTEND | PREFILL | DECODE
    workers = [node for name, node in nodes.items() if name not in FRONTEND]
    assert len(set(workers)) == 4
    assert all(node.startswith("gpu-") for node in workers)
    status = site.well("status").data["wideep_summary"]
    assert f"{NAME} in namespace {NAMESPACE}: ready" in status
    assert all(name in status for name in nodes)
    # In the namespace of their generation.
    assert "registered at the frontend: prefill 1 of 1, decode 1 of 1" in status
    namespace = site.graph()["status"]["components"]["decode"]["runtimeNamespace"]
    assert re.fullmatch(rf"{NAMESPACE}-{NAME}-[0-9a-f]{{8}}", namespace)


def test_a_changed_variable_changes_only_its_objects(site: Site) -> None:
    """Decode's engine YAML: its ConfigMap, and in the graph the digest by which decode starts again.

    Prefill as well: the operator puts a change of any worker into the namespace of all.
    """
    pools = {name: dict(pool) for name, pool in OWN["wideep_pools"].items()}
    options = pools["decode"]["options"]
    pools["decode"]["options"] = options | {"trtllm": options["trtllm"] | {"cuda_graph_max_bs": 128}}
    site.variables["wideep_pools"] = pools
    objects, uids = site.objects(), site.uids()
    wanted = [f"ConfigMap {NAME}-decode", f"DynamoGraphDeployment {NAME}"]
    result = site.well("site", check=True, diff=True)
    diffs = str([event["event_data"]["res"].get("diff") for event in oks(result)])
    assert all(name in diffs for name in wanted)
    assert "config-digest" in diffs
    told = shown(result)
    assert "What changes in DynamoGraphDeployment" in told
    assert "decode, prefill have one replica" in told or "prefill, decode have one replica" in told
    assert (site.objects(), site.uids()) == (objects, uids)
    assert "decode" in str(site.well("changes").data["wideep_summary"])
    assert site.changed() == wanted
    assert "as planned" in str(site.well("changes").data["wideep_summary"])
    after = site.objects()
    assert sorted(name for name in after if after[name] != objects[name]) == wanted
    assert {name for name, uid in site.uids().items() if uids[name] != uid} == PREFILL | DECODE


def test_a_new_secret_restarts_who_uses_it(site: Site) -> None:
    uids, secret = site.uids(), f"{NAME}-env"
    site.variables["secrets_env"] = {"LICENSE_TOKEN": "second-only-for-tests"}
    assert site.changed() == sorted([f"DynamoGraphDeployment {NAME}", secret])
    assert {name for name, uid in site.uids().items() if uids[name] != uid} == PREFILL | DECODE
    assert site.changed() == []
    found = site.core.read_namespaced_secret(secret, NAMESPACE)
    assert base64.b64decode(found.data["LICENSE_TOKEN"]) == b"second-only-for-tests"
    pod = site.pods()[f"{NAME}-decode-0-ldr"]
    assert pod.metadata.annotations[GENERATION] == found.metadata.annotations[GENERATION]
    (entry,) = (e for e in pod.spec.containers[0].env if e.name == "LICENSE_TOKEN")
    assert entry.value_from.secret_key_ref.name == secret
    # Without variables the Secret goes, and nothing that was said holds a value.
    del site.variables["secrets_env"]
    result = site.well("site", tags="graph", verbosity=3)
    assert f"Secret {secret}" not in site.objects()
    assert "only-for-tests" not in str(list(result.events)) + str(site.graph())


def test_what_stands_beside_the_graph_comes_and_goes(site: Site) -> None:
    asked = {"network_policy": {"enabled": True}, "disruption_budgets": True}
    own = {"wideep_kubernetes": {**OWN["wideep_kubernetes"], **asked}}
    uids = site.uids()

    def there() -> int:
        found = client.PolicyV1Api(site.api).list_namespaced_pod_disruption_budget(NAMESPACE).items
        return len(found) + len(
            client.NetworkingV1Api(site.api).list_namespaced_network_policy(NAMESPACE).items
        )

    result = site.well("site", own, tags=["graph"])  # the guest may not
    assert result.stats["localhost"].changed == 1
    assert there() == 5
    assert site.well("site", own, tags=["graph"]).stats["localhost"].changed == 0
    site.well("site", tags=["graph"])
    assert there() == 0
    assert site.uids() == uids


# ---- what does not come up -----------------------------------------------------------------------


def test_a_run_whose_last_look_is_not_ready_fails(site: Site, api: client.ApiClient) -> None:
    """It serves, but not with all its pods: a second frontend finds no node any more."""

    def cordon(value: bool) -> None:
        for node in site.core.list_node().items:
            site.core.patch_node(node.metadata.name, {"spec": {"unschedulable": value}})

    two = {"wideep_kubernetes": {**OWN["wideep_kubernetes"], "frontend_replicas": 2}}
    second = f"{NAME}-frontend-1"
    site.well("site", two, tags="graph")
    cordon(True)
    try:
        before = site.uids()[second]
        site.core.delete_namespaced_pod(second, NAMESPACE, grace_period_seconds=0)
        until("it is made anew", lambda: site.uids().get(second, before) != before)
        result = site.run("verify", two)
    finally:
        cordon(False)
    assert failed(result).startswith(f"{NAME} is not ready: ready: frontend 1/2, prefill 1/1, decode 1/1")
    assert "NOT READY" in result.data["wideep_summary"]
    assert result.data["wideep_data"]["verified"]["completion_tokens"] == 16
    assert site.changed() == [f"DynamoGraphDeployment {NAME}"]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (
            {"image": f"registry.example.com/no-such-image:{RELEASE.dynamo}"},
            (
                *(f"pod {NAME}-", "ImagePullBackOff", "event Failed: Failed to pull image"),
                "gave up after",
            ),
        ),
        (
            {
                "frontend_image": f"registry.example.com/no-such-image:{RELEASE.dynamo}",
                "annotations": {"bed.wideep/crashes": "CUDA out of memory"},
            },
            (
                *(f"pod {NAME}-frontend-0", "ImagePullBackOff", "event Failed: Failed to pull image"),
                *(f"pod {NAME}-decode-0-ldr", "CrashLoopBackOff", "CUDA out of memory", "event BackOff"),
                *("waiting longer is of no use: pod", "times while all pods ran"),
            ),
        ),
        (
            {"node_selector": {"kubernetes.io/hostname": "gpu-0"}},
            (
                f"pod {NAME}-",
                "unschedulable",
                "event FailedScheduling",
                "nodes are available",
                "gave up after",
            ),
        ),
    ],
    ids=["image of workers that cannot be pulled", "no image, and a crash loop", "no free GPUs"],
)
def test_the_wait_ends_and_names_the_cause(site: Site, own: dict[str, Any], words: tuple[str, ...]) -> None:
    hopeless = "annotations" in own
    changed = {"wideep_kubernetes": {**OWN["wideep_kubernetes"], **own}}
    changed["graph_deadline_s"] = 600 if hopeless else 10
    message = failed(site.run("site", changed, tags="graph"))
    assert all(word in message for word in words), message


def test_after_all_that_it_serves_again(site: Site) -> None:
    """Also where others look after the platform, said on a command line, whose words are texts."""
    result = site.well("site", {"platform_install": "false"})
    assert result.data["wideep_data"]["verified"]["completion_tokens"] == 16
    assert "Install or upgrade the release" not in shown(result)
    waits = [
        e["event_data"] for e in oks(result) if e["event_data"]["task"].startswith("Wait until the model")
    ]
    assert waits, "a download that is done is looked at"
