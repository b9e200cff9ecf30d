"""Calls of the collection's modules in this process."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
from ansible.module_utils.testing import patch_module_args


def call_module(module: ModuleType, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a module as a host does; return its result.

    On a host nothing of the controller is imported. Here another test may have done so, and warnings would
    then be shown in place of returned.
    """
    with (
        patch("ansible.module_utils._internal.is_controller", False),
        patch_module_args(arguments),
        pytest.raises(SystemExit),
    ):
        module.main()
    return json.loads(capsys.readouterr().out)
