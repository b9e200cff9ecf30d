# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Fails where something is not healthy (documentation: plugins/modules/judge.py)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction


class ActionModule(ControllerAction):
    """`wideep.dynamo.judge`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given({"findings": {"type": "list", "elements": "str", "required": True}})
        findings = arguments["findings"]
        if not findings:
            return {**result, "changed": False}
        more = f" (and {len(findings) - 1} more, above)" if len(findings) > 1 else ""
        # The command has an exit code of its own for it.
        return {**result, "failed": True, "wideep_unhealthy": True, "msg": f"{findings[0]}{more}"}
