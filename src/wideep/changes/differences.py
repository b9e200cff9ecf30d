"""What runs on hosts against what is planned, in words: drift, and what a changed inventory means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from wideep.changes.look import HostLook, ServiceLook
from wideep.deployment.launch import Launch
from wideep.published import Published

# Told by their own rows, or made from the others.
TOLD = frozenset({"argv", "env", "files", "programs", "digest", "schema_version", "description", "gang"})
# What is written from a launch: that it changes says nothing beside what the launch says.
MADE = ("launch.json: ", "/environment: ", ".conf: ", ".service: ", ".container: ")
SHOWN = 4


@dataclass(frozen=True)
class Difference:
    """One thing that is not as planned. service: '' for what is the host's. what: in words; rows: how."""

    host: str
    service: str
    what: str
    rows: tuple[str, ...] = ()


def differences(plan: Published, looks: Mapping[str, HostLook]) -> tuple[Difference, ...]:
    """Return all of them, by host."""
    return tuple(one for look in looks.values() for one in _of_host(plan, look))


def table(found: Sequence[Difference]) -> str:
    """Return them for people; what is the same of several is told once."""
    if not found:
        return "what runs is as planned\n"
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for one in found:
        name = f"{one.service} on {one.host}" if one.service else one.host
        alike.setdefault((one.what, one.rows), []).append(name)
    text = ""
    for (what, rows), who in alike.items():
        more = f" and {len(who) - SHOWN} more" if len(who) > SHOWN + 1 else ""
        text += f"{', '.join(who[:SHOWN] if more else who)}{more}: {what}\n"
        text += "".join(f"    {row}\n" for row in rows)
    return text


def to_dict(found: Iterable[Difference]) -> list[dict[str, Any]]:
    """Return the JSON form."""
    return [asdict(one) | {"rows": list(one.rows)} for one in found]


def _of_host(plan: Published, look: HostLook) -> Iterator[Difference]:
    if not look.reachable:
        reason = look.error.strip().splitlines() or ["it was not asked"]
        yield Difference(look.name, "", f"cannot be reached: {reason[-1]}")
        return
    if look.new:
        names = ", ".join(one.name for one in look.services)
        yield Difference(
            look.name, "", f"nothing of the deployment is there yet: gets {names or 'no service'}"
        )
        return
    for word in look.other:
        yield Difference(look.name, "", word)
    for word in look.strays:
        yield Difference(look.name, "", f"belongs to no service: {word}")
    for one in look.unplanned:
        yield Difference(look.name, one.name, f"is not planned any more ({one.state}): stopped and removed")
    planned = {launch.name: launch for launch in plan.hosts[look.name].services}
    for one in look.services:
        rows = _rows(one, planned[one.name])
        if what := _what(one, rows):
            yield Difference(look.name, one.name, what, rows)


def _what(one: ServiceLook, rows: Sequence[str]) -> str:
    if not one.configured:
        return "is not there yet: started"
    if one.starts.startswith("restarted: its configuration") and not one.differs:
        return "runs with another configuration than its files have: restarted"
    if one.starts:
        return one.starts
    if one.differs:
        return "files are written again, nothing restarts" if not rows else "changes without a restart"
    if one.healthy is False:
        return f"does not work: {one.health_detail}"
    return ""


def _rows(one: ServiceLook, planned: Launch) -> tuple[str, ...]:
    rows: list[str] = []
    if one.before:
        wanted = planned.to_dict()
        rows += _argv(one.before.get("argv", []), wanted["argv"])
        rows += _values(one.before.get("env", {}), wanted["env"])
        rows += _values(_others(one.before), _others(wanted))
        rows += _values(*({"ranks": (each.get("gang") or {}).get("ranks")} for each in (one.before, wanted)))
    by_hand = one.configured and not one.before
    rows += [word for word in one.differs if by_hand or not any(part in word for part in MADE)]
    return tuple(rows if one.configured else ())


def _others(launch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in launch.items() if name not in TOLD}


def _argv(before: Sequence[str], after: Sequence[str]) -> list[str]:
    (old_command, old), (new_command, new) = _flags(before), _flags(after)
    rows = [] if old_command == new_command else [f"command {old_command} → {new_command}"]
    return rows + _values(old, new)


def _flags(argv: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the words before the first flag, and flag -> its values."""
    start = next((n for n, word in enumerate(argv) if word.startswith("--")), len(argv))
    flags: dict[str, list[str]] = {}
    name = ""
    for word in argv[start:]:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            flags.setdefault(name, []).extend([value] if equals else [])
        else:
            flags[name].append(word)
    return " ".join(argv[:start]), {flag: " ".join(values) for flag, values in flags.items()}


def _values(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    rows = []
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if name not in before:
            rows.append(f"+ {name} {_text(new)}".rstrip())
        elif name not in after:
            rows.append(f"- {name} {_text(old)}".rstrip())
        elif old != new:
            rows.append(f"{name} {_text(old)} → {_text(new)}")
    return rows


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_text(each)}" for name, each in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
