"""Where the repository's data files are: in a checkout, or in the installed Ansible collection."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTION = Path("ansible_collections", "wideep", "dynamo")
# A directory is the collection's root when it has this one.
MARKER = Path("configs", "releases")


def _roots() -> Iterator[Path]:
    yield Path(__file__).resolve().parents[3]
    # Where a plugin runs, the collection that it came with.
    if loaded := sys.modules.get("ansible_collections.wideep.dynamo"):
        yield from (Path(path) for path in loaded.__path__)
    for directory in (*collections_paths(), *(Path(entry) for entry in sys.path if entry)):
        yield directory / COLLECTION


def collections_paths() -> tuple[Path, ...]:
    """Return where Ansible looks for collections, by its environment, ansible.cfg or default."""
    from ansible import constants  # noqa: PLC0415  a checkout need not wait for it

    return tuple(Path(path) for path in vars(constants)["COLLECTIONS_PATHS"])


def collection_root() -> Path:
    """Return the directory that holds `configs/` and `roles/`: the checkout, else the installed collection.

    Raises:
        FileNotFoundError: neither is there; the message says what to install or to set.
    """
    for root in _roots():
        if (root / MARKER).is_dir():
            return root
    raise FileNotFoundError(
        "the files of the collection wideep.dynamo were not found: run from a checkout, or install the"
        " tarball of `make collection` ('ansible-galaxy collection install wideep-dynamo-*.tar.gz') into a"
        " directory of collections_path in ansible.cfg, or ANSIBLE_COLLECTIONS_PATH: "
        + os.pathsep.join(str(path) for path in collections_paths())
    )


def configs_dir() -> Path:
    """Return the `configs` directory; the environment variable WIDEEP_CONFIGS names another one.

    Raises:
        FileNotFoundError: there is none, or WIDEEP_CONFIGS is not a `configs` directory.
    """
    override = os.environ.get("WIDEEP_CONFIGS")
    if not override:
        return collection_root() / "configs"
    path = Path(override).expanduser()
    if not (path / MARKER.name).is_dir():
        raise FileNotFoundError(f"WIDEEP_CONFIGS names {path}, which has no {MARKER.name}: correct it")
    return path


def roles_dir() -> Path:
    """Return the `roles` directory. Raises FileNotFoundError as `collection_root` does."""
    return collection_root() / "roles"
