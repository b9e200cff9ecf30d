"""The command line of tools/release."""

from __future__ import annotations

import argparse
import sys

from release_tool import architectures, catalogues, installable, locks, metrics, renamed
from release_tool.folder import ROOT, release


def _locks(options: argparse.Namespace) -> int:
    for path in locks.make_locks(release(options.version), upgrade=options.upgrade, only=tuple(options.only)):
        print(path.relative_to(ROOT))
    return 0


def _check(options: argparse.Namespace) -> int:
    wrong = renamed.problems(release(options.version))
    for problem in wrong:
        print(problem)
    return 0 if installable.check(release(options.version), tuple(options.only)) and not wrong else 1


def _catalogues(options: argparse.Namespace) -> int:
    for path in catalogues.make_catalogues(release(options.version)):
        print(path.relative_to(ROOT))
    return 0


def _sglang(options: argparse.Namespace) -> int:
    print(architectures.make_sglang(release(options.version)).relative_to(ROOT))
    return 0


def _metrics(options: argparse.Namespace) -> int:
    print(metrics.make_metrics(release(options.version)).relative_to(ROOT))
    return 0


def _environment(options: argparse.Namespace) -> int:
    print(locks.environment(release(options.version), options.lock))
    return 0


def main() -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(
        prog="tools/release", description="Make and check configs/releases/<version>."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.set_defaults(function=function)
        found.add_argument("version", nargs="?", help="release of Dynamo (default: the newest there is)")
        return found

    made = command("locks", _locks, "resolve its lock files")
    made.add_argument("--only", action="append", default=[], metavar="NAME", help="this one (repeatable)")
    made.add_argument("--upgrade", action="store_true", help="take the newest of what is not pinned")
    made = command("check", _check, "install each lock file on each Python, and start what comes out of it")
    made.add_argument("--only", action="append", default=[], metavar="NAME", help="this lock (repeatable)")
    made = command("environment", _environment, "install it below .cache/releases; prints the interpreter")
    made.add_argument("--lock", default="ai-dynamo-sglang", metavar="NAME", help="default: %(default)s")
    command("catalogues", _catalogues, "write down the flags of its programs")
    command("sglang", _sglang, "write down what only SGLang's sources tell")
    command("metrics", _metrics, "start it on this machine and write down the names of its metrics")
    options = parser.parse_args()
    return int(options.function(options))


if __name__ == "__main__":
    sys.exit(main())
