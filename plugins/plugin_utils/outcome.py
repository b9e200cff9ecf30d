# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""Results of action plugins that judge: what was refused, and what checks said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wideep.preflight import render

if TYPE_CHECKING:
    from wideep.preflight import Report
    from wideep.problems import RefusedError


def refusal(result: Mapping[str, Any], refused: RefusedError) -> dict[str, Any]:
    """Return the result of a task whose input was refused."""
    problems = [vars(problem) for problem in refused.problems]
    return {**result, "failed": True, "msg": str(refused), "wideep_refused": True, "problems": problems}


def verdict(result: Mapping[str, Any], report: Report, *, verbose: bool) -> dict[str, Any]:
    """Return the result of a task that checked hosts or a cluster."""
    table, content = render(report, verbose=verbose), report.to_dict()
    if not report.failed:
        return {**result, "changed": False, "report": content, "table": table, "msg": table}
    # The message says it all; what is well would only bury it.
    content["checks"] = [check for check in content["checks"] if check["status"] != "ok"]
    message = f"{table}\n\nnothing was changed"
    failed = {"failed": True, "wideep_refused": True, "msg": message}
    return {**result, "changed": False, "report": content, **failed}
