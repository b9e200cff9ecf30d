# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Puts a small directory of the controller on a host: digests first, content only of what differs."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action

LIMIT_BYTES = 8 * 1024 * 1024


class ActionModule(Action):
    """`wideep.dynamo.model_directory`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given(
            {"path": {"type": "str", "required": True}, "src": {"type": "path", "required": True}}
        )
        source = Path(arguments["src"])
        content = (
            {p.name: p.read_bytes() for p in sorted(source.iterdir()) if p.is_file()}
            if source.is_dir()
            else {}
        )
        if not content:
            raise AnsibleActionFail(f"{source} on the controller has no file to copy")
        if sum(map(len, content.values())) > LIMIT_BYTES:
            raise AnsibleActionFail(
                f"{source} is larger than {LIMIT_BYTES // 1024**2} MiB: models with weights are not copied"
                " from the controller; put it on the hosts and set wideep_model_path"
            )
        module_args: dict[str, Any] = {
            "path": arguments["path"],
            "digests": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
        }
        outcome = self._execute_module(module_args=module_args, task_vars=task_vars)
        if outcome.get("missing") and not outcome.get("failed") and not self._task.check_mode:
            module_args["content"] = {
                name: base64.b64encode(content[name]).decode() for name in outcome["missing"]
            }
            outcome = self._execute_module(module_args=module_args, task_vars=task_vars)
        return {**result, **outcome}
