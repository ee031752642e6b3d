"""One statement of a definition file, parsed, with its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from schemas.errors import Problem
from schemas.language import place
from schemas.language.options import Option

Kind = Literal["stream", "table", "view"]
PARENTHESES = {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}
ENCLOSED = {**PARENTHESES, TokenType.L_BRACKET: 1, TokenType.R_BRACKET: -1}


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
        found = place.span(node) if node is not None else None
        first = self.tokens[0].start
        if word:
            offset = None if found is None else first + found[0]
            known = [t.start for t in self.tokens if word in t.text.upper().split()[:1]]
            before = [start for start in known if offset is not None and start <= offset]
            at = max(before) if before else min(known, default=offset)
            if at is not None and at != offset:
                return self.problem_at(message, at)
        if found is None:
            return self.problem_at(message, self.tokens[self.query].start)
        start, end = self._whole(first + found[0], first + found[1])
        if isinstance(node, exp.Func):
            start, end = self._with_name(node, start, end)
        return self.problem_at(message, start, end - start)

    def problem_behind(self, message: str, name: exp.Expr, word: str = "") -> Problem:
        """A problem at the first `word` behind a column's name; without one, at its type, or at the
        name where there is none."""
        at = self._at(name)
        if word:
            words = (t.start for t in self.tokens[at + 1 :] if t.text.upper() == word.upper())
            return self.problem_at(message, next(words, self.tokens[at].start))
        typed = self._type_after(at)
        if not typed:
            return self.problem_at(message, self.tokens[at].start)
        return self.problem_at(message, typed[0].start, typed[-1].end + 1 - typed[0].start)

    def type_of(self, name: exp.Expr) -> str:
        """The type of a column as it was written."""
        typed = self._type_after(self._at(name))
        return self.source[typed[0].start : typed[-1].end + 1] if typed else ""

    def _at(self, name: exp.Expr) -> int:
        """The number of the token that a name is."""
        start = self.tokens[0].start + (place.of(name) or 0)
        return next(at for at, token in enumerate(self.tokens) if token.start >= start)

    def _type_after(self, at: int) -> tuple[Token, ...]:
        """The tokens of a type: its word and what follows in parentheses or brackets."""
        until, depth = at + 2, 0
        if self.tokens[at + 1].token_type in (TokenType.COMMA, TokenType.R_PAREN):
            return ()
        while until < len(self.tokens):
            kind = self.tokens[until].token_type
            depth += ENCLOSED.get(kind, 0)
            if depth < 0 or (depth == 0 and ENCLOSED.get(kind) != -1):
                break
            until += 1
        return self.tokens[at + 1 : until]

    def problem_of_name(self, message: str) -> Problem:
        """A problem at the name of the definition."""
        return self.problem_at(message, self.tokens[2].start)

    def problem_of_option(self, message: str, name: str) -> Problem:
        """A problem at the value that was given for an option, or at the definition's name."""
        found = (option.value_offset for option in self.options if option.name == name)
        return self.problem_at(message, next(found, self.tokens[2].start))

    def problem_in_body(self, message: str, offset: int | None) -> Problem:
        """A problem at an offset that was counted from the start of the query."""
        return self.problem_at(message, self.tokens[self.query].start + (offset or 0))

    def word_in_body(self, offset: int) -> str:
        """The word, in lower case, at an offset that was counted from the start of the query."""
        start = self.tokens[self.query].start + offset
        return next((token.text.lower() for token in self.tokens if token.start == start), "")

    def problem_at(self, message: str, offset: int, length: int = 0) -> Problem:
        """A problem at an offset of the file: of some characters, or of the word there."""
        length = length or next(
            (token.end + 1 - offset for token in self.tokens if token.start <= offset <= token.end),
            1,
        )
        return place.problem(self.file, self.source, offset, message, length)

    def written(self, node: exp.Expr) -> str:
        """A piece of the statement as it was written, on one line."""
        found = place.span(node)
        if found is None:
            return node.sql("duckdb")
        first = self.tokens[0].start
        start, end = self._whole(first + found[0], first + found[1])
        return " ".join(self.source[start:end].split())

    def within(self, node: exp.Expr) -> tuple[int, int] | None:
        """Offsets in the file of all that stands between the parentheses of the CHECK (...) or
        AS (...) that `node` is the expression of."""
        found = place.span(node)
        if found is None:
            return None
        at = sum(token.start < self.tokens[0].start + found[0] for token in self.tokens)
        depth = 0
        while at > 1:
            at -= 1
            depth += PARENTHESES.get(self.tokens[at].token_type, 0)
            if depth > 0 and self.tokens[at - 1].text.upper() in ("CHECK", "AS"):
                break
        opening, depth = self.tokens[at], 1
        for token in self.tokens[at + 1 :]:
            depth += PARENTHESES.get(token.token_type, 0)
            if depth == 0:
                return opening.end + 1, token.start
        return None

    def _with_name(self, node: exp.Func, start: int, end: int) -> tuple[int, int]:
        """Arguments with the function that they are given to, whose place is not always kept."""
        at = sum(token.start < start for token in self.tokens)
        name = node.sql("duckdb").split("(", 1)[0].lower()
        if self.tokens[at - 1].token_type == TokenType.L_PAREN:
            before = self.tokens[at - 2]
            if before.text.lower() == name:
                return self._whole(before.start, end)
        return start, end

    def _whole(self, start: int, end: int) -> tuple[int, int]:
        """A piece of the text with the parentheses that close and open in it."""
        before = [token for token in self.tokens if token.start < start]
        after = [token for token in self.tokens if token.start >= end]
        lacking, depth = 0, 0
        for token in self.tokens:
            if start <= token.start < end:
                depth += PARENTHESES.get(token.token_type, 0)
                lacking = min(lacking, depth)
        depth -= lacking
        for token in reversed(before):
            if lacking == 0:
                break
            lacking += PARENTHESES.get(token.token_type, 0)
            start = token.start
        for token in after:
            if depth == 0:
                break
            depth += PARENTHESES.get(token.token_type, 0)
            end = token.end + 1
        return start, end
