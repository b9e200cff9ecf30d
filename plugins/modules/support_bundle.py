#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: support_bundle
short_description: Packs what a host has of a deployment for somebody who is to help
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Logs (rotated ones, too, of each the end), launches and files of services, packages of environments, facts
    of the system. Values of the host's own secrets, and what looks like a secret or a prompt, are replaced by
    C(***).
options:
  state_dir:
    description: Directory of the deployment on the host.
    type: path
    required: true
  path:
    description: The archive to write, for its owner only.
    type: path
    required: true
  limit_mb:
    description: Size of all texts before they are compressed; the oldest logs are left out.
    type: int
    default: 20
attributes:
  check_mode:
    description: Writes nothing.
    support: full
  diff_mode:
    description: There is none.
    support: none
"""

EXAMPLES = r"""
- name: Pack logs and launches
  wideep.dynamo.support_bundle:
    state_dir: /var/lib/wideep
    path: /tmp/wideep-bundle.tar.gz
"""

RETURN = r"""
files:
  description: Names of what is in it.
  returned: success
  type: list
  elements: str
left_out:
  description: Names of what did not fit.
  returned: success
  type: list
  elements: str
"""

import io
import os
import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.support_bundle import collect


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "required": True},
            "path": {"type": "path", "required": True},
            "limit_mb": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    found, left = collect(Path(module.params["state_dir"]), module.params["limit_mb"] * 1024 * 1024)
    if not module.check_mode:
        descriptor = os.open(module.params["path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in found.items():
                data = text.encode()
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    module.exit_json(changed=False, files=sorted(found), left_out=left)


if __name__ == "__main__":
    main()
