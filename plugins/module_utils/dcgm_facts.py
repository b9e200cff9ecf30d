"""What DCGM, NVIDIA's data-centre GPU manager, watches: the answer of `dcgmi health -c -j`."""

from __future__ import annotations

import json
from typing import Any


def parse_health(code: int, text: str) -> dict[str, Any] | None:
    """Return error, watched, overall and incidents; None where dcgmi is not installed.

    error: why there is no answer. watched: whether health watches are on; DCGM has no opinion without them.
    overall: Healthy, Warning, Failure. incidents: entity (GPU, Switch, ...), id, system, health, text.
    The form is that of DCGM 2 to 4: a tree of `value`, `overflow` (lines of a message) and `children`.
    """
    if code == 127:
        return None
    facts: dict[str, Any] = {"error": "", "watched": True, "overall": "", "incidents": []}
    if "watches not enabled" in text:
        return {**facts, "watched": False}
    try:
        body = json.loads(text[text.index("{") :])["body"]
        overall = body["Overall Health"]["value"]
    except (ValueError, KeyError, TypeError):
        words = " ".join(text.replace("Error: ", "").split())[:300]
        return {**facts, "error": words or f"dcgmi: exit status {code}"}
    incidents = [
        {
            "entity": entity,
            "id": int(number) if number.isdigit() else -1,
            "system": system,
            "health": found.get("value", ""),
            "text": " ".join(found.get("overflow") or ()),
        }
        for entity, group in body.items()
        for number, member in _children(group).items()
        for system, found in _children(_children(member).get("Errors")).items()
    ]
    return {**facts, "overall": overall, "incidents": incidents}


def _children(node: Any) -> dict[str, Any]:
    return (node or {}).get("children") or {}
