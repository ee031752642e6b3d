"""Files of references -> typed rows, or what keeps a file from being one.

A CSV file is read as text, and each field as strictly as that of an event. A Parquet file has types
of its own: a value must come out as the declared type without loss. A text in it is read as in CSV;
a VARCHAR must be a text, and a BOOLEAN is no number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from schemas.compile import cast, sql
from schemas.language.reference import Reference
from schemas.language.table import Column
from schemas.stored_file import StoredFile

MOST = 20  # problems that are told of one file
# digits of a number that every DOUBLE holds
DOUBLE_DIGITS = 15
FLOATS = "('DOUBLE', 'FLOAT')"
TEXTS = "('VARCHAR', 'JSON')"


@dataclass(frozen=True)
class CompiledReference:
    """A reference pinned by content: its file in the data root, and over `lines`, the rows as the
    file has them, the SELECT that types them and the one that says what is wrong with them."""

    name: str
    file: StoredFile
    format: Literal["csv", "parquet"]
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    null: str | None
    load: str
    wrong: str

    @property
    def table(self) -> str:
        """Where the engine keeps its rows; one per content and declaration."""
        digest = hashlib.sha256(f"{self.file.sha256} {self.null} {self.load}".encode())
        return f"reference_{self.name}_{digest.hexdigest()[:16]}"


def compile_reference(reference: Reference, file: StoredFile) -> CompiledReference:
    """The SQL of a reference with this content."""
    columns = reference.columns.columns
    typed = ", ".join(f"{_value(reference, each)} AS {sql.name(each.name)}" for each in columns)
    return CompiledReference(
        name=reference.name,
        file=file,
        format=reference.format,
        columns=tuple((column.name, column.type) for column in columns),
        key=reference.columns.key,
        null=reference.null,
        load=f"SELECT {typed} FROM lines",
        wrong=_wrong(reference),
    )


def _value(reference: Reference, column: Column) -> str:
    """SQL of a column's value, NULL where the file has none of its type."""
    found, kind = sql.name(column.name), column.type
    if reference.format == "csv":
        return cast.of_text(kind, found)
    is_text = f"typeof({found}) IN {TEXTS}"
    if kind == "VARCHAR":
        return f"CASE WHEN {is_text} THEN CAST({found} AS VARCHAR) END"
    if kind == "JSON":
        text = f"CAST({found} AS VARCHAR)"
        return f"CASE WHEN {is_text} THEN {cast.of_text(kind, text)} ELSE CAST({found} AS JSON) END"
    kept = f"(typeof({found}) = 'BOOLEAN') = {'true' if kind == 'BOOLEAN' else 'false'}"
    if kind == "DOUBLE":
        digits = f"length(ltrim(regexp_replace(CAST({found} AS VARCHAR), '[-.]', '', 'g'), '0'))"
        kept += f" AND (typeof({found}) IN {FLOATS} OR {digits} <= {DOUBLE_DIGITS})"
    return f"CASE WHEN {is_text} OR {kept} THEN {cast.of_value(kind, found)} END"


def _wrong(reference: Reference) -> str:
    """SELECT of (rows, column, expected, found): the numbers of the rows, from 1 on."""
    numbered = "(SELECT row_number() OVER () AS _row, * FROM lines)"
    parts = []
    for column in reference.columns.columns:
        raw, name = sql.name(column.name), sql.text(column.name)
        found = f"CAST({raw} AS VARCHAR)"
        missing = f"{_value(reference, column)} IS NULL"
        parts.append(
            f"SELECT [_row] AS _rows, {name} AS _column, {sql.text(column.type)} AS _expected, "
            f"{found} AS _found FROM {numbered} WHERE {raw} IS NOT NULL AND {missing}"
        )
        if column.not_null or column.name in reference.columns.key:
            parts.append(
                f"SELECT [_row], {name}, 'NOT NULL', 'NULL' FROM {numbered} WHERE {raw} IS NULL"
            )
    # by what a join compares: one value can be written in many ways
    columns = [reference.columns.named(name) for name in reference.columns.key]
    key = [_value(reference, column) for column in columns if column is not None]
    together = f"arg_max(concat_ws(', ', {sql.names(reference.columns.key)}), _row)"
    parts.append(
        f"SELECT list(_row ORDER BY _row), {sql.text(', '.join(reference.columns.key))}, "
        f"'a key once', {together} "
        f"FROM {numbered} WHERE {' AND '.join(f'{value} IS NOT NULL' for value in key)} "
        f"GROUP BY {', '.join(key)} HAVING count(*) > 1"
    )
    return f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY ALL LIMIT {MOST}"
