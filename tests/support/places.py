"""Where things are: the repository, the programs beside the Python that runs the tests."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COLLECTIONS = REPOSITORY / ".collections"
LOCAL = REPOSITORY / "inventories" / "local"
PROGRAMS = REPOSITORY / "src" / "wideep" / "programs"
