"""`wideep top`: who is asked, what is read of their answers, and the rows that come of it."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from example_inventories import inventory, local
from rich.console import Console

from wideep.plan import make_plan
from wideep.problems import RefusedError
from wideep.top import command
from wideep.top.rows import Row, data, plain, rows, table
from wideep.top.scrape import Process, Sample, ask, parse, processes

TEXT = """\
# HELP dynamo_frontend_requests_total x
dynamo_frontend_requests_total{model="m",status="success"} 30
dynamo_frontend_requests_total{model="m",status="error"} 2
dynamo_frontend_inflight_requests{model="m"} 4
dynamo_frontend_output_tokens_total{model="m"} 6.4e3
dynamo_frontend_time_to_first_token_seconds_sum{model="m"} 3.2
dynamo_frontend_time_to_first_token_seconds_count{model="m"} 32
odd value
bad NaNs
up NaN
"""
FRONTEND = Process("frontend", "", "h", "u")
RANKS = [Process("decode-0", "decode", host, f"{host}:1") for host in ("a", "b")]


def sample(at: float, **values: float) -> Sample:
    return Sample(at, {name.replace("sglang_", "sglang:"): [("", value)] for name, value in values.items()})


def test_series_are_read_with_their_labels() -> None:
    found = Sample(0, parse(TEXT))
    assert found.sum("dynamo_frontend_requests_total") == 32
    assert found.sum("dynamo_frontend_requests_total", 'status="error"') == 2
    assert found.sum("nothing") == 0
    assert found.max("dynamo_frontend_output_tokens_total") == 6400
    assert found.max("nothing") is None
    assert not found.has("bad")


def test_every_process_with_metrics_is_asked() -> None:
    found = processes(make_plan(*local()).publish())
    assert [(p.gang, p.url) for p in found] == [
        ("frontend", "http://127.0.0.1:8000/metrics"),
        ("prefill-0", "http://127.0.0.1:21000/metrics"),
        ("prefill-1", "http://127.0.0.1:21100/metrics"),
        ("decode-0", "http://127.0.0.1:22000/metrics"),
        ("decode-1", "http://127.0.0.1:22100/metrics"),
    ]
    several = processes(make_plan(*inventory("deepseek_r1_sglang")).publish())
    assert [p.host for p in several if p.gang == "decode-0"] == [
        f"decode0{n}.example.com" for n in (1, 2, 3, 4)
    ]


def test_rates_and_means_are_of_what_came_since_the_look_before() -> None:
    before = {
        FRONTEND: sample(10, dynamo_frontend_requests_total=30, dynamo_frontend_output_tokens_total=5400)
    }
    (row,) = rows({FRONTEND: Sample(12, parse(TEXT))}, before)
    assert row == Row("frontend", "", "up", 4, 1.0, 500.0, pytest.approx(100), None, None)
    (alone,) = rows({FRONTEND: Sample(12, parse(TEXT))})
    assert (alone.requests_s, alone.ttft_ms) == (None, pytest.approx(100))


def test_a_process_that_began_anew_counts_from_nothing() -> None:
    before = {FRONTEND: sample(0, dynamo_frontend_requests_total=1000)}
    (row,) = rows({FRONTEND: sample(2, dynamo_frontend_requests_total=4)}, before)
    assert row.requests_s == 2


def test_a_gang_is_its_ranks() -> None:
    now = {
        RANKS[0]: sample(2, dynamo_component_inflight_requests=3, sglang_token_usage=0.25),
        RANKS[1]: sample(2, dynamo_component_inflight_requests=1, sglang_token_usage=0.5),
    }
    (row,) = rows(now)
    assert (row.state, row.open, row.kv) == ("up", 4, 0.5)
    assert rows(now | {RANKS[1]: None})[0].state == "1/2"
    (gone,) = rows(dict.fromkeys(RANKS))
    assert (gone.state, gone.open, gone.ttft_ms) == ("down", None, None)


def test_rows_are_shown_as_lines_table_and_json() -> None:
    found = rows({FRONTEND: Sample(12, parse(TEXT)), **dict.fromkeys(RANKS)})
    first, second, third = plain(found).splitlines()
    assert first.split() == ["GANG", "POOL", "STATE", "OPEN", "REQ/S", "TOK/S", "TTFT", "ITL", "KV"]
    assert second.split() == ["frontend", "-", "up", "4", "-", "-", "100", "ms", "-", "-"]
    assert third.startswith("decode-0  decode  down")
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table(found, "wideep"))
    assert "decode-0" in console.export_text()
    assert json.loads(json.dumps(data(found)))[1]["state"] == "down"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(TEXT.encode())

    def log_message(self, *_: Any) -> None:
        pass


def test_who_does_not_answer_is_none() -> None:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    there, lost, gone = (
        Process("a", "", "h", f"{url}/metrics"),
        Process("b", "", "h", f"{url}/nothing"),
        Process("c", "", "h", "http://127.0.0.1:1/metrics"),
    )
    found = ask([there, lost, gone], 5)
    server.shutdown()
    server.server_close()
    assert found[there] is not None
    assert found[there].sum("dynamo_frontend_inflight_requests") == 4
    assert (found[lost], found[gone]) == (None, None)


def test_off_a_terminal_it_looks_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(found: list[Process], at: float, _ca: str) -> dict[Process, Sample | None]:
        return {process: sample(at) if process.pool != "decode" else None for process in found}

    monkeypatch.setattr(command, "ask", asked)
    plan = make_plan(*local()).publish().to_dict()
    command.show(plan, 0, once=False, as_json=False)
    assert "decode-1   decode   down" in capsys.readouterr().out
    command.show(plan, 0, once=False, as_json=True)
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["up"] * 3 + ["down"] * 2


def test_pods_are_not_asked_from_here() -> None:
    plan = make_plan(*inventory("kubernetes_sglang")).publish().to_dict()
    with pytest.raises(RefusedError, match="pods are not asked"):
        command.show(plan, 0, once=True, as_json=False)
