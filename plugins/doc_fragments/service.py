# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""What the documentation of the service modules shares."""

from __future__ import annotations


class ModuleDocFragment:
    """`extends_documentation_fragment: wideep.dynamo.service`."""

    DOCUMENTATION = r"""
options:
  state_dir:
    description: Directory of the deployment on the host, absolute.
    type: path
    required: true
  deployment:
    description: Name of the deployment; systemd units are named C(<deployment>-<service>.service).
    type: str
    default: wideep
  manager:
    description:
      - What runs the services.
      - V(auto) is systemd where it is PID 1 and the module runs as root, else supervisord.
    type: str
    default: auto
    choices: [auto, systemd, supervisord]
"""
