# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Judges the facts of all hosts of the play at once (documentation: plugins/modules/preflight.py)."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

try:
    from wideep.preflight import judge, read_facts, read_needs, read_settings, render
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
        gathered = {name: _plain(task_vars["hostvars"][name].get(arguments["facts"], {})) for name in hosts}
        known = {name: outcome for name, outcome in gathered.items() if "facts" in outcome}
        report = judge(
            {name: read_needs(outcome["needs"]) for name, outcome in known.items()},
            {name: read_facts(outcome["facts"]) for name, outcome in known.items()},
            read_settings(arguments["settings"]),
            hosts,
        )
        table = render(report, verbose=arguments["verbose"])
        result.update(changed=False, report=report.to_dict(), table=table, msg=table)
        if report.failed:
            # The message says it all; what is well would only bury it.
            del result["table"]
            result["report"]["checks"] = [c for c in result["report"]["checks"] if c["status"] != "ok"]
            result.update(failed=True, wideep_refused=True, msg=f"{table}\n\nnothing was changed")
        return result


def _plain(value: Any) -> Any:
    """Return a value without Ansible's lazy containers, which only its own code reads rightly."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value
