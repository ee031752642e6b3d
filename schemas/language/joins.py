"""FROM of a view: one stream, and references joined on their primary keys.

By LEFT or INNER JOIN an event meets the row of its key; by ASOF LEFT JOIN, of the rows that share
all but the last column of the key, the newest by that column that is not after the event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlglot import exp

from schemas import column_types
from schemas.errors import Problem
from schemas.language import names, near, place
from schemas.language.binder import Binder
from schemas.language.reference import Reference
from schemas.language.scope import Scope
from schemas.language.statement import Statement
from schemas.language.stream import Stream

ASOF = "ASOF"
ALLOWED = "LEFT JOIN, INNER JOIN or ASOF LEFT JOIN"
TIMES = ("DATE", "TIMESTAMP")


def scope(
    statement: Statement,
    select: exp.Select,
    streams: Mapping[str, Stream],
    references: Mapping[str, Reference],
    others: Mapping[str, str],
) -> tuple[Scope | None, list[Problem]]:
    """What the view reads from, or the problems in it. `others` says what a name stands for that is
    neither; where that is nothing, its definition cannot be read and all was told there."""
    source = select.args.get("from_")
    table = source.this if source is not None else None
    if not isinstance(table, exp.Table) or not _plain(table):
        got = table.sql("duckdb")[:60] if table is not None else "no FROM"
        message = f"{statement.subject} must read FROM one stream, by its name alone; got {got}"
        return None, [statement.problem(message, source, "FROM" if source else "")]
    stream = streams.get(table.name.lower())
    if stream is None:
        what = "a reference" if table.name.lower() in references else others.get(table.name.lower())
        if what == "":
            return None, []
        hint = "" if what else near.hint_or_all(table.name, (s.name for s in streams.values()))
        what = what or "which no CREATE STREAM declares"
        message = f"{statement.subject} must read FROM a stream; got {table.name!r}, {what}{hint}"
        return None, [statement.problem(message, table.this)]
    joined: dict[str, Reference] = {}
    problems: list[Problem] = []
    found = Scope(stream, (table.alias or table.name).lower(), joined, select)
    whole = True
    for join in select.args.get("joins", []):
        reference, wrong = _joined(statement, join, streams, references, others)
        problems += wrong
        if reference is None:
            whole = False
            continue
        alias = (join.this.alias or join.this.name).lower()
        joined[alias] = reference
        problems += _on_key(statement, join, alias, reference, found)
    return (None if problems or not whole else found), problems


def typed(
    statement: Statement, select: exp.Select, found: Scope, binder: Binder
) -> Iterator[Problem]:
    """Joins that compare values of two kinds: the engine would cast one, and a reference's keys
    that differ may then be equal, so that an event would meet several rows."""
    for join in select.args.get("joins", []):
        alias = (join.this.alias or join.this.name).lower()
        for own, other in _sides(join, alias, found):
            pair = f"{found.qualified(own).sql('duckdb')}, {found.qualified(other).sql('duckdb')}"
            (_, ours), (_, theirs) = binder.describe(f"SELECT {pair} {found.source({})}")
            if ours != theirs and not _alike(ours, theirs):
                message = (
                    f"{statement.subject} must join {join.this.name!r} by values of one type; got "
                    f"{theirs} for its {own.name}, {ours}. CAST them to {ours}"
                )
                yield statement.problem(message, other)


def _sides(join: exp.Join, alias: str, found: Scope) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """The reference's column and what it is compared with, of a join that was found right."""
    for name in join.args.get("using") or []:
        yield exp.column(name.copy(), alias), exp.column(name.copy(), found.owner(name.name))
    condition = join.args.get("on")
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        if part is not None:
            sides = [part.unnest().this, part.unnest().expression]
            sides.sort(key=lambda side: not _belongs(side, alias, found))
            yield sides[0], sides[1]


def _alike(one: str, other: str) -> bool:
    numbers = [kind == "HUGEINT" or column_types.number(kind) for kind in (one, other)]
    return all(numbers) or all(kind.startswith(TIMES) for kind in (one, other))


def _joined(
    statement: Statement,
    join: exp.Join,
    streams: Mapping[str, Stream],
    references: Mapping[str, Reference],
    others: Mapping[str, str],
) -> tuple[Reference | None, list[Problem]]:
    table = join.this
    name = table.name if isinstance(table, exp.Table) else ""
    if name.lower() in streams:
        message = (
            f"{statement.subject} must read one stream; got a second, {name!r}. Declare a view "
            "for each and join the views in the query"
        )
        return None, [statement.problem(message, table.this)]
    reference = references.get(name.lower())
    if reference is None or not _plain(table):
        what = others.get(name.lower())
        if what == "":
            return None, []
        known = (each.name for each in references.values())
        hint = near.hint_or_all(name, known) if reference is None else ""
        hint = f", {what}" if what else hint
        got = repr(name) if isinstance(table, exp.Table) and _plain(table) else table.sql("duckdb")
        message = f"{statement.subject} must join a reference (CREATE TABLE); got {got}{hint}"
        named = isinstance(table, exp.Table) and _plain(table)
        return None, [statement.problem(message, table.this if named else table)]
    side, kind, method = join.side.upper(), join.kind.upper(), join.method.upper()
    left = (("LEFT", ""), ("LEFT", "OUTER"))
    kinds = left if method == ASOF else (*left, ("", "INNER"), ("", ""))
    if (side, kind) not in kinds or method not in ("", ASOF):
        words = " ".join(word for word in (method, side, kind) if word)
        allowed = "ASOF LEFT JOIN, which keeps every event" if method == ASOF else ALLOWED
        message = f"{statement.subject} must join by {allowed}; got {words} JOIN"
        return None, [statement.problem(message, join, words.split()[0])]
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
    asof = join.method.upper() == ASOF
    last = reference.columns.key[-1].lower() if asof and key else ""
    condition = join.args.get("on")
    columns = [exp.column(each) for each in join.args.get("using") or []]
    columns += condition.find_all(exp.Column) if condition else []
    unknown = [each for each in columns if found.owner(each.name, each.table) is None]
    if unknown:
        tables, called = found.names(), found.called()
        return [
            statement.problem(f"{statement.subject}: {names.unknown(each, tables, called)}", each)
            for each in unknown
        ]
    if not key:
        return []
    using = [column.name.lower() for column in join.args.get("using") or []]
    if using:
        right = set(using) == key and (not asof or using[-1] == last)
        named = set(using)
    else:
        equated, since = _compared(condition, alias, found)
        right = (equated, since) == (key - {last}, {last} if asof else set())
        named = equated | since
    if not right:
        wanted = " and ".join(sorted(key))
        how = "by USING or by equalities with AND"
        if asof:
            wanted = ", ".join(reference.columns.key)
            how = (
                f"by USING in that order, or by equalities with AND and, for the last, "
                f"{found.alias}.column >= {alias}.{reference.columns.key[-1]} (or >)"
            )
        got = " and ".join(sorted(named)) or ("another condition" if condition else "no condition")
        message = (
            f"{statement.subject} must join {reference.name!r} on its primary key, {wanted}, "
            f"{how}; got {got}"
        )
        if not asof and _has_inequality(condition):
            message += ". ASOF LEFT JOIN takes the newest row that is not after an event"
        at = condition if condition is not None and place.of(condition) is not None else None
        return [statement.problem(message, at or (join.args.get("using") or [join.this])[0])]
    column = reference.columns.named(last)
    if column is not None and not (column.type in TIMES or column_types.number(column.type)):
        message = (
            f"{statement.subject} must join {reference.name!r} by ASOF on a key that ends with a "
            f"DATE, a TIMESTAMP or a number; got {column.name}, {column.type}"
        )
        return [statement.problem(message, join.this)]
    return []


def _compared(condition: exp.Expr | None, alias: str, found: Scope) -> tuple[set[str], set[str]]:
    """The reference's columns that a condition equates with something of the rows before it, and
    those from which on it takes that. Neither where it says anything else."""
    equated: set[str] = set()
    since: set[str] = set()
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        part = part.unnest() if part is not None else None
        if not isinstance(part, exp.EQ | exp.GTE | exp.GT | exp.LTE | exp.LT):
            return set(), set()
        sides = [part.this.unnest(), part.expression.unnest()]
        own = [side for side in sides if _belongs(side, alias, found)]
        if len(own) != 1 or not isinstance(own[0], exp.Column):
            return set(), set()
        if isinstance(part, exp.EQ):
            equated.add(own[0].name.lower())
        elif (own[0] is sides[1]) == isinstance(part, exp.GTE | exp.GT):
            since.add(own[0].name.lower())
        else:
            return set(), set()
    return equated, since


def _has_inequality(condition: exp.Expr | None) -> bool:
    return condition is not None and condition.find(exp.GTE, exp.GT, exp.LTE, exp.LT) is not None


def _belongs(node: exp.Expr, alias: str, found: Scope) -> bool:
    for column in node.find_all(exp.Column):
        if column.table.lower() == alias.lower():
            return True
        owner = None if column.table else found.owner(column.name)
        if owner is not None and owner.lower() == alias.lower():
            return True
    return False
