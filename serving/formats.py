"""Values as JSON, CSV and Arrow: one documented form each, by DuckDB type.

| type | JSON |
|---|---|
| integers of every width, DECIMAL without a scale | number, or string on request |
| DECIMAL with a scale | string with all its digits |
| FLOAT, DOUBLE | number; `"NaN"`, `"Infinity"`, `"-Infinity"` |
| BOOLEAN; VARCHAR, ENUM, UUID, BIT | true, false; string |
| JSON | string, as it is |
| TIMESTAMP of every precision, with or without zone | ISO 8601 in UTC, `2026-01-01T10:00:00.12Z` |
| DATE, TIME | `2026-01-01`, `10:00:00` |
| INTERVAL | `{"months": 1, "days": 2, "microseconds": 3}` |
| BLOB | string, base64 |
| LIST, ARRAY | array |
| STRUCT | object |
| MAP | array of `[key, value]` |
| UNION | the value |

Seconds have as many digits as there are. Years past 9999 and before 0 have a sign: `+99999-01-01`.
Infinite dates are `infinity` and `-infinity`.

NULL is null in all. CSV (RFC 4180) writes the same forms as text, NULL as nothing, an empty string
as `""`, nested values as JSON, booleans as true and false; a cell that starts with `=` stays as it
is. Arrow is DuckDB's own: HUGEINT as decimal(38, 0). TIME WITH TIME ZONE is refused: its zone would
be lost.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Any, cast

import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from serving.envelope import Code, RequestError

JSON_TYPE = "application/json"
CSV_TYPE = "text/csv"
ARROW_TYPE = "application/vnd.apache.arrow.stream"

Form = Callable[[Any], Any]  # an Arrow value (never None) -> a JSON value

_INTEGERS = frozenset(
    [
        "tinyint",
        "smallint",
        "integer",
        "bigint",
        "hugeint",
        "utinyint",
        "usmallint",
        "uinteger",
        "ubigint",
    ]
)
_TICKS = {"timestamp": 10**6, "timestamp_us": 10**6, "timestamp with time zone": 10**6}
_TICKS |= {"timestamp_s": 1, "timestamp_ms": 10**3, "timestamp_ns": 10**9}
_EPOCH = date(1970, 1, 1)
_DAYS_OF_400_YEARS = 146_097
_INFINITE_DAY = 2**31 - 1
_INFINITE_TICK = 2**63 - 1


def rows(
    table: pa.Table, types: Sequence[DuckDBPyType], integers: str = "number"
) -> list[list[Any]]:
    """The rows as JSON values; `integers` is number or string."""
    if table.num_rows == 0:
        return []
    columns = [
        _column(table.column(i), type_, integers == "string") for i, type_ in enumerate(types)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A header and the rows; lines end with CR LF."""
    lines = [",".join(_cell(name) for name in names)]
    lines += [",".join(_cell(value) for value in row) for row in rows]
    return ("\r\n".join(lines) + "\r\n").encode()


def arrow(table: pa.Table) -> bytes:
    """An Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def check_types(names: Sequence[str], types: Sequence[DuckDBPyType]) -> None:
    """Refuses a type that no format can show whole."""
    for name, type_ in zip(names, types, strict=True):
        if "TIME WITH TIME ZONE" in str(type_).replace("TIMESTAMP WITH TIME ZONE", ""):
            message = f"column {name!r} must not be TIME WITH TIME ZONE; cast it to VARCHAR"
            raise RequestError(Code.BAD_SQL, message)


def _column(column: pa.ChunkedArray[Any], type_: DuckDBPyType, text: bool) -> list[Any]:
    form = _form(type_, text)
    values = _plain(column).to_pylist()
    if form is None:
        return values
    return [None if value is None else form(value) for value in values]


def _plain(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Times as their numbers, enums as their texts: Python has no year 10000."""
    plain = _plain_type(column.type)
    return column if plain == column.type else column.cast(plain)


def _plain_type(type_: Any) -> Any:
    if pa.types.is_timestamp(type_) or pa.types.is_time64(type_):
        return pa.int64()
    if pa.types.is_date32(type_):
        return pa.int32()
    if pa.types.is_dictionary(type_):
        return type_.value_type
    if pa.types.is_list(type_):
        return pa.list_(_plain_field(type_.value_field))
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(_plain_field(type_.value_field), type_.list_size)
    if pa.types.is_map(type_):
        return pa.map_(_plain_field(type_.key_field), _plain_field(type_.item_field))
    if pa.types.is_struct(type_):
        return pa.struct([_plain_field(field) for field in type_])
    return type_


def _plain_field(field: pa.Field[Any]) -> pa.Field[Any]:
    return field.with_type(_plain_type(field.type))


def _form(type_: DuckDBPyType, text: bool) -> Form | None:
    """How a value of a type becomes JSON; None where it is JSON already."""
    kind = type_.id
    if kind in _INTEGERS:
        return str if text else int if kind == "hugeint" else None
    if kind in _TICKS:
        ticks = _TICKS[kind]
        return lambda value: _timestamp(value, ticks)
    if kind in ("list", "array"):
        return _list(_form(_child(type_, "child"), text))
    if kind == "struct":
        return _struct({name: _form(_child(type_, name), text) for name, _ in type_.children})
    if kind == "map":
        return _map(_form(_child(type_, "key"), text), _form(_child(type_, "value"), text))
    if kind == "decimal":
        if dict(type_.children)["scale"]:
            return lambda value: format(value, "f")
        return str if text else int
    if kind == "uhugeint":
        return (lambda value: str(_unsigned(value))) if text else _unsigned
    return _FORMS.get(kind)


def _child(type_: DuckDBPyType, name: str) -> DuckDBPyType:
    return cast(DuckDBPyType, dict(type_.children)[name])


def _list(form: Form | None) -> Form | None:
    if form is None:
        return None
    return lambda values: [None if each is None else form(each) for each in values]


def _struct(forms: dict[str, Form | None]) -> Form:
    def struct(value: dict[str, Any]) -> dict[str, Any]:
        return {name: _formed(form, value[name]) for name, form in forms.items()}

    return struct


def _map(key: Form | None, item: Form | None) -> Form:
    return lambda pairs: [[_formed(key, k), _formed(item, v)] for k, v in pairs]


def _formed(form: Form | None, value: Any) -> Any:
    return value if form is None or value is None else form(value)


def _unsigned(value: Any) -> int:
    """Arrow has no unsigned 128-bit integer: the upper half arrives as negative numbers."""
    number = int(value)
    return number if number >= 0 else number + 2**128


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _timestamp(value: int, ticks: int) -> str:
    """`value` counts `ticks` per second since 1970, UTC."""
    if abs(value) == _INFINITE_TICK:
        return "infinity" if value > 0 else "-infinity"
    seconds, rest = divmod(value, ticks)
    days, second = divmod(seconds, 86_400)
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f"{_date(days)}T{clock}{_fraction(rest, ticks)}Z"


def _time(value: int) -> str:
    second, rest = divmod(value, 10**6)
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return clock + _fraction(rest, 10**6)


def _fraction(rest: int, ticks: int) -> str:
    if rest == 0:
        return ""
    return f".{rest:0{len(str(ticks)) - 1}}".rstrip("0")


def _date(days: int) -> str:
    if abs(days) == _INFINITE_DAY:
        return "infinity" if days > 0 else "-infinity"
    cycles, day = divmod(days, _DAYS_OF_400_YEARS)  # the calendar repeats after 400 years
    within = _EPOCH + timedelta(days=day)
    year = within.year + 400 * cycles
    sign = "" if 0 <= year <= 9999 else "+" if year > 0 else "-"
    return f"{sign}{abs(year):04}-{within.month:02}-{within.day:02}"


def _interval(value: Any) -> dict[str, int]:
    return {
        "months": value.months,
        "days": value.days,
        "microseconds": value.nanoseconds // 1000,
    }


def _blob(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bit(value: bytes) -> str:
    """DuckDB's bits: the first byte counts the padding bits, which lead the second one."""
    return "".join(f"{byte:08b}" for byte in value[1:])[value[0] :]


_FORMS: dict[str, Form] = {
    "float": _float,
    "double": _float,
    "date": _date,
    "time": _time,
    "interval": _interval,
    "blob": _blob,
    "bit": _bit,
    "uuid": str,
}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        text = value
    elif isinstance(value, dict | list | bool):
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    else:
        text = str(value)
    if text and not any(c in text for c in ',"\r\n'):
        return text
    quoted = text.replace('"', '""')
    return f'"{quoted}"'
