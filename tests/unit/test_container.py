"""Launches in containers, their Quadlet units (judged by the real generator where it is), and the rules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.wideep.dynamo.plugins.module_utils.container_facts import gpus
from ansible_collections.wideep.dynamo.plugins.module_utils.systemd import Systemd, quadlet
from test_preflight import GOOD

from wideep.deployment.launch import Launch
from wideep.plan import make_plan
from wideep.preflight import Host, Needs, Settings, read_needs
from wideep.preflight.container import podman
from wideep.preflight.model import ContainerNeeds, Podman
from wideep.problems import RefusedError
from wideep.reference.release import find_release

RELEASE = find_release()

DIGEST = "a" * 64
IMAGE = f"registry.example.com:5000/dynamo/sglang-runtime@sha256:{DIGEST}"
SGLANG = {
    "wideep_engine": "sglang",
    "wideep_model": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    "wideep_model_path": "/models/8b",
    "wideep_gpu": "h100-80gb",
    "wideep_network": {"link": "ib", "rdma_devices": ["mlx5_0"]},
    "wideep_pools": {
        "prefill": {"gpus_per_node": 2, "options": {"tensor_parallel_size": 2}},
        "decode": {"gpus_per_node": 2, "options": {"tensor_parallel_size": 2}},
    },
}


BASE: dict[str, Any] = {
    "ansible_host": "10.0.0.1",
    "wideep_state_dir": "/srv/wideep",
    "wideep_runtime": "container",
    "wideep_image": IMAGE,
    "wideep_model_path": "/models/r1",
    "wideep_pools": {"prefill": {"gpus_per_node": 1}, "decode": {"gpus_per_node": 1}},
}


def launches(**variables: Any) -> dict[str, Launch]:
    groups = {name: ["a"] for name in ("control", "frontend", "prefill", "decode")}
    plan = make_plan(groups, {"a": {**BASE, **variables}})
    return {launch.name: launch for launch in plan.launches["a"]}


def options(launch: Launch) -> list[str]:
    return list(launch.argv[2 : launch.argv.index(IMAGE)])


def refused(**variables: Any) -> list[tuple[str, str]]:
    with pytest.raises(RefusedError) as found:
        launches(**variables)
    return [(p.where, p.message) for p in found.value.problems]


# ---- the launch ----------------------------------------------------------------------------------


def test_only_dynamo_runs_in_containers() -> None:
    own = launches()
    programs = {name: launch.argv[:2] for name, launch in own.items()}
    assert programs["frontend"] == programs["prefill-0"] == programs["decode-0"] == ("podman", "run")
    assert "podman" not in own["nats"].argv[0] + own["etcd"].argv[0]


def test_a_worker_keeps_its_words_its_places_and_its_identity() -> None:
    plain, worker = launches(wideep_runtime="venv", wideep_image="")["decode-0"], launches()["decode-0"]
    assert worker.argv[worker.argv.index(IMAGE) + 1 :] == plain.argv[1:]
    own = options(worker)
    for option in (
        "--entrypoint=python3",
        "--network=host",
        "--ipc=host",
        "--ulimit=host",
        "--pull=never",
        "--replace",
        "--rm",
        "--init",
        f"--workdir={plain.working_directory}",
        "--volume=/srv/wideep:/srv/wideep",
        "--volume=/models/r1:/models/r1:ro",
        "--env=WIDEEP_DIGEST",
        "--env=HOME=/srv/wideep/cache/home",
    ):
        assert own.count(option) == 1, option
    assert (worker.ports, worker.health, worker.log_file) == (plain.ports, plain.health, plain.log_file)
    assert worker.stop_timeout_s > plain.stop_timeout_s
    # The host cleans up, with its own Python.
    assert worker.cleanup[0] == "python3"
    # podman's own home stays where its images are.
    assert "HOME" not in worker.env
    assert all(f"--env={name}" in own for name in worker.env)


def test_nothing_is_given_to_a_container_that_its_worker_does_not_need() -> None:
    own = options(launches()["decode-0"])
    assert not [option for option in own if option.startswith(("--device", "--cap-add", "--privileged"))]


def test_gpus_count_from_zero_inside_and_rdma_comes_with_them() -> None:
    worker = launches(**SGLANG)["decode-0"]
    own = options(worker)
    assert [o for o in own if o.startswith("--device")] == [
        "--device=nvidia.com/gpu=2",
        "--device=nvidia.com/gpu=3",
        "--device=/dev/infiniband",
    ]
    assert "--cap-add=IPC_LOCK" in own
    assert worker.lock_memory
    assert worker.env["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "PATH" not in worker.env


def test_shared_memory_mounts_and_options_of_the_operator() -> None:
    given = {"shm": "16g", "init": False, "mounts": ["/a:/b:ro"], "options": ["--device=/dev/gdrdrv"]}
    own = options(launches(wideep_container=given)["prefill-0"])
    assert {"--shm-size=16g", "--volume=/a:/b:ro", "--device=/dev/gdrdrv"} <= set(own)
    assert not {"--ipc=host", "--init"} & set(own)


def test_files_with_secrets_are_named_and_not_read() -> None:
    worker = launches(secrets_env={"HF_TOKEN": "hunter2-hunter2"})["decode-0"]
    assert worker.env_files
    assert [o for o in options(worker) if o.startswith("--env-file")] == [
        f"--env-file={path}" for path in worker.env_files
    ]
    assert "hunter2" not in str(worker.to_dict())


def test_two_deployments_of_one_name_have_containers_of_their_own() -> None:
    names = {options(launches(wideep_state_dir=f"/srv/{x}")["decode-0"])[0] for x in ("one", "two")}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("engine", "name"), [("sglang", "sglang-runtime"), ("trtllm", "tensorrtllm-runtime")]
)
def test_without_an_image_it_is_the_releases_own(engine: str, name: str) -> None:
    worker = launches(wideep_image="", wideep_engine_flavour=engine)["decode-0"]
    assert f"nvcr.io/nvidia/ai-dynamo/{name}:{RELEASE.dynamo}" in worker.argv


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "where", "words"),
    [
        ({"wideep_image": f"r.io/x:1@sha256:{DIGEST}"}, "wideep_image", "not both"),
        ({"wideep_image": "user:password@r.io/x:1"}, "wideep_image", "not allowed"),
        ({"wideep_service_user": "wideep"}, "wideep_service_user", "account that Ansible acts as"),
        ({"wideep_container": {"options": ["--name=x"]}}, "wideep_container.options", "the plan sets it"),
        ({"wideep_container": {"options": ["-it"]}}, "wideep_container.options.0", "not allowed"),
        ({"wideep_container": {"mounts": ["data:/data"]}}, "wideep_container.mounts.0", "not allowed"),
        ({"wideep_container": {"shm": "lots"}}, "wideep_container.shm", "not allowed"),
        ({"wideep_container": {"gpus": 1}}, "wideep_container.gpus", "unknown key"),
        (
            {"wideep_engine": "sglang", "wideep_model": "deepseek-ai/DeepSeek-V2-Lite-Chat"}
            | {"wideep_model_path": "/m", "wideep_container": {"shm": "64m"}},
            "wideep_container.shm",
            "bus error",
        ),
    ],
)
def test_what_podman_could_not_run_is_refused(variables: dict[str, Any], where: str, words: str) -> None:
    [(place, message)] = refused(**variables)
    assert place == where
    assert words in message


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        ({"wideep_image": "r.io/x:1"}, "wideep_image"),
        ({"wideep_image": ""}, "wideep_image"),
        ({"wideep_runtime": "venv"}, "wideep_image"),
        ({"wideep_python": "/opt/py/bin/python"}, "wideep_python on host a"),
    ],
)
def test_what_is_doubtful_is_a_warning(variables: dict[str, Any], where: str) -> None:
    given = {"wideep_runtime": "container", "wideep_image": IMAGE, "ansible_host": "10.0.0.1", **variables}
    groups = {name: ["a"] for name in ("control", "frontend", "aggregated")}
    plan = make_plan(groups, {"a": {**given, "wideep_state_dir": "/srv/wideep"}})
    assert [warning.where for warning in plan.warnings] == [where]


# ---- units ---------------------------------------------------------------------------------------


def unit(launch: Launch) -> str:
    return Systemd("/srv/wideep", "blue").render_container(launch.to_dict(), 257)


def generated(text: str, folder: Path) -> str:
    """Return the ExecStart of the service that podman's own generator makes of a unit."""
    places = (os.environ.get("WIDEEP_QUADLET", ""), "/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet")
    program = next((found for place in places if place and (found := shutil.which(place))), None)
    if program is None:
        if os.environ.get("WIDEEP_QUADLET"):
            pytest.fail("WIDEEP_QUADLET names no program")
        pytest.skip("podman's generator (4.4 or newer) is not here; WIDEEP_QUADLET may name it")
    (folder / "x.container").write_text(text)
    done = subprocess.run(
        [program, "-dryrun"],
        env={"QUADLET_UNIT_DIRS": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = re.findall(r"^ExecStart=(.*)$", done.stdout, re.MULTILINE)
    return str(line)


def test_a_quadlet_unit_says_what_the_command_says() -> None:
    text = unit(launches(**SGLANG)["decode-0"])
    container, service = re.findall(r"\[(?:Container|Service)\]\n(.*?)\n\n", text, re.DOTALL)
    assert f"Image={IMAGE}\n" in container
    assert "AddDevice=nvidia.com/gpu=2\nAddDevice=nvidia.com/gpu=3\nAddDevice=/dev/infiniband\n" in container
    assert "Network=host\n" in container
    assert re.search(r"Exec=-IS \S+/rank-\S+ .* -m dynamo.sglang --model-path /models/8b", container)
    for line in (
        "Restart=always",
        "LimitMEMLOCK=infinity",
        "StandardOutput=append:/srv/wideep/log/decode-0.log",
    ):
        assert line in service.split("\n")
    assert "EnvironmentFile=/srv/wideep/services/decode-0/environment" in service
    # Podman's, or not for a program that needs the host.
    assert not re.search(r"ExecStart=|Type=|ProtectSystem|NoNewPrivileges=", service)
    assert text.endswith("[Install]\nWantedBy=multi-user.target\n")


def test_podmans_generator_makes_the_same_command_of_it(tmp_path: Path) -> None:
    launch = launches(**SGLANG)["decode-0"]
    words = generated(unit(launch), tmp_path).split()
    at = words.index(IMAGE)
    assert words[at + 1 :] == [
        word.replace("$", "$$") for word in launch.argv[launch.argv.index(IMAGE) + 1 :]
    ]
    head = " ".join(words[:at])
    for text in (
        "--cgroups=split",
        "--replace",
        "--device nvidia.com/gpu=2",
        "--env=WIDEEP_DIGEST",
        "--init",
    ):
        assert text in head


def test_a_plain_unit_where_podman_has_no_quadlet() -> None:
    text = Systemd("/srv/wideep", "blue").render_unit(launches()["decode-0"].to_dict(), 252)
    assert "ExecStart=podman run --cgroups=split --name=wideep-decode-0-" in text
    assert "Delegate=yes\n" in text
    assert "ProtectSystem" not in text


def test_a_command_without_an_image_is_no_unit() -> None:
    with pytest.raises(ValueError, match="no image"):
        quadlet(["podman", "run", "--rm"])


# ---- preflight -----------------------------------------------------------------------------------


YAML = """---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
    - path: /dev/nvidiactl
devices:
  - name: "0"
    containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}
  - name: GPU-8e1f
  - name: all
kind: nvidia.com/gpu
"""
JSON = '{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": "1", "containerEdits": {}}]}'


def test_gpus_that_cdi_knows(tmp_path: Path) -> None:
    (tmp_path / "nvidia.yaml").write_text(YAML)
    (tmp_path / "more.json").write_text(JSON)
    (tmp_path / "nic.yaml").write_text(YAML.replace("nvidia.com/gpu", "example.com/nic").replace("all", "x"))
    (tmp_path / "README").write_text(YAML.replace("all", "y"))
    assert gpus((tmp_path, tmp_path / "missing")) == ["0", "1", "GPU-8e1f", "all"]


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (Podman("5.4.2", init=True, cdi_gpus=("0", "1", "all")), []),
        (Podman(""), ["podman"]),
        (Podman("3.4.4", init=True, cdi_gpus=("0", "1")), ["podman"]),
        (Podman("4.9.3", init=False, cdi_gpus=("0",)), ["catatonit", "cdi"]),
    ],
)
def test_what_preflight_says_of_podman(facts: Podman, found: list[str]) -> None:
    needs = Needs(container=ContainerNeeds("podman", IMAGE, (0, 1)))
    host = Host("a", replace(GOOD, container=facts), needs)
    checks = list(podman(host, Settings()))
    assert [check.topic for check in checks if check.status == "fail"] == found
    assert all(check.remedy for check in checks if check.status == "fail")


def test_the_plan_says_what_containers_need() -> None:
    groups = {name: ["a"] for name in ("control", "frontend", "prefill", "decode")}
    plan = make_plan(groups, {"a": {**BASE, **SGLANG}})
    needs = plan.publish().to_dict()["hosts"]["a"]["needs"]["container"]
    assert needs == {"program": "podman", "image": IMAGE, "gpus": [0, 1, 2, 3], "init": True}
    assert read_needs({"container": needs}).container == ContainerNeeds("podman", IMAGE, (0, 1, 2, 3))
