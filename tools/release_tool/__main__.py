"""The command line of tools/release."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from release_tool import compare, installable, locks, renamed
from release_tool.add import add
from release_tool.behaviour import make_behaviour
from release_tool.catalogues import make_catalogues
from release_tool.environment_names import make_environment
from release_tool.folder import ROOT, Release, release
from release_tool.metrics import make_metrics
from release_tool.sglang_sources import make_sglang

STEPS: dict[str, tuple[Callable[[Release], Path | list[Path] | None], str]] = {
    "catalogues": (make_catalogues, "write down the flags of its programs"),
    "sglang": (make_sglang, "write down what only SGLang's sources tell"),
    "environment": (make_environment, "write down the environment variables that it reads"),
    "metrics": (make_metrics, "start it on this machine and write down its metrics"),
    "behaviour": (make_behaviour, "start it on this machine and try what wideep's code leans on"),
    "changes": (compare.make_changes, "write down what differs from the release before it"),
}


def _told(paths: Path | list[Path] | None) -> int:
    for path in [paths] if isinstance(paths, Path) else paths or []:
        print(path.relative_to(ROOT))
    return 0


def _check(one: Release, only: tuple[str, ...]) -> int:
    wrong = renamed.problems(one)
    for problem in wrong:
        print(problem)
    return 0 if installable.check(one, only) and not wrong else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/release", description="Make and check configs/releases/<version>."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def command(name: str, text: str, version: str = "?") -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.add_argument("version", nargs=version, help="release of Dynamo; unless named, the newest")
        return found

    made = commands.add_parser("add", help="make the folder of a release: all steps below, and what is left")
    made.add_argument("version", help="release of Dynamo")
    made = command("locks", "resolve its lock files")
    made.add_argument("--only", action="append", default=[], metavar="NAME", help="this one (repeatable)")
    made.add_argument("--upgrade", action="store_true", help="take the newest of what is not pinned")
    for name, (_, text) in STEPS.items():
        command(name, text)
    made = command("check", "install each lock file on each Python, and start what comes out of it")
    made.add_argument("--only", action="append", default=[], metavar="NAME", help="this lock (repeatable)")
    made = command("install", "install it below .cache/releases; prints the interpreter")
    made.add_argument("--lock", default="ai-dynamo-sglang", metavar="NAME", help="default: %(default)s")
    made = commands.add_parser("compare", help="print what differs between two of them")
    made.add_argument("version", help="the earlier one")
    made.add_argument("other", nargs="?", help="the later one; unless named, the newest")
    return parser


def main() -> int:
    """Do what was asked for."""
    options = _parser().parse_args()
    if options.command == "add":
        add(options.version)
        return 0
    one = release(options.version)
    if options.command in STEPS:
        return _told(STEPS[options.command][0](one))
    if options.command == "locks":
        return _told(locks.make_locks(one, upgrade=options.upgrade, only=tuple(options.only)))
    if options.command == "check":
        return _check(one, tuple(options.only))
    print(
        compare.report(one, release(options.other))
        if options.command == "compare"
        else locks.environment(one, options.lock)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
