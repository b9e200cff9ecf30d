"""What pydantic refuses, in an operator's words: what is wrong with a value, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wideep.problems import suggest

# Patterns of texts, and what they mean.
DEPLOYMENT_NAME = r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$"
MODEL_NAME = r"^[^\s:]+$"
NAMESPACE = r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"
DEVICE = r"^[A-Za-z0-9_]+$"
INTERFACE = r"^[A-Za-z0-9_.-]*$"
WORD = r"^\S+$"
# A name with a tag or a digest, or an image's ID. No credentials: they have a file of their own.
IMAGE = r"^([a-z0-9][A-Za-z0-9._:/-]*(@sha256:[0-9a-f]{64})?)?$"
SHARED_MEMORY = r"^(host|[1-9][0-9]*[mg])$"
MOUNT = r"^/[^\s:]*:/[^\s:]*(:[A-Za-z,=]+)?$"
HOST_FILE = r"^(/[A-Za-z0-9._@+/-]+)?$"
PODMAN_OPTION = r"^--[a-z][a-z-]*(=\S+)?$"
PATTERNS = {
    DEPLOYMENT_NAME: "write 1 to 32 small letters, digits and dashes, a letter first, no dash at the end",
    MODEL_NAME: "write the name that clients ask for, without spaces and colons",
    NAMESPACE: "write small letters, digits, _ and -, a letter or digit first and last",
    DEVICE: "write the device alone, as `ibdev2netdev` lists it (mlx5_0)",
    INTERFACE: "write one interface, as `ip -br link` lists it (eth0): no pattern, no list",
    WORD: "write one word without spaces",
    IMAGE: "write REGISTRY/NAME@sha256:DIGEST, REGISTRY/NAME:TAG or sha256:ID, without user and password",
    SHARED_MEMORY: "write host, or a size such as 16g or 512m",
    MOUNT: "write /source:/destination or /source:/destination:ro, absolute paths without spaces and colons",
    HOST_FILE: "write an absolute path on the hosts, of letters, digits and ._@+/- only",
    PODMAN_OPTION: "write one option of podman run with its value, in one word: --name=value",
}
# Of texts that have one: the greatest length. Who is told of characters looks for a wrong one.
LONGEST = {DEPLOYMENT_NAME: 32}
COMPARED = {
    "greater_than_equal": ("is less than", "ge", "{} or more"),
    "greater_than": ("is not more than", "gt", "more than {}"),
    "less_than_equal": ("is more than", "le", "{} or less"),
    "less_than": ("is not less than", "lt", "less than {}"),
}
# How the names of pydantic's errors begin: what the value is not, and what is wanted.
KINDS = (
    ("int_", "is not a whole number", "write a whole number"),
    ("float_", "is not a number", "write a number"),
    ("finite_number", "is not a number", "write a number"),
    ("bool_", "is neither true nor false", "write true or false"),
    ("string_type", "is not a text", "write a text, with quotes if it looks like a number or true or false"),
    ("string_unicode", "is not a text", "write a text"),
    (
        "dict_",
        "is not a mapping of names to values",
        "write `name: value` lines below it, or {name: value}",
    ),
    (
        "model_",
        "is not a mapping of names to values",
        "write `name: value` lines below it, or {name: value}",
    ),
    ("list_type", "is not a list", "write a list: [a, b]"),
    ("tuple_type", "is not a list", "write a list: [a, b]"),
    ("too_short", "is too short a list", "name at least one"),
)
LONGEST_SHOWN = 60


def shown(value: Any) -> str:
    """Return a value as an operator would know it again; long ones, and what may hold secrets, in short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple | set):
        return "a list"
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def explain(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return (what is wrong, what to write instead) for one of pydantic's errors; the latter may be empty."""
    kind, value, context = str(item["type"]), shown(item.get("input")), item.get("ctx") or {}
    if kind in COMPARED:
        says, key, wanted = COMPARED[kind]
        return f"{value} {says} {context[key]}", f"use {wanted.format(context[key])}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return f"{value} is not one of its values", suggest(str(item.get("input")), choices)
    if kind == "string_pattern_mismatch":
        pattern, length = context["pattern"], len(str(item.get("input")))
        most = LONGEST.get(pattern, length)
        says = f"is too long: {length} characters, {most} at most"
        says = says if length > most else "has characters that are not allowed"
        return f"{value} {says}", PATTERNS.get(pattern, "")
    for begins, says, wanted in KINDS:
        if kind.startswith(begins):
            return f"{value} {says}", wanted
    message = str(item["msg"]).removeprefix("Value error, ")
    return (message if value in message else f"{message} (got {value})"), ""
