"""Exact sums of integers of very different size, rounded once.

Terms are c * 2^e. They are added from the least e on in a window of 125 bits, whose lower end moves
up where the next term needs that. What leaves it is at most half a unit of what stays, and is
gathered as a DOUBLE; so where higher terms cancel each other, the lower digits are still there.
This is the carrying of Demmel and Nguyen, "Parallel reproducible summation" (2015), with integers
in place of their slices of a DOUBLE: nothing is rounded before the end, so no order matters.

Names of lambdas begin with an underscore, as no column of a view does: a column `s` would be meant
by `s.c`.
"""

from __future__ import annotations

# bits that a term is given in the window: a thousand terms of them fit in a HUGEINT
WIDTH = 115
_ONE = "CAST(1 AS HUGEINT)"


def term(exponent: str, integer: str) -> str:
    """One of the terms; `low` is where the window may begin for it. One that is 0 must not be
    added."""
    bits = f"CAST(floor(log2(greatest(1, abs(CAST({integer} AS DOUBLE))))) AS INTEGER)"
    return (
        f"struct_pack(e := {exponent}, low := {exponent} - greatest(0, {WIDTH - 1} - {bits}), "
        f"c := CAST({integer} AS HUGEINT), r := 0.0::DOUBLE)"
    )


def total(terms: str) -> str:
    """The sum of a list of terms in ascending order of e, which is c * 2^e + r. NULL for none."""
    return f"list_reduce(nullif({terms}, []), lambda _a, _b: {_STEP})"


def rounded(summed: str) -> str:
    """A total as the nearest DOUBLE: within one unit of its last place. NULL for no total."""
    high = "CAST(_s.c AS DOUBLE)"
    low = f"CAST(_s.c - CAST({high} AS HUGEINT) AS DOUBLE)"
    value = f"{scaled(high, '_s.e')} + ({scaled(low, '_s.e')} + _s.r)"
    return f"list_transform([{summed}], lambda _s: {value})[1]"


def scaled(number: str, exponent: str) -> str:
    """number * 2^exponent; in two steps, as the power alone may be no DOUBLE."""
    half = f"{exponent} // 2"
    return f"{number} * pow(2, {half}) * pow(2, {exponent} - {half})"


def _step() -> str:
    move = "greatest(0, _b.low - _a.e)"
    # beyond 126 bits nothing of what is below can stay
    moved = f"({_ONE} << least(126, {move}))"
    stays = f"CASE WHEN {move} > 126 THEN 0 ELSE (_a.c + ({moved} >> 1)) >> {move} END"
    leaves = f"CAST(_a.c - {stays} * {moved} AS DOUBLE)"
    base = "greatest(_a.e, _b.low)"
    return (
        f"struct_pack(e := {base}, low := 0, c := {stays} + _b.c * ({_ONE} << _b.e - {base}), "
        f"r := _a.r + {scaled(leaves, '_a.e')})"
    )


_STEP = _step()
