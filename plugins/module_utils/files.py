"""Files and directories brought to a wanted state, with what changed, for check and diff mode."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from ansible_collections.wideep.dynamo.plugins.module_utils.launch import HIDDEN


class Files:
    """Collects changes. With `check` nothing is touched; `changes` and `diff` say what would be."""

    def __init__(self, check: bool) -> None:
        self.check = check
        self.changes: list[str] = []
        self.paths: list[str] = []
        self.diff: list[dict[str, Any]] = []
        self._done: set[Path] = set()

    def _note(self, path: Path, what: str, before: str, after: str) -> None:
        self.changes.append(f"{path}: {what}")
        self.paths.append(str(path))
        header = f"{path} ({what})"
        self.diff.append({"before_header": header, "after_header": header, "before": before, "after": after})

    def directory(self, path: str | Path, mode: int, user: str = "", *, keep_mode: bool = False) -> None:
        """Make the directory and what leads to it; `keep_mode` leaves the mode of one that is there.

        The first word about a directory counts: a service's own directory stays ours when it works in it.
        """
        path = Path(path)
        if path in self._done:
            return
        self._done.add(path)
        owner = _owner(user)
        if path.is_dir():
            status = path.stat()
            right_mode = keep_mode or stat.S_IMODE(status.st_mode) == mode
            if right_mode and (owner is None or (status.st_uid, status.st_gid) == owner):
                return
            what = "directory, mode and owner"
        else:
            what = "directory"
        self._note(path, what, "", f"{mode:04o} {user}\n")
        if self.check:
            return
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        if not keep_mode or what == "directory":
            path.chmod(mode)
        if owner is not None:
            os.chown(path, *owner)

    def file(
        self,
        path: str | Path,
        content: str | bytes,
        mode: int = 0o644,
        user: str = "",
        *,
        reader: str = "",
        shown: tuple[str, str] | None = None,
    ) -> bool:
        """Write the file in one step (it is never half there); return whether it changed.

        `shown` are the texts before and after for the diff, where the contents themselves must not be seen;
        without it, contents of files that only their owner may read are hidden. `reader` is a user whose
        group the file gets, where it is not the user's own.
        """
        path = Path(path)
        data = content.encode() if isinstance(content, str) else content
        owner = _owner(user, reader)
        before: bytes | None = None
        same_rights = False
        if path.is_file():
            before = path.read_bytes()
            status = path.stat()
            same_rights = stat.S_IMODE(status.st_mode) == mode and (
                owner is None or (status.st_uid, status.st_gid) == owner
            )
        if before == data and same_rights:
            return False
        if before == data:
            self._note(path, "mode and owner", "", f"{mode:04o} {user}\n")
        else:
            if shown is None:
                hidden = mode & 0o077 == 0
                texts = ((before or b"").decode(errors="replace"), data.decode(errors="replace"))
                shown = (f"{HIDDEN}\n", f"{HIDDEN} (changed)\n") if hidden else texts
            self._note(path, "changed" if before is not None else "new", *shown)
        if not self.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as out:
                    out.write(data)
                    os.fchmod(out.fileno(), mode)
                    if owner is not None:
                        os.fchown(out.fileno(), *owner)
                    out.flush()
                    os.fsync(out.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink()
                raise
        return True

    def remove(self, path: str | Path) -> None:
        """Remove a file or a whole directory, if it is there."""
        path = Path(path)
        if not path.is_symlink() and not path.exists():
            return
        self._note(path, "removed", "", "")
        if self.check:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _owner(user: str, reader: str = "") -> tuple[int, int] | None:
    """Return uid and gid to give a file to; None where it stays ours."""
    if not (user or reader) or os.geteuid() != 0:
        return None
    uid = pwd.getpwnam(user).pw_uid if user else 0
    return uid, pwd.getpwnam(reader or user).pw_gid
