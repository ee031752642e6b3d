"""Reference: a small keyed table from a file of the project, joined to events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from schemas.errors import Problem
from schemas.language import options, table
from schemas.language.statement import Statement
from schemas.language.table import Columns

OPTIONS = {"file": str, "null": str}
CSV, PARQUET = ".csv", ".parquet"


@dataclass(frozen=True)
class Reference:
    """A reference as declared: `file` is a CSV with a header or a Parquet file, relative to the
    project folder; its columns are found by name, and those that are not declared are left out."""

    name: str
    columns: Columns
    file: str
    null: str | None
    statement: Statement

    @property
    def format(self) -> Literal["csv", "parquet"]:
        """What the file is, by its name."""
        return "parquet" if self.file.lower().endswith(PARQUET) else "csv"


def read(statement: Statement) -> tuple[Reference, list[Problem]]:
    """The reference, and every problem in its declaration."""
    columns, problems = table.read(statement)
    subject = statement.subject
    values, wrong = options.read(statement.options, subject, OPTIONS)
    problems += [statement.problem_at(message, offset) for offset, message in wrong]
    file = str(values.get("file", ""))
    path = PurePosixPath(file)
    if not file and not options.meant(statement.options, "file"):
        message = f"{subject}: WITH (file = '...') must name a CSV or Parquet file; got none"
        problems.append(statement.problem_of_option(message, "file"))
    elif path.is_absolute() or ".." in path.parts or "://" in file:
        message = f"{subject}: file must be a path inside the project folder; got {file!r}"
        problems.append(statement.problem_of_option(message, "file"))
    elif file and path.suffix.lower() not in (CSV, PARQUET):
        message = f"{subject}: file must be a {CSV} or {PARQUET} file; got {file!r}"
        problems.append(statement.problem_of_option(message, "file"))
    elif "null" in values and path.suffix.lower() == PARQUET:
        message = f"{subject}: null must be left out, as Parquet has NULLs of its own"
        problems.append(statement.problem_of_option(message, "null"))
    if not columns.key:
        message = f"{subject} must have a PRIMARY KEY, by which events are joined to it; got none"
        problems.append(statement.problem_of_name(message))
    problems.extend(
        statement.problem(f"column {column.name!r} of {subject} must not be generated", column.node)
        for column in columns.columns
        if column.generated is not None
    )
    null = values.get("null")
    return Reference(
        statement.name, columns, file, None if null is None else str(null), statement
    ), problems
