# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""What the documentation of modules that change nothing shares."""

from __future__ import annotations


class ModuleDocFragment:
    """`extends_documentation_fragment: wideep.dynamo.reads_only`."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""
