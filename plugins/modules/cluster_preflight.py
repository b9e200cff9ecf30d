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
    chart_ref: /srv/charts/dynamo-platform-1.4.2.tgz
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

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Documentation only: the action plugin of this name does the work."""
    AnsibleModule(argument_spec={}).fail_json(
        msg="wideep.dynamo.cluster_preflight runs on the controller only"
    )


if __name__ == "__main__":
    main()
