# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Gives tasks one of the files of the role `secrets`."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: secret
short_description: The content of one of the files of secrets
description:
  - Resolves the variables of the role C(secrets) on the controller. Use it with C(no_log) only.
options:
  _terms:
    description:
      - Names of files such as C(hub-token), or C(registry.json), which is what a pull secret of Kubernetes
        has as C(.dockerconfigjson). A file for which nothing is set is empty.
    required: true
author: The wideep authors (@wideep)
version_added: 0.1.0
"""

EXAMPLES = r"""
- name: Use the hub's token
  ansible.builtin.uri:
    url: https://hub.example.com/api/whoami-v2
    headers:
      Authorization: "Bearer {{ lookup('wideep.dynamo.secret', 'hub-token') | trim }}"
  no_log: true
"""

RETURN = r"""
_raw:
  description: The contents.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.wideep.dynamo.plugins.plugin_utils.secrets import resolve

from wideep.inventory.secrets import FILES
from wideep.problems import RefusedError, suggest


class LookupModule(LookupBase):
    """`wideep.dynamo.secret`."""

    def run(self, terms: Sequence[Any], variables: Mapping[str, Any] | None = None, **_: Any) -> list[str]:
        for term in terms:
            if term not in FILES:
                raise AnsibleLookupError(f"no secret {term!r}; {suggest(str(term), FILES)}")
        try:
            secrets = resolve(self._templar, variables or {})
        except RefusedError as refused:
            raise AnsibleLookupError(str(refused)) from refused
        return [secrets.content(str(term)) for term in terms]
