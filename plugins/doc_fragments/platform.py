# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""What the documentation of modules that take the variables of role `platform` shares."""

from __future__ import annotations


class ModuleDocFragment:
    """`extends_documentation_fragment: wideep.dynamo.platform`."""

    DOCUMENTATION = r"""
options:
  platform:
    description: The variables of role P(wideep.dynamo.platform#role), by their names without C(platform_).
    type: dict
    required: true
"""
