#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: python_packages
short_description: Compares the Python packages of an interpreter, or of an image, with those it needs
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Asks the interpreter itself, in an image with C(podman run) without network, for the versions of packages.
  - Does not fail for what is missing, only where nobody answers.
options:
  python:
    description: The interpreter, absolute. With O(image) that of the image, by name or path.
    type: str
    required: true
  wanted:
    description: By package the beginning of the version that it has to have, empty for any.
    type: dict
    required: true
  image:
    description: An image in podman's store; without it, the interpreter is the host's own.
    type: str
    default: ""
  podman:
    description: The podman program, by name or path.
    type: str
    default: podman
extends_documentation_fragment: wideep.dynamo.reads_only
"""

EXAMPLES = r"""
- name: Look whether the interpreter has Dynamo
  wideep.dynamo.python_packages:
    python: /opt/dynamo/bin/python
    wanted:
      ai-dynamo: "{{ wideep_plan.release.dynamo }}"
      deep_ep: ""
  register: packages
"""

RETURN = r"""
missing:
  description: Packages that are not there.
  returned: success
  type: list
  elements: str
other:
  description: By package the version that is there, of those that are not the wanted ones.
  returned: success
  type: dict
found:
  description: By package the version, of all that are there.
  returned: success
  type: dict
text:
  description: What is wrong, in words; empty where nothing is.
  returned: success
  type: str
  sample: sglang is 0.5.9, deep_ep is missing
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.container_image import ImageError, Podman
from ansible_collections.wideep.dynamo.plugins.module_utils.python_packages import (
    AskError,
    ask,
    ask_image,
    compare,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "str", "required": True},
            "wanted": {"type": "dict", "required": True},
            "image": {"type": "str", "default": ""},
            "podman": {"type": "str", "default": "podman"},
        },
        supports_check_mode=True,
    )
    given = module.params
    wanted = {name: str(version or "") for name, version in given["wanted"].items()}
    try:
        if given["image"]:
            found = ask_image(Podman(given["podman"]), given["image"], given["python"], wanted)
        else:
            found = ask(given["python"], wanted)
    except (AskError, ImageError) as problem:
        module.fail_json(msg=str(problem))
    missing, other = compare(wanted, found)
    said = [f"{name} is {version}" for name, version in other.items()] + [f"{n} is missing" for n in missing]
    module.exit_json(changed=False, missing=missing, other=other, found=found, text=", ".join(said))


if __name__ == "__main__":
    main()
