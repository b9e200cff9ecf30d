#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
---
module: etcd_auth
short_description: Have etcd ask for accounts, with the passwords of the role secrets
description:
  - Makes root and Dynamo's user and turns authentication on; changes passwords that differ; turns it off.
  - The action plugin reads user and passwords from the variables of the role C(secrets). None is an argument
    of a task or in a result.
  - Run it for one member, when all are healthy.
options:
  endpoint:
    description: Client URL of a member.
    type: str
    required: true
  record:
    description:
      - File on the host, mode 0600, with the user and root's password of the last run. Without it neither can
        be changed.
    type: path
    required: true
  user:
    description: Set by the action plugin. Empty, etcd asks for no account.
    type: str
    default: ""
  password:
    description: Set by the action plugin.
    type: str
    default: ""
  root_password:
    description: Set by the action plugin.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Says what it would do.
  diff_mode:
    support: none
    description: The changes say it.
author: The wideep authors (@wideep)
version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Let etcd ask for an account
  wideep.dynamo.etcd_auth:
    endpoint: http://192.0.2.1:2379
    record: /var/lib/wideep/secrets/etcd-accounts.json
"""

RETURN = r"""
changes:
  description: What changed, or would.
  type: list
  elements: str
  returned: success
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.etcd_auth import (
    Accounts,
    EtcdError,
    recorded,
    settle,
)
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files


def main() -> None:
    module = AnsibleModule(
        {
            "endpoint": {"type": "str", "required": True},
            "record": {"type": "path", "required": True},
            "user": {"type": "str", "default": ""},
            "password": {"type": "str", "no_log": True, "default": ""},
            "root_password": {"type": "str", "no_log": True, "default": ""},
        },
        supports_check_mode=True,
    )
    user, password, root = (module.params[name] for name in ("user", "password", "root_password"))
    record = Path(module.params["record"])
    accounts = Accounts(module.params["endpoint"], check=module.check_mode)
    files = Files(module.check_mode)
    try:
        before = recorded(record)
        module.no_log_values.update(filter(None, [before.get("root")]))
        settle(accounts, files, record, before, (user, password, root))
    except EtcdError as problem:
        # Before the first run there is no etcd to ask.
        if not (module.check_mode and "no answer" in str(problem)):
            module.fail_json(str(problem))
        accounts.changes += [f"accounts of etcd: {user}"] if user else []
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or "it is damaged; remove it"
        module.fail_json(f"{record}: {reason}")
    changes = accounts.changes + files.changes
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()
