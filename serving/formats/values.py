"""How values look in JSON and CSV, by DuckDB type: a column of Arrow becomes a list of JSON values.

Times are read as numbers, as Python has no year 10000. Where a column has more than a few values,
Arrow makes the texts of times and decimals; tests hold both ways to the same texts.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from duckdb.sqltypes import DuckDBPyType

from serving.envelope import Code, RequestError

Form = Callable[[Any], list[Any]]  # an Arrow array -> a JSON value for each of its values

FEW = 24  # values, up to which a loop takes less time than the calls into Arrow

_NARROW = frozenset(
    {"tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"}
)
_TICKS = {"timestamp": 10**6, "timestamp_us": 10**6, "timestamp with time zone": 10**6}
_TICKS |= {"timestamp_s": 1, "timestamp_ms": 10**3, "timestamp_ns": 10**9, "timestamptz_ns": 10**9}
_CLOCKS = {"time": 10**6, "time_ns": 10**9}
_UNITS: Mapping[int, Any] = {1: "s", 10**3: "ms", 10**6: "us", 10**9: "ns"}
_NUMBER, _DAY = pa.int64(), pa.int32()  # what times and dates are inside
_EPOCH = date(1970, 1, 1)
_DAYS_OF_400_YEARS = 146_097
_SECONDS_OF_DAY = 86_400
_INFINITE_DAY = 2**31 - 1
_INFINITE_TICK = 2**63 - 1
# the days of four digits
_FIRST_DAY, _LAST_DAY = (date(1, 1, 1) - _EPOCH).days, (date(9999, 12, 31) - _EPOCH).days


def forms(names: Sequence[str], types: Sequence[DuckDBPyType], integers: str) -> list[Form]:
    """The forms of columns; `integers` is number or string. Raises RequestError for a type that has
    none."""
    found = []
    for name, type_ in zip(names, types, strict=True):
        form = _form(type_, integers == "string")
        if form is None:
            message = f"column {name!r} must not be {type_}; cast it to VARCHAR"
            raise RequestError(Code.BAD_SQL, message)
        found.append(form)
    return found


def bits(array: Any) -> list[str | None]:
    """DuckDB's bits: the first byte counts the padding bits, which lead the second one."""
    return [
        None if value is None else "".join(f"{byte:08b}" for byte in value[1:])[value[0] :]
        for value in array.to_pylist()
    ]


def intervals(array: Any) -> list[dict[str, int] | None]:
    return [
        None
        if value is None
        else {
            "months": value.months,
            "days": value.days,
            "microseconds": value.nanoseconds // 1000,
        }
        for value in array.to_pylist()
    ]


def members(array: Any) -> tuple[list[int], list[Any]]:
    """Of a union: which member each value is, and the arrays of all members."""
    codes = pa.Array.from_buffers(
        pa.int8(), len(array), [None, array.buffers()[1]], offset=array.offset
    )
    return cast(list[int], codes.to_pylist()), [
        array.field(at) for at in range(array.type.num_fields)
    ]


def extremes(array: Any) -> tuple[Any, Any]:
    """The least and the greatest value; None where there is none."""
    found: Any = pc.min_max(array)
    return found["min"].as_py(), found["max"].as_py()


def _form(type_: DuckDBPyType, text: bool) -> Form | None:
    kind = type_.id
    if kind in _NARROW:
        return _texts_of(_plain) if text else _plain
    if kind in ("hugeint", "decimal", "uhugeint"):
        if kind == "decimal" and dict(type_.children)["scale"]:
            return _decimals
        whole = _unsigned if kind == "uhugeint" else _whole
        return _texts_of(whole) if text else whole
    if kind in _TICKS:
        ticks = _TICKS[kind]
        return lambda array: _timestamps(array, ticks)
    if kind in _CLOCKS:
        ticks = _CLOCKS[kind]
        return lambda array: _times(array, ticks)
    if kind in ("list", "array", "map", "struct", "tuple", "union"):
        inside = nested(type_)
        children = [form for _, child in inside if (form := _form(child, text))]
        if len(children) < len(inside):
            return None
        return _nested(kind, [name for name, _ in inside], children)
    return _FORMS.get(kind)


def nested(type_: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """The types inside of a nested type, in the order of Arrow's children."""
    kind = type_.id
    if kind in ("list", "array"):
        return [("child", cast(DuckDBPyType, dict(type_.children)["child"]))]
    inside = type_.children[1:] if kind == "union" else type_.children  # before: which one it is
    return [(name, cast(DuckDBPyType, child)) for name, child in inside]


def _nested(kind: str, names: Sequence[str], children: Sequence[Form]) -> Form:
    if kind in ("list", "array"):
        return lambda array: _lists(array, children[0])
    if kind == "map":
        return lambda array: _maps(array, children[0], children[1])
    if kind == "union":
        return lambda array: _unions(array, children)
    if kind == "tuple":
        return lambda array: _structs(array, children, list)
    return lambda array: _structs(array, children, lambda row: dict(zip(names, row, strict=True)))


def _plain(array: Any) -> list[Any]:
    return cast(list[Any], array.to_pylist())


def _texts_of(form: Form) -> Form:
    return lambda array: [None if value is None else str(value) for value in form(array)]


def _whole(array: Any) -> list[int | None]:
    if len(array) > FEW:
        try:
            return cast(list[int | None], array.cast(pa.int64()).to_pylist())
        except pa.ArrowInvalid:
            pass  # one of them is wider
    return [None if value is None else int(value) for value in array.to_pylist()]


def _unsigned(array: Any) -> list[int | None]:
    """Arrow has no unsigned 128-bit integer: the upper half arrives as negative numbers."""
    numbers = (None if value is None else int(value) for value in array.to_pylist())
    return [number + 2**128 if number is not None and number < 0 else number for number in numbers]


def _decimals(array: Any) -> list[str | None]:
    if len(array) <= FEW:
        return [None if value is None else format(value, "f") for value in array.to_pylist()]
    texts: list[str | None] = array.cast(pa.string()).to_pylist()
    if "E" not in "".join(filter(None, texts)):
        return texts
    return [None if value is None else format(value, "f") for value in array.to_pylist()]


def _floats(array: Any) -> list[float | str | None]:
    values: list[Any] = array.to_pylist()
    if math.isfinite(sum(filter(None, values))):  # it is not if one of them is not
        return values
    return [None if value is None else _float(value) for value in values]


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _timestamps(array: Any, ticks: int) -> list[str | None]:
    """`array` counts `ticks` per second since 1970, UTC."""
    numbers = array.view(_NUMBER)
    day = _SECONDS_OF_DAY * ticks
    if len(array) <= FEW or not _within(numbers, _FIRST_DAY * day, (_LAST_DAY + 1) * day):
        return [_timestamp(each, ticks) for each in numbers.to_pylist()]
    texts = numbers.cast(pa.timestamp(_UNITS[ticks])).cast(pa.string())
    texts = pc.replace_substring(_short(texts, ticks), " ", "T")
    return cast(list[str | None], pc.binary_join_element_wise(texts, "Z", "").to_pylist())


def _times(array: Any, ticks: int) -> list[str | None]:
    numbers = array.view(_NUMBER)
    if len(array) <= FEW or not _within(numbers, 0, _SECONDS_OF_DAY * ticks):
        return [_time(each, ticks) for each in numbers.to_pylist()]
    return cast(list[str | None], _short(array.cast(pa.string()), ticks).to_pylist())


def _dates(array: Any) -> list[str | None]:
    numbers = array.view(_DAY)
    if len(array) <= FEW or not _within(numbers, _FIRST_DAY, _LAST_DAY + 1):
        return [None if each is None else _date(each) for each in numbers.to_pylist()]
    return cast(list[str | None], array.cast(pa.string()).to_pylist())


def _within(numbers: Any, first: int, until: int) -> bool:
    """Whether all numbers are from `first` on and less than `until`."""
    least, most = extremes(numbers)
    return least is None or (first <= least and most < until)


def _short(texts: Any, ticks: int) -> Any:
    """Seconds without the zeros at their end, which Arrow writes."""
    return texts if ticks == 1 else pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")


def _timestamp(value: int | None, ticks: int) -> str | None:
    if value is None:
        return None
    if abs(value) == _INFINITE_TICK:
        return "infinity" if value > 0 else "-infinity"
    days, rest = divmod(value, _SECONDS_OF_DAY * ticks)
    return f"{_date(days)}T{_clock(rest, ticks)}Z"


def _time(value: int | None, ticks: int) -> str | None:
    return None if value is None else _clock(value, ticks)


def _clock(value: int, ticks: int) -> str:
    second, rest = divmod(value, ticks)
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    if rest == 0:
        return clock
    return clock + f".{rest:0{len(str(ticks)) - 1}}".rstrip("0")


def _date(days: int) -> str:
    if abs(days) == _INFINITE_DAY:
        return "infinity" if days > 0 else "-infinity"
    cycles, day = divmod(days, _DAYS_OF_400_YEARS)  # the calendar repeats after 400 years
    within = _EPOCH + timedelta(days=day)
    year = within.year + 400 * cycles
    sign = "" if 0 <= year <= 9999 else "+" if year > 0 else "-"
    return f"{sign}{abs(year):04}-{within.month:02}-{within.day:02}"


def _blobs(array: Any) -> list[str | None]:
    values = array.to_pylist()
    return [None if value is None else base64.b64encode(value).decode() for value in values]


def _enums(array: Any) -> list[str | None]:
    return cast(list[str | None], array.dictionary_decode().to_pylist())


def _lists(array: Any, form: Form) -> list[list[Any] | None]:
    return _cut(form(array.flatten()), pc.list_value_length(array))


def _maps(array: Any, key: Form, item: Form) -> list[list[Any] | None]:
    entry = pa.struct([array.type.key_field, array.type.item_field])
    listed = array.cast(pa.list_(entry))
    keys, items = listed.flatten().flatten()
    pairs = [list(pair) for pair in zip(key(keys), item(items), strict=True)]
    return _cut(pairs, pc.list_value_length(listed))


def _cut(values: list[Any], lengths: Any) -> list[list[Any] | None]:
    each: Iterator[Any] = iter(values)
    return [
        None if length is None else list(itertools.islice(each, length))
        for length in lengths.to_pylist()
    ]


def _structs(array: Any, children: Sequence[Form], made: Callable[[Any], Any]) -> list[Any]:
    columns = [form(part) for form, part in zip(children, array.flatten(), strict=True)]
    rows = zip(*columns, strict=True) if columns else itertools.repeat((), len(array))
    there = array.is_valid().to_pylist()
    return [made(row) if valid else None for valid, row in zip(there, rows, strict=True)]


def _unions(array: Any, children: Sequence[Form]) -> list[Any]:
    codes, parts = members(array)
    columns = [form(part) for form, part in zip(children, parts, strict=True)]
    return [columns[code][at] for at, code in enumerate(codes)]


_FORMS: Mapping[str, Form] = {
    "null": _plain,
    "boolean": _plain,
    "varchar": _plain,
    "uuid": _plain,
    "enum": _enums,
    "float": _floats,
    "double": _floats,
    "date": _dates,
    "interval": intervals,
    "blob": _blobs,
    "bit": bits,
}
