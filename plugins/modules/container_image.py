#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image
short_description: Has a container image in podman's store
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Loads the image from an archive or pulls it, where the host does not have it.
  - An image that is there costs two short podman commands, and no network.
options:
  image:
    description: The image, as C(REGISTRY/NAME@sha256:DIGEST), C(sha256:ID) or C(REGISTRY/NAME:TAG).
    type: str
    required: true
  pull:
    description:
      - V(missing) pulls an image that is not there. V(always) asks the registry for a tag each time.
      - V(never) takes only what is there or in O(archive).
    type: str
    choices: [missing, always, never]
    default: missing
  archive:
    description: File on the host, of C(podman save) or C(skopeo copy), with the image. No registry is asked.
    type: path
  auth_file:
    description: File on the host with credentials of registries, as of C(podman login). Used if it exists.
    type: path
  podman:
    description: The podman program, by name or path.
    type: str
    default: podman
attributes:
  check_mode:
    description: Can predict changes without making them, but for what a tag means to the registry.
    support: full
  diff_mode:
    description: The message says what is done.
    support: none
"""

EXAMPLES = r"""
- name: Pull the image of the runtime
  wideep.dynamo.container_image:
    image: registry.example.com/dynamo/sglang-runtime@sha256:{{ digest }}
"""

RETURN = r"""
id:
  description: ID of the image, equal wherever it came from.
  returned: when the image is there
  type: str
digest:
  description: Digest of its manifest.
  returned: when the image is there
  type: str
msg:
  description: What was done.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.container_image import ImageError, Podman, present


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "pull": {"choices": ["missing", "always", "never"], "default": "missing"},
            "archive": {"type": "path"},
            "auth_file": {"type": "path"},
            "podman": {"type": "str", "default": "podman"},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        changed, done, found = present(
            Podman(given["podman"]),
            given["image"],
            given["pull"],
            given["archive"] or "",
            given["auth_file"] or "",
            module.check_mode,
        )
    except ImageError as problem:
        module.fail_json(msg=str(problem))
    known = {"id": found.image_id, "digest": found.digest} if found else {}
    module.exit_json(changed=changed, msg=f"{given['image']}: {done}", **known)


if __name__ == "__main__":
    main()
