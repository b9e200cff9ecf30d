#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: canary
short_description: Proves that replicas which were started answer
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Waits until each replica is registered at a frontend and has taken part in an answer with tokens. A
    request names the replica where the router takes that (Dynamo's KV router does); else it is asked again
    until the replica had its turn.
  - A replica can be registered, and even counted as ready, while the frontend gives it no request since its
    model's card differs from that of the others.
  - Without O(replicas) the frontend itself has to answer.
options:
  base_url:
    description: Address of the frontend, such as V(http://127.0.0.1:8000).
    type: str
    required: true
  model:
    description: Name under which the model is served.
    type: str
    required: true
  replicas:
    description: Those that have to answer, each with C(name), C(component), C(namespace) and C(address).
    type: list
    elements: dict
    default: []
  deadline_s:
    description: Seconds that this may take.
    type: int
    default: 60
  request_timeout_s:
    description: Seconds that one answer may take.
    type: int
    default: 60
  words:
    description: Insist on readable text. With random weights the tokens may not even be characters.
    type: bool
    default: true
extends_documentation_fragment: wideep.dynamo.https
attributes:
  check_mode:
    description: Skipped, since nothing was started.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Prove that the replica answers
  wideep.dynamo.canary:
    base_url: http://10.0.0.1:8000
    model: deepseek
    replicas:
      - {name: decode-0, component: backend, namespace: dynamo, address: "10.0.0.7:22001"}
"""

RETURN = r"""
proved:
  description: By replica, who took part in the answer that proved it.
  returned: success
  type: dict
asked:
  description: How many requests it took.
  returned: success
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.canary import Replica, answers, prove
from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import Frontend


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "base_url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "replicas": {"type": "list", "elements": "dict", "default": []},
            "deadline_s": {"type": "int", "default": 60},
            "request_timeout_s": {"type": "int", "default": 60},
            "words": {"type": "bool", "default": True},
            "ca_file": {"type": "path", "default": ""},
            "client_certificate": {"type": "path", "default": ""},
            "client_key": {"type": "path", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="nothing was started")
    try:
        client = (given["client_certificate"], given["client_key"])
        frontend = Frontend(given["base_url"], given["request_timeout_s"], given["ca_file"], client=client)
    except ValueError as error:
        module.fail_json(msg=f"canary: {error}")
    replicas = [Replica(**one) for one in given["replicas"]]
    if replicas:
        proof = prove(frontend, given["model"], replicas, given["deadline_s"], words=given["words"])
    else:
        proof = answers(frontend, given["model"], given["deadline_s"], words=given["words"])
    if proof.lacks:
        lines = [f"  {name}: {why}" for name, why in sorted(proof.lacks.items())]
        module.fail_json(
            msg=f"not proved at {given['base_url']} within {given['deadline_s']} s:\n"
            + "\n".join(lines)
            + "\n  a replica that is registered and gets no request has a model card unlike the others':"
            " the frontend's log says so"
        )
    module.exit_json(changed=False, proved=proof.proved, asked=proof.asked)


if __name__ == "__main__":
    main()
