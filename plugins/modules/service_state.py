#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
---
module: service_state
short_description: Start, restart, stop or remove services of a deployment on this host
description:
  - Compares what runs with what is configured, and changes only what differs.
  - Whether a restart is needed is read from the running process, so an interrupted run heals at the next one.
  - Processes of these services that no service manager owns any more (the manager was killed) are ended.
  - Programs that no launch of the host calls any more are removed, unless a worker runs that was started
    before its present launch was written. It may call them still.
options:
  launches:
    description: The services, each in the form of C(wideep.deployment.launch.Launch.to_dict).
    type: list
    elements: dict
  names:
    description: Names of services that were configured before; without O(launches) and O(names), all of them.
    type: list
    elements: str
  keep:
    description: All services that were configured before, but these.
    type: list
    elements: str
  components:
    description: Of the services that are meant, only those of these components.
    type: list
    elements: str
  at_boot:
    description:
      - With V(false), V(stopped) holds after a boot of the host, too, until V(started). Containers of Quadlet
        come back with the host all the same.
    type: bool
    default: true
  state:
    description:
      - V(started) starts what does not run and restarts what runs with another digest than the launch.
      - V(stopped) stops and waits, up to the C(stop_timeout_s) of each service.
      - V(absent) also removes unit or program, files and log rotation; data and logs stay unless O(purge).
    type: str
    default: started
    choices: [started, stopped, absent]
  purge:
    description: With V(absent), remove data and logs too.
    type: bool
    default: false
  supervisord:
    description: The C(supervisord) program, needed to start services under supervisord.
    type: path
  changing:
    description:
      - Files of environment that a run in check mode did not change and a real one would have. Services that
        read them count as changed.
    type: list
    elements: str
    default: []
  again:
    description: Names of services that V(started) restarts although nothing of them differs.
    type: list
    elements: str
    default: []
extends_documentation_fragment: wideep.dynamo.service
attributes:
  check_mode:
    support: full
    description: Says what it would do.
  diff_mode:
    support: none
    description: The actions say it.
author: The wideep authors (@wideep)
version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Start what does not run, restart what changed
  wideep.dynamo.service_state:
    launches: "{{ service_launches }}"
    state_dir: /var/lib/wideep
    supervisord: /var/lib/wideep/venv/supervisor/bin/supervisord

- name: Remove all services of the deployment with their data
  wideep.dynamo.service_state:
    state: absent
    purge: true
    state_dir: /var/lib/wideep
"""

RETURN = r"""
actions:
  description: What was done and why, by service, for the service manager itself, and for C(programs).
  type: dict
  returned: success
  sample: {"decode-0": "restarted: its configuration changed"}
healthy:
  description: Nothing had to be done for V(started), and all services work. Otherwise wait for them.
  type: bool
  returned: success
manager:
  description: The service manager that was meant.
  type: str
  returned: success
"""

from ansible_collections.wideep.dynamo.plugins.module_utils import launch as launches_
from ansible_collections.wideep.dynamo.plugins.module_utils.health import observe
from ansible_collections.wideep.dynamo.plugins.module_utils.operations import absent, started, stopped, tidied
from ansible_collections.wideep.dynamo.plugins.module_utils.service import ServiceModule
from ansible_collections.wideep.dynamo.plugins.module_utils.status import ServiceError

OPTIONS = {
    "launches": {"type": "list", "elements": "dict"},
    "names": {"type": "list", "elements": "str"},
    "keep": {"type": "list", "elements": "str"},
    "components": {"type": "list", "elements": "str"},
    "at_boot": {"type": "bool", "default": True},
    "state": {"type": "str", "default": "started", "choices": ["started", "stopped", "absent"]},
    "purge": {"type": "bool", "default": False},
    "supervisord": {"type": "path"},
    "changing": {"type": "list", "elements": "str", "default": []},
    "again": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    module = ServiceModule(OPTIONS, mutually_exclusive=[["launches", "names", "keep"]])
    params = module.params
    wanted = params["names"]
    if params["keep"] is not None:
        wanted = sorted(set(launches_.names(params["state_dir"])) - set(params["keep"]))
    launches = launches_.select(params["state_dir"], params["launches"], wanted)
    if params["components"] is not None:
        chosen = params["components"]
        launches = {name: launch for name, launch in launches.items() if launch["component"] in chosen}
    module.hide(list(launches.values()))
    manager = module.manager()
    healthy = False
    if params["keep"] is not None and not launches:
        module.exit_json(changed=False, actions={}, healthy=healthy, manager=manager.kind)
    try:
        if params["state"] == "started":
            actions = started(
                manager,
                launches,
                check=module.check_mode,
                changing=params["changing"],
                again=params["again"],
            )
            actions.update(tidied(manager, launches, started=list(actions), check=module.check_mode))
            # What was not touched may need no waiting for.
            healthy = not actions and all(row["healthy"] for row in observe(manager, launches))
        elif params["state"] == "stopped":
            actions = stopped(manager, launches, check=module.check_mode)
            if not params["at_boot"] and launches and not module.check_mode:
                manager.not_at_boot(launches)
        else:
            whole = params["launches"] is None and wanted is None
            actions = absent(manager, launches, whole=whole, purge=params["purge"], check=module.check_mode)
    except ServiceError as problem:
        module.fail_json(str(problem))
    except OSError as problem:
        module.fail_json(f"{problem.filename or params['state_dir']}: {problem.strerror}")
    module.exit_json(changed=bool(actions), actions=actions, healthy=healthy, manager=manager.kind)


if __name__ == "__main__":
    main()
