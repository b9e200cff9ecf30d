# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_wait
short_description: Waits for something in a cluster
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Shows how far it is. At the deadline it fails with the pods in the way, their events and last log lines.
options:
  target:
    description: What to wait for.
    type: str
    required: true
    choices: [graph, job, operator]
  name:
    description: Its name. Of V(operator) that of Helm's release, whose Deployments are all waited for.
    type: str
    default: ""
  namespace:
    description: Where it is.
    type: str
    required: true
  version:
    description: Version of the DynamoGraphDeployment's API.
    type: str
    default: v1beta1
  deadline_s:
    description: Seconds to wait.
    type: float
    required: true
  because:
    description: Do not wait. Fail with this text, and with what would be said at the deadline.
    type: str
    default: ""
attributes:
  check_mode:
    description: Does not wait.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Wait until all components are ready
  wideep.dynamo.cluster_wait:
    target: graph
    name: chat
    namespace: dynamo
    deadline_s: 3600
"""

RETURN = r"""
progress:
  description: How far it is.
  returned: success
  type: str
"""
