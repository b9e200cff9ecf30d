# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_objects
short_description: Compares a plan with what is in the cluster
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads C(wideep_plan). Refuses objects that are there and that wideep did not make.
options: {}
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Compare the plan with what is in the cluster
  wideep.dynamo.cluster_objects:
  register: __graph_objects
"""

RETURN = r"""
wanted:
  description: What to apply, with our labels.
  returned: success
  type: list
stale:
  description: What the last version had and this one has not.
  returned: success
  type: list
removable:
  description: What teardown removes.
  returned: success
  type: list
namespace:
  description: The namespace as an object.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Documentation only: the action plugin of this name does the work."""
    AnsibleModule(argument_spec={}).fail_json(msg="wideep.dynamo.cluster_objects runs on the controller only")


if __name__ == "__main__":
    main()
