#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: judge
short_description: Fails where something is not healthy
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Ends a status with a failure where there are findings, so that who runs it need not read. Runs on the
    controller, use it with C(run_once).
options:
  findings:
    description: What is not as it should be, as M(wideep.dynamo.summary) returns it.
    type: list
    elements: str
    required: true
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Judge the status
  wideep.dynamo.judge:
    findings: "{{ __status.findings }}"
  run_once: true
"""

RETURN = r"""#"""
