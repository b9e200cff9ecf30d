# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Applies the chart's CRDs that Helm leaves out of an upgrade (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.cluster import PLATFORM, platform_of

from wideep.cluster import crds, helm
from wideep.cluster.access import Cluster, ClusterError
from wideep.problems import describe


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_crds`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        given = self.given({**PLATFORM, "values": {"type": "dict", "required": True}})
        try:
            cluster = Cluster()
            rendered, problem = helm.rendered(cluster, platform_of(given), given["values"])
            if problem:
                return {**result, "failed": True, "wideep_refused": True, "msg": describe([problem])}
            found = crds.of_chart(rendered, once=True)
            names = crds.apply(cluster, found, dry_run=self._task.check_mode)
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}
        return {**result, "changed": bool(names), "names": names}
