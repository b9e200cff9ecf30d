# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Says what a deployment has in a cluster and how it is (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.cluster import watch
from wideep.cluster.access import Cluster, ClusterError


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_status`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given({"verified": {"type": "dict"}})
        plan = self.plan(task_vars)
        try:
            return {**result, "changed": False, **watch.status(Cluster(), plan, arguments["verified"])}
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}
