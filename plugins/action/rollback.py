# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Goes back to a deployment that was recorded (documentation: plugins/modules/rollback.py)."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.utils.display import Display
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.inputs import connections, current, secrets
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import refusal

from wideep import runner
from wideep.changes.lock import history
from wideep.changes.record import OF_A_RUN, choose, differences, inventory_of
from wideep.problems import RefusedError

display = Display()


class ActionModule(ControllerAction):
    """`wideep.dynamo.rollback`."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given({"results": {"type": "list", "elements": "dict", "required": True}})
        plan = self.plan(task_vars)
        given = current(plan, task_vars)
        said = arguments["results"]
        records = [record for one in said for record in one.get("deployments") or ()]
        notes = history([note for one in said for note in one.get("changes") or ()], [])
        try:
            record = choose(records, notes, plan.settings.rollback_to)
            inventory = inventory_of(record["input"], connections(task_vars))
        except RefusedError as refused:
            return refusal(result, refused)
        changes = differences(given, record["input"])
        text = (
            f"back to {record['digest']} of {record['when']}, deployed by {record['who']}:"
            f" Dynamo {record['release']}, {record['engine']}, {record['model']}\n"
            + "".join(f"  {line}\n" for line in changes)
        )
        display.display(text)
        mine = task_vars["hostvars"][task_vars["inventory_hostname"]]
        own = {name: mine[name] for name in OF_A_RUN if name in mine and name != "wideep_plan"} | secrets(
            mine
        )
        # ansible-runner's own, where it runs the calling playbook: it would take it for the operator's.
        if os.environ.get("ANSIBLE_STDOUT_CALLBACK") == "awx_display":
            del os.environ["ANSIBLE_STDOUT_CALLBACK"]
        with tempfile.TemporaryDirectory(prefix="wideep-rollback-") as place:
            # It may hold passwords of connections: the directory is its owner's alone. JSON is YAML.
            path = Path(place) / "hosts.yml"
            path.write_text(json.dumps(inventory), encoding="utf-8")
            try:
                ran = runner.run(
                    "site",
                    path,
                    extra_vars=own,
                    connection_password=self._play_context.password or None,
                    become_password=self._play_context.become_pass or None,
                    check=self._task.check_mode,
                    diff=self._task.diff,
                    on_event=self._show,
                )
            except RefusedError as refused:
                return refusal(result, refused)
        about = {name: value for name, value in record.items() if name != "input"}
        found = {
            "changed": any(stats.changed for stats in ran.stats.values()),
            "record": about,
            "data": dict(ran.data),
        }
        if ran.status != "successful":
            failures = "\n".join(f"{f.host or 'input'}: {f.task}\n{f.message}" for f in ran.failures)
            return {**result, **found, "failed": True, "msg": f"site: {failures}"}
        rest = ran.data.get("wideep_summary", "")
        remind = "the inventory still says what was taken back: change it before the next site\n"
        return {**result, **found, "text": f"{rest}\n{text}{remind}"}

    @staticmethod
    def _show(event: runner.Event) -> None:
        """Print each play as it begins; what failed is in the result."""
        if event.get("event") == "playbook_on_play_start":
            display.display(f"  {event['event_data'].get('name', '')}")
