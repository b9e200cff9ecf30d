#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: run_playbook
short_description: Runs a playbook of the collection with another inventory
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Runs C(ansible-playbook) on the controller, with no inventory but O(inventory), and prints its plays as
    they begin. So the run knows none of the hosts, variables and connections of the calling playbook.
  - Facts of the run are not cached. Check and diff mode of the calling task are passed on.
options:
  playbook:
    description: Name of a playbook of the collection, such as V(site).
    type: str
    required: true
  inventory:
    description: Inventory file or directory.
    type: path
    required: true
  limit:
    description: The hosts of it that the run is for; unset, all.
    type: list
    elements: str
    default: []
  variables:
    description: Extra variables of the run.
    type: dict
    default: {}
  pass_on:
    description:
      - Names of variables that the run gets as extra variables, with the values that they have on this host.
        The values travel in a file that is removed at the end, and are in no output.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: The run is in check mode, too.
    support: full
"""

EXAMPLES = r"""
- name: Run the rehearsal
  wideep.dynamo.run_playbook:
    playbook: site
    inventory: "{{ __rehearsal.inventory }}"
"""

RETURN = r"""
data:
  description: What the run published with C(ansible.builtin.set_stats) or M(wideep.dynamo.report).
  returned: always
  type: dict
changes:
  description: Number of tasks that changed something, over all hosts.
  returned: always
  type: int
seconds:
  description: How long it took.
  returned: always
  type: float
"""
