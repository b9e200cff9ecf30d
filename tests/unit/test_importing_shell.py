"""Scripts are followed as a shell would, as far as that is known without running them."""

from __future__ import annotations

import pytest

from wideep.importing import shell
from wideep.problems import RefusedError


def words(text: str, **given: str) -> list[tuple[str, ...]]:
    return [command.words for command in shell.read(text, "start.sh", given).commands]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run --a 1 # comment", [("run", "--a", "1")]),
        ("run --a \\\n  1", [("run", "--a", "1")]),
        ("run 'a b' \"c $HOME\"", [("run", "a b", "c $HOME")]),
        ("A=1\nrun $A ${A} ${A}x", [("run", "1", "1", "1x")]),
        ("run ${TP:-8} ${X-y}", [("run", "8", "y")]),
        ('A=\nrun ${A:-8} ${A:+set} "$A"', [("run", "8", "")]),
        ("A='--x 1'\nrun $A \"$A\"", [("run", "--x", "1", "--x 1")]),
        ("A=(--x 'a b')\nA+=(--y)\nrun \"${A[@]}\"", [("run", "--x", "a b", "--y")]),
        ("A=(\n  --x  # why\n  1\n)\nrun ${A[@]}", [("run", "--x", "1")]),
        ("A=x\nA+=y\nrun $A", [("run", "xy")]),
        ("for i in 0 1; do run $i; done", [("run", "0"), ("run", "1")]),
        ("for i in {0..2}; do run $i; done", [("run", "0"), ("run", "1"), ("run", "2")]),
        ("for i in $(seq 0 1)\ndo\n  run $i &\ndone\nwait", [("run", "0"), ("run", "1"), ("wait",)]),
        (
            "for i in a b; do for j in 1 2; do run $i$j; done; done",
            [("run", x) for x in ("a1", "a2", "b1", "b2")],
        ),
        ("run > log 2>&1 &\nother", [("run",), ("other",)]),
        ('if [ -n "$X" ]; then run a; else run b; fi', [("[", "-n", "$X", "]"), ("run", "a"), ("run", "b")]),
        ("run $((2 * (3 + 1))) $UNKNOWN $(hostname)", [("run", "8", "$UNKNOWN", "$(hostname)")]),
        ("N=2\nrun $((N * 8))", [("run", "16")]),
        ("run '{\"a\": [1]}' --b={x}", [("run", '{"a": [1]}', "--b={x}")]),
        ("a && b || c; d | e", [("a",), ("b",), ("c",), ("d",), ("e",)]),
    ],
)
def test_words(text: str, expected: list[tuple[str, ...]]) -> None:
    assert words(text) == expected


def test_what_is_given_wins_over_the_script() -> None:
    assert words("NODES=2\nrun $NODES $RANK", NODES="4", RANK="1") == [("run", "4", "1")]


def test_environment_is_what_is_exported_and_what_stands_before_a_command() -> None:
    script = shell.read("A=1\nexport B=2 C\nC=3\nD=4 run\nexport A\nother", "start.sh")
    assert [dict(command.env) for command in script.commands] == [
        {"B": "2", "C": "3", "D": "4"},
        {"A": "1", "B": "2", "C": "3"},
    ]
    assert [command.line for command in script.commands] == [4, 6]


def test_files_are_written_by_here_documents() -> None:
    text = "M=x\ncat > a.yaml <<EOF\nm: $M\nEOF\ncat <<'EOF' > b.yaml\nm: $M\nEOF\nrun a.yaml\n"
    script = shell.read(text, "start.sh")
    assert script.files == {"a.yaml": ("m: x\n", 3), "b.yaml": ("m: $M\n", 6)}
    assert [command.words for command in script.commands] == [("run", "a.yaml")]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\nrun 'x\n", 2), ('run "x', 1), ("cat <<EOF\nx\n", 1), ("\nrun $(a", 2), ("x=${a\n", 1)],
)
def test_what_does_not_end_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(RefusedError) as refused:
        words(text)
    assert [problem.where for problem in refused.value.problems] == [f"start.sh:{line}"]
