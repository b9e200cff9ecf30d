"""Where things are: the repository, the programs beside the Python that runs the tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COLLECTIONS = REPOSITORY / ".collections"
LOCAL = REPOSITORY / "inventories" / "local"
PROGRAMS = REPOSITORY / "src" / "wideep" / "programs"


def program(path: str) -> ModuleType:
    """Import a file of the repository that lies in no package, anew."""
    name = "_".join(Path(path).with_suffix("").parts)
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module
