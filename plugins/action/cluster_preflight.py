# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Judges a cluster before anything is changed in it (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import verdict

from wideep.kubernetes.platform import Platform
from wideep.kubernetes.preflight import judge
from wideep.plain import plain
from wideep.secrets import Secrets

PLATFORM: dict[str, dict[str, Any]] = {
    **{name: {"type": "str", "default": ""} for name in Platform.__dataclass_fields__},
    **{name: {"type": "bool", "default": True} for name in ("install", "install_orchestrator")},
    "values": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):
    """`wideep.dynamo.cluster_preflight`."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                **PLATFORM,
                "hub_token": {"type": "raw", "no_log": True},
                "registries": {"type": "list", "elements": "dict", "default": [], "no_log": True},
                "env": {"type": "dict", "default": {}, "no_log": True},
                "verbose": {"type": "bool", "default": False},
            }
        )
        given = plain(arguments)
        secrets = Secrets(
            {
                "secrets_hub_token": given["hub_token"] or "",
                "secrets_registries": given["registries"],
                "secrets_env": given["env"],
            }
        )
        platform = Platform(**{name: given[name] for name in PLATFORM})
        report = judge(plain(task_vars["wideep_plan"]), platform, secrets)
        outcome = verdict(result, report, verbose=given["verbose"])
        if not report.failed and (given["verbose"] or report.counts["warn"]):
            self._display.display(outcome["table"])
        return outcome
