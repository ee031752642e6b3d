"""`WITH (key = value, ...)` of a definition."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot.tokenizer_core import Token, TokenType

FORM = "WITH (name = value, ...), a value a quoted text or a whole number"


@dataclass(frozen=True)
class Option:
    """One `name = value`; `offset` is where the name stands in the file."""

    name: str
    value: str | int
    offset: int


def parse(tokens: Sequence[Token]) -> tuple[tuple[Option, ...], Token | None]:
    """The options between the parentheses, or the token that should not be where it is; `tokens`
    starts at the opening one."""
    options: list[Option] = []
    at = 0
    while at + 4 < len(tokens):
        opening, name, equals, value, end = tokens[at : at + 5]
        if opening.token_type != (TokenType.COMMA if at else TokenType.L_PAREN):
            return (), opening
        if equals.token_type != TokenType.EQ:
            return (), equals
        digits = value.token_type == TokenType.NUMBER and value.text.isdigit()
        if value.token_type != TokenType.STRING and not digits:
            return (), value
        parsed = int(value.text) if digits else value.text
        options.append(Option(name.text.lower(), parsed, name.start))
        at += 4
        if end.token_type == TokenType.R_PAREN:
            return (tuple(options), None) if at + 1 == len(tokens) else ((), tokens[at + 1])
    return (), tokens[-1]


def read(
    options: Sequence[Option], subject: str, allowed: Mapping[str, type]
) -> tuple[dict[str, str | int], list[tuple[int, str]]]:
    """The options by name; with its offset, every unknown, repeated or mistyped one."""
    values: dict[str, str | int] = {}
    wrong: list[tuple[int, str]] = []
    for option in options:
        message = _wrong(subject, option, allowed, values)
        if message:
            wrong.append((option.offset, message))
        else:
            values[option.name] = option.value
    return values, wrong


def _wrong(
    subject: str, option: Option, allowed: Mapping[str, type], seen: Mapping[str, str | int]
) -> str | None:
    expected = allowed.get(option.name)
    if expected is None:
        close = difflib.get_close_matches(option.name, allowed, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        known = ", ".join(sorted(allowed))
        return f"option of {subject} must be one of {known}; got {option.name!r}{hint}"
    if option.name in seen:
        return f"option {option.name!r} of {subject} must stand once; got it twice"
    if not isinstance(option.value, expected):
        kind = "a quoted text" if expected is str else "a whole number"
        return f"option {option.name!r} of {subject} must be {kind}; got {option.value!r}"
    return None
