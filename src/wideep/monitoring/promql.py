"""What an expression of Prometheus asks for: enough of its grammar to hold it to what is measured."""

from __future__ import annotations

import re

_TEXT = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'')
_LABELS = re.compile(r"\{[^{}]*\}")
_WINDOW = re.compile(r"\[[^\[\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)", re.IGNORECASE)
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\(|[a-zA-Z0-9_:])")
_KEYWORDS = frozenset(
    {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"}
)


def metrics_of(expression: str) -> set[str]:
    """Return the names of the series that an expression reads."""
    rest = expression
    for part in (_TEXT, _LABELS, _WINDOW, _GROUPING):
        rest = part.sub(" ", rest)
    rest = re.sub(r"\b\d+(\.\d+)?([eE][-+]?\d+|[smhdwy])?\b", " ", rest)
    return {word for word in _WORD.findall(rest) if word.lower() not in _KEYWORDS}
