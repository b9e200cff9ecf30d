# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_adopt
short_description: Takes over what others applied of a deployment
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads C(wideep_plan). Objects of the plan that are in the cluster and that wideep did not make get its
    labels, and the fields that kubectl or Helm wrote become wideep's, so that the next C(site) changes or
    removes them. Nothing else of an object changes.
  - Refuses a graph that C(site) could not change (another version of its API, another orchestrator).
attributes:
  check_mode:
    description: Shows what it would take over. Fields that kubectl wrote and the plan has not are not shown.
    support: full
  diff_mode:
    description: RV(text) has the differences.
    support: none
"""

EXAMPLES = r"""
- name: Take over what was applied by hand
  wideep.dynamo.cluster_adopt:
  register: __adopted
"""

RETURN = r"""
names:
  description: Kind and name of what was taken over.
  returned: success
  type: list
text:
  description: Every object of the plan, and what C(site) will change of those that were taken over.
  returned: success
  type: str
"""
