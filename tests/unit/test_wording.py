"""What pydantic refuses, in an operator's words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from wideep.wording import INTERFACE, PATTERNS, explain, shown


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("not odd")
    return value


CASES: list[tuple[Any, Any, str, str]] = [
    (int, "two", "'two' is not a whole number", "write a whole number"),
    (int, 1.5, "1.5 is not a whole number", "write a whole number"),
    (int, None, "null is not a whole number", "write a whole number"),
    (float, "x", "'x' is not a number", "write a number"),
    (bool, "maybe", "'maybe' is neither true nor false", "write true or false"),
    (str, True, "true is not a text", "write a text"),
    (dict[str, int], [1], "a list is not a mapping", "`name: value`"),
    (list[int], {"a": 1}, "a mapping is not a list", "[a, b]"),
    (tuple[int, ...], 5, "5 is not a list", "[a, b]"),
    (Annotated[list[int], Field(min_length=1)], [], "a list is too short", "name at least one"),
    (Annotated[int, Field(ge=1)], 0, "0 is less than 1", "use 1 or more"),
    (Annotated[int, Field(le=9)], 10, "10 is more than 9", "use 9 or less"),
    (Annotated[float, Field(gt=0)], 0.0, "0.0 is not more than 0", "use more than 0"),
    (Annotated[float, Field(lt=1)], 1.0, "1.0 is not less than 1", "use less than 1"),
    (Literal["ib", "roce"], "rocce", "'rocce' is not one of its values", "did you mean roce?"),
    (Literal["ib", "roce"], 7, "7 is not one of its values", "use one of: ib, roce"),
    (Annotated[str, Field(pattern=INTERFACE)], "^lo", "'^lo' has characters", "no pattern, no list"),
    (Annotated[int, AfterValidator(_odd)], 4, "not odd (got 4)", ""),
]


@pytest.mark.parametrize(("kind", "value", "message", "wanted"), CASES)
def test_what_is_wrong_and_what_to_write(kind: Any, value: Any, message: str, wanted: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    [item] = caught.value.errors()
    said, instead = explain(item)
    assert message in said
    assert wanted in instead
    for word in ("Input", "valid", "dictionary", "instance", "pattern '"):
        assert word not in said


def test_each_pattern_has_its_words() -> None:
    assert all(words.startswith("write ") for words in PATTERNS.values())


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 500)) < 70
