"""Who is registered against who should be: parsing, progress, causes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.registration import (
    Instance,
    Pool,
    State,
    parse_expected,
    parse_instances,
    report,
)

POOLS = (Pool("prefill", "prefill", 1), Pool("decode", "backend", 2))


def entry(component: str, number: int, endpoint: str = "generate", **more: Any) -> dict[str, Any]:
    where = {"tcp": f"10.0.0.{number}:2000/abc/{endpoint}"}
    return {
        "component": component,
        "endpoint": endpoint,
        "namespace": "dynamo",
        "instance_id": number,
        "transport": where,
        **more,
    }


def state(prefill: int = 1, decode: int = 2, models: tuple[str, ...] = ("m",), error: str = "") -> State:
    def some(component: str, count: int) -> tuple[Instance, ...]:
        return tuple(Instance("dynamo", component, n, f"10.0.0.{n}:2000") for n in range(count))

    found = {"prefill": some("prefill", prefill), "decode": some("backend", decode)}
    return State(POOLS, "m", found, models, error)


def test_instances_are_workers_that_take_requests_each_once() -> None:
    health = {
        "status": "healthy",
        "instances": [
            entry("backend", 2),
            entry("backend", 1),
            entry("backend", 1),
            entry("backend", 1, endpoint="router-discovery"),
            entry("prefill", 3, transport={"nats": "dynamo.prefill.generate-3"}),
        ],
    }
    assert parse_instances(health) == [
        Instance("dynamo", "backend", 1, "10.0.0.1:2000"),
        Instance("dynamo", "backend", 2, "10.0.0.2:2000"),
        Instance("dynamo", "prefill", 3, "dynamo.prefill.generate-3"),
    ]


@pytest.mark.parametrize("health", [{}, {"instances": None}, {"instances": []}])
def test_a_frontend_without_workers_has_no_instances(health: dict[str, Any]) -> None:
    assert parse_instances(health) == []


def test_expected_pools() -> None:
    raw = {
        "prefill": {"component": "prefill", "count": 0},
        "decode": {"component": "backend", "count": "2", "namespace": "blue"},
    }
    assert parse_expected(raw) == (Pool("prefill", "prefill", 0), Pool("decode", "backend", 2, "blue"))


def test_workers_are_counted_over_generations() -> None:
    raw = {"component": "backend", "count": 2, "namespace": "a-chat", "generations": "-[0-9a-f]{8}"}
    (pool,) = parse_expected({"decode": {**raw, "namespaces": ["a-chat-legacy"]}})
    assert all(map(pool.has, ("a-chat", "a-chat-0a1b2c3d", "a-chat-legacy")))
    assert not any(map(pool.has, ("a", "a-chat-2", "a-chat-0a1b2c3d-x", "x-a-chat")))
    (pool,) = parse_expected({"decode": {"component": "backend", "count": 2, "namespace": "a.chat"}})
    assert not any(map(pool.has, ("a-chat", "a.chat-0a1b2c3d")))


def test_workers_in_another_namespace_are_told() -> None:
    seen = State(POOLS, "m", elsewhere={"prefill": ("other",)}, models=("m",))
    assert "(some of that component are in other)" in seen.causes()[0]


def test_all_wrong_expectations_come_in_one_message() -> None:
    raw = {"a": 3, "b": {"component": "x", "count": True}, "c": {"component": "x", "count": 1, "size": 2}}
    with pytest.raises(ValueError, match="expected") as caught:
        parse_expected(raw)
    for part in ("expected.a.count", "expected.a.component", "expected.b.count", "unknown keys: size"):
        assert part in str(caught.value)


@pytest.mark.parametrize("raw", [{}, {"decode": {"component": "backend", "count": 0}}])
def test_no_worker_at_all_is_no_expectation(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one worker"):
        parse_expected(raw)


def test_ready_is_the_exact_count_and_the_model() -> None:
    assert state().ready
    counts = [state(prefill=0), state(decode=3)]
    others = [state(models=()), state(models=("x",)), state(error="no")]
    assert not any(other.ready for other in counts + others)


def test_workers_whose_hosts_are_away_may_be_there_or_not() -> None:
    raw = {
        "prefill": {"component": "prefill", "count": 1},
        "decode": {"component": "backend", "count": 2, "may_lack": 1},
    }
    pools = parse_expected(raw)
    assert [replace(state(decode=n), pools=pools).ready for n in range(4)] == [False, True, True, False]
    assert replace(state(decode=3), pools=pools).too_many
    assert replace(state(decode=1), pools=pools).causes() == []


def test_progress_is_one_line() -> None:
    assert state(decode=1, models=()).progress() == "registered prefill 1/1, decode 1/2; model not listed yet"
    assert state(decode=3).progress() == "registered prefill 1/1, decode 3/2 (1 too many); model listed"
    assert state(error="refused").progress() == "frontend does not answer yet (refused)"


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (state(error="refused"), "the frontend is not running"),
        (state(prefill=0, decode=1, models=()), "prefill and decode: workers did not start"),
        (state(decode=3), "decode: more workers than expected"),
        (state(models=("x", "y")), "another name: x, y"),
        (state(models=()), "DYN_SYSTEM_PORT"),
    ],
)
def test_each_state_has_its_cause(seen: State, cause: str) -> None:
    assert [found for found in seen.causes() if cause in found]
    assert len(seen.causes()) == 1


def test_a_good_state_has_no_cause() -> None:
    assert state().causes() == []


def test_the_report_holds_all_that_an_operator_needs() -> None:
    seen = state(decode=1, models=())
    text = report("http://f:1", "too few", seen, answer="HTTP 200: x", causes=seen.causes(), look_at="/log")
    assert text.splitlines() == [
        "The model 'm' is not served at http://f:1: too few",
        "  expected:     prefill 1 (dynamo/prefill/generate), decode 2 (dynamo/backend/generate)",
        "  registered:   prefill 1: 10.0.0.0:2000 (instance 0); decode 1: 10.0.0.0:2000 (instance 0)",
        "  models:       none",
        "  answer:       HTTP 200: x",
        "  likely cause: decode: workers did not start, or register in another etcd or namespace; "
        "their logs have the reason",
        "  look at:      /log",
    ]
    assert "unknown" in report("u", "p", state(error="no"), answer="", causes=[], look_at="")


def test_too_many_are_not_called_a_model_that_is_not_served() -> None:
    text = report("http://f:1", "too many", state(decode=3), answer="", causes=[], look_at="")
    assert text.startswith("More workers serve 'm' at http://f:1 than the inventory has: too many")
    assert report("u", "p", state(prefill=0, decode=3), answer="", causes=[], look_at="").startswith(
        "The model"
    )
