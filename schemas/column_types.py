"""The column types that a stream and a reference may declare, and what can be told of them."""

from __future__ import annotations

import difflib
import re

from sqlglot import exp

INTEGERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)
NAMES = {
    "TEXT": "VARCHAR",
    "VARCHAR": "VARCHAR",
    "INT": "INTEGER",
    "BOOLEAN": "BOOLEAN",
    "DOUBLE": "DOUBLE",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
    "JSON": "JSON",
    **{name: name for name in INTEGERS},
}
INSTEAD = {
    "FLOAT": "DOUBLE",
    "REAL": "DOUBLE",
    "HUGEINT": "DECIMAL(38, 0)",
    "INT128": "DECIMAL(38, 0)",
    "UHUGEINT": "DECIMAL(38, 0)",
    "TIMESTAMPTZ": "TIMESTAMP, which takes any zone and is UTC",
    "UUID": "VARCHAR",
    "TIME": "VARCHAR",
    "BLOB": "VARCHAR with a decoding in a generated column",
    "STRUCT": "JSON and generated columns",
    "MAP": "JSON and generated columns",
    "ARRAY": "JSON and generated columns",
}
DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
KNOWN = ", ".join(dict.fromkeys([*NAMES.values(), "DECIMAL(p, s)"]))


def canonical(declared: exp.DataType | None, written: str = "") -> tuple[str, str | None]:
    """DuckDB's name of a declared type, and what is wrong with it, or None."""
    if declared is None:
        return "", f"column must have a type, one of {KNOWN}"
    text = declared.sql("duckdb")
    if declared.this == exp.DType.DECIMAL:
        parts = [int(part.name) for part in declared.expressions] or [18, 3]
        width, scale = [*parts, 0][:2]
        if not (1 <= width <= 38 and 0 <= scale <= width):
            return (
                "",
                f"DECIMAL must have 1 to 38 digits, at most that many behind the point; got {text}",
            )
        return f"DECIMAL({width},{scale})", None
    name = NAMES.get(text.upper())
    if name is None:
        word = text.upper().split("(")[0]
        hint = INSTEAD.get("ARRAY" if text.endswith("[]") else word)
        close = difflib.get_close_matches(word, NAMES, 1, 0.7)
        instead = f". Use {hint}" if hint else f"; did you mean {close[0]}?" if close else ""
        return "", f"type must be one of {KNOWN}; got {written or text}{instead}"
    return name, None


def decimal(type_name: str) -> tuple[int, int] | None:
    """Width and scale of a DECIMAL, None for any other type."""
    found = DECIMAL.fullmatch(type_name)
    return (int(found[1]), int(found[2])) if found else None


def number(type_name: str) -> bool:
    """Whether it is an integer or a DECIMAL."""
    return type_name in INTEGERS or decimal(type_name) is not None


def comparable(type_name: str) -> bool:
    """Whether values that compare equal are also told apart by nothing (DOUBLE has -0.0)."""
    plain = type_name in NAMES.values() and type_name not in ("DOUBLE", "JSON")
    return plain or decimal(type_name) is not None


# exact in Arrow and in Parquet only as another type, which the value survives both ways
STORED_AS = {
    "HUGEINT": "VARCHAR",
    "UHUGEINT": "VARCHAR",
    "UUID": "VARCHAR",
    "TIMESTAMP_S": "TIMESTAMP",
    "TIMESTAMP_MS": "TIMESTAMP",
}
STORED = (
    *("FLOAT", "TIME", "TIMESTAMP WITH TIME ZONE", "BLOB"),
    *(name for name in dict.fromkeys(NAMES.values())),
)
_NESTED = re.compile(r"[\[(]")
_WORDS = re.compile(r'"(?:[^"]|"")*"|[A-Z_]+(?: WITH TIME ZONE)?')
# of what a nested value must hold nothing, as it would not come back as it was
_LOST = frozenset(
    {*STORED_AS, "INTERVAL", "BIT", "ENUM", "UNION", "VARIANT", "TIMESTAMP_NS", "TIME_NS"}
    | {"TIME WITH TIME ZONE", "BIGNUM", "GEOMETRY", "NULL"}
)


def stored(type_name: str) -> str | None:
    """The type in which values of a plain type are kept in files, None where none keeps them."""
    if type_name in STORED or decimal(type_name) is not None:
        return type_name
    return STORED_AS.get(type_name)


def stored_nested(type_name: str) -> str | None:
    """The same, and of lists, structs and maps of plain types."""
    if not _NESTED.search(type_name) or decimal(type_name) is not None:
        return stored(type_name)
    return None if _LOST & set(_WORDS.findall(type_name)) else type_name
