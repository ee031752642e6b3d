"""Reference: a small keyed table from a file of the project, joined to events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from schemas.errors import Problem
from schemas.language import options, table
from schemas.language.statement import Statement
from schemas.language.table import Columns

OPTIONS = {"file": str, "null": str}


@dataclass(frozen=True)
class Reference:
    """A reference as declared: `file` is a CSV with a header, relative to the project folder; its
    columns are found by name, and columns that are not declared are left out."""

    name: str
    columns: Columns
    file: str
    null: str | None
    statement: Statement


def read(statement: Statement) -> tuple[Reference, list[Problem]]:
    """The reference, and every problem in its declaration."""
    columns, problems = table.read(statement)
    subject = statement.subject
    values, wrong = options.read(statement.options, subject, OPTIONS)
    problems += [statement.problem_at(message, offset) for offset, message in wrong]
    file = str(values.get("file", ""))
    path = PurePosixPath(file)
    if not file:
        message = f"{subject}: WITH (file = '...') must name a CSV file; got none"
        problems.append(statement.problem_of_option(message, "file"))
    elif path.is_absolute() or ".." in path.parts or "://" in file:
        message = f"{subject}: file must be a path inside the project folder; got {file!r}"
        problems.append(statement.problem_of_option(message, "file"))
    elif path.suffix.lower() != ".csv":
        message = f"{subject}: file must be a .csv file; got {file!r}"
        problems.append(statement.problem_of_option(message, "file"))
    if not columns.key:
        message = f"{subject} must have a PRIMARY KEY, by which events are joined to it; got none"
        problems.append(statement.problem(message))
    problems.extend(
        statement.problem(f"column {column.name!r} of {subject} must not be generated", column.node)
        for column in columns.columns
        if column.generated is not None
    )
    null = values.get("null")
    return Reference(
        statement.name, columns, file, None if null is None else str(null), statement
    ), problems
