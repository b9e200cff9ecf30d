# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Says what runs against what is planned, and which steps lead there (documentation: modules/changes.py)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.changes.differences import differences, table, to_dict
from wideep.changes.look import read
from wideep.changes.order import order
from wideep.changes.order import table as steps_table
from wideep.plain import plain
from wideep.problems import describe


class ActionModule(ControllerAction):
    """`wideep.dynamo.changes`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given({"looks": {"type": "str", "required": True}})
        plan, hostvars = self.plan(task_vars), task_vars["hostvars"]
        asked = [host for host in task_vars["ansible_play_hosts_all"] if host in plan.hosts]
        looks = read({host: plain(hostvars[host].get(arguments["looks"]) or {}) for host in asked}, plan)
        found, changes = differences(plan, looks), order(plan, looks, plan.settings.restart)
        text = table(found)
        if changes.steps:
            text += f"\n{steps_table(changes)}"
        if changes.problems:
            text += f"\nsite refuses this: {describe(changes.problems)}\n"
        return {
            **result,
            "changed": False,
            "text": text,
            "data": {
                "differences": to_dict(found),
                "steps": [step.to_dict() for step in changes.steps],
                "problems": [vars(problem) for problem in changes.problems],
            },
        }
