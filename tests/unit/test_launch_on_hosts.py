"""The form in which hosts know a launch is that of the package, which hosts have not."""

from __future__ import annotations

import dataclasses
import typing
from types import UnionType
from typing import Any, Literal

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import launch as on_hosts
from example_inventories import inventory, local

from wideep.deployment import launch as planned
from wideep.plan import make_plan

DATACLASSES = [kind for kind in vars(planned).values() if dataclasses.is_dataclass(kind)]
# What `Launch.to_dict` adds.
ADDED = {"Launch": {"schema_version": int, "digest": str}}


def in_json(kind: Any) -> Any:
    """Return the type that a value has after a way through JSON, in words that can be compared."""
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return f"the {kind.__name__}"
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (tuple, list):
        (item,) = {in_json(argument) for argument in arguments if argument is not Ellipsis}
        return ("list", item)
    if origin in (UnionType, typing.Union):
        return ("one of", frozenset(in_json(argument) for argument in arguments))
    if origin is dict:
        return ("dict", *(in_json(argument) for argument in arguments))
    return ("literal", arguments) if origin is Literal else kind


@pytest.mark.parametrize("kind", DATACLASSES, ids=lambda kind: kind.__name__)
def test_names_types_and_what_is_required_are_the_same(kind: Any) -> None:
    there = getattr(on_hosts, kind.__name__)
    wanted = {name: in_json(hint) for name, hint in typing.get_type_hints(kind).items()}
    assert {name: in_json(hint) for name, hint in typing.get_type_hints(there).items()} == {
        **wanted,
        **ADDED.get(kind.__name__, {}),
    }
    # Nothing is left out of the JSON form, so nothing is optional.
    assert there.__required_keys__ == set(typing.get_type_hints(there))


def test_no_type_of_a_launch_is_left_out() -> None:
    types = {name for name, kind in vars(on_hosts).items() if typing.is_typeddict(kind)}
    assert types == {kind.__name__ for kind in DATACLASSES} != set()
    assert on_hosts.SCHEMA_VERSION == planned.SCHEMA_VERSION


def test_what_is_published_has_these_keys() -> None:
    for made in (make_plan(*local()), make_plan(*inventory("deepseek_r1_sglang"))):
        for own in made.launches.values():
            for launch in own:
                data = launch.to_dict()
                assert set(data) == on_hosts.Launch.__required_keys__
                if data["gang"]:
                    assert set(data["gang"]) == on_hosts.Gang.__required_keys__
