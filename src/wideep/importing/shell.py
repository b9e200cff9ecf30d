"""Commands of a shell script, as far as they can be known without running it.

Assignments, defaults, arrays, loops over words, here-documents and scripts in quotes are followed; all
branches are read. What a command prints, and what the environment has, is unknown: such words keep their `$`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wideep.importing.words import REDIRECTIONS, Lexer, Token

ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=")
PARAMETER = re.compile(r"([A-Za-z_]\w*|\d|[@*#?!$-])(?:\[([@*]|\d+)\])?(?:(:?[-=?+])(.*))?", re.DOTALL)
KEYWORDS = frozenset(
    {"then", "else", "elif", "fi", "do", "done", "esac", "in", "{", "}", "!", "if", "while", "until"}
)
RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)\}")
MOST_ROUNDS = 4096
DECLARE = frozenset({"export", "declare", "readonly", "local", "typeset"})
ALTERNATIVES = frozenset({":-", "-", ":=", "=", ":+", "+"})


@dataclass(frozen=True)
class Command:
    """A simple command: its words, the environment that it gets, its line. body: its here-document."""

    words: tuple[str, ...]
    env: Mapping[str, str]
    line: int
    file: str


@dataclass
class Script:
    """What a script holds: commands in their order, and files that it writes from here-documents.

    used: names of variables that it puts into its own commands. given: values from elsewhere.
    """

    commands: list[Command] = field(default_factory=list)
    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    given: Mapping[str, str] = field(default_factory=dict)


Values = dict[str, "str | list[str]"]


def read(text: str, file: str, given: Mapping[str, str] | None = None) -> Script:
    """Return a script's commands. given: variables that have a value from elsewhere.

    Raises RefusedError where a quote or a here-document does not end.
    """
    reader = _Reader(file, given or {})
    reader.run(list(Lexer(text, file).tokens()))
    return reader.script


# ---- running without running -------------------------------------------------------------------------


class _Reader:
    """Follows a script from its first token to its last."""

    def __init__(self, file: str, given: Mapping[str, str]) -> None:
        self.file = file
        self.values: Values = dict(given)
        self.given = frozenset(given)
        self.exported: dict[str, str] = {}
        self.script = Script(given=given)
        self.rounds = 0

    def run(self, tokens: list[Token]) -> None:
        """Follow tokens; loops over words go round, all branches are taken."""
        position = 0
        while position < len(tokens):
            token = tokens[position]
            if token.ends_command or (not token.operator and token.text in KEYWORDS):
                position += 1
            elif not token.operator and token.text == "for" and position + 2 < len(tokens):
                position = self._loop(tokens, position)
            else:
                ends = (n for n in range(position, len(tokens)) if tokens[n].ends_command)
                stop = next(ends, len(tokens))
                self._simple(tokens[position:stop])
                position = stop

    def _loop(self, tokens: list[Token], position: int) -> int:
        name, at = tokens[position + 1].text, position + 2
        words: list[str] = []
        if tokens[at].text == "in":
            at += 1
            while at < len(tokens) and not (tokens[at].operator and tokens[at].text in (";", "\n")):
                words += self.expand(tokens[at].text)
                at += 1
        while at < len(tokens) and tokens[at].text != "do":
            at += 1
        depth, end = 0, at
        while end < len(tokens):
            text = tokens[end].text if not tokens[end].operator else ""
            first = end == 0 or tokens[end - 1].operator or tokens[end - 1].text in KEYWORDS
            depth += (text == "do") - (text == "done" and first)
            if depth == 0:
                break
            end += 1
        known = [word for word in words if "$" not in word]
        if not known:
            self.values.pop(name, None)
            self.run(tokens[at + 1 : end])
        for word in known:
            self.rounds += 1
            if self.rounds <= MOST_ROUNDS:
                self.values[name] = word
                self.run(tokens[at + 1 : end])
        return end + 1

    def _simple(self, tokens: list[Token]) -> None:
        """Follow a command: assignments alone, a declaration, a file that is written, or a program."""
        words: list[str] = []
        own: Values = {}
        target, redirected = "", ""
        for token, after in zip(tokens, [*tokens[1:], None], strict=True):
            if token.operator or redirected:
                target = " ".join(self.expand(token.text)) if redirected in (">", ">>") else target
                redirected = token.text if token.operator and token.body is None else ""
            elif token.text.isdecimal() and after and after.operator and after.text in REDIRECTIONS:
                pass  # 2>
            elif (match := ASSIGNMENT.match(token.text)) and not words:
                own[match[1]] = self._assigned(match, token.text[match.end() :])
            else:
                words += self._declared(token) if words and words[0] in DECLARE else self.expand(token.text)
        body = next((token for token in tokens if token.body is not None), None)
        if body and words and words[0] in ("cat", "tee"):
            self._file(body, target or next((w for w in words[1:] if not w.startswith("-")), ""))
        elif not words:
            self._assign(own)
        elif words[0] in DECLARE:
            self._export(words)
        else:
            env = self.exported | {name: _joined(value) for name, value in own.items()}
            self.script.commands.append(Command(tuple(words), env, tokens[0].line, self.file))

    def _file(self, token: Token, name: str) -> None:
        body = token.body or ""
        plain = body[1:] if body.startswith("'") else "".join(t for t, _ in self._pieces(body, '"'))
        self.script.files[name] = (plain, token.line + 1)

    def _assign(self, own: Values) -> None:
        for name, value in own.items():
            if name not in self.given:
                self.values[name] = value
                if name in self.exported:
                    self.exported[name] = _joined(value)

    def _declared(self, token: Token) -> list[str]:
        match = ASSIGNMENT.match(token.text)
        if not match:
            return self.expand(token.text)
        value = self._assigned(match, token.text[match.end() :])
        if match[1] not in self.given:
            self.values[match[1]] = value
        return [f"{match[1]}={_joined(self.values[match[1]])}"]

    def _export(self, words: list[str]) -> None:
        if words[0] != "export" and "-x" not in words:
            return
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if name.isidentifier():
                self.exported[name] = value if equals else _joined(self.values.get(name, ""))

    def _assigned(self, match: re.Match[str], text: str) -> str | list[str]:
        before = self.values.get(match[1], "") if match[2] else ""
        if text.startswith("(") and text.endswith(")"):
            words = [
                word
                for token in Lexer(text[1:-1], self.file).tokens()
                if not token.operator
                for word in self.expand(token.text)
            ]
            return [*([before] if isinstance(before, str) and before else before or []), *words]
        value = "".join(text for text, _ in self._pieces(text))
        if isinstance(before, list):
            return [*before, value]
        return before + value

    # ---- expansion

    def expand(self, word: str) -> list[str]:
        """Return the words that one becomes: unquoted values are split at blanks, arrays are several."""
        if found := RANGE.search(word):
            first, last = int(found[1]), int(found[2])
            numbers = range(first, last + 1) if last >= first else range(first, last - 1, -1)
            return [
                w for n in numbers for w in self.expand(word[: found.start()] + str(n) + word[found.end() :])
            ]
        words: list[str] = [""]
        solid = False  # whether the last word has something, if only quotes
        for text, split in self._pieces(word):
            if split == "array":
                items = text.split("\0") if text else []
                for number, item in enumerate(items):
                    if number:
                        words.append(item)
                    else:
                        words[-1] += item
                solid = solid or bool(items)
            elif split == "split":
                parts = text.split()
                if text[:1].isspace() and words[-1]:
                    words.append("")
                for number, part in enumerate(parts):
                    words[-1:] = [words[-1] + part] if not number else [words[-1], part]
                solid = solid or bool(parts)
            else:
                words[-1] += text
                solid = True
        return words if solid else []

    def _pieces(self, word: str, inside: str = "") -> Iterator[tuple[str, str]]:
        """Yield (text, how it is split). inside: the quotes that it is in."""
        position = 0
        while position < len(word):
            char = word[position]
            if char == "\\" and position + 1 < len(word):
                escaped = word[position + 1]
                if escaped == "\n":
                    pass
                elif inside and escaped not in '$`"\\':
                    yield char + escaped, ""
                else:
                    yield escaped, ""
                position += 2
            elif char == "'" and not inside:
                end = word.index("'", position + 1)
                yield word[position + 1 : end], ""
                position = end + 1
            elif char == '"' and not inside:
                end = Lexer(word, self.file).quoted(position)
                text = word[position + 1 : end - 1]
                yield "", ""  # quotes make a word, even of nothing
                yield from self._pieces(text, '"')
                position = end
            elif char == "`":
                end = Lexer(word, self.file).quoted(position)
                yield self._substituted(word[position + 1 : end - 1], word[position:end], inside)
                position = end
            elif word.startswith("$(", position):
                end = Lexer(word, self.file).nested(position + 1)
                yield self._substituted(word[position + 2 : end - 1], word[position:end], inside)
                position = end
            elif word.startswith("${", position):
                end = Lexer(word, self.file).nested(position + 1)
                yield self._parameter(word[position + 2 : end - 1], word[position:end], inside)
                position = end
            elif char == "$" and (match := re.compile(r"[A-Za-z_]\w*|[\d@*#?$!-]").match(word, position + 1)):
                yield self._parameter(match[0], word[position : match.end()], inside)
                position = match.end()
            else:
                yield char, ""
                position += 1

    def _parameter(self, text: str, written: str, inside: str) -> tuple[str, str]:
        """Return what a parameter becomes, and how that is split; what is unknown stays as written."""
        match = PARAMETER.fullmatch(text)
        if match is None:
            return written, ""
        name, index, operator, word = match.groups()
        self.script.used.add(name)
        value, split = self.values.get(name), "" if inside else "split"
        if operator in ALTERNATIVES and (value in (None, "")) != (operator in (":+", "+")):
            other = "".join(part for part, _ in self._pieces(word or "", inside))
            if operator in ("=", ":="):
                self.values[name] = other
            return other, split
        if operator in (":+", "+"):
            return "", split
        if isinstance(value, list):
            return _of_array(value, index, inside)
        if value is None or self._printed_whole(value):  # of a name the value can be given
            return ("", "array") if name in ("@", "*") else (written, "")
        return value, split

    def _printed_whole(self, value: str) -> bool:
        """Whether a value is nothing but what a command prints."""
        if value.startswith("$(") and not value.startswith("$(("):
            return Lexer(value, self.file).nested(1) == len(value)
        return value.startswith("`") and Lexer(value, self.file).quoted(0) == len(value)

    def _substituted(self, command: str, written: str, inside: str) -> tuple[str, str]:
        """Return what a command prints, and how that is split; what is unknown stays one word."""
        text = self._printed(command, written)
        return text, "" if inside or text.startswith(("$", "`")) else "split"

    def _printed(self, command: str, written: str) -> str:
        """Return what a command prints where that is arithmetic or a row of numbers."""
        if command.startswith("(") and command.endswith(")"):
            inner = "".join(part for part, _ in self._pieces(command[1:-1], '"'))
            inner = re.sub(r"[A-Za-z_]\w*", lambda m: _joined(self.values.get(m[0], m[0])), inner)
            return _computed(inner, f"$(({inner}))")
        words = command.split()
        if (
            words[:1] == ["seq"]
            and all(re.fullmatch(r"-?\d+", w) for w in words[1:])
            and 2 <= len(words) <= 3
        ):
            bounds = [int(w) for w in words[1:]]
            first, last = bounds if len(bounds) == 2 else (1, bounds[0])
            return " ".join(map(str, range(first, last + 1)))
        return written


def _of_array(value: list[str], index: str | None, inside: str) -> tuple[str, str]:
    if index == "@" or (index == "*" and not inside):
        return "\0".join(value), "array"
    if index == "*":
        return " ".join(value), ""
    one = value[int(index or 0) : int(index or 0) + 1]
    return (one[0] if one else ""), "" if inside else "split"


def _computed(text: str, written: str) -> str:
    """Return the value of an expression of whole numbers; what was written where it is none."""
    tokens = re.findall(r"\d+|[-+*/%()]", text)
    if "".join(tokens) != re.sub(r"\s", "", text):
        return written
    position = 0

    def factor() -> int:
        nonlocal position
        sign = tokens[position]
        position += 1
        if sign == "(":
            value = total()
            position += 1
            return value
        return -factor() if sign == "-" else int(sign)

    def term() -> int:
        nonlocal position
        value = factor()
        while position < len(tokens) and tokens[position] in "*/%":
            operator = tokens[position]
            position += 1
            other = factor()
            value = value * other if operator == "*" else value // other if operator == "/" else value % other
        return value

    def total() -> int:
        nonlocal position
        value = term()
        while position < len(tokens) and tokens[position] in "+-":
            sign = 1 if tokens[position] == "+" else -1
            position += 1
            value += sign * term()
        return value

    try:
        value = total()
    except (IndexError, ValueError, ZeroDivisionError):
        return written
    return str(value) if position == len(tokens) else written


def _joined(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def beside(source: Path, name: str) -> Path | None:
    """Return a file that a command names, where it lies beside the source."""
    for candidate in (source.parent / name, source.parent / Path(name).name):
        if candidate.is_file():
            return candidate
    return None
