# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Judges the facts of all hosts and fails once with one table
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Judges on the controller what M(wideep.dynamo.host_facts) gathered on the hosts of the play.
  - Run it with C(run_once). It fails once, with every finding of every host in one table.
options:
  facts:
    description: Name of the variable that holds each host's result of M(wideep.dynamo.host_facts).
    type: str
    required: true
  settings:
    description:
      - Where lines are drawn, C(python), C(venv), C(clock_warn_s), C(clock_fail_s), C(open_files).
      - What is not given has the default of role P(wideep.dynamo.preflight#role).
    type: dict
    default: {}
  verbose:
    description: Show what is well, too.
    type: bool
    default: false
attributes:
  check_mode:
    description: Judges the same.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Judge all hosts
  wideep.dynamo.preflight:
    facts: __preflight_facts
  run_once: true
"""

RETURN = r"""
table:
  description: The findings as text.
  returned: always
  type: str
report:
  description: >-
    C(hosts), C(counts) by status, C(failed), and C(checks), each with C(host), C(topic), C(status), C(seen),
    C(expected), C(remedy).
  returned: always
  type: dict
wideep_refused:
  description: Nothing was changed and nothing will be.
  returned: failure
  type: bool
"""
