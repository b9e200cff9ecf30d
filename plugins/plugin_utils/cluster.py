# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Arguments that action plugins for a cluster share (documentation: plugins/doc_fragments)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wideep.cluster.platform import Platform
from wideep.inventory.secrets import Secrets

Specification = dict[str, dict[str, Any]]
PLATFORM: Specification = {
    "platform": {
        "type": "dict",
        "required": True,
        "options": {
            **{name: {"type": "str", "default": ""} for name in Platform.__dataclass_fields__},
            **{name: {"type": "bool", "default": True} for name in ("install", "install_orchestrator")},
            "values": {"type": "dict", "default": {}},
        },
    }
}
SECRETS: Specification = {
    "hub_token": {"type": "raw", "no_log": True},
    "registries": {"type": "list", "elements": "dict", "default": [], "no_log": True},
    "env": {"type": "dict", "default": {}, "no_log": True},
}


def platform_of(arguments: Mapping[str, Any]) -> Platform:
    """Return the variables of role `platform`. arguments: as `Action.given` returns them."""
    return Platform(**arguments["platform"])


def secrets_of(arguments: Mapping[str, Any]) -> Secrets:
    """Return the Secrets of a cluster. arguments: as `Action.given` returns them."""
    given = {name: "" if arguments[name] is None else arguments[name] for name in SECRETS}
    return Secrets({f"secrets_{name}": value for name, value in given.items()})
