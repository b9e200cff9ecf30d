# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Puts the lists of changes of all control hosts into one (documentation: plugins/modules/history.py)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.changes.lock import history
from wideep.reports.history import history_text


class ActionModule(ControllerAction):
    """`wideep.dynamo.history`."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given({"results": {"type": "list", "elements": "dict", "required": True}})
        said = arguments["results"]
        holders = [one["holder"] for one in said if one.get("holder")]
        runs = history([note for one in said for note in one.get("changes") or ()], holders)
        away = [str(one.get("item")) for one in said if one.get("away")]
        text = history_text(self.plan(task_vars).deployment, runs, holders, away)
        return {**result, "changed": False, "text": text, "runs": runs}
