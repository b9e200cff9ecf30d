# Copyright: The wideep authors
# SPDX-License-Identifier: Apache-2.0
"""The Python package wideep, as plugins of the controller first meet it: without it they say how to get it.

Plugins import this, by themselves or through another plugin_utils, above anything else of wideep.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ansible.errors import AnsibleError

COLLECTION = Path(__file__).resolve().parents[2]


def missing(error: ImportError, collection: Path = COLLECTION) -> str:
    """Return where the package was looked for in vain, and the command that brings it."""
    if (collection / "tools" / "setup").is_file():
        remedy = f"run `make setup` in {collection} and use the programs of its .venv/bin"
    else:
        command = f"{sys.executable} -m pip install {collection}"
        remedy = f"install it: {command} (or the wheel that was built beside the collection's tarball)"
    return f"the Python package wideep is not in Ansible's environment, {sys.prefix} ({error}); {remedy}"


try:
    from wideep.plain import plain
except ImportError as error:
    raise AnsibleError(missing(error)) from None  # its cause would be told twice

__all__ = ["missing", "plain"]
