"""Accounts of an etcd cluster, through its JSON gateway: on, changed, off; only what differs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files

TIMEOUT_S = 10.0
ROOT = "root"
# Dynamo may read and write everything: the cluster is the deployment's own. Key "\0" up to "\0": all.
_ALL = {"permType": "READWRITE", "key": "AA==", "range_end": "AA=="}


class EtcdError(Exception):
    """What etcd answered; never holds a password."""


class Accounts:
    """The accounts of a cluster, asked at one member's client URL."""

    def __init__(self, endpoint: str, *, check: bool) -> None:
        self.endpoint = endpoint
        self.check = check
        self.changes: list[str] = []
        self._token = ""
        # Addresses of the cluster never go through a proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        header = {"Content-Type": "application/json"}
        if self._token:
            header["Authorization"] = self._token
        request = urllib.request.Request(f"{self.endpoint}/v3/auth/{path}", json.dumps(body).encode(), header)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as reply:
                answer: dict[str, Any] = json.load(reply)
        except urllib.error.HTTPError as problem:
            try:
                said = json.load(problem)
                text = said.get("error") or said.get("message") or ""
            except (ValueError, AttributeError):
                text = ""
            raise EtcdError(text or f"HTTP {problem.code}") from None
        except (OSError, ValueError) as problem:
            raise EtcdError(f"no answer from {self.endpoint}: {problem}") from None
        return answer

    def _post_once(self, path: str, **body: Any) -> None:
        """Make something that may be there already, half done by an earlier run."""
        try:
            self._post(path, **body)
        except EtcdError as problem:
            if "already" not in str(problem):
                raise

    def enabled(self) -> bool:
        """Whether accounts are needed."""
        try:
            return bool(self._post("status").get("enabled"))
        except EtcdError as problem:
            if "user name is empty" in str(problem):
                return True
            raise

    def log_in(self, user: str, password: str) -> str:
        """Return a token; '' where etcd refuses the account."""
        try:
            return str(self._post("authenticate", name=user, password=password)["token"])
        except EtcdError as problem:
            if "authentication failed" in str(problem):
                return ""
            raise

    def _become_root(self, *passwords: str) -> int:
        """Log in with the first password that works; return its place, -1 where none does."""
        for place, password in enumerate(passwords):
            self._token = self.log_in(ROOT, password) if password else ""
            if self._token:
                return place
        return -1

    def _account(self, user: str, password: str) -> None:
        """Make the user with its role, or give it this password."""
        self._post_once("user/add", name=user, password=password)
        self._post("user/changepw", name=user, password=password)
        self._post_once("role/add", name=user)
        if user != ROOT:
            self._post("role/grant", name=user, perm=_ALL)
        self._post_once("user/grant", user=user, role=user)

    def present(self, user: str, password: str, root: str, before: dict[str, str]) -> None:
        """Have root and the user with these passwords, and accounts needed.

        before: `user` and `root` as of the last run; {} in the first. An earlier user goes.
        """
        if not self.enabled():
            self.changes.append(f"accounts are needed now: {ROOT} and {user}")
            if not self.check:
                for name, its in {ROOT: root, user: password}.items():
                    self._account(name, its)
                self._post("enable")
            return
        place = self._become_root(root, before.get("root", ""))
        if place < 0:
            raise EtcdError(
                "etcd has accounts, and refuses root's password; set secrets_etcd_root_password to the one"
                " that it has, or remove the data directory of etcd on all control hosts"
            )
        if place == 1:
            self.changes.append("password of root")
            if not self.check:
                self._post("user/changepw", name=ROOT, password=root)
                self._become_root(root)
        if user != ROOT and not self.log_in(user, password):
            self.changes.append(f"account {user}")
            if not self.check:
                self._account(user, password)
        gone = before.get("user", user)
        if gone not in (user, ROOT):
            self.changes.append(f"account {gone} removed")
            if not self.check:
                self._post("user/delete", name=gone)

    def absent(self, before: dict[str, str]) -> None:
        """Need no accounts any more."""
        if not self.enabled():
            return
        self.changes.append("accounts are not needed any more")
        if self._become_root(before.get("root", "")) < 0:
            raise EtcdError(
                "etcd wants an account, and none is given; set secrets_etcd_user and its passwords,"
                " or remove the data directory of etcd on all control hosts"
            )
        if not self.check:
            self._post("disable")


def recorded(record: Path) -> dict[str, str]:
    """Return what the last run has noted, {} before the first. Raises OSError, ValueError."""
    found: dict[str, str] = json.loads(record.read_text()) if record.is_file() else {}
    return found


def settle(
    accounts: Accounts, files: Files, record: Path, before: dict[str, str], wanted: tuple[str, str, str]
) -> None:
    """Have the accounts as wanted (user, its password, root's; no user: no accounts), and note it."""
    user, _, root = wanted
    if user:
        accounts.present(*wanted, before)
        files.directory(record.parent, 0o700)
        files.file(record, json.dumps({"user": user, "root": root}) + "\n", 0o600)
        return
    accounts.absent(before)
    files.remove(record)
    if record.parent.is_dir() and not any(record.parent.iterdir()):
        files.remove(record.parent)  # the last of the secrets
