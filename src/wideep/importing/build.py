"""A recipe with its workers read, as an inventory: groups of placeholder hosts and the variables of all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import yaml

from wideep.deployment.launch import Launch
from wideep.deployment.model import Deployment, Node
from wideep.deployment.network import SOURCES
from wideep.deployment.site import Site
from wideep.engines import ENGINES
from wideep.engines.importing import Reading, Row, Setting, same
from wideep.engines.options import CommonOptions
from wideep.importing import unset
from wideep.importing.commands import FRONTEND_VARIABLES
from wideep.importing.source import Group, Recipe, refuse
from wideep.importing.unset import TAKEN
from wideep.inventory.settings import EplbSettings, PoolSettings
from wideep.plan import site_of
from wideep.problems import RefusedError, suggest
from wideep.reference.hardware import hardware_cards
from wideep.reference.models import ModelCard, find_model
from wideep.reference.paths import configs_dir
from wideep.reference.release import Release, find_release

# Placeholder addresses: blocks that are reserved for documentation.
BLOCKS = ("192.0.2", "198.51.100", "203.0.113")
PER_BLOCK = 200
NODE_GPUS = 8
LONGEST_NAME = 32  # of wideep_deployment
# Environment of what starts the ranks of several hosts.
LAUNCHER = ("OMPI_", "PRTE_", "PMIX_", "SHELL")
PRECISIONS = {"nvfp4": "fp4", "mxfp4": "fp4", "fp16": "bf16"}
# What every imported inventory says for itself, unless the source does.
FIXED = {
    "wideep_runtime": "container",
    "wideep_interface": "eth0",
    "wideep_state_dir": "/var/lib/wideep",
    "nats_install_method": "archive",
    "etcd_install_method": "archive",
}


@dataclass
class Imported:
    """An inventory from elsewhere.

    groups: inventory group -> hosts. variables: of all hosts. rows: what became of each setting. comments:
    path in the variables -> a comment. readings: pool -> what was read of its workers.
    """

    source: str
    groups: dict[str, list[str]]
    addresses: dict[str, str]
    variables: dict[str, Any]
    rows: list[Row]
    comments: dict[tuple[str, ...], str] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        """Return host -> its variables, as a plan takes them."""
        return {host: {"ansible_host": address, **self.variables} for host, address in self.addresses.items()}

    def added(self, deployment: Deployment) -> list[Row]:
        """Return what launches say that the source does not, and what they say otherwise.

        deployment: of this inventory, whatever the plan has against it.
        """
        rows, engine = self._frontend(deployment), ENGINES[deployment.settings.engine]
        for pool in deployment.pools:
            reading, replica = self.readings[pool.name], pool.replicas[0]
            site = site_of(deployment, replica.head.host)
            launch = engine.launch(site, pool, replica, replica.head)
            told = engine.told(launch) if launch else {}
            rows += _environment(site, replica.head, launch, reading) if launch else []
            usual = reading.usual.items()
            for setting, value in told.items():
                if setting not in reading.said and (setting in reading.follows or (setting, value) in usual):
                    continue
                if setting not in reading.said:
                    rows.append(
                        Row(
                            pool.name,
                            setting,
                            value,
                            "added",
                            "wideep's own, where the source leaves it open",
                        )
                    )
                elif not same(value, reading.said[setting]):
                    was = reading.said[setting]
                    rows.append(Row(pool.name, setting, was, "changed", f"{value}, as the plan has it"))
            for setting, value in reading.said.items():
                if setting not in told and not same(value, False):
                    rows.append(
                        Row(pool.name, setting, value, "default", "the engine's own, which no flag says")
                    )
        return rows

    def _frontend(self, deployment: Deployment) -> list[Row]:
        """Return what the frontend and all processes do by variables that the source does not set."""
        rows, catalogue = [], deployment.release.catalogue("dynamo.frontend")
        for flag, variable in FRONTEND_VARIABLES.items():
            known = catalogue.find(f"--{flag}")
            value = getattr(deployment.settings, variable.removeprefix("wideep_"))
            if known and variable not in self.variables and known.default not in (None, value):
                becomes = f"{variable}: wideep's own, where Dynamo has {known.default}"
                rows.append(Row("", flag, value, "added", becomes))
        return rows


def _environment(site: Site, node: Node, launch: Launch, reading: Reading) -> list[Row]:
    """Return what a worker's environment has that the source does not say; places and addresses apart."""
    said = {*site.worker_env(node), *reading.env, *(row.name for row in reading.rows), "CUDA_VISIBLE_DEVICES"}
    places = (site.state_dir, node.host.address)
    return [
        Row(reading.role, name, value, "added", f"env: {_source_of(name)}")
        for name, value in launch.env.items()
        if name not in said and not value.startswith(places) and not name.startswith(LAUNCHER)
    ]


def _source_of(name: str) -> str:
    return f"from {SOURCES[name][0]}" if name in SOURCES else "wideep's own, where the source has none"


def build(
    recipe: Recipe,
    source: str,
    *,
    model: str = "",
    model_path: str = "",
    gpu: str = "",
    release: str = "",
    name: str = "",
    benchmark: bool = False,
) -> Imported:
    """Return the inventory of a recipe. Raises RefusedError where there is no size to go by.

    benchmark: whether it is for a benchmark that nobody relies on.
    """
    of = find_release(release)
    chosen, card, rows = _model(recipe, model)
    path = None if model_path else recipe.open_path
    readings = _readings(recipe, of, card, path)
    rows = [*recipe.rows, *rows, *(row for reading in readings.values() for row in reading.rows)]
    variables: dict[str, Any] = {
        "wideep_deployment": _label(name or recipe.name),
        "wideep_engine": recipe.engine,
        "wideep_model": chosen,
    }
    if release:
        variables["wideep_release"] = release
    if benchmark:
        variables["wideep_benchmark_only"] = True
    shared = _shared(recipe, readings, rows)
    said = shared.pop("wideep_model_path", "")
    found = model_path or _path(recipe, said, chosen)
    shared.pop("wideep_model", None)
    variables["wideep_model_path"] = found
    sizes = [_Size(group, readings[group.worker.role]) for group in recipe.groups]
    card_name = _gpu(gpu or recipe.gpu)
    if gpu and not card_name:
        raise refuse(f"there is no hardware card '{gpu}'", "--gpu", suggest(gpu, hardware_cards()))
    per_node = _per_node(recipe, sizes, card_name)
    for size in sizes:
        used = readings[size.role].gpus
        if used and used < size.gpus <= per_node:
            becomes = f"{used}: the engine leaves alone what is beyond its own size"
            rows.append(Row(size.role, "GPUs of a worker", size.gpus, "changed", becomes))
            size.gpus = used
    groups, pools = _place(sizes, per_node, rows)
    groups["frontend"] += [f"frontend{n:02}.example.com" for n in range(2, recipe.frontends + 1)]
    if card_name:
        variables["wideep_gpu"] = card_name
    elif recipe.gpu:
        becomes = f"no hardware card is called so: --gpu names one of {', '.join(sorted(hardware_cards()))}"
        rows.append(Row("", "gpu_type", recipe.gpu, "not understood", becomes))
    variables |= (
        {"wideep_gpus_per_node": per_node} | {k: v for k, v in FIXED.items() if k not in shared} | shared
    )
    several = len({host for hosts in groups.values() for host in hosts}) > 1
    variables["wideep_network"] = _network(
        shared.get("wideep_network") or {}, per_node, card_name, several=several
    )
    comments: dict[tuple[str, ...], str] = {}
    eplbs = [reading.eplb for reading in readings.values()]
    own_eplb = "eplb" in PoolSettings.model_fields
    if any(eplbs) and (not own_eplb or all(one == eplbs[0] for one in eplbs)):
        variables["wideep_eplb"] = {
            k: v for one in eplbs for k, v in one.items() if k in EplbSettings.model_fields
        }
        own_eplb = False
    for role, reading in readings.items():
        pools[role] |= _pool(reading, recipe.engine, own_eplb=own_eplb)
        for option, note in reading.notes.items():
            if option in reading.options:
                comments["wideep_pools", role, "options", *_section(option, recipe.engine), option] = note
    variables["wideep_pools"] = pools
    secrets = sorted({name for reading in readings.values() for name in reading.secrets})
    if secrets:
        variables["secrets_env"] = {name: {"env": name} for name in secrets}
    return Imported(source, groups, _addresses(groups), variables, rows, comments, readings)


def _readings(
    recipe: Recipe, release: Release, card: ModelCard | None, path: Setting | None
) -> dict[str, Reading]:
    """Return pool -> its workers' settings. Raises RefusedError where some have no value, or do not agree.

    path: of the model, where it has no value.
    """
    engine = ENGINES[recipe.engine]
    found = {group.worker.role: engine.imported(group.worker, release, card) for group in recipe.groups}
    others = [engine.imported(one, release, card) for group in recipe.groups for one in group.others]
    needed = [Row("", path.name, path.value, "kept", where=path.where)] if path else []
    if wrong := unset.problems(
        [*needed, *recipe.rows, *(row for one in (*found.values(), *others) for row in one.rows)]
    ):
        raise RefusedError(wrong)
    for other in others:
        _alike(found[other.role], other, release, list(found))
    return found


def _alike(first: Reading, other: Reading, release: Release, roles: Sequence[str]) -> None:
    """Raise RefusedError where two replicas of a role are told what differs; say so of what nothing reads.

    roles: all of the source.
    """
    mine, theirs = ({_meaning(row): row for row in one.rows if row.state in TAKEN} for one in (first, other))
    differ = {key for key in mine | theirs if not same(_value(mine.get(key)), _value(theirs.get(key)))}
    unread = {key for key in differ if key in first.env.keys() | other.env.keys() and not release.reads(key)}
    for key in sorted(unread):
        becomes = f"{_value(mine.get(key))}: workers of a pool are alike"
        where = theirs[key].where if key in theirs else mine[key].where
        first.rows.append(Row(first.role, key, _value(theirs.get(key)), "changed", becomes, where))
    if not (named := sorted(differ - unread)):
        return
    told = [
        f"{(mine.get(key) or theirs[key]).name} ({_value(mine.get(key))}, {_value(theirs.get(key))})"
        for key in named
    ]
    places = [next((row.where for row in reading.rows if row.where), "") for reading in (first, other)]
    raise refuse(
        f"two different commands of {first.role} workers: {', '.join(told)}",
        " and ".join(places),
        "workers of a pool are alike: write the one command of each role into a file of its own, and give"
        f" these alone, {' '.join(f'--role {role}=FILE' for role in roles)}",
    )


def _meaning(row: Row) -> str:
    return row.becomes.partition(":")[0] if row.state == "renamed" else row.name


def _value(row: Row | None) -> Any:
    return "not given" if row is None else "on" if row.value is None else row.value


# ---- the model ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _short_names() -> dict[str, str]:
    text = (configs_dir() / "short_names.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _model(recipe: Recipe, given: str) -> tuple[str, ModelCard | None, list[Row]]:
    """Return the model's name, its card where there is one, and rows that say how it was found."""
    said = [given] if given else [name for name in recipe.models if name]
    names = [name for name in said if not list(unset.names(name))]
    if said and not names:
        open_ = next(unset.names(said[0]))
        message = f"{unset.sentence(open_)}, and names the model"
        raise refuse(message, recipe.name, unset.remedy(open_, "--model NAME"))
    if not names:
        raise refuse(
            "the source names no model", recipe.name, "give --model NAME, as its repository is called"
        )
    precision = PRECISIONS.get(recipe.precision, recipe.precision)
    wanted: list[tuple[str, str]] = []
    for name in names:
        for word in (name, PurePosixPath(name).name):
            short = _short_names()
            for key in (f"{_plain(word)} {precision}", _plain(word)):
                if key in short:
                    wanted.append((name, short[key]))
            wanted.append((name, word))
    for name, candidate in wanted:
        card, _ = find_model("", candidate)
        if card is not None and _fits(card, precision):
            rows = (
                []
                if candidate == name
                else [Row("", "model", name, "changed", f"taken for {candidate}; --model says otherwise")]
            )
            return candidate, card, rows
    # Not one whose card is of other weights: memory would be counted by those.
    strangers = [(n, c) for n, c in wanted if find_model("", c)[0] is None]
    named = [(n, c) for n, c in strangers if "/" in c and not c.startswith("/")]
    name, candidate = (named or strangers or wanted)[0]
    candidate = candidate if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", candidate) else PurePosixPath(candidate).name
    row = Row(
        "", "model", name, "changed", f"taken for {candidate}, of which there is no card: `wideep model add`"
    )
    return candidate, None, [row] if candidate != name else []


def _fits(card: ModelCard, precision: str) -> bool:
    """Whether a card's weights are of the precision that a recipe says, if it says one."""
    weights = str(getattr(card, "weights", ""))
    return (
        not precision
        or not weights
        or precision == weights
        or precision not in ("fp8", "fp4", "bf16", "int4")
    )


def _path(recipe: Recipe, said: str, model: str) -> str:
    for path in (recipe.path, said):
        # /model is where srtctl mounts whatever there is.
        if (
            isinstance(path, str)
            and path.startswith("/")
            and path.strip("/") != "model"
            and not re.search(r"[\s$%'\"\\]", path)
            and path.strip("/")
        ):
            return path.rstrip("/")
    return f"/data/models/{PurePosixPath(model).name}"


def _label(name: str) -> str:
    """Return a deployment's name: small letters, digits and dashes."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return (label if label[:1].isalpha() else f"d-{label}")[:LONGEST_NAME].strip("-")


# ---- sizes and places --------------------------------------------------------------------------------


class _Size:
    """A role's replicas: how many, of how many GPUs on how many hosts."""

    def __init__(self, group: Group, reading: Reading) -> None:
        self.role = group.worker.role
        self.replicas = group.replicas
        self.nodes = group.nodes or reading.nodes
        self.gpus = group.gpus or reading.gpus or 1
        self.taken = group.taken
        self.beside = group.beside


def _per_node(recipe: Recipe, sizes: Sequence[_Size], card: str) -> int:
    """Return the GPUs of a host."""
    if recipe.gpus_per_node:
        return recipe.gpus_per_node
    if all(size.taken for size in sizes):
        return max(gpu for size in sizes for gpu in size.taken) + 1
    usual = hardware_cards()[card].gpus_per_node if card else NODE_GPUS
    known = [size.gpus // size.nodes for size in sizes if size.nodes]
    alone = [size.gpus for size in sizes if not size.nodes and size.gpus < usual]
    if known:
        return max(known)
    return max(alone) if alone and len(alone) == len(sizes) else usual


def _place(
    sizes: Sequence[_Size], per_node: int, rows: list[Row]
) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """Return groups of hosts, and how pools are cut into replicas."""
    groups: dict[str, list[str]] = {
        "control": ["control01.example.com"],
        "frontend": ["control01.example.com"],
    }
    pools: dict[str, dict[str, Any]] = {}
    taken = [gpu for size in sizes for gpu in size.taken]
    if taken and all(size.taken for size in sizes) and len(set(taken)) == len(taken):
        for size in sizes:
            groups[size.role] = ["worker01.example.com"]
            pools[size.role] = {"gpus_per_node": size.gpus}
            if size.replicas > 1:
                pools[size.role]["replicas_per_node"] = size.replicas
        return groups, pools
    first: tuple[list[str], int] = ([], 0)
    for size in sizes:
        if size.beside and first[0]:
            groups[size.role], pools[size.role] = _beside(size, first, per_node, rows)
            continue
        hosts, pool, used = _cut(size, per_node)
        groups[size.role] = [f"{size.role}{n:02}.example.com" for n in range(1, hosts + 1)]
        pools[size.role] = pool
        first = (groups[size.role], used)
        if any(other.beside for other in sizes):
            pool.setdefault("gpus_per_node", min(size.gpus, per_node))
    return groups, pools


def _cut(size: _Size, per_node: int) -> tuple[int, dict[str, Any], int]:
    """Return the hosts of a role, its pool, and the GPUs that it takes of each host."""
    nodes = size.nodes or max(1, -(-size.gpus // per_node))
    if size.gpus % nodes:
        message = f"{size.gpus} GPUs on {nodes} hosts: every host of a replica gives as many"
        raise refuse(message, size.role, "give workers whose GPUs divide by their hosts")
    each = size.gpus // nodes
    pool: dict[str, Any] = {}
    if nodes > 1:
        pool["nodes_per_replica"] = nodes
        if each != per_node:
            pool["gpus_per_node"] = each
        return nodes * size.replicas, pool, each
    together = max(1, min(per_node // each, size.replicas))
    hosts = -(-size.replicas // together)
    if together > 1:
        pool["replicas_per_node"] = together
    if hosts * together != size.replicas:
        pool["replicas"] = size.replicas
    if each * together != per_node:
        pool["gpus_per_node"] = each
    return hosts, pool, each * together


def _beside(
    size: _Size, first: tuple[list[str], int], per_node: int, rows: list[Row]
) -> tuple[list[str], dict[str, Any]]:
    """Place a role on the GPUs that the first leaves free."""
    hosts, used = first
    fit = (per_node - used) // size.gpus
    for count in range(1, len(hosts) + 1):
        if size.replicas % count == 0 and size.replicas // count <= fit:
            pool: dict[str, Any] = {"gpus_per_node": size.gpus}
            if size.replicas > count:
                pool["replicas_per_node"] = size.replicas // count
            return hosts[:count], pool
    free = [f"{size.role}{n:02}.example.com" for n in range(1, size.replicas + 1)]
    rows.append(
        Row(
            size.role,
            "hosts",
            0,
            "changed",
            f"{len(free)} of its own: the GPUs left free do not divide evenly",
        )
    )
    return free, {"gpus_per_node": size.gpus} if size.gpus != per_node else {}


def _addresses(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return host -> placeholder address; roles begin at round numbers where there is room."""
    names = list(dict.fromkeys(host for hosts in groups.values() for host in hosts))
    return {
        name: f"{BLOCKS[n // PER_BLOCK % len(BLOCKS)]}.{10 + n % PER_BLOCK}" for n, name in enumerate(names)
    }


def _gpu(word: str) -> str:
    """Return the card that a word means: its name, or the first that begins with it."""
    cards = hardware_cards()
    if word in cards:
        return word
    plain = word.lower().replace("_", "-")
    return next((name for name in sorted(cards) if plain and name.split("-")[0] == plain.split("-")[0]), "")


def _network(said: Mapping[str, Any], per_node: int, card: str, *, several: bool) -> dict[str, Any]:
    """Return the description of the network, with placeholder devices where the source names none."""
    network = dict(said)
    if not several and not network:
        return {}
    count = hardware_cards()[card].nics_per_node if card else per_node
    network.setdefault("rdma_devices", [f"mlx5_{n}" for n in range(min(count or per_node, per_node))])
    network.setdefault("link", "ib")
    return {"link": network["link"], **network}


# ---- variables ---------------------------------------------------------------------------------------


def _shared(recipe: Recipe, readings: Mapping[str, Reading], rows: list[Row]) -> dict[str, Any]:
    """Return the variables that all pools have in common; the first pool's word counts."""
    shared = dict(recipe.variables)
    for role, reading in readings.items():
        for name, value in reading.variables.items():
            if name in shared and shared[name] != value and name not in ("wideep_model", "wideep_model_path"):
                rows.append(Row(role, name, value, "changed", f"{shared[name]}: it is one for all pools"))
            shared.setdefault(name, value)
    for defaults in (recipe.defaults, *(reading.defaults for reading in readings.values())):
        for name, value in defaults.items():
            if name not in shared:
                shared[name] = value
                why = "what the source's programs do where it says nothing"
                rows.append(Row("", name, value, "default", why))
    if isinstance(shared.get("wideep_kv_transfer"), str) and len(readings) == 1:
        shared.pop("wideep_kv_transfer")
    return shared


def _section(option: str, engine: str) -> tuple[str, ...]:
    return () if option in CommonOptions.model_fields else (engine,)


def _pool(reading: Reading, engine: str, *, own_eplb: bool) -> dict[str, Any]:
    """Return `wideep_pools.<pool>` without its size."""
    common = {k: v for k, v in reading.options.items() if not _section(k, engine)}
    own = {k: v for k, v in reading.options.items() if _section(k, engine)}
    pool: dict[str, Any] = {"options": common | ({engine: own} if own else {})}
    if own_eplb and reading.eplb:
        pool["eplb"] = reading.eplb
    if reading.extra_args:
        pool["extra_args"] = reading.extra_args
    if reading.env:
        pool["env"] = reading.env
    return pool
