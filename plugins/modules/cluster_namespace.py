# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_namespace
short_description: Says whether teardown may remove a namespace
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - It may where wideep made it and it holds nothing that anybody else put there. What keeps it is shown.
options:
  name:
    description: The namespace.
    type: str
    required: true
  leaving:
    description: References to what teardown removes, where it has not happened yet (check mode).
    type: list
    elements: dict
    default: []
  release:
    description: A release of Helm in it, whose objects go with the namespace.
    type: str
    default: ""
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Ask whether the namespace may go
  wideep.dynamo.cluster_namespace:
    name: dynamo
  register: __graph_namespace
"""

RETURN = r"""
remove:
  description: Whether it may be removed.
  returned: success
  type: bool
why:
  description: Why not.
  returned: success
  type: str
"""
