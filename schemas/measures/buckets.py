"""approx_quantile: counts by logarithmic bucket, as rows (keys, bucket, count, least, most).

A bucket holds the values of one sign between two powers of GAMMA, so any two of them are within 1 %
of each other. Zero, the infinities and NaN have buckets of their own. Buckets are numbered in the
order of their values, so the one that holds the value of a rank is found by adding up counts; the
answer is between the least and the most value in it, by rank. Buckets: Masson, Rim, Lee,
"DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees" (2019).
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
)

GAMMA = 1.01
# above the largest power of GAMMA that a DOUBLE can be, of either sign: 744.4 / ln(1.01) = 74,817
OFFSET = 80_000
INFINITE, NOT_A_NUMBER = 2 * OFFSET, 2 * OFFSET + 1
# exponents of GAMMA that a DOUBLE may have, -74,815 to 71,333, and infinity, twice; zero and NaN
ROWS = 2 * (74_815 + 1 + 71_333 + 1) + 2

_DOUBLE = "CAST(_value AS DOUBLE)"
_LOG = f"(CAST(ceil(ln(abs({_DOUBLE})) / ln({GAMMA})) AS INTEGER) + {OFFSET})"
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
_FRACTION = re.compile(r"(?:0(?:\.\d*)?|\.\d+|1(?:\.0*)?)")


def quantile(call: Call) -> Measure:
    """The value at a rank, or the values at several: of those that are not NULL, in order, the one
    that as many are at or below."""
    message = ""
    if call.distinct:
        message = "is not a measure with DISTINCT; leave it out"
    elif len(call.arguments) != 2:
        message = f"must have a value and a fraction, or a list of them; got {len(call.arguments)}"
    elif not (column_types.number(call.types[0]) or call.types[0] == "DOUBLE"):
        message = f"must be of a number; got {call.types[0]}. CAST it to one"
    if message:
        text = f"{call.function} {message}"
        raise RefusedCall(text)
    value, fractions, listed = call.arguments[0], *_fractions(call)
    kind = call.types[0]
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
            rows=ROWS,
        ),
        Finished(
            f"[{', '.join(estimates)}]" if listed else estimates[0],
            f"{kind}[]" if listed else kind,
            _WINDOWS,
        ),
        Judged("quantile_disc({0}, {1})", within),
    )


def _fractions(call: Call) -> tuple[list[str], bool]:
    text = call.arguments[1].strip()
    listed = text.startswith("[") and text.endswith("]")
    found = [each.strip() for each in text[1:-1].split(",")] if listed else [text]
    for each in found:
        if not _FRACTION.fullmatch(each):
            message = (
                f"{call.function} must be asked for a fraction from 0 to 1, or a list of them, "
                f"each a plain number; got {each or 'none'}"
            )
            raise RefusedCall(message)
    return found, listed


def _at(fraction: str, kind: str) -> str:
    """The value of a rank: from the least to the most of its bucket, by its place in there. The
    first and the last value of a bucket are exact."""
    rank = f"greatest(1, ceil({fraction} * _all))"
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
        "approx_quantile", 1, "approximate", "within 1 % of the value at that rank", quantile
    ),
)
