"""The columns between the parentheses of CREATE STREAM and CREATE TABLE."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from schemas import column_types
from schemas.errors import Problem
from schemas.language import near
from schemas.language.parser import name_problem
from schemas.language.statement import Statement


@dataclass(frozen=True)
class Column:
    """One declared column. `generated` is the SQL of its `expression`, None for one that an event
    carries itself. `type` is empty where it is none that a column may have."""

    name: str
    type: str
    not_null: bool = False
    generated: str | None = None
    node: exp.Expr | None = field(default=None, compare=False, repr=False)
    expression: exp.Expr | None = field(default=None, compare=False, repr=False)


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
    keys: list[tuple[list[exp.Expr], exp.Expr]]
    problems: list[Problem]

    def wrong(self, message: str, node: exp.Expr | None) -> None:
        if node is None:
            self.problems.append(self.statement.problem_of_name(message))
        else:
            self.problems.append(self.statement.problem(message, node))

    def wrong_word(self, message: str, item: exp.ColumnDef, word: str) -> None:
        """Behind the name of a column: the type, or the word that a constraint starts with."""
        self.problems.append(self.statement.problem_behind(message, item.this, word))


def read(statement: Statement) -> tuple[Columns, list[Problem]]:
    """The columns of a statement, and every problem in them."""
    draft = _Draft(statement, [], [], [], [])
    schema = statement.tree.this
    for item in schema.expressions if isinstance(schema, exp.Schema) else []:
        if isinstance(item, exp.ColumnDef):
            _column(draft, item)
        elif isinstance(item, exp.PrimaryKey):
            draft.keys.append((item.expressions, item))
        elif isinstance(item, exp.CheckColumnConstraint):
            draft.checks.append(Check(item.this.sql("duckdb"), item.this))
        elif isinstance(item, exp.Identifier):
            draft.wrong(f"column {item.name!r} must have a type; got none", item)
        else:
            text = item.sql("duckdb")[:60]
            message = f"constraint must be PRIMARY KEY or CHECK; got {text}"
            word = text.split()[0].split("(")[0].upper()
            draft.problems.append(draft.statement.problem(message, item, word))
    if not draft.columns and not draft.problems:
        draft.wrong(f"{statement.subject} must declare at least one column", None)
    return _finish(draft), draft.problems


def _column(draft: _Draft, item: exp.ColumnDef) -> None:
    type_name, problem = column_types.canonical(item.kind, draft.statement.type_of(item.this))
    if problem:
        draft.wrong_word(f"column {item.name!r}: {problem}", item, "")
    problem = name_problem(item.name)
    if problem:
        draft.wrong(f"column {problem}", item.this)
    if any(known.name.lower() == item.name.lower() for known in draft.columns):
        draft.wrong(f"column {item.name!r} must be declared once; got it twice", item.this)
    not_null, generated = False, None
    for constraint in item.constraints:
        kind = constraint.kind
        if isinstance(kind, exp.PrimaryKeyColumnConstraint):
            draft.keys.append(([item.this], item.this))
        elif isinstance(kind, exp.NotNullColumnConstraint):
            not_null = not kind.args.get("allow_null")
        elif isinstance(kind, exp.CheckColumnConstraint):
            draft.checks.append(Check(kind.this.sql("duckdb"), kind.this))
        elif isinstance(kind, exp.GeneratedAsIdentityColumnConstraint) and kind.expression:
            generated = kind.expression
        else:
            got = constraint.sql("duckdb") or type(kind).key.removesuffix("columnconstraint")
            draft.wrong_word(
                f"column {item.name!r}: constraint must be PRIMARY KEY, NOT NULL, CHECK (...) or "
                f"GENERATED ALWAYS AS (...); got {got}",
                item,
                got.split()[0],
            )
    text = None if generated is None else generated.sql("duckdb")
    draft.columns.append(Column(item.name, type_name, not_null, text, item.this, generated))


def _finish(draft: _Draft) -> Columns:
    for _, node in draft.keys[1:]:
        draft.wrong(
            f"{draft.statement.subject} must have one primary key; got another. "
            "Write PRIMARY KEY (a, b) for one of several columns",
            node,
        )
    key = draft.keys[0][0] if draft.keys else []
    columns = Columns(tuple(draft.columns), tuple(draft.checks), ())
    seen: set[str] = set()
    for node in key:
        name = node.name
        column = columns.named(name)
        if name.lower() in seen:
            draft.wrong("primary key must name a column once; got it twice", node)
        elif column is None:
            hint = near.hint(name, [known.name for known in draft.columns])
            draft.wrong(f"primary key must name a column; got {name!r}{hint}", node)
        elif column.type in ("DOUBLE", "JSON"):
            draft.wrong(
                f"primary key must not be {column.type}, where unequal texts can mean one value; "
                f"got {name!r}. Generate a VARCHAR column from it",
                node,
            )
        seen.add(name.lower())
    names = tuple(column.name for node in key if (column := columns.named(node.name)))
    return Columns(columns.columns, columns.checks, names)
