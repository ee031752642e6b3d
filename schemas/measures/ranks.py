"""median, quantile_cont, quantile_disc: values by their rank, from rows (keys, value, count).

The rows are those of `values.py`. A rank is found by adding up counts in the order of the values,
in which NaN is the last. Ranks, result types and interpolation are DuckDB's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemas import column_types
from schemas.measures import values
from schemas.measures.measure import (
    Aggregate,
    Call,
    Finished,
    Judged,
    Measure,
    RefusedCall,
    one_argument,
)

# digits of a fraction behind the point: times a count of 10^18 they fit in 128 bits
DIGITS = 18
_FRACTION = re.compile(rf"(?:0?\.(?P<part>\d{{1,{DIGITS}}})|0\.?|(?P<one>1)(?:\.0{{0,{DIGITS}}})?)")
# how many values are up to this one, and all of them
_WINDOWS = (
    ("_upto", "sum(_count) OVER ({group} ORDER BY _item)"),
    ("_all", "sum(_count) OVER ({group})"),
)
MOMENTS = ("DATE", "TIMESTAMP")
# DuckDB holds a DECIMAL of so many digits in 64 bits, and finds what is between otherwise
SMALL_DECIMAL = 18
MOST_DIGITS = 39  # of a HUGEINT
FINITE = "lambda _e: isfinite(CAST(_e AS DOUBLE))"
LAST_BIT = "4.5e-16"


@dataclass(frozen=True)
class Fraction:
    """A fraction from 0 to 1 as written, and as a quotient of integers."""

    text: str
    over: int
    under: int

    def rank(self, count: str) -> str:
        """SQL of the first rank that this share of `count` values is at or below, in integers."""
        return f"greatest(1, ({count} * {self.over} + {self.under - 1}) // {self.under})"


def fractions(call: Call) -> tuple[list[Fraction], bool]:
    """The second argument: a fraction, or a list of them (True)."""
    if call.distinct:
        message = f"{call.function}(DISTINCT ...) is not a measure; leave out DISTINCT"
        raise RefusedCall(message)
    if len(call.arguments) != 2:
        message = (
            f"{call.function} must have a value and a fraction, or a list of them; "
            f"got {len(call.arguments)}"
        )
        raise RefusedCall(message)
    text = call.arguments[1].strip()
    listed = text.startswith("[") and text.endswith("]")
    texts = [each.strip() for each in text[1:-1].split(",")] if listed else [text]
    return [_fraction(call, each) for each in texts], listed


def _fraction(call: Call, text: str) -> Fraction:
    found = _FRACTION.fullmatch(text)
    if not found:
        message = (
            f"{call.function} must be asked for a fraction from 0 to 1, or a list of them, each a "
            f"plain number of at most {DIGITS} digits; got {text or 'none'}"
        )
        raise RefusedCall(message)
    part = found["part"] or ""
    return Fraction(text, int(found["one"] or part or 0), 10 ** len(part))


def several(each: list[str]) -> str:
    """SQL of a list of values; NULL of no rows, which a view without keys may have."""
    return f"CASE WHEN count(*) > 0 THEN [{', '.join(each)}] END"


def median(call: Call) -> Measure:
    """The value in the middle, or between the two there; of texts and booleans the lower one."""
    _, kind = one_argument(call)
    half = Fraction("0.5", 5, 10)
    rows = values.rows(call)
    middle = _disc(half) if kind in ("VARCHAR", "BOOLEAN") else _cont(half, kind)
    return Measure((), "{finished}", rows, Finished(middle, call.result, _WINDOWS))


def continuous(call: Call) -> Measure:
    """The value at a share of the way from the first to the last, between its neighbours by how
    near it is to each. DuckDB may be off in the last bit: some of its builds fuse the
    multiplication with the addition, ours never does."""
    found, listed = fractions(call)
    kind = call.types[0]
    rows = values.rows(call)
    each = [_cont(fraction, kind) for fraction in found]
    shown = several(each) if listed else each[0]
    parts = [f"{{ours}}[{at}]" for at in range(1, len(found) + 1)] if listed else ["{ours}"]
    within = [_near(ours, one, kind) for ours, one in zip(parts, found, strict=True)]
    return Measure(
        (),
        "{finished}",
        rows,
        Finished(shown, call.result, _WINDOWS),
        # how far off it may be depends on the values themselves
        Judged("list({0})", f"({' AND '.join(within)})"),
    )


def discrete(call: Call) -> Measure:
    """The first value that this share of all is at or below."""
    found, listed = fractions(call)
    rows = values.rows(call)
    each = [_disc(fraction) for fraction in found]
    shown = several(each) if listed else each[0]
    return Measure((), "{finished}", rows, Finished(shown, call.result, _WINDOWS))


def _disc(fraction: Fraction) -> str:
    return f"min(_item) FILTER (WHERE _upto >= {fraction.rank('_all')})"


def _cont(fraction: Fraction, kind: str) -> str:
    """The value at `place`, counted from 0: between the two that stand before and after it."""
    place = f"CAST({{}} - 1 AS DOUBLE) * CAST({fraction.text} AS DOUBLE)"
    low = f"min(_item) FILTER (WHERE _upto > floor({place.format('_all')}))"
    high = f"min(_item) FILTER (WHERE _upto > ceil({place.format('_all')}))"
    at = place.format("max(_all)")
    share = f"({at} - floor({at}))"
    between = f"CAST({_between(low, share, high, kind)} AS {_result(kind)})"
    return f"CASE WHEN {share} = 0 THEN CAST({low} AS {_result(kind)}) ELSE {between} END"


def _between(low: str, share: str, high: str, kind: str) -> str:
    """SQL of what is that share of the way from one value to the next, as DuckDB computes it."""
    decimal = column_types.decimal(kind)
    if decimal and decimal[0] > SMALL_DECIMAL:
        first, last = _digits(low), _digits(high)
        rough = f"{_float(last)} - {_float(first)}"
        # further apart than 128 bits hold
        way = f"CASE WHEN {rough} < 1.7e38 THEN {_float(f'{last} - {first}')} ELSE {rough} END"
        found = f"({first} + CAST(trunc({way} * {share}) AS HUGEINT))"
        return _pointed(found, decimal[1])
    if decimal:
        first, last = _float(_digits(low)), _float(_digits(high))
        found = f"CAST(trunc({first} + ({last} - {first}) * {share}) AS HUGEINT)"
        # rounded up to one digit more, it would be the last value
        return f"coalesce(TRY_CAST({_pointed(found, decimal[1])} AS {kind}), {high})"
    if kind in MOMENTS:
        first, last = f"CAST({low} AS TIMESTAMP)", f"CAST({high} AS TIMESTAMP)"
        found = _weighted(f"epoch_us({first})", share, f"epoch_us({last})")
        moment = f"make_timestamp(CAST(round({found}) AS BIGINT))"
        return f"CASE WHEN isfinite({first}) AND isfinite({last}) THEN {moment} ELSE {first} END"
    return _weighted(low, share, high)


def _weighted(low: str, share: str, high: str) -> str:
    return f"({_float(low)} * (1.0 - {share}) + {_float(high)} * {share})"


def _digits(value: str) -> str:
    """SQL of a DECIMAL without its point, as DuckDB holds it."""
    return f"CAST(replace(CAST({value} AS VARCHAR), '.', '') AS HUGEINT)"


def _pointed(digits: str, scale: int) -> str:
    """SQL of the text of a DECIMAL with these digits."""
    sign = f"CASE WHEN {digits} < 0 THEN '-' ELSE '' END"
    text = f"lpad(CAST(abs({digits}) AS VARCHAR), {MOST_DIGITS}, '0')"
    return f"{sign} || left({text}, {MOST_DIGITS - scale}) || '.' || right({text}, {scale})"


def _float(value: str) -> str:
    return f"CAST({value} AS DOUBLE)"


def _result(kind: str) -> str:
    if kind in MOMENTS:
        return "TIMESTAMP"
    return kind if column_types.decimal(kind) else "DOUBLE"


def _near(ours: str, fraction: Fraction, kind: str) -> str:
    """Equal, or off by the last bit of the largest number that may be its neighbour, or of the
    unit that it is counted in."""
    theirs = f"list_aggregate({{exact}}, 'quantile_cont', {fraction.text})"
    decimal = column_types.decimal(kind)
    unit = f"1.01e-{decimal[1]}" if decimal else "1" if kind in MOMENTS else "0"
    number = _float("epoch_us(CAST({} AS TIMESTAMP))" if kind in MOMENTS else "{}")
    finite = "lambda _e: isfinite(CAST(_e AS TIMESTAMP))" if kind in MOMENTS else FINITE
    sizes = (
        f"list_transform(list_filter({{exact}}, {finite}), lambda _e: abs({number.format('_e')}))"
    )
    apart = f"abs({number.format(ours)} - {number.format(theirs)})"
    return (
        f"({ours} IS NOT DISTINCT FROM {theirs} "
        f"OR {apart} <= {unit} + {LAST_BIT} * list_max({sizes}))"
    )


ALL = (
    Aggregate("median", 1, "exact", "none", median),
    Aggregate("quantile_cont", 1, "reproducible", "the last bit of its neighbours", continuous),
    Aggregate("quantile_disc", 1, "exact", "none", discrete),
    Aggregate("quantile", 1, "exact", "none", discrete),
)
