# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Writes the inventory of a rehearsal, on the controller (documentation: plugins/modules/rehearsal.py)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.wideep.dynamo.plugins.action.plan import ActionModule as PlanAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import refusal

from wideep.plain import plain
from wideep.problems import RefusedError
from wideep.rehearsal import on_hosts, rehearse, retired


def _haproxy(hosts: Mapping[str, Any]) -> str:
    """Return HAProxy on this machine: where the inventory has it on the hosts, or in its usual places."""
    named = {(own.get("wideep_load_balancer") or {}).get("binary") or "haproxy" for own in hosts.values()}
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return next(filter(None, (shutil.which(name, path=places) for name in [*sorted(named), "haproxy"])), "")


class ActionModule(PlanAction):
    """`wideep.dynamo.rehearsal`."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super(PlanAction, self).run(tmp, task_vars)
        arguments = self.given(
            {
                "path": {"type": "path", "required": True},
                "python": {"type": "path", "required": True},
                "where": {"choices": ["machine", "hosts"], "default": "machine"},
            }
        )
        directory = Path(arguments["path"]).expanduser()
        groups = {name: plain(hosts) for name, hosts in task_vars["groups"].items()}
        try:
            hosts = self._variables(groups, task_vars["hostvars"])
            if arguments["where"] == "hosts":
                variables = on_hosts(groups, hosts)
                return {**result, "changed": False, "variables": variables, "path": str(directory)}
            made = rehearse(
                groups,
                hosts,
                directory=str(directory),
                python=arguments["python"],
                haproxy=_haproxy(hosts),
            )
        except RefusedError as refused:
            return refusal(result, refused)
        path = directory / made.real.deployment.settings.deployment / "hosts.yml"
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        content = "---\n# Written by the verb rehearse: this machine simulates the hosts.\n"
        content += yaml.safe_dump(made.inventory, sort_keys=False, width=120)
        old = path.with_name("hosts.old.yml")
        gone = retired(yaml.safe_load(before) if before else {}, made.inventory)
        if gone and not self._task.check_mode:
            old.write_text(before, encoding="utf-8")
        if content != before and not self._task.check_mode:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            path.write_text(content, encoding="utf-8")
        return {
            **result,
            "changed": content != before,
            "inventory": str(path),
            "software": str(made.software),
            "retired": str(old) if gone else "",
            "retired_hosts": gone,
            "text": made.text,
        }
