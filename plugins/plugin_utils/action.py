# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""What the action plugins begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.wideep.dynamo.plugins.plugin_utils.package import plain


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


class ControllerAction(Action):
    """One that needs no connection to a host."""

    _requires_connection = False
