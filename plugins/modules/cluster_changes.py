# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_changes
short_description: Says what an apply would do to the pods of a graph
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Compares the graph of C(wideep_plan) with the one in the cluster. Changes nothing.
  - That values of C(secrets_env) are others, which starts workers again, is not seen.
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: See what would change in the cluster
  wideep.dynamo.cluster_changes:
  register: __changes_cluster
"""

RETURN = r"""
text:
  description: For people.
  returned: success
  type: str
changes:
  description:
    - What changes, each with C(component), C(before) and C(after) (replicas), C(rolls) (other pods),
      C(left) (replicas that serve meanwhile), C(how) and C(what) differs.
  returned: success
  type: list
"""
