# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_secrets
short_description: Applies Secrets whose values appear nowhere
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Resolves the values on this machine and sends them to the API server itself. The result has names only.
extends_documentation_fragment: wideep.dynamo.cluster_secrets
attributes:
  check_mode:
    description: Lets the server say whether they would change.
    support: full
  diff_mode:
    description: Values are never shown.
    support: none
"""

EXAMPLES = r"""
- name: Apply the hub's token
  wideep.dynamo.cluster_secrets:
    hub_token: {env: HF_TOKEN}
"""

RETURN = r"""
names:
  description: Secrets that changed.
  returned: success
  type: list
generation:
  description: Another word for each content of the Secret with C(env); empty without it.
  returned: success
  type: str
"""
