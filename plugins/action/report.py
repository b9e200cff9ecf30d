# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Prints a text as it is, and hands it to whoever runs the playbook (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):
    """`wideep.dynamo.report`."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {"text": {"type": "str", "required": True}, "data": {"type": "raw"}}
        )
        display.display(arguments["text"].rstrip("\n") + "\n")
        data = {"wideep_summary": arguments["text"]}
        if arguments["data"] is not None:
            data["wideep_data"] = arguments["data"]
        stats = {"data": data, "per_host": False, "aggregate": False}
        return {**result, "changed": False, "ansible_stats": stats}
