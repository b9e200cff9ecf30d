# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Sorts a deployment's objects for kubernetes.core.k8s (documentation: plugins/modules)."""

from __future__ import annotations

import tempfile
from typing import Any

from ansible import constants
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.cluster import downloads, objects
from wideep.cluster.access import Cluster, ClusterError
from wideep.kubernetes.names import GRAPHS, GROUP, env_secret
from wideep.plain import plain
from wideep.problems import describe


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_objects`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        own = self.given({"removing": {"type": "bool", "default": False}})
        plan = plain(task_vars["wideep_plan"])
        # Removed when Ansible ends: kubernetes.core keeps there what kinds the cluster has.
        folder = tempfile.mkdtemp(dir=vars(constants)["DEFAULT_LOCAL_TMP"])
        try:
            sort = self._leaving if own["removing"] else self._sort
            return {**result, "changed": False, "tmp": folder, **sort(Cluster(), plan)}
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}

    @staticmethod
    def _owned(cluster: Cluster, plan: dict[str, Any]) -> tuple[bool, list[dict[str, Any]]]:
        """Return whether the namespace is there, and references to what is ours in it."""
        settings = plan["settings"]
        name = settings["kubernetes"]["namespace"]
        if cluster.get(f"/api/v1/namespaces/{name}") is None:
            return False, []
        return True, objects.owned(cluster, name, settings["graph_api"], plan["deployment"])

    def _leaving(self, cluster: Cluster, plan: dict[str, Any]) -> dict[str, Any]:
        _, owned = self._owned(cluster, plan)
        return {"removable": objects.removable(owned, keep_model=plan["settings"]["keep_state"])}

    def _sort(self, cluster: Cluster, plan: dict[str, Any]) -> dict[str, Any]:
        own, deployment = plan["settings"]["kubernetes"], plan["deployment"]
        model, graph = (
            [objects.marked(item, deployment) for item in plan["kubernetes"][part]]
            for part in ("model", "graph")
        )
        there, owned = self._owned(cluster, plan)
        problems = []
        if there:
            problems = objects.foreign(cluster, [*model, *graph]) + downloads.other_models(cluster, model)
        if problems:
            return {"failed": True, "wideep_refused": True, "msg": describe(problems)}
        # Applied by cluster_secrets, whose values are not in the plan.
        env = {"kind": "Secret", "metadata": {"name": env_secret(deployment)}}
        applied = [*model, *graph, *([env] if plan["settings"]["secrets_env"] else [])]
        known = cluster.get(f"/apis/{GROUP}/{plan['settings']['graph_api']}") or {}
        return {
            "namespace": objects.namespace(own["namespace"], own),
            "namespace_exists": there,
            "graph_known": any(r["name"] == GRAPHS for r in known.get("resources", ())),
            "model": downloads.needed(cluster, model),
            "obsolete": downloads.obsolete(cluster, model) if there else [],
            "graph": graph,
            "jobs": [item["metadata"]["name"] for item in model if item["kind"] == "Job"],
            "stale": objects.stale(owned, applied),
        }
