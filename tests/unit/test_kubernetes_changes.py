"""What an apply does to a running graph's pods."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.unit.test_kubernetes_rollout import alpha, beta, decode

from wideep.cluster.changes import BESIDE, changes, told
from wideep.cluster.rollout import as_scaled, stamped
from wideep.kubernetes.names import ENABLE_GROVE, ROLE

Graph = dict[str, Any]
BOTH = pytest.mark.parametrize("made", [alpha, beta], ids=["v1alpha1", "v1beta1"])


def image(graph: Graph, name: str) -> None:
    part = decode(graph)
    pod = part["podTemplate"]["spec"]["containers"][0] if "podTemplate" in part else None
    (pod or part["extraPodSpec"]["mainContainer"])["image"] = name


@BOTH
def test_the_first_apply_and_the_same_again_change_nothing_that_runs(made: Any) -> None:
    assert changes(None, stamped(made())) == ()
    assert changes(stamped(made()), stamped(made())) == ()


@BOTH
def test_another_image_replaces_replicas_of_several_pods_in_place(made: Any) -> None:
    new = made()
    image(new, "b")
    (change,) = changes(stamped(made()), stamped(new))
    assert (change.component, change.rolls, change.left, change.what) == ("decode", True, 1, ("image",))
    assert "one replica of 2 pods at a time" in change.how
    assert not change.pauses
    assert "decode" in (text := told("graph chat", (change,)))
    assert BESIDE not in text


@BOTH
def test_a_single_replica_that_is_replaced_in_place_is_a_pause(made: Any) -> None:
    old, new = made(), made()
    decode(old)["replicas"] = decode(new)["replicas"] = 1
    image(new, "b")
    (change,) = changes(stamped(old), stamped(new))
    assert change.pauses
    assert "decode has one replica: requests fail while its new one starts" in told("g", (change,))


def test_single_pods_without_grove_begin_before_the_old_ones_go() -> None:
    old, new = alpha(), alpha()
    for graph in (old, new):
        decode(graph).update(replicas=1, multinode={"nodeCount": 1})
    image(new, "b")
    assert changes(stamped(old), stamped(new))[0].left == 1
    for graph in (old, new):
        graph["metadata"]["annotations"] = {ENABLE_GROVE: "true"}
    assert changes(stamped(old), stamped(new))[0].pauses


@BOTH
def test_scaling_leaves_what_serves(made: Any) -> None:
    more = copy.deepcopy(made())
    decode(more)["replicas"] = 3
    (change,) = changes(stamped(made()), stamped(more))
    assert (change.before, change.after, change.left, change.rolls) == (2, 3, 2, False)
    assert "2 → 3" in told("g", (change,))
    (change,) = changes(stamped(more), stamped(made()))
    assert (change.left, change.pauses) == (2, False)


@pytest.mark.parametrize(("made", "adapter"), [(alpha, {"enabled": True}), (beta, {})])
def test_replicas_that_others_scale_stay_as_they_are(made: Any, adapter: Graph) -> None:
    new, there = made(), made()
    for graph in (new, there):
        decode(graph)["scalingAdapter"] = adapter
    decode(there)["replicas"] = 5
    assert decode(as_scaled(new, None))["replicas"] == 2
    assert decode(as_scaled(new, there))["replicas"] == 5
    assert changes(stamped(there), as_scaled(stamped(new), there)) == ()
    del decode(there)["scalingAdapter"]  # it begins now
    assert decode(as_scaled(new, there))["replicas"] == 2


def test_an_environment_that_differs_is_named() -> None:
    new = alpha()
    decode(new)["envs"] = [{"name": "NCCL_DEBUG", "value": "INFO"}]
    assert changes(stamped(alpha()), stamped(new))[0].what == ("env NCCL_DEBUG",)


def test_one_workers_change_replaces_all_workers_and_no_frontend() -> None:
    old = alpha()
    decode(old)["extraPodMetadata"] = {"labels": {ROLE: "worker"}}
    old["spec"]["services"]["prefill"] = copy.deepcopy(decode(old)) | {"replicas": 1}
    new = copy.deepcopy(old)
    image(new, "b")
    found = {change.component: change for change in changes(stamped(old), stamped(new))}
    assert sorted(found) == ["decode", "prefill"]
    assert (found["prefill"].rolls, found["prefill"].pauses) == (True, True)
    assert found["prefill"].what == ("with the other workers",)


def test_components_that_come_and_go_are_told() -> None:
    less = alpha()
    del less["spec"]["services"]["decode"]
    assert [(c.component, c.how) for c in changes(stamped(alpha()), stamped(less))] == [("decode", "goes")]
    assert [(c.component, c.how) for c in changes(stamped(less), stamped(alpha()))] == [("decode", "new")]
