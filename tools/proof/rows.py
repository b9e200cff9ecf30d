"""The rows of the proof: what is done to a deployment under load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tools.proof.bed import NAME, Bed

from wideep.console.result import RunError
from wideep.reference.release import releases

NEW, OLD = releases()[:2]


@dataclass(frozen=True)
class Row:
    """One thing that happens. change: it is planned, so nothing may be lost.

    verb: the playbook that it needs; without it the row is not run, and told. gang: replicas have several
    hosts.
    """

    name: str
    act: Callable[[Bed], object]
    change: bool = True
    verb: str = "site"
    gang: bool = False


def _scale_out(bed: Bed) -> None:
    bed.groups["decode"] += bed.spares[: bed.shape.width]
    bed.site()


def _scale_in(bed: Bed) -> None:
    bed.run("scale", wideep_scale={"decode": bed.shape.decode})
    bed.groups["decode"] = [name for name in bed.groups["decode"] if name not in bed.spares]
    bed.site()


def _drain(bed: Bed) -> None:
    host = bed.groups["decode"][0]
    bed.run("drain", wideep_host=host)
    bed.power_off(host)
    bed.power_on(host)
    bed.run("uncordon", wideep_host=host)


def _replace(bed: Bed) -> None:
    host, other = bed.groups["prefill"][0], bed.spares[-1]
    bed.run("replace", wideep_host=host, wideep_other=other)
    bed.groups["prefill"] = [other if name == host else name for name in bed.groups["prefill"]]


def _restart(host: str, *services: str) -> Callable[[Bed], None]:
    def act(bed: Bed) -> None:
        for service in services:
            bed.on(host, "systemctl", "restart", f"{NAME}-{service}.service")

    return act


def _killed(group: str, service: str) -> Callable[[Bed], None]:
    return lambda bed: bed.kill(bed.groups[group][0], service)


def _head(pool: str) -> Callable[[Bed], None]:
    """Kill the first replica's head: all of it, where it is alone on its host."""

    def act(bed: Bed) -> None:
        rank = "-rank-0" if bed.shape.width > 1 else ""
        bed.kill(bed.groups[pool][0], f"{pool}-0{rank}")

    return act


def _last_rank(bed: Bed) -> None:
    bed.kill(bed.groups["decode"][bed.shape.width - 1], f"decode-0-rank-{bed.shape.width - 1}")


def _powered_off(bed: Bed) -> None:
    host = bed.groups["decode"][0]
    bed.power_off(host)
    bed.power_on(host)


def _worker_variable(bed: Bed) -> None:
    pool = bed.pool()
    bed.site(wideep_pools={"prefill": pool, "decode": {**pool, "env": {"PROOF": "2"}}})


def _broken_upgrade(bed: Bed) -> None:
    """Deploy workers that never start: the run has to fail at the first of them."""
    broken = {**bed.pool(), "env": {"PYTHONHOME": "/nowhere"}}
    try:
        bed.run("site", wideep_pools={"prefill": broken, "decode": broken}, wideep_start_deadline_s=30)
    except RunError:
        return
    raise RuntimeError("workers that cannot start were deployed")


def _broken_and_back(bed: Bed) -> None:
    _broken_upgrade(bed)
    bed.run("rollback")


ROWS = (
    Row("nothing (the bed itself)", lambda bed: None),
    # The deployment begins with the older release.
    Row(f"upgrade {OLD} to {NEW}", lambda bed: bed.site(wideep_release=NEW)),
    Row("changed worker variable", _worker_variable),
    Row("changed frontend variable", lambda bed: bed.site(wideep_inhibition_s=2)),
    Row("load balancer changed", lambda bed: bed.site(wideep_load_balancer={"retries": 4})),
    Row("NATS restarted", _restart("control01", "nats")),
    Row("etcd restarted", _restart("control01", "etcd")),
    Row("frontend restarted", _restart("frontend01", "frontend")),
    Row("upgrade that does not start, and rollback", _broken_and_back, verb="rollback"),
    Row("rollback of an upgrade", lambda bed: bed.run("rollback"), verb="rollback"),
    Row("scale out", _scale_out),
    Row("scale in", _scale_in, verb="scale"),
    Row("drain, reboot, uncordon of a decode host", _drain, verb="drain"),
    Row("replace of a prefill host", _replace, verb="replace"),
    Row("secret rotated", lambda bed: bed.site(secrets_nats_password="another")),
    Row("kill -9 of a decode worker", _head("decode"), change=False),
    Row("kill -9 of a prefill worker", _head("prefill"), change=False),
    Row("kill -9 of a frontend", _killed("frontend", "frontend"), change=False),
    Row("kill -9 of the load balancer", _killed("load_balancer", "load-balancer"), change=False),
    Row("kill -9 of NATS", _killed("control", "nats"), change=False),
    Row("kill -9 of etcd", _killed("control", "etcd"), change=False),
    Row("a decode host powered off and on", _powered_off, change=False),
    Row(
        "a decode host cut off for 30 s",
        lambda bed: bed.cut_off(bed.groups["decode"][0], 30),
        change=False,
    ),
    Row("a rank of a decode gang killed", _last_rank, change=False, gang=True),
)
