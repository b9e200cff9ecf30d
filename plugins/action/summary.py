# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Puts what the hosts said into one text (documentation: plugins/modules/summary.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction

from wideep.reports.status import removal, status_report, summary


class ActionModule(ControllerAction):
    """`wideep.dynamo.summary`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given(
            {
                "kind": {"choices": ["status", "deployed", "removed"], "default": "status"},
                "register": {"type": "str", "required": True},
                "looks": {"type": "str"},
                "verified": {"type": "dict"},
                "frontend": {"type": "dict"},
            }
        )
        plan, hostvars = self.plan(task_vars), task_vars["hostvars"]
        kind, findings = arguments["kind"], list[str]()
        found = {host: self._said(hostvars[host], arguments) for host in plan.hosts}
        key = "removed" if kind == "removed" else "services"
        answered = {host: data for host, data in found.items() if key in data}
        services = {host: data["services"] for host, data in answered.items()} if key == "services" else {}
        if kind == "removed":
            text = removal(plan, answered, check=self._task.check_mode)
        elif kind == "deployed":
            verified = arguments["verified"] or {}
            text = summary(plan, services, verified if "text" in verified else None)
        else:
            health = (arguments["frontend"] or {}).get("json")
            status = status_report(plan, services, health.get("instances", []) if health else None)
            text, services, findings = status.text, dict(status.services), list(status.findings)
        for host in sorted(found.keys() - answered.keys()):
            if kind == "status" and "ansible_limit" not in task_vars:
                findings.append(f"{host} does not answer")
            text += f"{host}: no answer in this run (unreachable, or left out by --limit)\n"
        return {**result, "changed": False, "text": text, "services": services, "findings": findings}

    @staticmethod
    def _said(variables: Mapping[str, Any], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a host said; what was seen of it before, where it was not asked again."""
        names = [name for name in (arguments["register"], arguments["looks"]) if name]
        said: Mapping[str, Any] = next((variables[name] for name in names if variables.get(name)), {})
        return {"services": said["look"]["rows"]} if "look" in said else said
