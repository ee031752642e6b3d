"""approx_top_k: how often each value came, as rows (keys, value, count). Counts are exact."""

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
)

MOST = 1_000
_WHOLE = re.compile(r"[1-9]\d{0,3}")
# the text of an argument is not at hand where answers are compared, so all counts are asked for
_COUNTS = "map_entries({exact})"
_TOP = (
    f"list_transform(list_sort(list_transform({_COUNTS}, "
    "lambda e: {{'n': -CAST(e.value AS BIGINT), 'v': e.key}})), lambda s: s.v)"
)


def top(call: Call) -> Measure:
    """The values that came most often, most often first; of those that came as often as each
    other, the smaller first."""
    message = ""
    if call.distinct:
        message = "is not a measure with DISTINCT; leave it out"
    elif len(call.arguments) != 2:
        message = f"must have a value and how many of them; got {len(call.arguments)} arguments"
    elif not (column_types.comparable(call.types[0]) or call.types[0] == "DOUBLE"):
        message = f"must be of a plain value; got {call.types[0]}. CAST it to VARCHAR"
    elif not _WHOLE.fullmatch(call.arguments[1].strip()) or int(call.arguments[1]) > MOST:
        message = f"must give 1 to {MOST} values; got {call.arguments[1]}"
    if message:
        text = f"{call.function} {message}"
        raise RefusedCall(text)
    value, kind, many = call.arguments[0], call.types[0], int(call.arguments[1])
    where = f"({value}) IS NOT NULL"
    within = f"({{ours}} IS NOT DISTINCT FROM {_TOP}[1:{many}])"
    return Measure(
        (),
        "{finished}",
        Wide(
            kind="values",
            # -0.0 equals 0.0 but prints otherwise
            value=f"({value}) + 0.0" if kind == "DOUBLE" else value,
            where=f"{where} AND ({call.where})" if call.where else where,
            buckets=(Bucket("_item", kind, "_value"),),
            values=(Partial("_count", "BIGINT", "count(*)", "sum"),),
            rows=None,
        ),
        Finished(f"list(_item ORDER BY _count DESC, _item)[1:{many}]", f"{kind}[]"),
        Judged("histogram({0})", within),
    )


ALL = (Aggregate("approx_top_k", 1, "exact", "none; ties by value", top),)
