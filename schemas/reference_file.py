"""The rows of a reference's file, CSV or Parquet, from its bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from schemas.compile.references import CompiledReference


class NotReadable(Exception):
    """A file that has no rows of this reference; the text says why."""


def rows(reference: CompiledReference, data: bytes) -> pa.Table:
    """The declared columns: of a CSV file, which has a header, as text, of a Parquet file in its
    own types."""
    columns = [name for name, _ in reference.columns]
    try:
        if reference.format == "csv":
            return _csv(data, reference.null, columns)
        return _parquet(data, columns)
    except (pa.ArrowInvalid, OSError) as error:
        kind = "CSV with a header" if reference.format == "csv" else "Parquet"
        message = f"file must be {kind}; got {error}"
        raise NotReadable(message) from error


def places(reference: CompiledReference, data: bytes) -> Sequence[int] | None:
    """The line of a CSV file at which each row begins; None where rows can only be counted. A field
    in quotes may go over several lines."""
    if reference.format != "csv":
        return None
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    begins, line = [], 1
    for fields in reader:
        if fields:  # an empty line is no row
            begins.append(line)
        line = reader.line_num + 1
    return begins[1:]


def _csv(data: bytes, null: str | None, columns: Sequence[str]) -> pa.Table:
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    header = pyarrow.csv.open_csv(io.BytesIO(data), parse_options=parse).schema.names
    _must_have(columns, header, "header must name every column")
    options = pyarrow.csv.ConvertOptions(
        column_types={column: pa.string() for column in columns},
        include_columns=list(columns),
        null_values=[null or ""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return pyarrow.csv.read_csv(io.BytesIO(data), convert_options=options, parse_options=parse)


def _parquet(data: bytes, columns: Sequence[str]) -> pa.Table:
    file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
    _must_have(columns, file.schema_arrow.names, "file must have every column")
    table = file.read(list(columns)).select(list(columns))
    # a column of few different texts may come as their numbers
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = table.column(at).cast(field.type.value_type)
            table = table.set_column(at, field.name, plain)
    return table


def _must_have(columns: Sequence[str], found: Sequence[str], rule: str) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        named = ", ".join(found[:20]) + (", ..." if len(found) > 20 else "")
        message = f"{rule}; got none named {', '.join(missing)} among {named}"
        raise NotReadable(message)
