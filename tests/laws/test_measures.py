"""The laws of a measure, applied to each of `schemas.measures.ALL`.

merge(a, merge(b, c)) == merge(merge(a, b), c)         merge(a, b) == merge(b, a)
merge(a, fold of no rows) == a                         any split presents the same bits
present is DuckDB's own answer, or within the stated bound of the exact one
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import definitions, engine
from schemas.compile import CompiledView, PartialTable, compile_view
from schemas.language import parser
from schemas.measures import ALL
from tests.folding import presented, refused
from tests.oracle import Oracle

pytestmark = pytest.mark.slow

COLUMNS = {
    "k": "VARCHAR",
    "b": "BOOLEAN",
    "small": "SMALLINT",
    "n": "INTEGER",
    "big": "BIGINT",
    "ubig": "UBIGINT",
    "d": "DECIMAL(12,2)",
    "wide": "DECIMAL(27,5)",
    "x": "DOUBLE",
    "t": "TIMESTAMP",
    "day": "DATE",
    "s": "VARCHAR",
}
NUMBERS = ("small", "n", "big", "ubig", "d", "wide", "n - 3", "CASE WHEN b THEN n END")
PLAIN = (*COLUMNS, "upper(s)", "n % 3", "t::DATE", "x * 2")
# what each aggregate is called with; a new one is added here
ARGUMENTS: Mapping[str, Sequence[str]] = {
    "count": ("*", *PLAIN),
    "sum": (*NUMBERS, "b"),
    "avg": NUMBERS,
    "min": PLAIN,
    "max": PLAIN,
    "approx_count_distinct": ("s", "x", "n", "ubig", "d", "t", "upper(s)"),
    "approx_quantile": (
        "n, 0.5",
        "x, [0, 0.3, 1]",
        "d, 0.9",
        "big, [0.1]",
        "wide, 1",
        "ubig, 0.25",
    ),
    "approx_top_k": ("s, 2", "n, 3", "x, 1", "b, 2", "day, 1000", "upper(s), 2"),
}
CONDITIONS = ("b", "x > 0 OR x IS NULL", "false")
Rows = list[dict[str, object]]

values: dict[str, st.SearchStrategy[object]] = {
    "k": st.sampled_from(["a", "b", None]),
    "b": st.booleans(),
    "small": st.integers(-(2**15), 2**15 - 1),
    "n": st.integers(-5, 5) | st.integers(-(2**31) + 3, 2**31 - 1),
    "big": st.integers(-(2**63), 2**63 - 1),
    "ubig": st.integers(0, 2**64 - 1),
    "d": st.decimals(-(10**10) + 1, 10**10 - 1, places=2),
    "wide": st.decimals(-(10**21), 10**21, places=5),
    "x": st.sampled_from([0.0, -0.0, 1.5]) | st.floats(allow_nan=False, allow_infinity=False),
    "t": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 30)),  # noqa: DTZ001
    "day": st.dates(date(1, 1, 1)),
    "s": st.sampled_from(["", " ", "é", "e\u0301", "ß"]) | st.text(max_size=3),
}
row = st.fixed_dictionaries({name: st.none() | kind for name, kind in values.items()})
rows = st.lists(row, max_size=12)


class Measured:
    """Views of each aggregate, compiled; rows are folded as tables of typed values."""

    def __init__(self) -> None:
        self.engine = engine.connect()
        declared = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        texts = [f"CREATE STREAM rows ({declared}) WITH (topic = 'rows');"]
        self.selects = {}
        for name in ALL:
            calls = [f"{name}({text})" for text in ARGUMENTS[name]]
            calls += [f"{call} FILTER (WHERE {text})" for call in calls[:2] for text in CONDITIONS]
            listed = ", ".join(f"{call} AS c{at}" for at, call in enumerate(calls))
            self.selects[name] = f"SELECT {listed} FROM rows"
            self.selects[f"{name}_by"] = f"SELECT k, {listed} FROM rows GROUP BY k"
        texts += [f"CREATE VIEW of_{name} AS {text};" for name, text in self.selects.items()]
        statements = [parser.parse("rows.sql", text)[0][0] for text in texts]
        found, problems = definitions.read(statements)
        assert not problems
        self.views = {
            view.name.removeprefix("of_"): compile_view(view, view.name, [])
            for view in found.views.values()
        }
        self.schema = self.engine.arrow(
            "SELECT " + ", ".join(f"NULL::{kind} AS {name}" for name, kind in COLUMNS.items())
        ).schema

    def fold(self, view: CompiledView, part: Rows) -> dict[str, pa.Table]:
        """The partials of some rows."""
        self.engine.register("counted", pa.Table.from_pylist(part, schema=self.schema))
        return {table.name: self.engine.arrow(table.fold) for table in view.tables}

    def merge(self, table: PartialTable, *parts: pa.Table) -> pa.Table:
        """One relation from several, its rows in order of their keys."""
        self.engine.register("parts", pa.concat_tables(parts))
        merged = self.engine.arrow(table.merge("parts"))
        return merged.sort_by(
            [(name, "ascending") for name, _ in table.keys] or [("_count_0", "ascending")]
        )


@pytest.fixture(scope="module")
def measured() -> Measured:
    return Measured()


def test_every_aggregate_is_under_these_laws() -> None:
    assert set(ARGUMENTS) == set(ALL)
    assert all(aggregate.exactness and aggregate.bound for aggregate in ALL.values())


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=4)
@given(parts=st.tuples(rows, rows, rows))
def test_merge_is_associative_and_commutative_with_an_identity(
    measured: Measured, name: str, parts: tuple[Rows, Rows, Rows]
) -> None:
    for view in (measured.views[name], measured.views[f"{name}_by"]):
        a, b, c, nothing = (measured.fold(view, part) for part in (*parts, []))
        for table in view.tables:
            at, both = table.name, measured.merge
            left = both(table, both(table, a[at], b[at]), c[at])
            assert left == both(table, a[at], both(table, b[at], c[at]))
            assert both(table, a[at], b[at]) == both(table, b[at], a[at])
            assert both(table, a[at], nothing[at]) == both(table, a[at])
            assert _bits(both(table, a[at])) == _bits(both(table, both(table, a[at])))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=6)
@given(part=rows, cuts=st.lists(st.integers(0, 12), max_size=4), order=st.randoms())
def test_any_split_presents_the_same_bits(
    measured: Measured, name: str, part: Rows, cuts: list[int], order: Callable[[], float]
) -> None:
    edges = sorted([0, *cuts, len(part)])
    pieces = [part[a:b] for a, b in itertools.pairwise(edges)]
    shuffled = list(pieces)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    for view in (measured.views[name], measured.views[f"{name}_by"]):
        whole = presented(view, [measured.fold(view, part)])
        split = presented(view, [measured.fold(view, piece) for piece in shuffled])
        assert sorted(map(repr, whole)) == sorted(map(repr, split))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=6)
@given(part=rows, cut=st.integers(0, 12))
def test_a_measure_is_duckdbs_own_answer_or_judged_by_it(
    measured: Measured, name: str, part: Rows, cut: int
) -> None:
    truth = Oracle()
    # as a parameter, an integer beyond 63 bits has to be a text
    listed = [{**row, "ubig": None if row["ubig"] is None else str(row["ubig"])} for row in part]
    truth.fill("rows", list(COLUMNS.items()), listed)
    for key in (name, f"{name}_by"):
        view = measured.views[key]
        parts = [measured.fold(view, part[:cut]), measured.fold(view, part[cut:])]
        assert not refused(view, parts, "rows", pa.Table.from_pylist(part, measured.schema))
        if any(column.kind != "equal" for column in view.compared):
            continue
        assert view.exact == view.select == measured.selects[key]
        found, expected = presented(view, parts), truth.answer(measured.selects[key])
        assert len(found) == len(expected)
        for ours, theirs in zip(_ordered(found), _ordered(expected), strict=True):
            assert all(map(_same, ours, theirs)), (ours, theirs)


@pytest.mark.parametrize("kind", ["normal", "lognormal", "integers", "small", "constant", "signs"])
def test_quantiles_are_within_their_bound(measured: Measured, kind: str) -> None:
    """Of the discrete quantile, at any rank; the least and the most are exact."""
    fractions = [0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1]
    listed = f"[{', '.join(map(str, fractions))}]"
    chance = np.random.default_rng(7)
    drawn = {
        "normal": chance.normal(0, 1e6, 20_000),
        "lognormal": chance.lognormal(3, 4, 20_000),
        "integers": chance.integers(-(2**31), 2**31, 20_000),
        "small": chance.integers(-3, 250, 20_000),
        "constant": np.full(1000, 12.375),
        "signs": np.concatenate(
            [[5e-324, -5e-324, 1.7e308, -1.7e308, 0.0], chance.normal(size=99)]
        ),
    }[kind]
    column = "n" if drawn.dtype.kind == "i" else "x"
    view = view_of(f"SELECT approx_quantile({column}, {listed}) AS q FROM rows")
    blank = dict.fromkeys(COLUMNS)
    parts = [
        measured.fold(view, [{**blank, column: value} for value in part.tolist()])
        for part in np.array_split(drawn, 3)
    ]
    ((told,),) = presented(view, parts)
    values = np.sort(drawn)
    ranks = [max(1, math.ceil(fraction * len(values))) - 1 for fraction in fractions]
    exact = [values[rank] for rank in ranks]
    assert isinstance(told, list)
    for ours, right in zip(told, exact, strict=True):
        assert abs(float(ours) - float(right)) <= 0.01 * abs(float(right)) * (1 + 1e-9)
    assert (told[0], told[-1]) == (exact[0], exact[-1])
    assert told == sorted(told)
    if kind == "constant":
        assert set(told) == {12.375}


def test_quantiles_of_what_is_no_number_have_their_places(measured: Measured) -> None:
    view = view_of("SELECT approx_quantile(x, [0, 0.5, 1]) AS q FROM rows")
    blank = dict.fromkeys(COLUMNS)
    values = [math.inf, -math.inf, math.nan, 1.0, -0.0]
    ((told,),) = presented(view, [measured.fold(view, [{**blank, "x": each} for each in values])])
    assert isinstance(told, list)
    assert (told[0], str(told[1])) == (-math.inf, "1.0")
    assert math.isnan(told[2])


def test_top_k_counts_exactly_and_orders_ties_by_value(measured: Measured) -> None:
    view = view_of(
        "SELECT approx_top_k(s, 3) AS t, approx_top_k(n, 2) FILTER (WHERE b) AS u FROM rows"
    )
    blank = dict.fromkeys(COLUMNS)
    texts = ["b", "a", "c", "b", "a", None, "d", "c"]
    part: Rows = [{**blank, "s": text, "n": at % 3, "b": at > 3} for at, text in enumerate(texts)]
    parts = [measured.fold(view, [row]) for row in part]
    assert presented(view, parts) == [(["a", "b", "c"], [1, 0])]
    assert presented(view, [measured.fold(view, [])]) == [(None, None)]


def view_of(select: str) -> CompiledView:
    declared = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    texts = [
        f"CREATE STREAM rows ({declared}) WITH (topic = 'rows');",
        f"CREATE VIEW v AS {select};",
    ]
    found, problems = definitions.read([parser.parse("v.sql", text)[0][0] for text in texts])
    assert not problems
    return compile_view(found.views["v"], "v", [])


def test_signed_zeros_are_one_value_and_print_alike(measured: Measured) -> None:
    """-0.0 and 0.0 are equal, so which one an answer shows may not depend on the split."""
    blank = dict.fromkeys(COLUMNS)
    zeros: Rows = [{**blank, "x": -0.0}, {**blank, "x": 0.0}]
    at = PLAIN.index("x")
    for name in ("min", "max"):
        view = measured.views[name]
        for order in (zeros, zeros[::-1], zeros[:1], zeros[1:]):
            (answer,) = presented(view, [measured.fold(view, [zero]) for zero in order])
            assert str(answer[at]) == "0.0"
    view = measured.views["approx_count_distinct"]
    (answer,) = presented(view, [measured.fold(view, [zero]) for zero in zeros])
    assert answer[ARGUMENTS["approx_count_distinct"].index("x")] == 1


def test_sums_stay_exact_beyond_64_bits(measured: Measured) -> None:
    blank = dict.fromkeys(COLUMNS)
    most: Rows = [{**blank, "big": 2**63 - 1, "ubig": 2**64 - 1, "wide": Decimal(10**21)}] * 1_000
    view = measured.views["sum"]
    (answer,) = presented(view, [measured.fold(view, most)] * 1_000)
    expected: dict[str, int | Decimal] = {
        "big": 2**63 - 1,
        "ubig": 2**64 - 1,
        "wide": Decimal(10**21),
    }
    for column, each in expected.items():
        assert answer[NUMBERS.index(column)] == each * 1_000_000


# Seeds, and how far the mean and the root mean square of the relative error may be off. 4096
# registers promise a standard error of 1.04 / sqrt(4096), 1.6 %; small numbers are nearly exact, as
# hardly any two values share a register.
SIZES = [
    (1, 5, 0.0, 0.0),
    (10, 60, 0.012, 0.04),
    (100, 30, 0.005, 0.02),
    (1_000, 30, 0.008, 0.02),
    (4_000, 30, 0.008, 0.022),
    (10_000, 30, 0.009, 0.022),
    (30_000, 20, 0.011, 0.024),
    (100_000, 12, 0.014, 0.025),
    (1_000_000, 3, 0.03, 0.03),
]


@pytest.fixture(scope="module")
def estimated() -> Callable[[int, int], float]:
    """The relative error of the estimate for `size` values of a seed, folded in three parts."""
    own = engine.connect()
    statements = [
        parser.parse("e.sql", text)[0][0]
        for text in (
            "CREATE STREAM rows (v BIGINT) WITH (topic = 'rows');",
            "CREATE VIEW few AS SELECT approx_count_distinct(v) AS c FROM rows;",
        )
    ]
    found, _ = definitions.read(statements)
    view = compile_view(found.views["few"], "few", [])

    def error(size: int, seed: int) -> float:
        parts = []
        for third in range(3):
            # values are spread over 64 bits or dense, and every second part holds the first's too
            step = 1 if seed % 2 else 2_654_435_761_000
            own.execute(
                f"CREATE OR REPLACE TEMP TABLE counted AS SELECT {seed * 10**9} + range * {step} "
                f"AS v FROM range({size}) WHERE range % 3 IN ({third}, {third // 2})"
            )
            parts.append({table.name: own.arrow(table.fold) for table in view.tables})
        ((estimate,),) = presented(view, parts)
        return (int(str(estimate)) - size) / size

    return error


@pytest.mark.parametrize(("size", "seeds", "mean", "spread"), SIZES)
def test_distinct_counts_are_within_their_bound(
    estimated: Callable[[int, int], float], size: int, seeds: int, mean: float, spread: float
) -> None:
    errors = np.array([estimated(size, seed) for seed in range(1, seeds + 1)])
    assert abs(errors.mean()) <= mean
    assert np.sqrt((errors**2).mean()) <= spread
    assert np.abs(errors).max() <= max(4 * 0.0163, 2.01 / size if mean else 0)


def _bits(table: pa.Table) -> list[str]:
    return [repr(row) for row in table.to_pylist()]


def _ordered(answer: Sequence[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return sorted(answer, key=lambda row: repr(row[0]))


def _same(ours: object, theirs: object) -> bool:
    """Equal; of a quotient, but for the last bit, as DuckDB divides otherwise under a FILTER."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=4e-16)
    return type(ours) is type(theirs) and ours == theirs
