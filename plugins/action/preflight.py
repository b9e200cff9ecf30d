# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Judges the facts of all hosts of the play at once (documentation: plugins/modules/preflight.py)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import verdict

from wideep.plain import plain
from wideep.preflight import judge, read_facts, read_needs, read_settings


class ActionModule(ControllerAction):
    """`wideep.dynamo.preflight`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given(
            {
                "facts": {"type": "str", "required": True},
                "settings": {"type": "dict", "default": {}},
                "verbose": {"type": "bool", "default": False},
            }
        )
        hosts = task_vars["ansible_play_hosts_all"]
        gathered = {name: plain(task_vars["hostvars"][name].get(arguments["facts"], {})) for name in hosts}
        known = {name: outcome for name, outcome in gathered.items() if "facts" in outcome}
        report = judge(
            {name: read_needs(outcome["needs"]) for name, outcome in known.items()},
            {name: read_facts(outcome["facts"]) for name, outcome in known.items()},
            read_settings(arguments["settings"]),
            hosts,
        )
        return verdict(result, report, verbose=arguments["verbose"])
