"""One list of the kernel for all: ours, those of the host's other deployments, those of somebody else."""

from __future__ import annotations

import pytest
from ansible_collections.wideep.dynamo.plugins.modules.reserved_ports import (
    deployments,
    numbers,
    planned,
    ranges,
)


def value(content: str) -> str:
    """Return what the kernel is told."""
    [line] = [line for line in content.splitlines() if not line.startswith("#")]
    name, _, ports = line.partition(" = ")
    assert name == "net.ipv4.ip_local_reserved_ports"
    return ports


@pytest.mark.parametrize("text", ["", "8000", "8000,9000-9003,65535"])
def test_ranges_are_read_as_they_are_written(text: str) -> None:
    assert ranges(numbers(text + "\n")) == text


def test_ours_and_those_of_somebody_else() -> None:
    content, others = planned("", "30000-32767\n", "r1", {20000, 20001})
    assert value(content) == "20000-20001,30000-32767"
    assert deployments(content) == {"r1": {20000, 20001}}
    assert ranges(others) == "30000-32767"


def test_a_second_run_changes_nothing_before_and_after_the_kernel_knows() -> None:
    first, _ = planned("", "30000-32767", "r1", {20000})
    assert planned(first, "30000-32767", "r1", {20000})[0] == first
    assert planned(first, value(first), "r1", {20000})[0] == first


def test_ports_that_moved_are_given_back() -> None:
    first, _ = planned("", "30000", "r1", {20000})
    second, _ = planned(first, value(first), "r1", {23000})
    assert value(second) == "23000,30000"


def test_two_deployments_of_one_host() -> None:
    one, _ = planned("", "", "blue", {20000})
    both, others = planned(one, value(one), "green", {23000})
    assert value(both) == "20000,23000"
    assert ranges(others) == "20000"
    assert value(planned(both, value(both), "blue", set())[0]) == "23000"


def test_the_last_one_takes_the_file_with_it() -> None:
    content, _ = planned("", "30000", "r1", {20000})
    assert planned(content, value(content), "r1", set()) == ("", {30000})
    assert planned("", "", "r1", set()) == ("", set())
