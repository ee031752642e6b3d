"""min, max, bool_and, bool_or and the bit aggregates: core columns merged by themselves.

Rows where the argument is NULL do not count, and no value at all is NULL. NaN is above every other
number; 0.0 stands for -0.0 too.
"""

from __future__ import annotations

from schemas import column_types
from schemas.measures.kept import kept
from schemas.measures.measure import (
    Aggregate,
    Call,
    Measure,
    Merge,
    Partial,
    RefusedCall,
    filtered,
    one_argument,
)


def _extreme(call: Call) -> Measure:
    argument, type_name = one_argument(call)
    fold = filtered(f"{call.function}({kept(call.function, argument, type_name)})", call.where)
    merge: Merge = "min" if call.function == "min" else "max"
    return Measure((Partial(merge, type_name, fold, merge),), "{0}")


def _logical(call: Call) -> Measure:
    """Whether all, or any, are true: false is less than true."""
    argument, _ = one_argument(call)
    merge: Merge = "min" if call.function == "bool_and" else "max"
    fold = filtered(f"{merge}({argument})", call.where)
    return Measure((Partial(merge, "BOOLEAN", fold, merge),), "{0}")


def _bits(call: Call) -> Measure:
    argument, type_name = one_argument(call)
    if type_name not in column_types.INTEGERS:
        message = (
            f"{call.function} must be of an integer of up to 64 bits; got {type_name}. "
            "CAST it to BIGINT"
        )
        raise RefusedCall(message)
    merges: dict[str, Merge] = {"bit_and": "bit_and", "bit_or": "bit_or", "bit_xor": "bit_xor"}
    merge = merges[call.function]
    fold = filtered(f"{call.function}({argument})", call.where)
    return Measure((Partial(merge, type_name, fold, merge),), "{0}")


ALL = (
    Aggregate("min", 1, "exact", "none", _extreme),
    Aggregate("max", 1, "exact", "none", _extreme),
    Aggregate("bool_and", 1, "exact", "none", _logical),
    Aggregate("bool_or", 1, "exact", "none", _logical),
    Aggregate("bit_and", 1, "exact", "none", _bits),
    Aggregate("bit_or", 1, "exact", "none", _bits),
    Aggregate("bit_xor", 1, "exact", "none", _bits),
)
