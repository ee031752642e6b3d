"""Values of every column type: small ones that repeat, and the extremes; how JSON and CSV spell
them. What a spelling means is said here, in Python, and nowhere asked of the engine."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

import pyarrow as pa

from schemas import column_types

DECIMALS = ("DECIMAL(9,2)", "DECIMAL(18,4)", "DECIMAL(27,5)", "DECIMAL(38,10)")
TYPES = (
    "BOOLEAN",
    *column_types.INTEGERS,
    *DECIMALS,
    "DOUBLE",
    "VARCHAR",
    "DATE",
    "TIMESTAMP",
    "JSON",
)
NULL = "NA"  # stands for NULL where a stream says so; no value below is spelled like it

_TEXTS = ("a", "b", "B", "", " ", "é", "e\u0301", "ß", 'q"q', "x,y", "l\nm", "12", "null", "zz")
_DOUBLES = (0.0, -0.0, 1.5, -2.25, 0.1, 1 / 3, 1e16, 1e-300, 5e-324, 1.5e308, -1.5e308)
_DATES = (date.min, date.max, date(1970, 1, 1), date(2013, 1, 1), date(2013, 1, 2))
_DOCUMENTS: tuple[object, ...] = (
    {},
    {"a": 1},
    {"a": 2, "b": "x"},
    {"a": None},
    {"b": "y", "c": [1, 2]},
    [],
    "t",
    7,
    True,
)
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_DAY = datetime(2013, 1, 1, 10)  # noqa: DTZ001


def any_value(chance: Random, kind: str) -> object:
    """A value of a type, None in one of six."""
    return None if chance.random() < 1 / 6 else value(chance, kind)


def value(chance: Random, kind: str) -> object:
    """A value of a type as Python has it; JSON as its shortest text."""
    extreme = chance.random() < 0.12
    if kind == "BOOLEAN":
        return chance.random() < 0.5
    if kind in column_types.INTEGERS:
        low, high = bounds(kind)
        if extreme:
            return chance.choice((low, high, low + 1, high - 1))
        return chance.randint(max(low, -4), 6)
    if kind.startswith("DECIMAL"):
        width, scale = column_types.decimal(kind) or (0, 0)
        most = 10**width - 1
        whole = chance.choice((most, -most)) if extreme else chance.randint(-500, 500)
        return Decimal(whole).scaleb(-scale) if width < 28 else Decimal(f"{whole}E-{scale}")
    if kind == "DOUBLE":
        return chance.choice(_DOUBLES) if chance.random() < 0.4 else chance.gauss(0, 100)
    if kind == "VARCHAR":
        return chance.choice(_TEXTS)
    if kind == "DATE":
        return chance.choice(_DATES)
    if kind == "TIMESTAMP":
        if extreme:
            return chance.choice((datetime.min, datetime.max, EPOCH))  # noqa: DTZ901
        return _DAY + timedelta(microseconds=chance.choice((0, 1, chance.randrange(10**11))))
    return json.dumps(chance.choice(_DOCUMENTS), separators=(",", ":"))


def bounds(kind: str) -> tuple[int, int]:
    """The least and the most that an integer type holds."""
    bits = {"TINY": 8, "SMALL": 16, "BIG": 64}.get(kind.removeprefix("U").removesuffix("INT"), 32)
    return (0, 2**bits - 1) if kind.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def in_json(chance: Random, kind: str, given: object) -> str:
    """One of the ways to write a value in JSON."""
    if given is None:
        return "null"
    text = spelled(chance, kind, given)
    if kind in ("VARCHAR", "DATE", "TIMESTAMP"):
        return json.dumps(text, ensure_ascii=chance.random() < 0.5)
    if kind.startswith("DECIMAL") and chance.random() < 0.5:
        return json.dumps(text)
    return text


def in_csv(chance: Random, kind: str, given: object, null: str) -> str:
    """One of the ways to write a value as a field."""
    if given is None:
        return null
    text = spelled(chance, kind, given)
    if text == null or any(mark in text for mark in ',"\r\n') or chance.random() < 0.1:
        return '"' + text.replace('"', '""') + '"'
    return text


def spelled(chance: Random, kind: str, given: object) -> str:
    """The characters of a value, without quotes."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, datetime):
        return _moment(chance, given)
    if isinstance(given, date):
        return given.isoformat()
    if isinstance(given, Decimal):
        return f"{given:f}"
    if kind == "DOUBLE":
        return repr(given)
    return str(given)


def _moment(chance: Random, at: datetime) -> str:
    zone = chance.choice(("", "Z", " ", "+02:00", "-0530"))
    if zone in ("", "Z"):
        return at.isoformat() + zone
    if zone == " " or not 1 < at.year < 9999:
        return at.isoformat(sep=" ")
    shift = timedelta(hours=2) if zone == "+02:00" else -timedelta(hours=5, minutes=30)
    return (at + shift).isoformat() + zone


def arrow(kind: str) -> pa.DataType:
    """The Arrow type that holds what `value` gives."""
    decimal = column_types.decimal(kind)
    return pa.decimal128(*decimal) if decimal is not None else _ARROW.get(kind, pa.string())


_ARROW: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "BLOB": pa.binary(),
}
