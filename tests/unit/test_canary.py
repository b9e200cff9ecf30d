"""A replica that was started is proved by a token through it: to be registered is not enough."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import canary
from ansible_collections.wideep.dynamo.plugins.module_utils.canary import Replica, answers, prove
from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import Frontend
from servers import Quiet, serving, url

PREFILL = Replica("prefill-0", "prefill", "dynamo", "10.0.0.1:21001")
DECODE = Replica("decode-0", "backend", "dynamo", "10.0.0.2:22001")
IDS = {"10.0.0.1:21001": 100, "10.0.0.2:22001": 200, "10.0.0.3:22001": 201}


class Router(Quiet):
    """Two decode workers and one for prefill. Serves as told, but for workers that it ignores."""

    ignored: frozenset[int] = frozenset()
    registered: tuple[Replica, ...]
    takes_orders = True
    tells = True
    asked: list[dict[str, Any]]

    def do_GET(self) -> None:
        instances = [
            {
                "namespace": one.namespace,
                "component": one.component,
                "endpoint": "generate",
                "instance_id": IDS[one.address],
                "transport": {"tcp": f"{one.address}/1/generate"},
            }
            for one in self.registered
        ]
        self.answer(200, json.dumps({"instances": instances}).encode())

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["nvext"]
        self.asked.append(told)
        if self.takes_orders and self.ignored & {told.get("prefill_worker_id"), told.get("decode_worker_id")}:
            self.answer(400, b'{"message": "Invalid request"}')
            return
        served = {"prefill_worker_id": 100, "decode_worker_id": 201}
        if self.takes_orders:
            served |= {k: v for k, v in told.items() if k.endswith("_worker_id")}
        event = {
            "choices": [{"delta": {"content": "a b c d"}, "finish_reason": "length"}],
            "usage": {"completion_tokens": 4},
            **({"nvext": {"worker_id": served}} if self.tells else {}),
        }
        data = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode()
        self.answer(200, data, Content_Type="text/event-stream")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "POLL_S", 0.01)


def router(**more: Any) -> type[Router]:
    other = Replica("decode-1", "backend", "dynamo", "10.0.0.3:22001")
    base = {"registered": (PREFILL, DECODE, other), "asked": []}
    return type("Made", (Router,), base | more)


def test_each_takes_part_in_an_answer() -> None:
    made = router()
    with serving(made) as server:
        proof = prove(Frontend(url(server), 5), "m", [PREFILL, DECODE], 5)
    assert proof.lacks == {}
    assert proof.proved["decode-0"] == "prefill prefill-0, decode decode-0"
    # One request proved both.
    assert proof.asked == 1
    assert made.asked[0]["decode_worker_id"] in {200, 201}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"registered": (PREFILL,)}, "not registered in dynamo at 10.0.0.2:22001"),
        ({"ignored": frozenset({200})}, "registered; "),
        ({"takes_orders": False}, "the frontend gave its request to others"),
    ],
    ids=["registration", "another card", "no turn"],
)
def test_what_is_only_registered_is_not_proved(more: dict[str, Any], why: str) -> None:
    with serving(router(**more)) as server:
        proof = prove(Frontend(url(server), 5), "m", [DECODE], 0.1)
    assert why in proof.lacks["decode-0"]


def test_prefill_needs_somebody_to_hand_over_to() -> None:
    with serving(router(registered=(PREFILL,))) as server:
        proof = prove(Frontend(url(server), 5), "m", [PREFILL], 0.1)
    assert "nobody is for the other phase" in proof.lacks["prefill-0"]


def test_a_frontend_that_does_not_tell_who_answered_is_believed_after_some_answers() -> None:
    with serving(router(tells=False)) as server:
        proof = prove(Frontend(url(server), 5), "m", [DECODE], 5)
    assert proof.lacks == {}
    assert proof.asked == canary.UNTOLD


def test_a_frontend_alone() -> None:
    with serving(router()) as server:
        assert answers(Frontend(url(server), 5), "m", 5).lacks == {}
    assert "refused" in answers(Frontend("http://127.0.0.1:1", 5), "m", 0.1).lacks["frontend"].lower()
