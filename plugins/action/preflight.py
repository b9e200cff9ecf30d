# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Judges the facts of all hosts of the play at once (documentation: plugins/modules/preflight.py)."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import verdict

try:
    from wideep.plain import plain
    from wideep.preflight import judge, read_facts, read_needs, read_settings
except ImportError as error:
    raise AnsibleError(
        f"the Python package wideep is not in Ansible's environment ({error}); run `make setup` in the"
        " checkout, or pip install wideep there"
    ) from error


class ActionModule(ActionBase):
    """`wideep.dynamo.preflight`."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
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
