# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Resolves secrets on the controller, and sends a host its own (documentation: modules/secret_files.py)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import refusal
from ansible_collections.wideep.dynamo.plugins.plugin_utils.secrets import RESULT, resolve

from wideep.inventory.secrets import FILES
from wideep.problems import Problem, RefusedError


class ActionModule(Action):
    """`wideep.dynamo.secret_files`."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given(
            {
                "path": {"type": "str"},
                "names": {"type": "list", "elements": "str", "default": []},
                "nats_routes": {"type": "list", "elements": "str", "default": []},
                "check_only": {"type": "bool", "default": False},
            }
        )
        try:
            if arguments["check_only"]:
                self._check(task_vars)
                return {**result, "changed": False}
            secrets = resolve(self._templar, task_vars)
        except RefusedError as refused:
            return refusal(result, refused)
        contents = {name: secrets.content(name, arguments["nats_routes"]) for name in arguments["names"]}
        module = {
            "path": arguments["path"],
            "contents": {name: content for name, content in contents.items() if content},
            "known": list(FILES),
        }
        said = self._execute_module("wideep.dynamo.secret_files", module_args=module, task_vars=task_vars)
        return {**result, **{key: said[key] for key in RESULT if key in said}}

    def _check(self, task_vars: Any) -> None:
        """Resolve the secrets of all hosts of the play. Raises RefusedError, what hosts share once."""
        problems: dict[Problem, None] = {}
        for host in task_vars["ansible_play_hosts_all"]:
            try:
                resolve(self._templar, task_vars["hostvars"][host])
            except RefusedError as refused:
                problems |= dict.fromkeys(refused.problems)
        if problems:
            raise RefusedError(tuple(problems))
