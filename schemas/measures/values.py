"""Measures of which values came how often: rows (keys, value, count), merged by sum.

count(DISTINCT x), histogram(x), mode(x) and approx_top_k(x, k) of one argument, and its quantiles
(`ranks.py`), need the same rows and share one table. Counts are exact.
"""

from __future__ import annotations

import re

from schemas import column_types
from schemas.measures.measure import (
    Aggregate,
    Bucket,
    Call,
    Finished,
    Judged,
    Measure,
    Partial,
    RefusedCall,
    Wide,
    one_argument,
)

MOST = 1_000
_WHOLE = re.compile(r"[1-9]\d{0,3}")
# types that an expression may have though no column does, and what to write for them
_CASTS = {
    "FLOAT": "to DOUBLE",
    "HUGEINT": "to DECIMAL(38, 0)",
    "UHUGEINT": "to DECIMAL(38, 0)",
    "TIMESTAMP WITH TIME ZONE": "to TIMESTAMP",
    "INTERVAL": "away: epoch(...) of it is its seconds",
}
# the text of an argument is not at hand where answers are compared, so all counts are asked for
_COUNTS = "map_entries({exact})"
_TOP = (
    f"list_transform(list_sort(list_transform({_COUNTS}, "
    "lambda _e: {{'n': -CAST(_e.value AS BIGINT), 'v': _e.key}})), lambda _s: _s.v)"
)


def rows(call: Call) -> Wide:
    """The rows of a call's first argument; its NULLs have none."""
    value, kind = call.arguments[0], call.types[0]
    if not (column_types.comparable(kind) or kind == "DOUBLE"):
        way_out = f"CAST it {_CASTS.get(kind, 'to VARCHAR')}"
        message = f"{call.function} must be of a plain value; got {kind}. {way_out}"
        raise RefusedCall(message)
    where = f"({value}) IS NOT NULL"
    return Wide(
        kind="values",
        # -0.0 equals 0.0 but prints otherwise
        value=f"({value}) + 0.0" if kind == "DOUBLE" else value,
        where=f"{where} AND ({call.where})" if call.where else where,
        buckets=(Bucket("_item", kind, "_value"),),
        values=(Partial("_count", "BIGINT", "count(*)", "sum"),),
        rows=None,
    )


def different(call: Call) -> Measure:
    """count(DISTINCT x): how many different values that are not NULL."""
    return Measure((), "coalesce({finished}, 0)", rows(call), Finished("count(*)", "BIGINT"))


def histogram(call: Call) -> Measure:
    """A MAP of each value to how often it came, in the order of the values; NULL where none did."""
    if len(call.arguments) == 2:
        message = (
            "histogram must have one argument; got bins too. Write it of the bin: "
            "histogram(x // 10 * 10)"
        )
        raise RefusedCall(message)
    _, kind = one_argument(call)
    listed = "map(list(_item ORDER BY _item), list(CAST(_count AS UBIGINT) ORDER BY _item))"
    return Measure((), "{finished}", rows(call), Finished(listed, f"MAP({kind}, UBIGINT)"))


def mode(call: Call) -> Measure:
    """The value that came most often; of those that came as often as each other, the smallest."""
    _, kind = one_argument(call)
    first = "min({'n': -_count, 'v': _item}).v"
    within = f"({{ours}} IS NOT DISTINCT FROM {_TOP}[1])"
    judged = Judged("histogram({0})", within)
    return Measure((), "{finished}", rows(call), Finished(first, kind), judged)


def top(call: Call) -> Measure:
    """The values that came most often, most often first; of those that came as often as each
    other, the smaller first."""
    message = ""
    if call.distinct:
        message = "is not a measure with DISTINCT; leave it out"
    elif len(call.arguments) != 2:
        message = f"must have a value and how many of them; got {len(call.arguments)} arguments"
    elif not _WHOLE.fullmatch(call.arguments[1].strip()) or int(call.arguments[1]) > MOST:
        message = f"must give 1 to {MOST} values; got {call.arguments[1]}"
    if message:
        text = f"{call.function} {message}"
        raise RefusedCall(text)
    kind, many = call.types[0], int(call.arguments[1])
    within = f"({{ours}} IS NOT DISTINCT FROM {_TOP}[1:{many}])"
    return Measure(
        (),
        "{finished}",
        rows(call),
        Finished(f"list(_item ORDER BY _count DESC, _item)[1:{many}]", f"{kind}[]"),
        Judged("histogram({0})", within),
    )


ALL = (
    Aggregate("histogram", 1, "exact", "none", histogram),
    Aggregate("mode", 1, "exact", "none; ties by value", mode),
    Aggregate("approx_top_k", 1, "exact", "none; ties by value", top),
)
