"""Ansible's values as plain ones."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """Return a value without Ansible's tags and lazy containers, which only its own code reads rightly.

    What is no plain value becomes its text: a vaulted one is decrypted by that.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)
