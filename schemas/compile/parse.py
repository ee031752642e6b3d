"""Bytes of a record -> typed columns, or the reason why they do not fit the declaration.

Each layer is a SELECT over the one before:

    records -> text -> fields (a text per column) -> values -> generated values -> a reason or none

Rules that the definition language leaves open, the same in every layer because they stand here:

JSON: a value must be of the column's own JSON type (no "12" for an INTEGER, no 5 for a VARCHAR; a
DECIMAL may be a number or a string). A key that stands twice in the object is refused. What the
parser takes beyond the standard (NaN, a trailing comma) is taken in undeclared keys. A number in
an undeclared place of a JSON column keeps 17 digits.

CSV: one line per record, with or without its line end, as RFC 4180 has it: a quote or a line break
in a field needs quotes around the field, a quote inside is doubled. The text for NULL (the empty
text where none is declared) counts only without quotes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from schemas.compile import cast, sql
from schemas.language.dialect import parsed
from schemas.language.stream import Stream
from schemas.language.table import Check, Column

MEANING = 1

RECORD = ("_partition", "_offset", "_timestamp", "_key", "_value")
HEADERS = "_headers"  # of a record; kept with a reject alone
# longest piece of a value that a reject repeats beside the whole bytes
SHOWN = 200
# records of a task whose keys are compared with each other before all others are
SAMPLE = 500


def statements(stream: Stream) -> tuple[str, ...]:
    """SQL that leaves the temporary table `parsed`: what `select` gives."""
    return (f"CREATE OR REPLACE TEMP TABLE parsed AS {select(stream)}",)


def select(
    stream: Stream, records: str = "records", record: Sequence[str] = (*RECORD, HEADERS)
) -> str:
    """SELECT of the record, the typed columns, and `_reason`, `_column`, `_expected`, `_found`, all
    NULL for an accepted event. `record` names the columns of `records` that are kept."""
    carried = [column for column in stream.columns.columns if column.generated is None]
    fields = _json(stream, carried, records) if stream.format == "json" else _csv(stream, carried)
    layers = [
        "SELECT *, TRY(decode(_value)) AS _text",
        *fields,
        _values(stream, carried),
        *_generated(stream),
        *_reasons(stream, carried, record),
    ]
    source = records
    for layer in layers:
        source = f"({layer} FROM {source})"
    return source[1:-1]


def _json(stream: Stream, carried: Sequence[Column], records: str) -> list[str]:
    """Layers that leave a text per column in `_field_<n>`: that of a string without its quotes,
    everything else as JSON writes it; NULL where the event has none, or null."""
    paths = sql.texts(_path(column.name) for column in carried)
    decimals = ", ".join(
        f'"{column.name}":"DECIMAL(38,{cast.exact_scale(column.type)})"'
        for column in carried
        if column.type.startswith("DECIMAL")
    )
    exact = f", json_transform(_document, {sql.text('{' + decimals + '}')}) AS _exact"
    null = ["null"] + ([json.dumps(stream.null, ensure_ascii=False)] if stream.null else [])
    given = [
        f"CASE WHEN _found_{at} NOT IN ({', '.join(map(sql.text, null))}) THEN _found_{at} END"
        for at in range(len(carried))
    ]
    return [
        # what is no JSON has no keys, what is no object neither has nor begins with a brace; to ask
        # first costs less than what TRY catches, of which a flood of bad events is full
        "SELECT *, TRY(json_keys(CASE WHEN json_valid(_text) THEN _text END)) AS _keys",
        "SELECT *, CASE WHEN _keys IS NOT NULL "
        r"AND starts_with(ltrim(_text, ' ' || chr(9) || chr(10) || chr(13)), '{') "
        f"THEN _text END AS _document, {_repeated(records)} AS _repeated",
        f"SELECT *, json_extract(_document, {paths}) AS _json{exact if decimals else ''}",
        "SELECT *, CAST(_json AS VARCHAR[]) AS _texts",
        "SELECT *, " + ", ".join(f"_texts[{at + 1}] AS _found_{at}" for at in range(len(carried))),
        "SELECT *, " + ", ".join(f"{text} AS _field_{at}" for at, text in enumerate(given)),
    ]


def _repeated(records: str) -> str:
    """Whether a key stands twice. Producers send the same keys over and over: those of the first
    records are looked at once, and only other ones each time."""
    sample = f"SELECT _value FROM {records} LIMIT {SAMPLE}"
    seen = f"SELECT DISTINCT TRY(json_keys(TRY(decode(_value)))) AS _seen FROM ({sample})"
    plain = f"SELECT _seen FROM ({seen}) WHERE len(_seen) = list_unique(_seen)"
    return f"CASE WHEN _keys IN ({plain}) THEN false ELSE len(_keys) <> list_unique(_keys) END"


def _csv(stream: Stream, carried: Sequence[Column]) -> list[str]:
    """Layers that leave a text per column in `_field_<n>`, NULL where the field says so."""
    quoted = r'"(?:[^"]|"")*"'
    field = rf'(?:{quoted}|[^",\r\n]*)'
    line = rf"(?s){field}(?:,{field})*"
    null = sql.text(stream.null or "")
    split = (
        "CASE WHEN _line = '' THEN NULL "
        "WHEN NOT _quoted THEN CASE WHEN NOT contains(_line, chr(10)) "
        "AND NOT contains(_line, chr(13)) THEN string_split(_line, ',') END "
        f"WHEN regexp_full_match(_line, {sql.text(line)}) "
        f"THEN regexp_extract_all(',' || _line, {sql.text(f'(?s),({field})')}, 1) END"
    )
    unquoted = (
        f"CASE WHEN _field = {null} THEN NULL "
        "WHEN starts_with(_field, '\"') "
        "THEN replace(_field[2:-2], '\"\"', '\"') ELSE _field END"
    )
    # fields of a line without quotes come as they are, so NULL is told later for them
    given = [
        f"CASE WHEN _quoted OR _texts[{at + 1}] <> {null} THEN _texts[{at + 1}] END AS _field_{at}"
        for at in range(len(carried))
    ]
    return [
        "SELECT *, rtrim(_text, chr(13) || chr(10)) AS _line",
        "SELECT *, contains(_line, '\"') AS _quoted",
        f"SELECT *, {split} AS _raw",
        f"SELECT *, CASE WHEN len(_raw) = {len(carried)} THEN CASE WHEN _quoted "
        f"THEN list_transform(_raw, lambda _field: {unquoted}) ELSE _raw END END AS _texts",
        "SELECT *, " + ", ".join(given),
    ]


def _values(stream: Stream, carried: Sequence[Column]) -> str:
    value = _json_value if stream.format == "json" else _csv_value
    parts = [f"{value(column, at)} AS {sql.name(column.name)}" for at, column in enumerate(carried)]
    return f"SELECT *, {', '.join(parts)}"


def _csv_value(column: Column, at: int) -> str:
    return cast.of_text(column.type, f"_field_{at}")


def _json_value(column: Column, at: int) -> str:
    field = f"_field_{at}"
    if column.type == "JSON":
        return f"CASE WHEN {field} IS NOT NULL THEN _json[{at + 1}] END"
    string = f"starts_with({field}, '\"')"
    # json_extract_string is dear, and hardly any text has an escape in it
    text = (
        f"CASE WHEN contains({field}, chr(92)) THEN json_extract_string({field}, '$') "
        f"ELSE substring({field}, 2, length({field}) - 2) END"
    )
    if column.type in cast.IN_STRINGS:
        return f"CASE WHEN {string} THEN {cast.of_text(column.type, text)} END"
    if column.type.startswith("DECIMAL"):
        exact = f"_exact.{sql.name(column.name)}"
        number = cast.of_json_number(column.type, column.name, field, exact, "_document")
        return (
            f"CASE WHEN {string} THEN {cast.of_text(column.type, text)} "
            f"WHEN TRY_CAST({field} AS DOUBLE) IS NOT NULL THEN {number} END"
        )
    return cast.of_word(column.type, field)


def _generated(stream: Stream) -> list[str]:
    """A layer per generated column, in an order in which each finds those that it names."""
    layers = []
    for at, column in _in_order(stream):
        # a struct tells an expression that failed (NULL) from one whose value is NULL
        attempt = f"TRY(struct_pack(v := {column.generated}))"
        layers.append(f"SELECT *, {attempt} AS _attempt_{at}")
        value = cast.of_value(column.type, f"_attempt_{at}.v")
        layers.append(f"SELECT *, {value} AS {sql.name(column.name)}")
    return layers


def _in_order(stream: Stream) -> list[tuple[int, Column]]:
    """Generated columns, each behind those that its expression names. A cycle was refused."""
    left = {
        column.name.lower(): (at, column)
        for at, column in enumerate(stream.columns.columns)
        if column.generated is not None
    }
    ordered: list[tuple[int, Column]] = []
    while left:
        ready = [
            name for name, (_, column) in left.items() if not (named(column) & set(left) - {name})
        ]
        for name in ready or list(left):
            ordered.append(left.pop(name))
    return ordered


def named(column: Column) -> set[str]:
    """Lower-case names of the columns that a generated one reads."""
    tree = parsed(column.generated or "NULL")
    return {part.name.lower() for part in tree.find_all(exp.Column)}


@dataclass(frozen=True)
class _Reason:
    """SQL of a condition under which an event is rejected, and what the reject then says; `found`
    is SQL of a text."""

    condition: str
    reason: str
    column: str | None = None
    expected: str = ""
    found: str = "NULL"


def _reasons(stream: Stream, carried: Sequence[Column], record: Sequence[str]) -> list[str]:
    """Layers that number the first condition that holds, and say it in words."""
    found = [*_whole(stream, carried)]
    for at, column in enumerate(stream.columns.columns):
        if column.generated is None:
            found += _of_field(column, carried.index(column))
        else:
            found += _of_expression(column, f"_attempt_{at}")
        if column.not_null or column.name in stream.columns.key:
            missing = f"{sql.name(column.name)} IS NULL"
            found.append(_Reason(missing, "missing", column.name, "NOT NULL", "'NULL'"))
    for check in stream.columns.checks:
        found += _of_check(stream, check)
    columns = sql.names([*record, *(column.name for column in stream.columns.columns)])
    numbered = list(enumerate(found, 1))
    cases = " ".join(f"WHEN {reason.condition} THEN {at}" for at, reason in numbered)
    shown = " ".join(f"WHEN {at} THEN {reason.found}" for at, reason in numbered)
    texts = ", ".join(
        f"[{', '.join(words)}][_reject] AS {name}"
        for name, words in (
            ("_reason", [sql.text(reason.reason) for reason in found]),
            ("_column", [sql.text(r.column) if r.column else "NULL" for r in found]),
            ("_expected", [sql.text(reason.expected) for reason in found]),
        )
    )
    return [
        f"SELECT *, CASE {cases} END AS _reject",
        f"SELECT {columns}, {texts}, CASE WHEN _reject IS NOT NULL "
        f"THEN left(CASE _reject {shown} END, {SHOWN}) END AS _found",
    ]


def _whole(stream: Stream, carried: Sequence[Column]) -> list[_Reason]:
    """What can be wrong with the bytes before any column is looked at."""
    found = [_Reason("_value IS NULL", "null value"), _Reason("_text IS NULL", "not UTF-8")]
    if stream.format == "json":
        return [
            *found,
            _Reason("_keys IS NULL", "not JSON"),
            _Reason("_document IS NULL", "not an object"),
            _Reason("_repeated", "repeated key"),
        ]
    count = "CAST(len(_raw) AS VARCHAR)"
    return [
        *found,
        _Reason("_raw IS NULL", "not CSV"),
        _Reason("_texts IS NULL", "field count", None, f"{len(carried)} fields", count),
    ]


def _of_field(column: Column, at: int) -> list[_Reason]:
    field = f"_field_{at}"
    wrong = f"{field} IS NOT NULL AND {sql.name(column.name)} IS NULL"
    return [_Reason(wrong, "type", column.name, column.type, field)]


def _of_expression(column: Column, attempt: str) -> list[_Reason]:
    wrong = f"{attempt}.v IS NOT NULL AND {sql.name(column.name)} IS NULL"
    found = f"CAST({attempt}.v AS VARCHAR)"
    return [
        _Reason(f"{attempt} IS NULL", "expression", column.name, column.generated or ""),
        _Reason(wrong, "type", column.name, column.type, found),
    ]


def _of_check(stream: Stream, check: Check) -> list[_Reason]:
    attempt = f"TRY(struct_pack(v := CAST(({check.sql}) AS BOOLEAN)))"
    read = [part.name for part in parsed(check.sql).find_all(exp.Column)]
    first = stream.columns.named(read[0]) if read else None
    name = first.name if first else None
    found = f"CAST({sql.name(first.name)} AS VARCHAR)" if first else "NULL"
    return [
        _Reason(f"{attempt} IS NULL", "expression", name, check.sql, found),
        _Reason(f"{attempt}.v = false", "check", name, check.sql, found),
    ]


def _path(name: str) -> str:
    return f'$."{name}"'
