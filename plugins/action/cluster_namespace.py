# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Says whether teardown may remove a namespace (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from wideep.cluster import leftover
from wideep.cluster.access import Cluster, ClusterError
from wideep.plain import plain


class ActionModule(ActionBase):
    """`wideep.dynamo.cluster_namespace`."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "name": {"type": "str", "required": True},
                "leaving": {"type": "list", "elements": "dict", "default": []},
                "release": {"type": "str", "default": ""},
            }
        )
        own = plain(arguments)
        try:
            why = leftover.namespace_kept(
                Cluster(), own["name"], leaving=own["leaving"], release=own["release"]
            )
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}
        if why:
            self._display.display(why)
        return {**result, "changed": False, "remove": not why, "why": why}
