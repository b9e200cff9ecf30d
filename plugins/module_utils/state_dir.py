"""The state directory of a deployment on this host, and its marker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MARKER = ".wideep.json"


def present(path: Path, deployment: str, check: bool) -> dict[str, Any]:
    """Make the directory with its marker; refuse one that belongs to something else."""
    marker = path / MARKER
    if marker.is_file():
        try:
            owner = json.loads(marker.read_text(encoding="utf-8"))["deployment"]
        except (ValueError, KeyError, TypeError):
            content = json.dumps({"deployment": deployment})
            raise ValueError(f"{marker} is damaged; write {content} into it") from None
        if owner != deployment:
            raise ValueError(
                f"{path} holds the deployment {owner!r}, not {deployment!r};"
                " set wideep_state_dir to another directory"
            )
        return {"changed": False}
    if path.exists() and any(path.iterdir()):
        raise ValueError(
            f"{path} exists and holds files that are not ours;"
            " set wideep_state_dir to an empty or new directory"
        )
    if not check:
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        marker.write_text(json.dumps({"deployment": deployment}) + "\n", encoding="utf-8")
    return {"changed": True, "diff": {"before": "", "after": f"{path}\n"}}
