"""Secrets: where each value comes from, and the files in which hosts get them. On the controller only.

Nothing here is part of the plan: the plan knows names of users and of variables, and that files exist.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wideep.problems import Problem, suggest

# Below the state directory of a host; a directory that only its owner may enter.
DIRECTORY = "secrets"
# For clients of NATS and of etcd, for workers, for the NATS server: environment files (NAME=value).
NATS, ETCD, WORKER, NATS_SERVER = "nats.env", "etcd.env", "worker.env", "nats-server.env"
HUB_TOKEN, REGISTRY = "hub-token", "registry.json"
FILES = (NATS, ETCD, WORKER, NATS_SERVER, HUB_TOKEN, REGISTRY)
# Variable -> its default.
VARIABLES: dict[str, Any] = {
    "secrets_hub_token": "",
    "secrets_registries": [],
    "secrets_nats_user": "",
    "secrets_nats_password": "",
    "secrets_etcd_user": "",
    "secrets_etcd_password": "",
    "secrets_etcd_root_password": "",
    "secrets_env": {},
}
# A shorter one is easily guessed, and hiding it in output would hide ordinary words.
SHORTEST = 8
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SOURCES = "write the value (best with !vault), {env: NAME} or {file: /path}"
# Last words of a name that say that its value is secret.
_SECRET_WORDS = frozenset({"TOKEN", "PASSWORD", "PASSWD", "SECRET", "KEY", "APIKEY", "CREDENTIAL"})
# And those that say of such a word that it is another one.
_COUNTS = frozenset({"MAX", "MIN", "NUM"})
_NOT_BEFORE_SECRETS = frozenset(
    {"PER", "FIRST", "LAST", "NEXT", "NEW", "EOS", "BOS", "PAD", "MASK", "CONFIG", "GRAPH", "ROUTING"}
)
_SWITCHES = frozenset({"", "true", "false", "yes", "no", "on", "off"})
_NUMBER = re.compile(r"[+-]?[0-9]+([.][0-9]+)?")
# What the files above set themselves.
OWN_ENV = frozenset({"NATS_AUTH_USERNAME", "NATS_AUTH_PASSWORD", "ETCD_AUTH_USERNAME", "ETCD_AUTH_PASSWORD"})


def looks_secret(name: str) -> bool:
    """Whether an environment variable or flag of that name holds a secret: its last word says so.

    Not what counts tokens or is about one of the model's (`..._PER_TOKEN`, `MAX_..._TOKEN`), nor the key of a
    section.
    """
    *before, last = name.strip("-").replace("-", "_").upper().split("_")
    return (
        last in _SECRET_WORDS
        and _COUNTS.isdisjoint(before)
        and not (before and before[-1] in _NOT_BEFORE_SECRETS)
    )


def is_plain(value: str) -> bool:
    """Whether a value is none of a secret whatever its name is: a number, a switch, a path."""
    return value.startswith("/") or value.lower() in _SWITCHES or bool(_NUMBER.fullmatch(value))


def check_env_names(names: Sequence[str], planned: Mapping[str, str]) -> list[Problem]:
    """Return what is wrong with the names in `secrets_env`; `planned`: names of the plan and what to use."""
    problems = []
    for name in names:
        where = f"secrets_env.{name}"
        if not ENV_NAME.fullmatch(name) or name.startswith("WIDEEP_"):
            problems.append(
                Problem(
                    "it cannot be an environment variable of a worker", where, "use another name: A-Z, 0-9, _"
                )
            )
        elif name in planned:
            problems.append(Problem("the plan sets it", where, f"remove it, use {planned[name]}"))
        elif name in OWN_ENV:
            user = f"secrets_{name[:4].lower()}_user"
            problems.append(Problem("it is set where credentials are used", where, f"remove it, use {user}"))
    return problems


class Secrets:
    """The variables of role `secrets`, resolved. `problems` never holds a value."""

    def __init__(self, variables: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        """Resolve all; `variables` are templated and decrypted, names that are missing have their default."""
        self._environment = os.environ if environment is None else environment
        self.problems = [
            Problem("unknown variable", name, suggest(name, VARIABLES))
            for name in variables
            if name.startswith("secrets_") and name not in VARIABLES
        ]
        values = {**VARIABLES, **variables}
        self.hub_token = self._value(values["secrets_hub_token"], "secrets_hub_token")
        self.nats_user, self.nats_password = self._account(values, "nats")
        self.etcd_user, self.etcd_password = self._account(values, "etcd")
        self.etcd_root_password = self._value(
            values["secrets_etcd_root_password"], "secrets_etcd_root_password"
        )
        if self.etcd_user == "root":
            self.etcd_root_password = self.etcd_password
        elif self.etcd_user and values["secrets_etcd_root_password"] == "":
            self._problem("it is needed with secrets_etcd_user", "secrets_etcd_root_password", _SOURCES)
        self.env = self._env(values["secrets_env"])
        self.registries = self._registries(values["secrets_registries"])

    def _problem(self, message: str, where: str, remedy: str) -> None:
        problem = Problem(message, where, remedy)
        if problem not in self.problems:
            self.problems.append(problem)

    def _value(self, value: object, where: str) -> str:
        """Return a secret from one of its three sources; '' where there is none."""
        if isinstance(value, Mapping):
            value = self._sourced(value, where)
        elif not isinstance(value, str):
            self._problem("neither a string nor a source", where, _SOURCES)
            value = ""
        if not value:
            return ""
        # What environment files of systemd and podman, and NATS's quotes, take as it is.
        if re.search(r"""[\\"'\x00-\x1f\x7f]""", value) or value != value.strip():
            self._problem(
                "quotes, backslashes, line ends, and blanks at the ends cannot be passed on",
                where,
                "choose a value without them",
            )
            return ""
        if len(value) < SHORTEST:
            self._problem(f"a secret has at least {SHORTEST} characters", where, "choose a longer one")
            return ""
        return value

    def _sourced(self, source: Mapping[str, Any], where: str) -> str:
        if set(source) == {"env"}:
            name = str(source["env"])
            if not self._environment.get(name):
                self._problem(
                    f"{name} is empty or unset in the environment of this machine", where, f"export {name}=…"
                )
            return self._environment.get(name, "")
        if set(source) != {"file"}:
            self._problem(f"unknown source {', '.join(map(str, source)) or '{}'}", where, _SOURCES)
            return ""
        path = Path(str(source["file"])).expanduser()
        try:
            mode = path.stat().st_mode
            text = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text"
            self._problem(f"cannot read {path} on this machine: {reason}", where, "correct the path")
            return ""
        if mode & 0o007:
            self._problem(f"everybody on this machine may open {path}", where, f"chmod 600 {path}")
            return ""
        if not text:
            self._problem(f"{path} on this machine is empty", where, "write the secret into it")
        return text

    def _account(self, values: Mapping[str, Any], server: str) -> tuple[str, str]:
        user, where = values[f"secrets_{server}_user"], f"secrets_{server}_password"
        if not isinstance(user, str) or (user and not _USER.fullmatch(user)):
            self._problem("not a name", f"secrets_{server}_user", "use letters, digits, '.', '_' and '-'")
            return "", ""
        password = self._value(values[where], where)
        if user and values[where] == "":
            self._problem(f"it is needed with secrets_{server}_user", where, _SOURCES)
        if password and not user:
            self._problem(
                "a password without a user", f"secrets_{server}_user", "name the user, such as dynamo"
            )
        return user, password

    def _env(self, values: Any) -> dict[str, str]:
        if not isinstance(values, Mapping):
            self._problem("not a mapping", "secrets_env", "write NAME: value")
            return {}
        found = {}
        for name, value in values.items():
            found[str(name)] = self._value(value, f"secrets_env.{name}")
            if value == "":
                self._problem("it is empty", f"secrets_env.{name}", _SOURCES)
        return found

    def _registries(self, values: Any) -> list[dict[str, str]]:
        found = []
        for number, entry in enumerate(values if isinstance(values, list | tuple) else [values]):
            where = f"secrets_registries[{number}]"
            if not isinstance(entry, Mapping) or set(entry) != {"server", "username", "password"}:
                self._problem(
                    "a registry is described by server, username and password", where, "write all three"
                )
                continue
            server, username = entry["server"], entry["username"]
            if not all(isinstance(x, str) and x and not re.search(r"\s", x) for x in (server, username)):
                self._problem("server or username is no word", where, "write them as strings without blanks")
                continue
            if "://" in server:
                self._problem(
                    "server is a URL", where, "write the registry's host, and port, without https://"
                )
                continue
            password = self._value(entry["password"], f"{where}.password")
            if entry["password"] == "":
                self._problem("it is empty", f"{where}.password", _SOURCES)
            found.append({"server": server, "username": username, "password": password})
        return found

    def content(self, name: str, nats_routes: Sequence[str] = ()) -> str:
        """Return a file's content; '' where nothing is set for it.

        Args:
            name: one of `FILES`.
            nats_routes: for the NATS server: `address:port` of its cluster's other servers.
        """
        if name == HUB_TOKEN:
            return f"{self.hub_token}\n" if self.hub_token else ""
        if name == REGISTRY:
            return registry_auth(self.registries)
        if name == NATS_SERVER:
            return self._nats_server(nats_routes)
        accounts = {NATS: ("NATS", self.nats_user, self.nats_password)}
        accounts[ETCD] = ("ETCD", self.etcd_user, self.etcd_password)
        if name in accounts:
            server, user, password = accounts[name]
            return f"{server}_AUTH_USERNAME={user}\n{server}_AUTH_PASSWORD={password}\n" if user else ""
        return "".join(f"{key}={value}\n" for key, value in sorted(self.env.items()))

    def _nats_server(self, routes: Sequence[str]) -> str:
        """Return values in NATS's own syntax: without quotes it reads 12345678 as a number."""
        if not self.nats_user:
            return ""
        text = f"""WIDEEP_NATS_PASSWORD='"{self.nats_password}"'\n"""
        if routes:
            account = f"{self.nats_user}:{quote(self.nats_password, safe='')}"
            text += f"WIDEEP_NATS_ROUTES='{json.dumps([f'nats://{account}@{route}' for route in routes])}'\n"
        return text


def registry_auth(registries: Sequence[Mapping[str, str]]) -> str:
    """Return the file that podman, docker and Kubernetes' pull secrets share; '' without registries."""
    if not registries:
        return ""
    pairs = {x["server"]: f"{x['username']}:{x['password']}" for x in registries}
    auths = {server: {"auth": base64.b64encode(pair.encode()).decode()} for server, pair in pairs.items()}
    return json.dumps({"auths": auths}, indent=1) + "\n"
