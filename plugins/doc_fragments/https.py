# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""How modules speak to a frontend with a certificate."""

from __future__ import annotations


class ModuleDocFragment:
    """`extends_documentation_fragment: wideep.dynamo.https`."""

    DOCUMENTATION = r"""
options:
  ca_file:
    description: File of the CA that signed the certificate of an https address. Empty for the system's.
    type: path
    default: ""
  client_certificate:
    description: File of a certificate to show at an https address. Empty for none.
    type: path
    default: ""
  client_key:
    description: File of its private key.
    type: path
    default: ""
"""
