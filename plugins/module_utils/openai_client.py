"""Ask an OpenAI-compatible frontend for models and chat completions, and judge the answers.

Runs on hosts: standard library only, Python 3.9 or newer. All times are in seconds.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EXCERPT = 400
REPLACEMENT = "\ufffd"  # what a decoder writes for bytes that are no text


class NoAnswerError(Exception):
    """Nothing that can be used came back: refused, timed out, cut off, TLS refused."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer as it came."""

    status: int
    body: str

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object, or raise NoAnswerError."""
        try:
            data = json.loads(self.body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            message = f"HTTP {self.status} without a JSON object: {self.body[:EXCERPT]!r}"
            raise NoAnswerError(message)
        return data


@dataclass(frozen=True)
class Completion:
    """What one chat completion came to. `raw` holds the beginning of the body, or the end of the stream.

    `workers` has the instance ids that served it by phase ("prefill", "decode"), if the frontend tells them.
    Only streamed: `done` (the stream ended with [DONE]), `chunks` (that had text), `ttft_s` (time to first
    token), `itl_s` (mean time between two tokens; None with fewer than two).
    """

    status: int
    raw: str
    text: str = ""
    finish_reason: str = ""
    completion_tokens: int = 0
    workers: dict[str, int] = field(default_factory=dict)
    e2e_s: float = 0.0
    streamed: bool = False
    done: bool = False
    chunks: int = 0
    ttft_s: float | None = None
    itl_s: float | None = None


class Frontend:
    """A frontend. `ca_file`: CA of an https address, "" for the system's; `api_key`: a bearer token.

    client: files of a certificate to show there and of its key; "" for none.
    """

    def __init__(
        self,
        base_url: str,
        timeout_s: float,
        ca_file: str = "",
        api_key: str = "",
        client: tuple[str, str] = ("", ""),
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        # The proxies of the environment are for the world outside, not for our own hosts.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.base_url.startswith("https://"):
            try:
                context = ssl.create_default_context(cafile=ca_file or None)
            except OSError as error:
                message = f"the CA file {ca_file} cannot be read: {error}"
                raise ValueError(message) from error
            if client[0]:
                try:
                    context.load_cert_chain(*client)
                except OSError as error:
                    message = f"the certificate {client[0]} and its key {client[1]} cannot be used: {error}"
                    raise ValueError(message) from error
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str) -> Reply:
        """GET `path`; raise NoAnswerError where there is no HTTP answer within 5 s."""
        request = urllib.request.Request(self.base_url + path, headers=self._headers)
        status, lines = self._send(request, min(5.0, self.timeout_s))
        return Reply(status, "".join(line for _, line in lines))

    def chat(self, body: dict[str, Any], *, stream: bool) -> Completion:
        """POST a chat completion and wait for its end; raise NoAnswerError where none comes in time."""
        if stream:
            body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        request = urllib.request.Request(
            self.base_url + "/v1/chat/completions", json.dumps(body).encode(), self._headers
        )
        started = time.monotonic()
        status, lines = self._send(request, self.timeout_s)
        timed = [(at - started, line) for at, line in lines]
        if stream and status == 200:
            return parse_stream(timed)
        return parse_completion(status, "".join(line for _, line in timed), time.monotonic() - started)

    def _send(
        self, request: urllib.request.Request, timeout_s: float
    ) -> tuple[int, Iterator[tuple[float, str]]]:
        try:
            response = self._opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            response = error  # an answer like any other, only not 2xx
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(_reason(error, timeout_s)) from error
        return response.status, _lines(response, timeout_s)


def _lines(response: Any, timeout_s: float) -> Iterator[tuple[float, str]]:
    """Yield (monotonic time of arrival, line) until the body ends or `timeout_s` are over."""
    end = time.monotonic() + timeout_s
    with response:
        try:
            for line in response:
                yield time.monotonic(), line.decode("utf-8", "replace")
                if time.monotonic() > end:
                    message = f"the answer did not end within {timeout_s:g} s"
                    raise NoAnswerError(message)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(_reason(error, timeout_s)) from error


def _reason(error: Exception, timeout_s: float) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError) or "timed out" in str(reason):
        return f"no answer within {timeout_s:g} s"
    return str(reason) or type(reason).__name__


def parse_completion(status: int, body: str, e2e_s: float) -> Completion:
    """Read the body of a completion that was not streamed, or of an error."""
    raw = body[:EXCERPT]
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        return Completion(
            status,
            raw,
            text=_text(choice["message"]),
            finish_reason=choice.get("finish_reason") or "",
            completion_tokens=int((data.get("usage") or {}).get("completion_tokens") or 0),
            workers=_workers(data),
            e2e_s=e2e_s,
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return Completion(status, raw, e2e_s=e2e_s)


def parse_stream(lines: Iterable[tuple[float, str]]) -> Completion:
    """Read the server-sent events of a streamed completion: (time since the request was sent, line)."""
    text, finish_reason, tokens, done, workers = "", "", 0, False, {}
    arrivals: list[float] = []
    seen: list[str] = []
    at = 0.0
    for at, line in lines:
        event = line.strip()
        if not event:
            continue
        seen.append(event)
        if event == "data: [DONE]":
            done = True
            continue
        try:
            data = json.loads(event[len("data:") :]) if event.startswith("data:") else {}
            tokens = int((data.get("usage") or {}).get("completion_tokens") or tokens)
            workers.update(_workers(data))
            for choice in data.get("choices") or []:
                piece = _text(choice.get("delta") or {})
                finish_reason = choice.get("finish_reason") or finish_reason
                if piece:
                    text += piece
                    arrivals.append(at)
        except (ValueError, TypeError, AttributeError):
            continue  # `seen` shows it
    gaps = tokens - 1
    return Completion(
        200,
        "\n".join(seen)[-EXCERPT:],
        text=text,
        finish_reason=finish_reason,
        completion_tokens=tokens,
        workers=workers,
        e2e_s=at,
        streamed=True,
        done=done,
        chunks=len(arrivals),
        ttft_s=arrivals[0] if arrivals else None,
        itl_s=(arrivals[-1] - arrivals[0]) / gaps if len(arrivals) > 1 and gaps > 0 else None,
    )


def _text(message: dict[str, Any]) -> str:
    # A reasoning model spends a short budget wholly on its reasoning: that is text as well.
    return (message.get("reasoning_content") or "") + (message.get("content") or "")


def _workers(data: dict[str, Any]) -> dict[str, int]:
    """Read nvext.worker_id, which Dynamo adds when it is asked for it."""
    ids = (data.get("nvext") or {}).get("worker_id") or {}
    return {
        phase: ids[f"{phase}_worker_id"]
        for phase in ("prefill", "decode")
        if ids.get(f"{phase}_worker_id") is not None
    }


def is_transient(completion: Completion) -> bool:
    """Return whether the model is listed but not routed yet, which passes by itself within seconds."""
    return completion.status in {404, 503}


def judge(
    completion: Completion, *, max_tokens: int, exact: bool, disaggregated: bool, words: bool = True
) -> tuple[str, str]:
    """Return (what is wrong, likely cause), two empty strings for a good completion.

    exact: end-of-sequence was ignored, so exactly `max_tokens` tokens must have come; else one is enough.
    disaggregated: a prefill worker must have taken part. words: the reply must be readable text, which that
    of random weights is not.
    """
    status, got, finish = completion.status, completion.completion_tokens, completion.finish_reason
    # The token limit may have cut the last character in the middle of its bytes.
    text = completion.text.rstrip(REPLACEMENT) if finish == "length" else completion.text
    readable = REPLACEMENT not in text and any(character.isalpha() for character in text)
    checks = (
        (
            status in {401, 403},
            f"HTTP {status} instead of 200",
            "the API key is missing or wrong",
        ),
        (
            status >= 500,
            f"HTTP {status} instead of 200",
            "the worker that got the request failed; its log has the reason",
        ),
        (
            status != 200,
            f"HTTP {status} instead of 200",
            "the frontend refused the request; the answer has the reason",
        ),
        (
            got == 0,
            "HTTP 200 with 0 completion tokens",
            "the KV transfer from prefill to decode failed: decode workers do not reach the bootstrap "
            "address and port that prefill workers publish, or the transfer backends differ",
        ),
        (
            completion.streamed and not completion.done,
            "the stream ended without [DONE]",
            "the decode worker died or lost its connection while it generated",
        ),
        (
            finish not in {"stop", "length"},
            f"finish_reason is {finish or 'missing'}, not stop or length",
            "generation was broken off; the log of the decode worker has the reason",
        ),
        (
            exact and got != max_tokens,
            f"{got} completion tokens instead of {max_tokens}",
            "generation ended early, or the engine does not honour ignore_eos (if so, turn it off here)",
        ),
        (
            words and not readable,
            f"{got} tokens that do not decode to readable text: {completion.text[:80]!r}",
            "tokenizer and model do not belong together (vocabulary sizes of tokenizer.json and "
            "config.json), or the weights are wrong (random ones: verify_words: false)",
        ),
        (
            disaggregated and bool(completion.workers) and "prefill" not in completion.workers,
            "the request was served without a prefill worker",
            "the frontend has not paired prefill with decode workers: same model name and namespace?",
        ),
    )
    return next(((what, cause) for bad, what, cause in checks if bad), ("", ""))
