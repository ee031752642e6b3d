"""Why a statement cannot be parsed: the word that was meant, the comma or clause that is missing.

A guess is told only where the statement can be parsed with it, or gets further than without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlglot.tokenizer_core import Token, TokenType

from schemas.language import near
from schemas.language.statement import ENCLOSED, PARENTHESES

ORDER = ("SELECT", "FROM", "WHERE", "GROUP BY", "HAVING", "QUALIFY", "ORDER BY", "LIMIT")
WORDS = (
    *("SELECT", "FROM", "WHERE", "GROUP", "GROUP BY", "HAVING", "ORDER", "LIMIT", "FILTER"),
    *("LEFT", "INNER", "JOIN", "USING", "AND", "NOT", "NULL", "BETWEEN", "CASE", "WHEN"),
    *("THEN", "ELSE", "END", "PRIMARY", "KEY", "CHECK", "GENERATED", "ALWAYS", "WITH", "ILIKE"),
    *("LIKE", "INTERVAL", "YEAR", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND"),
)
"""Words of SQL that are looked for where a parser stopped."""

OPERATORS = {"=>": ">=", "=<": "<=", "=!": "!=", "&&": "AND", "||": "OR", "!": "NOT "}
BEFORE_PARENTHESES = ("FILTER", "CHECK", "KEY", "USING", "WITH")
LOOK_BACK = 3
# how much of a word of SQL must agree
SIMILAR = 0.65


@dataclass(frozen=True)
class Fault:
    """What is wrong, from an offset of the file to behind its last character."""

    start: int
    end: int
    message: str


Stops = Callable[[Sequence[tuple[int, int, str]]], int | None]
"""How many characters are left where a parser stops, with some pieces (start, end, what to put
there) changed; None where it does not."""


def unbalanced(tokens: Sequence[Token]) -> Fault | None:
    """The first parenthesis that is not closed or was not opened."""
    opened: list[Token] = []
    for token in tokens:
        if token.token_type == TokenType.L_PAREN:
            opened.append(token)
        elif token.token_type == TokenType.R_PAREN and not opened:
            return _at(token, "every ) must have a ( before it; got one without")
        elif token.token_type == TokenType.R_PAREN:
            opened.pop()
    if opened:
        return _at(opened[-1], "every ( must be closed by a ); got one that is not")
    return None


def fault(tokens: Sequence[Token], text: str, offset: int, stops: Stops) -> Fault | None:
    """What is wrong in a statement (its tokens, and the file's text) in which a parser stopped at
    an offset of the file."""
    at = sum(token.start < offset for token in tokens)
    certain = (
        _quotes(tokens),
        _name(tokens),
        _filter(tokens, text),
        _empty(tokens),
        _clauses(tokens),
        _case(tokens),
        _bare(tokens, text),
    )
    return next(filter(None, certain), None) or _guess(tokens, at, stops)


def _at(token: Token, message: str, last: Token | None = None) -> Fault:
    return Fault(token.start, (last or token).end + 1, message)


def _clauses(tokens: Sequence[Token]) -> Fault | None:
    """A clause behind one that it must stand before."""
    depth, latest = 0, ""
    for token in tokens:
        depth += ENCLOSED.get(token.token_type, 0)
        word = " ".join(token.text.upper().split())
        if depth == 0 and word in ORDER:
            if latest and ORDER.index(word) < ORDER.index(latest):
                return _at(token, f"{word} must stand before {latest}; got it behind")
            latest = word
    return None


def _filter(tokens: Sequence[Token], text: str) -> Fault | None:
    """`count(*) WHERE ...` in a select list: the condition of an aggregate without FILTER."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += ENCLOSED.get(token.token_type, 0)
        if token.token_type == TokenType.FROM and depth == 0:
            return None
        if token.token_type != TokenType.WHERE or at == 0:
            continue
        opened = tokens[at - 1].token_type == TokenType.L_PAREN
        number = at - 2 if opened else at - 1
        bare = tokens[number].token_type == TokenType.FILTER and not opened
        before = tokens[number - 1 if bare else number]
        if before.token_type != TokenType.R_PAREN or depth != (1 if opened else 0):
            continue
        call = _opening(tokens, tokens.index(before)) - 1
        ends = (TokenType.ALIAS, TokenType.COMMA, TokenType.FROM, TokenType.R_PAREN)
        last = _until(tokens, at + 1, ends)
        written = " ".join(text[tokens[call].start : before.end + 1].split())
        condition = " ".join(text[tokens[at + 1].start : tokens[last].end + 1].split())
        message = (
            "the condition of one aggregate must stand in FILTER (...); got WHERE alone. Write "
            f"{written} FILTER (WHERE {condition})"
        )
        return _at(token, message)
    return None


def _opening(tokens: Sequence[Token], closing: int) -> int:
    """The number of the parenthesis that one closes."""
    depth = 0
    for at in range(closing, -1, -1):
        depth += PARENTHESES.get(tokens[at].token_type, 0)
        if depth == 0:
            return at
    return 1


def _until(tokens: Sequence[Token], at: int, ends: Sequence[TokenType]) -> int:
    """The number of the last token before one of `ends`, outside of parentheses."""
    depth = 0
    while at < len(tokens) and not (depth == 0 and tokens[at].token_type in ends):
        depth += ENCLOSED.get(tokens[at].token_type, 0)
        at += 1
    return at - 1


def _quotes(tokens: Sequence[Token]) -> Fault | None:
    """Quotes that other engines have."""
    quote = next((token for token in tokens if token.text == "`"), None)
    message = "names must stand in double quotes or none, texts in single quotes; got `"
    return _at(quote, message) if quote else None


def _name(tokens: Sequence[Token]) -> Fault | None:
    """A word of SQL behind the AS of a column."""
    depth, inside = 0, False
    for token, following in pairwise(tokens):
        depth += ENCLOSED.get(token.token_type, 0)
        inside = inside or token.token_type == TokenType.SELECT
        named = inside and depth == 0 and token.token_type == TokenType.ALIAS
        if named and following.text.upper() in ORDER:
            message = f"name must be no word of SQL; got {following.text!r}. Choose another one"
            return _at(following, message)
    return None


def _empty(tokens: Sequence[Token]) -> Fault | None:
    """A clause with nothing in it."""
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        word = " ".join(token.text.upper().split())
        end = following is None or following.token_type == TokenType.R_PAREN
        if word in ORDER and (end or (following is not None and following.text.upper() in ORDER)):
            what = "a condition" if word in ("WHERE", "HAVING") else "a name or an expression"
            return _at(token, f"{word} must be followed by {what}; got nothing")
    return None


def _bare(tokens: Sequence[Token], text: str) -> Fault | None:
    """CHECK, IN and FILTER without the parentheses that they need, or inside of others."""
    for at, token in enumerate(tokens[:-1]):
        word, following = token.text.upper(), tokens[at + 1]
        opened = following.token_type == TokenType.L_PAREN
        if word == "CHECK" and not opened:
            last = _until(tokens, at + 1, (TokenType.COMMA, TokenType.R_PAREN))
            said = " ".join(text[following.start : tokens[last].end + 1].split())
            return _at(token, f"CHECK must be followed by (...); got none. Write CHECK ({said})")
        if word == "IN" and not opened and following.token_type == TokenType.STRING:
            said = text[following.start : following.end + 1]
            return _at(token, f"IN must be followed by (...); got none. Write IN ({said}, ...)")
        if word == "FILTER" and opened and tokens[at - 1].token_type != TokenType.R_PAREN:
            message = "FILTER must stand behind the ) of its aggregate: sum(x) FILTER (WHERE ...)"
            return _at(token, f"{message}; got it inside")
    return None


def _case(tokens: Sequence[Token]) -> Fault | None:
    """CASE without END."""
    opened: list[Token] = []
    for token in tokens:
        if token.token_type == TokenType.CASE:
            opened.append(token)
        elif token.token_type == TokenType.END and opened:
            opened.pop()
    message = "CASE must be closed by END; got none. Write CASE WHEN ... THEN ... ELSE ... END"
    return _at(opened[-1], message) if opened else None


def _guess(tokens: Sequence[Token], at: int, stops: Stops) -> Fault | None:
    """The first change of what stands around the token `at` that gets a parser further."""
    now = stops(())
    best: tuple[int, Fault] | None = None
    for found, change in _changes(tokens, at):
        left = stops([change])
        if left is None:
            return found
        if now is not None and left < now and (best is None or left < best[0]):
            best = left, found
    return best[1] if best else None


Change = tuple[Fault, tuple[int, int, str]]
"""A fault, and the change that mends it."""


def _changes(tokens: Sequence[Token], at: int) -> Iterator[Change]:
    yield from _words(tokens, at)
    yield from _by(tokens, at)
    if at >= len(tokens) or at == 0:
        return
    token, before = tokens[at], tokens[at - 1]
    for each in (before, token):
        if each.text in OPERATORS:
            instead = OPERATORS[each.text]
            message = f"operator must be one of SQL; got {each.text!r}; did you mean {instead!r}?"
            yield _at(each, message), (each.start, each.end + 1, instead)
    if token.token_type == TokenType.COMMA and before.token_type == TokenType.COMMA:
        message = "items must have one comma between them; got another. Leave it out"
        yield _at(token, message), (token.start, token.end + 1, "")
    following = tokens[at + 1] if at + 1 < len(tokens) else None
    if token.token_type == TokenType.COMMA and following is not None:
        message = f"a comma must be followed by another item; got {following.text!r}. Leave it out"
        yield _at(token, message), (token.start, token.end + 1, "")
    if _clause(tokens, at) in ("WHERE", "HAVING", "FROM"):
        return
    # a call is stopped at by its parenthesis
    late = token.token_type == TokenType.L_PAREN and before.token_type == TokenType.VAR
    item = before if late else token
    begins = item.token_type in (TokenType.VAR, TokenType.IDENTIFIER, TokenType.CASE)
    if not begins or before.token_type == TokenType.L_PAREN:
        return
    message = f"items must have a comma between them; got none before {item.text!r}"
    yield _at(item, message), (item.start, item.start, ", ")


def _clause(tokens: Sequence[Token], at: int) -> str:
    """The clause that a token stands in, outside of parentheses that opened before it."""
    depth = 0
    for token in reversed(tokens[:at]):
        depth += ENCLOSED.get(token.token_type, 0)
        word = " ".join(token.text.upper().split())
        if depth == 0 and word in ORDER:
            return word
    return ""


def _words(tokens: Sequence[Token], at: int) -> Iterator[Change]:
    """Words around a place that are nearly words of SQL."""
    numbers = [at - 1, at, *range(at - 2, at - 1 - LOOK_BACK, -1), at + 1]
    for number in numbers:
        if not 0 <= number < len(tokens) or tokens[number].token_type != TokenType.VAR:
            continue
        token = tokens[number]
        opens = number + 1 < len(tokens) and tokens[number + 1].token_type == TokenType.L_PAREN
        close = near.miss(token.text, BEFORE_PARENTHESES if opens else WORDS, SIMILAR)
        if close and close != token.text.upper():
            message = f"a word of SQL must stand here; got {token.text!r}; did you mean {close}?"
            yield _at(token, message), (token.start, token.end + 1, close)


def _by(tokens: Sequence[Token], at: int) -> Iterator[Change]:
    """GROUP or ORDER without BY, which are no words of SQL alone."""
    for token in tokens[max(0, at - 2) : at + 1]:
        if token.text.upper() in ("GROUP", "ORDER"):
            word = token.text.upper()
            message = f"{word} must be followed by BY; got it alone"
            yield _at(token, message), (token.start, token.end + 1, f"{word} BY")
