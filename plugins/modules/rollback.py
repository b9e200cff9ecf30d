#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback
short_description: Goes back to a deployment that was recorded
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Says which record that is and what differs, then runs C(site) with it, in an inventory made of the record
    and of how the hosts are reached now. Runs on the controller, use it with C(run_once).
  - Secrets are those of the inventory as it is now.
options:
  results:
    description: What M(wideep.dynamo.ledger) returned for each control host.
    type: list
    elements: dict
    required: true
attributes:
  check_mode:
    description: Runs C(site) in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Go back
  wideep.dynamo.rollback:
    results: "{{ __rollback_read.results }}"
  run_once: true
"""

RETURN = r"""
text:
  description: What it went back to, and how that ended.
  returned: success
  type: str
record:
  description: The record, without its input.
  returned: success
  type: dict
data:
  description: What the run of C(site) published.
  returned: success
  type: dict
"""
