# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Waits for something in a cluster, and shows how far it is (documentation: plugins/modules)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from wideep.kubernetes import watch
from wideep.kubernetes.access import Cluster, ClusterError

POLL_S, SHOW_S = 1.0, 10.0
display = Display()


class ActionModule(ActionBase):
    """`wideep.dynamo.cluster_wait`."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, own = self.validate_argument_spec(
            {
                "target": {"choices": ["graph", "job", "operator"], "required": True},
                "name": {"type": "str", "default": ""},
                "namespace": {"type": "str", "required": True},
                "version": {"type": "str", "default": "v1alpha1"},
                "deadline_s": {"type": "float", "required": True},
            }
        )
        namespace, name, version = str(own["namespace"]), str(own["name"]), str(own["version"])
        looks: dict[str, tuple[Callable[[Cluster], watch.Look], dict[str, str]]] = {
            "graph": (lambda c: watch.graph(c, namespace, name, version), {watch.GRAPH_LABEL: name}),
            "job": (lambda c: watch.job(c, namespace, name), {"batch.kubernetes.io/job-name": name}),
            "operator": (lambda c: watch.operator(c, namespace, version), watch.OPERATOR_LABEL),
        }
        look_at, labels = looks[own["target"]]
        if self._task.check_mode:
            return {**result, "skipped": True, "msg": "nothing was applied, so nothing is waited for"}
        started = shown = time.monotonic()
        before = ""
        while True:
            try:
                cluster = Cluster()
                look = look_at(cluster)
            except ClusterError as error:
                # An API server that restarts is no reason to give up.
                look, cluster = watch.Look(False, str(error)), None
            now = time.monotonic()
            if look.done:
                return {**result, "changed": False, "progress": look.progress}
            if look.failed or now - started >= own["deadline_s"]:
                why = "" if look.failed else f"gave up after {now - started:.0f} s: "
                detail = self._detail(cluster, namespace, labels)
                return {**result, "failed": True, "msg": f"{why}{look.progress}\n{detail}".rstrip()}
            if look.progress != before or now - shown >= SHOW_S:
                display.display(f"{look.progress}; {now - started:.0f} s of {own['deadline_s']:.0f} s")
                before, shown = look.progress, now
            time.sleep(POLL_S)

    @staticmethod
    def _detail(cluster: Cluster | None, namespace: str, labels: dict[str, str]) -> str:
        try:
            return watch.trouble(cluster, namespace, labels) if cluster else ""
        except ClusterError as error:
            return str(error)
