#!/usr/bin/python
# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_serving
short_description: Proves that a deployment serves
version_added: 0.1.0
author: The wideep authors (@wideep)
description:
  - Waits until exactly the expected workers of each pool are registered and the model is listed.
  - Then asks every pair of a prefill and a decode worker for one token, and for two completions, one whole
    and one streamed, and judges them. An HTTP status proves little, since a frontend is healthy without any
    worker, and answers 200 with no token where the KV transfer fails.
  - An action plugin of the same name runs this module slice by slice and says how far it is.
  - Changes nothing.
options:
  base_url:
    description: Address of the frontend, such as V(http://127.0.0.1:8000).
    type: str
    required: true
  model:
    description: Name under which the model is served.
    type: str
    required: true
  expected:
    description:
      - Per pool its C(component), C(count) and C(namespace), which is V(dynamo) unless given.
      - C(generations) is a regular expression of what may follow the namespace, as on Kubernetes each change
        of the workers has another suffix; C(namespaces) are further ones. Workers are counted over all.
        So many as C(may_lack) need not be there.
      - Prefill workers register as component V(prefill), decode and aggregated workers as V(backend).
    type: dict
    required: true
  prompt:
    description: What to say to the model.
    type: str
    default: Say hello to the operators of this deployment.
  max_tokens:
    description: Number of tokens to ask for.
    type: int
    default: 16
  ignore_eos:
    description: Ask for exactly O(max_tokens) tokens and insist on them. Without it one token is enough.
    type: bool
    default: true
  words:
    description: Insist on readable text. With random weights the tokens may not even be characters.
    type: bool
    default: true
  pairs:
    description:
      - The most pairs of a prefill and a decode worker that are each asked for one token, all workers first.
        Without prefill workers each worker is. V(0) for none.
      - The request names both workers (C(nvext.prefill_worker_id), C(nvext.decode_worker_id)). Routers obey
        that, seen with C(kv) and C(round-robin) of Dynamo's pinned releases.
    type: int
    default: 256
  request_timeout_s:
    description: Seconds that one completion may take.
    type: int
    default: 60
  deadline_s:
    description: Seconds to wait for registration.
    type: int
    default: 120
  forward:
    description:
      - C(namespace), C(service) and C(port) of a Service in a cluster. C(kubectl port-forward) leads to it
        while the module runs, and O(base_url) is not used.
      - With C(graph) and C(version), of a DynamoGraphDeployment, the namespaces in which its status says that
        its workers register are among O(expected).
    type: dict
  slice_s:
    description: Seconds to wait for registration in one call of the module. Set by the action plugin.
    type: float
    default: 5
  api_key:
    description: Key to send as bearer token.
    type: str
    default: ""
  look_at:
    description: Where the logs are, for the message of a failure.
    type: str
    default: ""
extends_documentation_fragment: wideep.dynamo.https
attributes:
  check_mode:
    description: Verifies as well if the deployment is complete already, else is skipped and says why.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Prove that the deployment serves
  wideep.dynamo.verify_serving:
    base_url: http://127.0.0.1:8000
    model: deepseek
    expected:
      prefill: {component: prefill, count: 2}
      decode: {component: backend, count: 2}
    look_at: /opt/wideep/log
"""

RETURN = r"""
model:
  description: Name of the model.
  returned: success
  type: str
registered:
  description: Per pool its workers, each with RV(ignore:instance_id) and RV(ignore:address).
  returned: success
  type: dict
text:
  description: Beginning of the streamed reply, at most 200 characters.
  returned: success
  type: str
completion_tokens:
  description: Number of tokens of the streamed reply.
  returned: success
  type: int
chunks:
  description: Number of chunks with text in which the reply came.
  returned: success
  type: int
ttft_s:
  description: Seconds to the first token of the streamed reply.
  returned: success
  type: float
itl_s:
  description: Mean seconds between two tokens of the streamed reply; null if it came in one piece.
  returned: success
  type: float
e2e_s:
  description: Seconds to the end of the streamed reply.
  returned: success
  type: float
refused:
  description: >-
    Completions that were answered with 404 or 503 although the workers were registered and the frontend said
    that it was ready; asked again until one was taken. More than none, long after a start, is an outage that
    clients saw.
  returned: success
  type: int
pairs:
  description: >-
    The pairs that gave a token, each with the addresses of its RV(ignore:prefill) worker (empty without one)
    and RV(ignore:decode) worker, and RV(ignore:seconds) until then.
  returned: success
  type: list
  elements: dict
workers:
  description: Ids of the instances that served the reply, as C(prefill) and C(decode), if the frontend tells.
  returned: success
  type: dict
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import (
    Completion,
    Frontend,
    NoAnswerError,
    is_transient,
    judge,
)
from ansible_collections.wideep.dynamo.plugins.module_utils.pairs import failure, prove, suspects
from ansible_collections.wideep.dynamo.plugins.module_utils.registration import (
    State,
    look,
    parse_expected,
    report,
)

POLL_S = 0.5


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "base_url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "expected": {"type": "dict", "required": True},
            "prompt": {"type": "str", "default": "Say hello to the operators of this deployment."},
            "max_tokens": {"type": "int", "default": 16, "no_log": False},
            "ignore_eos": {"type": "bool", "default": True},
            "words": {"type": "bool", "default": True},
            "pairs": {"type": "int", "default": 256},
            "request_timeout_s": {"type": "int", "default": 60},
            "deadline_s": {"type": "int", "default": 120},
            "slice_s": {"type": "float", "default": 5},
            "ca_file": {"type": "path", "default": ""},
            "client_certificate": {"type": "path", "default": ""},
            "client_key": {"type": "path", "default": "", "no_log": False},
            "api_key": {"type": "str", "default": "", "no_log": True},
            "look_at": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        pools = parse_expected(given["expected"])
        frontend = Frontend(
            given["base_url"],
            given["request_timeout_s"],
            given["ca_file"],
            given["api_key"],
            (given["client_certificate"], given["client_key"]),
        )
    except ValueError as error:
        module.fail_json(msg=f"verify_serving: {error}")

    state = look(frontend, pools, given["model"])
    end = time.monotonic() + min(given["slice_s"], given["deadline_s"])
    while not state.ready and time.monotonic() < end:
        time.sleep(POLL_S)
        state = look(frontend, pools, given["model"])
    if not state.ready:
        _not_yet(module, state, state.progress(), "", state.causes())
    _ask(module, frontend, state, stream=False)
    tried = prove(frontend, state, given["pairs"])
    if problem := failure(tried):
        lost = ", ".join(suspects(tried))
        cause = f"{lost}: healthy, and hands no cache to others or takes none; restart it"
        _fail(module, state, problem, "", [cause])
    streamed = _ask(module, frontend, state, stream=True)
    module.exit_json(
        changed=False,
        ready=True,
        refused=0,
        model=state.model,
        registered=state.to_dict(),
        text=streamed.text[:200],
        completion_tokens=streamed.completion_tokens,
        chunks=streamed.chunks,
        ttft_s=_rounded(streamed.ttft_s),
        itl_s=_rounded(streamed.itl_s),
        e2e_s=_rounded(streamed.e2e_s),
        workers=streamed.workers,
        pairs=[outcome.to_dict() for outcome in tried],
    )


def _ask(module: AnsibleModule, frontend: Frontend, state: State, *, stream: bool) -> Completion:
    """Return a good completion, or end the module."""
    given = module.params
    kind = "streamed completion" if stream else "completion"
    body = {
        "model": state.model,
        "messages": [{"role": "user", "content": given["prompt"]}],
        "max_tokens": given["max_tokens"],
        "ignore_eos": given["ignore_eos"],
        "nvext": {"extra_fields": ["worker_id"]},  # who served it
    }
    try:
        completion = frontend.chat(body, stream=stream)
    except NoAnswerError as error:
        cause = "a worker is stuck, overloaded or not reachable from the frontend at its address above"
        _fail(module, state, f"{kind}: {error}", "", [cause])
    answer = f"HTTP {completion.status}: {completion.raw}"
    if is_transient(completion):
        line = f"registered and listed, but a completion is answered with HTTP {completion.status}"
        cause = "the frontend has a model without a route to workers that take requests; its log says more"
        _not_yet(module, state, line, answer, [cause], refused=1)
    disaggregated = any(pool.name == "prefill" and pool.count for pool in state.pools)
    problem, cause = judge(
        completion,
        max_tokens=given["max_tokens"],
        exact=given["ignore_eos"],
        words=given["words"],
        disaggregated=disaggregated,
    )
    if problem:
        _fail(module, state, f"{kind}: {problem}", answer, [cause])
    return completion


def _not_yet(
    module: AnsibleModule, state: State, progress: str, answer: str, causes: list[str], *, refused: int = 0
) -> None:
    """End this slice: the action plugin goes on, or fails with `report` when the deadline has come.

    refused: completions that a frontend which says that it is ready did not take.
    """
    message = report(
        module.params["base_url"],
        progress,
        state,
        answer=answer,
        causes=causes,
        look_at=module.params["look_at"],
    )
    module.exit_json(
        changed=False,
        ready=False,
        progress=progress,
        refused=refused,
        report=message,
        deadline_s=module.params["deadline_s"],
    )


def _fail(module: AnsibleModule, state: State, problem: str, answer: str, causes: list[str]) -> None:
    given = module.params
    module.fail_json(
        msg=report(given["base_url"], problem, state, answer=answer, causes=causes, look_at=given["look_at"])
    )


def _rounded(seconds: Any) -> Any:
    return None if seconds is None else round(seconds, 4)


if __name__ == "__main__":
    main()
