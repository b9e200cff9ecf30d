"""The loop of actions that wait."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.plugin_utils import waiting
from ansible_collections.wideep.dynamo.plugins.plugin_utils.waiting import Clock, wait


def test_it_looks_until_there_is_a_result_and_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    paused: list[float] = []
    answers: list[dict[str, Any] | str] = ["1 of 2", "", {"changed": False}]
    monkeypatch.setattr(waiting.Display, "display", lambda _, text: said.append(text))
    monkeypatch.setattr(waiting.time, "sleep", paused.append)
    assert wait(lambda _: answers.pop(0), 3.0) == {"changed": False}
    assert said == ["1 of 2"]
    assert paused == [3.0, 3.0]
    assert answers == []


def test_a_look_takes_no_longer_than_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    clock = Clock()
    assert clock.slice(5.0, 60.0) == 5.0
    now[0] += 57.0
    assert clock.slice(5.0, 60.0) == 3.0
    now[0] += 57.0
    assert (clock.waited, clock.slice(5.0, 60.0)) == (114.0, 0.0)
