# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the variables of the role `secrets` for action and lookup plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.wideep.dynamo.plugins.plugin_utils.package import plain

from wideep.inventory.secrets import VARIABLES, Secrets
from wideep.problems import Problem, RefusedError

VAULT = "give the password of the vault (--vault-password-file or --ask-vault-pass), or correct the value"
# What a module that got secrets may say: nothing that it was told.
RESULT = (
    "changed",
    "changes",
    "paths",
    "diff",
    "failed",
    "msg",
    "unreachable",
    "skipped",
    "rc",
    "_ansible_no_log",
)


def resolve(templar: Any, variables: Mapping[str, Any]) -> Secrets:
    """Return the secrets.

    Raises:
        RefusedError: with every problem, without values.
    """
    found: dict[str, Any] = {}
    problems = []
    for name in variables:
        if not name.startswith("secrets_"):
            continue
        try:
            found[str(name)] = plain(templar.template(variables[name])) if name in VARIABLES else ""
        except AnsibleError as error:
            problems.append(Problem(str(error), str(name), VAULT))
    secrets = Secrets(found)
    unread = {problem.where for problem in problems}
    problems += [p for p in secrets.problems if p.where not in unread]
    if problems:
        raise RefusedError(problems)
    return secrets
