"""The pieces of a query, each of which the engine is asked about alone, so that all errors are
found and not the first only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot.tokenizer_core import Token, TokenType

from schemas.language.binder import SqlError
from schemas.language.statement import ENCLOSED, Statement

CLAUSES = ("SELECT", "FROM", "WHERE", "GROUP BY", "HAVING", "ORDER BY", "LIMIT")


@dataclass(frozen=True)
class Piece:
    """An item of the select list or of GROUP BY, or the condition of WHERE: its SQL as a query, in
    which it stands from the offset `before` on, and its place in the file."""

    sql: str
    before: int
    start: int
    end: int

    def place(self, statement: Statement, error: SqlError) -> tuple[int, int]:
        """Offset in the file and length of what the engine refuses: where it says, or the text
        that it quotes, or the whole piece."""
        if error.offset is not None and error.offset >= self.before:
            return self.start + error.offset - self.before, 0
        for quoted in re.findall(r"""["'(]([^"'()]+)["')]""", error.message):
            for token in statement.tokens:
                if self.start <= token.start < self.end and token.text == quoted:
                    return token.start, 0
        return self.start, self.end - self.start


def of(statement: Statement) -> Iterator[Piece]:
    """The pieces of a view's query."""
    clauses: dict[str, list[list[Token]]] = {}
    depth, current = 0, ""
    for token in statement.tokens[statement.query :]:
        depth += ENCLOSED.get(token.token_type, 0)
        word = token.text.upper()
        if depth == 0 and word in CLAUSES and word not in clauses:
            current = word
            clauses[current] = [[]]
        elif current and depth == 0 and token.token_type == TokenType.COMMA:
            clauses[current].append([])
        elif current:
            clauses[current][-1].append(token)
    source = clauses.get("FROM", [[]])
    if not source[0]:
        return
    text = statement.source
    rows = f"FROM {text[source[0][0].start : source[-1][-1].end + 1]}"
    forms = {
        "SELECT": ("SELECT ", f"\n{rows}"),
        "WHERE": (f"SELECT 1 {rows}\nWHERE ", ""),
        "GROUP BY": (f"SELECT 1 {rows}\nGROUP BY ", ""),
    }
    for clause, (head, tail) in forms.items():
        for tokens in clauses.get(clause, []):
            if tokens:
                start, end = tokens[0].start, tokens[-1].end + 1
                yield Piece(f"{head}{text[start:end]}{tail}", len(head), start, end)
