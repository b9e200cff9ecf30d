# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Applies objects with one call of kubernetes.core.k8s, shows what differs (see plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action

from wideep.cluster.access import Cluster, ClusterError
from wideep.cluster.changes import against, told
from wideep.cluster.objects import Object, of_generation, path_of
from wideep.cluster.rollout import stamped
from wideep.kubernetes.manifests import KIND, to_yaml
from wideep.kubernetes.names import FIELD_MANAGER

# The server changes them with everything; they say nothing to a person.
HIDDEN = ["metadata.managedFields", "metadata.resourceVersion", "metadata.generation", "status"]


def _created(items: list[Object]) -> dict[str, Any]:
    """Return the result of a check where the server cannot say what it would do: all would be created."""
    names = [f"{item['kind']} {item['metadata']['name']}" for item in items]
    diffs = [
        {"before": "", "after": to_yaml([item]), "before_header": name, "after_header": name}
        for name, item in zip(names, items, strict=True)
    ]
    return {"changed": True, "names": names, "diff": diffs}


class ActionModule(Action):
    """`wideep.dynamo.cluster_apply`."""

    def _as_there(self, item: Object) -> Object:
        """Say what becomes of a graph's pods; return it with replicas as others have scaled them."""
        made, found = against(Cluster().get(path_of(item)), item)
        if text := told(f"{KIND} {item['metadata']['name']}", found):
            self._display.display(text)
        return made

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given(
            {
                "objects": {"type": "list", "elements": "dict", "required": True},
                "generation": {"type": "str", "default": ""},
                "judged": {"type": "bool", "default": True},
            }
        )
        made = of_generation(arguments["objects"], arguments["generation"])
        items = [stamped(item) for item in made]
        if not items:
            return {**result, "changed": False, "names": []}
        if self._task.check_mode and not arguments["judged"]:
            return {**result, **_created(items)}
        try:
            items = [self._as_there(item) if item["kind"] == KIND else item for item in items]
        except ClusterError as error:
            return {**result, "failed": True, "msg": error.told}
        done = self._execute_module(
            "kubernetes.core.k8s",
            module_args={
                "resource_definition": items,
                "apply": True,
                "server_side_apply": {"field_manager": FIELD_MANAGER, "force_conflicts": True},
                "hidden_fields": HIDDEN,
            },
            task_vars=task_vars,
        )
        if done.get("failed"):
            return {**result, **done}
        # For one object the module returns it, for several a list.
        each = (done.get("result") or {}).get("results") or [done]
        changed = [item for item in each if item.get("changed")]
        names = [f"{item['result']['kind']} {item['result']['metadata']['name']}" for item in changed]
        diffs = [
            {**item["diff"], "before_header": name, "after_header": name}
            for name, item in zip(names, changed, strict=True)
            if item.get("diff")
        ]
        result.update(changed=bool(changed), names=names)
        if diffs:
            result["diff"] = diffs
        if warnings := done.get("warnings"):
            result["warnings"] = warnings
        return result
