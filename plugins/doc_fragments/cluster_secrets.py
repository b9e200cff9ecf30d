# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""What the documentation of modules that take the Secrets of a cluster shares."""

from __future__ import annotations


class ModuleDocFragment:
    """`extends_documentation_fragment: wideep.dynamo.cluster_secrets`."""

    DOCUMENTATION = r"""
options:
  hub_token:
    description: As C(secrets_hub_token) of role C(secrets).
    type: raw
  registries:
    description: As C(secrets_registries) of role C(secrets).
    type: list
    elements: dict
    default: []
  env:
    description: As C(secrets_env) of role C(secrets).
    type: dict
    default: {}
"""
