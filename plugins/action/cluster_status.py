# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Says what a deployment has in a cluster and how it is (documentation: plugins/modules)."""

from __future__ import annotations

from functools import partial
from typing import Any

from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import Frontend, NoAnswerError
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.cluster import watch
from wideep.cluster.access import Cluster, ClusterError
from wideep.cluster.forward import Forward
from wideep.published import Published

ANSWER_S = 5


def _instances(cluster: Cluster, plan: Published) -> list[dict[str, Any]] | None:
    """Return what the frontend lists; None where it does not answer."""
    way = plan.objects.frontend
    if way is None:
        return None
    try:
        with Forward(cluster, way.namespace, way.service, way.port) as forward:
            health = Frontend(forward.url(), ANSWER_S).get("/health").json()
    except (ClusterError, NoAnswerError):
        return None
    return list(health.get("instances") or ())


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_status`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given({"verified": {"type": "dict"}})
        plan = self.plan(task_vars)
        verified = arguments["verified"]
        try:
            cluster = Cluster()
            ask = None if verified or self._task.check_mode else partial(_instances, cluster, plan)
            return {**result, "changed": False, **watch.status(cluster, plan, verified, ask)}
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}
