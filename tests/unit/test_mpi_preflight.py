"""MPI's programs on the hosts of a replica: what is needed where, what is found, what is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.mpi_facts import gather
from example_inventories import inventory
from test_preflight import GOOD
from trtllm_cases import LITE, NO_EPLB, RIGHT, Change, deployment

from wideep.plan import make_plan
from wideep.preflight import Check, judge, read_needs
from wideep.preflight.model import Mpi, MpiNeeds, Needs

PATH = "/opt/trtllm/bin:/usr/local/mpi/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DAEMON, LAUNCHER = ("orted", "prted"), ("trtllm-llmapi-launch",)
HOST = Needs(mpi=MpiNeeds(PATH, (("mpirun",), DAEMON, LAUNCHER), "trtllm"))
FOUND = {"mpirun": "/usr/bin/mpirun", "orted": "/usr/bin/orted", "prted": "", LAUNCHER[0]: "/opt/x"}


def needs(change: Change, host: str) -> Any:
    return make_plan(*deployment(change)).publish().to_dict()["hosts"][host]["needs"]


def checks(*facts: Mpi | None) -> list[Check]:
    hosts = {f"h{n}": dataclasses.replace(GOOD, mpi=mpi) for n, mpi in enumerate(facts)}
    return [c for c in judge(dict.fromkeys(hosts, HOST), hosts).checks if "mpi" in c.topic]


def test_the_head_starts_mpirun_and_every_host_its_daemon_and_the_launcher() -> None:
    own = {host: read_needs(needs(Change(), host)).mpi for host in ("c0", "decode0", "decode1")}
    assert own["c0"] is None
    assert own["decode0"] == MpiNeeds(PATH, (("mpirun",), DAEMON, LAUNCHER), "trtllm")
    assert own["decode1"] == MpiNeeds(PATH, (DAEMON, LAUNCHER), "trtllm")


def test_beside_an_mpirun_that_is_named_by_its_path_is_its_daemon() -> None:
    change = Change(own={"mpirun": "/opt/hpcx/bin/mpirun"})
    mpi = read_needs(needs(change, "decode0")).mpi
    assert mpi
    assert mpi.programs == (
        ("/opt/hpcx/bin/mpirun",),
        ("/opt/hpcx/bin/orted", "/opt/hpcx/bin/prted"),
        LAUNCHER,
    )


@pytest.mark.parametrize(
    "change", [RIGHT["in containers"], Change(model=LITE, variables=NO_EPLB)], ids=["image", "one host"]
)
def test_where_mpi_is_not_looked_for(change: Change) -> None:
    assert needs(change, "decode0")["mpi"] is None


def test_other_engines_have_none() -> None:
    plan = make_plan(*inventory("deepseek_r1_sglang")).publish().to_dict()["hosts"]
    assert {host["needs"]["mpi"] for host in plan.values()} == {None}


def test_programs_are_looked_for_where_the_service_looks(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, name, text in (
        (one, "prted", "exit 1"),
        (one, "mpirun", "echo 'mpirun (Open MPI) 5.0.11'; echo; echo Report bugs"),
        (other, LAUNCHER[0], "exit 1"),
        (other, "mpirun", "echo 'another one'"),
    ):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    found = gather(f"{other}:{one}", [DAEMON, LAUNCHER])
    assert found == {
        "found": {"orted": "", "prted": f"{one}/prted", LAUNCHER[0]: f"{other}/{LAUNCHER[0]}"},
        "version": "mpirun (Open MPI) 5.0.11",
    }
    assert gather(str(tmp_path), [(f"{one}/mpirun",)])["found"] == {f"{one}/mpirun": f"{one}/mpirun"}
    assert gather(str(other), [DAEMON]) == {"found": {"orted": "", "prted": ""}, "version": ""}
    for broken in ("exit 3", "exec /nowhere/at/all", ""):
        (one / "mpirun").write_text(f"#!/bin/sh\n{broken}\n" if broken else "no program")
        assert gather(str(one), [DAEMON])["version"] == ""


def test_what_is_missing_is_named_with_the_path_that_was_searched() -> None:
    ok, missing = checks(Mpi(FOUND, "mpirun (Open MPI) 4.1.8"), Mpi({**FOUND, "orted": "", LAUNCHER[0]: ""}))
    assert (ok.status, ok.seen) == ("ok", "mpirun (Open MPI) 4.1.8")
    assert (missing.status, missing.topic) == ("fail", "mpi")
    assert missing.seen == "no orted or prted, no trtllm-llmapi-launch"
    assert missing.expected == f"mpirun, orted or prted, trtllm-llmapi-launch in {PATH}"
    assert "options.trtllm.mpirun" in missing.remedy
    assert "wideep_runtime: container" in missing.remedy


def test_all_hosts_have_one_version() -> None:
    four, five = Mpi(FOUND, "mpirun (Open MPI) 4.1.8"), Mpi(FOUND, "mpirun (Open MPI) 5.0.11")
    [other] = [c for c in checks(four, five, four, Mpi(FOUND), None) if c.topic == "same mpi"]
    assert (other.host, other.status, other.seen) == ("h1", "fail", "mpirun (Open MPI) 5.0.11")
    assert other.expected == "mpirun (Open MPI) 4.1.8, as on 2 hosts"
    assert not [c for c in checks(four, four) if c.topic == "same mpi"]
    assert checks(None) == []
