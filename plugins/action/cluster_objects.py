# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Sorts a deployment's objects for kubernetes.core.k8s (documentation: plugins/modules)."""

from __future__ import annotations

import tempfile
from typing import Any

from ansible import constants
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.cluster import downloads, graphs, objects
from wideep.cluster.access import Cluster, ClusterError
from wideep.kubernetes.manifests import KIND
from wideep.kubernetes.names import GROUP, env_secret
from wideep.problems import describe
from wideep.published import Published


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_objects`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        own = self.given({"removing": {"type": "bool", "default": False}})
        plan = self.plan(task_vars)
        # Removed when Ansible ends: kubernetes.core keeps there what kinds the cluster has.
        folder = tempfile.mkdtemp(dir=vars(constants)["DEFAULT_LOCAL_TMP"])
        try:
            sort = self._leaving if own["removing"] else self._sort
            return {**result, "changed": False, "tmp": folder, **sort(Cluster(), plan)}
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}

    @staticmethod
    def _owned(cluster: Cluster, plan: Published) -> tuple[bool, list[dict[str, Any]]]:
        """Return whether the namespace is there, and references to what is ours in it."""
        if cluster.get(f"/api/v1/namespaces/{plan.namespace}") is None:
            return False, []
        return True, objects.owned(cluster, plan.namespace, plan.settings.graph_api, plan.deployment)

    def _leaving(self, cluster: Cluster, plan: Published) -> dict[str, Any]:
        _, owned = self._owned(cluster, plan)
        return {"removable": objects.removable(owned, keep_model=plan.keep_state)}

    def _sort(self, cluster: Cluster, plan: Published) -> dict[str, Any]:
        model, graph = (
            [objects.marked(item, plan.deployment) for item in part]
            for part in (plan.objects.model, plan.objects.graph)
        )
        there, owned = self._owned(cluster, plan)
        problems = []
        if there:
            problems = objects.foreign(cluster, [*model, *graph]) + downloads.other_models(cluster, model)
            problems = problems or graphs.unchangeable(cluster, graph)
        if problems:
            return {"failed": True, "wideep_refused": True, "msg": describe(problems)}
        # Applied by cluster_secrets, whose values are not in the plan.
        env = {"kind": "Secret", "metadata": {"name": env_secret(plan.deployment)}}
        applied = [*model, *graph, *([env] if plan.settings.secrets_env else [])]
        return {
            "namespace": objects.namespace(plan.namespace, plan.settings.kubernetes),
            "namespace_exists": there,
            "graph_known": cluster.serves(f"{GROUP}/{plan.settings.graph_api}", KIND),
            "model": downloads.needed(cluster, model),
            "obsolete": downloads.obsolete(cluster, model) if there else [],
            "graph": graph,
            "jobs": [item["metadata"]["name"] for item in model if item["kind"] == "Job"],
            "stale": objects.stale(owned, applied),
        }
