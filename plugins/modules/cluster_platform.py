# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_platform
short_description: Says whether teardown may remove the platform
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - It may where wideep made its namespace and no other graph of the cluster needs it.
options:
  namespace:
    description: The platform's namespace.
    type: str
    required: true
  version:
    description: Version of the DynamoGraphDeployment's API.
    type: str
    required: true
  deployment:
    description: The graph that teardown removes.
    type: str
    required: true
  in_namespace:
    description: The graph's namespace.
    type: str
    required: true
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Ask whether the platform is ours
  wideep.dynamo.cluster_platform:
    namespace: dynamo-system
    version: v1alpha1
    deployment: chat
    in_namespace: dynamo
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

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Documentation only: the action plugin of this name does the work."""
    AnsibleModule(argument_spec={}).fail_json(
        msg="wideep.dynamo.cluster_platform runs on the controller only"
    )


if __name__ == "__main__":
    main()
