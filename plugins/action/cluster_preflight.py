# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Judges a cluster before anything is changed in it (documentation: plugins/modules)."""

from __future__ import annotations

from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.cluster import (
    PLATFORM,
    SECRETS,
    platform_of,
    secrets_of,
)
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import verdict

from wideep.cluster.preflight import judge


class ActionModule(ControllerAction):
    """`wideep.dynamo.cluster_preflight`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        given = self.given({**PLATFORM, **SECRETS, "verbose": {"type": "bool", "default": False}})
        report = judge(self.plan(task_vars), platform_of(given), secrets_of(given))
        outcome = verdict(result, report, verbose=given["verbose"])
        if not report.failed and (given["verbose"] or report.counts["warn"]):
            self._display.display(outcome["table"])
        return outcome
