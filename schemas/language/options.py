"""`WITH (key = value, ...)` of a definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot.tokenizer_core import Token, TokenType

from schemas.language import near

FORM = "WITH (name = value, ...), a value a quoted text or a whole number"


@dataclass(frozen=True)
class Option:
    """One `name = value`; the offsets say where name and value stand in the file."""

    name: str
    value: str | int
    offset: int
    value_offset: int


def parse(tokens: Sequence[Token]) -> tuple[tuple[Option, ...], Token | None, str]:
    """The options between the parentheses, or the token that should not be where it is and what
    should stand there; `tokens` starts at the opening one."""
    options: list[Option] = []
    if tokens[0].token_type != TokenType.L_PAREN:
        return (), tokens[0], "("
    at = 1
    while at < len(tokens):
        name = tokens[at]
        if name.token_type in (TokenType.COMMA, TokenType.L_PAREN, TokenType.R_PAREN):
            return (), name, "the name of an option"
        if at + 1 >= len(tokens) or tokens[at + 1].token_type != TokenType.EQ:
            return (), tokens[min(at + 1, len(tokens) - 1)], "="
        value = tokens[min(at + 2, len(tokens) - 1)]
        digits = value.token_type == TokenType.NUMBER and value.text.isdigit()
        if value.token_type != TokenType.STRING and not digits:
            return (), value, "a value"
        parsed = int(value.text) if digits else value.text
        options.append(Option(name.text.lower(), parsed, name.start, value.start))
        end = tokens[min(at + 3, len(tokens) - 1)]
        if end.token_type == TokenType.R_PAREN:
            last = at + 4 >= len(tokens)
            return (tuple(options), None, "") if last else ((), tokens[at + 4], "a semicolon")
        if end.token_type != TokenType.COMMA:
            return (), end, "a comma or )"
        at += 4
    return (), tokens[-1], "the name of an option"


def meant(options: Sequence[Option], name: str) -> bool:
    """Whether an option was given, or another one that is told as a near miss of it."""
    return any(near.miss(option.name, [name]) for option in options)


def stray(token: Token, wanted: str) -> str:
    """What to write instead of a token that should not be where it is."""
    if wanted == "a value" and token.token_type in (TokenType.IDENTIFIER, TokenType.VAR):
        return f". A text stands in single quotes: '{token.text}'"
    return f" where {wanted} must stand"


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
        hint = near.hint(option.name, allowed)
        known = ", ".join(sorted(allowed))
        return f"option of {subject} must be one of {known}; got {option.name!r}{hint}"
    if option.name in seen:
        return f"option {option.name!r} of {subject} must stand once; got it twice"
    if not isinstance(option.value, expected):
        kind = "a quoted text" if expected is str else "a whole number"
        return f"option {option.name!r} of {subject} must be {kind}; got {option.value!r}"
    return None
