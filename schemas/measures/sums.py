"""count, sum, avg: core columns merged by sum.

Sums are kept as DECIMAL: neither Parquet nor Arrow holds DuckDB's HUGEINT, and a sum of DOUBLE
depends on the order of the rows.
"""

from __future__ import annotations

from schemas import column_types
from schemas.measures import values
from schemas.measures.measure import (
    Aggregate,
    Call,
    Measure,
    Partial,
    RefusedCall,
    filtered,
    one_argument,
)

# 10^11 values of this many digits still fit in the 38 digits of a sum
WIDEST = 27


def _count_of(call: Call, argument: str) -> Partial:
    return Partial("count", "BIGINT", filtered(f"count({argument})", call.where), "sum")


def _sum_of(call: Call) -> Partial:
    argument, type_name = one_argument(call)
    if type_name in column_types.INTEGERS or type_name == "BOOLEAN":
        inner = f"CAST({argument} AS INTEGER)" if type_name == "BOOLEAN" else argument
        fold = filtered(f"sum({inner})", call.where)
        return Partial("sum", "DECIMAL(38,0)", fold, "sum")
    decimal = column_types.decimal(type_name)
    if decimal and decimal[0] <= WIDEST:
        fold = filtered(f"sum({argument})", call.where)
        return Partial("sum", f"DECIMAL(38,{decimal[1]})", fold, "sum")
    instead = {
        "DOUBLE": "CAST(... AS DECIMAL(18, 6)) with the digits you need",
        "HUGEINT": f"CAST(... AS DECIMAL({WIDEST}, 0))",
    }.get(type_name, f"a DECIMAL of at most {WIDEST} digits" if decimal else "a number")
    message = f"{call.function} must be of an integer or a DECIMAL; got {type_name}. Use {instead}"
    raise RefusedCall(message)


def count(call: Call) -> Measure:
    """Rows, or those where the argument is not NULL."""
    if call.distinct:
        return values.different(call)
    if len(call.arguments) > 1:
        message = f"count must have one argument or *; got {len(call.arguments)}"
        raise RefusedCall(message)
    return Measure((_count_of(call, (*call.arguments, "*")[0]),), "coalesce({0}, 0)")


def total(call: Call) -> Measure:
    """The sum; NULL where there is no value."""
    return Measure((_sum_of(call),), "{0}")


def mean(call: Call) -> Measure:
    """The exact sum as a DOUBLE, divided once; NULL where there is no value. DuckDB's own avg is
    this too, but for DECIMAL under a FILTER, where it rounds otherwise in the last bit."""
    partials = (_sum_of(call), _count_of(call, call.arguments[0]))
    return Measure(partials, "CAST({0} AS DOUBLE) / nullif({1}, 0)")


ALL = (
    Aggregate("count", 1, "exact", "none", count),
    Aggregate("sum", 1, "exact", "none", total),
    Aggregate("avg", 1, "exact", "none", mean),
)
