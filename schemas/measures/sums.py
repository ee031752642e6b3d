"""count, sum, avg: core columns merged by sum; of DOUBLE see `doubles`, of wide numbers `limbs`.

Sums are kept as DECIMAL: Parquet holds no HUGEINT, and a sum of DOUBLE would depend on the order of
the rows.
"""

from __future__ import annotations

from schemas import column_types
from schemas.measures import doubles, limbs, values
from schemas.measures.kept import FLOATS
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

_TIMES = "CAST(avg(epoch_us(...)) AS BIGINT) and make_timestamp of that"
_WAYS_OUT = {
    "BOOLEAN": "CAST(... AS INTEGER)",
    "DATE": _TIMES,
    "TIMESTAMP": _TIMES,
    "TIMESTAMP WITH TIME ZONE": _TIMES,
    "TIME": "epoch(...), its seconds",
    "INTERVAL": "epoch(...), its seconds",
}


def count_of(call: Call, argument: str) -> Partial:
    """How many values there are."""
    return Partial("count", "BIGINT", filtered(f"count({argument})", call.where), "sum")


def _narrow(call: Call) -> Partial | None:
    """The sum of a type of which 10^11 values fit in 38 digits; None for any other."""
    argument, type_name = call.arguments[0], call.types[0]
    if type_name in column_types.INTEGERS or type_name == "BOOLEAN":
        inner = f"CAST({argument} AS INTEGER)" if type_name == "BOOLEAN" else argument
        fold = filtered(f"sum({inner})", call.where)
        return Partial("sum", "DECIMAL(38,0)", fold, "sum")
    decimal = column_types.decimal(type_name)
    if decimal and decimal[0] <= WIDEST:
        fold = filtered(f"sum({argument})", call.where)
        return Partial("sum", f"DECIMAL(38,{decimal[1]})", fold, "sum")
    return None


def must_be_a_number(call: Call) -> None:
    """The only argument; RefusedCall where it is nothing to add up."""
    _, type_name = one_argument(call)
    wide = type_name in ("HUGEINT", "UHUGEINT", *FLOATS)
    if not (wide or column_types.number(type_name)):
        way_out = _WAYS_OUT.get(type_name, "a CAST to one")
        message = f"{call.function} must be of a number; got {type_name}. Use {way_out}"
        raise RefusedCall(message)


def count(call: Call) -> Measure:
    """Rows, or those where the argument is not NULL."""
    if call.distinct:
        return values.different(call)
    if len(call.arguments) > 1:
        message = f"count must have one argument or *; got {len(call.arguments)}"
        raise RefusedCall(message)
    return Measure((count_of(call, (*call.arguments, "*")[0]),), "coalesce({0}, 0)")


def count_if(call: Call) -> Measure:
    """Rows where the argument is true; NULL where it never has a value, as DuckDB has it."""
    argument, _ = one_argument(call)
    true = f"({argument}) AND ({call.where})" if call.where else argument
    partials = (
        Partial("count", "BIGINT", filtered("count(*)", true), "sum"),
        count_of(call, argument),
    )
    return Measure(partials, "CASE WHEN {1} > 0 THEN {0} END")


def total(call: Call) -> Measure:
    """The sum; NULL where there is no value."""
    if call.types[:1] != ("BOOLEAN",):
        must_be_a_number(call)
    one_argument(call)
    if call.types[0] in FLOATS:
        return Measure(
            (),
            "{finished}",
            doubles.wide(call),
            doubles.FINISHED,
            doubles.judged("{total}"),
            "reproducible",
            doubles.BOUND,
        )
    narrow = _narrow(call)
    if narrow is None:
        return limbs.total(call)
    return Measure((narrow,), "{0}", exactness="exact", bound="none")


def mean(call: Call) -> Measure:
    """The sum as a DOUBLE, divided once; NULL where there is no value. DuckDB's own avg is this
    too, but for DECIMAL under a FILTER, where it rounds otherwise in the last bit."""
    must_be_a_number(call)
    counted = count_of(call, call.arguments[0])
    if call.types[0] in FLOATS:
        return Measure(
            (counted,),
            "{finished} / nullif({0}, 0)",
            doubles.wide(call),
            doubles.FINISHED,
            doubles.judged("{total} / {n}"),
            "reproducible",
            f"the quotient of a sum {doubles.BOUND}",
        )
    narrow = _narrow(call)
    if narrow is None:
        return limbs.mean(call, counted)
    present = "CAST({0} AS DOUBLE) / nullif({1}, 0)"
    return Measure((narrow, counted), present, exactness="exact", bound=limbs.ROUNDED)


ALL = (
    Aggregate("count", 1, "exact", "none", count),
    Aggregate("count_if", 1, "exact", "none", count_if),
    Aggregate("countif", 1, "exact", "none", count_if),
    Aggregate("sum", 1, "reproducible", doubles.BOUND, total),
    Aggregate("avg", 1, "reproducible", doubles.BOUND, mean),
    Aggregate("mean", 1, "reproducible", doubles.BOUND, mean),
)
