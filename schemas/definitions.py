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
from schemas.language import reference, refusals, stream, view
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


def read(statements: Iterable[Statement]) -> tuple[Definitions, list[Problem]]:
    """Everything that could be read, and every problem. Order does not matter."""
    listed = list(statements)
    problems = _repeated(listed) + _reserved(listed)
    streams: dict[str, Stream] = {}
    references: dict[str, Reference] = {}
    views: dict[str, View] = {}
    for statement in listed:
        if statement.kind == "stream":
            found, wrong = stream.read(statement)
            problems += wrong
            streams.setdefault(statement.name.lower(), found)
        elif statement.kind == "table":
            table, wrong = reference.read(statement)
            problems += wrong
            if not wrong:
                references.setdefault(statement.name.lower(), table)
    if problems:
        # types that cannot be told yet would only make more problems
        return Definitions(streams, references, views), problems
    binder = EmptyTables(streams.values(), references.values())
    for found in streams.values():
        wrong = _expressions(found, binder)
        problems += wrong or _bound(found.statement, [parse.select(found, RECORDS_TABLE)], binder)
    for statement in listed:
        if statement.kind == "view":
            seen, wrong = view.read(statement, streams, references, binder)
            problems += wrong
            if seen is not None:
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
            return [statement.problem(message)]
    return []


def _expressions(found: Stream, binder: Binder) -> list[Problem]:
    """What is wrong with the generated columns and checks of a stream."""
    problems: list[Problem] = []
    for column in found.columns.columns:
        if column.generated is not None:
            problems += _expression(found, column.generated, column.node, binder, "")
            problems += _cycle(found, column)
    for check in found.columns.checks:
        problems += _expression(found, check.sql, check.node, binder, "BOOLEAN")
    return problems


def _expression(
    found: Stream, text: str, node: exp.Expr | None, binder: Binder, wanted: str
) -> list[Problem]:
    statement = found.statement
    try:
        refused = list(refusals.of_expression(statement, node, text, found.columns, binder))
        if refused:
            return refused
        described = binder.describe(f"SELECT {text} FROM {sql.name(found.name)}")
    except SqlError as error:
        return [statement.problem(f"{statement.subject}: {error.message}", node)]
    except RecursionError:
        return [statement.problem(NESTED, node)]
    kind = described[0][1]
    if wanted and kind != wanted:
        message = f"{statement.subject}: CHECK must be a condition; got {kind}: {text}"
        return [statement.problem(message, node)]
    return []


def _cycle(found: Stream, column: Column) -> list[Problem]:
    """A generated column that reads itself, by however many others."""
    seen: set[str] = set()
    left = named(column)
    while left:
        name = left.pop()
        other = found.columns.named(name)
        if other is column:
            message = (
                f"generated column {column.name!r} must not read itself, directly or by others"
            )
            return [found.statement.problem(message, column.node)]
        if other is not None and other.generated is not None and name not in seen:
            seen.add(name)
            left |= named(other)
    return []
