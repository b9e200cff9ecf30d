# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Repeats the module's short waits, says what it waits for, and explains a failure."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action
from ansible_collections.wideep.dynamo.plugins.plugin_utils.waiting import Clock, wait

from wideep.reports.diagnosis import CRASH_LOOP, failure_message, progress_line

SLICE_S = 5.0
LOG_LINES = 200  # to look for causes in; the message shows the last of them


class ActionModule(Action):
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        host = task_vars["inventory_hostname"]
        deadlines = {x["name"]: x["health"]["deadline_s"] for x in arguments.get("launches") or []}
        pending = list(deadlines)

        def ask(slice_s: float, log_lines: int) -> dict[str, Any]:
            arguments.update(slice_s=slice_s, log_lines=log_lines, crash_loop=CRASH_LOOP)
            return self._execute_module(
                module_name="wideep.dynamo.service_wait", module_args=arguments, task_vars=task_vars
            )

        def look(clock: Clock) -> dict[str, Any] | str:
            nearest = min((deadlines[name] for name in pending), default=0)
            result = ask(clock.slice(SLICE_S, nearest), 1)
            if result.get("healthy", True):  # or failed without an answer
                return result
            waited, arguments["baseline"] = clock.waited, result["baseline"]
            late = [x for x in result["services"] if not x["healthy"]]
            pending[:] = [x["name"] for x in late]
            if not any(x["exits"] >= CRASH_LOOP or waited >= deadlines[x["name"]] for x in late):
                return progress_line(host, result["services"], waited, deadlines)
            result = ask(0.0, LOG_LINES)
            if result.get("healthy", True):
                return result  # it came up in this very moment
            # Between two ends it runs for a moment, which takes none of them back.
            ends = {x["name"]: x["exits"] for x in late}
            for service in result["services"]:
                service["exits"] = max(service["exits"], ends.get(service["name"], 0))
            # Without the services themselves: the message says all that matters, once.
            return {"failed": True, "msg": failure_message(host, result["services"], waited, deadlines)}

        return wait(look)
