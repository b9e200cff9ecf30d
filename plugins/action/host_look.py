# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Sends what the controller knows, judges what comes back (documentation: plugins/modules/host_look.py)."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action
from ansible_collections.wideep.dynamo.plugins.plugin_utils.package import plain
from ansible_collections.wideep.dynamo.plugins.plugin_utils.secrets import resolve

from wideep.changes.look import read
from wideep.inventory.secrets import FILES
from wideep.preflight.model import ModelDirectory
from wideep.preflight.storage import lacks
from wideep.problems import RefusedError
from wideep.programs import names, program
from wideep.reference.paths import collection_root


class ActionModule(Action):
    """`wideep.dynamo.host_look`."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = plain(dict(self._task.args))
        unknown = []
        try:
            secrets = resolve(self._templar, task_vars)
        except RefusedError:
            # The role secrets says why, once for all hosts, before anything changes.
            unknown = ["secrets: they cannot be read here"]
        else:
            routes = arguments.get("nats_routes", [])
            contents = {name: secrets.content(name, routes) for name in arguments.get("secret_files", [])}
            arguments["secrets"] = {name: content for name, content in contents.items() if content}
            arguments["secrets_known"] = list(FILES)
            for item in arguments.get("wanted", []):
                if "accounts" in item:
                    item |= {"user": secrets.etcd_user, "password": secrets.etcd_password}
                    item["root_password"] = secrets.etcd_root_password
        arguments["wanted"] = [_with_digests(item) for item in arguments.get("wanted", [])]
        arguments["programs"] = _programs(arguments["launches"])
        said = self._execute_module(module_args=arguments, task_vars=task_vars)
        if "look" not in said or said.get("failed"):
            return {**result, **said}
        seen = said["look"]
        models = [ModelDirectory.of(model) for model in seen.pop("models", [])]
        seen["other"] = [*seen["other"], *unknown, *filter(None, map(lacks, models))]
        look = read({arguments["host"]: said})[arguments["host"]]
        return {**result, "changed": False, "look": seen, "settled": look.settled}


def _programs(launches: list[dict[str, Any]]) -> list[dict[str, str]]:
    called = {
        file["path"]: program(file["name"])
        for launch in launches
        for file in launch.get("programs") or []
        if file["name"] in names()
    }
    return [
        {"path": path, "digest": one.digest, "content": base64.b64encode(one.content).decode()}
        for path, one in called.items()
    ]


def _with_digests(item: dict[str, Any]) -> dict[str, Any]:
    """Return something wanted with digests in the place of files of the controller."""
    if "lock" in item:
        lock = Path(item.pop("lock"))
        text = lock.read_text(encoding="utf-8").strip() if lock.is_file() else ""
        item["digest"] = hashlib.sha256(text.encode()).hexdigest()
    if "src" in item:
        files = [path for path in sorted((collection_root() / item.pop("src")).iterdir()) if path.is_file()]
        item["digests"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return item
