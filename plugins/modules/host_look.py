#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_look
short_description: Tell what a host has of a deployment, and what a run would change there
description:
  - Looks at services, their files and processes, and at all that they need, in one call. What would change
    is judged by the code that changes it, as in check mode.
  - Knows the replicas that the host has, planned or not.
options:
  host:
    description: The host's name in the inventory.
    type: str
    required: true
  launches:
    description: The planned services, each in the form of C(wideep.deployment.launch.Launch.to_dict).
    type: list
    elements: dict
    required: true
  programs:
    description: The contents of programs that they call. The action fills it.
    type: list
    elements: dict
    default: []
  wanted:
    description:
      - What services need on the host beside their own files, each with one of the keys C(environment) (path
        of a virtual environment; C(lock), its lock file on the controller), C(program), C(image),
        C(packages), C(directory) (C(src) in the collection), C(model), C(download), C(accounts).
      - C(manager) names the service manager for which it is needed, all without.
    type: list
    elements: dict
    default: []
  secret_files:
    description: Names of the files of secrets that the host needs.
    type: list
    elements: str
    default: []
  nats_routes:
    description: As in M(wideep.dynamo.secret_files).
    type: list
    elements: str
    default: []
  secrets:
    description: Their contents. The action fills it.
    type: dict
    default: {}
  secrets_known:
    description: Names of all files of secrets that there can be. The action fills it.
    type: list
    elements: str
    default: []
  supervisord:
    description: As in M(wideep.dynamo.service_configure), with the four below.
    type: path
  hardening:
    description: See O(supervisord).
    type: bool
    default: true
  log_max_mb:
    description: See O(supervisord).
    type: int
    default: 50
  log_backups:
    description: See O(supervisord).
    type: int
    default: 5
extends_documentation_fragment: wideep.dynamo.service
attributes:
  check_mode:
    support: full
    description: Changes nothing anyway.
  diff_mode:
    support: none
    description: Changes nothing.
author: The wideep authors (@wideep)
version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Look at this host
  wideep.dynamo.host_look:
    host: "{{ inventory_hostname }}"
    launches: "{{ wideep_plan.hosts[inventory_hostname].launches.values() | flatten }}"
    state_dir: /var/lib/wideep
  register: __look
"""

RETURN = r"""
look:
  description: What was seen, in the form of C(wideep.changes.look.HostLook).
  type: dict
  returned: success
settled:
  description: Whether a run has nothing to do there; all is as planned, and works.
  type: bool
  returned: success
"""

from pathlib import Path
from typing import Any

from ansible_collections.wideep.dynamo.plugins.module_utils import launch as launches_
from ansible_collections.wideep.dynamo.plugins.module_utils import look, programs, secret_files, state_dir
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.model_files import inspect
from ansible_collections.wideep.dynamo.plugins.module_utils.service import ServiceModule
from ansible_collections.wideep.dynamo.plugins.module_utils.status import ServiceError

OPTIONS = {
    "host": {"type": "str", "required": True},
    "launches": {"type": "list", "elements": "dict", "required": True},
    "programs": {"type": "list", "elements": "dict", "default": []},
    "wanted": {"type": "list", "elements": "dict", "default": [], "no_log": False},
    "secret_files": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "nats_routes": {"type": "list", "elements": "str", "default": []},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "secrets_known": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "supervisord": {"type": "path"},
    "hardening": {"type": "bool", "default": True},
    "log_max_mb": {"type": "int", "default": 50},
    "log_backups": {"type": "int", "default": 5},
}


def seen(module: ServiceModule) -> dict[str, Any]:
    """Return what there is, and would change. Raises ServiceError, OSError, ValueError."""
    given, manager = module.params, module.manager()
    place = Path(given["state_dir"])
    # Of somebody else: what is there is none of ours.
    new = state_dir.present(place, given["deployment"], check=True)["changed"]
    planned = {launch["name"]: launch for launch in given["launches"]}
    secrets = Files(check=True)
    secret_files.write(secrets, place / "secrets", given["secrets"], given["secrets_known"])
    common = Files(check=True)
    common.directory(place, 0o755, keep_mode=True)
    programs.install(common, given["programs"])
    module.hide(list(launches_.select(given["state_dir"], None, None).values()))
    found = look.services(manager, given["host"], planned, common, secrets.paths)
    needed = [item for item in given["wanted"] if item.get("manager", manager.kind) == manager.kind]
    other = [f"state directory {place}: new"] if new else []
    other += ["secrets"] if secrets.changes else []
    other += [word for item in needed if "model" not in item for word in [look.wanted(item)] if word]
    models = [inspect(Path(item["model"])) for item in needed if "model" in item]
    return {**found, "other": [*other, *found["other"], *common.changes], "models": models}


def main() -> None:
    module = ServiceModule(OPTIONS)
    for item in module.params["wanted"]:
        secret = [item.get("password", ""), item.get("root_password", "")]
        module.no_log_values.update(value for value in secret if value)
    try:
        found = seen(module)
    except (ServiceError, ValueError) as problem:
        found = {"other": [str(problem)]}
    except OSError as problem:
        found = {"other": [f"{problem.filename or module.params['state_dir']}: {problem.strerror}"]}
    module.exit_json(changed=False, look=found)


if __name__ == "__main__":
    main()
