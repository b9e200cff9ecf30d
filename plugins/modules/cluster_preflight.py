# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_preflight
short_description: Judges a cluster before anything is changed in it
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Reads C(wideep_plan), asks the API server and Helm, and fails once with one table of all that is wrong.
extends_documentation_fragment:
  - wideep.dynamo.platform
  - wideep.dynamo.cluster_secrets
options:
  verbose:
    description: Show what is well, too.
    type: bool
    default: false
attributes:
  check_mode:
    description: Judges the same.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Judge the cluster
  wideep.dynamo.cluster_preflight:
    platform:
      chart_ref: /srv/charts/dynamo-platform.tgz
"""

RETURN = r"""
table:
  description: The findings as text.
  returned: success
  type: str
report:
  description: As of M(wideep.dynamo.preflight).
  returned: always
  type: dict
"""
