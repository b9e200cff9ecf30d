# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Judges whether this run may change the deployment (documentation: plugins/modules/lock.py)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.action.ledger import run_of
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import refusal

from wideep.changes.lock import unlocked
from wideep.problems import RefusedError


class ActionModule(ControllerAction):
    """`wideep.dynamo.lock`."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given({"results": {"type": "list", "elements": "dict", "required": True}})
        if problem := unlocked(arguments["results"]):
            return refusal(result, RefusedError([problem]))
        return {**result, "changed": False, "wideep_lock": run_of(task_vars).run}
