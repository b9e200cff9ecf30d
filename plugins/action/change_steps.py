# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Orders what differs on hosts into steps (documentation: plugins/modules/change_steps.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import refusal

from wideep.changes.look import read
from wideep.changes.order import only, order, table
from wideep.plain import plain
from wideep.problems import RefusedError

# Tag -> the components whose services it is about.
OF = {"control": ("nats", "etcd"), "frontend": ("frontend", "load_balancer"), "worker": ("worker",)}


class ActionModule(ControllerAction):
    """`wideep.dynamo.change_steps`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given(
            {
                "register": {"type": "str", "required": True},
                "refuse": {"type": "bool", "default": True},
            }
        )
        plan, hostvars = self.plan(task_vars), task_vars["hostvars"]
        said = {host: plain(hostvars[host].get(arguments["register"]) or {}) for host in plan.hosts}
        # With --limit the others were not asked.
        looks = read({host: words for host, words in said.items() if words}, plan)
        if (chosen := _chosen(task_vars)) is not None:
            looks = only(looks, chosen)
        changes = order(plan, looks, plan.settings.restart)
        if changes.problems and arguments["refuse"]:
            return refusal(result, RefusedError(list(changes.problems)))
        asked = [host for step in changes.steps for host in step.asked]
        return {
            **result,
            "changed": False,
            "steps": [step.to_dict() for step in changes.steps],
            "hosts": list(dict.fromkeys([*changes.hosts, *asked])),
            "text": table(changes),
            "problems": [f"{each.where}: {each.message}" for each in changes.problems],
        }


def _chosen(task_vars: Mapping[str, Any]) -> set[str] | None:
    """Return the components that the run's tags leave; None for all."""
    run, skip = (set(task_vars.get(f"ansible_{name}_tags") or ()) for name in ("run", "skip"))
    if not skip and (not run or "all" in run):
        return None
    tags = OF.keys() - skip if not run or "all" in run else (OF.keys() & run) - skip
    return {component for tag in tags for component in OF[tag]}
