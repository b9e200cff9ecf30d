# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the controller's clock around module host_facts, so that clocks of hosts can be compared."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action


class ActionModule(Action):
    """`wideep.dynamo.host_facts`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        before = time.time()
        outcome = self._execute_module(task_vars=task_vars)
        after = time.time()
        if "facts" in outcome:
            outcome["facts"]["clock"].update(controller_before=before, controller_after=after)
        return {**result, **outcome}
