"""Preflight's judgement: facts in, checks and one table out."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import fields, replace

import pytest
import yaml
from ansible_collections.wideep.dynamo.plugins.modules import host_facts
from example_inventories import inventory

from wideep.plan import make_plan
from wideep.preflight import (
    Facts,
    Needs,
    Report,
    Settings,
    judge,
    read_facts,
    read_needs,
    read_settings,
    render,
)
from wideep.preflight.model import (
    Blocked,
    Clock,
    Disk,
    Ephemeral,
    Limit,
    Listener,
    Memory,
    Peer,
    PeerView,
    PortNeed,
    Python,
)
from wideep.preflight.ports import ranges
from wideep.preflight.table import fold

GB = 10**9
STATE = "/opt/wideep"
GOOD = Facts(
    user="ops",
    root=False,
    pythons=(Python("/usr/bin/python3.12", (3, 12, 3), True), Python("/usr/bin/python3.9", (3, 9, 1), True)),
    memory=Memory(64 * GB, 60 * GB),
    limits={"nofile": Limit(1024, 1048576), "memlock": Limit(-1, -1)},
    listeners=(),
    ephemeral=Ephemeral(32768, 60999),
    clock=Clock(1000.5, 0.0, 1000.0, 1001.0),
    disk=Disk("/opt", STATE, "", 500 * GB, 900 * GB, 10**6),
)
NEEDS = Needs((PortNeed(8000, "frontend"), PortNeed(4222, "nats", "127.0.0.1")), (), STATE, 20, 16)
OTHER = Listener("0.0.0.0", 8000, "bob", 123, "python3", "python3 -m http.server 8000")


def one(settings: Settings | None = None, needs: Needs = NEEDS, **facts: object) -> Report:
    return judge({"a": needs}, {"a": replace(GOOD, **facts)}, settings)  # type: ignore[arg-type]


def findings(report: Report) -> list[tuple[str, str, str]]:
    return [(c.host, c.topic, c.status) for c in report.checks if c.status != "ok"]


def test_a_good_host_is_ok_in_every_topic() -> None:
    report = one()
    assert not report.failed
    assert report.counts == {"ok": 6, "warn": 0, "fail": 0}
    assert {c.topic for c in report.checks} == {"python", "ports", "state dir", "disk", "memory", "limits"}
    assert render(report) == "preflight of 1 host: 0 fail, 0 warn, 6 ok"
    assert "/usr/bin/python3.12 (3.12.3)" in render(report, verbose=True)


@pytest.mark.parametrize(
    ("facts", "topic", "status", "seen", "remedy"),
    [
        (
            {"pythons": GOOD.pythons[1:]},
            "python",
            "fail",
            "/usr/bin/python3.9 is 3.9.1",
            "apt-get install python3",
        ),
        ({"pythons": ()}, "python", "fail", "no Python", "wideep_python"),
        (
            {"pythons": (Python("/usr/bin/python3.11", (3, 11, 2), False),)},
            "python",
            "fail",
            "no venv",
            "python3.11-venv",
        ),
        ({"pythons": (Python("/x/python3.14", (3, 14, 0), True),)}, "python", "fail", "3.14.0", "3.11"),
        (
            {"listeners": (OTHER,)},
            "ports",
            "fail",
            "python3 (pid 123, user bob: python3 -m",
            "wideep_port_offset",
        ),
        (
            {"listeners": (replace(OTHER, pid=0, process="", cmdline=""),)},
            "ports",
            "fail",
            "a process of user bob",
            "stop it, or",
        ),
        (
            {"listeners": (replace(OTHER, state_dir="/opt/else", service="frontend"),)},
            "ports",
            "fail",
            "are held by the deployment in /opt/else: frontend",
            "wideep_port_offset",
        ),
        (
            {"listeners": (replace(OTHER, state_dir="/opt/else", deployment="else", service="frontend"),)},
            "ports",
            "fail",
            "are held by the deployment in /opt/else: frontend",
            "teardown.yml -e wideep_deployment=else -e wideep_state_dir=/opt/else",
        ),
        (
            {"listeners": (replace(OTHER, state_dir=STATE, service="decode-0"),)},
            "ports",
            "warn",
            "decode-0",
            "stop decode-0 first",
        ),
        ({"listeners": (replace(OTHER, port=4222, address="::"),)}, "ports", "fail", "4222", "kill 123"),
        (
            {"ephemeral": Ephemeral(1024, 60999)},
            "ephemeral",
            "warn",
            "4222,8000 inside",
            "reserved_ports=4222,8000",
        ),
        ({"ephemeral": Ephemeral(1024, 60999, ((8000, 8010),))}, "ephemeral", "warn", "4222 inside", "=4222"),
        (
            {"disk": replace(GOOD.disk, error="/opt: Permission denied")},
            "state dir",
            "fail",
            "Permission",
            "ops",
        ),
        (
            {"disk": replace(GOOD.disk, free=19 * GB)},
            "disk",
            "fail",
            "19.0 GB free of 900.0 at /opt",
            "larger disk",
        ),
        ({"disk": replace(GOOD.disk, inodes=7)}, "disk", "fail", "7 inodes free", "free space"),
        (
            {"memory": Memory(64 * GB, 10 * GB)},
            "memory",
            "warn",
            "10.0 GB available of 64.0",
            "stop what else",
        ),
        ({"memory": Memory(8 * GB, 7 * GB)}, "memory", "fail", "8.0 GB in all", "larger host"),
        ({"limits": {"nofile": Limit(1024, 4096)}}, "limits", "warn", "4096 open files", "limits.d"),
    ],
)
def test_one_finding_with_its_remedy(
    facts: dict[str, object], topic: str, status: str, seen: str, remedy: str
) -> None:
    report = one(**facts)
    assert findings(report) == [("a", topic, status)]
    (check,) = [c for c in report.checks if c.status != "ok"]
    assert seen in check.seen
    assert remedy in check.remedy
    assert report.failed == (status == "fail")
    assert check.remedy in render(report)


@pytest.mark.parametrize(
    "facts",
    [
        {"listeners": (replace(OTHER, state_dir=STATE, service="frontend"),)},
        {
            "listeners": (replace(OTHER, state_dir="/real/wideep", service="frontend"),),
            "disk": Disk("/opt", "/real/wideep", "", 10**12, 10**12),
        },
        {"listeners": (replace(OTHER, port=4222, address="192.0.2.1"),)},
        {"listeners": (replace(OTHER, port=4222, address="::1"),)},
        {"listeners": (replace(OTHER, port=9999),)},
        {"ephemeral": Ephemeral(1024, 60999, ((4222, 4222), (8000, 8010)))},
        {"disk": replace(GOOD.disk, inodes=-1)},
        {"disk": None},
        {"limits": {"nofile": Limit(1024, -1)}},
        {"limits": {"nofile": Limit(1024, 4096)}, "root": True},
        {"memory": Memory(64 * GB, GB), "listeners": (replace(OTHER, state_dir=STATE, service="frontend"),)},
    ],
)
def test_what_is_fine(facts: dict[str, object]) -> None:
    assert findings(one(**facts)) == []


def test_a_port_wanted_by_name_collides_with_every_address() -> None:
    needs = Needs((PortNeed(8000, "frontend", "localhost"),))
    assert findings(one(needs=needs, listeners=(OTHER,))) == [("a", "ports", "fail")]


def test_settings_decide_about_python() -> None:
    assert findings(one(Settings(venv=False), pythons=())) == []
    assert findings(one(Settings(python="/opt/python3.12"), pythons=())) == []


def clock(offset: float, round_trip: float = 0.4, elapsed: float = 0.0) -> Facts:
    return replace(
        GOOD,
        clock=Clock(1000 + offset + elapsed, elapsed, 1000 - round_trip / 2, 1000 + elapsed + round_trip / 2),
    )


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([0, 0.3, -0.2], []),
        ([0, 2.5, 0.1], [("h1", "clock", "warn")]),
        ([0, 0.1, -30], [("h2", "clock", "fail")]),
        ([0, 6], [("h1", "clock", "fail")]),
        ([7, 7.1, 7.2], []),  # the controller's own clock is wrong
        ([0], []),
    ],
)
def test_clock_skew_between_hosts(offsets: list[float], expected: list[tuple[str, str, str]]) -> None:
    facts = {f"h{n}": clock(offset) for n, offset in enumerate(offsets)}
    assert findings(judge(dict.fromkeys(facts, Needs()), facts)) == expected


def test_a_slow_connection_hides_skew_and_slow_gathering_does_not() -> None:
    needs = dict.fromkeys(("a", "b"), Needs())
    assert findings(judge(needs, {"a": clock(0), "b": clock(3, round_trip=8)})) == []
    slow = judge(needs, {"a": clock(0, elapsed=9), "b": clock(3, elapsed=9)})
    assert findings(slow) == [("b", "clock", "warn")]
    assert "ahead of a" in slow.checks[-1].seen
    unknown = {name: replace(GOOD, clock=Clock(5.0)) for name in needs}
    assert "clock" not in {c.topic for c in judge(needs, unknown).checks}


@pytest.mark.parametrize(
    ("view", "status", "text"),
    [
        (PeerView("b", "b.example", (), "Name or service not known"), "fail", "does not resolve"),
        (
            PeerView("b", "b.example", ("192.0.2.2",), "no route to 192.0.2.2: Network is unreachable"),
            "fail",
            "no route",
        ),
        (PeerView("b", "b.example", ("127.0.1.1",), "", "127.0.0.1"), "fail", "this host itself"),
        (PeerView("b", "b.example", ("192.0.2.9",), "", "192.0.2.1"), "warn", "192.0.2.9"),
    ],
)
def test_names_between_hosts(view: PeerView, status: str, text: str) -> None:
    right = PeerView("b", "b.example", ("192.0.2.2",), "", "192.0.2.3")
    facts = {
        "a": replace(GOOD, peers=(view,)),
        "b": replace(GOOD, peers=(PeerView("b", "b.example", ("127.0.1.1",)),)),
        "c": replace(GOOD, peers=(right,)),
        "d": replace(GOOD, peers=(right,)),
    }
    report = judge(dict.fromkeys(facts, Needs()), facts)
    assert findings(report) == [("a", "names", status)]
    (check,) = [c for c in report.checks if c.status != "ok"]
    assert text in check.seen
    assert check.remedy


def test_addresses_given_as_numbers_need_no_agreement() -> None:
    peers = (PeerView("b", "127.0.0.1", ("127.0.0.1",)), PeerView("c", "localhost", ("127.0.0.1",)))
    facts = {"a": replace(GOOD, peers=peers)}
    assert findings(judge({"a": Needs()}, facts)) == []


def test_ports_of_peers_that_are_out_of_reach() -> None:
    needs = {"a": Needs(peers=(Peer("b", "192.0.2.2", (21003, 21016)), Peer("c", "192.0.2.3", (2379,))))}
    fine = PeerView("c", "192.0.2.3", ("192.0.2.3",))
    silent = replace(fine, name="b", address="192.0.2.2", blocked=(Blocked(21003, "no answer within 4 s"),))
    report = judge(needs, {"a": replace(GOOD, peers=(silent, fine))})
    [check] = [check for check in report.checks if check.topic == "reach"]
    assert (check.status, check.seen) == ("fail", "b port 21003: no answer within 4 s")
    assert "TCP from a to b (192.0.2.2)" in check.remedy
    report = judge(needs, {"a": replace(GOOD, peers=(replace(silent, blocked=()), fine))})
    [check] = [check for check in report.checks if check.topic == "reach"]
    assert (check.status, check.seen) == ("ok", "3 ports of 2 peers are within reach")


def test_a_host_without_facts_fails() -> None:
    report = judge({"a": NEEDS}, {"a": GOOD}, hosts=("a", "b"))
    assert findings(report) == [("b", "facts", "fail")]


def test_the_border_takes_what_the_module_gives() -> None:
    data = {
        **{"user": "ops", "root": False, "kernel": "6", "systemd": True},
        "pythons": [{"path": "/usr/bin/python3.12", "version": [3, 12, 3], "can_venv": True}],
        "memory": {"total": 64 * GB, "available": 60 * GB},
        "limits": {"nofile": {"soft": 1, "hard": 2}},
        "listeners": [{"address": "::", "port": 1, "user": "x", "pid": 0}],
        "ephemeral": {"first": 1, "last": 2, "reserved": [[1, 2]]},
        "clock": {"time": 1.0, "elapsed_s": 0.1},
        "disk": None,
    }
    facts = read_facts(data)
    assert facts.pythons[0].version == (3, 12, 3)
    assert facts.ephemeral.reserved == ((1, 2),)
    needs = read_needs({"ports": [{"port": 1, "service": "x"}], "peers": [{"name": "b"}], "disk_gb": 1})
    assert needs == Needs((PortNeed(1, "x"),), (Peer("b"),), "", 1.0)
    assert read_settings({"clock_warn_s": 2}).clock_warn_s == 2.0


def test_a_hundred_hosts_are_one_readable_table() -> None:
    names = [f"decode-{n:03d}" for n in range(100)]
    facts = dict.fromkeys(names, GOOD)
    facts.update({name: replace(GOOD, disk=replace(GOOD.disk, free=0)) for name in names[:60]})
    facts["decode-077"] = replace(GOOD, listeners=(OTHER,))
    report = judge(dict.fromkeys(names, NEEDS), facts)
    table = render(report)
    lines = table.splitlines()
    assert lines[0] == "preflight of 100 hosts: 61 fail, 0 warn, 639 ok"
    assert len(lines) == 6
    assert any("decode-[000-059]" in line and "0.0 GB free" in line for line in lines)
    assert any("decode-077" in line and "http.server" in line for line in lines)
    assert json.loads(json.dumps(report.to_dict()))["counts"]["fail"] == 61
    assert len(render(report, verbose=True).splitlines()) > len(lines)


def test_peers_of_many_hosts_cost_little() -> None:
    def calls(count: int) -> int:
        """Return how many functions are called to judge hosts that all are peers of each other."""
        names = [f"h{n}" for n in range(count)]
        views = tuple(PeerView(n, f"{n}.example", ("192.0.2.1",)) for n in names)
        facts = {name: replace(GOOD, peers=views) for name in names}
        called = itertools.count()
        before = sys.getprofile()
        sys.setprofile(lambda _, event, __: next(called) if event == "call" else None)
        try:
            report = judge(dict.fromkeys(names, Needs()), facts)
        finally:
            sys.setprofile(before)
        assert findings(report) == []
        return next(called)

    # Each peer of each host is looked at a few times; nothing grows with a third power.
    assert calls(40) < 5 * calls(20)


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["b", "a"], "a,b"),
        (["d-0", "d-1", "d-2", "d-10", "d-11"], "d-[0-2],d-[10-11]"),
        (["n01.x", "n02.x", "n03.x"], "n[01-03].x"),
        (["gpu9", "gpu10"], "gpu[9-10]"),
        (["a1", "b2"], "a1,b2"),
        (["x"], "x"),
    ],
)
def test_fold(names: list[str], folded: str) -> None:
    assert fold(names) == folded


def test_ranges() -> None:
    assert ranges([3, 1, 2, 9, 9]) == "1-3,9"


def test_the_module_takes_what_the_plan_needs() -> None:
    document = yaml.safe_load(host_facts.DOCUMENTATION)
    known = set(document["options"]["needs"]["suboptions"])
    plan = make_plan(*inventory("deepseek_r1_sglang")).publish().to_dict()
    assert {name for host in plan["hosts"].values() for name in host["needs"]} == known
    assert {field.name for field in fields(Needs)} == known
