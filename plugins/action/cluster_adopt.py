# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Takes over what others applied (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.cluster import adopt, graphs, objects
from wideep.cluster.access import Cluster, ClusterError
from wideep.cluster.rollout import stamped
from wideep.problems import describe


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_adopt`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self.given({})
        plan = self.plan(task_vars)
        items = [stamped(objects.marked(item, plan.deployment)) for item in plan.objects.all]
        try:
            cluster = Cluster()
            if problems := graphs.unchangeable(cluster, items):
                return {**result, "failed": True, "wideep_refused": True, "msg": describe(problems)}
            taken = adopt.adopt(cluster, items, check=self._task.check_mode)
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}
        names = [each.name for each in taken if each.state == "taken over"]
        return {
            **result,
            "changed": bool(names),
            "names": names,
            "text": "\n".join(each.text() for each in taken),
        }
