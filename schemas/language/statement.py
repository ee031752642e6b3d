"""One statement of a definition file, parsed, with its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sqlglot import exp
from sqlglot.tokenizer_core import Token

from schemas.errors import Problem
from schemas.language import place
from schemas.language.options import Option

Kind = Literal["stream", "table", "view"]


@dataclass(frozen=True)
class Statement:
    """`CREATE STREAM`, `CREATE TABLE` or `CREATE VIEW` as it stands in the file `source`.

    `tokens` are all of its tokens; the query of a view starts at the one numbered `query`.
    """

    kind: Kind
    name: str
    file: str
    source: str = field(repr=False)
    tokens: tuple[Token, ...] = field(repr=False, compare=False)
    tree: exp.Create = field(repr=False, compare=False)
    options: tuple[Option, ...] = ()
    query: int = 0

    @property
    def subject(self) -> str:
        """How an error calls this definition."""
        return f"{self.kind} {self.name!r}"

    @property
    def text(self) -> str:
        """The whole statement as written."""
        return self.source[self.tokens[0].start : self.tokens[-1].end + 1]

    @property
    def body(self) -> str:
        """The query of a view as written."""
        return self.source[self.tokens[self.query].start : self.tokens[-1].end + 1]

    @property
    def line(self) -> int:
        """Where the statement starts."""
        return place.shown(self.source, self.tokens[0].start)[0]

    def option(self, name: str) -> str | int | None:
        """The value that was given for an option, if one was."""
        return next((option.value for option in self.options if option.name == name), None)

    def problem(self, message: str, node: exp.Expr | None = None, word: str = "") -> Problem:
        """A problem at `node`, or at the last `word` before it, or at the first one where the
        parser kept no place for it, or else where the query or the statement starts."""
        found = place.of(node) if node is not None else None
        offset = None if found is None else self.tokens[0].start + found
        if word:
            known = [t.start for t in self.tokens if word in t.text.upper().split()[:1]]
            before = [start for start in known if offset is not None and start <= offset]
            offset = max(before) if before else min(known, default=offset)
        return self.problem_at(message, self.tokens[self.query].start if offset is None else offset)

    def problem_of_name(self, message: str) -> Problem:
        """A problem at the name of the definition."""
        return self.problem_at(message, self.tokens[2].start)

    def problem_of_option(self, message: str, name: str) -> Problem:
        """A problem at the value that was given for an option, or at the statement's start."""
        found = (option.offset for option in self.options if option.name == name)
        return self.problem_at(message, next(found, self.tokens[0].start))

    def problem_in_body(self, message: str, offset: int | None) -> Problem:
        """A problem at an offset that was counted from the start of the query."""
        return self.problem_at(message, self.tokens[self.query].start + (offset or 0))

    def problem_at(self, message: str, offset: int) -> Problem:
        """A problem at an offset of the file."""
        return Problem(self.file, *place.shown(self.source, offset), message)
