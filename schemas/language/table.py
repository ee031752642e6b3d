"""The columns between the parentheses of CREATE STREAM and CREATE TABLE."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from schemas import column_types
from schemas.errors import Problem
from schemas.language.parser import name_problem
from schemas.language.statement import Statement


@dataclass(frozen=True)
class Column:
    """One declared column. `generated` is the SQL of its expression, None for one that an event
    carries itself."""

    name: str
    type: str
    not_null: bool = False
    generated: str | None = None
    node: exp.Expr | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Check:
    """A condition that no row may make false."""

    sql: str
    node: exp.Expr | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Columns:
    """Columns, checks and primary key, in the order in which they were written."""

    columns: tuple[Column, ...]
    checks: tuple[Check, ...]
    key: tuple[str, ...]

    def named(self, name: str) -> Column | None:
        """Names match like DuckDB's, whatever their case."""
        return next((c for c in self.columns if c.name.lower() == name.lower()), None)


@dataclass
class _Draft:
    statement: Statement
    columns: list[Column]
    checks: list[Check]
    keys: list[tuple[tuple[str, ...], exp.Expr]]
    problems: list[Problem]

    def wrong(self, message: str, node: exp.Expr | None) -> None:
        self.problems.append(self.statement.problem(message, node))


def read(statement: Statement) -> tuple[Columns, list[Problem]]:
    """The columns of a statement, and every problem in them."""
    draft = _Draft(statement, [], [], [], [])
    schema = statement.tree.this
    for item in schema.expressions if isinstance(schema, exp.Schema) else []:
        if isinstance(item, exp.ColumnDef):
            _column(draft, item)
        elif isinstance(item, exp.PrimaryKey):
            draft.keys.append((tuple(part.name for part in item.expressions), item))
        elif isinstance(item, exp.CheckColumnConstraint):
            draft.checks.append(Check(item.this.sql("duckdb"), item.this))
        elif isinstance(item, exp.Identifier):
            draft.wrong(f"column {item.name!r} must have a type; got none", item)
        else:
            text = item.sql("duckdb")[:60]
            draft.wrong(f"constraint must be PRIMARY KEY or CHECK; got {text}", item)
    if not draft.columns and not draft.problems:
        draft.wrong(f"{statement.subject} must declare at least one column", None)
    return _finish(draft), draft.problems


def _column(draft: _Draft, item: exp.ColumnDef) -> None:
    type_name, problem = column_types.canonical(item.kind)
    if problem:
        draft.wrong(f"column {item.name!r}: {problem}", item)
    problem = name_problem(item.name)
    if problem:
        draft.wrong(f"column {problem}", item)
    if any(known.name.lower() == item.name.lower() for known in draft.columns):
        draft.wrong(f"column {item.name!r} must be declared once; got it twice", item)
    not_null, generated = False, None
    for constraint in item.constraints:
        kind = constraint.kind
        if isinstance(kind, exp.PrimaryKeyColumnConstraint):
            draft.keys.append(((item.name,), item))
        elif isinstance(kind, exp.NotNullColumnConstraint):
            not_null = not kind.args.get("allow_null")
        elif isinstance(kind, exp.CheckColumnConstraint):
            draft.checks.append(Check(kind.this.sql("duckdb"), kind.this))
        elif isinstance(kind, exp.GeneratedAsIdentityColumnConstraint) and kind.expression:
            generated = kind.expression.sql("duckdb")
        else:
            draft.wrong(
                f"column {item.name!r}: constraint must be PRIMARY KEY, NOT NULL, CHECK (...) or "
                f"GENERATED ALWAYS AS (...); got {constraint.sql('duckdb')}",
                item,
            )
    draft.columns.append(Column(item.name, type_name, not_null, generated, item))


def _finish(draft: _Draft) -> Columns:
    for _, node in draft.keys[1:]:
        draft.wrong(
            f"{draft.statement.subject} must have one primary key; got another. "
            "Write PRIMARY KEY (a, b) for one of several columns",
            node,
        )
    key, declared = draft.keys[0] if draft.keys else ((), None)
    columns = Columns(tuple(draft.columns), tuple(draft.checks), key)
    for name in key:
        column = columns.named(name)
        if column is None:
            draft.wrong(f"primary key must name a column; got {name!r}", declared)
        elif column.type in ("DOUBLE", "JSON"):
            draft.wrong(
                f"primary key must not be {column.type}, where unequal texts can mean one value; "
                f"got {name!r}. Generate a VARCHAR column from it",
                column.node,
            )
    if len({name.lower() for name in key}) < len(key):
        draft.wrong("primary key must name a column once; got it twice", declared)
    names = tuple(column.name for name in key if (column := columns.named(name)))
    return Columns(columns.columns, columns.checks, names)
