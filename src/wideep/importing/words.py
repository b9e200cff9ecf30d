"""Words and operators of a shell script, as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from wideep.importing.source import refuse
from wideep.problems import RefusedError

REDIRECTIONS = frozenset({"<<<", "<<-", "<<", ">>", ">&", "<&", "&>", "<", ">"})
# The longest first.
OPERATORS = ("<<<", "<<-", "&&", "||", ";;", "<<", ">>", ">&", "<&", "&>", "|&", *";&|()<>\n")
ENDS = {"(": ")", "{": "}"}


@dataclass(frozen=True)
class Token:
    """A word as written, or an operator. line: where it begins. body: of a here-document."""

    text: str
    line: int
    operator: bool = False
    body: str | None = None

    @property
    def ends_command(self) -> bool:
        """Whether a command ends before it."""
        return self.operator and self.body is None and self.text not in REDIRECTIONS


@dataclass(frozen=True)
class _Here:
    """A here-document that begins after the line."""

    line: int
    end: str
    strips: bool
    quoted: bool


class Lexer:
    """Cuts a text. Raises RefusedError where a quote, a bracket or a here-document does not end."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.position, self.line = 0, 1

    def _refuse(self, line: int, what: str) -> RefusedError:
        return refuse(what, f"{self.file}:{line}", "correct the script there, or give the command alone")

    def tokens(self) -> Iterator[Token]:
        """Yield words with their quotes, and operators."""
        text, waiting = self.text, list[_Here]()
        while self.position < len(text):
            char = text[self.position]
            if text.startswith("\\\n", self.position):
                self.position, self.line = self.position + 2, self.line + 1
            elif char in " \t\r":
                self.position += 1
            elif char == "#":
                self.position = self._line_end(self.position)
            elif operator := next((o for o in OPERATORS if text.startswith(o, self.position)), ""):
                self.position += len(operator)
                if operator in ("<<", "<<-"):
                    waiting.append(self._here(operator))
                    continue
                if operator == "\n":
                    self.line += 1
                    for here in waiting:
                        yield Token("<<", here.line, True, self._body(here))
                    waiting = []
                yield Token(operator, self.line - (operator == "\n"), True)
            else:
                start, begin = self.line, self.position
                self.position = self.word(begin)
                word = text[begin : self.position]
                self.line += word.count("\n")
                yield Token(word, start)
        if waiting:
            raise self._refuse(waiting[0].line, f"the here-document '{waiting[0].end}' does not begin")

    def _line_end(self, position: int) -> int:
        end = self.text.find("\n", position)
        return end if end >= 0 else len(self.text)

    def _here(self, operator: str) -> _Here:
        while self.text[self.position : self.position + 1] in (" ", "\t"):
            self.position += 1
        begin, self.position = self.position, self.word(self.position)
        written = self.text[begin : self.position]
        plain = re.sub(r"['\"\\]", "", written)
        return _Here(self.line, plain, operator == "<<-", plain != written)

    def _body(self, here: _Here) -> str:
        """Return a here-document's text; a quote before it says that nothing is expanded in it."""
        lines: list[str] = []
        while self.position < len(self.text):
            stop = self._line_end(self.position)
            one = self.text[self.position : stop]
            self.position, self.line = min(stop + 1, len(self.text)), self.line + 1
            one = one.lstrip("\t") if here.strips else one
            if one.rstrip("\r") == here.end:
                return ("'" if here.quoted else "") + "".join(f"{line}\n" for line in lines)
            lines.append(one)
        raise self._refuse(here.line, f"the here-document '{here.end}' does not end")

    def word(self, position: int) -> int:
        """Return where the word that begins somewhere ends."""
        start, text = position, self.text
        while position < len(text):
            char = text[position]
            if char == "\\":
                position += 2
            elif char in "'\"`":
                position = self.quoted(position)
            elif text.startswith(("$(", "${"), position):
                position = self.nested(position + 1)
            elif char == "(" and position > start and text[position - 1] == "=":
                position = self.nested(position)
            elif char in " \t\r\n;&|<>()":
                break
            else:
                position += 1
        return min(position, len(text))

    def _at(self, position: int) -> int:
        """Return the line of a position at or behind the present one."""
        return self.line + self.text.count("\n", self.position, position)

    def quoted(self, position: int) -> int:
        """Return where the quotes that begin somewhere end."""
        quote, at, text = self.text[position], position + 1, self.text
        while at < len(text):
            if text[at] == "\\" and quote != "'":
                at += 2
            elif text[at] == quote:
                return at + 1
            elif quote == '"' and text.startswith("$(", at):
                at = self.nested(at + 1)
            else:
                at += 1
        raise self._refuse(self._at(position), f"a quote {quote} does not end")

    def nested(self, position: int) -> int:
        """Return where the bracket that begins somewhere ends."""
        text, at, depth = self.text, position, 0
        begin = text[position]
        while at < len(text):
            char = text[at]
            if char in "'\"":
                at = self.quoted(at)
            elif char == "#" and begin == "(" and text[at - 1] in " \t\n":  # a comment in an array
                at = self._line_end(at)
            elif char == "\\":
                at += 2
            else:
                depth += (char == begin) - (char == ENDS[begin])
                at += 1
                if not depth:
                    return at
        raise self._refuse(self._at(position), f"'{begin}' does not end")
