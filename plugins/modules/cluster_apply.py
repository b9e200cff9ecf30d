# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_apply
short_description: Applies objects on the API server's side and shows what differs
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Calls M(kubernetes.core.k8s) once for all objects, with the field manager C(wideep).
options:
  objects:
    description: Manifests.
    type: list
    elements: dict
    required: true
  generation:
    description: As M(wideep.dynamo.cluster_secrets) returns it. Workers with another one start again.
    type: str
    default: ""
  judged:
    description:
      - Whether the server can say in check mode what it would do. It can not where the namespace or kind is
        missing, or where something of that name is to be deleted first. Then all of it is shown as new.
    type: bool
    default: true
attributes:
  check_mode:
    description: Lets the server say what would change.
    support: full
  diff_mode:
    description: Shows the fields of each object that differ.
    support: full
"""

EXAMPLES = r"""
- name: Apply the graph
  wideep.dynamo.cluster_apply:
    objects: "{{ __graph_objects.wanted }}"
"""

RETURN = r"""
names:
  description: Kind and name of what changed.
  returned: success
  type: list
"""
