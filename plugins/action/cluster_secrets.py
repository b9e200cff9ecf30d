# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Applies Secrets whose values never pass through a task's result (documentation: plugins/modules)."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.cluster import SECRETS, secrets_of

from wideep.cluster import objects
from wideep.cluster.access import Cluster, ClusterError
from wideep.kubernetes.names import env_secret
from wideep.problems import Problem, describe


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_secrets`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        given = self.given(SECRETS)
        plan = self.plan(task_vars)
        own = plan.settings.kubernetes
        values = secrets_of(given)
        problems = values.problems
        if values.registries and not own.image_pull_secrets:
            where = "wideep_kubernetes.image_pull_secrets"
            problems.append(Problem("no Secret is named for secrets_registries", where, "name one"))
        deployment = plan.deployment
        wanted = [objects.marked(o, deployment) for o in objects.secrets(own, values, deployment)]
        try:
            cluster = Cluster()
            there = cluster.get(f"/api/v1/namespaces/{own.namespace}")
            problems = [*problems, *(objects.foreign(cluster, wanted) if there else [])]
            if problems:
                return {**result, "failed": True, "wideep_refused": True, "msg": describe(problems)}
            generation = self._generation(cluster, wanted, env_secret(deployment))
            dry_run = self._task.check_mode
            changed = [
                o["metadata"]["name"]
                for o in wanted
                if not there or cluster.apply(objects.path_of(o), o, dry_run=dry_run)
            ]
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}
        return {**result, "changed": bool(changed), "names": changed, "generation": generation}

    @staticmethod
    def _generation(cluster: Cluster, wanted: list[dict[str, Any]], name: str) -> str:
        """Write the generation into the Secret of this name, and return it; empty where there is none."""
        for item in wanted:
            if item["metadata"]["name"] == name:
                there = cluster.get(objects.path_of(item))
                value = objects.generation(there, item["data"], token_hex(8))
                item["metadata"]["annotations"] = {objects.GENERATION: value}
                return value
        return ""
