"""The client of the frontend: parsing and judging answers, and HTTP against a real small server."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.openai_client import (
    Completion,
    Frontend,
    NoAnswerError,
    is_transient,
    judge,
    parse_completion,
    parse_stream,
)
from certificates import Authority
from servers import Quiet, serving, url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKERS = {"worker_id": {"prefill_worker_id": 7, "prefill_dp_rank": 0, "decode_worker_id": 9}}


def body(content: str | None = " wide expert") -> dict[str, Any]:
    message = {"content": content, "role": "assistant"}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
        "nvext": WORKERS,
    }


def chunk(finish: str | None = None, **delta: Any) -> str:
    return "data: " + json.dumps(
        {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None, "nvext": WORKERS}
    )


STREAM = [
    (0.10, chunk(role="assistant")),
    (0.20, chunk(content=" wide", role="assistant")),
    (0.20, ""),
    (0.30, chunk(content=" expert")),
    (0.50, chunk(content=" parallel")),
    (0.51, chunk(finish="length")),
    (0.52, 'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}'),
    (0.53, "data: [DONE]"),
]


def test_a_whole_completion() -> None:
    got = parse_completion(200, json.dumps(body()), 1.5)
    assert (got.text, got.finish_reason) == (" wide expert", "length")
    assert (got.completion_tokens, got.e2e_s) == (2, 1.5)
    assert got.workers == {"prefill": 7, "decode": 9}


def test_reasoning_counts_as_text() -> None:
    data = body(content=None)
    data["choices"][0]["message"]["reasoning_content"] = "hm"
    assert parse_completion(200, json.dumps(data), 0).text == "hm"


@pytest.mark.parametrize("text", ["", "<html>", "[]", "null", '{"choices": []}', '{"choices": [null]}'])
def test_what_is_no_completion_keeps_its_body(text: str) -> None:
    assert parse_completion(502, text, 0) == Completion(502, text)


def test_a_stream_gives_its_times() -> None:
    got = parse_stream(STREAM)
    assert got.text == " wide expert parallel"
    assert (got.finish_reason, got.completion_tokens, got.chunks, got.done) == ("length", 4, 3, True)
    assert got.ttft_s == pytest.approx(0.20)
    assert got.itl_s == pytest.approx((0.50 - 0.20) / 3)  # three gaps between four tokens
    assert got.e2e_s == pytest.approx(0.53)
    assert got.workers == {"prefill": 7, "decode": 9}


def test_a_stream_that_breaks_off_shows_its_end() -> None:
    end = [(0.3, "event: error"), (0.3, ': "no workers left"'), (0.3, "data: {nonsense")]
    got = parse_stream(STREAM[:3] + end)
    assert not got.done
    assert (got.chunks, got.itl_s) == (1, None)
    assert "no workers left" in got.raw


def test_an_empty_stream() -> None:
    got = parse_stream([])
    assert (got.text, got.chunks, got.ttft_s, got.itl_s, got.done) == ("", 0, None, None, False)


def good(**changes: Any) -> Completion:
    values: dict[str, Any] = {
        "status": 200,
        "raw": "",
        "text": " wide expert",
        "finish_reason": "length",
        "completion_tokens": 4,
        "workers": {"prefill": 7, "decode": 9},
        "streamed": True,
        "done": True,
    }
    return Completion(**{**values, **changes})


@pytest.mark.parametrize(
    ("completion", "problem", "cause"),
    [
        (good(status=401), "HTTP 401", "API key"),
        (good(status=400), "HTTP 400", "refused"),
        (good(status=500), "HTTP 500", "worker"),
        (good(completion_tokens=0, text=""), "HTTP 200 with 0 completion tokens", "KV transfer"),
        (good(done=False), "without [DONE]", "died"),
        (good(finish_reason="error"), "finish_reason is error", "broken off"),
        (good(finish_reason=""), "finish_reason is missing", "broken off"),
        (good(completion_tokens=3), "3 completion tokens instead of 4", "ignore_eos"),
        (good(text=""), "do not decode", "vocabulary"),
        (good(text=" 12 .."), "do not decode", "vocabulary"),
        (good(text="a\ufffdb"), "do not decode", "vocabulary"),
        (good(text="end\ufffd", finish_reason="stop"), "do not decode", "vocabulary"),
        (good(workers={"decode": 9}), "without a prefill worker", "paired"),
    ],
)
def test_what_is_not_good_has_a_problem_and_a_cause(completion: Completion, problem: str, cause: str) -> None:
    found = judge(completion, max_tokens=4, exact=True, disaggregated=True)
    assert problem in found[0]
    assert cause in found[1]


@pytest.mark.parametrize(
    ("completion", "exact", "disaggregated"),
    [
        (good(), True, True),
        (good(streamed=False, done=False), True, True),
        (good(completion_tokens=1, finish_reason="stop"), False, True),
        (good(text=" cut\ufffd"), True, True),  # by the token limit, within a character
        (good(text="北京"), True, True),
        (good(workers={"decode": 9}), True, False),
        (good(workers={}), True, True),  # the frontend does not tell
    ],
)
def test_good_completions(completion: Completion, exact: bool, disaggregated: bool) -> None:
    assert judge(completion, max_tokens=4, exact=exact, disaggregated=disaggregated) == ("", "")


def test_the_words_of_random_weights_need_not_be_text() -> None:
    noise = good(text="a\ufffdb")
    assert judge(noise, max_tokens=4, exact=True, disaggregated=True, words=False) == ("", "")
    few = good(text="a\ufffdb", completion_tokens=3)
    assert "3 completion tokens" in judge(few, max_tokens=4, exact=True, disaggregated=True, words=False)[0]


def test_only_a_missing_route_passes_by_itself() -> None:
    assert [status for status in (200, 400, 404, 500, 503) if is_transient(good(status=status))] == [404, 503]


class Handler(Quiet):
    """Answers by path, and remembers what it was sent. hold: set when nobody waits for an answer any more."""

    seen: dict[str, Any]
    hold: threading.Event

    def do_GET(self) -> None:
        type(self).seen = {"key": self.headers["Authorization"]}
        if self.path == "/slow":
            self.hold.wait()
        content = b"hi" if self.path == "/text" else b'{"ok": true}'
        self.answer(418 if self.path == "/teapot" else 200, content)

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen = sent
        if sent.get("stream"):
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while sent.get("endless") and not self.hold.wait(0.02):
                    self.wfile.write(f"{STREAM[0][1]}\n\n".encode())
                for _, line in STREAM:
                    self.wfile.write(f"{line}\n\n".encode())
        else:
            self.answer(200, json.dumps(body()).encode())


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.hold = threading.Event()
    with serving(Handler) as listening:
        yield listening
        Handler.hold.set()


def test_get_and_key(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # is for others
    assert Frontend(url(server), 5).get("/x").json() == {"ok": True}
    assert Handler.seen["key"] is None
    assert Frontend(url(server), 5, api_key="secret").get("/teapot").status == 418
    assert Handler.seen["key"] == "Bearer secret"
    with pytest.raises(NoAnswerError, match="without a JSON object: 'hi'"):
        Frontend(url(server), 5).get("/text").json()


def test_completions_over_http(server: ThreadingHTTPServer) -> None:
    frontend = Frontend(url(server), 5)
    assert frontend.chat({"max_tokens": 2}, stream=False).text == " wide expert"
    assert "stream" not in Handler.seen
    got = frontend.chat({"max_tokens": 4}, stream=True)
    assert Handler.seen["stream_options"] == {"include_usage": True}
    assert got.done
    assert got.ttft_s is not None
    assert 0 < got.ttft_s <= got.e2e_s


def test_nothing_waits_longer_than_its_timeout(server: ThreadingHTTPServer) -> None:
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.2 s"):
        Frontend(url(server), 0.2).get("/slow")
    with pytest.raises(NoAnswerError, match=r"did not end within 0\.3 s"):
        Frontend(url(server), 0.3).chat({"endless": True}, stream=True)


def test_a_closed_port() -> None:
    with pytest.raises(NoAnswerError, match="refused"):
        Frontend("http://127.0.0.1:1", 1).get("/health")


def test_tls_with_an_own_ca_and_a_certificate_of_the_client(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    edge, client = authority.issue("edge", of="server"), authority.issue("client", of="client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(edge.certificate, edge.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    there, ca = url(server, "https"), authority.file
    assert Frontend(there, 5, ca_file=ca).get("/x").status == 200
    with pytest.raises(NoAnswerError, match="CERTIFICATE_VERIFY_FAILED"):
        Frontend(there, 5).get("/x")
    with pytest.raises(ValueError, match="cannot be read"):
        Frontend(there, 5, ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(ValueError, match=r"client\.pem and its key .*edge\.key cannot be used"):
        Frontend(there, 5, ca, client=(client.certificate, edge.key))
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(NoAnswerError, match=r"certificate required|reset|EOF"):
        Frontend(there, 5, ca).get("/x")
    assert Frontend(there, 5, ca, client=(client.certificate, client.key)).get("/x").status == 200
