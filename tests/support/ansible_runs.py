"""Runs of Ansible as a person starts it: not for unit tests, whose conftest.py refuses them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from places import BIN, REPOSITORY

PLAIN = {
    "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
}
Done = subprocess.CompletedProcess[str]


def ansible(program: str, *words: str | Path, **env: str) -> Done:
    """Run a program of Ansible in the repository; return how it ended, with its output as text, in plain."""
    return subprocess.run(
        [BIN / program, *words],
        cwd=REPOSITORY,
        env={**os.environ, **PLAIN, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def playbook(
    path: str | Path, *options: str | Path, variables: dict[str, Any] | None = None, **env: str
) -> Done:
    """Run a playbook with this Python as that of the hosts; `variables` as by -e."""
    given = {"ansible_python_interpreter": str(BIN / "python"), **(variables or {})}
    return ansible("ansible-playbook", path, "-e", json.dumps(given), *options, **env)


def module(name: str, arguments: dict[str, Any], *options: str | Path, **env: str) -> Done:
    """Run a module, with its action plugin where it has one, on this machine."""
    here = ("-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={BIN / 'python'}")
    return ansible("ansible", "localhost", *here, "-m", name, "-a", json.dumps(arguments), *options, **env)
