#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
---
module: service_configure
short_description: Put services of a deployment on this host
description:
  - Creates directories and files of each launch, its C(launch.json), and its unit or program section.
  - Installs the programs that the launches call, once for all of them, from the Python package on the
    controller. Where a launch names another version of one, it is refused.
  - Starts and restarts nothing (see M(wideep.dynamo.service_state)).
  - Files that an earlier launch of the same service had and the present one has not are removed.
options:
  launches:
    description: The services, each in the form of C(wideep.deployment.launch.Launch.to_dict).
    type: list
    elements: dict
    required: true
  programs:
    description: The programs' contents. The action fills it.
    type: list
    elements: dict
    default: []
  supervisord:
    description: The C(supervisord) program; next to it lies the C(python) that starts the services.
    type: path
  hardening:
    description: Take away from systemd services what they do not need (file system, capabilities, devices).
    type: bool
    default: true
  log_max_mb:
    description: Size in MB at which a log file is rotated.
    type: int
    default: 50
  log_backups:
    description: Number of rotated log files that are kept.
    type: int
    default: 5
extends_documentation_fragment: wideep.dynamo.service
attributes:
  check_mode:
    support: full
    description: Nothing is changed in check mode.
  diff_mode:
    support: full
    description: Secret values and files that only their owner may read show as C(********).
author: The wideep authors (@wideep)
version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Configure the services of this host
  wideep.dynamo.service_configure:
    launches: "{{ service_launches }}"
    state_dir: /var/lib/wideep
    supervisord: /var/lib/wideep/venv/supervisor/bin/supervisord
"""

RETURN = r"""
changes:
  description: What was written or removed, a line each.
  type: list
  elements: str
  returned: success
manager:
  description: The service manager that was meant.
  type: str
  returned: success
"""

import os
from typing import TYPE_CHECKING

from ansible_collections.wideep.dynamo.plugins.module_utils import launch as launches_
from ansible_collections.wideep.dynamo.plugins.module_utils import programs
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.operations import configured
from ansible_collections.wideep.dynamo.plugins.module_utils.service import ServiceModule
from ansible_collections.wideep.dynamo.plugins.module_utils.status import ServiceError, resolve

if TYPE_CHECKING:
    from ansible_collections.wideep.dynamo.plugins.module_utils.launch import Launch

OPTIONS = {
    "launches": {"type": "list", "elements": "dict", "required": True},
    "programs": {"type": "list", "elements": "dict", "default": []},
    "supervisord": {"type": "path"},
    "hardening": {"type": "bool", "default": True},
    "log_max_mb": {"type": "int", "default": 50},
    "log_backups": {"type": "int", "default": 5},
}


def main() -> None:
    module = ServiceModule(OPTIONS)
    launches: list[Launch] = module.params["launches"]
    state_dir: str = module.params["state_dir"]
    kind = resolve(module.params["manager"])
    problems = launches_.problems(launches, state_dir, kind)
    if not problems:
        problems = programs.problems(launches, module.params["programs"])
    supervisord = module.params["supervisord"]
    if kind == "supervisord" and not supervisord:
        problems.append("supervisord: the path of the program is needed (service_supervisord)")
    elif kind == "supervisord" and not module.check_mode and not os.access(supervisord, os.X_OK):
        problems.append(
            f"supervisord: {supervisord} is no program; run the service role's install step first"
        )
    if problems:
        module.fail_json("; ".join(problems), problems=problems)
    files = Files(module.check_mode)
    try:
        files.directory(state_dir, 0o755, keep_mode=True)
        programs.install(files, module.params["programs"])
        for launch in launches:
            configured(files, launch, state_dir)
        module.manager().configure(files, {launch["name"]: launch for launch in launches})
    except ServiceError as problem:
        module.fail_json(str(problem))
    except OSError as problem:
        module.fail_json(f"{problem.filename or state_dir}: {problem.strerror}", changes=files.changes)
    module.exit_json(changed=bool(files.changes), changes=files.changes, diff=files.diff, manager=kind)


if __name__ == "__main__":
    main()
