# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Says whether teardown may remove the platform (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from wideep.kubernetes import objects
from wideep.kubernetes.access import Cluster, ClusterError


class ActionModule(ActionBase):
    """`wideep.dynamo.cluster_platform`."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, own = self.validate_argument_spec(
            {
                "namespace": {"type": "str", "required": True},
                "version": {"type": "str", "required": True},
                "deployment": {"type": "str", "required": True},
                "in_namespace": {"type": "str", "required": True},
            }
        )
        try:
            remove, why = objects.platform_removable(
                Cluster(),
                str(own["namespace"]),
                str(own["version"]),
                (str(own["in_namespace"]), str(own["deployment"])),
            )
        except ClusterError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": False, "remove": remove, "why": why}
