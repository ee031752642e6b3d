"""FROM of a view: one stream, and references joined on their primary keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from sqlglot import exp

from schemas.errors import Problem
from schemas.language.reference import Reference
from schemas.language.scope import Scope
from schemas.language.statement import Statement
from schemas.language.stream import Stream


def scope(
    statement: Statement,
    select: exp.Select,
    streams: Mapping[str, Stream],
    references: Mapping[str, Reference],
) -> tuple[Scope | None, list[Problem]]:
    """What the view reads from, or the problems in it."""
    source = select.args.get("from_")
    table = source.this if source is not None else None
    if not isinstance(table, exp.Table) or not _plain(table):
        got = table.sql("duckdb")[:60] if table is not None else "no FROM"
        message = f"{statement.subject} must read FROM one stream, by its name alone; got {got}"
        return None, [statement.problem(message, source or select, "FROM" if source else "")]
    stream = streams.get(table.name.lower())
    if stream is None:
        known = table.name.lower() in references
        what = "a reference" if known else "which no CREATE STREAM declares"
        hint = "" if known else _close(table.name, streams)
        message = f"{statement.subject} must read FROM a stream; got {table.name!r}, {what}{hint}"
        return None, [statement.problem(message, table)]
    joined: dict[str, Reference] = {}
    problems: list[Problem] = []
    found = Scope(stream, table.alias or table.name, joined, select)
    for join in select.args.get("joins", []):
        reference, wrong = _joined(statement, join, streams, references)
        problems += wrong
        if reference is None:
            continue
        alias = join.this.alias or join.this.name
        joined[alias] = reference
        problems += _on_key(statement, join, alias, reference, found)
    return (None, problems) if problems else (found, [])


def _joined(
    statement: Statement,
    join: exp.Join,
    streams: Mapping[str, Stream],
    references: Mapping[str, Reference],
) -> tuple[Reference | None, list[Problem]]:
    table = join.this
    name = table.name if isinstance(table, exp.Table) else ""
    if name.lower() in streams:
        message = f"{statement.subject} must read one stream; got a second, {name!r}"
        return None, [statement.problem(message, join)]
    reference = references.get(name.lower())
    if reference is None or not _plain(table):
        hint = _close(name, references) if reference is None else ""
        got = repr(name) if isinstance(table, exp.Table) and _plain(table) else table.sql("duckdb")
        message = f"{statement.subject} must join a reference (CREATE TABLE); got {got}{hint}"
        return None, [statement.problem(message, join)]
    side, kind, method = join.side.upper(), join.kind.upper(), join.method.upper()
    if (side, kind) not in (("LEFT", ""), ("LEFT", "OUTER"), ("", "INNER"), ("", "")) or method:
        words = " ".join(word for word in (method, side, kind) if word)
        message = f"{statement.subject} must join by LEFT JOIN or INNER JOIN; got {words} JOIN"
        return None, [statement.problem(message, join)]
    return reference, []


def _plain(table: exp.Table) -> bool:
    """Whether a table is named and nothing else: no schema, sample, pivot or moment."""
    alias = table.args.get("alias")
    others = [name for name, value in table.args.items() if value and name not in ("this", "alias")]
    named = isinstance(table.this, exp.Identifier)
    return named and not others and not (alias is not None and alias.args.get("columns"))


def _on_key(
    statement: Statement, join: exp.Join, alias: str, reference: Reference, found: Scope
) -> list[Problem]:
    """Joined on anything but its whole key, a reference could repeat an event."""
    key = {name.lower() for name in reference.columns.key}
    using = join.args.get("using")
    if using:
        named = {column.name.lower() for column in using}
    else:
        named = _equated(join.args.get("on"), alias, found)
    if named == key:
        return []
    wanted = " and ".join(sorted(key))
    got = " and ".join(sorted(named)) or (
        "another condition" if join.args.get("on") else "no condition"
    )
    message = (
        f"{statement.subject} must join {reference.name!r} on its primary key, {wanted}, "
        f"by USING or by equalities with AND; got {got}"
    )
    return [statement.problem(message, join)]


def _equated(condition: exp.Expr | None, alias: str, found: Scope) -> set[str]:
    """The reference's columns that a condition equates with something of the rows before it."""
    named: set[str] = set()
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        part = part.unnest() if part is not None else None
        if not isinstance(part, exp.EQ):
            return set()
        sides = [part.this, part.expression]
        own = [side for side in sides if _belongs(side, alias, found)]
        if len(own) != 1 or not isinstance(own[0], exp.Column):
            return set()
        named.add(own[0].name.lower())
    return named


def _belongs(node: exp.Expr, alias: str, found: Scope) -> bool:
    for column in node.find_all(exp.Column):
        if column.table.lower() == alias.lower():
            return True
        owner = None if column.table else found.owner(column.name)
        if owner is not None and owner.lower() == alias.lower():
            return True
    return False


def _close(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name.lower(), known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
