"""The verbs on a real API server: converge, change, rotate, fail at a deadline, remove.

The suite molecule-kubernetes does the first of it with SGLang; here it is TensorRT-LLM on four of the nodes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import BED, DGD, HERE, REPOSITORY, controller, wait
from kubernetes import client

from wideep import runner
from wideep.kubernetes.objects import GENERATION

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
}


class Site:
    """A deployment by the playbooks, and what the API server has of it."""

    def __init__(self, api: client.ApiClient) -> None:
        self.core = client.CoreV1Api(api)
        self.custom = client.CustomObjectsApi(api)
        self.batch = client.BatchV1Api(api)
        self.variables = dict(VARIABLES)

    def run(self, verb: str, own: dict[str, Any] | None = None, **options: Any) -> runner.Result:
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
            "nvidia.com", "v1alpha1", NAMESPACE, "dynamographdeployments", NAME
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


def oks(result: runner.Result) -> list[Any]:
    return [event for event in result.events if event["event"] == "runner_on_ok"]


def gave_up(result: runner.Result) -> str:
    """Return the message of a wait that ended at its deadline."""
    assert result.status == "failed"
    (failure,) = result.failures
    assert "gave up after 1" in failure.message
    return str(failure.message)


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
def unanswered() -> dict[str, str]:
    """What the waits said while no operator answered: by the role that waited."""
    return {}


@pytest.fixture(scope="module")
def site(
    bed: str, api: client.ApiClient, serve: tuple[str, ...], unanswered: dict[str, str]
) -> Iterator[Site]:
    """Deploy once; at the end nothing may be left but the CRDs, which this fixture removes."""
    made = Site(api)
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
        silent = {"platform_values": {"test": {"silent": True}}, "platform_deadline_s": 10}
        unanswered["platform"] = gave_up(made.run("site", silent, tags="platform"))
        # Now it calls itself available, and looks at nothing.
        made.well("site", tags="platform")
        unanswered["graph"] = gave_up(made.run("site", {"graph_deadline_s": 10}, tags="graph"))
        with controller(bed, *serve):
            result = made.well("site")
            assert result.data["wideep_data"]["verified"]["completion_tokens"] == 16
            yield made
            made.well("teardown")
        assert namespaces() == set()
        assert DGD in crds(), "teardown keeps CRDs"
    finally:
        for name in crds():
            extensions.delete_custom_resource_definition(name)
        for name in namespaces():
            made.core.delete_namespace(name)
        wait("CRDs and namespaces are gone", lambda: not crds() | namespaces())


def test_operator_that_never_answers(site: Site, unanswered: dict[str, str]) -> None:
    assert "operator not available" in unanswered["platform"]
    assert "pod dynamo-platform-dynamo-operator" in unanswered["platform"]
    assert "the operator has not looked at it yet" in unanswered["graph"]
    assert "kubectl -n dynamo-system logs" in unanswered["graph"]


def test_one_pod_a_node_and_pools_apart(site: Site) -> None:
    nodes = {name: pod.spec.node_name for name, pod in site.pods().items()}
    assert set(nodes) == FRONTEND | PREFILL | DECODE
    workers = [node for name, node in nodes.items() if name not in FRONTEND]
    assert len(set(workers)) == 4
    assert all(node.startswith("gpu-") for node in workers)
    status = site.well("status").data["wideep_summary"]
    assert f"{NAME} in namespace {NAMESPACE}: ready" in status
    assert all(name in status for name in nodes)


def test_a_changed_variable_changes_only_its_objects(site: Site) -> None:
    """Decode's engine YAML: its ConfigMap, and in the graph the digest by which decode starts again."""
    pools = {name: dict(pool) for name, pool in OWN["wideep_pools"].items()}
    options = pools["decode"]["options"]
    pools["decode"]["options"] = options | {"trtllm": options["trtllm"] | {"cuda_graph_max_bs": 128}}
    site.variables["wideep_pools"] = pools
    objects, uids = site.objects(), site.uids()
    wanted = [f"ConfigMap {NAME}-decode", f"DynamoGraphDeployment {NAME}"]
    result = site.well("site", check=True, diff=True)
    shown = str([event["event_data"]["res"].get("diff") for event in oks(result)])
    assert all(name in shown for name in wanted)
    assert "config-digest" in shown
    assert (site.objects(), site.uids()) == (objects, uids)
    assert site.changed() == wanted
    after = site.objects()
    assert sorted(name for name in after if after[name] != objects[name]) == wanted
    assert {name for name, uid in site.uids().items() if uids[name] != uid} == DECODE


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


# ---- what does not come up -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (
            {"image": "registry.example.com/no-such-image:1.4.2"},
            (f"pod {NAME}-decode-0-ldr", "ImagePullBackOff", "event Failed: Failed to pull image"),
        ),
        (
            {"node_selector": {"kubernetes.io/hostname": "gpu-0"}},
            (f"pod {NAME}-", "unschedulable", "event FailedScheduling", "nodes are available"),
        ),
        (
            {"annotations": {"bed.wideep/crashes": "CUDA out of memory"}},
            (f"pod {NAME}-decode-0-ldr", "CrashLoopBackOff", "CUDA out of memory", "event BackOff"),
        ),
    ],
    ids=["image that cannot be pulled", "no free GPUs", "crash loop"],
)
def test_the_wait_ends_and_names_the_cause(site: Site, own: dict[str, Any], words: tuple[str, ...]) -> None:
    changed = {"wideep_kubernetes": {**OWN["wideep_kubernetes"], **own}, "graph_deadline_s": 10}
    message = gave_up(site.run("site", changed, tags="graph"))
    assert all(word in message for word in words), message


def test_after_all_that_it_serves_again(site: Site) -> None:
    assert site.well("site").data["wideep_data"]["verified"]["completion_tokens"] == 16
