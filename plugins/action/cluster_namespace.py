# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Says whether teardown may remove a namespace (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.cluster import leftover
from wideep.cluster.access import Cluster, ClusterError


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_namespace`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        own = self.given(
            {
                "name": {"type": "str", "required": True},
                "leaving": {"type": "list", "elements": "dict", "default": []},
                "release": {"type": "str", "default": ""},
            }
        )
        try:
            why = leftover.namespace_kept(
                Cluster(), own["name"], leaving=own["leaving"], release=own["release"]
            )
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}
        if why:
            self._display.display(why)
        return {**result, "changed": False, "remove": not why, "why": why}
