"""Text of definition files -> statements with line and column."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from schemas.errors import Problem
from schemas.language import options, place
from schemas.language.dialect import Verbatim
from schemas.language.statement import Kind, Statement

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
RESERVED = frozenset({"raw", "everview", "main", "temp", "system", "information_schema"})
ALLOWED = "CREATE STREAM, CREATE TABLE or CREATE VIEW"
NESTED = "statement must be nested less deeply; declare generated columns for parts of it"
KINDS: dict[str, Kind] = {"STREAM": "stream", "TABLE": "table", "VIEW": "view"}
# it warns on the terminal about statements that it cannot read; those are problems here
logging.getLogger("sqlglot").setLevel(logging.ERROR)
# sqlglot marks the place in its messages by terminal escapes
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def parse(file: str, text: str) -> tuple[list[Statement], list[Problem]]:
    """Every statement of one file, and every problem that kept one from being read."""
    opened = place.unclosed(text)
    if opened is not None:
        offset, what = opened
        message = f"every string, name and comment must be closed; got a {what} that never ends"
        return [], [Problem(file, *place.shown(text, offset), message)]
    try:
        tokens = list(sqlglot.tokenize(text, read="duckdb"))
    except TokenError as error:
        return [], [Problem(file, 1, 1, f"file must be SQL; got: {error}")]
    statements: list[Statement] = []
    problems: list[Problem] = []
    for chunk in _chunks(tokens):
        found = _statement(file, text, chunk)
        if isinstance(found, Statement):
            statements.append(found)
        else:
            problems.append(found)
    if not statements and not problems:
        problems.append(Problem(file, 1, 1, f"file must hold {ALLOWED}; got no statement"))
    return statements, problems


def name_problem(name: str) -> str | None:
    """Why `name` cannot name a definition or a column, or None.

    One rule for all of them, so that a name can stand in a path and in SQL as it is.
    """
    if not NAME.fullmatch(name):
        return (
            "name must start with a letter, hold only letters, digits and underscores, "
            f"and have at most 63 of them; got {name[:80]!r}"
        )
    return None


def _chunks(tokens: list[Token]) -> Iterator[list[Token]]:
    chunk: list[Token] = []
    for token in tokens:
        if token.token_type != TokenType.SEMICOLON:
            chunk.append(token)
        elif chunk:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _statement(file: str, text: str, tokens: list[Token]) -> Statement | Problem:
    def problem(token: Token, message: str) -> Problem:
        return Problem(file, *place.shown(text, token.start), message)

    words = [token.text for token in tokens[:2]]
    kind = KINDS.get(words[-1].upper())
    if words[0].upper() != "CREATE" or kind is None:
        message = f"statement must be {ALLOWED}; got {' '.join(words)[:80]}"
        return problem(tokens[0], f"{message}. Nothing else is run")
    if len(tokens) < 3:
        return problem(tokens[0], f"CREATE {kind.upper()} must be followed by a name; got nothing")
    name, wrong = _name(kind, tokens)
    if wrong:
        return problem(tokens[2], wrong)
    head = _head(tokens, kind)
    at = _with(head)
    found: tuple[options.Option, ...] = ()
    if at < len(head):
        found, stray = options.parse(head[at + 1 :] or head[at:])
        if stray is not None:
            message = f"options of {kind} {name!r} must be {options.FORM}; got {stray.text!r}"
            return problem(stray, message)
    if kind == "view" and (at > 3 or len(head) + 1 >= len(tokens)):
        stray = tokens[3] if at > 3 else tokens[-1]
        message = f"view {name!r} must be CREATE VIEW name [WITH (...)] AS SELECT ...; got"
        return problem(stray, f"{message} {stray.text!r}" if at > 3 else f"{message} no query")
    tree = _tree(file, text, tokens, head)
    if isinstance(tree, Problem):
        return tree
    query = len(head) + 1 if kind == "view" else 0
    return Statement(kind, name, file, text, tuple(tokens), tree, found, query)


def _name(kind: Kind, tokens: list[Token]) -> tuple[str, str | None]:
    """The name of a definition, and what is wrong with it."""
    name, following = tokens[2], [token.text for token in tokens[3:4]]
    if following == ["."]:
        return "", f"name of a {kind} must be a name alone; got one with a dot"
    if name.text.upper() == "IF" and [word.upper() for word in following] == ["NOT"]:
        return "", f"CREATE {kind.upper()} must be followed by a name; got IF NOT EXISTS"
    wrong = name_problem(name.text)
    if not wrong and name.text.lower() in RESERVED:
        wrong = f"name {name.text!r} of a {kind} is reserved; choose another one"
    return name.text, wrong


def _head(tokens: list[Token], kind: Kind) -> list[Token]:
    """What stands before a view's AS; of a stream or a table everything."""
    depth = 0
    for at, token in enumerate(tokens if kind == "view" else []):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if depth == 0 and token.token_type == TokenType.ALIAS:
            return tokens[:at]
    return tokens


def _with(head: list[Token]) -> int:
    """Where the options of a head start: its last WITH outside of parentheses."""
    depth = 0
    for at in range(len(head) - 1, -1, -1):
        depth += {TokenType.L_PAREN: -1, TokenType.R_PAREN: 1}.get(head[at].token_type, 0)
        if depth == 0 and head[at].token_type == TokenType.WITH:
            return at
    return len(head)


def _tree(file: str, text: str, tokens: list[Token], head: list[Token]) -> exp.Create | Problem:
    """The statement without its options, which sqlglot would bend; places count from its start."""
    first, word = tokens[0].start, tokens[1]
    shown = text[first : tokens[-1].end + 1]
    at = _with(head)
    if at < len(head):
        begin, end = head[at].start - first, head[-1].end + 1 - first
        shown = shown[:begin] + _blank(shown[begin:end]) + shown[end:]
    begin, end = word.start - first, word.end + 1 - first
    shown = shown[:begin] + word.text.upper().replace("STREAM", "TABLE ") + shown[end:]

    def problem(offset: int, message: str) -> Problem:
        return Problem(file, *place.shown(text, first + offset), message)

    try:
        tree = sqlglot.parse_one(shown, read=Verbatim)
    except ParseError as error:
        where = error.errors[0]
        mark = ESCAPES.sub("", where.get("highlight") or "")
        before = sum(len(line) + 1 for line in shown.split("\n")[: where["line"] - 1])
        said = where["description"].split(" but got")[0].lower()
        offset = max(0, before + where["col"] - max(1, len(mark)))
        return problem(offset, f"statement must be SQL: {said}; got {mark!r}")
    except RecursionError:
        return problem(0, NESTED)
    if isinstance(tree, exp.Create):
        return tree
    message = "query must be one plain SELECT" if head != tokens else f"statement must be {ALLOWED}"
    stray = tokens[len(head) + 1] if len(head) + 1 < len(tokens) else tokens[0]
    return problem(stray.start - first, f"{message}; got {stray.text}")


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
