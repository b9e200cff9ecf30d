"""Whether renamed.yml of a release points at what that release has."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from release_tool.folder import Release

FLAG = re.compile(r"(--[a-z][\w-]*)(?: ([a-z]\w*))?")
# Words that follow a flag without being its value.
PLAIN = ("and", "on", "for", "file")


def known(release: Release, program: str) -> dict[str, dict[str, Any]]:
    """Return every spelling of a program's flags that is not deprecated."""
    rows = json.loads((release.catalogues / f"{program}.json").read_text(encoding="utf-8"))["flags"]
    return {
        name: row
        for row in rows
        if not row.get("deprecated")
        for name in (row["flag"], *row.get("aliases", ()), *filter(None, [row.get("negative")]))
    }


def problems(release: Release) -> list[str]:
    """Return rows whose replacement does not exist, or whose old name still does."""
    table = yaml.safe_load((release.catalogues / "renamed.yml").read_text(encoding="utf-8"))
    frontend, found = known(release, "dynamo.frontend"), []
    for program in (name for name in table if name.startswith("dynamo.")):
        flags = known(release, program)
        for row in table[program]:
            new, (old, _, value) = row["new"] or "", row["old"].partition(" ")
            there = {**flags, **(frontend if "on the frontend" in new else {})}
            for name, word in FLAG.findall(new):
                choices = there.get(name, {}).get("choices")
                if name not in there:
                    found.append(f"{program}: {row['old']} points to {name}, which is gone or deprecated")
                elif word and word not in PLAIN and choices and word not in choices:
                    found.append(f"{program}: {row['old']} points to {name} {word}, which is not a choice")
            if value and value in (flags.get(old, {}).get("choices") or ()):
                found.append(f"{program}: {row['old']} is a choice")
            elif value and old not in flags:
                found.append(f"{program}: {row['old']} is a value of a flag that is gone")
    return found
