#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: history
short_description: Puts the lists of changes of all control hosts into one
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads what M(wideep.dynamo.ledger) returned of every control host. Runs on the controller, use it with
    C(run_once).
options:
  results:
    description: What it returned, for each.
    type: list
    elements: dict
    required: true
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Write the history
  wideep.dynamo.history:
    results: "{{ __history_read.results }}"
  run_once: true
"""

RETURN = r"""
text:
  description: A line for each run, the oldest first, and who changes it now.
  returned: success
  type: str
runs:
  description: The same for programs.
  returned: success
  type: list
  elements: dict
"""
