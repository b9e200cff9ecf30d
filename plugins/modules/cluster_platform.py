# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_platform
short_description: Says what becomes of the platform's release
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads C(wideep_plan). Computes the values of the release as what it has and what the deployment needs, so
    that no deployment of the cluster takes anything from another one.
  - Refuses another chart than that of the deployment's release, a release that is pending, and addresses of
    NATS and etcd that do not fit.
  - With O(removing), says whether teardown may remove it, and shows why not. It may where wideep installed it
    and no other graph of the cluster needs it.
extends_documentation_fragment:
  - wideep.dynamo.platform
  - wideep.dynamo.reads_only
options:
  removing:
    description: Whether this is teardown.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Compute the release's values
  wideep.dynamo.cluster_platform:
    platform:
      namespace: dynamo-system
      release: dynamo-platform
      chart_ref: /srv/charts/dynamo-platform.tgz
  register: __platform_release
"""

RETURN = r"""
values:
  description: The values.
  returned: when not removing
  type: dict
exists:
  description: Whether the release is there.
  returned: when not removing
  type: bool
mark:
  description: The object that says that wideep installed the release.
  returned: success
  type: dict
remove:
  description: Whether it may be removed.
  returned: when removing
  type: bool
why:
  description: Why not.
  returned: when removing
  type: str
"""
