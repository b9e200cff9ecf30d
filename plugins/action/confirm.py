# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Asks for the deployment's name before it is removed (documentation: plugins/modules/confirm.py)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import refusal

from wideep.problems import RefusedError
from wideep.reports.confirm import question, unconfirmed


class ActionModule(ControllerAction):
    """`wideep.dynamo.confirm`."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given({"text": {"type": "str", "required": True}})
        plan = self.plan(task_vars)
        what = plan, arguments["text"], task_vars.get("ansible_play_hosts_all")
        problem = None if self._task.check_mode else unconfirmed(*what)
        if problem is None:
            return {**result, "changed": False}
        # The command asks on its terminal, and runs again with the answer.
        asked = {"name": plan.deployment, "question": question(*what)}
        return {**refusal(result, RefusedError([problem])), "wideep_confirm": asked}
