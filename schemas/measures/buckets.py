"""approx_quantile: counts by logarithmic bucket, as rows (keys, bucket, count, least, most).

A bucket holds the values of one sign between two powers of BASE, so any two of them are within 1 %
of each other. Zero, the infinities and NaN have buckets of their own. Buckets are numbered in the
order of their values, so the one that holds the value of a rank is found by adding up counts; the
answer is between the least and the most value in it, by rank, which is far nearer than 1 % where
values lie close together. Buckets: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile
sketch with relative-error guarantees" (2019).

A factor of ten has 231 buckets: values from a cent to a million have 1,850.
"""

from __future__ import annotations

import math

from schemas import column_types
from schemas.measures import ranks
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

BASE = 1.01
# above the largest power of BASE that a DOUBLE can be, of either sign: 744.4 / ln(1.01) = 74,817
OFFSET = 80_000
INFINITE, NOT_A_NUMBER = 2 * OFFSET, 2 * OFFSET + 1
# the logarithms of the least and the most DOUBLE above zero
LEAST, MOST = -744.45, 709.79
DIGITS = 20  # of the longest integer

_DOUBLE = "CAST(_value AS DOUBLE)"
_LOG = f"(CAST(ceil(ln(abs({_DOUBLE})) / ln({BASE})) AS INTEGER) + {OFFSET})"
_BUCKET = (
    f"CASE WHEN isnan({_DOUBLE}) THEN {NOT_A_NUMBER} "
    f"WHEN isinf({_DOUBLE}) THEN CASE WHEN {_DOUBLE} > 0 THEN {INFINITE} ELSE -{INFINITE} END "
    f"WHEN {_DOUBLE} = 0 THEN 0 WHEN {_DOUBLE} > 0 THEN {_LOG} ELSE -{_LOG} END"
)
# how many values are in this bucket and those before it, and in all of them
_WINDOWS = (
    ("_upto", "sum(_count) OVER ({group} ORDER BY _bucket)"),
    ("_all", "sum(_count) OVER ({group})"),
)


def quantile(call: Call) -> Measure:
    """The value at a rank, or the values at several: of those that are not NULL, in order, the one
    that as many are at or below."""
    fractions, listed = ranks.fractions(call)
    value, kind = call.arguments[0], call.types[0]
    if not (column_types.number(kind) or kind == "DOUBLE"):
        message = f"{call.function} must be of a number; got {kind}. CAST it to one"
        raise RefusedCall(message)
    # -0.0 equals 0.0 but prints otherwise
    argument = f"({value}) + 0.0" if kind == "DOUBLE" else value
    where = f"({value}) IS NOT NULL"
    estimates = [_at(fraction, kind) for fraction in fractions]
    within = _within("{ours}", "{exact}")
    if listed:
        each = [
            _within(f"{{ours}}[{at}]", f"{{exact}}[{at}]") for at in range(1, len(fractions) + 1)
        ]
        within = f"({' AND '.join(each)})"
    return Measure(
        (),
        "{finished}",
        Wide(
            kind="buckets",
            value=argument,
            where=f"{where} AND ({call.where})" if call.where else where,
            buckets=(Bucket("_bucket", "INTEGER", _BUCKET),),
            values=(
                Partial("_count", "BIGINT", "count(*)", "sum"),
                Partial("_least", kind, "min(_value)", "min"),
                Partial("_most", kind, "max(_value)", "max"),
            ),
            rows=_rows(kind),
        ),
        Finished(
            ranks.several(estimates) if listed else estimates[0],
            f"{kind}[]" if listed else kind,
            _WINDOWS,
        ),
        Judged("quantile_disc({0}, {1})", within),
    )


def _rows(kind: str) -> int:
    """How many buckets there are: powers of the base of either sign, and zero; of a DOUBLE the
    infinities and NaN too."""
    if kind == "DOUBLE":
        powers = math.ceil((MOST - LEAST) / math.log(BASE)) + 1
        return 2 * (powers + 1) + 2
    width, _ = column_types.decimal(kind) or (DIGITS, 0)
    return 2 * (math.ceil(width * math.log(10) / math.log(BASE)) + 1) + 1


def _at(fraction: ranks.Fraction, kind: str) -> str:
    """The value of a rank: from the least to the most of its bucket, by its place in there. The
    first and the last value of a bucket are exact."""
    rank = fraction.rank("_all")
    behind = f"({rank} - (_upto - _count))"
    share = f"(({behind} - 1) / (_count - 1))"
    width = "(CAST(_most AS DOUBLE) - CAST(_least AS DOUBLE))"
    # all buckets are computed before the one is taken, and a share of another may be anything
    inner = f"coalesce(TRY_CAST(CAST(_least AS DOUBLE) + {share} * {width} AS {kind}), _most)"
    value = (
        f"CASE WHEN {behind} = 1 OR _least = _most THEN _least WHEN {behind} = _count THEN _most "
        f"ELSE least(_most, greatest(_least, {inner})) END"
    )
    return f"min({value}) FILTER (WHERE _upto >= {rank} AND _upto - _count < {rank})"


def _within(ours: str, exact: str) -> str:
    double = f"abs(CAST({ours} AS DOUBLE) - CAST({exact} AS DOUBLE))"
    return (
        f"({ours} IS NOT DISTINCT FROM {exact} "
        f"OR {double} <= 0.0101 * abs(CAST({exact} AS DOUBLE)))"
    )


ALL = (
    Aggregate(
        "approx_quantile", 2, "approximate", "within 1 % of the value at that rank", quantile
    ),
)
