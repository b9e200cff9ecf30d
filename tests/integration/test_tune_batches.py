"""playbooks/tune.yml with reboots, in check mode: who is rebooted when, and when nobody is.

The inventory's hosts are this machine over a connection of ours, since Ansible reboots no `local` one; check
mode neither reboots nor writes. The frontend is a small server that answers as Dynamo's does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_runs import playbook
from servers import Quiet, serving, url

MODEL = "deepseek-ai/DeepSeek-R1"
CONNECTION = '''
DOCUMENTATION = """
name: elsewhere
short_description: This machine, as if it were another one
description: This machine.
author: The wideep authors
"""
from ansible.plugins.connection.local import Connection as Local

class Connection(Local):
    transport = "elsewhere"
'''


@contextmanager
def frontend(*components: str) -> Iterator[str]:
    """Serve as a frontend that knows a worker of each component; give its address."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            if self.path == "/health":
                instances = [
                    {
                        "namespace": "dynamo",
                        "component": component,
                        "endpoint": "generate",
                        "instance_id": number,
                        "transport": {"tcp": f"192.0.2.{number}:20001/x"},
                    }
                    for number, component in enumerate(components)
                ]
                self._answer({"instances": instances})
            else:
                self._answer({"data": [{"id": MODEL}]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            usage = {"completion_tokens": asked["max_tokens"]}
            end: dict[str, Any] = {"index": 0, "finish_reason": "length"}
            if not asked.get("stream"):
                self._answer({"choices": [{**end, "message": {"content": "hello"}}], "usage": usage})
                return
            self.send_response(200)
            self.end_headers()
            for event in (
                {"choices": [{**end, "delta": {"content": "hello"}}]},
                {"choices": [], "usage": usage},
            ):
                self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            self.wfile.write(b"data: [DONE]\n\n")

        def _answer(self, data: dict[str, Any]) -> None:
            self.answer(200, json.dumps(data).encode())

    with serving(Handler) as server:
        yield url(server)


def tune(place: Path, hosts: str, **variables: Any) -> tuple[int, str]:
    """Return the exit status and the output."""
    (place / "elsewhere.py").write_text(CONNECTION)
    given = {
        "ansible_connection": "elsewhere",
        "ansible_become": False,
        "host_tuning_reboot": True,
        "verify_url": "http://127.0.0.1:9",  # nobody listens there
        **variables,
    }
    where = ("-i", "inventories/deepseek_r1_sglang", "--limit", f"localhost,{hosts}")
    done = playbook(
        "playbooks/tune.yml", "--check", *where, variables=given, ANSIBLE_CONNECTION_PLUGINS=str(place)
    )
    return done.returncode, done.stdout + done.stderr


def batches(output: str) -> list[list[str]]:
    """Return the hosts that each batch would reboot, by name: they answer in any order."""
    plays = output.split("PLAY [Reboot in batches]")[1:]
    tasks = [re.search(r"TASK \[\S+ : Reboot\] \*+\n((?:changed: .*\n)*)", play) for play in plays]
    return [sorted(re.findall(r"changed: \[(\w+)", task.group(1))) if task else [] for task in tasks]


def test_one_after_the_other_each_when_all_serve_again(tmp_path: Path) -> None:
    with frontend("prefill", "backend") as url:
        status, output = tune(tmp_path, "prefill0[12]*,decode01*", verify_url=url)
    assert status == 0, output
    assert batches(output) == [["prefill01"], ["prefill02"], ["decode01"]]
    assert output.count("TASK [Wait until it serves again]") == 3


def test_none_where_a_part_is_away_already(tmp_path: Path) -> None:
    with frontend("prefill") as url:
        status, output = tune(tmp_path, "prefill0[12]*", verify_url=url)
    said = " ".join(output.split())
    assert status != 0
    assert batches(output) == [[]], output
    assert "no further host is rebooted: a part of the deployment is away already" in said
    assert "registered prefill 1/1, decode 0/1" in said


def test_where_nothing_serves_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    status, output = tune(tmp_path, "prefill0[12]*,decode01*", host_tuning_reboot_batch="2")
    assert status == 0, output
    assert batches(output) == [["prefill01", "prefill02"], ["decode01"]]
    assert "TASK [Wait until it serves again]" not in output


@pytest.mark.parametrize("variables", [{"host_tuning_reboot": False}, {"host_tuning_ibgda": False}])
def test_nobody_is_rebooted_without_need(tmp_path: Path, variables: dict[str, Any]) -> None:
    status, output = tune(tmp_path, "prefill01*", **variables)
    assert status == 0, output
    assert not any(batches(output))
    assert ("must be rebooted" in output) == ("host_tuning_reboot" in variables)
