"""What an engine says at levels info and warning is no cause of a failed start, but for a few that are meant.

Reads the sources of each release's SGLang (tools/sglang_env installs it) and runs nothing of it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import REPOSITORY

from wideep.reference.release import releases
from wideep.reports.diagnosis import explain

pytestmark = pytest.mark.fidelity

LEVELS = re.compile(r"(?:print_|log_)?(?:info|warning|warn)(?:_once|_on_rank0)?")
PACKAGES = ("sglang/srt", "dynamo")
# Messages that are causes of a start that takes too long, and of requests that end: how they begin.
MEANT = {
    "kv-peer": ("Some requests timed out when bootstrapping", "Some requests fail to receive KV Cache"),
    "deepgemm-jit": (
        "PP-parallel DeepGEMM warmup start",
        "Try DeepGEMM JIT Compiling",
        "Entering DeepGEMM JIT Pre-Compile",
    ),
}


def packages(release: str) -> Path:
    """Return where a release's SGLang is installed."""
    found = REPOSITORY / ".cache" / "releases" / release / "ai-dynamo-sglang" / "lib"
    return next(found.glob("python3*/site-packages"), found)


def words(node: ast.expr) -> str:
    """Return a message as it would be printed, with 7 for every value."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%[-\d.]*[sdrfx]", "7", str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(words(part) if isinstance(part, ast.Constant) else "7" for part in node.values)
    if isinstance(node, ast.BinOp):
        return words(node.left) + (words(node.right) if isinstance(node.op, ast.Add) else "")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return re.sub(r"\{[^}]*\}", "7", words(node.func.value))
    return ""


def messages(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield file and message of each call of a logger."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                # Some helpers have the logger before the message.
                for text in filter(None, map(words, node.args[:2])) if LEVELS.fullmatch(name) else ():
                    yield str(path.relative_to(folder)), text


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("package", PACKAGES)
def test_no_ordinary_message_is_a_cause(release: str, package: str) -> None:
    folder = packages(release) / package
    if not folder.is_dir():
        pytest.skip(f"SGLang of {release} is not installed: tools/sglang_env {release}")
    said = list(messages(folder))
    assert len(said) > 1000
    taken = [
        (file, cause.pattern, text)
        for file, text in said
        for cause in explain([text, *text.splitlines()])
        if not text.startswith(MEANT.get(cause.pattern, ()))
    ]
    assert taken == []
