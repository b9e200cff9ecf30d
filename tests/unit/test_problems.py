"""How problems read."""

from __future__ import annotations

import pytest

from wideep.problems import Problem, RefusedError, describe, errors, raise_errors, suggest, together

ONE = Problem("it is red", "wideep_colour", "paint it")
TWO = Problem("it is loud", "wideep_sound", "turn it down")
WARNING = Problem("it is old", "wideep_age", "renew it", "warning")


def test_one_problem_needs_no_number() -> None:
    assert describe([ONE]) == "nothing was changed: 1 problem\n  wideep_colour: it is red\n    fix: paint it"


def test_several_problems_are_counted() -> None:
    assert describe([ONE, TWO]) == (
        "nothing was changed: 2 problems\n"
        "  1. wideep_colour: it is red\n    fix: paint it\n"
        "  2. wideep_sound: it is loud\n    fix: turn it down"
    )


def test_a_refusal_holds_and_tells_all() -> None:
    refused = RefusedError([ONE, TWO])
    assert refused.problems == (ONE, TWO)
    assert str(refused) == describe([ONE, TWO])


def test_only_errors_refuse_each_once() -> None:
    assert errors([ONE, WARNING, ONE, TWO]) == [ONE, TWO]
    raise_errors([WARNING])
    raise_errors([])
    with pytest.raises(RefusedError) as refused:
        raise_errors([WARNING, TWO, TWO])
    assert refused.value.problems == (TWO,)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("sglagn", "did you mean sglang?"),
        ("mocker2", "did you mean mocker?"),
        ("vllm", "use one of: mocker, sglang, trtllm"),
        ("", "use one of: mocker, sglang, trtllm"),
    ],
)
def test_the_nearest_word_is_suggested(word: str, text: str) -> None:
    assert suggest(word, ["trtllm", "sglang", "mocker"]) == text


def test_the_same_of_several_pools_is_told_once() -> None:
    def problem(pool: str, of: str = "page_size") -> Problem:
        return Problem("too small", f"wideep_pools.{pool}.options.{of}", f"raise wideep_pools.{pool}.{of}")

    both = [problem("prefill"), ONE, problem("decode"), problem("decode", "other")]
    assert together(both) == [problem("{prefill,decode}"), ONE, problem("decode", "other")]
    assert describe(both).startswith("nothing was changed: 3 problems\n  1. wideep_pools.{prefill,decode}.")
    assert describe([problem("decode")] * 2).startswith(
        "nothing was changed: 1 problem\n  wideep_pools.decode"
    )
