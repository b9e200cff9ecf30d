#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger
short_description: Says on a control host who changes the deployment, and who did
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Keeps the lock of a deployment (C(lock) in its state directory) and the list of its changes
    (C(log/changes.jsonl)). The action fills in who the run is.
  - A run of the same controller whose process is gone loses its lock to the next one, which says so.
options:
  path:
    description: State directory of the deployment on this host.
    type: str
    required: true
  deployment:
    description: Name of the deployment.
    type: str
    required: true
  state:
    description:
      - V(taken) takes the lock; where another run has it, C(taken) is false and C(why) says who. V(released)
        gives it back and notes how the run ended. V(recorded) keeps the input of a verified deployment.
        V(read) returns the last changes, what is recorded and who has the lock.
    type: str
    choices: [taken, released, recorded, read]
    required: true
  wait_s:
    description: Seconds to wait for another run's end, with O(state=taken).
    type: int
    default: 0
  force:
    description: Take the lock whoever has it, with O(state=taken).
    type: bool
    default: false
  told:
    description: How the run ended, for the list of changes, with O(state=released).
    type: dict
  keep:
    description: How many deployments are kept, with O(state=recorded).
    type: int
    default: 3
  record:
    description: The input. The action fills it.
    type: dict
  run:
    description: The run whose lock is given back; by default this one. The action fills it.
    type: str
    default: ""
  mine:
    description: What the lock says of this run. The action fills it.
    type: dict
  over:
    description: A run whose lock is taken over. The action fills it.
    type: str
    default: ""
  make:
    description: Make the state directory where there is none. Without it there is nothing to lock.
    type: bool
    default: true
  most:
    description: How many notes are returned at most, with O(state=read).
    type: int
    default: 200
attributes:
  check_mode:
    description: Takes and releases nothing in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Take the lock
  wideep.dynamo.ledger:
    path: /var/lib/wideep
    deployment: wideep
    state: taken
  register: __lock
"""

RETURN = r"""
away:
  description: Why the host could not be asked.
  returned: it could not
  type: str
taken:
  description: Whether this run has the lock now.
  returned: state is taken
  type: bool
why:
  description: Who has it, and what to do.
  returned: state is taken, and it was not
  type: str
holder:
  description: Who has the lock, or had it before.
  returned: state is taken or read
  type: dict
fresh:
  description: Whether another deployment was recorded last.
  returned: state is recorded
  type: bool
deployments:
  description: What is recorded, the oldest first.
  returned: state is read
  type: list
  elements: dict
changes:
  description: The notes, the oldest first.
  returned: state is read
  type: list
  elements: dict
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils import ledger
from ansible_collections.wideep.dynamo.plugins.module_utils.state_dir import present


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "deployment": {"type": "str", "required": True},
            "state": {"choices": ["taken", "released", "recorded", "read"], "required": True},
            "wait_s": {"type": "int", "default": 0},
            "force": {"type": "bool", "default": False},
            "told": {"type": "dict"},
            "run": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 3},
            "record": {"type": "dict"},
            "mine": {"type": "dict"},
            "over": {"type": "str", "default": ""},
            "make": {"type": "bool", "default": True},
            "most": {"type": "int", "default": 200},
        },
        supports_check_mode=True,
    )
    given, state = module.params, Path(module.params["path"])
    try:
        if given["state"] == "read":
            module.exit_json(
                changed=False,
                holder=ledger.holder(state),
                changes=ledger.changes(state, given["most"]),
                deployments=ledger.records(state),
            )
        if module.check_mode:
            module.exit_json(changed=False, taken=True, holder=ledger.holder(state))
        if given["state"] == "recorded":
            fresh = ledger.record(state, given["record"], given["keep"])
            module.exit_json(changed=False, fresh=fresh)
        if given["state"] == "released":
            module.exit_json(changed=False, released=ledger.release(state, given["run"], given["told"]))
        if not given["make"] and not state.exists():
            module.exit_json(changed=False, taken=True, holder=None)
        present(state, given["deployment"], check=False)
        module.exit_json(changed=False, **ledger.take(state, given["mine"], given["over"]))
    except ValueError as refused:
        module.fail_json(msg=str(refused))
    except OSError as error:
        module.fail_json(
            msg=f"cannot write below {state} as user {os.geteuid()}: {error};"
            " set wideep_state_dir to a directory that the user may write, or fix its owner"
        )


if __name__ == "__main__":
    main()
