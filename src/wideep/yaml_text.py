"""YAML that all readers understand alike.

Some read YAML 1.1 as it was written down (kubectl and other programs in Go: `y` is true, `1e3` a number),
others as Python does or as YAML 1.2. A text that any of them takes for something else stands in quotes.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

# Beside what Python's own rules quote.
WORDS = re.compile(r"y|n|yes|no|on|off|true|false|null|~|=|<<|[-+]?\.?(inf|nan)", re.IGNORECASE)
NUMBERS = re.compile(
    r"[-+]?(0[xob][0-9a-f_]+|([0-9][0-9_]*(:[0-9_]+)*(\.[0-9_]*)?|\.[0-9_]+)(e[-+]?[0-9_]*)?)", re.IGNORECASE
)


class Dumper(yaml.SafeDumper):
    """Lists below their key are indented; nothing is written by reference."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists in mappings, too."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        """Write the same thing twice rather than name it."""
        return True


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    """Texts of several lines are blocks."""
    style = "|" if "\n" in data else "'" if WORDS.fullmatch(data) or NUMBERS.fullmatch(data) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


Dumper.add_representer(str, _text)


def dump(value: Any) -> str:
    """Return a value as YAML, in its own order."""
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, width=100))
