#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: state_dir
short_description: Makes or removes the directory that holds everything of a deployment
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - The directory carries a marker file. A directory without it is never removed, and one that holds other
    files is never taken over.
  - Only what the roles make is removed. Whatever else lies there stays, and is named.
options:
  path:
    description: The directory, absolute.
    type: str
    required: true
  deployment:
    description: Name of the deployment, kept in the marker.
    type: str
    required: true
  state:
    description: V(kept) removes the services' files but keeps data, logs, environments and models.
    type: str
    choices: [present, absent, kept]
    default: present
attributes:
  check_mode:
    description: Can predict changes without making them.
    support: full
"""

EXAMPLES = r"""
- name: Make the state directory
  wideep.dynamo.state_dir:
    path: /var/lib/wideep
    deployment: wideep
"""

RETURN = r"""
removed:
  description: Directories and files that were (or in check mode would be) removed.
  returned: state is absent or kept
  type: list
  elements: str
existed:
  description: Whether there was anything.
  returned: state is absent or kept
  type: bool
left:
  description: What lies there that the roles did not make.
  returned: state is absent
  type: list
  elements: str
"""

import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.process import leftovers
from ansible_collections.wideep.dynamo.plugins.module_utils.state_dir import MARKER, present

SERVICES = ("services", "programs", "supervisor", "tmp", "secrets")
# Of the models only the one that we put there: another may be hundreds of gigabytes of somebody's download.
MODEL = "model/rehearsal"
KEPT = ("cache", "data", "deployments", "lock", "log", "opt", "venv", "bin")


def remove(path: Path, deployment: str, keep: bool, check: bool) -> dict[str, Any]:
    """Remove what the roles made, then the directory itself if nothing else is in it."""
    if not path.exists() or not any(path.iterdir()):
        return {"changed": False, "existed": False, "removed": [], "left": []}
    if not (path / MARKER).is_file():
        raise ValueError(
            f"{path} has no {MARKER}, so wideep did not make it and does not remove it;"
            " check wideep_state_dir"
        )
    present(path, deployment, check=True)
    running = {} if check else leftovers(str(path), set())
    if running:
        who = ", ".join(f"{service} (pid {pid})" for pid, service in running.items())
        raise ValueError(
            f"{path} is still in use by {who}; stop the services first (playbooks/teardown.yml does)"
        )
    models = path / "model"
    linked = models.is_symlink()
    names = SERVICES if keep else (*SERVICES, *KEPT, "model" if linked else MODEL)
    doomed = [path / name for name in names if os.path.lexists(path / name)]
    ours = {path / name for name in (*SERVICES, *KEPT, MODEL, MARKER)}
    others = [p for p in path.iterdir() if p not in ours and p != models]
    if models.is_dir() and not linked:
        others += [p for p in models.iterdir() if p not in ours]
    left = [] if keep else sorted(map(str, others))
    if not check:
        for target in doomed:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink()
        if not keep and models.is_dir() and not any(models.iterdir()):
            models.rmdir()
        # With something left the marker stays: a second removal, or a new deployment, is not refused.
        if not keep and not left:
            (path / MARKER).unlink()
            # The directory itself, also where the path is a link to it.
            path.resolve().rmdir()
            if path.is_symlink():
                path.unlink()
    removed = [str(p) for p in doomed]
    if not keep and not left:
        removed = [str(path)]
    return {"changed": bool(removed), "existed": True, "removed": removed, "left": left}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "deployment": {"type": "str", "required": True},
            "state": {"choices": ["present", "absent", "kept"], "default": "present"},
        },
        supports_check_mode=True,
    )
    path, deployment, state = Path(module.params["path"]), module.params["deployment"], module.params["state"]
    try:
        if state == "present":
            module.exit_json(**present(path, deployment, module.check_mode))
        module.exit_json(**remove(path, deployment, state == "kept", module.check_mode))
    except ValueError as refused:
        module.fail_json(msg=str(refused))
    except OSError as error:
        module.fail_json(
            msg=f"cannot change {path} as user {os.geteuid()}: {error};"
            " set wideep_state_dir to a directory that the user may write, or fix its owner"
        )


if __name__ == "__main__":
    main()
