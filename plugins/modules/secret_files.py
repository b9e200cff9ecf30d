#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
---
module: secret_files
short_description: Put the secrets that a host needs into files that only their owner may read
description:
  - The action plugin resolves the variables of the role C(secrets) on the controller (values, their
    environment variables or files) and sends what this host needs. No value is a task's argument or in a
    result.
  - The files are mode 0600, their directory 0700, of the user whom Ansible is on the host.
options:
  path:
    description: The directory.
    type: path
  names:
    description: Files that this host needs, of those that the variables give content for.
    type: list
    elements: str
    default: []
  nats_routes:
    description: For C(nats-server.env), address and port of the cluster's other servers.
    type: list
    elements: str
    default: []
  check_only:
    description:
      - Only resolve the variables of all hosts of the play and say what is wrong with them. No host is
        contacted. Use it with C(run_once).
    type: bool
    default: false
  contents:
    description: Set by the action plugin.
    type: dict
  known:
    description: Set by the action plugin.
    type: list
    elements: str
attributes:
  check_mode:
    support: full
    description: Says what it would do.
  diff_mode:
    support: full
    description: Names files, never contents.
author: The wideep authors (@wideep)
version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Write the secrets
  wideep.dynamo.secret_files:
    path: /var/lib/wideep/secrets
    names: [etcd.env, hub-token]
"""

RETURN = r"""
changes:
  description: Files that changed, and how.
  type: list
  elements: str
  returned: success
paths:
  description: Their paths.
  type: list
  elements: str
  returned: success
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.secret_files import write


def main() -> None:
    module = AnsibleModule(
        {
            "path": {"type": "path", "required": True},
            "contents": {"type": "dict", "required": True, "no_log": True},
            "known": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    files = Files(module.check_mode)
    path = Path(module.params["path"])
    try:
        write(files, path, module.params["contents"], module.params["known"])
    except OSError as problem:
        module.fail_json(f"{problem.filename or path}: {problem.strerror}")
    module.exit_json(changed=bool(files.changes), changes=files.changes, paths=files.paths, diff=files.diff)


if __name__ == "__main__":
    main()
