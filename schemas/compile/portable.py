"""An answer's rows in types that Spark, Polars and DuckDB all read from Parquet as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence

from schemas.compile import sql

# Parquet has no such integer (DuckDB writes a DOUBLE), and Spark refuses a file with the others
INSTEAD = {
    "HUGEINT": "DECIMAL(38,0)",
    "UHUGEINT": "DECIMAL(38,0)",
    "TIMESTAMP_S": "TIMESTAMP",
    "TIMESTAMP_MS": "TIMESTAMP",
    "TIMESTAMP_NS": "TIMESTAMP",
    "TIME": "VARCHAR",
    "TIME_NS": "VARCHAR",
    "TIME WITH TIME ZONE": "VARCHAR",
    "INTERVAL": "VARCHAR",
    "UUID": "VARCHAR",
    "BIT": "VARCHAR",
}
_WORD = re.compile(r"[A-Z_]+(?: WITH TIME ZONE)?")


def columns(answered: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Names and the types that they are written in; nested values with such a type inside are
    written as their text."""
    return tuple((name, _written(kind)) for name, kind in answered)


def select(answered: Sequence[tuple[str, str]], source: str) -> str:
    """SELECT of presented rows, a relation, in those types."""
    cast = [
        f"CAST({sql.name(name)} AS {kind}) AS {sql.name(name)}" for name, kind in columns(answered)
    ]
    return f"SELECT {', '.join(cast)} FROM {source}"


def _written(kind: str) -> str:
    if kind in INSTEAD:
        return INSTEAD[kind]
    nested = ("(" in kind and not kind.startswith("DECIMAL")) or kind.endswith("]")
    return "VARCHAR" if nested and INSTEAD.keys() & set(_WORD.findall(kind)) else kind
