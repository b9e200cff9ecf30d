# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Waits for something in a cluster, and shows how far it is (documentation: plugins/modules)."""

from __future__ import annotations

import time
from typing import Any

from ansible.utils.display import Display
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.cluster import watch
from wideep.cluster.access import Cluster, ClusterError, RefusedByServerError

POLL_S, SHOW_S = 1.0, 10.0
display = Display()


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_wait`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        own = self.given(
            {
                "target": {"choices": ["graph", "job", "operator"], "required": True},
                "name": {"type": "str", "default": ""},
                "namespace": {"type": "str", "required": True},
                "version": {"type": "str", "default": "v1alpha1"},
                "deadline_s": {"type": "float", "required": True},
                "because": {"type": "str", "default": ""},
            }
        )
        target = watch.Target(*(str(own[name]) for name in ("target", "namespace", "name", "version")))
        because, before = str(own["because"]), ""
        if self._task.check_mode and not because:
            return {**result, "skipped": True, "msg": "nothing was applied, so nothing is waited for"}
        started = shown = time.monotonic()
        patience, useless = watch.Patience(), ""
        while True:
            try:
                cluster = Cluster()
                look = target.look(cluster)
                if not look.done:
                    pods = watch.pods_of(cluster, target.namespace, target.labels)
                    useless = patience.ends(pods, time.monotonic())
            except RefusedByServerError as error:
                # Waiting brings no right.
                look, cluster = watch.Look(False, str(error), failed=error.status in {401, 403}), None
            except ClusterError as error:
                # An API server that restarts is no reason to give up.
                look, cluster = watch.Look(False, str(error)), None
            now = time.monotonic()
            if look.done and not because:
                return {**result, "changed": False, "progress": look.progress}
            at_once = because or look.failed or useless
            if at_once or now - started >= own["deadline_s"]:
                late = "" if at_once else f"gave up after {now - started:.0f} s: "
                useless = f"waiting longer is of no use: {useless}" if useless else ""
                lines = [because, useless, late + look.progress, self._detail(cluster, target)]
                return {**result, "failed": True, "msg": "\n".join(filter(None, lines))}
            if look.progress != before or now - shown >= SHOW_S:
                display.display(f"{look.progress}; {now - started:.0f} s of {own['deadline_s']:.0f} s")
                before, shown = look.progress, now
            time.sleep(POLL_S)

    @staticmethod
    def _detail(cluster: Cluster | None, target: watch.Target) -> str:
        try:
            return watch.trouble(cluster, target) if cluster else ""
        except ClusterError as error:
            return str(error)
