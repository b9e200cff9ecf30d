# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""What a host has of a deployment for whoever is to help: texts by name, without secrets, of bounded size."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

HIDDEN = "***"
# A shorter one would hide ordinary words.
SHORTEST = 8
# Of each log the end, of each other file all; what is larger is none of a service's texts.
LOG_BYTES = 2 * 1024 * 1024
FILE_BYTES = 256 * 1024
_NAME = r"[A-Za-z0-9_-]*(?:TOKEN|PASSWORD|PASSWD|SECRET|API_?KEY|CREDENTIALS?)"
_PATTERNS = (
    re.compile(r"()\bhf_[A-Za-z0-9]{16,}"),
    re.compile(r"((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
    re.compile(r"(://[^/\s:@\"']+:)[^/\s@\"']+(?=@)"),
    re.compile(
        rf"(\b{_NAME}[\"']?\s*[=:]\s*[\"']?)(?![0-9.]+\b|/|true\b|false\b|null\b)[^\s\"',}}]{{6,}}",
        re.IGNORECASE,
    ),
    # What users ask and models answer, where a log level shows it.
    re.compile(r"([\"'](?:content|prompt|text|input)[\"']\s*:\s*\")(?:\\.|[^\"\\])+(?=\")"),
    re.compile(r"([\"'](?:content|prompt|text|input)[\"']\s*:\s*')(?:\\.|[^'\\])+(?=')"),
)


def secrets_of(state_dir: Path) -> list[str]:
    """Return the values in the files of role `secrets`, the longest first."""
    found: set[str] = set()
    for path in (state_dir / "secrets").glob("*"):
        text = _read(path, FILE_BYTES)
        if path.suffix == ".json":
            found.update(_values(text))
        elif path.suffix == ".env":
            found.update(
                value.strip("'\"") for value in re.findall(r"^[A-Za-z_]\w*=(.*)$", text, re.MULTILINE)
            )
        else:
            found.add(text.strip())
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


def _values(text: str) -> Iterator[str]:
    """Return the accounts of a registry's file: as they stand there, and their passwords."""
    try:
        auths = json.loads(text).get("auths", {})
    except ValueError:
        return
    for account in auths.values():
        encoded = str(account.get("auth", ""))
        yield encoded
        yield base64.b64decode(encoded + "==", validate=False).decode(errors="replace").partition(":")[2]


def scrub(text: str, secrets: list[str]) -> str:
    """Return a text without secrets that are known, or look like ones, and without prompts."""
    for value in secrets:
        text = text.replace(value, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return text


def collect(state_dir: Path, limit: int) -> tuple[dict[str, str], list[str]]:
    """Return name -> scrubbed text, at most `limit` bytes, and what was left out for it.

    Small files first, then logs by their age, the newest first: of what does not fit, the oldest is missing.
    """
    secrets = secrets_of(state_dir)
    found: dict[str, str] = {}
    left: list[str] = []
    rest = limit
    for name, text in _all(state_dir):
        clean = scrub(text, secrets)
        size = len(clean.encode())
        if size > rest:
            left.append(name)
            continue
        rest -= size
        found[name] = clean
    return found, left


def _all(state_dir: Path) -> Iterator[tuple[str, str]]:
    yield "system.txt", _system(state_dir)
    yield "packages.txt", _packages(state_dir)
    for path in sorted((state_dir / "services").glob("**/*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= FILE_BYTES:
            yield str(path.relative_to(state_dir)), _read(path, FILE_BYTES)
    logs = [path for path in (state_dir / "log").glob("*") if path.is_file()]
    for path in sorted(logs, key=lambda one: one.stat().st_mtime, reverse=True):
        yield f"log/{path.name}", _read(path, LOG_BYTES)


def _read(path: Path, most: int) -> str:
    """Return the end of a file; a line that says why where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - most))
            text = file.read().decode(errors="replace")
    except OSError as problem:
        return f"(cannot read {path}: {problem.strerror})\n"
    return f"(the last {most} of {size} bytes)\n{text}" if size > most else text


def _packages(state_dir: Path) -> str:
    """Return what environments have, by their directories' names."""
    found = (state_dir / "venv").glob("*/lib/python*/site-packages/*.dist-info")
    lines = {f"{path.parts[-5]} {path.name[: -len('.dist-info')]}" for path in found}
    return "\n".join(sorted(lines)) + "\n"


def _system(state_dir: Path) -> str:
    parts = [" ".join(os.uname())]
    parts += [
        f"# {path}\n{_read(Path(path), 16384)}"
        for path in ("/etc/os-release", "/proc/loadavg", "/proc/meminfo")
    ]
    if state_dir.exists():
        usage = shutil.disk_usage(state_dir)
        parts.append(f"# disk of {state_dir}: {usage.free} of {usage.total} bytes free")
    if program := shutil.which("nvidia-smi"):
        try:
            done = subprocess.run([program], capture_output=True, text=True, timeout=30, check=False)
            parts.append(f"# nvidia-smi\n{done.stdout}{done.stderr}")
        except (OSError, subprocess.TimeoutExpired) as problem:
            parts.append(f"# nvidia-smi: {problem}")
    return "\n".join(parts) + "\n"
