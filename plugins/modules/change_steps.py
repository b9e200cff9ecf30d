#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: change_steps
short_description: Orders what differs on hosts into steps
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads what M(wideep.dynamo.host_look) registered on every host of the plan, and returns the steps that
    lead to what is planned. Runs on the controller, use it with C(run_once).
  - Tags of the run leave out services, C(control), C(frontend) and C(worker).
  - Refuses what would leave nobody who answers, where C(wideep_rollout) does not allow it.
options:
  register:
    description: Name of the registered variable.
    type: str
    required: true
  refuse:
    description: Fail where there is a problem. V(false) returns it only.
    type: bool
    default: true
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Order the steps
  wideep.dynamo.change_steps:
    register: __look
  run_once: true
  register: __steps
"""

RETURN = r"""
steps:
  description: Each in the form of C(wideep.changes.order.Step).
  returned: success
  type: list
  elements: dict
hosts:
  description: Those that have a part in a step, and those that are asked afterwards.
  returned: success
  type: list
  elements: str
text:
  description: The steps for people.
  returned: success
  type: str
problems:
  description: Why the steps may not be taken, in words.
  returned: success
  type: list
  elements: str
"""
