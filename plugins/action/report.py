# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Prints a text as it is, and hands it to whoever runs the playbook (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

display = Display()


class ActionModule(ControllerAction):
    """`wideep.dynamo.report`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given({"text": {"type": "str", "required": True}, "data": {"type": "raw"}})
        display.display(arguments["text"].rstrip("\n") + "\n")
        data = {"wideep_summary": arguments["text"]}
        if arguments["data"] is not None:
            data["wideep_data"] = arguments["data"]
        stats = {"data": data, "per_host": False, "aggregate": False}
        return {**result, "changed": False, "ansible_stats": stats}
