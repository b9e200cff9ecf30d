# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Repeats the module's short waits, says how far the download is, and judges the directory at the end."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.wideep.dynamo.plugins.plugin_utils.action import Action
from ansible_collections.wideep.dynamo.plugins.plugin_utils.waiting import Clock, wait

from wideep.preflight.model import ModelDirectory
from wideep.preflight.storage import lacks
from wideep.reports.download import progress_line

# Seconds between two lines: often at first, when a mistake shows, then so that hours stay readable.
SLICE_S, LONG_SLICE_S = 5.0, 30.0
OFTEN_S = 60.0
# The download does not need the connection: a host may be silent for so long.
SILENCE_S = 120.0


class ActionModule(Action):
    """`wideep.dynamo.model_download`."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        host = task_vars["inventory_hostname"]
        arguments = {**self._task.args, "host": host, "attach": False}
        heard = time.monotonic()

        def look(clock: Clock) -> dict[str, Any] | str:
            nonlocal heard
            longest = SLICE_S if clock.waited < OFTEN_S else LONG_SLICE_S
            arguments["slice_s"] = min(longest, float(self._task.args.get("slice_s", LONG_SLICE_S)))
            try:
                result = self._execute_module(module_args=arguments, task_vars=task_vars)
            except AnsibleConnectionFailure as silence:
                if not arguments["attach"] or time.monotonic() - heard > SILENCE_S:
                    raise
                time.sleep(SLICE_S)
                return f"{host}: no answer ({silence.message}); asks again"
            heard = time.monotonic()
            if result.get("state") != "running":
                return result
            arguments["attach"] = True
            return progress_line(host, result["progress"], clock.waited)

        result = wait(look)
        found = ModelDirectory.of(result.pop("model")) if "model" in result else None
        if found and (problem := lacks(found)):
            return {"failed": True, "msg": f"{problem}; {_remedy(arguments.get('source', 'path'))}"}
        return result


def _remedy(source: str) -> str:
    if source == "path":
        return (
            "complete it, name another in wideep_model_path, or let it be downloaded (model_cache_source:"
            " hub, http or s3)"
        )
    return (
        "the source is not a whole model: correct model_cache_repo or model_cache_url, or model_cache_exclude"
    )
