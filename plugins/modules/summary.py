#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: summary
short_description: Puts what the hosts said into one text
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads what M(wideep.dynamo.service_info) registered on every host of the plan, and writes one text about
    all of them. Runs on the controller, use it with C(run_once).
options:
  kind:
    description:
      - V(status) of the services, V(deployed) for the end of a deployment, V(removed) for that of a removal.
    type: str
    choices: [status, deployed, removed]
    default: status
  register:
    description: Name of the registered variable.
    type: str
    required: true
  looks:
    description: The variable that M(wideep.dynamo.host_look) registered, for hosts that were not asked again.
    type: str
  verified:
    description:
      - What M(wideep.dynamo.verify_serving) returned, for O(kind=deployed). Without a text in it, the text
        says that nothing was verified.
    type: dict
  frontend:
    description: What M(ansible.builtin.uri) returned for the frontend's /health, for O(kind=status).
    type: dict
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Write the status
  wideep.dynamo.summary:
    register: __status_services
  run_once: true
"""

RETURN = r"""
text:
  description: The text.
  returned: success
  type: str
services:
  description: By host, what runs; with O(kind=status) also what is registered and not planned.
  returned: success
  type: dict
findings:
  description: What is not as it should be, a line each, for O(kind=status).
  returned: success
  type: list
  elements: str
"""
