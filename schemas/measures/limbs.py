"""Sums of integers and DECIMALs so wide that their sum could pass 38 digits: core columns for the
upper and the lower 64 bits or 19 digits, each merged by sum.

Partials hold 10^18 values whatever they are. Presenting puts the limbs together; a sum that its
38 digits do not hold is NULL, for that group alone, where DuckDB's own sum fails the whole query.
A mean is presented all the same.
"""

from __future__ import annotations

from schemas import column_types
from schemas.measures import doubles
from schemas.measures.measure import Call, Judged, Measure, Partial, filtered

BITS, DIGITS = 64, 19
ROUNDED = "none but rounding to a DOUBLE"
BOUND = "none; NULL where 38 digits do not hold the sum"


def total(call: Call) -> Measure:
    """The sum; NULL where there is no value, or where 38 digits do not hold it."""
    scale = _scale(call)
    if call.result == "DOUBLE":
        return Measure(
            _limbs(call),
            _double(scale),
            judged=doubles.judged("{total}"),
            exactness="exact",
            bound=ROUNDED,
        )
    # as whole numbers: DuckDB has no wider DECIMAL to tell its answer in
    digits = "CAST(replace(CAST({ours} AS VARCHAR), '.', '') AS BIGNUM)"
    most = f"CAST('{10**38 - 1}' AS BIGNUM)"
    exact = "sum(CAST(replace(CAST({0} AS VARCHAR), '.', '') AS BIGNUM)){filter}"
    beyond = f"({{exact}} > {most} OR {{exact}} < -({most}))"
    within = (
        f"(CASE WHEN {{ours}} IS NULL THEN {{exact}} IS NULL OR {beyond} "
        f"ELSE {digits} = {{exact}} END)"
    )
    return Measure(
        _limbs(call),
        _whole(scale),
        judged=Judged(exact, within),
        exactness="exact",
        bound=BOUND,
    )


def mean(call: Call, count: Partial) -> Measure:
    """The sum divided once, as a DOUBLE."""
    present = f"({_double(_scale(call))}) / nullif({{2}}, 0)"
    # DuckDB's own fails where the sum of a part passes its type
    exact = "avg(CAST({0} AS DOUBLE)){filter}"
    size = "avg(abs(CAST({0} AS DOUBLE))){filter}"
    within = (
        "(({ours} IS NULL AND {exact}.mean IS NULL) "
        "OR abs({ours} - {exact}.mean) <= {exact}.n * 4e-16 * {exact}.size)"
    )
    judged = Judged(
        f"struct_pack(mean := {exact}, size := {size}, n := 4 + count({{0}}){{filter}})", within
    )
    partials = (*_limbs(call), count)
    return Measure(partials, present, judged=judged, exactness="exact", bound=ROUNDED)


def _scale(call: Call) -> int | None:
    """Of a DECIMAL; None of an integer."""
    found = column_types.decimal(call.types[0])
    return found[1] if found else None


def _limbs(call: Call) -> tuple[Partial, Partial]:
    scale = _scale(call)
    upper, lower = _split(call.arguments[0], scale)
    kinds = (
        ("DECIMAL(38,0)", "DECIMAL(38,0)")
        if scale is None
        else (f"DECIMAL(38,{max(0, scale - DIGITS)})", f"DECIMAL(38,{scale})")
    )
    return (
        Partial("upper", kinds[0], filtered(f"sum({upper})", call.where), "sum"),
        Partial("lower", kinds[1], filtered(f"sum({lower})", call.where), "sum"),
    )


def _split(x: str, scale: int | None) -> tuple[str, str]:
    """SQL of both limbs of a HUGEINT, the lower one never negative, or of a DECIMAL of that scale,
    both of its sign: upper * _weight + lower = x."""
    if scale is None:
        return f"CAST(({x}) >> {BITS} AS HUGEINT)", f"CAST(({x}) & {2**BITS - 1} AS HUGEINT)"
    whole = f"CAST({x} AS DECIMAL(38,{scale}))"
    lower = f"{whole} % {_step(scale)}"
    above = f"({whole} - {lower})"
    if scale >= DIGITS:
        return f"CAST({above} AS DECIMAL({DIGITS},{scale - DIGITS}))", lower
    return f"CAST({above} AS HUGEINT) // {_weight(scale)}", lower


def _weight(scale: int | None) -> int:
    """What one of the upper limb stands for; from 19 places on it has its point itself."""
    return 2**BITS if scale is None else int(10 ** max(0, DIGITS - scale))


def _step(scale: int) -> str:
    """10^19 units of the last digit."""
    places = max(0, scale - DIGITS)
    text = f"0.{'0' * (places - 1)}1" if places else str(_weight(scale))
    return f"CAST('{text}' AS DECIMAL(38,{scale}))"


def _whole(scale: int | None) -> str:
    """The limbs put together; NULL where 38 digits do not hold that."""
    if scale is None:
        more, lower = _split("CAST({1} AS HUGEINT)", None)
        whole = f"TRY((CAST({{0}} AS HUGEINT) + {more}) * {_weight(None)} + {lower})"
        # Parquet holds no HUGEINT, and a DECIMAL has 38 digits
        return f"CAST(TRY_CAST({whole} AS DECIMAL(38,0)) AS HUGEINT)"
    kind = f"DECIMAL(38,{scale})"
    more, lower = _split("{1}", scale)
    limb = "HUGEINT" if scale < DIGITS else f"DECIMAL(38,{scale - DIGITS})"
    upper = f"(CAST({{0}} AS {limb}) + {more})"
    # of different signs, the upper one alone may be too much for the type: it lends one unit
    unit = "1" if limb == "HUGEINT" else _step(scale)
    rest = f"({upper} - sign({upper}) * {unit})"
    if limb == "HUGEINT":
        rest = f"{rest} * {_weight(scale)}"
    return f"TRY(CAST({rest} AS {kind}) + ({lower} + sign({upper}) * {_step(scale)}))"


def _double(scale: int | None) -> str:
    far = f"CAST({{0}} AS DOUBLE) * {_weight(scale)}.0 + CAST({{1}} AS DOUBLE)"
    return f"coalesce(CAST({_whole(scale)} AS DOUBLE), {far})"
