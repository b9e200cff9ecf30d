"""Hardware cards."""

from __future__ import annotations

from wideep.reference.hardware import GIB, find_gpu, hardware_cards


def test_every_card_is_plausible() -> None:
    cards = hardware_cards()
    assert {"h100-80gb", "h200-141gb", "h20-96gb", "b200-180gb", "gb200-nvl72"} <= cards.keys()
    for name, card in cards.items():
        assert 75 * GIB < card.memory < 190 * GIB, name
        assert card.source
        assert card.nics_per_node >= 1


def test_generations() -> None:
    cards = hardware_cards()
    assert [name for name, card in cards.items() if card.blackwell] == ["b200-180gb", "gb200-nvl72"]
    assert [name for name, card in cards.items() if card.multi_node_nvlink] == ["gb200-nvl72"]


def test_an_unnamed_gpu_is_a_warning_and_an_unknown_one_an_error() -> None:
    assert find_gpu("h100-80gb", "a") == (hardware_cards()["h100-80gb"], [])
    card, (warning,) = find_gpu("", "a")
    assert card is None
    assert (warning.severity, warning.where) == ("warning", "wideep_gpu on host a")
    card, (error,) = find_gpu("h100-80", "a")
    assert card is None
    assert (error.severity, error.remedy) == ("error", "did you mean h100-80gb?")
