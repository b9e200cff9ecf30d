#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: changes
short_description: Says what runs against what is planned, and which steps lead there
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads C(wideep_plan) and what M(wideep.dynamo.host_look) said of the hosts of the play. Runs on the
    controller; use it with C(run_once).
options:
  looks:
    description: Name of the variable that M(wideep.dynamo.host_look) registered.
    type: str
    required: true
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Say what would change
  wideep.dynamo.changes:
    looks: __look
  run_once: true
"""

RETURN = r"""
text:
  description: For people.
  returned: success
  type: str
data:
  description: C(differences), each with C(host), C(service), C(what) and C(rows); C(steps); C(problems).
  returned: success
  type: dict
"""
