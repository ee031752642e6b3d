"""Definitions: statements of any origin, read together and checked against the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlglot import exp

from schemas.compile import fold, parse, present, sql
from schemas.compile.parse import named
from schemas.compile.partials import PartialTable
from schemas.engine import RECORDS_TABLE, EmptyTables, reserved_words
from schemas.errors import Problem
from schemas.language import engine_words, reference, refusals, stream, view
from schemas.language.binder import Binder, SqlError
from schemas.language.parser import NESTED
from schemas.language.reference import Reference
from schemas.language.statement import Statement
from schemas.language.stream import Stream
from schemas.language.table import Column
from schemas.language.view import View


@dataclass(frozen=True)
class Definitions:
    """Streams, references and views, each by its name in lower case."""

    streams: Mapping[str, Stream]
    references: Mapping[str, Reference]
    views: Mapping[str, View]


def read(
    statements: Iterable[Statement], unread: Iterable[str] = ()
) -> tuple[Definitions, list[Problem]]:
    """Everything that could be read, and every problem. Order does not matter. `unread` are names
    of definitions whose text is no statement: nothing is said of what reads from them."""
    listed = list(statements)
    problems = _repeated(listed) + _reserved(listed)
    streams: dict[str, Stream] = {}
    references: dict[str, Reference] = {}
    views: dict[str, View] = {}
    declared: dict[str, Reference] = {}
    wrong: dict[str, list[Problem]] = {}
    for statement in listed:
        name = statement.name.lower()
        if statement.kind == "stream":
            own, found = stream.read(statement)
            streams.setdefault(name, own)
            problems += wrong.setdefault(name, found)
        elif statement.kind == "table":
            table, found = reference.read(statement)
            declared.setdefault(name, table)
            if not found:
                references.setdefault(name, table)
            problems += found
    others = {name.lower(): "" for name in unread}
    others |= {
        each.name.lower(): "a view, which queries read" for each in listed if each.kind == "view"
    }
    binder = EmptyTables(streams.values(), declared.values())
    for each in streams.values():
        found = _expressions(each, binder)
        problems += found
        if not found and not wrong[each.name.lower()]:
            problems += _bound(each.statement, [parse.select(each, RECORDS_TABLE)], binder)
    for statement in listed:
        if statement.kind == "view":
            seen, found = view.read(statement, streams, declared, binder, others)
            problems += found
            if seen is not None:
                # what was told of a stream is not told again of each view over it
                if not wrong[seen.stream.lower()]:
                    problems += _bound(statement, _emitted(seen), binder)
                views.setdefault(statement.name.lower(), seen)
    return Definitions(streams, references, views), problems


def _repeated(statements: list[Statement]) -> list[Problem]:
    first: dict[str, Statement] = {}
    problems = []
    for statement in statements:
        known = first.setdefault(statement.name.lower(), statement)
        if known is not statement:
            message = (
                f"name {statement.name!r} must be used once, whatever its case; "
                f"got it at {known.file}:{known.line} too"
            )
            problems.append(statement.problem_of_name(message))
    return problems


def _reserved(statements: list[Statement]) -> list[Problem]:
    return [
        statement.problem_of_name(f"name {statement.name!r} is a word of SQL; choose another one")
        for statement in statements
        if statement.name.lower() in reserved_words()
    ]


def _emitted(view: View) -> list[str]:
    """What a task and serving will run for a view, over the tables that its text names."""
    tables = fold.tables(view, {})
    finished = [(finish.column, finish.type) for finish in present.finishes(view)]
    merged = [*((key.name, key.type) for key in view.keys), *_columns(tables[0]), *finished]
    nulls = ", ".join(f"CAST(NULL AS {kind}) AS {sql.name(name)}" for name, kind in merged)
    shown = present.statement(view).replace(present.SOURCE, f"(SELECT {nulls})")
    return [*(table.fold for table in tables), shown]


def _columns(table: PartialTable) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in table.partials]


def _bound(statement: Statement, emitted: Iterable[str], binder: Binder) -> list[Problem]:
    """What the engine refuses of the SQL that a definition becomes: better now than in a task."""
    for text in emitted:
        try:
            binder.describe(text)
        except SqlError as error:
            message = f"{statement.subject} must be SQL that can be run; got: {error.message}"
            return [statement.problem_of_name(message)]
    return []


def _expressions(found: Stream, binder: Binder) -> list[Problem]:
    """What is wrong with the generated columns and checks of a stream."""
    problems: list[Problem] = []
    for column in found.columns.columns:
        if column.expression is not None:
            problems += _expression(found, column.expression, binder, "")
            problems += _cycle(found, column)
    for check in found.columns.checks:
        if check.node is not None:
            problems += _expression(found, check.node, binder, "BOOLEAN")
    return problems


def _expression(found: Stream, node: exp.Expr, binder: Binder, wanted: str) -> list[Problem]:
    statement, columns = found.statement, found.columns
    between = statement.within(node)
    # as it was written, so that the places of the engine are places of the file
    text = statement.source[slice(*between)] if between else node.sql("duckdb")
    start = between[0] if between else None
    try:
        if not _parses(text, binder) and _parses(node.sql("duckdb"), binder):
            # a name that the engine takes in quotes alone, as which it is written for it
            text, start = node.sql("duckdb"), None
        refused = list(refusals.of_expression(statement, node, text, start, columns, binder))
        untyped = {column.name.lower() for column in columns.columns if not column.type}
        used = {column.name.lower() for column in node.find_all(exp.Column)}
        if refused or untyped & used:
            return refused
        described = binder.describe(f"SELECT {text}\nFROM {sql.name(found.name)}")
    except SqlError as error:
        message = f"{statement.subject}: {engine_words.plain(error.message)}"
        if start is None or error.offset is None:
            return [statement.problem(message, node)]
        return [statement.problem_at(message, start + error.offset - len("SELECT "))]
    except RecursionError:
        return [statement.problem(NESTED, node)]
    constants = list(refusals.of_constants(statement, node, binder))
    if constants:
        return constants
    kind = described[0][1]
    if wanted and kind != wanted:
        message = (
            f"{statement.subject}: CHECK must be a condition; got {kind}: {' '.join(text.split())}"
        )
        return [statement.problem(message, node)]
    return []


def _parses(text: str, binder: Binder) -> bool:
    try:
        binder.functions(f"SELECT {text}")
    except SqlError:
        return False
    return True


def _cycle(found: Stream, column: Column) -> list[Problem]:
    """A generated column that reads itself, by however many others; told once for all of them."""
    path = _path(found, column, column, ())
    if not path:
        return []
    columns = [each.name for each in found.columns.columns]
    if min(path, key=columns.index) != column.name:
        return []
    shown = " reads ".join([*path, column.name])
    message = (
        f"generated column {column.name!r} must not read itself, directly or by others; got {shown}"
    )
    return [found.statement.problem(message, column.node)]


def _path(found: Stream, at: Column, to: Column, before: tuple[str, ...]) -> tuple[str, ...]:
    """The columns by which one reads another, itself first; none where it does not."""
    path = (*before, at.name)
    for name in sorted(named(at)):
        other = found.columns.named(name)
        if other is to:
            return path
        if other is not None and other.generated is not None and other.name not in path:
            longer = _path(found, other, to, path)
            if longer:
                return longer
    return ()
