# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Gives the module the passwords that the role `secrets` resolves (documentation: modules/etcd_auth.py)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import refusal
from ansible_collections.wideep.dynamo.plugins.plugin_utils.secrets import RESULT, resolve

from wideep.problems import RefusedError


class ActionModule(Action):
    """`wideep.dynamo.etcd_auth`."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given(
            {"endpoint": {"type": "str", "required": True}, "record": {"type": "str", "required": True}}
        )
        try:
            secrets = resolve(self._templar, task_vars)
        except RefusedError as refused:
            return refusal(result, refused)
        module = {
            **arguments,
            "user": secrets.etcd_user,
            "password": secrets.etcd_password,
            "root_password": secrets.etcd_root_password,
        }
        said = self._execute_module("wideep.dynamo.etcd_auth", module_args=module, task_vars=task_vars)
        return {**result, **{key: said[key] for key in RESULT if key in said}}
