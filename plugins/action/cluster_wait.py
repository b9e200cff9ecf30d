# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Waits for something in a cluster, and shows how far it is (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.waiting import Clock, wait

from wideep.cluster import watch
from wideep.cluster.access import Cluster, ClusterError, RefusedByServerError

POLL_S, SHOW_S = 1.0, 10.0


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_wait`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        own = self.given(
            {
                "target": {"choices": ["graph", "job", "operator"], "required": True},
                "name": {"type": "str", "default": ""},
                "namespace": {"type": "str", "required": True},
                "version": {"type": "str", "default": "v1beta1"},
                "deadline_s": {"type": "float", "required": True},
                "because": {"type": "str", "default": ""},
            }
        )
        target = watch.Target(*(str(own[name]) for name in ("target", "namespace", "name", "version")))
        because, before = str(own["because"]), ""
        if self._task.check_mode and not because:
            return {**result, "skipped": True, "msg": "nothing was applied, so nothing is waited for"}
        shown, patience, steadiness = 0.0, watch.Patience(), watch.Steadiness()
        steady_s = watch.STEADY_S if target.kind == "graph" else 0

        def look(clock: Clock) -> dict[str, Any] | str:
            nonlocal before, shown
            cluster, useless = None, ""
            try:
                cluster = Cluster()
                seen = target.look(cluster)
                if not seen.done:
                    useless = patience.ends(seen.pods, clock.waited)
            except RefusedByServerError as error:
                # Waiting brings no right.
                seen, cluster = watch.Look(False, str(error), failed=error.status in {401, 403}), None
            except ClusterError as error:
                # An API server that restarts is no reason to give up.
                seen, cluster = watch.Look(False, str(error)), None
            waited = clock.waited
            steady = steadiness.lasts(seen, waited)
            if seen.done and steady >= steady_s and not because:
                return {"changed": False, "progress": seen.progress}
            at_once = because or seen.failed or useless
            # What is as it should be at the deadline may show that it stays so.
            if at_once or (waited >= own["deadline_s"] and not seen.done):
                late = "" if at_once else f"gave up after {waited:.0f} s: "
                useless = f"waiting longer is of no use: {useless}" if useless else ""
                lines = [because, useless, late + seen.progress, self._detail(cluster, target)]
                return {"failed": True, "msg": "\n".join(filter(None, lines))}
            if seen.progress == before and waited - shown < SHOW_S:
                return ""
            before, shown = seen.progress, waited
            stays = f"; waiting {steady_s} s whether it stays so" if seen.done else ""
            return f"{seen.progress}{stays}; {waited:.0f} s of {own['deadline_s']:.0f} s"

        return {**result, **wait(look, POLL_S)}

    @staticmethod
    def _detail(cluster: Cluster | None, target: watch.Target) -> str:
        try:
            return watch.trouble(cluster, target) if cluster else ""
        except ClusterError as error:
            return str(error)
