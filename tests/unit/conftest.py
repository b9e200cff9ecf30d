"""Unit tests are deterministic: the same examples on every machine, nothing remembered between runs.

They start no Ansible: that takes seconds, and is the business of tests/integration.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repository",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repository")

# A program of Ansible, by itself, after an interpreter or in a line for a shell.
ANSIBLE = re.compile(r"(?:^|[\s/'\"])ansible(?:-[a-z]+)?(?=$|[\s'\"])|^ansible(?:\.|_runner)")
STARTS = {"subprocess.Popen": 1, "os.exec": 1, "os.posix_spawn": 1}  # event -> where its argv is


class Guard:
    """Refuses the start of Ansible while a test runs, also after a fork; says what was refused."""

    def __init__(self) -> None:
        self.active = False
        descriptor, self._log = tempfile.mkstemp(prefix="wideep-unit-")
        os.close(descriptor)
        sys.addaudithook(self._look)

    def _look(self, event: str, given: tuple[object, ...]) -> None:
        if not self.active or event not in STARTS:
            return
        argv = given[STARTS[event]]
        words = [os.fsdecode(word) for word in (argv if isinstance(argv, list | tuple) else [argv])]
        if any(map(ANSIBLE.search, words[:3])):
            with Path(self._log).open("a", encoding="utf-8") as log:
                log.write(" ".join(words) + "\n")
            # An OSError is what a forked child reports to its parent.
            raise PermissionError(errno.EACCES, f"a unit test starts Ansible: {' '.join(words)}")

    def refused(self) -> str:
        """Return what was refused since it was asked last, a line each."""
        log = Path(self._log)
        text = log.read_text(encoding="utf-8")
        log.write_text("", encoding="utf-8")
        return text

    def end(self) -> None:
        """Look no more: a hook cannot be removed."""
        self.active = False
        Path(self._log).unlink()


@pytest.fixture(scope="session")
def guard() -> Iterator[Guard]:
    one = Guard()
    yield one
    one.end()


@pytest.fixture(autouse=True)
def _no_ansible(guard: Guard) -> Iterator[None]:
    """Fail a test that starts a program of Ansible, also where the error is swallowed."""
    guard.active = True
    yield
    guard.active = False
    if refused := guard.refused():
        pytest.fail(f"a unit test starts Ansible, move it to tests/integration:\n{refused}", pytrace=False)
