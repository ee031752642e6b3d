"""arg_min, arg_max, first, last: the value at the least or greatest of another, as one core column
that holds both.

A row counts where neither is NULL. Of rows that tie, arg_min and first take the least value,
arg_max and last the greatest: where DuckDB takes whichever it met first, the answer would depend on
the split.
"""

from __future__ import annotations

from schemas.measures.kept import kept, present
from schemas.measures.measure import (
    Aggregate,
    Call,
    Judged,
    Measure,
    Merge,
    Partial,
    RefusedCall,
    filtered,
    plain,
)

_BOUND = "none; of ties the {} value"
_LEAST, _MOST = _BOUND.format("least"), _BOUND.format("greatest")


def at_extreme(call: Call) -> Measure:
    """arg_min(x, by) and its like."""
    value, by = plain(call, 2)
    return _pair(call, value, by, call.types[1], "{1}")


def by_event_time(call: Call) -> Measure:
    """first(x), last(x): by the event time that the stream declares."""
    (value,) = plain(call, 1)
    if call.event_time is None:
        other = "arg_min(x, by)" if call.function == "first" else "arg_max(x, by)"
        message = (
            f"{call.function} goes by the stream's event time, and the stream declares none. Use "
            f"{other}, or declare event_time"
        )
        raise RefusedCall(message)
    # it is written into a template in which braces have a meaning
    written = call.event_time.replace("{", "{{").replace("}", "}}")
    return _pair(call, value, call.event_time, "TIMESTAMP", written)


def _pair(call: Call, value: str, by: str, by_type: str, by_written: str) -> Measure:
    type_name = call.types[0]
    first = call.function in ("arg_min", "min_by", "first")
    merge: Merge = "min" if first else "max"
    pair = (
        f"struct_pack(a := {kept(call.function, by, by_type)}, "
        f"b := {kept(call.function, value, type_name)})"
    )
    where = present(by, present(value, call.where))
    partial = Partial(
        f"{merge}_pair",
        f"STRUCT(a {by_type}, b {type_name})",
        filtered(f"{merge}({pair})", where),
        merge,
    )
    own = "arg_min" if first else "arg_max"
    exact = (
        f"{own}({{0}}, row({by_written}, {{0}})) "
        f"FILTER (WHERE ({by_written}) IS NOT NULL AND ({{0}}) IS NOT NULL AND ({{where}}))"
    )
    # -0.0 is among the equals of 0.0 here
    return Measure(
        (partial,),
        "struct_extract({0}, 'b')",
        judged=Judged(exact, "({ours} IS NOT DISTINCT FROM {exact})"),
    )


ALL = (
    Aggregate("arg_min", 1, "exact", _LEAST, at_extreme),
    Aggregate("arg_max", 1, "exact", _MOST, at_extreme),
    Aggregate("min_by", 1, "exact", _LEAST, at_extreme),
    Aggregate("max_by", 1, "exact", _MOST, at_extreme),
    Aggregate("first", 1, "exact", _LEAST, by_event_time, timed=True),
    Aggregate("last", 1, "exact", _MOST, by_event_time, timed=True),
)
