#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: python_env
short_description: Makes a virtual environment from a lock file with hashes
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Makes the virtual environment O(path) equal to a lock file, with uv of a pinned version.
  - Every file is checked against the lock file's hashes before anything is installed.
  - An environment that is up to date costs reading one small file.
  - An interrupted installation heals on the next run.
  - A directory that this module did not make is refused, never touched.
options:
  path:
    description: Absolute path of the environment. uv is installed beside it where the host has none.
    type: path
    required: true
  state:
    description: Whether the environment shall exist.
    type: str
    choices: [present, absent]
    default: present
  requirements:
    description: Text of the lock file, with hashes. Required for O(state=present).
    type: str
  uv_requirements:
    description:
      - Text of the lock file that pins uv, such as C(requirements/bootstrap.lock).
      - uv of exactly this version is used where the host has it. Without this option any uv on PATH is used.
    type: str
    default: ""
  python:
    description: Interpreter to make it with, or V(auto) for the newest Python 3.11 to 3.13 of the host.
    type: str
    default: auto
  imports:
    description: Modules that must import before the environment counts as finished.
    type: list
    elements: str
    default: []
  compile:
    description:
      - Write bytecode at the installation, for processes of a user who cannot write here and would compile
        every module at every start. An environment that is there stays as it is.
    type: bool
    default: false
  find_links:
    description: Directories of the host, or pages, with wheels.
    type: list
    elements: str
    default: []
  offline:
    description: Ask no package index, only O(find_links).
    type: bool
    default: false
  index_url:
    description: Package index. Without it the host's C(UV_DEFAULT_INDEX), C(PIP_INDEX_URL) or pypi.org.
    type: str
    default: ""
attributes:
  check_mode:
    description: Can predict changes without making them.
    support: full
  diff_mode:
    description: Shows the packages before and after.
    support: full
"""

EXAMPLES = r"""
- name: Install the Dynamo runtime
  wideep.dynamo.python_env:
    path: /opt/wideep/venv/ai-dynamo
    requirements: "{{ lookup('ansible.builtin.file', 'ai-dynamo.lock') }}"
    uv_requirements: "{{ lookup('ansible.builtin.file', 'bootstrap.lock') }}"
    imports: [dynamo._core]
"""

RETURN = r"""
bin_dir:
  description: Directory of the environment's commands.
  returned: state is present
  type: str
python_version:
  description: Version of the environment's Python.
  returned: state is present
  type: str
packages:
  description: Number of packages in the environment.
  returned: state is present
  type: int
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.python_env import (
    EnvError,
    Outcome,
    Request,
    absent,
    present,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "requirements": {"type": "str"},
            "uv_requirements": {"type": "str", "default": ""},
            "python": {"type": "str", "default": "auto"},
            "imports": {"type": "list", "elements": "str", "default": []},
            "compile": {"type": "bool", "default": False},
            "find_links": {"type": "list", "elements": "str", "default": []},
            "offline": {"type": "bool", "default": False},
            "index_url": {"type": "str", "default": ""},
        },
        required_if=[("state", "present", ["requirements"])],
        supports_check_mode=True,
    )
    given = module.params
    _hide_credentials(module, [given["index_url"], *given["find_links"]])
    path = Path(given["path"])
    os.umask(0o022)  # services run as other users than the one who installs
    try:
        if given["state"] == "absent":
            result = absent(path, check=module.check_mode)
            module.exit_json(changed=result.changed, msg=result.msg, diff=_diff(path, result))
        result = present(
            Request(
                path=path,
                requirements=given["requirements"],
                uv_requirements=given["uv_requirements"],
                python=given["python"],
                find_links=tuple(given["find_links"]),
                index_url=given["index_url"],
                offline=given["offline"],
                imports=tuple(given["imports"]),
                compile=given["compile"],
            ),
            check=module.check_mode,
        )
    except EnvError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=result.changed,
        msg=result.msg,
        bin_dir=result.bin_dir,
        python_version=result.python_version,
        packages=result.packages,
        diff=_diff(path, result),
    )


def _hide_credentials(module: AnsibleModule, urls: list[str]) -> None:
    """A password inside a URL never appears in the result; the rest of the URL helps in an error."""
    for url in urls:
        user, at, _ = url.partition("://")[2].rpartition("@")
        if at and ":" in user:
            module.no_log_values.add(user.partition(":")[2])


def _diff(path: Path, result: Outcome) -> dict[str, str]:
    if not result.changed:
        return {}
    return {
        "before_header": str(path),
        "after_header": str(path),
        "before": "".join(line + "\n" for line in result.before),
        "after": "".join(line + "\n" for line in result.after),
    }


if __name__ == "__main__":
    main()
