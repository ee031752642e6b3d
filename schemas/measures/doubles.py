"""sum and avg of DOUBLE: rows (keys, bucket, exact sum of scaled mantissas), merged by sum.

A bucket holds the values between two powers of 2^32. Scaled by its power, each of them is an
integer of at most 85 bits, so sums are exact, and the same for every split; about 10^12 of the
largest fit in one bucket of a group. Presenting carries between the buckets and rounds once, see
`carries`. NaN and the infinities have buckets of their own, in which they are counted.
"""

from __future__ import annotations

from schemas.measures import carries
from schemas.measures.kept import present
from schemas.measures.measure import Bucket, Call, Finished, Judged, Partial, Wide

WIDTH = 32  # bits of exponent in a bucket
DIGITS = 53  # of a DOUBLE; log2 may round up to the next bucket, in which it still is an integer
INFINITE, MINUS_INFINITE, NOT_A_NUMBER = 1_000, 1_001, 1_002
BUCKETS = 70  # from 2^-1074 to 2^1024, and those three

BOUND = "within one unit in the last place of the exact sum"
# of what DuckDB's compensated sum may be off, by the sum of magnitudes
_OFF = "4e-15"


def wide(call: Call) -> Wide:
    """The table of sums of the only argument."""
    argument = call.arguments[0]
    return Wide(
        kind="sums",
        value=f"CAST({argument} AS DOUBLE)",
        where=present(argument, call.where),
        buckets=(Bucket("_bucket", "SMALLINT", _BUCKET),),
        values=(Partial("_sum", "DECIMAL(38,0)", f"sum({_INTEGER})", "sum"),),
        rows=BUCKETS,
        # 2^(53 - 32 b) alone may be no DOUBLE; its half, taken twice, is one
        steps=(exponent(WIDTH), ("_half", f"pow(2, {DIGITS // 2} - {WIDTH // 2} * _exponent)")),
    )


def exponent(width: int) -> tuple[str, str]:
    """The step that gives a finite value its bucket, as a DOUBLE; 0 and what is no number have the
    one of 1."""
    usual = f"floor(log2(abs(_value)) / {width})"
    return "_exponent", f"CASE WHEN _value = 0 OR NOT isfinite(_value) THEN 0 ELSE {usual} END"


_BUCKET = (
    f"CASE WHEN isfinite(_value) THEN _exponent WHEN isnan(_value) THEN {NOT_A_NUMBER} "
    f"WHEN _value > 0 THEN {INFINITE} ELSE {MINUS_INFINITE} END"
)
_INTEGER = "CASE WHEN isfinite(_value) THEN CAST(_value * _half * _half * 2 AS HUGEINT) ELSE 1 END"
_ROWS = "list(struct_pack(b := CAST(_bucket AS INTEGER), total := _sum))"
_WANTED = f"list_filter({_ROWS}, lambda _t: _t.b < {INFINITE} AND _t.total <> 0)"
_TERM = carries.term(f"{WIDTH} * _t.b - {DIGITS}", "_t.total")
_TERMS = f"list_transform(list_sort({_WANTED}), lambda _t: {_TERM})"
FINISHED = Finished(
    f"CASE WHEN count(*) = 0 THEN NULL "
    f"WHEN max(_bucket) = {NOT_A_NUMBER} "
    f"OR count(*) FILTER (WHERE _bucket >= {INFINITE}) = 2 THEN CAST('nan' AS DOUBLE) "
    f"WHEN max(_bucket) = {INFINITE} THEN CAST('inf' AS DOUBLE) "
    f"WHEN max(_bucket) = {MINUS_INFINITE} THEN CAST('-inf' AS DOUBLE) "
    f"ELSE coalesce({carries.rounded(carries.total(_TERMS))}, 0) END",
    "DOUBLE",
)


def judged(share: str) -> Judged:
    """DuckDB's own sum is another one for every order of the rows, so ours is held to its
    compensated sum, by as much as that may be off. `share` is what is made of the sum, with `n` for
    the number of values."""
    parts = ("n := count({0})", "total := fsum({0})", "size := sum(abs(CAST({0} AS DOUBLE)))")
    ends = ("least := min(CAST({0} AS DOUBLE))", "most := max(CAST({0} AS DOUBLE))")
    exact = f"struct_pack({', '.join(f'{part}{{filter}}' for part in (*parts, *ends))})"
    n, total, size, least, most = (
        f"{{exact}}.{name}" for name in ("n", "total", "size", "least", "most")
    )
    expected = share.format(total=total, n=n)
    bound = f"{_OFF} * ({share.format(total=size, n=n)}) + 1e-320"
    within = (
        f"(CASE WHEN {n} = 0 THEN {{ours}} IS NULL "
        f"WHEN isnan({most}) OR ({most} = 'inf'::DOUBLE AND {least} = '-inf'::DOUBLE) "
        f"THEN isnan({{ours}}) WHEN isinf({most}) OR isinf({least}) "
        f"THEN {{ours}} = {most} + {least} "
        # the sum of magnitudes is no DOUBLE, so any sum may have been one on the way
        f"WHEN NOT isfinite({size}) THEN NOT isnan({{ours}}) "
        f"ELSE abs({{ours}} - {expected}) <= {bound} END)"
    )
    return Judged(exact, within)
