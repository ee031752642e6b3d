"""var_pop, var_samp, variance, stddev_pop, stddev_samp, stddev: from the count, the exact sum of x
and the exact sum of x * x.

    var_pop = (n * sum(x * x) - sum(x)^2) / n^2

The difference is formed of exact integers (see `carries`) and then rounded, so nothing is lost
where a mean is large beside the spread; DuckDB's own (Welford's) loses digits there.

Integers of up to 64 bits and DECIMALs of up to 18 digits are integers in units of their last digit,
in core columns: those of 32 bits with the sum of squares, wider ones with sums of the products of
their halves. DOUBLE, and what DuckDB takes as a DOUBLE here, has rows (keys, bucket, sums): of x as
an integer, and of x * x as two DOUBLEs that are exactly it (Dekker, "A floating-point technique for
extending the available precision", 1971, with Veltkamp's splitting), each as an integer too.
"""

from __future__ import annotations

from schemas import column_types
from schemas.measures import carries
from schemas.measures.doubles import exponent
from schemas.measures.kept import present
from schemas.measures.measure import (
    Aggregate,
    Bucket,
    Call,
    Finished,
    Judged,
    Measure,
    Partial,
    Wide,
    filtered,
)
from schemas.measures.sums import count_of, must_be_a_number

BOUND = "within 1e-14 of it"
_OF_SAMPLES = ("var_samp", "variance", "stddev_samp", "stddev")
_HALF_BITS = 32
_WIDTH = 16  # bits of exponent in a bucket: of x; of x * x twice as many
_DIGITS = 53
_FINITE = 1_000  # buckets below this one are of numbers
_BUCKETS = 134  # from 2^-1074 to 2^1024, and the one of what is no number

# a finite value as a number _y from 1 to 2^16: exactly, in two steps as its power may be no DOUBLE;
# and its square as _square + _rest
_STEPS = (
    exponent(_WIDTH),
    ("_half", f"pow(2, -{_WIDTH // 2} * _exponent)"),
    ("_y", "CASE WHEN isfinite(_value) THEN _value * _half * _half ELSE 0 END"),
    ("_far", "134217729.0::DOUBLE * _y"),
    ("_high", "_far - (_far - _y)"),
    ("_low", "_y - _high"),
    ("_square", "_y * _y"),
    ("_rest", "(_high * _high - _square) + 2 * _high * _low + _low * _low"),
)


def _scaled_sum(number: str, bits: int) -> str:
    """The sum of a number as an integer in units of 2^-bits."""
    return f"sum(CAST({number} * {float(2**bits)!r}::DOUBLE AS HUGEINT))"


def _wide(call: Call) -> Wide:
    argument = call.arguments[0]
    bucket = f"CASE WHEN isfinite(_value) THEN _exponent ELSE {_FINITE} END"
    return Wide(
        kind="squares",
        value=f"CAST({argument} AS DOUBLE)",
        where=present(argument, call.where),
        buckets=(Bucket("_bucket", "SMALLINT", bucket),),
        values=(
            Partial("_count", "BIGINT", "count(*)", "sum"),
            Partial("_sum", "DECIMAL(38,0)", _scaled_sum("_y", _DIGITS), "sum"),
            Partial("_square", "DECIMAL(38,0)", _scaled_sum("_square", _DIGITS), "sum"),
            Partial("_rest", "DECIMAL(38,0)", _scaled_sum("_rest", 2 * _DIGITS), "sum"),
        ),
        rows=_BUCKETS,
        steps=_STEPS,
    )


# one row per bucket; exponents go from the highest bucket down, so that no square is beyond DOUBLE
_ROWS = (
    "list_sort(list(struct_pack(b := CAST(_bucket AS INTEGER), total := _sum, "
    "square := _square, rest := _rest)))"
)
_SUMS = carries.term(f"{_WIDTH} * (_t.b - _v.top) - {_DIGITS}", "_t.total")
_ABOVE = f"{2 * _WIDTH} * (_t.b - _v.top)"
_SQUARES = (
    f"[struct_pack(e := {_ABOVE} - {_DIGITS}, c := CAST(_t.square AS HUGEINT)), "
    f"struct_pack(e := {_ABOVE} - {2 * _DIGITS}, c := CAST(_t.rest AS HUGEINT))]"
)


def _difference(v: str) -> str:
    """n * sum(x * x) - sum(x)^2 as a DOUBLE, of a STRUCT(n, s, q): the sum as c * 2^e and a list of
    such for the squares. They are of any size, so they are multiplied by parts."""
    squares = (
        f"flatten(list_transform({v}.q, lambda _t: "
        f"[struct_pack(e := _t.e, c := (_t.c & {2**62 - 1}) * {v}.n), "
        f"struct_pack(e := _t.e + 62, c := (_t.c >> 62) * {v}.n)]))"
    )
    mask = 2**42 - 1
    low, middle, high = f"({v}.s.c & {mask})", f"({v}.s.c >> 42 & {mask})", f"({v}.s.c >> 84)"
    products = (
        (0, f"{low} * {low}"),
        (43, f"{low} * {middle}"),
        (84, f"{middle} * {middle} + 2 * {low} * {high}"),
        (127, f"{middle} * {high}"),
        (168, f"{high} * {high}"),
    )
    square = ", ".join(
        f"struct_pack(e := 2 * {v}.s.e + {e}, c := -({product}))" for e, product in products
    )
    kept = f"list_filter(list_concat({squares}, [{square}]), lambda _t: _t.c <> 0)"
    terms = f"list_sort(list_transform({kept}, lambda _t: {carries.term('_t.e', '_t.c')}))"
    return f"coalesce({carries.rounded(carries.total(terms))}, 0)"


def _of_rows() -> str:
    """var_pop of a group's rows; NULL for none."""
    gathered = (
        f"struct_pack(n := CAST(sum(_count) AS HUGEINT), top := max(_bucket), rows := {_ROWS})"
    )
    sums = f"list_transform(list_filter(_v.rows, lambda _t: _t.total <> 0), lambda _t: {_SUMS})"
    parts = (
        f"struct_pack(n := _v.n, top := _v.top, s := {carries.total(sums)}, "
        f"q := flatten(list_transform(_v.rows, lambda _t: {_SQUARES})))"
    )
    power = f"pow(2, {_WIDTH} * _w.top)"
    value = f"{_difference('_w')} / _w.n / _w.n * {power} * {power}"
    return (
        f"CASE WHEN max(_bucket) >= {_FINITE} THEN CAST('nan' AS DOUBLE) "
        f"ELSE list_transform(list_transform([{gathered}], lambda _v: {parts}), "
        f"lambda _w: {value})[1] END"
    )


_FINISHED = Finished(_of_rows(), "DOUBLE")


def _units(call: Call) -> tuple[str, int, int] | None:
    """An argument as an integer of up to 64 bits: its SQL, how many bits it has, and how many
    digits it has behind the point; None for what is a DOUBLE here."""
    argument, type_name = call.arguments[0], call.types[0]
    if type_name in column_types.INTEGERS:
        return argument, 64 if type_name in ("BIGINT", "UBIGINT") else 32, 0
    decimal = column_types.decimal(type_name)
    if decimal and decimal[0] <= 18:
        # a product of DECIMALs of up to 18 digits must have 18 too, and some of 10 need more
        wide = f"CAST({argument} AS DECIMAL(38,{decimal[1]}))" if decimal[0] > 9 else argument
        integer = f"CAST(({wide}) * {10 ** decimal[1]} AS BIGINT)"
        return integer, 32 if decimal[0] <= 9 else 64, decimal[1]
    return None


def _exact(call: Call, integer: str, bits: int) -> tuple[tuple[Partial, ...], str]:
    """Partials behind the count, and var_pop of them in units of the last digit."""

    def summed(kind: str, what: str) -> Partial:
        return Partial(kind, "DECIMAL(38,0)", filtered(f"sum({what})", call.where), "sum")

    x = f"CAST({integer} AS HUGEINT)"
    partials: tuple[Partial, ...]
    if bits == 32:
        partials = (summed("sum", f"CAST({integer} AS BIGINT)"), summed("square", f"{x} * {x}"))
        squares = [(0, "CAST({2} AS HUGEINT)")]
    else:
        high, low = f"({x} >> {_HALF_BITS})", f"({x} & {2**_HALF_BITS - 1})"
        partials = (
            summed("sum", integer),
            summed("high", f"{high} * {high}"),
            summed("product", f"{high} * {low}"),
            summed("low", f"{low} * {low}"),
        )
        squares = [
            (2 * _HALF_BITS, "CAST({2} AS HUGEINT)"),
            (_HALF_BITS + 1, "CAST({3} AS HUGEINT)"),
            (0, "CAST({4} AS HUGEINT)"),
        ]
    size = " + ".join(f"abs(CAST({c} AS DOUBLE)) * {float(2**e)!r}::DOUBLE" for e, c in squares)
    whole = " + ".join(f"{c} * {2**e}" for e, c in squares)
    total = "CAST({1} AS HUGEINT)"
    small = f"CAST(CAST({{0}} AS HUGEINT) * ({whole}) - {total} * {total} AS DOUBLE)"
    listed = ", ".join(f"struct_pack(e := {e}, c := {c})" for e, c in squares)
    parts = (
        f"struct_pack(n := CAST({{0}} AS HUGEINT), s := struct_pack(e := 0, c := {total}), "
        f"q := [{listed}])"
    )
    # 2^126, with room for the rounding of what it is compared with
    value = (
        f"CASE WHEN CAST({{0}} AS DOUBLE) * ({size}) < 8e37 THEN {small} "
        f"ELSE list_transform([{parts}], lambda _w: {_difference('_w')})[1] END"
    )
    return partials, f"({value}) / {{0}} / {{0}}"


def spread(call: Call) -> Measure:
    """Of the values that are not NULL; of samples, NULL unless there are two."""
    must_be_a_number(call)
    count = count_of(call, call.arguments[0])
    units = _units(call)
    partials: tuple[Partial, ...] = (count,)
    if units is None:
        pop, wide, finish = "{finished}", _wide(call), _FINISHED
    else:
        integer, bits, scale = units
        more, pop = _exact(call, integer, bits)
        partials, wide, finish = (count, *more), None, None
        pop = f"({pop}) / {float(10 ** (2 * scale))!r}" if scale else pop
    least = 2 if call.function in _OF_SAMPLES else 1
    shown = f"({pop}) * ({{0}} / ({{0}} - 1))" if least == 2 else pop
    shown = f"sqrt({shown})" if call.function.startswith("stddev") else shown
    return Measure(
        partials,
        f"CASE WHEN {{0}} >= {least} THEN {shown} END",
        wide,
        finish,
        _judged(call, least),
        "reproducible" if units is None else "exact",
        "none but rounding to a DOUBLE" if units is not None else BOUND,
    )


def _judged(call: Call, least: int) -> Judged:
    """By DuckDB's own, as far as that can be off: by n roundings of the mean, times the spread."""
    x = "CAST({0} AS DOUBLE)"
    parts = {
        "n": "count({0})",
        "pop": f"var_pop({x})",
        "mean": f"avg({x})",
        "least": f"min({x})",
        "most": f"max({x})",
    }
    exact = f"struct_pack({', '.join(f'{k} := {sql}{{filter}}' for k, sql in parts.items())})"
    n, pop, mean = "{exact}.n", "{exact}.pop", "{exact}.mean"
    ours = "{ours} * {ours}" if call.function.startswith("stddev") else "{ours}"
    if least == 2:
        ours = f"({ours} * (({n} - 1) / {n}))"
    steps, most = f"(({n} + 16) * 2.3e-16)", f"greatest({pop}, {ours})"
    off = (
        f"8 * {steps} * sqrt({most}) * sqrt({most} + {mean} * {mean}) "
        f"+ 64 * {steps} * {steps} * ({mean} * {mean} + {most}) + 1e-300"
    )
    within = (
        f"(CASE WHEN {n} < {least} THEN {{ours}} IS NULL "
        "WHEN NOT (isfinite({exact}.least) AND isfinite({exact}.most)) THEN isnan({ours}) "
        f"WHEN NOT isfinite({off}) OR NOT isfinite({pop}) THEN NOT isnan({{ours}}) "
        f"ELSE {ours} >= 0 AND abs({ours} - {pop}) <= {off} END)"
    )
    return Judged(exact, within)


ALL = tuple(
    Aggregate(name, 1, "reproducible", BOUND, spread)
    for name in ("var_pop", "var_samp", "variance", "stddev_pop", "stddev_samp", "stddev")
)
