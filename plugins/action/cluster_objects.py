# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Sorts a deployment's objects for kubernetes.core.k8s (documentation: plugins/modules)."""

from __future__ import annotations

import tempfile
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase

from wideep.kubernetes import objects
from wideep.kubernetes.access import GRAPHS, GROUP, Cluster, ClusterError
from wideep.plain import plain
from wideep.problems import describe


class ActionModule(ActionBase):
    """`wideep.dynamo.cluster_objects`."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self.validate_argument_spec({})
        plan = plain(task_vars["wideep_plan"])
        try:
            return {**result, "changed": False, **self._sort(plan)}
        except ClusterError as error:
            return {**result, "failed": True, "msg": str(error)}

    @staticmethod
    def _sort(plan: dict[str, Any]) -> dict[str, Any]:
        own, version = plan["settings"]["kubernetes"], plan["settings"]["graph_api"]
        cluster = Cluster()
        wanted = [
            objects.marked(o, plan["deployment"])
            for o in (*plan["kubernetes"]["model"], *plan["kubernetes"]["graph"])
        ]
        there = cluster.get(f"/api/v1/namespaces/{own['namespace']}")
        problems = objects.foreign(cluster, wanted) if there else []
        if problems:
            return {"failed": True, "wideep_refused": True, "msg": describe(problems)}
        owned = objects.owned(cluster, own["namespace"], version, plan["deployment"]) if there else []
        keep = plan["settings"]["keep_state"]
        # Applied by cluster_secrets, whose values are not in the plan.
        env = {"kind": "Secret", "metadata": {"name": objects.env_secret(plan["deployment"])}}
        applied = [*wanted, *([env] if plan["settings"]["secrets_env"] else [])]
        known = cluster.get(f"/apis/{GROUP}/{version}") or {}
        return {
            "namespace": objects.namespace(own["namespace"]),
            "namespace_exists": there is not None,
            "namespace_removable": not keep and objects.namespace_removable(cluster, own["namespace"], owned),
            "removable": objects.removable(owned, keep_model=keep),
            "graph_known": any(r["name"] == GRAPHS for r in known.get("resources", ())),
            "wanted": wanted,
            "jobs": [o["metadata"]["name"] for o in wanted if o["kind"] == "Job"],
            "owned": owned,
            # Removed when Ansible ends: kubernetes.core keeps there what kinds the cluster has.
            "tmp": tempfile.mkdtemp(dir=constants.DEFAULT_LOCAL_TMP),
            "stale": objects.stale(owned, applied),
        }
