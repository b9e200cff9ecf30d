#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Prints a text for people at the end of a playbook
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Prints O(text) as it is, without quoting, and publishes it as the custom statistic C(wideep_summary), with
    O(data) as C(wideep_data), for programs that run the playbook.
options:
  text:
    description: What to print.
    type: str
    required: true
  data:
    description: The same for programs.
    type: raw
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Show the plan
  wideep.dynamo.report:
    text: "{{ __plan.text }}"
  run_once: true
"""

RETURN = r"""#"""
