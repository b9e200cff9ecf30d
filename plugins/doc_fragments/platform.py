# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""What the documentation of modules that take the variables of role `platform` shares."""

from __future__ import annotations


class ModuleDocFragment:
    """`extends_documentation_fragment: wideep.dynamo.platform`."""

    DOCUMENTATION = r"""
options:
  install:
    description: Whether the role installs it.
    type: bool
    default: true
  namespace:
    description: Its namespace.
    type: str
    default: ""
  release:
    description: Its Helm release.
    type: str
    default: ""
  chart_ref:
    description: Its chart.
    type: str
    default: ""
  chart_repo_url:
    description: The chart's repository.
    type: str
    default: ""
  chart_version:
    description: The chart's version.
    type: str
    default: ""
  helm:
    description: Path of Helm.
    type: str
    default: ""
  install_orchestrator:
    description: Whether the chart installs Grove.
    type: bool
    default: true
  nats_address:
    description: Address of a NATS that is there.
    type: str
    default: ""
  etcd_address:
    description: Address of an etcd that is there.
    type: str
    default: ""
  values:
    description: Values of the chart that win over all others.
    type: dict
    default: {}
"""
