# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Says what an apply would do to a graph's pods (documentation: plugins/modules)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.cluster.access import Cluster, ClusterError
from wideep.cluster.changes import of_graph, told
from wideep.kubernetes.manifests import KIND


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_changes`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self.given({})
        plan = self.plan(task_vars)
        graph = next(item for item in plan.objects.graph if item["kind"] == KIND)
        name = f"{KIND} {graph['metadata']['name']}"
        try:
            there, found = of_graph(Cluster(), graph)
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}
        text = told(name, found) or f"{name} is {'as planned' if there else 'not there: site makes it'}"
        return {**result, "changed": False, "text": text, "changes": [asdict(one) for one in found]}
