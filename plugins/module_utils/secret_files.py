"""A host's directory of secrets: one file each, readable by its owner only."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files

# The first line of an environment file. Its random word makes the digest of the file tell nothing about the
# secrets in it (process.py).
_SALT = "# wideep: this line is random, and kept. "


def write(files: Files, directory: Path, contents: Mapping[str, str], known: Iterable[str]) -> None:
    """Bring the directory to what is wanted: `contents` by name; other names that are `known` go."""
    if contents:
        files.directory(directory, 0o700)
    for name, content in contents.items():
        path = directory / name
        files.file(path, _salt(path) + content if name.endswith(".env") else content, 0o600)
    for name in known:
        if name not in contents:
            files.remove(directory / name)
    if not contents and directory.is_dir() and not any(directory.iterdir()):
        files.remove(directory)


def _salt(path: Path) -> str:
    try:
        first = path.read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        first = ""
    return f"{first if first.startswith(_SALT) else _SALT + secrets.token_hex(16)}\n"
