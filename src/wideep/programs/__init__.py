"""Programs that run on hosts, of the standard library only."""

from __future__ import annotations

from importlib.resources import files


def source(name: str) -> str:
    """Return the text of a program, e.g. `deregister.py`."""
    return files("wideep.programs").joinpath(name).read_text(encoding="utf-8")
