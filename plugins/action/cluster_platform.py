# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Says what becomes of the platform's release (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.cluster import PLATFORM, platform_of

from wideep.cluster import helm, leftover, objects, platform
from wideep.cluster.access import Cluster, ClusterError
from wideep.problems import describe
from wideep.published import Published


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_platform`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        given = self.given({**PLATFORM, "removing": {"type": "bool", "default": False}})
        own = platform_of(given)
        judge = self._kept if given["removing"] else self._wanted
        try:
            return {**result, "changed": False, **judge(Cluster(), self.plan(task_vars), own)}
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}

    def _kept(self, cluster: Cluster, plan: Published, own: platform.Platform) -> dict[str, Any]:
        leaving = plan.namespace, plan.deployment
        why = leftover.platform_kept(cluster, own.namespace, plan.settings.graph_api, leaving)
        if why:
            self._display.display(why)
        return {"remove": not why, "why": why, "mark": objects.platform_mark(own.namespace)}

    @staticmethod
    def _wanted(cluster: Cluster, plan: Published, own: platform.Platform) -> dict[str, Any]:
        found = [helm.program(own)[1]]
        if not any(found):
            found += [helm.chart(plan, own)[1], helm.pending(cluster, own)]
        problems = [problem for problem in found if problem]
        release = platform.Release()
        if not problems:
            release = helm.read(cluster, plan, own)
            problems = platform.check(plan, own, release)
        if problems:
            return {"failed": True, "wideep_refused": True, "msg": describe(problems)}
        return {
            "values": platform.values(plan, own, release.values),
            "exists": release.values is not None,
            "mark": objects.platform_mark(own.namespace),
        }
