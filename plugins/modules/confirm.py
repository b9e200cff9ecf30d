#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: confirm
short_description: Asks for the deployment's name before it is removed
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Refuses to go on without C(wideep_confirm), where the plan serves on more than this machine. Runs on the
    controller and contacts no host, use it with C(run_once).
options:
  text:
    description: What is going to happen, one line.
    type: str
    required: true
attributes:
  check_mode:
    description: Asks nothing, because nothing happens.
    support: full
"""

EXAMPLES = r"""
- name: Ask before anything is removed
  wideep.dynamo.confirm:
    text: it is stopped and removed
  run_once: true
"""

RETURN = r"""#"""
