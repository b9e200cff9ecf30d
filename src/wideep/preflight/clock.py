"""Clocks of the hosts against each other; the controller's own may be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideep.preflight.model import Check, Clock, Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def _offset(clock: Clock) -> tuple[float, float] | None:
    """Return the least and the greatest offset to the controller that the two readings allow, seconds."""
    if clock.controller_before is None or clock.controller_after is None:
        return None
    # The host read its clock at least elapsed_s after the controller's first reading.
    return clock.time - clock.controller_after, clock.time - clock.controller_before - clock.elapsed_s


def skew(hosts: Sequence[Host], settings: Settings) -> Iterator[Check]:
    """How far each host certainly is from the one in the middle, beyond the error of measuring over SSH."""
    offsets = {host.name: offset for host in hosts if (offset := _offset(host.facts.clock))}
    if len(offsets) < 2:
        return
    ordered = sorted(offsets, key=lambda name: sum(offsets[name]))
    middle = ordered[(len(ordered) - 1) // 2]
    low, high = offsets[middle]
    remedy = "run one time service on all hosts (chrony, systemd-timesyncd): timedatectl set-ntp true"
    expected = f"within {settings.clock_warn_s:g} s of {middle}"
    for name, (least, greatest) in offsets.items():
        gap = max(0.0, least - high, low - greatest)
        error = max(0.0, (greatest - least + high - low) / 2)
        side = "ahead of" if least + greatest > low + high else "behind"
        if gap > settings.clock_warn_s:
            status = "fail" if gap > settings.clock_fail_s else "warn"
            seen = f"at least {gap:.1f} s {side} {middle}"
            yield Check(name, "clock", "fail" if status == "fail" else "warn", seen, expected, remedy)
        else:
            yield Check(name, "clock", "ok", f"no skew seen (measured to {error:.1f} s)", expected)
