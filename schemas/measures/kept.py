"""What a partial may keep of a value as it is: types that Arrow and Parquet give back, of which
values that compare equal cannot be told apart."""

from __future__ import annotations

from schemas import column_types
from schemas.measures.measure import RefusedCall

FLOATS = ("DOUBLE", "FLOAT")
_MORE = ("TIMESTAMP WITH TIME ZONE", "TIME", "BLOB")
_WAYS_OUT = {
    "HUGEINT": "CAST it to DECIMAL(38, 0)",
    "UHUGEINT": "CAST it to DECIMAL(38, 0)",
    "INTERVAL": "A month and 30 days compare equal; use its seconds, epoch(x)",
    "TIMESTAMP_S": "CAST it to TIMESTAMP",
    "TIMESTAMP_MS": "CAST it to TIMESTAMP",
    "TIMESTAMP_NS": "CAST it to TIMESTAMP",
    "JSON": "CAST it to VARCHAR, or take a part of it: x->>'$.part'",
}


def kept(function: str, sql: str, type_name: str) -> str:
    """SQL of a value as partials keep it; RefusedCall for a type of which they keep none."""
    if type_name in FLOATS:
        # -0.0 equals 0.0 but prints otherwise, so which one is kept would depend on the split
        return f"({sql}) + {'0.0' if type_name == 'DOUBLE' else 'CAST(0 AS FLOAT)'}"
    if column_types.comparable(type_name) or type_name in _MORE:
        return sql
    nested = type_name.endswith("]") or type_name.startswith(("STRUCT", "MAP"))
    other = "Take a part of it" if nested else "CAST it to VARCHAR"
    message = (
        f"{function} must be of a number, a text, a boolean, a time or a BLOB; got {type_name}. "
        f"{_WAYS_OUT.get(type_name, other)}"
    )
    raise RefusedCall(message)


def present(sql: str, where: str | None) -> str:
    """The condition of a FILTER that also wants a value."""
    wanted = f"({sql}) IS NOT NULL"
    return f"{wanted} AND ({where})" if where else wanted
