"""Which pods a graph has, and which it asks for."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from wideep.cluster import rollout, watch
from wideep.kubernetes.names import POOL, TEMPLATE

Graph = dict[str, Any]


def alpha() -> Graph:
    workers = {
        "replicas": 2,
        "multinode": {"nodeCount": 2},
        "extraPodSpec": {"mainContainer": {"image": "a"}},
    }
    return {
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": "chat", "generation": 2},
        "spec": {"services": {"frontend": {"extraPodSpec": {}}, "decode": workers}},
    }


def beta() -> Graph:
    def template(image: str) -> Graph:
        return {"spec": {"containers": [{"name": "main", "image": image}]}}

    decode = {"name": "decode", "replicas": 2, "multinode": {"nodeCount": 2}, "podTemplate": template("a")}
    return {
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": "chat", "generation": 2},
        "spec": {"components": [{"name": "frontend", "podTemplate": template("f")}, decode]},
    }


def pods(graph: Graph, **more: Any) -> list[Graph]:
    """Return all pods that a graph asks for, ready."""
    made = []
    for name, component in rollout.components(graph):
        annotations = rollout.pod_metadata(component).get("annotations", {})
        count = component.get("replicas", 1) * component.get("multinode", {}).get("nodeCount", 1)
        for number in range(count):
            metadata = {"name": f"chat-{name}-{number}", "uid": f"{name}-{number}", "labels": {POOL: name}}
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            made.append({"metadata": {**metadata, "annotations": annotations}, "status": status} | more)
    return made


def decode(graph: Graph) -> Graph:
    return dict(rollout.components(graph))["decode"]


def word(graph: Graph, name: str) -> str:
    found = rollout.pod_metadata(dict(rollout.components(graph))[name])["annotations"][TEMPLATE]
    return str(found)


@pytest.mark.parametrize("graph", [alpha(), beta()], ids=["v1alpha1", "v1beta1"])
def test_the_word_changes_with_what_changes_pods(graph: Graph) -> None:
    before = rollout.stamped(graph)
    assert rollout.stamped(before) != graph
    assert word(before, "frontend") != word(before, "decode")
    more = copy.deepcopy(graph)
    decode(more).update(replicas=3, minAvailable=1)
    assert word(rollout.stamped(more), "decode") == word(before, "decode")
    memory = copy.deepcopy(graph)
    decode(memory)["sharedMemorySize"] = "80Gi"
    assert word(rollout.stamped(memory), "decode") != word(before, "decode")
    assert word(rollout.stamped(memory), "frontend") == word(before, "frontend")
    found = copy.deepcopy(graph)
    found["metadata"]["annotations"] = {"nvidia.com/dynamo-discovery-backend": "etcd"}
    assert word(rollout.stamped(found), "frontend") != word(before, "frontend")
    assert rollout.stamped({"kind": "Secret", "metadata": {}}) == {"kind": "Secret", "metadata": {}}


@pytest.mark.parametrize("graph", [alpha(), beta()], ids=["v1alpha1", "v1beta1"])
def test_all_pods_of_the_present_version_and_no_others(graph: Graph) -> None:
    now = rollout.stamped(graph)
    assert rollout.lacks(now, pods(now)) == []
    changed = copy.deepcopy(graph)
    decode(changed)["sharedMemorySize"] = "80Gi"
    changed = rollout.stamped(changed)
    assert rollout.lacks(changed, pods(now)) == ["decode has 0 of 4 pods (4 from before the change)"]
    assert [pod["metadata"]["name"] for pod in rollout.current(changed, pods(now))] == ["chat-frontend-0"]
    assert rollout.lacks(now, pods(now)[:-1]) == ["decode has 3 of 4 pods"]
    # A replica less, whose pods are still there.
    surplus = copy.deepcopy(now)
    decode(surplus)["replicas"] = 1
    assert rollout.lacks(surplus, pods(now)) == ["decode has 4 of 2 pods"]
    ending = pods(now)
    ending[-1]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert rollout.lacks(now, ending) == ["1 pod ending", "decode has 3 of 4 pods"]
    assert len(rollout.current(now, ending)) == 4
    # One that was evicted stays for its log.
    evicted = {**pods(now)[-1], "status": {"phase": "Failed"}}
    assert rollout.lacks(now, [*pods(now), evicted]) == []
    other = copy.deepcopy(pods(now)[-1])
    other["metadata"]["labels"][POOL] = "prefill"
    assert rollout.lacks(now, [*pods(now), other]) == ["1 pod of components that the graph no longer has"]


def test_pods_without_our_word() -> None:
    """Of a graph by hand they are counted; before a graph with it they are of the version before."""
    assert rollout.lacks(alpha(), pods(alpha())) == []
    before = "frontend has 0 of 1 pod (1 from before the change)"
    assert before in rollout.lacks(rollout.stamped(alpha()), pods(alpha()))
    # A pod of the operator's own, of no component.
    assert rollout.lacks(alpha(), [*pods(alpha()), {"metadata": {}, "status": {}}]) == []


def test_counts_are_of_what_the_kind_counts() -> None:
    graph = alpha()
    graph["status"] = {
        "services": {
            "frontend": {"replicas": 1, "readyReplicas": 1, "runtimeNamespace": "dynamo-chat"},
            "decode": {"replicas": 1, "availableReplicas": 1, "runtimeNamespace": "dynamo-chat-0a1b2c3d"},
        }
    }
    assert rollout.counts(graph) == "frontend 1/1, decode 1/2"
    assert rollout.runtime_namespaces(graph) == {
        "frontend": "dynamo-chat",
        "decode": "dynamo-chat-0a1b2c3d",
    }


def test_what_is_ready_has_to_stay_so() -> None:
    steadiness = watch.Steadiness()
    same = tuple(pods(alpha()))
    assert steadiness.lasts(watch.Look(True, "", pods=same), 10) == 0
    assert steadiness.lasts(watch.Look(True, "", pods=same), 14) == 4
    restarted = copy.deepcopy(same)
    restarted[0]["status"]["containerStatuses"] = [{"name": "main", "restartCount": 1}]
    assert steadiness.lasts(watch.Look(True, "", pods=restarted), 15) == 0
    assert steadiness.lasts(watch.Look(True, "", pods=restarted[1:]), 17) == 0
    assert steadiness.lasts(watch.Look(False, "", pods=restarted[1:]), 19) == 0
    assert steadiness.lasts(watch.Look(True, "", pods=restarted[1:]), 21) == 0
    assert steadiness.lasts(watch.Look(True, "", pods=restarted[1:]), 26) == 5
