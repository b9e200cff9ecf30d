#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Gathers what preflight judges about a host
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Gathers in one call what M(wideep.dynamo.preflight) judges. Runs no command but the host's Pythons, and
    for GPUs C(nvidia-smi), C(nv-fabricmanager --version) and C(systemctl show), for MPI C(mpirun --version),
    each with a time limit; where files have another reader, C(test -r) as that user.
  - Changes nothing. A temporary file tries the state directory, unless in check mode.
options:
  needs:
    description: What the plan puts on this host. The facts that are asked for follow from it.
    type: dict
    required: true
    suboptions:
      ports:
        description: TCP ports that services of this host open.
        type: list
        elements: dict
        default: []
        suboptions:
          port:
            description: The port.
            type: int
            required: true
          address:
            description: The address that is listened on.
            type: str
            default: 0.0.0.0
          service:
            description: Name of the service.
            type: str
            required: true
      peers:
        description: Hosts that this one connects to.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Inventory name.
            type: str
            required: true
          address:
            description: Name or address that is connected to. Without it the inventory name.
            type: str
            default: ""
          ports:
            description: TCP ports there that have to be within reach, whether anything listens yet or not.
            type: list
            elements: int
            default: []
      state_dir:
        description: Directory of the deployment. Without it no disk is looked at.
        type: str
        default: ""
      disk_gb:
        description: Room that the deployment needs, in GB (10^9 bytes). Passed on to the judge.
        type: float
        default: 0
      memory_gb:
        description: Memory that the services need, in GB (10^9 bytes). Passed on to the judge.
        type: float
        default: 0
      model_path:
        description: Model directory that must be there. Without it none is looked at.
        type: str
        default: ""
      model_gb:
        description: Weights in GB (10^9 bytes) that are downloaded there. Passed on to the judge.
        type: float
        default: 0
      model:
        description: What its config.json has to say. Passed on to the judge.
        type: dict
      gpu:
        description:
          - What the plan needs of GPUs and RDMA devices. It is passed on to the judge.
          - Without it no GPU is looked at.
        type: dict
      container:
        description: What containers need (program, image, gpus, init). Without it podman is not looked at.
        type: dict
      mpi:
        description:
          - The programs that MPI's ranks are started with (path, programs). Without it none is looked for.
        type: dict
      files:
        description: Files that services read.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Its absolute path.
            type: str
            required: true
          private:
            description: Whether nobody else may read it. Passed on to the judge.
            type: bool
            default: false
      user:
        description: The user who reads them. Empty for the one that the module runs as.
        type: str
        default: ""
attributes:
  check_mode:
    description: Gathers the same, and writes no temporary file.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Gather what preflight judges
  wideep.dynamo.host_facts:
    needs:
      ports:
        - {port: 8000, address: 0.0.0.0, service: frontend}
      peers:
        - {name: decode-0, address: decode-0.example.com}
      state_dir: /opt/wideep
      disk_gb: 20
      memory_gb: 16
  register: __preflight_facts
"""

RETURN = r"""
facts:
  description: The facts. Sizes are in bytes, times in seconds.
  returned: success
  type: dict
needs:
  description: What was asked for, with its defaults.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.host_facts import gather


def main() -> None:
    port = {
        "port": {"type": "int", "required": True},
        "address": {"type": "str", "default": "0.0.0.0"},  # noqa: S104
        "service": {"type": "str", "required": True},
    }
    peer = {
        "name": {"type": "str", "required": True},
        "address": {"type": "str", "default": ""},
        "ports": {"type": "list", "elements": "int", "default": []},
    }
    file = {"path": {"type": "str", "required": True}, "private": {"type": "bool", "default": False}}
    needs = {
        "ports": {"type": "list", "elements": "dict", "default": [], "options": port},
        "peers": {"type": "list", "elements": "dict", "default": [], "options": peer},
        "state_dir": {"type": "str", "default": ""},
        "disk_gb": {"type": "float", "default": 0},
        "memory_gb": {"type": "float", "default": 0},
        "model_path": {"type": "str", "default": ""},
        "model_gb": {"type": "float", "default": 0},
        "model": {"type": "dict"},
        "gpu": {"type": "dict"},
        "container": {"type": "dict"},
        "mpi": {"type": "dict"},
        "files": {"type": "list", "elements": "dict", "default": [], "options": file},
        "user": {"type": "str", "default": ""},
    }
    module = AnsibleModule(
        argument_spec={"needs": {"type": "dict", "required": True, "options": needs}},
        supports_check_mode=True,
    )
    asked = module.params["needs"]
    module.exit_json(changed=False, needs=asked, facts=gather(asked, may_write=not module.check_mode))


if __name__ == "__main__":
    main()
