"""Sources for tests of `wideep import`, and what has to hold of every import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wideep.deployment.build import examine
from wideep.engines import ENGINES
from wideep.engines.importing import Reading, same
from wideep.importing import Imported, build, read
from wideep.plan import make_plan, site_of


def imported(folder: Path, text: str, name: str = "start.sh", **options: Any) -> Imported:
    """Return the inventory of a source that is written into a folder."""
    (folder / name).write_text(text, encoding="utf-8")
    return build(read([folder / name], variant=options.pop("variant", "")), name, **options)


def told(inventory: Imported) -> dict[str, dict[str, Any]]:
    """Return pool -> what its head's launch tells the engine, whatever rules say of it."""
    deployment, problems = examine(inventory.groups, inventory.hosts)
    assert deployment is not None, problems
    engine = ENGINES[deployment.settings.engine]
    found = {}
    for pool in deployment.pools:
        replica = pool.replicas[0]
        launch = engine.launch(site_of(deployment, replica.head.host), pool, replica, replica.head)
        assert launch is not None
        found[pool.name] = engine.told(launch)
    return found


def check_round_trip(inventory: Imported) -> None:
    """Assert that launches say again what the source says, but for what the table says of it."""
    for role, said_again in told(inventory).items():
        reading = inventory.readings[role]
        for name, value in reading.said.items():
            if not same(value, False):
                assert name in said_again, f"{role}: {name} {value} is gone"
            if name in said_again:
                assert same(said_again[name], value), f"{role}: {name} {value} became {said_again[name]}"


def check_rows(reading: Reading, given: list[str]) -> None:
    """Assert that every setting has a row."""
    rows = {row.name for row in reading.rows}
    assert set(given) <= rows, set(given) - rows


def states(inventory: Imported, role: str = "") -> dict[str, str]:
    """Return setting -> what became of it, of one pool or of all."""
    return {row.name: row.state for row in inventory.rows if row.role == role or not role}


def plan_rows(inventory: Imported) -> dict[tuple[str, str], str]:
    """Return (pool, setting) -> state of what the plan adds to a table."""
    plan = make_plan(inventory.groups, inventory.hosts)
    return {(row.role, row.name): row.state for row in inventory.added(plan.deployment)}
