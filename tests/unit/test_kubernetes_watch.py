"""When waiting for pods is of no use."""

from __future__ import annotations

from typing import Any

import pytest

from wideep.cluster.watch import PULL_S, Patience


def pod(uid: str, *, waits: str = "", restarts: int = 0, started: bool = True) -> dict[str, Any]:
    """Return a pod with a node. waits: for what its container does, else it runs."""
    state = {"waiting": {"reason": waits}} if waits else {"running": {}}
    statuses = [{"name": "main", "restartCount": restarts, "state": state}] if started else []
    return {
        "metadata": {"uid": uid, "name": f"pod-{uid}"},
        "spec": {"nodeName": "gpu-0"},
        "status": {"phase": "Running", "containerStatuses": statuses},
    }


def crashed(times: int) -> dict[str, Any]:
    return pod("a", waits="CrashLoopBackOff", restarts=times)


def test_the_third_crash_ends_a_wait() -> None:
    patience = Patience()
    # What it did before the wait is no matter: the cause may be gone by now.
    assert patience.ends([crashed(40), pod("b")], 0) == ""
    assert patience.ends([crashed(42), pod("b")], 1) == ""
    # It is up, perhaps for good.
    assert patience.ends([pod("a", restarts=43), pod("b")], 2) == ""
    assert patience.ends([crashed(43), pod("b")], 3) == "pod pod-a has crashed 3 times while all pods ran"


@pytest.mark.parametrize(
    "other",
    [pod("b", started=False), pod("b", waits="ContainerCreating"), pod("b", waits="PodInitializing")],
)
def test_a_head_may_crash_until_its_other_ranks_run(other: dict[str, Any]) -> None:
    patience = Patience()
    for times in range(9):
        assert patience.ends([crashed(times), other], times) == ""
    assert patience.ends([crashed(10), pod("b")], 10) == ""
    assert patience.ends([crashed(11), pod("b")], 11) != ""


def test_an_image_that_does_not_come() -> None:
    patience = Patience()
    missing = pod("a", waits="ErrImagePull")
    assert patience.ends([missing], 0) == ""
    assert patience.ends([pod("a", waits="ContainerCreating")], PULL_S - 1) == ""
    assert patience.ends([missing], PULL_S) == ""
    assert patience.ends([pod("a", waits="ImagePullBackOff")], 2 * PULL_S - 1) == ""
    why = patience.ends([pod("a", waits="ImagePullBackOff")], 2 * PULL_S)
    assert why == "pod pod-a has been without its image for 10 minutes (ImagePullBackOff)"


def test_an_init_container_that_crashes() -> None:
    def begins(times: int) -> dict[str, Any]:
        made = pod("a", waits="PodInitializing")
        state = {"waiting": {"reason": "CrashLoopBackOff"}}
        made["status"]["initContainerStatuses"] = [{"name": "i", "restartCount": times, "state": state}]
        return made

    patience = Patience()
    assert patience.ends([begins(0)], 0) == patience.ends([begins(2)], 1) == ""
    assert patience.ends([begins(3)], 2) != ""
