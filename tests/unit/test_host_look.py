"""What a host says of a deployment, in one call: on directories of this machine, by the module itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils import look as looking
from ansible_collections.wideep.dynamo.plugins.module_utils import python_env
from ansible_collections.wideep.dynamo.plugins.module_utils.files import Files
from ansible_collections.wideep.dynamo.plugins.module_utils.operations import configured
from ansible_collections.wideep.dynamo.plugins.module_utils.supervisord import Supervisord
from ansible_collections.wideep.dynamo.plugins.modules import host_look
from example_inventories import cluster, local
from modules import call_module

from wideep.changes.look import HostLook, judged, read
from wideep.deployment.model import Kept
from wideep.plan import make_plan
from wideep.published import Published


def launches(state: Path, **variables: Any) -> list[dict[str, Any]]:
    """Return the workers of a machine, without the programs that they call."""
    made = make_plan(*local(wideep_state_dir=str(state), **variables))
    found = [launch.to_dict() for launch in made.launches["localhost"] if launch.component == "worker"]
    return [{**launch, "programs": []} for launch in found]


def put(state: Path, planned: list[dict[str, Any]]) -> None:
    """Have them configured there."""
    state.mkdir(exist_ok=True)
    (state / ".wideep.json").write_text(json.dumps({"deployment": "wideep"}))
    files, manager = Files(check=False), Supervisord(str(state), "/opt/supervisord")
    files.directory(state, 0o755, keep_mode=True)
    for launch in planned:
        configured(files, launch, str(state))  # type: ignore[arg-type]
    manager.configure(files, {launch["name"]: launch for launch in planned})  # type: ignore[misc]


@pytest.fixture
def seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(planned: list[dict[str, Any]], **arguments: Any) -> HostLook:
        given = {
            "host": "h1",
            "state_dir": str(tmp_path / "state"),
            "manager": "supervisord",
            "supervisord": "/opt/supervisord",
            "launches": planned,
            **arguments,
        }
        said = call_module(host_look, given, capsys)
        assert said["changed"] is False
        said["look"].pop("models", None)
        return read({"h1": said})["h1"]

    return call


def test_a_new_host_has_nothing_and_everything_is_to_be_done(tmp_path: Path, seen: Any) -> None:
    state = tmp_path / "state"
    look = seen(launches(state))
    assert look.new
    assert look.differs
    assert f"state directory {state}: new" in look.other
    assert {one.state for one in look.services} == {"absent"}
    assert {one.starts for one in look.services} == {"started"}
    assert not state.exists()


def test_what_is_there_as_planned_differs_in_nothing_but_that_it_does_not_run(
    tmp_path: Path, seen: Any
) -> None:
    planned = launches(tmp_path / "state")
    put(tmp_path / "state", planned)
    look = seen(planned)
    assert look.other == ()
    assert [one.differs for one in look.services] == [()] * len(planned)
    assert {one.starts for one in look.services} == {"started"}
    assert [one.configured for one in look.services] == [launch["digest"] for launch in planned]
    one = look.by_name["decode-1"]
    assert (one.gang, one.rank, one.ranks, one.port) == ("decode-1", 0, ("h1",), 22100)


def test_a_look_holds_against_another_plan_without_asking_again(tmp_path: Path, seen: Any) -> None:
    """What a host says for one plan, judged for a second, is what it says for the second."""
    state = tmp_path / "state"
    pools = {pool: {"replicas_per_node": 2, "gpus_per_node": 1} for pool in ("prefill", "decode")}
    pools["decode"]["options"] = {"max_batch_size": 128}
    put(state, launches(state, wideep_pools=pools))
    section = state / "supervisor/conf.d/decode-0.conf"
    section.write_text(section.read_text() + "nice = 1\n")

    plans = {
        "default": make_plan(*local(wideep_state_dir=str(state))).publish(),
        "as it is": make_plan(*local(wideep_state_dir=str(state), wideep_pools=pools)).publish(),
        "others": make_plan(
            *local(wideep_state_dir=str(state), wideep_pools=pools),
            [Kept("decode-7", ("localhost",), 22000), Kept("prefill-1", ("localhost",), 21100)],
        ).publish(),
    }

    def workers(plan: Published) -> Published:
        own = plan.hosts["localhost"]
        mine = tuple(replace(launch, programs=()) for launch in own.launches["worker"])
        nothing = dict.fromkeys(own.launches, ())
        return replace(plan, hosts={"h1": replace(own, launches={**nothing, "worker": mine})})

    said = {}
    for name, plan in plans.items():
        plans[name] = workers(plan)
        said[name] = seen([launch.to_dict() for launch in plans[name].hosts["h1"].services])
    for first in plans:
        for second, plan in plans.items():
            look, wanted = judged({"h1": said[first]}, plan)["h1"], said[second]
            assert [one.name for one in look.services] == [one.name for one in wanted.services]
            for one, other in zip(look.services, wanted.services, strict=True):
                for field in ("gang", "ranks", "port", "planned", "configured", "judged", "starts", "before"):
                    assert getattr(one, field) == getattr(other, field), (first, second, one.name, field)
                assert bool(one.differs) == bool(other.differs), (first, second, one.name)
            assert {one.name for one in look.unplanned} == {one.name for one in wanted.unplanned}
    assert [one.differs for one in said["as it is"].services if one.differs] == [(f"{section}: changed",)]


def test_a_changed_variable_is_seen_in_its_services_only(tmp_path: Path, seen: Any) -> None:
    put(tmp_path / "state", launches(tmp_path / "state"))
    pools = {pool: {"replicas_per_node": 2, "gpus_per_node": 1} for pool in ("prefill", "decode")}
    pools["decode"]["options"] = {"max_batch_size": 128}
    look = seen(launches(tmp_path / "state", wideep_pools=pools))
    changed = {one.name for one in look.services if one.differs}
    assert changed == {"decode-0", "decode-1"}
    one = look.by_name["decode-0"]
    assert one.differs == (f"{tmp_path}/state/services/decode-0/launch.json: changed",)
    assert one.before is not None
    assert "--max-num-seqs" not in one.before["argv"]
    assert one.planned != one.configured == one.before["digest"]
    assert look.by_name["prefill-0"].before is None


def test_a_file_changed_by_hand_is_seen(tmp_path: Path, seen: Any) -> None:
    planned = launches(tmp_path / "state")
    put(tmp_path / "state", planned)
    section = tmp_path / "state/supervisor/conf.d/decode-0.conf"
    section.write_text(section.read_text() + "nice = 1\n")
    assert seen(planned).by_name["decode-0"].differs == (f"{section}: changed",)


def test_services_that_are_not_planned_are_named_with_their_replica(tmp_path: Path, seen: Any) -> None:
    planned = launches(tmp_path / "state")
    put(tmp_path / "state", planned)
    look = seen(planned[:-1])
    (one,) = look.unplanned
    assert (one.name, one.gang, one.planned) == ("decode-1", "decode-1", "")
    assert one.configured == planned[-1]["digest"]
    assert not look.settled


def test_a_rank_knows_the_hosts_of_its_replica(tmp_path: Path, seen: Any) -> None:
    groups, hosts = cluster(
        wideep_state_dir=str(tmp_path / "state"), wideep_pools={"decode": {"nodes_per_replica": 2}}
    )
    launch = next(x for x in make_plan(groups, hosts).launches["decode-1"] if x.component == "worker")
    (one,) = seen([{**launch.to_dict(), "programs": []}]).services
    assert (one.name, one.gang, one.rank) == ("decode-0-rank-1", "decode-0", 1)
    assert one.ranks == ("decode-0", "decode-1")


def test_a_directory_of_another_deployment_is_none_of_ours(tmp_path: Path, seen: Any) -> None:
    planned = launches(tmp_path / "state")
    put(tmp_path / "state", planned)
    look = seen(planned, deployment="other")
    assert look.services == look.unplanned == ()
    assert "holds the deployment 'wideep', not 'other'" in look.other[0]
    assert not look.settled


def test_launches_that_cannot_be_set_up_say_so(tmp_path: Path, seen: Any) -> None:
    planned = [{**launch, "user": "nobody-of-this-name"} for launch in launches(tmp_path / "state")]
    look = seen(planned)
    assert any("does not exist on this host" in word for word in look.other)
    assert not look.settled


def test_secrets_that_would_be_written_restart_who_reads_them(tmp_path: Path, seen: Any) -> None:
    planned = launches(tmp_path / "state")
    path = str(tmp_path / "state/secrets/nats.env")
    planned = [{**launch, "env_files": [path]} for launch in planned]
    put(tmp_path / "state", planned)
    look = seen(planned, secrets={"nats.env": "NATS_AUTH_PASSWORD=12345678\n"}, secrets_known=["nats.env"])
    assert look.other == ("secrets",)
    assert not Path(path).exists()


def test_an_environment_is_what_its_lock_file_makes(tmp_path: Path) -> None:
    lock = "a==1 --hash=sha256:0\n"
    item = {"environment": str(tmp_path / "ai-dynamo-1.6.1"), "digest": python_env.digest(lock)}
    assert looking.wanted(item) == "ai-dynamo 1.6.1: new"

    def make(name: str, text: str) -> None:
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin/python").symlink_to("/bin/sh")
        stamp = python_env.Stamp(python_env.digest(text), ["x"], "auto", "/bin/sh", "3.12.1", 1)
        (tmp_path / name / python_env.STAMP).write_text(json.dumps(vars(stamp)))

    make("ai-dynamo-1.5.1", "b")
    assert looking.wanted(item) == "ai-dynamo 1.5.1 → 1.6.1"
    make("ai-dynamo-1.6.1", lock)
    assert looking.wanted(item) == ""
    assert looking.wanted({**item, "imports": ["y"]}) == "ai-dynamo 1.6.1: another lock file or interpreter"
    assert looking.wanted({**item, "digest": "other"}) != ""


def test_programs_models_and_packages_are_looked_for(tmp_path: Path) -> None:
    assert looking.wanted({"program": "/bin/sh"}) == ""
    assert looking.wanted({"program": "no-such-program"}) == "no-such-program: is not there"
    (tmp_path / "config.json").write_text("{}")
    right = {"config.json": hashlib.sha256(b"{}").hexdigest()}
    item = {"directory": str(tmp_path), "digests": right}
    assert looking.wanted(item) == ""
    assert looking.wanted({**item, "digests": right | {"x": "0"}}) == f"model {tmp_path}: x"
    item = {"path": str(tmp_path), "download": {"source": "http", "url": "http://127.0.0.1/m"}}
    assert looking.wanted(item) == f"model {tmp_path}: http://127.0.0.1/m is downloaded"
    item = {"python": "/no/such/python", "packages": {"ai-dynamo": "1"}}
    assert "/no/such/python: No such file" in looking.wanted(item)


def test_an_image_is_looked_for(tmp_path: Path) -> None:
    item = {"image": "x", "pull": "missing", "archive": "", "podman": str(tmp_path / "podman")}
    assert "install podman" in looking.wanted(item)
    podman = tmp_path / "podman"
    podman.write_text('#!/bin/sh\ntest "$2" = exists || echo \'[{"Id": "1"}]\'\n')
    podman.chmod(0o755)
    assert looking.wanted(item) == ""
    assert looking.wanted({**item, "pull": "always"}) == "image x: would be pulled"


def test_accounts_of_etcd_are_looked_at(tmp_path: Path) -> None:
    item = {"accounts": "http://127.0.0.1:9", "record": str(tmp_path / "accounts.json")}
    assert looking.wanted(item) == ""
    assert looking.wanted({**item, "user": "u", "password": "p"}) == "accounts of etcd: u"
    (tmp_path / "accounts.json").write_text("{")
    assert "it is damaged" in looking.wanted(item)
