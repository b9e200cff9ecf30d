# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_status
short_description: Says what a deployment has in a cluster and how it is
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads C(wideep_plan).
options:
  verified:
    description: As M(wideep.dynamo.verify_serving) returns it, for the text.
    type: dict
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Ask what runs in the cluster
  wideep.dynamo.cluster_status:
  register: __status_cluster
"""

RETURN = r"""
text:
  description: For people.
  returned: success
  type: str
ready:
  description: Whether all pods of the present version are there and ready, and no others.
  returned: success
  type: bool
progress:
  description: How far it is, in one line.
  returned: success
  type: str
services:
  description: Its pods, each with C(pod), C(node), C(state) and C(restarts).
  returned: success
  type: list
"""
