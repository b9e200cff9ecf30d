#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: rehearsal
short_description: Writes the inventory of a rehearsal of this inventory
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Makes the plan of the inventory with its real engine, then an inventory with the same hosts, groups and
    replicas in which this machine simulates every host, with the mocker in place of the engine.
  - Runs on the controller and contacts no host. Use it on localhost, it looks at all hosts by itself.
options:
  path:
    description: Directory on the controller. The inventory becomes C(<path>/<deployment>/hosts.yml).
    type: path
    required: true
  python:
    description: Interpreter of the controller that runs modules on the simulated hosts.
    type: path
    required: true
  where:
    description: With V(hosts) nothing is written; the result has the extra variables with which the playbooks
      rehearse on the inventory's own hosts.
    type: str
    choices: [machine, hosts]
    default: machine
attributes:
  check_mode:
    description: Can predict changes without making them.
    support: full
"""

EXAMPLES = r"""
- name: Write the inventory of the rehearsal
  wideep.dynamo.rehearsal:
    path: "{{ wideep_rehearsal_dir }}"
    python: "{{ ansible_playbook_python }}"
"""

RETURN = r"""
inventory:
  description: The inventory file.
  returned: success
  type: str
software:
  description: Directory that has the programs of all simulated hosts.
  returned: success
  type: str
retired:
  description: The inventory of an earlier rehearsal that has hosts which this one lacks, or empty.
  returned: success
  type: str
retired_hosts:
  description: Those hosts.
  returned: success
  type: list
  elements: str
path:
  description: O(path), absolute.
  returned: with O(where=hosts)
  type: str
variables:
  description: Extra variables for the inventory's own hosts.
  returned: with O(where=hosts)
  type: dict
text:
  description: What is simulated, for people.
  returned: success
  type: str
problems:
  description: What is wrong, each with C(message), C(where), C(remedy).
  returned: failure
  type: list
  elements: dict
"""
