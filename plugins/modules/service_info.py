#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
---
module: service_info
short_description: Tell what runs of a deployment on this host, and how healthy it is
description:
  - Needs no plan. Without O(launches) it reads the C(launch.json) files under O(state_dir).
options:
  launches:
    description: The services, each in the form of C(wideep.deployment.launch.Launch.to_dict).
    type: list
    elements: dict
  names:
    description: Names of services that were configured before; without O(launches) and O(names), all of them.
    type: list
    elements: str
  log_lines:
    description: How many last log lines to return for each service.
    type: int
    default: 0
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
- name: Look at all services of the deployment
  wideep.dynamo.service_info:
    state_dir: /var/lib/wideep
  register: services
"""

RETURN = r"""
manager:
  description: The service manager that was asked.
  type: str
  returned: success
services:
  description: One entry for each service, sorted by name where no launches were given.
  type: list
  elements: dict
  returned: success
  contains:
    name: {description: Name of the service., type: str}
    component: {description: 'nats, etcd, frontend or worker.', type: str}
    state:
      description: running, starting, stopping, stopped, failed, absent, or orphaned (its manager was killed).
      type: str
    pid: {description: Main process; 0 where there is none., type: int}
    uptime_s: {description: Seconds since the main process started., type: float}
    restarts: {description: Restarts since it was last told to start; null where unknown., type: int}
    rss_bytes: {description: Resident memory of all its processes., type: int}
    digest_ok: {description: Whether it runs with exactly the launch., type: bool}
    healthy: {description: Whether it does its work; null where it is stopped or absent., type: bool}
    health_detail: {description: What was seen., type: str}
    expected: {description: What a healthy service does., type: str}
    ports: {description: 'Its listeners (purpose, address, port).', type: list, elements: dict}
    log_file: {description: Path of its log., type: str}
    log_tail: {description: The last log lines without colours., type: list, elements: str}
"""

from ansible_collections.wideep.dynamo.plugins.module_utils import launch as launches_
from ansible_collections.wideep.dynamo.plugins.module_utils.health import observe
from ansible_collections.wideep.dynamo.plugins.module_utils.service import ServiceModule
from ansible_collections.wideep.dynamo.plugins.module_utils.status import ServiceError

OPTIONS = {
    "launches": {"type": "list", "elements": "dict"},
    "names": {"type": "list", "elements": "str"},
    "log_lines": {"type": "int", "default": 0},
}


def main() -> None:
    module = ServiceModule(OPTIONS, mutually_exclusive=[["launches", "names"]])
    params = module.params
    launches = launches_.select(params["state_dir"], params["launches"], params["names"])
    module.hide(list(launches.values()))
    manager = module.manager()
    try:
        services = observe(manager, launches, params["log_lines"])
    except ServiceError as problem:
        module.fail_json(str(problem))
    module.exit_json(changed=False, services=services, manager=manager.kind)


if __name__ == "__main__":
    main()
