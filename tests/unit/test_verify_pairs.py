"""Pairs of prefill and decode workers: which are tried, how each is pinned, what counts as failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import pairs as pairs_module
from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import Frontend
from ansible_collections.wideep.dynamo.plugins.module_utils.pairs import failure, pairs, prove, suspects
from ansible_collections.wideep.dynamo.plugins.module_utils.registration import Instance, Pool, State
from example_inventories import local
from servers import Quiet, serving, url

from wideep.plan import make_plan
from wideep.reports.pairs import matrix
from wideep.reports.status import answer


def worker(pool: str, number: int, namespace: str = "dynamo") -> Instance:
    first = {"prefill": 100, "decode": 200}[pool]
    return Instance(namespace, pool, first + number, f"{pool}-{number}")


def state(prefill: int, decode: int) -> State:
    counts = {"prefill": prefill, "decode": decode}
    pools = tuple(Pool(name, name, count) for name, count in counts.items() if count)
    return State(pools, "m", {p.name: tuple(worker(p.name, n) for n in range(p.count)) for p in pools})


@pytest.mark.parametrize(("prefill", "decode"), [(1, 1), (2, 3), (3, 2), (4, 6), (6, 4), (5, 5), (1, 7)])
def test_all_pairs_and_every_worker_first(prefill: int, decode: int) -> None:
    all_of_them = pairs(state(prefill, decode), 1000)
    assert len({(p.prefill, p.decode) for p in all_of_them}) == len(all_of_them) == prefill * decode
    few = pairs(state(prefill, decode), max(prefill, decode))
    assert len({p.prefill for p in few}) == prefill
    assert len({p.decode for p in few}) == decode


def test_generations_do_not_meet() -> None:
    found = {
        "prefill": (worker("prefill", 0), worker("prefill", 1, "dynamo-b")),
        "decode": (worker("decode", 0), worker("decode", 1, "dynamo-b")),
    }
    tried = pairs(State((Pool("prefill", "p", 2), Pool("decode", "d", 2)), "m", found), 100)
    assert [pair.name for pair in tried] == [
        "prefill-0 (prefill) with decode-0",
        "prefill-1 (prefill) with decode-1",
    ]


def test_without_prefill_each_worker_is_asked() -> None:
    tried = pairs(state(0, 3), 100)
    assert [pair.pinned for pair in tried] == [
        {"backend_instance_id": n, "dp_rank": 0} for n in (200, 201, 202)
    ]
    assert pairs(state(2, 2), 0) == []


class Router(Quiet):
    """Serves by whom it is told to, but for `broken` pairs, which get `body`."""

    broken: frozenset[tuple[int, int]] = frozenset()
    tokens = 0
    other: Mapping[str, int] = MappingProxyType({})
    asked: list[dict[str, Any]]
    heals_after = 1000

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        told = body["nvext"]
        pair = (told.get("prefill_worker_id"), told.get("decode_worker_id"))
        bad = pair in self.broken and len(self.asked) < self.heals_after
        served = {k: v for k, v in told.items() if k.endswith("_worker_id")} | self.other
        reply = {
            "choices": [{"message": {"content": "yes"}, "finish_reason": "length"}],
            "usage": {"completion_tokens": self.tokens if bad else 1},
            "nvext": {"worker_id": served},
        }
        self.answer(200, json.dumps(reply).encode())


def tried(
    monkeypatch: pytest.MonkeyPatch, of: State, **router: Any
) -> tuple[list[Any], list[dict[str, Any]]]:
    monkeypatch.setattr(pairs_module, "AGAIN_S", 0)
    asked: list[dict[str, Any]] = []
    with serving(type("Own", (Router,), {"asked": asked, **router})) as server:
        return prove(Frontend(url(server), 5), of, 256), asked


def test_each_gets_its_own_request(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, asked = tried(monkeypatch, state(2, 2))
    assert failure(outcomes) == ""
    assert suspects(outcomes) == []
    pinned = {(a["nvext"]["prefill_worker_id"], a["nvext"]["decode_worker_id"]) for a in asked}
    assert pinned == {(p, d) for p in (100, 101) for d in (200, 201)}
    assert {a["max_tokens"] for a in asked} == {1}
    assert len({a["messages"][0]["content"] for a in asked}) == 4


def test_200_without_a_token_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, asked = tried(monkeypatch, state(2, 2), broken={(101, 200)})
    assert "1 of 4 pairs of workers give no token: prefill-1 (prefill) with decode-0: " in failure(outcomes)
    assert "0 completion tokens" in failure(outcomes)
    assert set(suspects(outcomes)) == {"decode-0", "prefill-1"}
    assert len(asked) == 3 + pairs_module.TRIES


def test_the_worker_behind_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, _ = tried(monkeypatch, state(2, 2), broken={(101, 200), (101, 201)})
    assert suspects(outcomes) == ["prefill-1"]


def test_what_passes_by_itself_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, _ = tried(monkeypatch, state(2, 2), broken={(101, 200)}, heals_after=5)
    assert failure(outcomes) == ""


def test_another_worker_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, _ = tried(monkeypatch, state(1, 1), other={"decode_worker_id": 999})
    assert "the router chose others" in failure(outcomes)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "AGAIN_S", 0)
    with serving(Quiet) as server:
        gone = url(server)
    outcomes = prove(Frontend(gone, 1), state(1, 6), 256)
    assert "6 of 6 pairs" in failure(outcomes)
    assert "and 1 more" in failure(outcomes)


def test_the_matrix_has_names() -> None:
    plan = make_plan(*local()).publish()
    pair = {"prefill": "127.0.0.1:21001", "decode": "127.0.0.1:22101", "seconds": 0.0123, "error": ""}
    lines = matrix(plan, [pair, {**pair, "decode": "127.0.0.1:9"}]).splitlines()
    assert [line.split() for line in lines] == [
        ["ms", "to", "a", "token", "127.0.0.1:9", "decode-1"],
        ["prefill-0", "12", "12"],
    ]
    verified = {"ttft_s": 0.1, "completion_tokens": 1, "text": "x", "pairs": [pair]}
    assert "prefill-0" in answer(plan, verified)
    assert matrix(plan, [{**pair, "prefill": ""}]) == ""
