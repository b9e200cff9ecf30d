#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: model_directory
short_description: Puts a small model directory of the controller on a host
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Makes the files of O(path) equal to those of O(src), by SHA-256. Other files of the directory stay.
  - For tokenizer and config only, at most 8 MiB; never for weights.
options:
  path:
    description: Directory on the host.
    type: str
    required: true
  src:
    description: Directory on the controller.
    type: path
  digests:
    description: Set by the action plugin.
    type: dict
  content:
    description: Set by the action plugin.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Can predict changes without making them.
    support: full
  diff_mode:
    description: Lists the files that differ.
    support: full
"""

EXAMPLES = r"""
- name: Put the rehearsal model on the host
  wideep.dynamo.model_directory:
    path: /var/lib/wideep/model/rehearsal
    src: "{{ role_path }}/../../configs/models/rehearsal"
"""

RETURN = r"""
missing:
  description: Files that are absent or differ.
  returned: always
  type: list
  elements: str
"""

import base64
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.model_files import differing


def main() -> None:
    """Compare, then write what was sent."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "src": {"type": "path"},
            "digests": {"type": "dict"},
            "content": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    path, digests, content = (module.params[name] for name in ("path", "digests", "content"))
    try:
        missing = differing(path, digests)
        if content and not module.check_mode:
            os.makedirs(path, mode=0o755, exist_ok=True)  # noqa: PTH103
            for name in sorted(set(missing) & set(content)):
                data = base64.b64decode(content[name])
                handle, temporary = tempfile.mkstemp(dir=path)
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.chmod(temporary, 0o644)  # noqa: PTH101
                os.replace(temporary, os.path.join(path, name))  # noqa: PTH105, PTH118
    except OSError as error:
        module.fail_json(
            msg=f"cannot write the model directory {path}: {error}; check its owner and the free disk"
        )
    listing = "".join(f"{name}\n" for name in missing)
    module.exit_json(
        changed=bool(missing), missing=missing, diff={"before": "", "after": listing} if missing else {}
    )


if __name__ == "__main__":
    main()
