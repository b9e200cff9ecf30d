"""Hardware cards."""

from __future__ import annotations

import pytest

from wideep.reference.hardware import GIB, cards_of, find_gpu, hardware_cards


def test_every_card_is_plausible() -> None:
    cards = hardware_cards()
    assert {"h100-80gb", "h200-141gb", "h20-96gb", "b200-180gb", "gb200-nvl72"} <= cards.keys()
    for name, card in cards.items():
        assert 75 * GIB < card.memory < 290 * GIB, name
        assert card.source
        assert card.nics_per_node >= 1


def test_generations() -> None:
    cards = hardware_cards()
    blackwell = ["b200-180gb", "b300", "gb200-nvl72", "gb300-nvl72"]
    assert [name for name, card in cards.items() if card.blackwell] == blackwell
    assert [name for name, card in cards.items() if card.multi_node_nvlink] == blackwell[2:]


@pytest.mark.parametrize(
    ("driver_name", "mib", "expected"),
    [
        ("NVIDIA H800", 81559, ["h800"]),
        ("NVIDIA H20-3e", 143771, ["h20-141gb"]),
        ("NVIDIA H20", 97871, ["h20-96gb"]),
        ("NVIDIA A800-SXM4-80GB", 81920, ["a800"]),
        ("NVIDIA H100 NVL", 95830, ["h100-nvl"]),
        ("NVIDIA H100 PCIe", 81559, ["h100-pcie", "h100-80gb"]),
        ("NVIDIA H100 80GB HBM3", 81559, ["h100-80gb", "h100-pcie"]),
        ("NVIDIA H200", 143771, ["h200-141gb", "h200-nvl"]),
        ("NVIDIA H200 NVL", 143771, ["h200-nvl", "h200-141gb"]),
        ("NVIDIA GH200 480GB", 97871, ["gh200"]),
        ("NVIDIA GH200 144G HBM3e", 145920, ["gh200-144gb"]),
        ("NVIDIA B300 SXM6 AC", 275040, ["b300"]),
        ("NVIDIA GB300", 284208, ["gb300-nvl72"]),
        ("NVIDIA L40S", 46068, []),
    ],
)
def test_a_gpu_is_known_by_its_name_and_memory(driver_name: str, mib: int, expected: list[str]) -> None:
    assert cards_of(driver_name, mib) == expected


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("h100-80", "did you mean h100-80gb?"),
        ("h20-140gb", "did you mean h20-141gb?"),
        ("gb200", "use one of: gb200-nvl72"),
    ],
)
def test_a_slip_is_mended_within_one_gpu(name: str, remedy: str) -> None:
    assert find_gpu(name, "a")[1][0].remedy == remedy


@pytest.mark.parametrize("name", ["gb400-nvl72", "b400-180gb", "h300-141gb", "mi300x"])
def test_no_card_of_another_gpu_is_proposed(name: str) -> None:
    assert find_gpu(name, "a")[1][0].remedy == f"use one of: {', '.join(sorted(hardware_cards()))}"


def test_an_unnamed_gpu_is_a_warning_and_an_unknown_one_an_error() -> None:
    assert find_gpu("h100-80gb", "a") == (hardware_cards()["h100-80gb"], [])
    card, (warning,) = find_gpu("", "a")
    assert card is None
    assert (warning.severity, warning.where) == ("warning", "wideep_gpu on host a")
    card, (error,) = find_gpu("h100-80", "a")
    assert card is None
    assert error.severity == "error"
