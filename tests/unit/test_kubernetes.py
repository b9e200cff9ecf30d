"""Plans for Kubernetes: manifests hold the same engines as hosts, and what a cluster would refuse is said."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_inventories import REPOSITORY, Groups, Hosts, refusal
from example_inventories import inventory as of_repository
from places import program

from wideep.cluster import objects
from wideep.kubernetes import names, schema
from wideep.kubernetes.check import check_words, quantity
from wideep.kubernetes.manifests import Manifests, to_yaml
from wideep.kubernetes.site import PodSite
from wideep.plan import Plan, make_plan
from wideep.problems import Problem
from wideep.published import Expected
from wideep.reference.release import find_release
from wideep.render import render, table

RELEASE = find_release()

ENGINES = ("sglang", "trtllm")
APIS = ("v1alpha1", "v1beta1")
# What the operator adds by itself; a second value would win over it.
INJECTED = {"--dist-init-addr", "--nnodes", "--node-rank", "--endpoint", "--namespace", "--http-port"}


def inventory(engine: str = "sglang", **variables: Any) -> tuple[Groups, Hosts]:
    """Return inventories/kubernetes_<engine>, with variables changed."""
    return of_repository(f"kubernetes_{engine}", **variables)


def plan(engine: str = "sglang", **variables: Any) -> Plan:
    return make_plan(*inventory(engine, **variables))


def made(engine: str = "sglang", **variables: Any) -> Manifests:
    manifests = plan(engine, **variables).manifests
    assert manifests is not None
    return manifests


def cluster(engine: str = "sglang", **changes: Any) -> dict[str, Any]:
    """Return the inventory's wideep_kubernetes with changes."""
    _, hosts = inventory(engine)
    return {"wideep_kubernetes": {**hosts["localhost"]["wideep_kubernetes"], **changes}}


def pools(engine: str = "sglang", pool: str = "prefill", **changes: Any) -> dict[str, Any]:
    """Return the inventory's wideep_pools with changes in one pool."""
    _, hosts = inventory(engine)
    own = hosts["localhost"]["wideep_pools"]
    return {"wideep_pools": {**own, pool: {**own[pool], **changes}}}


def components(manifests: Manifests) -> dict[str, dict[str, Any]]:
    """Return each component's parts in one form for both APIs."""
    graph = manifests.graph[-1]
    found = {}
    if graph["apiVersion"].endswith("v1alpha1"):
        for name, service in graph["spec"]["services"].items():
            pod = service["extraPodSpec"]
            limits = service.get("resources", {}).get("limits", {})
            found[name] = {
                "whole": service,
                "pod": {k: v for k, v in pod.items() if k != "mainContainer"},
                "container": pod["mainContainer"],
                "metadata": service["extraPodMetadata"],
                "probes": {
                    "startupProbe": pod["mainContainer"]["startupProbe"],
                    "livenessProbe": service["livenessProbe"],
                    "readinessProbe": service["readinessProbe"],
                },
                "env": service["envs"],
                "gpus": limits.get("gpu"),
                "extended": limits.get("custom", {}),
                "requests": service["resources"]["requests"],
                "limits": {k: v for k, v in limits.items() if k in {"cpu", "memory"}},
                "shm": service.get("sharedMemory", {}).get("size"),
            }
    else:
        for component in graph["spec"]["components"]:
            pod = component["podTemplate"]["spec"]
            container = pod["containers"][0]
            limits = dict(container.get("resources", {}).get("limits", {}))
            found[component["name"]] = {
                "whole": component,
                "pod": {k: v for k, v in pod.items() if k != "containers"},
                "container": container,
                "metadata": component["podTemplate"]["metadata"],
                "probes": {k: container[k] for k in ("startupProbe", "livenessProbe", "readinessProbe")},
                "env": container["env"],
                "gpus": limits.pop("nvidia.com/gpu", None),
                "requests": container["resources"]["requests"],
                "limits": {k: limits.pop(k) for k in ("cpu", "memory") if k in limits},
                "extended": limits,
                "shm": component.get("sharedMemorySize"),
            }
    return found


# ---- what is rendered ----------------------------------------------------------------------------


def test_reference_manifests_are_current() -> None:
    for path, text in program("tools/make_manifests.py").files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run tools/make_manifests.py"


def test_what_is_applied_by_hand_is_not_marked_as_ours() -> None:
    """The playbooks mark what they make, and refuse or leave the rest."""
    items = (*made("trtllm").model, *made("trtllm").graph)
    assert not any("managed-by" in str(item) for item in items)


def test_crds_of_the_test_chart_are_current() -> None:
    make_crd = program("tests/cluster/make_crd.py")
    for version in make_crd.find_release().graph_schema()["versions"]:
        assert make_crd._current(version), "run tests/cluster/make_crd.py"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("engine", ENGINES)
def test_graph(engine: str, api: str) -> None:
    manifests = made(engine, wideep_graph_api=api)
    graph = manifests.graph[-1]
    nodes = {"sglang": 4, "trtllm": 2}[engine]
    assert graph["apiVersion"] == f"nvidia.com/{api}"
    assert graph["kind"] == "DynamoGraphDeployment"
    assert (
        graph["metadata"]["name"] == {"sglang": "deepseek-r1-wideep", "trtllm": "deepseek-r1-trtllm"}[engine]
    )
    assert graph["spec"]["backendFramework"] == engine
    parts = components(manifests)
    assert list(parts) == ["frontend", "prefill", "decode"]
    assert parts["frontend"]["gpus"] is None
    for pool in ("prefill", "decode"):
        part = parts[pool]
        assert part["whole"]["multinode"] == {"nodeCount": nodes}
        assert part["gpus"] == "8"  # of one pod, never the sum over nodes
        assert part["extended"] == {"rdma/ib": "8"}
        assert part["shm"] == "80Gi"
        assert part["container"]["command"] == ["python3", "-m", f"dynamo.{engine}"]
        assert part["pod"]["terminationGracePeriodSeconds"] == 930
        assert part["probes"]["startupProbe"]["failureThreshold"] * 10 == 7200
    assert schema.check((*manifests.model, *manifests.graph), RELEASE) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_both_apis_say_the_same(engine: str) -> None:
    alpha, beta = (components(made(engine, wideep_graph_api=api)) for api in APIS)
    for name, one in alpha.items():
        other = beta[name]
        for key in ("pod", "metadata", "probes", "env", "gpus", "extended", "requests", "limits", "shm"):
            assert one[key] == other[key], (name, key)
        for key in ("image", "command", "args", "volumeMounts"):
            assert one["container"][key] == other["container"][key], (name, key)


def test_roles_of_the_two_apis() -> None:
    alpha = components(made(wideep_graph_api="v1alpha1"))
    assert [p["whole"]["componentType"] for p in alpha.values()] == ["frontend", "worker", "worker"]
    assert [p["whole"].get("subComponentType") for p in alpha.values()] == [None, "prefill", "decode"]
    beta = components(made(wideep_graph_api="v1beta1"))
    assert [p["whole"]["type"] for p in beta.values()] == ["frontend", "prefill", "decode"]


def _engine_words(argv: Sequence[str]) -> list[str]:
    """Return the words after `-m module`, under the replica's `rank` too."""
    return list(argv[argv.index("-m") + 2 :])


def sglang_on_hosts() -> dict[str, list[str]]:
    """Return pool -> arguments on the hosts of inventories/deepseek_r1_sglang, rank 0."""
    found = make_plan(*of_repository("deepseek_r1_sglang"))
    return {
        pool.name: _engine_words(found.launches[pool.replicas[0].head.host.name][0].argv)
        for pool in found.deployment.pools
    }


def test_the_engine_is_started_as_on_hosts() -> None:
    """All words are the same but the model's path, the address to listen on and what the operator adds."""
    on_hosts = sglang_on_hosts()
    for pool, part in components(made()).items():
        if pool == "frontend":
            continue
        words = iter(on_hosts[pool])
        kept: list[str] = []
        for word in words:
            if word in INJECTED:
                next(words)
                continue
            kept.append(word)
        here = list(part["container"]["args"])
        assert here[here.index("--host") + 1] == "0.0.0.0"
        for flag in ("--model-path", "--host"):
            assert here[here.index(flag) + 1] != kept[kept.index(flag) + 1]
            here[here.index(flag) + 1] = kept[kept.index(flag) + 1] = ""
        assert here == kept


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_that_the_operator_adds(engine: str) -> None:
    for name, part in components(made(engine)).items():
        words = part["container"]["args"]
        assert not INJECTED & set(words), name
        assert "mpirun" not in part["container"]["command"]
        assert not any("$(" in word for word in words), "the operator's quoting breaks references"
        given = {env["name"] for env in part["env"]}
        assert not given & {"DYN_SYSTEM_PORT", "DYN_NAMESPACE", "CUDA_VISIBLE_DEVICES", "PATH", "HOME"}


def test_a_pods_address_is_its_own() -> None:
    env = {e["name"]: e for e in components(made())["decode"]["env"]}
    field = {"fieldRef": {"fieldPath": "status.podIP"}}
    assert env["DYN_TCP_RPC_HOST"]["valueFrom"] == field
    assert env["SGLANG_HOST_IP"]["valueFrom"] == field
    assert all("value" in e or "valueFrom" in e for e in env.values())


def test_no_secret_has_a_value() -> None:
    manifests = made(**cluster(image_pull_secrets=["registry"]))
    job = manifests.model[-1]["spec"]["template"]["spec"]
    env = {e["name"]: e for e in job["containers"][0]["env"]}
    assert env["HF_TOKEN"] == {
        "name": "HF_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "hf-token-secret", "key": "HF_TOKEN"}},
    }
    assert job["imagePullSecrets"] == [{"name": "registry"}]
    for part in components(manifests).values():
        assert part["pod"]["imagePullSecrets"] == [{"name": "registry"}]
        assert "HF_TOKEN" not in {e["name"] for e in part["env"]}
    assert not any(item["kind"] == "Secret" for item in (*manifests.model, *manifests.graph))


@pytest.mark.parametrize("api", APIS)
def test_secret_environment_of_workers_is_a_reference(api: str) -> None:
    manifests = made(wideep_graph_api=api, secrets_env={"LICENSE_TOKEN": "only-for-tests"})
    reference = {"secretKeyRef": {"name": "deepseek-r1-wideep-env", "key": "LICENSE_TOKEN"}}
    for name, part in components(manifests).items():
        env = {e["name"]: e.get("valueFrom") for e in part["env"]}
        assert env.get("LICENSE_TOKEN") == (None if name == "frontend" else reference)
    assert "only-for-tests" not in str(manifests)
    # Another generation is another pod template, of workers only.
    again = Manifests((), tuple(objects.of_generation(manifests.graph, "abc")))
    for name, part in components(again).items():
        found = part["metadata"].get("annotations", {}).get(objects.GENERATION)
        assert found == (None if name == "frontend" else "abc")
    assert Manifests((), tuple(objects.of_generation(manifests.graph, ""))) == Manifests((), manifests.graph)


def test_a_generation_is_that_of_its_content() -> None:
    there = {"data": {"A": "eA=="}, "metadata": {"annotations": {objects.GENERATION: "old"}}}
    assert objects.generation(there, {"A": "eA=="}, "new") == "old"
    assert objects.generation(there, {"A": "eQ=="}, "new") == "new"
    assert objects.generation(None, {"A": "eA=="}, "new") == "new"


def test_trtllm_yaml_is_in_a_config_map_that_the_pod_reads() -> None:
    manifests = made("trtllm")
    maps = {item["metadata"]["name"]: item["data"] for item in manifests.graph if item["kind"] == "ConfigMap"}
    part = components(manifests)["decode"]
    words = part["container"]["args"]
    path = words[words.index("--extra-engine-args") + 1]
    volume = next(v for v in part["pod"]["volumes"] if v["name"] == "config")
    mount = next(m for m in part["container"]["volumeMounts"] if m["name"] == "config")
    assert path == f"{mount['mountPath']}/engine.yaml"
    engine = yaml.safe_load(maps[volume["configMap"]["name"]]["engine.yaml"])
    assert engine["tensor_parallel_size"] == 16
    assert engine["moe_config"]["load_balancer"] == f"{mount['mountPath']}/eplb.yaml"
    assert "eplb.yaml" in maps[volume["configMap"]["name"]]


def test_changed_engine_yaml_restarts_its_pool_only() -> None:
    def digests(**variables: Any) -> dict[str, str]:
        found = components(made("trtllm", **variables))
        return {
            n: p["metadata"]["annotations"]["wideep.dynamo/config-digest"]
            for n, p in found.items()
            if n != "frontend"
        }

    _, hosts = inventory("trtllm")
    options = copy.deepcopy(hosts["localhost"]["wideep_pools"]["decode"]["options"])
    options["trtllm"]["cuda_graph_max_bs"] = 128
    before, after = digests(), digests(**pools("trtllm", "decode", options=options))
    assert before["prefill"] == after["prefill"]
    assert before["decode"] != after["decode"]


def keeps_away(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the terms by which a pod keeps others off its node."""
    affinity = part["pod"].get("affinity", {}).get("podAntiAffinity", {})
    found: list[dict[str, Any]] = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    return found


@pytest.mark.parametrize("orchestrator", ["grove", "lws"])
def test_the_pods_of_a_replica_are_on_a_node_each(orchestrator: str) -> None:
    parts = components(made(**cluster(orchestrator=orchestrator)))
    for pool, other in (("prefill", "decode"), ("decode", "prefill")):
        (term,) = keeps_away(parts[pool])
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert term["matchLabelKeys"] == list(names.GANG_LABELS[orchestrator])
        wanted = term["labelSelector"]["matchLabels"].items()
        assert wanted <= parts[pool]["metadata"]["labels"].items()
        assert not wanted <= parts[other]["metadata"]["labels"].items()
        # Grove writes these itself.
        assert not any(key.startswith("app.kubernetes.io/") for key, _ in wanted)


def test_replicas_of_one_pod_share_a_node_unless_they_share_its_ports() -> None:
    _, hosts = inventory("sglang")
    own = hosts["localhost"]["wideep_pools"]
    small = {name: {**pool, "nodes_per_replica": 1, "gpus_per_node": 4} for name, pool in own.items()}
    for pool in small.values():
        pool["options"] = {}
    variables = {"wideep_pools": small, "wideep_eplb": {}, "wideep_gpu": ""}
    parts = components(made(**variables))
    assert [keeps_away(parts[pool]) for pool in ("prefill", "decode")] == [[], []]
    parts = components(made(**variables, **cluster(host_network=True)))
    for pool in ("prefill", "decode"):
        (term,) = keeps_away(parts[pool])
        assert term["namespaceSelector"] == {}
        assert term["labelSelector"]["matchLabels"].items() <= parts[pool]["metadata"]["labels"].items()


ADDED = {
    "resource_claims": [{"name": "compute-domain-channel"}],
    "extra_resources": {"rdma/ib_0": "1", "rdma/ib_1": "1"},
    "volumes": [{"name": "gdrdrv", "hostPath": {"path": "/dev/gdrdrv", "type": "CharDevice"}}],
    "volume_mounts": [{"name": "gdrdrv", "mountPath": "/dev/gdrdrv"}],
    "node_selector": {"rack": "a"},
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("engine", ENGINES)
def test_what_pods_get_beside_the_plan(api: str, engine: str) -> None:
    """The release's schema judges it, too: make_plan raises what it finds."""
    pool = {
        "node_selector": {"rack": "b"},
        "resource_claims": [{"name": "nics", "claim": "shared-nics"}],
        "extra_resources": {"rdma/ib_1": "4"},
    }
    given = cluster(engine, rdma_resource="", pools={"decode": pool}, **ADDED)
    parts = components(made(engine, wideep_graph_api=api, **given))
    channel = {
        "name": "compute-domain-channel",
        "resourceClaimTemplateName": "compute-domain-channel",
    }
    prefill, decode, frontend = (parts[name] for name in ("prefill", "decode", "frontend"))
    assert prefill["pod"]["resourceClaims"] == [channel]
    assert decode["pod"]["resourceClaims"] == [channel, {"name": "nics", "resourceClaimName": "shared-nics"}]
    assert prefill["extended"].items() >= {"rdma/ib_0": "1", "rdma/ib_1": "1"}.items()
    assert decode["extended"].items() >= {"rdma/ib_0": "1", "rdma/ib_1": "4"}.items()
    assert (prefill["pod"]["nodeSelector"]["rack"], decode["pod"]["nodeSelector"]["rack"]) == ("a", "b")
    for part in (prefill, decode):
        whole = part["whole"] if api == "v1alpha1" else part["container"]
        assert [c["name"] for c in whole["resources"]["claims"]] == [
            c["name"] for c in part["pod"]["resourceClaims"]
        ]
        assert ADDED["volumes"][0] in part["pod"]["volumes"]  # type: ignore[index]
        assert ADDED["volume_mounts"][0] in part["container"]["volumeMounts"]  # type: ignore[index]
    assert "resourceClaims" not in frontend["pod"]
    assert frontend["extended"] == {}


@pytest.mark.parametrize(
    ("changes", "variable", "words"),
    [
        ({"volume_mounts": [{"name": "x", "mountPath": "/x"}]}, "volume_mounts", "no volume 'x'"),
        ({"volumes": [{"name": "cache", "emptyDir": {}}]}, "volumes", "'cache' is the name of another"),
        ({"resource_claims": [{"name": "a"}, {"name": "a"}]}, "resource_claims", "'a' is the name"),
        (
            {"extra_resources": {"nvidia.com/gpu": "8"}},
            "extra_resources.nvidia.com/gpu",
            "follow from the plan",
        ),
    ],
)
def test_additions_that_a_pod_cannot_have(changes: dict[str, Any], variable: str, words: str) -> None:
    found = refusal(*inventory(**cluster(**changes)))
    assert [p.where for p in found] == [f"wideep_kubernetes.{variable}"] * len(found)
    assert words in found[0].message


def test_a_field_of_a_volume_that_does_not_exist_is_refused_by_the_schema() -> None:
    found = refusal(*inventory(**cluster(volumes=[{"name": "x", "hostpath": {"path": "/x"}}])))
    assert any("did you mean hostPath" in problem.remedy for problem in found)


def test_frontends_stand_apart() -> None:
    parts = components(made(**cluster(frontend_replicas=2)))
    assert parts["frontend"]["whole"]["replicas"] == 2
    assert "--router-replica-sync" in parts["frontend"]["container"]["args"]
    affinity = parts["frontend"]["pod"]["affinity"]["podAntiAffinity"]
    (weighted,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    wanted = weighted["podAffinityTerm"]["labelSelector"]["matchLabels"].items()
    assert wanted <= parts["frontend"]["metadata"]["labels"].items()
    assert not any(key.startswith("app.kubernetes.io/") for key, _ in wanted)


@pytest.mark.parametrize("api", APIS)
def test_placement(api: str) -> None:
    manifests = made(
        wideep_graph_api=api,
        **cluster(
            node_selector={"pool": "gpu"},
            tolerations=[{"key": "gpu", "operator": "Exists"}],
            priority_class="serving",
            scheduler="kai-scheduler",
            queue="serving",
            host_network=True,
            host_ipc=True,
            run_as_user=0,
            resources={"worker": {"requests": {"cpu": "96"}, "limits": {"memory": "1Ti"}}},
            cache_host_path="/srv/cache",
            labels={"team": "serving"},
            annotations={"k8s.v1.cni.cncf.io/networks": "rdma"},
        ),
    )
    graph = manifests.graph[-1]
    assert graph["metadata"]["annotations"] == {
        "nvidia.com/enable-grove": "true",
        "nvidia.com/kai-scheduler-queue": "serving",
        "nvidia.com/dynamo-discovery-backend": "kubernetes",
    }
    part = components(manifests)["prefill"]
    assert part["pod"]["nodeSelector"] == {"pool": "gpu"}
    assert part["pod"]["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert part["pod"]["priorityClassName"] == "serving"
    assert part["pod"]["schedulerName"] == "kai-scheduler"
    assert (part["pod"]["hostNetwork"], part["pod"]["hostIPC"]) == (True, True)
    assert part["pod"]["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert part["container"]["securityContext"]["runAsUser"] == 0
    assert (part["requests"], part["limits"]) == ({"cpu": "96", "memory": "1Ti"}, {"memory": "1Ti"})
    cache = next(v for v in part["pod"]["volumes"] if v["name"] == "cache")
    assert cache["hostPath"] == {"path": "/srv/cache", "type": "DirectoryOrCreate"}
    assert part["metadata"]["labels"]["team"] == "serving"
    assert part["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] == "rdma"
    frontend = components(manifests)["frontend"]
    assert "nodeSelector" not in frontend["pod"]
    assert "hostNetwork" not in frontend["pod"]
    assert "securityContext" not in frontend["container"]
    assert schema.check(manifests.graph, RELEASE) == []


def test_lws_and_etcd_are_asked_for_by_annotation() -> None:
    graph = made(wideep_discovery="etcd", **cluster(orchestrator="lws")).graph[-1]
    assert graph["metadata"]["annotations"] == {
        "nvidia.com/enable-grove": "false",
        "nvidia.com/dynamo-discovery-backend": "etcd",
    }
    # Said always: what the release has is for graphs that say nothing, and of another deployment.
    assert made().graph[-1]["metadata"]["annotations"] == {
        "nvidia.com/enable-grove": "true",
        "nvidia.com/dynamo-discovery-backend": "kubernetes",
    }


def test_every_graph_says_what_makes_its_pods() -> None:
    """Grove where something is to be placed together; it may come to a cluster later, for others."""
    single = pools(nodes_per_replica=1, options={"data_parallel_size": 8})["wideep_pools"]
    single["decode"] = single["prefill"]
    for own, wanted in (
        ({}, "false"),
        ({"queue": "team"}, "true"),
        ({"orchestrator": "lws"}, "false"),
    ):
        variables = {"wideep_pools": single, "wideep_gpu": "h200-141gb", "wideep_eplb": {}}
        for api in APIS:
            graph = made(wideep_graph_api=api, **variables, **cluster(**own)).graph[-1]
            assert graph["metadata"]["annotations"]["nvidia.com/enable-grove"] == wanted


def test_replicas_and_single_node() -> None:
    changed = pools(replicas=3, nodes_per_replica=1, options={"data_parallel_size": 8})
    changed["wideep_eplb"] = {}
    changed["wideep_gpu"] = "h200-141gb"
    found = plan(**changed)
    manifests = found.manifests
    assert manifests is not None
    prefill = components(manifests)["prefill"]["whole"]
    assert prefill["replicas"] == 3
    assert "multinode" not in prefill
    assert found.expected["prefill"] == Expected(
        "prefill", "dynamo-deepseek-r1-wideep", 3, PodSite.generations
    )


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("rest", ["@sha256:" + "0" * 64, ":latest", ""])
def test_image_without_version_needs_the_override(api: str, rest: str) -> None:
    manifests = made(wideep_graph_api=api, **cluster(image=f"registry.example.com/sglang{rest}"))
    assert schema.check(manifests.graph, RELEASE) == []
    parts = components(manifests)
    assert parts["decode"]["whole"]["runtimeVersionOverride"] == RELEASE.dynamo
    assert "runtimeVersionOverride" not in parts["frontend"]["whole"]
    tagged = f"registry.example.com:5000/team/sglang:v{RELEASE.dynamo}-r3@sha256:" + "0" * 64
    assert components(made(**cluster(image=tagged)))["decode"]["container"]["image"] == tagged


def in_the_operators_quotes(word: str) -> str:
    """Return a word as the operator hands it to a shell (read in its sources of 1.4 and 1.5)."""
    if not set(" \t\n'\"\\{}[]$`!") & set(word):
        return word
    for char in '\\"$`':
        word = word.replace(char, f"\\{char}")
    return '"' + word.replace("'", "'\"'\"'") + '"'


@pytest.mark.parametrize("char", list(";|&<>()*?#~%^=:,@+{}[] "))
def test_words_that_a_shell_changes(char: str, tmp_path: Path) -> None:
    """What a shell makes of a word of the operator decides."""
    pool = plan().deployment.pools[0]
    (tmp_path / "axb").touch()
    script = tmp_path / "words.py"
    script.write_text("import json, sys; print(json.dumps(sys.argv[1:]))", encoding="utf-8")
    launch = plan().launches[pool.replicas[0].head.host.name][0]
    for word in (f"a{char}b", f"{char}b", f"a{char}", f'{{"a": "{char}"}}', f"a={char}b"):
        line = f"exec {sys.executable} {script} {in_the_operators_quotes(word)} --last"
        for shell in ("sh", "bash"):
            done = subprocess.run([shell, "-c", line], cwd=tmp_path, capture_output=True, text=True)
            same = done.stdout == f"{json.dumps([word, '--last'])}\n"
            told = check_words(pool, replace(launch, argv=("python3", "--name", word)))
            assert bool(told) or same, (shell, word)
            # A pattern, or the name of a user, that fits nothing is left as it is: here nobody knows.
            assert not told or not same or char in "*?~" or shell == "sh", (shell, word)


def test_an_empty_word_is_lost_in_a_shell() -> None:
    pool = plan().deployment.pools[0]
    launch = plan().launches[pool.replicas[0].head.host.name][0]
    (problem,) = check_words(pool, replace(launch, argv=("python3", "--name", "", "--last")))
    assert "the empty value of --name" in problem.message


def test_a_long_name_is_cut_short_in_those_of_pods() -> None:
    (note,) = (
        n for n in plan(wideep_deployment="deepseek-r1-with-a-long-name").warnings if "Grove" in str(n)
    )
    assert note.where == "wideep_deployment"
    assert "Grove has room for 45" in note.message
    assert "shorten" in note.remedy


READ_OTHERWISE = [
    "y",
    "N",
    "yes",
    "On",
    "off",
    "null",
    "~",
    "=",
    "<<",
    "1e3",
    "12345e67",
    "1.5e3",
    "08",
    "0o17",
    "0x1F",
    "1_000",
    "1:30",
    ".5",
    "1.",
    ".inf",
]


@pytest.mark.parametrize("word", READ_OTHERWISE)
def test_words_that_some_readers_take_for_others_are_in_quotes(word: str) -> None:
    tolerations = [{"key": word, "operator": "Equal", "value": word, "effect": "NoSchedule"}]
    manifests = made(
        **{**cluster(tolerations=tolerations, labels={word: word}), **pools(env={"SWITCH": word})}
        if word not in {"~", "=", "<<"}
        else pools(env={"SWITCH": word})
    )
    text = to_yaml(manifests.graph)
    assert tuple(yaml.safe_load_all(text)) == manifests.graph
    bare = re.compile(rf"(?:^|: |- ){re.escape(word)}(?::|$)", re.MULTILINE)
    assert not bare.search(text)
    assert f"value: '{word}'" in text


def test_model_cache_is_optional() -> None:
    cache = {"claim": "models", "create": False, "download": False, "access_mode": "ReadOnlyMany"}
    manifests = made(**cluster(model_cache=cache))
    assert manifests.model == ()
    volume = components(manifests)["decode"]["pod"]["volumes"][0]
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}


def test_another_download_is_another_job() -> None:
    """A Job cannot be changed, and deployments share it: its name is of what is downloaded, nothing else."""

    def name(engine: str = "sglang", **variables: Any) -> str:
        return str(made(engine, **variables).model[-1]["metadata"]["name"])

    assert name() == name("trtllm")
    assert name() == name(wideep_deployment="other", model_cache_endpoint="https://hub.example.com")
    assert name() == name(**cluster(frontend_image=f"registry.example.com/frontend:{RELEASE.dynamo}-r2"))
    assert name() != name(wideep_model_path="/model-cache/other")
    assert name() != name(model_cache_revision="0" * 40)
    assert name() != name(model_cache_exclude=["*.pdf"])
    assert objects.marked(made().model[-1], "chat")["metadata"]["labels"] == {
        "app.kubernetes.io/name": "model-download",
        "app.kubernetes.io/managed-by": "wideep",
    }


def test_the_download_honours_its_variables() -> None:
    variables = {
        "model_cache_repo": "team/model",
        "model_cache_revision": "0" * 40,
        "model_cache_endpoint": "https://hub.example.com",
        "model_cache_exclude": ["*.pdf"],
    }
    own = cluster(model_cache={"run_as_user": 0}, resources={"download": {"limits": {"memory": "4Gi"}}})
    job = made(**variables, **own).model[-1]
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["args"] == ["team/model", "0" * 40, "/model-cache/deepseek-r1", "*.pdf"]
    assert {"name": "HF_ENDPOINT", "value": "https://hub.example.com"} in container["env"]
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "4Gi"},
        "limits": {"memory": "4Gi"},
    }
    assert pod["securityContext"]["runAsUser"] == 0
    assert job["metadata"]["annotations"] == {
        names.REPOSITORY: "team/model",
        names.REVISION: "0" * 40,
        names.TARGET: "/model-cache/deepseek-r1",
    }


def test_a_failed_download_keeps_its_pods_and_does_not_try_in_vain(tmp_path: Path) -> None:
    job = made().model[-1]["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    (hopeless, _) = job["podFailurePolicy"]["rules"]
    assert hopeless["action"] == "FailJob"
    (status,) = hopeless["onExitCodes"]["values"]
    script = job["template"]["spec"]["containers"][0]["command"][2]
    # The script as it is, before a hub that has no such revision.
    package = tmp_path / "huggingface_hub"
    package.mkdir()
    (package / "utils.py").write_text(
        "class RepositoryNotFoundError(Exception): pass\nclass RevisionNotFoundError(Exception): pass\n",
        encoding="utf-8",
    )
    (package / "__init__.py").write_text(
        "from huggingface_hub.utils import RevisionNotFoundError\n"
        "def snapshot_download(*words, **more): raise RevisionNotFoundError(f'{words} {more}')\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-c", script, "a/b", "main", "/nowhere", "*.bin"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == status, done.stderr
    assert "('a/b',)" in done.stderr
    assert "'ignore_patterns': ['*.bin']" in done.stderr


@pytest.mark.parametrize("api", APIS)
def test_no_pod_is_the_first_to_be_evicted(api: str) -> None:
    parts = components(made("trtllm", wideep_graph_api=api))
    assert parts["frontend"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    # Shared memory counts as the pod's.
    assert parts["decode"]["requests"] == {"cpu": "8", "memory": "80Gi"}
    assert all(part["limits"] == {} for part in parts.values())


def test_frontends_and_the_download_tolerate_what_workers_do() -> None:
    """Else nothing would start where all nodes have the taint. Where others are, they are preferred."""
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    other = {"key": "infra", "operator": "Exists"}
    for own, tolerations, selector in (
        ({}, [taint], None),
        ({"tolerations": [other], "node_selector": {"pool": "infra"}}, [other], {"pool": "infra"}),
        ({"tolerations": []}, None, None),
    ):
        manifests = made(**cluster(cpu_pods=own))
        parts = components(manifests)
        job = manifests.model[-1]["spec"]["template"]["spec"]
        for pod in (parts["frontend"]["pod"], job):
            assert (pod.get("tolerations"), pod.get("nodeSelector")) == (tolerations, selector)
            preferred = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
            (rule,) = preferred[0]["preference"]["matchExpressions"]
            assert (rule["key"], rule["operator"]) == ("nvidia.com/gpu.present", "NotIn")
        assert parts["decode"]["pod"]["tolerations"] == [taint]
        assert "nodeSelector" not in parts["decode"]["pod"]


def test_what_hangs_ends_at_once() -> None:
    for part in components(made()).values():
        assert part["pod"]["terminationGracePeriodSeconds"] == 930
        for probe in ("livenessProbe", "startupProbe"):
            assert part["probes"][probe]["terminationGracePeriodSeconds"] == 30
        # The API refuses it there.
        assert "terminationGracePeriodSeconds" not in part["probes"]["readinessProbe"]


def test_a_namespace_allows_its_pods() -> None:
    def level(**own: Any) -> str:
        settings = plan(**cluster(**own)).deployment.settings.kubernetes
        return str(objects.namespace("dynamo", settings)["metadata"]["labels"][objects.POD_SECURITY])

    assert level() == "privileged"
    assert level(capabilities=[], host_network=True) == "privileged"
    assert level(capabilities=[]) == "baseline"
    assert objects.POD_SECURITY not in objects.namespace("dynamo-system")["metadata"]["labels"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("129e6", 129_000_000),
        ("1.5E3", 1500),
        ("500u", "0.0005"),
        ("100n", "0.0000001"),
        ("250m", "0.25"),
        ("5E", 5 * 10**18),
        ("2Ei", 2 * 2**60),
        ("1.5Gi", 1.5 * 2**30),
        ("3k", 3000),
        ("7", 7),
        ("", 0),
    ],
)
def test_quantities(text: str, number: Any) -> None:
    assert quantity(text) == Decimal(number)


def test_memory_to_lock_is_asked_of_the_nodes_or_of_root() -> None:
    def warned(**own: Any) -> list[str]:
        return [note.where for note in plan(**cluster(**own)).warnings if "kubernetes" in note.where]

    assert warned() == ["wideep_kubernetes.run_as_user"]
    assert warned(run_as_user=1000) == ["wideep_kubernetes.run_as_user"]
    assert warned(run_as_user=0) == warned(privileged=True) == []
    assert warned(run_as_user=0, capabilities=[]) == ["wideep_kubernetes.capabilities"]


@pytest.mark.parametrize("verb", ["deploy", "teardown"])
def test_the_platform_is_left_alone_where_a_command_line_says_so(verb: str) -> None:
    """`-e platform_install=false` is a text, which a condition does not take."""
    path = REPOSITORY / "playbooks" / "plays" / f"kubernetes_{verb}.yml"
    (play,) = yaml.safe_load(path.read_text(encoding="utf-8"))
    (task,) = (t for t in play["tasks"] if t["ansible.builtin.include_role"]["name"].endswith(".platform"))
    assert task["when"] == "platform_install | default(true) | bool"


def test_yaml_reads_back() -> None:
    manifests = made("trtllm")
    assert tuple(yaml.safe_load_all(to_yaml(manifests.graph))) == manifests.graph
    assert "&id" not in to_yaml(manifests.graph)


def test_plan_and_render(tmp_path: Path) -> None:
    found = plan()
    text = table(found)
    assert re.search(r"prefill-0-3 +prefill-0-rank-3 +prefill +3 of 4", text)
    assert "namespace dynamo" in text
    written = render(found, tmp_path)
    folder = tmp_path / "dynamo" / "deepseek-r1-wideep"
    files = ("model/model.yaml", "model/kustomization.yaml", "graph/graph.yaml", "graph/kustomization.yaml")
    assert written == [folder / name for name in files]
    texts = [path.read_text(encoding="utf-8") for path in written]
    assert [path.read_text(encoding="utf-8") for path in render(found, tmp_path)] == texts
    data = found.publish().to_dict()
    assert data["hosts"] == {}
    assert data["kubernetes"]["graph"][-1] == yaml.safe_load(texts[2])


# ---- what is refused -----------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "mocker": ({"wideep_engine": "mocker"}, "wideep_engine", "needs no cluster"),
    "file discovery": ({"wideep_discovery": "file"}, "wideep_discovery", "no directory"),
    "model beside the volume": ({"wideep_model_path": "/data/r1"}, "wideep_model_path", "/model-cache"),
    "no such pool": ({"wideep_pools": {"prefil": {}}}, "wideep_pools.prefil", "unknown pool"),
    "prefill alone": ({"wideep_pools": {"prefill": {}}}, "wideep_pools", "decode is missing"),
    "no pools": ({"wideep_pools": {}}, "wideep_pools", "prefill is missing"),
    "node too small": (
        pools(gpus_per_node=16, options={"data_parallel_size": 64}),
        "wideep_gpus_per_node on host prefill-0-0",
        "it has 8",
    ),
    "replicas share a node": (pools(replicas_per_node=2), "wideep_pools.prefill.replicas_per_node", "itself"),
    "another Dynamo": (
        cluster(frontend_image="registry.example.com/frontend:1.5.0"),
        "wideep_kubernetes.frontend_image",
        "1.5.0",
    ),
    "read-only claim to be filled": (
        cluster(model_cache={"access_mode": "ReadOnlyMany"}),
        "wideep_kubernetes.model_cache.access_mode",
        "written",
    ),
    "a claim smaller than the model": (
        cluster(model_cache={"size": "100Gi"}),
        "wideep_kubernetes.model_cache.size",
        "the weights of deepseek-ai/DeepSeek-R1 alone are 685 GB",
    ),
    "claim of one node": (
        cluster(model_cache={"access_mode": "ReadWriteOnce"}),
        "wideep_kubernetes.model_cache.access_mode",
        "not one of its values",
    ),
    "memory below shared memory": (
        cluster(resources={"worker": {"limits": {"memory": "64Gi"}}}),
        "wideep_kubernetes.resources.worker.limits.memory",
        "shared memory",
    ),
    "a request above its limit": (
        cluster(resources={"frontend": {"requests": {"cpu": "4"}, "limits": {"cpu": "2"}}}),
        "wideep_kubernetes.resources.frontend.requests.cpu",
        "more than the limit",
    ),
    "what cpu was": (cluster(cpu="96"), "wideep_kubernetes.cpu", "resources.worker.requests.cpu"),
    "unknown pod": (
        cluster(resources={"worker": {"request": {}}}),
        "wideep_kubernetes.resources.worker.request",
        "did you mean requests?",
    ),
    "a download from S3": ({"model_cache_source": "s3"}, "model_cache_source", "from a hub only"),
    "credentials of a hub": (
        {"model_cache_endpoint": "https://me:secret@hub.example.com"},
        "model_cache_endpoint",
        "credentials",
    ),
    "no shared memory": (cluster(shared_memory="0"), "wideep_kubernetes.shared_memory", "need shared memory"),
    "not a quantity": (cluster(shared_memory="80 GB"), "wideep_kubernetes.shared_memory", "not allowed"),
    "RDMA that pods do not see": (cluster(rdma_resource=""), "wideep_kubernetes.rdma_resource", "not see"),
    "queue without Grove": (cluster(queue="a", orchestrator="lws"), "wideep_kubernetes.queue", "Grove"),
    "unknown setting": (cluster(namspace="x"), "wideep_kubernetes.namspace", "unknown key"),
    "not a namespace": (cluster(namespace="Dynamo_1"), "wideep_kubernetes.namespace", "not allowed"),
    "the operator's variable": (
        pools(env={"DYN_SYSTEM_PORT": "1"}),
        "wideep_pools.prefill.env.DYN_SYSTEM_PORT",
        "sets it",
    ),
    "the operator's flag": (
        pools(extra_args={"node-rank": 1}),
        "wideep_pools.prefill.extra_args.node-rank",
        "is decided by",
    ),
    "a word that the operator's shell breaks": (
        pools(extra_args={"log-level": "a'b$c"}),
        "wideep_pools.prefill",
        "shell",
    ),
    "a long name": ({"wideep_deployment": "a" * 57}, "wideep_deployment", "57 characters, 32 at most"),
    "a long namespace": (
        cluster(namespace="a" * 64),
        "wideep_kubernetes.namespace",
        "64 characters, 63 at most",
    ),
    "unknown API": ({"wideep_graph_api": "v2"}, "wideep_graph_api", "not one of its values"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    changed, where, says = REFUSED[name]
    found = refusal(*inventory(**changed))
    assert any(p.where.startswith(where) and says in f"{p.message} {p.remedy}" for p in found), found


def test_unknown_setting_names_the_nearest() -> None:
    (problem,) = refusal(*inventory(**cluster(model_cache={"clam": "x"})))
    assert problem.where == "wideep_kubernetes.model_cache.clam"
    assert "claim" in problem.remedy


def test_a_bad_value_is_one_problem() -> None:
    """Not another one of the group, which has its one host."""
    (problem,) = refusal(*inventory(wideep_gpus_per_node="eight"))
    assert problem.where.startswith("wideep_gpus_per_node")
    found = refusal({}, inventory()[1])
    assert any(p.where == "inventory group kubernetes" for p in found)


def test_groups_of_hosts_are_refused() -> None:
    groups, hosts = inventory()
    hosts["node"] = dict(hosts["localhost"])
    found = refusal({**groups, "prefill": ["node"]}, hosts)
    assert any(p.where == "inventory group prefill" for p in found)
    found = refusal({}, hosts)
    assert any(p.where == "inventory group kubernetes" for p in found)


def test_replicas_are_for_kubernetes_only() -> None:
    groups = {"control": ["a"], "frontend": ["a"], "aggregated": ["a"]}
    host = {"ansible_connection": "local", "wideep_state_dir": "/srv/wideep"}
    found = refusal(groups, {"a": {**host, "wideep_pools": {"aggregated": {"replicas": 2}}}})
    assert [p.where for p in found] == ["wideep_pools.aggregated.replicas"]
    found = refusal(groups, {"a": {**host, "wideep_discovery": "kubernetes"}})
    assert [p.where for p in found] == ["wideep_discovery"]


# ---- schemas -------------------------------------------------------------------------------------


def changed(path: str, value: Any, api: str = "v1alpha1") -> list[Problem]:
    """Return what the schema says of the graph with one field set; `path` is dotted, numbers are indices."""
    graph = copy.deepcopy(made(wideep_graph_api=api).graph[-1])
    *parents, last = path.split(".")
    place: Any = graph
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    return schema.check([graph], RELEASE)


MISPLACED = {
    "spec.services.decode.image": "spec.services.decode.extraPodSpec.mainContainer.image",
    "spec.services.decode.startupProbe": "spec.services.decode.extraPodSpec.mainContainer.startupProbe",
    "spec.services.decode.nodeCount": "spec.services.decode.multinode.nodeCount",
    "spec.services.decode.tolerations": "spec.services.decode.extraPodSpec.tolerations",
    "spec.services.decode.gpu": "spec.services.decode.resources.limits.gpu",
    "spec.services.decode.extraPodSpec.image": "spec.services.decode.extraPodSpec.mainContainer.image",
    "spec.services.decode.replica": "replicas",
    "spec.services.decode.extraPodSpec.mainContainer.livenesProbe": "livenessProbe",
    "spec.services.decode.envs.0.valeu": "value",
}


TAKEN: dict[str, tuple[str, Any]] = {
    "priority class of a graph": ("v1alpha1 spec.priorityClassName", "high"),
    "failover": ("v1alpha1 spec.services.decode.failover", {"enabled": True, "mode": "intraPod"}),
    "sidecar": ("v1alpha1 spec.services.decode.frontendSidecar", {"image": "registry.example.com/a:1"}),
    "memory service": ("v1alpha1 spec.services.decode.gpuMemoryService", {"enabled": True}),
    "fewest replicas": ("v1alpha1 spec.services.decode.minAvailable", 1),
    "two nodes by default": ("v1beta1 spec.components.2.multinode", {}),
    "override": ("v1beta1 spec.providerOverride", {"apiVersion": "grove.io/v1alpha1", "value": {"a": 1}}),
    "override of a leader": (
        "v1beta1 spec.components.2.multinode",
        {"nodeCount": 4, "leader": {"providerOverride": {"apiVersion": "grove.io/v1alpha1", "value": {}}}},
    ),
    "topology of transfers": (
        "v1beta1 spec.experimental",
        {"kvTransferPolicy": {"clusterTopologyName": "rails", "domain": "rack"}},
    ),
}
NOT_TAKEN: dict[str, tuple[str, Any, str]] = {
    "field younger than the operator": (
        "v1alpha1 spec.services.decode.extraPodSpec.evictionResponders",
        [],
        "no such field",
    ),
    "the same in v1beta1": ("v1beta1 spec.components.2.podTemplate.spec.evictionResponders", [], "no such"),
    "no memory": ("v1alpha1 spec.services.decode.sharedMemory", {}, "is empty"),
    "half a topology": ("v1beta1 spec.topologyConstraint", {"packDomain": "rack"}, "is missing"),
    "half an old topology": ("v1alpha1 spec.topologyConstraint", {"packDomain": "rack"}, "is missing"),
    "half a component's": ("v1alpha1 spec.services.decode.topologyConstraint", {}, "is missing"),
    "a pod without containers": ("v1beta1 spec.components.2.podTemplate", {"spec": {}}, "is missing"),
    "nodes left out": ("v1alpha1 spec.services.decode.multinode", {}, "is missing"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_the_operator_takes(name: str) -> None:
    place, value = TAKEN[name]
    api, _, path = place.partition(" ")
    assert changed(path, value, api) == []


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_what_the_operator_does_not_take(name: str) -> None:
    place, value, says = NOT_TAKEN[name]
    api, _, path = place.partition(" ")
    assert any(says in problem.message for problem in changed(path, value, api))


@pytest.mark.parametrize("path", MISPLACED)
def test_unknown_field_names_the_nearest_path(path: str) -> None:
    (problem,) = changed(path, {})
    assert problem.remedy == f"did you mean {MISPLACED[path]}?"
    assert problem.where.replace("[0]", ".0").endswith(path)


WRONG: dict[str, tuple[Any, str]] = {
    "spec.backendFramework": ("sglangg", "not one of its values"),
    "spec.services.decode.multinode.nodeCount": (1, "less than 2"),
    "spec.services.decode.replicas": ("1", "not a whole number"),
    "spec.services.decode.resources.limits.gpu": (8, "not a text"),
    "spec.services.decode.sharedMemory.size": ("80 GB", "not of its form"),
    "spec.services.decode.multinode": ({}, "is missing"),
    "spec.services.decode.envs": ({}, "not a list"),
    "spec.services": ({str(n): {} for n in range(26)}, "more than the 25"),
    "spec.services.decode.extraPodSpec.hostNetwork": ("true", "not true or false"),
    "apiVersion": ("nvidia.com/v1", "not a version"),
}


@pytest.mark.parametrize("path", WRONG)
def test_wrong_value(path: str) -> None:
    value, says = WRONG[path]
    found = changed(path, value)
    assert any(says in problem.message for problem in found), found


def test_kubernetes_own_objects_are_checked() -> None:
    claim, job = copy.deepcopy(made().model)
    claim["spec"]["storageClass"] = "nfs"
    job["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    del job["spec"]["template"]["spec"]["containers"][0]["name"]
    found = schema.check(
        [claim, job, {"apiVersion": "v1", "kind": "Podd", "metadata": {"name": "x"}}], RELEASE
    )
    assert [p.remedy for p in found[:2]] == ["did you mean storageClassName?", "did you mean command?"]
    assert "is missing" in found[2].message
    assert "not a kind" in found[3].message
