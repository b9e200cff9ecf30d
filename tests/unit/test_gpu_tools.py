"""ibstat, dcgmi, nvidia-smi nvlink: what they say on several systems and when they fail, what follows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import gpu_facts
from ansible_collections.wideep.dynamo.plugins.module_utils.dcgm_facts import parse_health
from ansible_collections.wideep.dynamo.plugins.module_utils.rdma_facts import ibstat_error, parse_ibstat
from gpu_hosts import RECORDINGS, make_host, replace_tool, typed

from wideep.preflight import Check, Facts, Needs, judge
from wideep.preflight.gpu_model import Dcgm, GpuFacts, GpuNeeds
from wideep.preflight.model import Clock, Ephemeral, Limit, Memory, Python

DEVICES = tuple(f"mlx5_{n}" for n in range(8))
NEEDS = GpuNeeds("sglang", 8, "h100-80gb", "580.65.06", "ib", DEVICES)
HOST = Facts(
    user="ops",
    root=False,
    pythons=(Python("/usr/bin/python3.12", (3, 12, 3), True),),
    memory=Memory(64 * 10**9, 60 * 10**9),
    limits={"nofile": Limit(1048576, 1048576), "memlock": Limit(-1, -1)},
    listeners=(),
    ephemeral=Ephemeral(32768, 60999),
    clock=Clock(1000.5, 0.0, 1000.0, 1001.0),
)


def ports(name: str) -> list[dict[str, Any]]:
    return parse_ibstat((RECORDINGS / "ibstat" / f"{name}.txt").read_text())


def checks(facts: GpuFacts, topic: str, needs: GpuNeeds = NEEDS) -> list[Check]:
    report = judge({"a": Needs(gpu=needs)}, {"a": replace(HOST, gpu=facts)})
    return [check for check in report.checks if check.topic == topic]


Container = Callable[[str], GpuFacts]


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """Gather on the healthy host without its /sys/class/infiniband; ibstat says what is recorded."""
    root = make_host("h100-ib", tmp_path, monkeypatch)
    for name in ("infiniband", "infiniband_verbs"):
        shutil.rmtree(root / "sys/class" / name)

    def facts(recording: str) -> GpuFacts:
        replace_tool(tmp_path, "ibstat", f"ibstat/{recording}.txt")
        return typed(gpu_facts.gather(root))

    return facts


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        ("h100-ib", [(f"mlx5_{n}", 1, "ACTIVE", "LinkUp", 400.0, "ib") for n in range(8)]),
        (
            "h100-roce",
            [
                ("mlx5_0", 1, "ACTIVE", "LinkUp", 200.0, "roce"),
                ("mlx5_1", 1, "ACTIVE", "LinkUp", 200.0, "roce"),
                ("mlx5_10", 1, "DOWN", "Disabled", 40.0, "roce"),
            ],
        ),
        ("bluefield-bond", [(f"mlx5_bond_{n}", 1, "ACTIVE", "LinkUp", 200.0, "roce") for n in range(2)]),
        (
            "connectx3-two-ports",
            [("mlx4_0", 1, "DOWN", "Disabled", 10.0, "ib"), ("mlx4_0", 2, "ACTIVE", "LinkUp", 56.0, "ib")],
        ),
        ("virtual-function", [("mlx5_7", 1, "DOWN", "LinkUp", 200.0, "ib")]),
        ("no-right", []),
    ],
)
def test_ibstat_of_several_systems(recording: str, expected: list[tuple[object, ...]]) -> None:
    found = [
        (p["name"], p["port"], p["state"], p["physical"], p["rate"], p["link"]) for p in ports(recording)
    ]
    assert found == expected


def test_ibstat_has_the_rows_of_sys(container: Container, tmp_path: Path) -> None:
    sys = gpu_facts._rdma(tmp_path / "root")
    assert sys == {"rdma": [], "rdma_error": ""}, "ibstat is not installed"
    facts = container("h100-ib")
    assert facts.rdma_error == ""
    assert {(port.usable, port.firmware, port.gids) for port in facts.rdma} == {(True, "28.39.1002", None)}
    assert [check.status for check in checks(facts, "rdma") + checks(facts, "rdma rate")] == ["ok", "ok"]


def test_sys_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_host("h100-ib", tmp_path, monkeypatch)
    replace_tool(tmp_path, "ibstat", "ibstat/h100-ib-faults.txt")
    facts = typed(gpu_facts.gather(root))
    assert {port.state for port in facts.rdma} == {"ACTIVE"}


def test_faults_of_ports_are_named(container: Container) -> None:
    facts = container("h100-ib-faults")
    found = {(c.topic, c.status, c.seen) for c in checks(facts, "rdma") + checks(facts, "rdma rate")}
    assert found == {
        ("rdma", "fail", "mlx5_5:1: DOWN, Polling"),
        ("rdma", "fail", "mlx5_6:1: INIT, no subnet manager answers"),
        ("rdma rate", "warn", "mlx5_3:1: 200 Gbit/s"),
    }


def test_ethernet_where_infiniband_is_planned(container: Container) -> None:
    facts = container("h100-roce")
    two = replace(NEEDS, rdma_devices=DEVICES[:2])
    (check,) = checks(facts, "rdma", two)
    assert (check.status, check.seen) == ("fail", "mlx5_0:1, mlx5_1:1: is RoCE")
    (gid,) = checks(facts, "gid", replace(two, link="roce", gid_index=3))
    assert (gid.status, gid.seen) == ("warn", "mlx5_0:1, mlx5_1:1: not told by ibstat")


def test_a_device_that_ibstat_stops_at(container: Container) -> None:
    (check,) = checks(container("h100-ib-panic"), "rdma")
    assert check.status == "fail"
    assert check.seen.startswith("no mlx5_7; the host has mlx5_0, ")
    assert check.seen.endswith("(ibstat: stat of IB device 'mlx5_7' failed: No such file or directory)")


def test_ibstat_may_not_read(container: Container) -> None:
    (check,) = checks(container("no-right"), "rdma")
    assert "the host has no RDMA device (ibstat: stat of IB device 'mlx5_0'" in check.seen
    assert check.seen.endswith("Permission denied)")


def test_no_device_node_can_be_opened(container: Container, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "root/dev/infiniband")
    (check,) = checks(container("h100-ib"), "rdma")
    assert "ops cannot open its device node" in check.seen


def test_a_complaint_inside_a_line_of_ibstat() -> None:
    # stdout goes to a pipe in blocks, stderr at once.
    text = (RECORDINGS / "ibstat/h100-ib.txt").read_text()
    cut = text.index("LinkUp") + 2
    mixed = f"{text[:cut]}ibwarn: [12] umad_get_ca: some other device\n{text[cut:]}"
    assert parse_ibstat(mixed) == parse_ibstat(text)
    assert ibstat_error(0, mixed) == "some other device"


@pytest.mark.parametrize("text", ["", "nonsense\n", "CA 'mlx5_0'\n", "\tPort 1:\n\t\tState: Active\n"])
def test_what_is_no_output_of_ibstat(text: str) -> None:
    assert parse_ibstat(text) == []


def test_every_beginning_of_an_output_of_ibstat_is_read() -> None:
    text = (RECORDINGS / "ibstat/h100-ib-faults.txt").read_text()
    whole = parse_ibstat(text)
    for end in range(0, len(text), 7):
        rows = parse_ibstat(text[:end])
        assert rows[:-1] == whole[: max(0, len(rows) - 1)]
        assert all(row["state"] in {"", "ACTIVE", "DOWN", "INIT"} or row is rows[-1] for row in rows)


def test_a_port_whose_lines_are_cut_off_is_no_good_port(container: Container) -> None:
    facts = container("h100-ib")
    text = (RECORDINGS / "ibstat/h100-ib.txt").read_text()
    cut = text[: text.rindex("State: Active")]
    rows = typed({**gpu_facts._no_smi(0, ""), **{"rdma": parse_ibstat(cut)}}).rdma
    (check,) = checks(replace(facts, rdma=tuple(replace(row, usable=True) for row in rows)), "rdma")
    assert (check.status, check.seen) == ("fail", "mlx5_7:1: no state, no link")


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (0, "", ""),
        (127, "No such file or directory", ""),
        (126, "ibstat: Permission denied", "ibstat: Permission denied"),
        (124, "no answer within 60 s", "no answer within 60 s"),
        (1, "", "exit status 1"),
        (
            255,
            "ibpanic: [7] main: can't init UMAD library: No such file or directory\n",
            "can't init UMAD library",
        ),
    ],
)
def test_why_ibstat_told_nothing(code: int, text: str, expected: str) -> None:
    found = ibstat_error(code, text)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_a_tool_that_may_not_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wideep-tool").write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_facts.run(["wideep-tool"]) == (126, "wideep-tool: Permission denied")
    assert gpu_facts._no_smi(126, "nvidia-smi: Permission denied")["error"] == "nvidia-smi: Permission denied"


def dcgm(recording: str) -> Dcgm:
    (file,) = (RECORDINGS / "dcgmi").glob(f"{recording}.[tj]*")
    code = file.with_suffix(".rc")
    status = int(code.read_text()) if code.is_file() else 0
    found = typed({**gpu_facts._no_smi(0, ""), "dcgm": parse_health(status, file.read_text())}).dcgm
    assert found is not None
    return found


def judged(container: Container, answer: Dcgm | None, needs: GpuNeeds = NEEDS) -> list[tuple[str, str]]:
    found = checks(replace(container("h100-ib"), dcgm=answer), "dcgm", needs)
    assert all(check.remedy for check in found if check.status != "ok")
    return [(check.status, check.seen) for check in found]


def test_dcgm_names_gpu_and_system(container: Container) -> None:
    memory = (
        "fail",
        "GPU 3: Memory system Failure, GPU 3 had uncorrectable memory errors and row remapping failed.",
    )
    links = ("warn", "GPU 3: NVLINK system Failure, GPU 3's NvLink link 17 is currently down")
    hot = (
        "warn",
        "GPU 2: Thermal system Warning, Detected clock throttling due to thermal violation in GPU 2.",
    )
    xid = ("fail", "GPU 7: Driver Failure, Detected XID 79 for GPU 7")
    switch = ("warn", "Switch 0: Internal error Warning, Detected nonfatal errors on NvSwitch 0 link 12")
    answer = dcgm("faults")
    assert judged(container, answer) == [hot, memory, links, xid, switch]
    four = replace(NEEDS, gpus=4, rdma_devices=DEVICES[:4])
    assert judged(container, answer, four) == [hot, memory, links, switch], "GPU 7 is not of the plan"


def test_what_dcgm_says_otherwise(container: Container) -> None:
    assert judged(container, None) == [], "not installed: no line"
    assert judged(container, dcgm("healthy")) == [("ok", "no incident on the GPUs of the plan")]
    assert judged(container, dcgm("not-watched"))[0][0] == "ok"
    assert judged(container, dcgm("not-running")) == [("warn", "installed, its host engine does not run")]
    assert judged(container, Dcgm(overall="Warning")) == [("warn", "overall health: Warning")]


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (124, "no answer within 60 s", "no answer within 60 s"),
        (126, "dcgmi: Permission denied", "dcgmi: Permission denied"),
        (1, "", "dcgmi: exit status 1"),
        (0, "{}", "{}"),
        (0, '{"body": {"Overall Health"', '{"body": {"Overall Health"'),
        (0, '{"body": []}', '{"body": []}'),
        (
            249,
            "Error: Unable to check health watches. Return: The Group is not found\n",
            "Unable to check health watches. Return: The Group is not found",
        ),
    ],
)
def test_answers_of_dcgm_that_are_none(code: int, text: str, error: str, container: Container) -> None:
    found = parse_health(code, text)
    assert found is not None
    assert found["error"] == error
    assert judged(container, Dcgm(error=error)) == [("warn", error)]


def test_dcgm_is_asked_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_health(127, "") is None
    root = make_host("h100-ib", tmp_path, monkeypatch)
    assert gpu_facts.gather(root)["dcgm"] is None
    replace_tool(tmp_path, "dcgmi", "dcgmi/faults.json")
    answer = typed(gpu_facts.gather(root)).dcgm
    assert answer is not None
    assert (answer.overall, len(answer.incidents)) == ("Failure", 5)


def nvlink(gpus: dict[str, list[str]], unit: str = "\t ") -> str:
    """Return the format of `nvidia-smi nvlink -s`: GPU name -> the states of its links, from link 0."""
    lines = []
    for number, (name, states) in enumerate(gpus.items()):
        lines.append(f"GPU {number}: {name.rstrip('#')} (UUID: GPU-00000000-0000-0000-0000-{number:012})")
        lines += [f"{unit}Link {link}: {state}" for link, state in enumerate(states)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # https://github.com/Azure/azhpc-diagnostics/issues/73
        (
            nvlink(
                {"Tesla V100-SXM2-32GB": [*["25.781 GB/s"] * 3, "<inactive>", "25.781 GB/s", "<inactive>"]}
            ),
            [(4, [3, 5])],
        ),
        # https://github.com/NVIDIA/nccl-tests/issues/228
        (nvlink({"NVIDIA A100-SXM4-80GB": ["25 GB/s"] * 12}), [(12, [])]),
        # https://github.com/NVIDIA/k8s-test-infra/issues/371
        (nvlink({"NVIDIA GB200": ["53.125 GB/s"] * 18}, " " * 9), [(18, [])]),
        # https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1150
        (
            nvlink({"NVIDIA H100 80GB HBM3": ["26.562 GB/s"] * 18, "NVIDIA H100 80GB HBM3#": []})
            + "NVML: Unable to retrieve NVLink information as all links are inActive\n",
            [(18, []), (0, [])],
        ),
    ],
)
def test_links_of_several_systems(text: str, expected: list[tuple[int, list[int]]]) -> None:
    found = gpu_facts.parse_nvlink(text)
    assert [(found[n]["links_up"], found[n]["links_down"]) for n in range(len(expected))] == expected
    assert len(found) == len(expected)


def test_links_that_are_cut_off_or_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_host("h100-ib", tmp_path, monkeypatch)
    whole = (RECORDINGS / "h100-ib/nvidia-smi-nvlink-s.txt").read_text()
    tool = tmp_path / "bin/nvidia-smi"
    script = tool.read_text()

    def judge_links(answer: str) -> tuple[str, str]:
        tool.write_text(
            script.replace("#!/bin/sh\n", f'#!/bin/sh\n[ "$1" != nvlink ] || {{ {answer}; }}\n', 1)
        )
        (check,) = checks(typed(gpu_facts.gather(root)), "nvlink")
        return check.status, check.seen

    (tmp_path / "cut").write_text(whole[: whole.rindex("Link 5:") + 4])
    assert judge_links(f"cat {tmp_path}/cut; exit 0") == ("fail", "GPU 7: 5 links, others 18")
    assert judge_links("echo 'Unknown Error'; exit 255") == ("warn", "not known: Unknown Error")
    assert judge_links("exit 1") == ("warn", "not known: exit status 1")
    assert judge_links("exit 0")[1].startswith("no NVLink: GPUs talk over PCIe")
