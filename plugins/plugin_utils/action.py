# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""What the action plugins begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.wideep.dynamo.plugins.plugin_utils.package import plain
from pydantic import ValidationError

from wideep.published import Published, read


class Action(ActionBase):
    """An action plugin of this collection."""

    def given(self, specification: Mapping[str, Any]) -> dict[str, Any]:
        """Return the task's arguments, checked and plain."""
        _, arguments = ActionBase.validate_argument_spec(self, specification)
        return dict(plain(arguments))

    def _execute_module(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # ansible-core 2.21 types what a module returns as objects.
        outcome: dict[str, Any] = super()._execute_module(*args, **kwargs)
        return outcome

    @staticmethod
    def plan(task_vars: Mapping[str, Any]) -> Published:
        """Return `wideep_plan`. Raises AnsibleError where there is none, or one of another version."""
        if "wideep_plan" not in task_vars:
            remedy = "include role wideep.dynamo.wideep with tasks_from: validate before this"
            raise AnsibleError(f"there is no plan (wideep_plan); {remedy}")
        try:
            return read(plain(task_vars["wideep_plan"]))
        except ValidationError as error:
            raise AnsibleError(f"wideep_plan is not a plan of this version: {error}") from error


class ControllerAction(Action):
    """One that needs no connection to a host."""

    _requires_connection = False
