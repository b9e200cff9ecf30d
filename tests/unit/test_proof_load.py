"""The load of the proof (tools/proof): servers that refuse, cut, stall or say nothing; what is counted."""

from __future__ import annotations

import json
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from servers import Quiet, serving, url
from tools.proof.load import Load, Result, Shape, main
from tools.proof.watch import Capacity

TOKENS = 5


def chunk(delta: dict[str, str], **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta}], **more}).encode() + b"\n\n"


WORD, ROLE = chunk({"content": "a"}), chunk({"role": "assistant", "content": ""})
DONE = b"data: [DONE]\n\n"


def usage(tokens: int) -> bytes:
    return b'data: {"choices": [], "usage": {"completion_tokens": %d}}\n\n' % tokens


class Frontend(Quiet):
    """Answers with `parts`, each a chunk of HTTP; a number is a pause in seconds, None breaks off."""

    protocol_version = "HTTP/1.1"
    parts: tuple[bytes | float | None, ...] = (ROLE, *(WORD,) * TOKENS, usage(TOKENS), DONE)
    status = 200
    instances: tuple[tuple[str, int], ...] = (("prefill", 1), ("backend", 2), ("backend", 3))

    def do_GET(self) -> None:
        found = [
            {"component": component, "instance_id": number, "endpoint": endpoint}
            for component, number in self.instances
            for endpoint in ("generate", "clear_kv_blocks")
        ]
        self.answer(200, json.dumps({"instances": found}).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.status != 200:
            self.answer(self.status, b"no workers")
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for part in self.parts:
            if part is None:
                self.close_connection = True
                return
            if isinstance(part, float):
                time.sleep(part)
                continue
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def ask(handler: type[BaseHTTPRequestHandler], requests: int = 4, **shape: Any) -> Result:
    with serving(handler) as server:
        with Load(Shape(url(server), "m", streams=2, tokens=(TOKENS, TOKENS), **shape)) as load:
            load.wait_for(requests)
        return load.result


# The first request of a client is shorter: with two clients and five tokens, two and five.
class Counting(Frontend):
    """Gives as many tokens as are asked for."""

    def do_POST(self) -> None:
        tokens = json.loads(self.rfile.peek()[: int(self.headers["Content-Length"])])["max_tokens"]
        self.parts = (ROLE, *(WORD,) * tokens, usage(tokens), DONE)
        super().do_POST()


@pytest.mark.parametrize("keep_alive", [False, True])
def test_complete(keep_alive: bool) -> None:
    result = ask(Counting, requests=20, keep_alive=keep_alive)
    assert result.kept, result
    assert result.sent >= 20
    assert result.statuses == {"200": result.sent}
    assert result.fewest_workers == result.most_workers == {"prefill": 1, "backend": 2}


CUT = {
    "the connection ends in a chunk": (ROLE, WORD, None),
    "no [DONE]": (ROLE, *(WORD,) * TOKENS, usage(TOKENS)),
    "a token too few": (ROLE, *(WORD,) * 4, usage(4), DONE),
    "a token too many": (ROLE, *(WORD,) * 6, usage(6), DONE),
    "an error in it": (ROLE, WORD, b'data: {"error": {"message": "the worker died"}}\n\n'),
    "a line that is no JSON": (ROLE, WORD, b"data: {\n\n"),
}


@pytest.mark.parametrize("parts", CUT.values(), ids=CUT)
def test_cut(parts: tuple[bytes | None, ...]) -> None:
    made = type("Cutting", (Frontend,), {"parts": parts})
    result = ask(made)
    assert (result.cut, result.failed, result.empty) == (result.sent, 0, 0)
    assert not result.kept


def test_what_an_error_in_a_stream_says_is_kept() -> None:
    made = type("Failing", (Frontend,), {"parts": CUT["an error in it"]})
    assert any("the worker died" in error for error in ask(made).errors)


@pytest.mark.parametrize("parts", [(), (DONE,), (ROLE, usage(0), DONE), (ROLE, None)])
def test_empty(parts: tuple[bytes | None, ...]) -> None:
    made = type("Empty", (Frontend,), {"parts": parts})
    result = ask(made)
    assert (result.empty, result.failed, result.cut) == (result.sent, 0, 0)


def test_refused() -> None:
    result = ask(type("Refusing", (Frontend,), {"status": 503}))
    assert (result.failed, result.statuses) == (result.sent, {"503": result.sent})
    assert list(result.errors) == ["failed 503: no workers"]


def test_nobody_listens() -> None:
    with serving(Frontend) as server:
        gone = url(server)
    with Load(Shape(gone, "m", streams=2)) as load:
        load.wait_for(4)
    result = load.result
    assert (result.failed, result.statuses) == (result.sent, {"0": result.sent})
    assert result.fewest_workers == {}


def test_a_stall_is_measured() -> None:
    parts = (ROLE, 0.2, WORD, 0.5, *(WORD,) * 4, usage(TOKENS), DONE)
    result = ask(type("Stalling", (Frontend,), {"parts": parts}), requests=2)
    assert 0.5 <= result.longest_stall_s < 2
    assert 0.2 <= result.longest_first_token_s < 2


def test_silence_ends_an_answer() -> None:
    made = type("Silent", (Frontend,), {"parts": (ROLE, WORD, 2.0, None)})
    result = ask(made, requests=2, silence_s=0.3)
    assert result.cut == result.sent
    assert 0.3 <= result.longest_stall_s < 2


def test_the_fewest_workers_are_remembered() -> None:
    capacity = Capacity()
    for backend in (2, 1, 0, 2):
        capacity.add(Counter(backend=backend, prefill=2))
    assert capacity.lowest == {"backend": 0, "prefill": 2}
    assert capacity.highest == {"backend": 2, "prefill": 2}


def test_command(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Counting) as server:
        code = main(
            [url(server), "m", "--streams=2", "--requests=4", "--tokens=5", f"--json={tmp_path}/load.json"]
        )
    assert code == 0
    counts = json.loads((tmp_path / "load.json").read_text())
    assert counts["kept"] is True
    assert f"| load | {counts['sent']} | 0 | 0 | 0 |" in capsys.readouterr().out


def test_command_says_what_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(type("Refusing", (Frontend,), {"status": 503})) as server:
        assert main([url(server), "m", "--streams=1", "--requests=2"]) == 1
    assert "x failed 503: no workers" in capsys.readouterr().out
