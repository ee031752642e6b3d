"""Text of definition files -> statements with line and column."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from schemas.errors import Problem
from schemas.language import near, options, place, syntax, unknown
from schemas.language.dialect import parsed
from schemas.language.statement import PARENTHESES, Kind, Statement
from schemas.language.unknown import ALLOWED, KINDS

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
RESERVED = frozenset({"raw", "everview", "main", "temp", "system", "information_schema"})
NESTED = "statement must be nested less deeply; declare generated columns for parts of it"
# it warns on the terminal about statements that it cannot read; those are problems here
logging.getLogger("sqlglot").setLevel(logging.ERROR)
# sqlglot marks the place in its messages by terminal escapes
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
# what it says of calls that it knows the arguments of
ARGUMENTS = re.compile(r"got '\)' where|the number of provided arguments")
# what it says of something that is not there, and what that is
LACKS = re.compile(r"required keyword: '(\w+)' missing|expecting (.+)")
WANTED = {"high": "AND", "to": "AS"}
UNEXPECTED = "invalid expression / unexpected token"


def parse(file: str, text: str) -> tuple[list[Statement], list[Problem]]:
    """Every statement of one file, and every problem that kept one from being read."""
    opened = place.unclosed(text)
    if opened is not None:
        offset, what = opened
        message = f"every string, name and comment must be closed; got a {what} that never ends"
        return [], [place.problem(file, text, offset, message)]
    try:
        tokens = list(sqlglot.tokenize(text, read="duckdb"))
    except TokenError:
        # a comment in a comment, which nest for this reader
        offset = max(text.rfind("/*"), text.rfind("{#"), 0)
        message = "file must be SQL to its end; got a comment in a comment that is not closed"
        return [], [place.problem(file, text, offset, message, 2)]
    statements: list[Statement] = []
    problems: list[Problem] = []
    for chunk, follows in _chunks(tokens):
        if follows:
            words = " ".join(token.text.upper() for token in chunk[:2])
            message = f"statement must end with a semicolon; got none before {words}"
            problems.append(_spanning(file, text, chunk[0], chunk[1], message))
        found = _statement(file, text, chunk)
        if isinstance(found, Statement):
            statements.append(found)
        else:
            problems.append(found)
    if not statements and not problems:
        message = f"file must hold {ALLOWED}; got no statement"
        problems.append(place.problem(file, text, 0, message))
    return statements, problems


def syntax_problem(statement: Statement, offset: int, stops: syntax.Stops) -> Problem | None:
    """What is wrong in a statement in which a parser stopped at an offset of the file, or None
    where that cannot be told."""
    fault = syntax.fault(statement.tokens, statement.source, offset, stops)
    if fault is None:
        return None
    message = f"{statement.subject}: {fault.message}"
    return statement.problem_at(message, fault.start, fault.end - fault.start)


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


def _chunks(tokens: list[Token]) -> Iterator[tuple[list[Token], bool]]:
    """The tokens of each statement, and whether no semicolon stands before it."""
    chunk: list[Token] = []
    follows = False
    for token, following in zip(tokens, [*tokens[1:], None], strict=False):
        if token.token_type == TokenType.SEMICOLON:
            if chunk:
                yield chunk, follows
            chunk, follows = [], False
            continue
        begins = token.token_type == TokenType.CREATE and following is not None
        if chunk and begins and following is not None and following.text.upper() in KINDS:
            yield chunk, follows
            chunk, follows = [], True
        chunk.append(token)
    if chunk:
        yield chunk, follows


def _spanning(
    file: str, text: str, first: Token, last: Token, message: str, about: str = ""
) -> Problem:
    return place.problem(file, text, first.start, message, last.end + 1 - first.start, about)


def _statement(file: str, text: str, tokens: list[Token]) -> Statement | Problem:
    about = ""

    def problem(token: Token, message: str, last: Token | None = None) -> Problem:
        return _spanning(file, text, token, last or token, message, about)

    kind = KINDS.get(tokens[1].text.upper()) if len(tokens) > 1 else None
    if tokens[0].text.upper() != "CREATE" or kind is None:
        first, last, message = unknown.statement(tokens)
        about = unknown.name(tokens)
        return problem(first, message, last)
    if len(tokens) < 3:
        message = f"CREATE {kind.upper()} must be followed by a name; got nothing"
        return problem(tokens[0], message, tokens[1])
    about = tokens[2].text
    name, wrong = _name(kind, tokens)
    if wrong:
        about = unknown.name(tokens)
        return problem(tokens[2], wrong, _glued(tokens)[-1])
    unclosed = syntax.unbalanced(tokens)
    if unclosed is not None:
        length = unclosed.end - unclosed.start
        message = f"{kind} {name!r}: {unclosed.message}"
        return place.problem(file, text, unclosed.start, message, length, about)
    misplaced = _around_columns(tokens) if kind != "view" else None
    if misplaced is not None:
        at_, message = misplaced
        return problem(at_, f"{kind} {name!r} must be CREATE {kind.upper()} name {message}")
    head = _head(tokens, kind)
    at = _with(head)
    found: tuple[options.Option, ...] = ()
    if at < len(head):
        found, stray, wanted = options.parse(head[at + 1 :] or head[at:])
        if stray is not None:
            message = f"options of {kind} {name!r} must be {options.FORM}; got {stray.text!r}"
            message += options.stray(stray, wanted)
            return problem(stray, message)
    if kind == "view" and (at > 3 or len(head) + 1 >= len(tokens)):
        stray = tokens[3] if at > 3 else tokens[-1]
        message = f"view {name!r} must be CREATE VIEW name [WITH (...)] AS SELECT ...; got"
        written = f"{message} {stray.text!r}" if at > 3 else f"{message} no query"
        missing = stray.text.upper() in ("SELECT", "FROM")
        return problem(stray, f"{written} without AS before it" if missing else written)
    query = len(head) + 1 if kind == "view" else 0
    tree = _tree(file, text, tokens, head, query)
    if isinstance(tree, exp.Create):
        return Statement(kind, name, file, text, tuple(tokens), tree, found, query)
    if isinstance(tree, Problem):
        return replace(tree, about=about)
    # a tree to tell the fault by
    draft = Statement(kind, name, file, text, tuple(tokens), exp.Create(), found, query)
    told = syntax_problem(draft, tree.offset, tree.stops)
    if told is None:
        told = draft.problem_at(f"{draft.subject}: {tree.message}", tree.offset)
    return replace(told, about=about)


def _name(kind: Kind, tokens: list[Token]) -> tuple[str, str | None]:
    """The name of a definition, and what is wrong with it."""
    name, following = tokens[2], [token.text for token in tokens[3:4]]
    glued = _glued(tokens)
    if len(glued) > 1:
        return "", name_problem("".join(token.text for token in glued))
    if following == ["."]:
        return "", f"name of a {kind} must be a name alone; got one with a dot"
    if name.text.upper() == "IF" and [word.upper() for word in following] == ["NOT"]:
        message = f"CREATE {kind.upper()} must be followed by a name; got IF NOT EXISTS"
        return "", f"{message}. Leave it out: `everview deploy` registers what is new or changed"
    wrong = name_problem(name.text)
    if not wrong and name.text.lower() in RESERVED:
        wrong = f"name {name.text!r} of a {kind} is reserved; choose another one"
    return name.text, wrong


def _glued(tokens: list[Token]) -> list[Token]:
    """A name with all that stands at it without a space: 2nd-view is three words for a parser."""
    glued = [tokens[2]]
    for token in tokens[3:]:
        word = token.text.isalnum() or token.token_type == TokenType.DASH
        if token.start != glued[-1].end + 1 or not word:
            break
        glued.append(token)
    return glued


def _around_columns(tokens: list[Token]) -> tuple[Token, str] | None:
    """What stands where the columns of a stream or a table, or its WITH, should."""
    form = "(columns) WITH (options)"
    if len(tokens) == 3:
        return tokens[2], f"{form}; got no columns"
    if tokens[3].token_type != TokenType.L_PAREN:
        return tokens[3], f"{form}; got {tokens[3].text!r} where ( must stand"
    depth = 0
    for at, token in enumerate(tokens[3:], 4):
        depth += PARENTHESES.get(token.token_type, 0)
        if depth == 0 and at < len(tokens) and tokens[at].token_type != TokenType.WITH:
            hint = near.hint(tokens[at].text, ["WITH"]) or " where WITH must stand"
            return tokens[at], f"{form}; got {tokens[at].text!r}{hint}"
        if depth == 0:
            return None
    return None


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


@dataclass(frozen=True)
class _Stopped:
    """Where and why the parser stopped, and the way to find how far it comes with a change."""

    offset: int
    message: str
    stops: syntax.Stops


def _tree(
    file: str, text: str, tokens: list[Token], head: list[Token], query: int
) -> exp.Create | Problem | _Stopped:
    """The statement without its options, which sqlglot would bend; places count from its start."""
    first, word = tokens[0].start, tokens[1]
    shown = text[first : tokens[-1].end + 1]
    at = _with(head)
    if at < len(head):
        begin, end = head[at].start - first, head[-1].end + 1 - first
        shown = shown[:begin] + _blank(shown[begin:end]) + shown[end:]
    begin, end = word.start - first, word.end + 1 - first
    shown = shown[:begin] + word.text.upper().replace("STREAM", "TABLE ") + shown[end:]
    # what it cannot read of a view it takes for a command, without a place
    body = tokens[query].start - first if query else 0

    def stops(changes: Sequence[tuple[int, int, str]]) -> int | None:
        changed = shown
        for start, until, instead in changes:
            changed = changed[: start - first] + instead + changed[until - first :]
        found = _error(_blank(changed[:body]) + changed[body:])
        return None if found is None else len(changed) - found[0]

    try:
        tree = parsed(shown)
        wrong = (
            None if isinstance(tree, exp.Create) else _error(_blank(shown[:body]) + shown[body:])
        )
    except ParseError as error:
        wrong = _told(error, shown)
    except RecursionError:
        return place.problem(file, text, first, NESTED)
    if wrong is not None:
        offset, message = wrong
        if first + offset == tokens[2].start:
            message = f"name {tokens[2].text!r} is a word of SQL; choose another one"
            return _spanning(file, text, tokens[2], tokens[2], message)
        called = _call(tokens, first + offset) if ARGUMENTS.match(message) else None
        if called is not None:
            offset = called.start - first
            message = f"function {called.text!r} must be called with the arguments that it takes"
        return _Stopped(first + offset, message if called else f"it must be SQL; {message}", stops)
    if isinstance(tree, exp.Create):
        return tree
    message = "query must be one plain SELECT" if query else f"statement must be {ALLOWED}"
    stray = tokens[query]
    return _spanning(file, text, stray, stray, f"{message}; got {stray.text}")


def _error(text: str) -> tuple[int, str] | None:
    """Where the parser stops in a text, and what it says."""
    try:
        parsed(text)
    except ParseError as error:
        return _told(error, text)
    return None


def _told(error: ParseError, text: str) -> tuple[int, str]:
    where = error.errors[0]
    mark = ESCAPES.sub("", where.get("highlight") or "")
    before = sum(len(line) + 1 for line in text.split("\n")[: where["line"] - 1])
    said = where["description"].split(" but got")[0].lower()
    offset = max(0, before + where["col"] - max(1, len(mark)))
    lacks = LACKS.match(said)
    if lacks is not None:
        wanted = lacks[2] or WANTED.get(lacks[1], "a value")
        return offset, f"got {mark!r} where {wanted} must stand"
    if said == UNEXPECTED:
        return offset, f"got {mark!r}, which cannot stand here"
    return offset, f"{said}; got {mark!r}"


def _call(tokens: Sequence[Token], offset: int) -> Token | None:
    """The name of the call that is closed at an offset."""
    at = next((at for at, token in enumerate(tokens) if token.start == offset), 0)
    if tokens[at].token_type != TokenType.R_PAREN:
        return None
    depth = 0
    for number in range(at, 0, -1):
        depth += PARENTHESES.get(tokens[number].token_type, 0)
        if depth == 0:
            return tokens[number - 1]
    return None


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
