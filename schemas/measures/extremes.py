"""min, max: core columns merged by themselves."""

from __future__ import annotations

from schemas import column_types
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
    if type_name == "DOUBLE":
        # -0.0 equals 0.0 but prints otherwise, so which one is kept would depend on the split
        argument = f"({argument}) + 0.0"
    elif not column_types.comparable(type_name):
        message = (
            f"{call.function} must be of a number, a text, a boolean or a time; got {type_name}. "
            "CAST it to one of them"
        )
        raise RefusedCall(message)
    fold = filtered(f"{call.function}({argument})", call.where)
    merge: Merge = "min" if call.function == "min" else "max"
    return Measure((Partial(merge, type_name, fold, merge),), "{0}")


ALL = (
    Aggregate("min", 1, "exact", "none", _extreme),
    Aggregate("max", 1, "exact", "none", _extreme),
)
