#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: lock
short_description: Judges whether this run may change the deployment
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Goes on where more than half of the control hosts gave this run the lock, with
    M(wideep.dynamo.ledger). Runs on the controller, use it with C(run_once).
options:
  results:
    description: What M(wideep.dynamo.ledger) returned for each control host.
    type: list
    elements: dict
    required: true
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Require the lock
  wideep.dynamo.lock:
    results: "{{ __lock_taken.results }}"
  run_once: true
"""

RETURN = r"""
wideep_lock:
  description: The run that has the lock.
  returned: success
  type: str
"""
