# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a playbook with an inventory of its own (documentation: plugins/modules/run_playbook.py)."""

from __future__ import annotations

import os
from typing import Any

from ansible.utils.display import Display
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep import runner
from wideep.problems import RefusedError

display = Display()


class ActionModule(ControllerAction):
    """`wideep.dynamo.run_playbook`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given(
            {
                "playbook": {"type": "str", "required": True},
                "inventory": {"type": "path", "required": True},
                "limit": {"type": "list", "elements": "str", "default": []},
                "variables": {"type": "dict", "default": {}},
                "pass_on": {"type": "list", "elements": "str", "default": []},
            }
        )
        mine = (task_vars or {})["hostvars"][task_vars["inventory_hostname"]]
        # Simulated hosts have the names of real ones: their facts must not get into the cache. This process
        # is the task's own, nothing else sees its environment.
        os.environ["ANSIBLE_CACHE_PLUGIN"] = "ansible.builtin.memory"
        # ansible-runner's own, where it runs the calling playbook: it would take it for the operator's.
        if os.environ.get("ANSIBLE_STDOUT_CALLBACK") == "awx_display":
            del os.environ["ANSIBLE_STDOUT_CALLBACK"]
        try:
            ran = runner.run(
                arguments["playbook"],
                arguments["inventory"],
                extra_vars=arguments["variables"]
                | {name: mine[name] for name in arguments["pass_on"] if name in mine},
                limit=",".join(arguments["limit"]) or None,
                connection_password=self._play_context.password or None,
                become_password=self._play_context.become_pass or None,
                check=self._task.check_mode,
                diff=self._task.diff,
                on_event=self._show,
            )
        except RefusedError as refused:
            return {**result, "failed": True, "msg": str(refused)}
        changed = sum(stats.changed for stats in ran.stats.values())
        found = {
            "changed": changed > 0,
            "changes": changed,
            "seconds": round(ran.duration_s, 1),
            "data": dict(ran.data),
        }
        if ran.status != "successful":
            failures = "\n".join(f"{f.host or 'input'}: {f.task}\n{f.message}" for f in ran.failures)
            return {**result, **found, "failed": True, "msg": f"{arguments['playbook']}: {failures}"}
        return {**result, **found}

    @staticmethod
    def _show(event: runner.Event) -> None:
        """Print each play as it begins; what failed is in the result."""
        if event.get("event") == "playbook_on_play_start":
            display.display(f"  {event['event_data'].get('name', '')}")
