"""The command `wideep`, called in this process as the shell calls it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from wideep import cli, runner


@dataclass(frozen=True)
class Answer:
    """How a call ended, and what it printed."""

    code: int
    out: str
    err: str


class Command:
    """Calls of the command on a project, on a wide terminal."""

    def __init__(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        monkeypatch.setattr(runner, "project_root", lambda: project)
        monkeypatch.setenv("COLUMNS", "200")

    def __call__(self, *arguments: str) -> Answer:
        self.monkeypatch.setattr(sys, "argv", ["wideep", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self.capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)
