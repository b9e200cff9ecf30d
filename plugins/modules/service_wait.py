#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
---
module: service_wait
short_description: Wait until services of a deployment are healthy on this host
description:
  - The module waits for a few seconds only. Its action plugin repeats it until all is healthy,
    says every few seconds what it waits for, and fails with the end of the log and the likely cause.
  - Fails when a service is not healthy within the deadline of its launch's C(health), counted from the wait's
    begin, or as soon as a service has ended three times since then.
options:
  launches:
    description: The services, each in the form of C(wideep.deployment.launch.Launch.to_dict).
    type: list
    elements: dict
    required: true
  slice_s:
    description: Longest time in seconds that one call on the host takes.
    type: float
    default: 5
  baseline:
    description: Restarts of each service when the wait began; set by the action plugin.
    type: dict
  crash_loop:
    description: Ends of a service after which waiting is of no use; set by the action plugin. V(0) is never.
    type: int
    default: 0
  log_lines:
    description: Log lines returned for services that are not healthy; set by the action plugin.
    type: int
    default: 1
extends_documentation_fragment: wideep.dynamo.service
attributes:
  check_mode:
    support: full
    description: Waits for nothing.
  diff_mode:
    support: none
    description: Changes nothing.
author: The wideep authors (@wideep)
version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Wait until the services of this host work
  wideep.dynamo.service_wait:
    launches: "{{ service_launches }}"
    state_dir: /var/lib/wideep
"""

RETURN = r"""
services:
  description: As of M(wideep.dynamo.service_info), for each launch, and C(exits) since the wait began.
  type: list
  elements: dict
  returned: always
healthy:
  description: Whether all are.
  type: bool
  returned: always
"""

import math
import time

from ansible_collections.wideep.dynamo.plugins.module_utils import launch as launches_
from ansible_collections.wideep.dynamo.plugins.module_utils.health import observe
from ansible_collections.wideep.dynamo.plugins.module_utils.logs import tail
from ansible_collections.wideep.dynamo.plugins.module_utils.service import ServiceModule
from ansible_collections.wideep.dynamo.plugins.module_utils.status import ServiceError

OPTIONS = {
    "launches": {"type": "list", "elements": "dict", "required": True},
    "slice_s": {"type": "float", "default": 5},
    "baseline": {"type": "dict"},
    "crash_loop": {"type": "int", "default": 0},
    "log_lines": {"type": "int", "default": 1},
}
POLL_S = 0.2


def main() -> None:
    module = ServiceModule(OPTIONS)
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False, healthy=True, services=[], baseline={})
    manager = module.manager()
    launches = launches_.select(params["state_dir"], params["launches"], None)
    until = time.monotonic() + params["slice_s"]
    baseline = params["baseline"] or {}
    try:
        while True:
            services = observe(manager, launches)
            for service in services:
                seen = service["restarts"] or 0
                # A deliberate start sets the count back to nought.
                begin = baseline[service["name"]] = min(int(baseline.get(service["name"], seen)), seen)
                # A service that is down now has ended once more than it was started again.
                service["exits"] = seen - begin + (service["state"] == "failed")
            pending = [service for service in services if not service["healthy"]]
            often = params["crash_loop"] or math.inf
            crashed = any(service["exits"] >= often for service in pending)
            if not pending or crashed or time.monotonic() + POLL_S > until:
                break
            time.sleep(POLL_S)
    except ServiceError as problem:
        module.fail_json(str(problem))
    for service in pending:
        service["log_tail"] = tail(service["log_file"], params["log_lines"])
    module.exit_json(changed=False, healthy=not pending, services=services, baseline=baseline)


if __name__ == "__main__":
    main()
