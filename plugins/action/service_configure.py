# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Sends the programs that the launches call (documentation: plugins/modules/service_configure.py)."""

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action

from wideep.programs import names, program


class ActionModule(Action):
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        called = {
            file["path"]: program(file["name"])
            for launch in arguments.get("launches") or []
            for file in launch.get("programs") or []
            if file["name"] in names()
        }
        # The module judges whether they are those that the launches mean.
        arguments["programs"] = [
            {"path": path, "digest": one.digest, "content": base64.b64encode(one.content).decode()}
            for path, one in called.items()
        ]
        result: dict[str, Any] = self._execute_module(
            module_name="wideep.dynamo.service_configure", module_args=arguments, task_vars=task_vars
        )
        return result
