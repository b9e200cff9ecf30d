"""Whether a plan's pods find room: nodes and pods as the API shows them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from test_kubernetes_platform import plan

from wideep.cluster import nodes
from wideep.kubernetes.check import quantity

TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
H100 = "NVIDIA-H100-80GB-HBM3"


def node(name: str, *, gpus: int = 8, tainted: bool = True, **changes: Any) -> dict[str, Any]:
    has = {"cpu": "192", "memory": "2Ti", "pods": "110", "nvidia.com/gpu": str(gpus), "rdma/ib": "8"}
    return {
        "metadata": {"name": name, "labels": changes.get("labels", {nodes.PRODUCT: H100})},
        "spec": {"taints": [TAINT]} if tainted else {},
        "status": {
            "allocatable": has | changes.get("has", {}),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(on: str, *, labels: dict[str, str] | None = None, **requests: str) -> dict[str, Any]:
    container = {"resources": {"requests": requests}}
    return {
        "metadata": {"name": "theirs", "namespace": "team-a", "labels": labels or {}},
        "spec": {"nodeName": on, "containers": [container]},
        "status": {"phase": "Running"},
    }


def eight(**changes: Any) -> list[dict[str, Any]]:
    return [node(f"gpu-{number}", **changes) for number in range(8)]


def judged(there: list[dict[str, Any]], pods: Any = (), **own: Any) -> tuple[int, str, str]:
    """Return how many nodes are free, why workers find none, and which other pod finds none."""
    found = nodes.rooms(there, pods)
    workers, others = nodes.pods_of(plan(**own))
    free, against = nodes.place_workers(found, workers)
    homeless = nodes.place_others(found, others)
    return free, against, homeless.what if homeless else ""


def test_workers_one_a_node_and_the_rest_beside_them() -> None:
    """All nodes have the taint, and there are no others: what tolerates it is placed."""
    assert judged(eight()) == (8, "", "")


def test_what_is_missing() -> None:
    assert judged(eight()[:7]) == (7, "no more nodes", "")
    assert judged(eight(gpus=4)) == (0, "8 (gpu-0, …): has 4 of nvidia.com/gpu, 8 are needed", "")
    free, against, _ = judged(eight(), tolerations=[])
    assert (free, against) == (0, "8 (gpu-0, …): taint nvidia.com/gpu is not tolerated")
    broken = node("gpu-8")
    broken["status"]["conditions"] = []
    _, against, _ = judged([*eight()[:7], broken])
    assert against == "1 (gpu-8): not ready, or cordoned"
    _, against, _ = judged(eight(), node_selector={"pool": "gpu"})
    assert "node_selector pool is not its label" in against


@pytest.mark.parametrize("product", ["NVIDIA-A100-SXM4-80GB", "NVIDIA-H20", "NVIDIA-H200"])
def test_another_gpu(product: str) -> None:
    """The plan's arithmetic of memory is that of wideep_gpu."""
    _, against, _ = judged(eight(labels={nodes.PRODUCT: product}))
    assert f"has {product}, the plan is for NVIDIA H100" in against


def test_the_same_gpu_by_other_names() -> None:
    for labels in ({}, {nodes.PRODUCT: "NVIDIA-H100-80GB-HBM3-SHARED", nodes.MEMORY: "81559"}):
        assert judged(eight(labels=labels))[1] == ""
    smaller = {nodes.PRODUCT: "NVIDIA-H100-PCIe", nodes.MEMORY: "49000"}
    assert "has GPUs of 49000 MiB" in judged(eight(labels=smaller))[1]


def test_shared_memory_counts() -> None:
    _, against, _ = judged(eight(), shared_memory="3Ti")
    assert "has 2Ti of memory, 3Ti are needed" in against
    # Beside a pod of others, too.
    theirs = [pod("gpu-0", memory="1900Gi")]
    assert judged(eight(), theirs, shared_memory="800Gi")[1] == "1 (gpu-0): memory is taken by other pods"


def test_quantities_for_people() -> None:
    texts = {"2113530120Ki": "1.968Ti", "80Gi": "80Gi", "8": "8", "500m": "0.5", "1000": "1000", "3Mi": "3Mi"}
    assert {text: nodes.shown(quantity(text)) for text in texts} == texts


def test_quantities_of_other_peoples_pods() -> None:
    theirs = [pod("gpu-0", memory="129e6", cpu="500u"), pod("gpu-1", memory="1.5e9", cpu="100n")]
    assert judged(eight(), theirs) == (8, "", "")


def test_a_node_with_the_worker_of_another_deployment() -> None:
    """It may have GPUs left, and with the node's network the other one's anti-affinity keeps ours away."""
    labels = {"wideep.dynamo/role": "worker", "wideep.dynamo/deployment": "chat"}
    there = eight()
    there[0]["status"]["allocatable"]["nvidia.com/gpu"] = "16"
    theirs = pod("gpu-0", labels=labels, **{"nvidia.com/gpu": "8"})
    assert judged(there, [theirs])[:2] == (8, "")
    why = "1 (gpu-0): a worker is on it, and both would have the node's ports (host_network)"
    assert judged(there, [theirs], host_network=True)[:2] == (7, why)
    term = {"labelSelector": {"matchLabels": {"wideep.dynamo/role": "worker"}}}
    alone = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    theirs["spec"]["affinity"] = alone
    assert judged(there, [theirs])[:2] == (7, "1 (gpu-0): a worker of chat in team-a is on it")
    gone = theirs | {"status": {"phase": "Succeeded"}}
    assert judged(there, [gone])[1] == ""


def test_frontends_have_sums_too() -> None:
    small = eight(has={"cpu": "9"})
    # A worker takes 8, so each node has room for one frontend of 1.
    assert judged(small, frontend_replicas=8) == (8, "", "")
    assert judged(small, frontend_replicas=9) == (8, "", "a frontend")
    large = {"download": {"requests": {"memory": "4Ti"}}}
    assert judged(eight(), resources=large)[2] == "the download"
    assert judged(eight(), cpu_pods={"tolerations": []})[2] == "the download"


def test_init_containers_and_overhead() -> None:
    def asks(cpu: str, **more: str) -> dict[str, Any]:
        return {"resources": {"limits": {"cpu": cpu}}, **more}

    spec = {
        "initContainers": [asks("6"), asks("1", restartPolicy="Always")],
        "containers": [asks("2"), asks("1"), {}],
        "overhead": {"cpu": "250m"},
    }
    assert nodes.reserved(spec) == {"cpu": Decimal("6.25")}
    del spec["initContainers"]
    assert nodes.reserved(spec) == {"cpu": Decimal("3.25")}


def test_two_replicas_share_a_node_and_the_pods_of_one_do_not() -> None:
    big = [node(f"gpu-{number}", gpus=16, has={"memory": "4Ti", "rdma/ib": "16"}) for number in range(4)]
    # Prefill and decode have four pods of 8 GPUs each.
    assert judged(big) == (4, "", "")
    assert judged(big[:3])[:2] == (3, "no more nodes")
