# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Builds the plan of the whole inventory, on the controller (documentation: plugins/modules/plan.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import ControllerAction
from ansible_collections.wideep.dynamo.plugins.plugin_utils.outcome import refusal

from wideep.changes import away, look
from wideep.changes.generation import generation
from wideep.deployment.build import GROUPS
from wideep.deployment.model import Generation
from wideep.inventory import tags
from wideep.inventory.settings import INVENTORY_VARIABLES, is_of_a_role, planned_variables
from wideep.plain import plain
from wideep.plan import Plan, make_plan
from wideep.problems import Problem, RefusedError, raise_errors, together
from wideep.reference.paths import collection_root
from wideep.render import render, table

COLLECTION = "wideep.dynamo."
CONNECTION_VARIABLES = ("ansible_connection", "ansible_host")


class ActionModule(ControllerAction):
    """`wideep.dynamo.plan`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self.given(
            {
                "output": {"choices": ["data", "table", "files"], "default": "data"},
                "path": {"type": "path"},
                "looks": {"type": "str"},
                "unreachable": {"type": "str", "choices": ["fail", "skip"]},
            }
        )
        if arguments["looks"]:
            return self._keeping(result, arguments, task_vars)
        if problems := self._unknown_tags(task_vars):
            return refusal(result, RefusedError(problems))
        groups = {name: plain(hosts) for name, hosts in task_vars["groups"].items()}
        try:
            plan = make_plan(groups, self._variables(groups, task_vars["hostvars"]))
        except RefusedError as refused:
            return refusal(result, refused)
        output = arguments["output"]
        if output in ("data", "files"):  # a table has them itself
            for note in together(plan.warnings):
                self._display.warning(f"{note.where}: {note.message}; {note.remedy}")
        if output == "files":
            return {**result, **self._write(plan, arguments["path"] or plan.deployment.settings.output_dir)}
        if output == "table":
            shown = {"text": table(plan), "data": plan.publish().to_dict()}
            return {**result, "changed": False, **shown}
        return {**result, "changed": False, **plan.publish().to_dict()}

    def _keeping(
        self, result: dict[str, Any], arguments: Mapping[str, Any], task_vars: Any
    ) -> dict[str, Any]:
        """Return the plan in which hosts keep what they say they have, and who has something to do."""
        before, hostvars = self.plan(task_vars), task_vars["hostvars"]
        register = arguments["looks"]
        if arguments["unreachable"]:
            own = {"unreachable": arguments["unreachable"]}
            before = replace(before, settings=before.settings.model_copy(update=own))
        asked = [host for host in task_vars["ansible_play_hosts_all"] if host in before.hosts]
        looks = look.read({host: plain(hostvars[host].get(register) or {}) for host in asked})
        after = before
        try:
            raise_errors(away.check(before, looks))
            kept = look.kept(looks)
            groups = {name: plain(hosts) for name, hosts in task_vars["groups"].items()}
            if not away.fits(before, kept):
                after = make_plan(groups, self._variables(groups, hostvars), kept).publish()
            if (made := generation(after, looks)) != Generation():
                after = make_plan(groups, self._variables(groups, hostvars), kept, made).publish()
        except RefusedError as refused:
            return refusal(result, refused)
        looks = look.judged(looks, after)
        for note in away.notes(after, looks):
            self._display.warning(f"{note.where}: {note.message}; {note.remedy}")
        after = replace(
            after,
            members=away.members(after, looks),
            frontend_url=away.frontend_url(after, looks),
            expected=away.expected(after, looks),
        )
        return {**result, "changed": False, **after.to_dict()}

    @staticmethod
    def _unknown_tags(task_vars: Mapping[str, Any]) -> list[Problem]:
        """Judge the tags of a run of our own playbooks; those of others have tags of their own."""
        own = collection_root() / "playbooks"
        run = [str(name) for name in vars(context)["CLIARGS"].get("args") or ()]
        ours = (name.startswith(COLLECTION) or Path(name).resolve().parent == own.resolve() for name in run)
        if not run or not all(ours):
            return []
        options = {"--tags": "ansible_run_tags", "--skip-tags": "ansible_skip_tags"}
        given = {option: [str(tag) for tag in task_vars.get(name, ())] for option, name in options.items()}
        return [problem for option, words in given.items() for problem in tags.unknown(words, own, option)]

    @staticmethod
    def _write(plan: Plan, path: str) -> dict[str, Any]:
        """Render below a directory of the controller."""
        if not path:
            raise AnsibleActionFail("wideep_output_dir is empty: name the directory to render into")
        directory = Path(path).expanduser()
        if (directory / ".wideep.json").exists():
            raise AnsibleActionFail(f"{directory} is a state directory: set wideep_output_dir to another one")
        before = _content(directory)
        written = render(plan, directory)
        changed = _content(directory) != before
        return {"changed": changed, "path": str(directory), "files": [str(p) for p in written]}

    def _variables(self, groups: dict[str, Any], hostvars: Any) -> dict[str, dict[str, Any]]:
        """Return the variables that the plan reads, for every host that serves in it."""
        names = {*planned_variables(), *CONNECTION_VARIABLES, *INVENTORY_VARIABLES}
        hosts = list(dict.fromkeys(h for g in GROUPS for h in groups.get(g, ())))
        found: dict[str, dict[str, Any]] = {}
        problems = []
        for host in hosts:
            variables = hostvars[host]
            found[host] = {}
            for name in variables:
                if name not in names and not is_of_a_role(name):
                    continue
                try:
                    found[host][str(name)] = self._read(hostvars, host, name) if name in names else None
                except AnsibleError as error:
                    remedy = "define what it refers to, in group_vars or with -e"
                    problems.append(Problem(str(error), f"{name} on host {host}", remedy))
        if problems:
            raise RefusedError(problems)
        return found

    @staticmethod
    def _read(hostvars: Any, host: str, name: str) -> Any:
        if name == "secrets_env":
            # Names only: the plan never has the values, and needs no password of a vault.
            raw = hostvars.raw_get(host)[name]
            if isinstance(raw, Mapping):
                return [str(key) for key in raw]
        return plain(hostvars[host][name])


def _content(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.glob("*/*/*")) if p.is_file()}
