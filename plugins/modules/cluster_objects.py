# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_objects
short_description: Compares a plan with what is in the cluster
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads C(wideep_plan). Refuses objects that are there and that wideep did not make, and a download into a
    directory that has another model.
options:
  removing:
    description: Say what teardown removes, and nothing else.
    type: bool
    default: false
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Compare the plan with what is in the cluster
  wideep.dynamo.cluster_objects:
  register: __graph_objects
"""

RETURN = r"""
model:
  description: What to apply of the volume and the download, which other deployments may share.
  returned: when not removing
  type: list
obsolete:
  description: Downloads that failed, or whose volume was replaced. They are deleted before they run again.
  returned: when not removing
  type: list
graph:
  description: What to apply when the model is there.
  returned: when not removing
  type: list
stale:
  description: What the last version had and this one has not.
  returned: when not removing
  type: list
namespace:
  description: The namespace as an object.
  returned: when not removing
  type: dict
removable:
  description: What teardown removes.
  returned: when removing
  type: list
"""
