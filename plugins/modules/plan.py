#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Builds and checks the deployment of the whole inventory
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads the inventory groups C(control), C(frontend), C(prefill), C(decode) and C(aggregated) and the
    variables of the role P(wideep.dynamo.wideep#role), checks them all at once, and returns who runs what.
  - Runs on the controller and contacts no host. Use it with C(run_once), it looks at all hosts by itself.
options:
  output:
    description:
      - V(data) returns everything that the roles need. Secrets are not in it.
      - V(table) returns a text for people, and as C(data) what V(data) returns.
      - V(files) writes what each host would get below O(path), and returns what was written only.
    type: str
    choices: [data, table, files]
    default: data
  path:
    description: Directory on the controller for O(output=files). Without it, that of C(wideep_output_dir).
    type: path
  looks:
    description: What M(wideep.dynamo.host_look) registered; hosts keep the replicas that they have.
    type: str
  unreachable:
    description: In place of C(wideep_unreachable), with O(looks).
    type: str
    choices: [fail, skip]
attributes:
  check_mode:
    description: Changes nothing on a host in any mode; V(files) writes on the controller in check mode too.
    support: full
"""

EXAMPLES = r"""
- name: Build the plan
  wideep.dynamo.plan:
  run_once: true
  register: wideep_plan
"""

RETURN = r"""
hosts:
  description: By host name, its C(address), C(launches) by component, C(needs) and more.
  returned: O(output=data)
  type: dict
expected:
  description: By pool, the Dynamo component and the number of instances that must register.
  returned: O(output=data)
  type: dict
notes:
  description: Allowed, but to be known; each with C(message), C(where), C(remedy).
  returned: O(output=data)
  type: list
  elements: dict
text:
  description: The table.
  returned: O(output=table)
  type: str
path:
  description: The directory written to.
  returned: O(output=files)
  type: str
data:
  description: What O(output=data) returns.
  returned: O(output=table)
  type: dict
files:
  description: Paths written.
  returned: O(output=files)
  type: list
  elements: str
problems:
  description: What is wrong, each with C(message), C(where), C(remedy).
  returned: failure
  type: list
  elements: dict
"""
