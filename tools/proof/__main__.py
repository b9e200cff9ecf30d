"""Changes and faults of a deployment under load, on systemd hosts in containers: a row each.

.venv/bin/python -m tools.proof --requests 200 --streams 32 --only 'changed' --only 'kill -9'

Needs root and podman (tools/hosts_image names the packages). Exit status 1 where a planned change lost a
request.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.proof.bed import MODEL, ROOT, Bed, Shape
from tools.proof.load import Load, Result
from tools.proof.load import Shape as Asked
from tools.proof.rows import NEW, OLD, ROWS, Row

sys.path.insert(0, str(ROOT / ".collections"))

PAGE = ROOT / "docs" / "reference" / "proof.md"
COUNTS = ROOT / "docs" / "evidence" / "changes.json"
TABLE = (
    "| what | sent | failed | cut | empty | stall | fewest workers | time | pairs | healed |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
)


@dataclass(frozen=True)
class Outcome:
    """What a row came to. result: None where it was not run; said: why, or what went wrong."""

    row: Row
    result: Result | None
    pairs: str = "-"
    healed_s: float = 0.0
    said: str = ""

    @property
    def kept(self) -> bool:
        """Whether it kept what is promised of it."""
        good = self.result is not None and (self.result.kept or not self.row.change)
        return self.result is None or (good and not self.said)

    def line(self) -> str:
        """Return its row."""
        if self.result is None:
            return f"| {self.row.name} | *not run: {self.said}* | | | | | | | | |\n"
        of = self.result
        workers = ", ".join(f"{name} {count}" for name, count in sorted(of.fewest_workers.items()))
        name = self.row.name + (f" (**{self.said}**)" if self.said else "")
        return (
            f"| {name} | {of.sent} | {of.failed} | {of.cut} | {of.empty} | {of.longest_stall_s:.1f} s"
            f" | {workers or '-'} | {of.seconds:.0f} s | {self.pairs} | {self.healed_s:.0f} s |\n"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return its JSON form."""
        counts = self.result.to_dict() if self.result else None
        return {
            "row": self.row.name,
            "change": self.row.change,
            "counts": counts,
            "pairs": self.pairs,
            "healed_s": round(self.healed_s, 1),
            "said": self.said,
        }


def lacks(row: Row, shape: Shape) -> str:
    """Return why a row cannot be run here; empty where it can."""
    if not (ROOT / "playbooks" / f"{row.verb}.yml").exists():
        return f"there is no verb {row.verb} yet"
    return "replicas have one host here (--width 2)" if row.gang and shape.width == 1 else ""


def pairs(bed: Bed) -> str:
    """Return how many pairs of workers give a token."""
    from ansible_collections.wideep.dynamo.plugins.module_utils import (  # noqa: PLC0415
        openai_client,
        registration,
    )
    from ansible_collections.wideep.dynamo.plugins.module_utils.pairs import prove  # noqa: PLC0415

    wanted = {
        name: {"component": component, "count": 1, "generations": ".*"}
        for name, component in (("prefill", "prefill"), ("decode", "backend"))
    }
    frontend = openai_client.Frontend(bed.url, 20)
    state = registration.look(frontend, registration.parse_expected(wanted), MODEL)
    tried = prove(frontend, state, 256)
    return f"{sum(not one.error for one in tried)} of {len(tried)}"


def run(row: Row, bed: Bed, given: argparse.Namespace) -> Outcome:
    """Do what a row says while streams run."""
    low, _, high = given.tokens.partition("-")
    asked = Asked(bed.url, MODEL, given.streams, (int(low), int(high or low)), bed.frontends)
    said, healed, found = "", 0.0, "-"
    with Load(asked) as load:
        load.wait_for(min(given.streams, given.requests // 4))
        try:
            row.act(bed)
        except Exception as error:  # noqa: BLE001 - it is a row of the table
            traceback.print_exc()
            said = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        begun = time.monotonic()
        try:
            bed.recovered()
            healed = time.monotonic() - begun
        except TimeoutError as late:
            said = said or str(late)
        load.wait_for(given.requests)
    with suppress(OSError):
        found = pairs(bed)
    return Outcome(row, load.result, found, healed, said)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the bed, run the rows, write the page, remove the bed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=200, help="of a row, at least")
    parser.add_argument("--streams", type=int, default=32, help="at all times")
    parser.add_argument("--tokens", default="80-400", help="of an answer; 80 take 5 s, 1000 a minute")
    parser.add_argument("--speedup", type=float, default=0.1, help="of the simulated engine")
    parser.add_argument("--width", type=int, default=1, help="hosts of a replica")
    parser.add_argument("--only", action="append", default=[], help="rows with this in their name")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--json", type=Path, help="write the counts there")
    given = parser.parse_args(argv)
    chosen = [row for row in ROWS if not given.only or any(text in row.name for text in given.only)]
    if not chosen:
        parser.error(f"no such row; there are: {', '.join(row.name for row in ROWS)}")
    shape = Shape(width=given.width, spare=2 * given.width, speedup=given.speedup)
    upgrades = any(OLD in row.name for row in chosen)
    secrets = {"secrets_nats_user": "dynamo", "secrets_nats_password": "the-first-one"}
    bed = Bed(shape, {"wideep_release": OLD if upgrades else NEW, **secrets})
    outcomes: list[Outcome] = []
    try:
        bed.up()
        bed.run("site")
        bed.recovered()
        for row in chosen:
            why = lacks(row, shape)
            outcomes.append(Outcome(row, None, said=why) if why else run(row, bed, given))
            print(outcomes[-1].line(), end="", flush=True)
            errors = outcomes[-1].result.errors if outcomes[-1].result else {}
            for error, count in errors.items():
                print(f"    {count} x {error}", flush=True)
            _write(outcomes, given)
    finally:
        bed.close()
    return 0 if all(outcome.kept for outcome in outcomes) else 1


def _write(outcomes: Sequence[Outcome], given: argparse.Namespace) -> None:
    """Write what there is so far: a run takes long."""
    measured = {
        "streams": given.streams,
        "requests": given.requests,
        "tokens": given.tokens,
        "width": given.width,
        "cores": os.cpu_count(),
        "rows": [outcome.to_dict() for outcome in outcomes],
    }
    place = COUNTS if given.page else given.json
    if place:
        place.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if given.page:
        head = (ROOT / "tools" / "proof" / "head.md").read_text(encoding="utf-8")
        hosts = "host" if given.width == 1 else "hosts"
        where = (
            f"{given.streams} streams at all times, at least {given.requests} requests a row, answers of"
            f" {given.tokens} tokens (80 take 5 s), 2 prefill and 2 decode replicas of {given.width} {hosts},"
            f" on {os.cpu_count()} cores for all of it; counts: [changes.json](../evidence/changes.json).\n\n"
        )
        had = {outcome.row.name for outcome in outcomes}
        left = (
            Outcome(row, None, said=lacks(row, Shape(width=given.width)) or "left out of this run")
            for row in ROWS
        )
        lines = [o.line() for o in (*outcomes, *(one for one in left if one.row.name not in had))]
        PAGE.write_text(head + where + TABLE + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
