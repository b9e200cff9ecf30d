# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_crds
short_description: Applies CRDs of the platform's chart that Helm leaves out of an upgrade
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Helm makes the CRDs of a chart's folders C(crds) when it installs a release, and never again. What is
    turned on later (Grove, the KAI scheduler) would come without them, and its operator would not start.
  - Applies those that the cluster lacks, and those that were applied like this before, on the server's side,
    and waits until they are served.
extends_documentation_fragment: wideep.dynamo.platform
options:
  values:
    description: The values of the release, as M(wideep.dynamo.cluster_platform) returns them.
    type: dict
    required: true
attributes:
  check_mode:
    description: Lets the server say whether they would change.
    support: full
  diff_mode:
    description: They are long, and say nothing to a person.
    support: none
"""

EXAMPLES = r"""
- name: Apply the CRDs that Helm leaves out
  wideep.dynamo.cluster_crds:
    platform: "{{ _platform_own }}"
    values: "{{ __platform_release['values'] }}"
"""

RETURN = r"""
names:
  description: CRDs that changed.
  returned: success
  type: list
"""
