"""Tests as a package, for programs of theirs that start without pytest (python -m tests.system.kills)."""

import sys
from pathlib import Path

# As pytest has it (pyproject.toml).
SUPPORT = str(Path(__file__).parent / "support")
if SUPPORT not in sys.path:
    sys.path.insert(0, SUPPORT)
