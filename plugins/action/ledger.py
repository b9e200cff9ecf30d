# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Says who the run is, waits for others, takes over what is left of killed ones (modules/ledger.py)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action
from ansible_collections.wideep.dynamo.plugins.plugin_utils.inputs import current
from ansible_collections.wideep.dynamo.plugins.plugin_utils.waiting import Clock, wait

from wideep.changes.lock import Run, age_s, describe, gone, now, refusal, this_run
from wideep.changes.record import digest
from wideep.published import Published

POLL_S = 2.0
display = Display()


def run_of(task_vars: Any) -> Run:
    """Return this run: the process that made the worker which runs this task."""
    words = vars(context)["CLIARGS"].get("args") or ()
    name = str(words[0]) if words else ""
    verb = Path(name).stem if name.endswith((".yml", ".yaml")) else name.rpartition(".")[2]
    return this_run(os.getppid(), verb, str(task_vars.get("ansible_limit", "")))


def told(task_vars: Any) -> dict[str, Any]:
    """Return how a run ended that came to its end."""
    failed = sorted({*task_vars["ansible_play_hosts_all"]} - {*task_vars["ansible_play_hosts"]})
    age, hostvars = age_s(os.getppid()), task_vars["hostvars"]
    started = {
        f"{row['name']} on {host}"
        for host in task_vars["groups"]["all"]
        for row in (hostvars[host].get("__verify_services") or {}).get("services") or ()
        if row["pid"] and row["uptime_s"] < age
    }
    return {
        "outcome": f"failed on {', '.join(failed)}" if failed else "done",
        "ended": now(),
        "changed": sorted(started),
    }


def record(plan: Published, mine: Run, task_vars: Any) -> dict[str, Any]:
    """Return what is kept of a deployment that was verified."""
    given = current(plan, task_vars)
    about = {"release": plan.release.dynamo, "engine": plan.engine, "model": plan.settings.model}
    return {"digest": digest(given), "when": now(), "run": mine.run, "who": mine.who, **about, "input": given}


class ActionModule(Action):
    """`wideep.dynamo.ledger`."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        mine = run_of(task_vars)

        def ask(**more: Any) -> dict[str, Any]:
            try:
                return self._execute_module(
                    "wideep.dynamo.ledger", module_args={**arguments, **more}, task_vars=task_vars
                )
            except AnsibleConnectionFailure as error:
                # One that is away does not stop the others: more than half of them are enough.
                return {"changed": False, "away": str(error)}

        if arguments.get("state") != "taken":
            if arguments.get("state") == "recorded":
                return {**result, **ask(record=record(self.plan(task_vars), mine, task_vars))}
            end = arguments.get("told") or told(task_vars)
            return {**result, **ask(run=arguments.get("run") or mine.run, told=end)}
        force, wait_s = (
            str(arguments.get("force", "")).lower() in {"true", "yes"},
            float(arguments.get("wait_s", 0)),
        )
        own = mine.to_dict()

        def look(clock: Clock) -> dict[str, Any] | str:
            said = ask(mine=own)
            if said.get("taken", True):  # or failed
                return said
            holder = said["holder"]
            if force or gone(holder):
                why = "wideep_lock is take" if force else "its process is gone, so it was killed or failed"
                display.display(f"the lock of {describe(holder)} is taken over: {why}")
                return ask(mine=own, over=holder.get("run", ""))
            if clock.waited >= wait_s:
                return {**said, "why": refusal(holder, clock.waited)}
            return f"waiting for the end of {describe(holder)}; {clock.waited:.0f} s of {wait_s:.0f} s"

        return {**result, **wait(look, POLL_S)}
