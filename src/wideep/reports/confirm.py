"""What is asked before a deployment is removed, and whether it was answered."""

from __future__ import annotations

from collections.abc import Collection

from wideep.problems import Problem
from wideep.published import Published

SHOWN = 8


def question(plan: Published, text: str, chosen: Collection[str] | None = None) -> str:
    """Return what happens, to whom, and where.

    text: what happens, of `module confirm`. chosen: the hosts of the run where --limit names some.
    """
    hosts = [host for host in plan.hosts if chosen is None or host in chosen] or list(plan.hosts)
    if plan.kubernetes is not None:
        where = f"namespace {plan.namespace} of the cluster"
    else:
        more = f" and {len(hosts) - SHOWN} more" if len(hosts) > SHOWN else ""
        where = (
            f"{len(hosts)} hosts: {', '.join(hosts[:SHOWN])}{more}" if len(hosts) > 1 else f"host {hosts[0]}"
        )
    kept = "the model" if plan.kubernetes is not None else "data, logs, environments and models"
    fate = f"{kept} {'stays' if plan.kubernetes is not None else 'stay'} there"
    if not plan.keep_state:
        fate = f"with it {kept} (wideep_keep_state is false)"
    return f"deployment {plan.deployment} ({plan.settings.model}): {text}, on {where}; {fate}"


def unconfirmed(plan: Published, text: str, chosen: Collection[str] | None = None) -> Problem | None:
    """Return what is missing before it may go on; None where nothing is, or all is on this machine."""
    given = plan.settings.confirm
    if plan.one_machine or given is True or given == plan.deployment:
        return None
    said = f"; wideep_confirm is {given!r}" if given else ""
    return Problem(
        f"not confirmed: {question(plan, text, chosen)}{said}",
        "wideep_confirm",
        f"say so for this run, with -e wideep_confirm={plan.deployment}, or `wideep down --yes`",
    )
