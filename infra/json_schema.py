"""JSON Schema (draft 2020-12) of what a stream takes, and of what an answer's rows are.

A schema says what JSON Schema can say. What it cannot (a CHECK, a number written with a point for
an INTEGER, a key that stands twice) is told in words, in `description`: what is valid here may be
rejected for that, and what is not valid here is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from schemas import column_types
from schemas.compile import cast
from schemas.language.stream import Stream
from schemas.language.table import Check, Column

DRAFT = "https://json-schema.org/draft/2020-12/schema"
BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
INSTANT = f"{cast.DAY}([T ]{cast.CLOCK}(Z|{cast.ZONE})?)?"
WHOLE = "0|-?[1-9][0-9]*"
SERVED_INSTANT = r"^([+-][0-9]+|[0-9]{4})-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?Z$|^-?infinity$"
SERVED_DAY = r"^([+-][0-9]+|[0-9]{4})-[0-9]{2}-[0-9]{2}$|^-?infinity$"
Schema = dict[str, Any]


def of_stream(stream: Stream) -> Schema:
    """What a record of the stream must be: an object, or the fields of a CSV line as texts."""
    carried = [column for column in stream.columns.columns if column.generated is None]
    told = {"$schema": DRAFT, "title": stream.name, "description": _about(stream)}
    if stream.format == "csv":
        fields = [{"title": each.name, **_field(stream, each)} for each in carried]
        count = {"minItems": len(fields), "maxItems": len(fields)}
        return {**told, "type": "array", "prefixItems": fields, **count}
    return {
        **told,
        "type": "object",
        "properties": {each.name: _value(stream, each) for each in carried},
        "required": [each.name for each in carried if _needed(stream, each)],
    }


def of_row(name: str, schema: pa.Schema) -> Schema:
    """What a row of `SELECT * FROM view` is, in the JSON that serving sends: an array."""
    columns = [{"title": each.name, **_nullable(_served(each.type))} for each in schema]
    return {
        "$schema": DRAFT,
        "title": name,
        "description": f"A row of view {name}, its columns in order",
        "type": "array",
        "prefixItems": columns,
        "minItems": len(columns),
        "maxItems": len(columns),
    }


# ---- what a stream takes


def _about(stream: Stream) -> str:
    said = [f"A record of topic {stream.topic}"]
    said[0] += ": the fields of a CSV line" if stream.format == "csv" else ": a JSON object"
    if stream.format == "json":
        said.append("No key may stand twice; other keys are kept and not looked at")
    if stream.columns.key:
        said.append(f"Repeats of ({', '.join(stream.columns.key)}) count once")
    if stream.event_time:
        said.append(f"It happened at {stream.event_time}")
    said += [f"CHECK ({check.sql})" for check in stream.columns.checks]
    for column in stream.columns.columns:
        if column.generated is not None and _needed(stream, column):
            said.append(f"{column.generated} must not be NULL")
    return ". ".join(said)


def _needed(stream: Stream, column: Column) -> bool:
    return column.not_null or column.name in stream.columns.key


def _described(stream: Stream, column: Column, *more: str) -> Schema:
    checks = [f"CHECK ({each.sql})" for each in stream.columns.checks if _reads(each, column)]
    return {"description": ". ".join([column.type, *more, *checks])}


def _reads(check: Check, column: Column) -> bool:
    return re.search(rf"\b{re.escape(column.name)}\b", check.sql, re.IGNORECASE) is not None


def _value(stream: Stream, column: Column) -> Schema:
    """A value of JSON; NULL is null, and the stream's text for it."""
    found, more = _json_type(column.type)
    described = _described(stream, column, *more)
    null = [{"const": stream.null}] if stream.null else []
    if _needed(stream, column):
        missing = [*null, {"type": "null"}] if not found else null
        return {**described, **found, **({"not": {"anyOf": missing}} if missing else {})}
    if not found:
        return described
    return {**described, "anyOf": [found, {"type": "null"}, *null]}


def _json_type(kind: str) -> tuple[Schema, list[str]]:
    """What a value of a column type is in JSON, and what the schema cannot say of it."""
    if kind in column_types.INTEGERS:
        least, most = _bounds(kind)
        written = "written without a point or an exponent"
        return {"type": "integer", "minimum": least, "maximum": most}, [written]
    decimal = column_types.decimal(kind)
    if decimal is not None:
        beyond = 10 ** (decimal[0] - decimal[1])
        number = {"type": "number", "exclusiveMinimum": -beyond, "exclusiveMaximum": beyond}
        text = {"type": "string", "pattern": f"^{_decimal(decimal[1])}$"}
        behind = f"a number or a string of at most {decimal[1]} digits behind the point"
        return {"anyOf": [number, text]}, [behind]
    if kind == "DATE":
        return {"type": "string", "format": "date", "pattern": f"^{cast.DAY}$"}, []
    if kind == "TIMESTAMP":
        return {"type": "string", "pattern": f"^{INSTANT}$"}, ["ISO 8601; no zone means UTC"]
    plain = {"DOUBLE": "number", "BOOLEAN": "boolean", "VARCHAR": "string"}
    return ({"type": plain[kind]} if kind in plain else {}), []


def _field(stream: Stream, column: Column) -> Schema:
    """A field of CSV, without its quotes; the text for NULL counts only where it has none."""
    kind = column.type
    null = stream.null or ""
    decimal = column_types.decimal(kind)
    pattern = {
        "DATE": cast.DAY,
        "TIMESTAMP": INSTANT,
        "DOUBLE": cast.NUMBER,
        "BOOLEAN": "true|false",
    }.get(kind, "")
    more = []
    if kind in column_types.INTEGERS:
        pattern = WHOLE
        more.append("{} to {}".format(*_bounds(kind)))
    elif decimal is not None:
        pattern = _decimal(decimal[1])
    said = _described(stream, column, *more)
    field: Schema = {"type": "string", **({"pattern": f"^({pattern})$"} if pattern else {})}
    if not _needed(stream, column):
        said["description"] += f". NULL is {null!r} without quotes" if null else ". NULL is empty"
        return {**said, "anyOf": [field, {"const": null}]} if pattern else {**said, **field}
    return {**said, **field}


def _bounds(kind: str) -> tuple[int, int]:
    if kind.startswith("U"):
        return 0, 2 ** BITS[kind[1:]] - 1
    return -(2 ** (BITS[kind] - 1)), 2 ** (BITS[kind] - 1) - 1


def _decimal(scale: int) -> str:
    behind = rf"(\.[0-9]{{1,{scale}}}0*)?" if scale else r"(\.0+)?"
    return rf"-?(0|[1-9][0-9]*){behind}"


# ---- what serving sends


def _nullable(found: Mapping[str, Any]) -> Schema:
    return {"anyOf": [dict(found), {"type": "null"}]} if found else {}


def _served(kind: pa.DataType) -> Schema:
    """A value that is not NULL, by the Arrow type that the column has (`serving.formats`)."""
    types = pa.types
    if types.is_boolean(kind):
        return {"type": "boolean"}
    if types.is_integer(kind) or (types.is_decimal(kind) and kind.scale == 0):
        return {"type": "integer"}
    if types.is_decimal(kind):
        return {"type": "string", "pattern": rf"^-?[0-9]+\.[0-9]{{{kind.scale}}}$"}
    if types.is_floating(kind):
        return {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
    if types.is_timestamp(kind):
        return {"type": "string", "pattern": SERVED_INSTANT}
    if types.is_date(kind):
        return {"type": "string", "pattern": SERVED_DAY}
    if types.is_map(kind):
        pair = [_nullable(_served(kind.key_type)), _nullable(_served(kind.item_type))]
        entry = {"type": "array", "prefixItems": pair, "minItems": 2, "maxItems": 2}
        return {"type": "array", "items": entry}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return {"type": "array", "items": _nullable(_served(kind.value_type))}
    if types.is_struct(kind):
        fields = {each.name: _nullable(_served(each.type)) for each in kind}
        return {"type": "object", "properties": fields, "required": list(fields)}
    if types.is_interval(kind):
        parts = {name: {"type": "integer"} for name in ("months", "days", "microseconds")}
        return {"type": "object", "properties": parts, "required": list(parts)}
    return {"type": "string"}
