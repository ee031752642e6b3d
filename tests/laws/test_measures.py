"""The laws of a measure, applied to each of `schemas.measures.ALL`, over every type it takes.

merge(a, merge(b, c)) == merge(merge(a, b), c)         merge(a, b) == merge(b, a)
merge(a, fold of no rows) == merge(a)                  merge(merge(a)) == merge(a)
any split presents the same bits, and they are DuckDB's own answer, or within the stated bound of it

Which calls are legal is asked of DuckDB and of `Aggregate.build` (`tests/generated/calls.py`): an
aggregate is under these laws by standing in ALL. `tests/generated` applies them to whole views.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from schemas import definitions, engine
from schemas.compile import CompiledView, PartialTable, compile_view, fold, sql
from schemas.language import parser
from schemas.language.view import View
from schemas.measures import ALL
from tests.folding import presented, refused
from tests.generated import calls, judging, splits, values
from tests.generated.calls import Shape
from tests.generated.judging import Parts
from tests.generated.splits import Split

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
Rows = Sequence[Mapping[str, object]]
Order = Literal["ascending", "descending"]
# a column of each type, by which `Laws` calls an aggregate
TYPED = {kind: f"t{at}" for at, kind in enumerate(values.TYPES)}
CONDITIONS = (TYPED["BOOLEAN"], f"{TYPED['DOUBLE']} > 0 OR {TYPED['DOUBLE']} IS NULL", "false")
# calls of several arguments are many: so many of each first type are tried
PAIRS = 2


class Measured:
    """Folds rows that are given as typed values."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.engine = engine.connect()
        self.columns = list(columns.items())
        self.typed = ", ".join(
            f"{sql.name(n)}::{kind} AS {sql.name(n)}" for n, kind in self.columns
        )

    def fold(self, view: CompiledView, part: Rows) -> dict[str, pa.Table]:
        """The partials of some rows; what they do not name is NULL."""
        arrays = {
            name: pa.array([row.get(name) for row in part], values.arrow(kind))
            for name, kind in self.columns
        }
        self.engine.register("given", pa.table(arrays))
        self.engine.count_from(f"SELECT {self.typed} FROM given")
        return {table.name: self.engine.arrow(table.fold) for table in view.tables}


class Laws:
    """Every legal call of an aggregate, some with a FILTER, in a view by key and a global one."""

    def __init__(self) -> None:
        self.columns = {"k": "VARCHAR", **{name: kind for kind, name in TYPED.items()}}
        self.measured = Measured(self.columns)

    def selects(self, name: str) -> tuple[str, str]:
        """The view by key and the global one of an aggregate."""
        texts = [_called(shape) for shape in _some(calls.every(name))]
        texts += [f"{text} FILTER (WHERE {c})" for text in texts[:2] for c in CONDITIONS]
        listed = ", ".join(f"{text} AS c{at}" for at, text in enumerate(texts))
        return f"SELECT k, {listed} FROM rows GROUP BY k", f"SELECT {listed} FROM rows"


@pytest.fixture(scope="module")
def laws() -> Laws:
    return Laws()


@pytest.fixture(scope="module")
def measured() -> Measured:
    return Measured(COLUMNS)


@pytest.mark.parametrize("name", ALL)
def test_laws(laws: Laws, name: str) -> None:
    """Identity, associativity, commutativity and merge of merge for the partials; for what they
    present, any split, no rows, one row, nothing but NULLs, and DuckDB's own answer."""
    chance = Random(name)
    assert ALL[name].exactness
    assert ALL[name].bound
    assert calls.every(name), "no call is legal"
    rows = [
        {column: values.any_value(chance, kind) for column, kind in laws.columns.items()}
        for _ in range(18)
    ]
    rows = [{**row, "k": chance.choice(("a", "b", None))} for row in rows]
    rows += rows[:3]
    blank: Rows = [dict.fromkeys(laws.columns), {"k": "a"}]
    whole: Rows = [*rows, *blank]
    cases: list[list[Rows]] = [[whole[:5], whole[5:21], blank], [[], whole[8:], whole[:8]]]
    for select in laws.selects(name):
        view = view_of(select, laws.columns)
        fold = laws.measured.fold
        parts = [[fold(view, part) for part in case] for case in cases]
        for table in view.tables:
            _partials(table, [part[table.name] for part in (*parts[0], parts[1][0])])
        _presents(view, laws, whole, *((part, _tree(chance)) for part in parts))
        for few in (whole[:0], whole[:1], blank, blank[:1]):
            _presents(view, laws, few, ([fold(view, few)], splits.whole(len(few))))


@pytest.mark.parametrize("name", ["min", "max", "approx_count_distinct", "approx_top_k"])
def test_what_can_be_compared_is_taken_and_json_is_not(name: str) -> None:
    """The laws are about the calls that are taken; that a type is taken is said here."""
    taken = {shape.arguments[0].type for shape in calls.every(name)}
    assert taken == set(values.TYPES) - {"JSON"}


def test_the_widest_that_is_taken() -> None:
    assert any(shape.arguments[0].type == "DECIMAL(27,5)" for shape in calls.every("sum"))
    assert view_of("SELECT approx_top_k(s, 1000) AS t FROM rows").columns == (("t", "VARCHAR[]"),)


def _partials(table: PartialTable, parts: Sequence[pa.Table]) -> None:
    a, b, c, none = parts

    def both(*parts: pa.Table) -> pa.Table:
        named = [{table.name: part} for part in parts]
        merged = judging.merged(table, named, Split((), tuple(range(len(parts)))))
        if not table.keys:
            return merged
        return merged.sort_by([(name, "ascending") for name, _ in table.keys])

    left = both(both(a, b), c)
    assert left == both(a, both(b, c)), "associative"
    assert both(a, b) == both(b, a), "commutative"
    assert both(a, none) == both(a), "identity"
    assert _bits(both(left)) == _bits(left), "merge of merge"


def _presents(
    view: CompiledView, laws: Laws, rows: Rows, *answers: tuple[Sequence[Parts], Split]
) -> None:
    full = [{column: row.get(column) for column in laws.columns} for row in rows]
    judging.fill("rows", list(laws.columns.items()), full)
    verdict = judging.verdict(view, answers)
    assert verdict.kind == "agreed", verdict.text


def _tree(chance: Random) -> Split:
    return Split((), chance.choice(((0, 1, 2), ((0, 2), 1), ((1,), (2, 0)))), frozenset({0}))


def _called(shape: Shape) -> str:
    return shape.sql(*(TYPED.get(each.type, "") for each in shape.arguments))


def _some(every: Sequence[Shape]) -> list[Shape]:
    """All calls of one argument; of more, a few for each first type, others for each."""
    kept = [shape for shape in every if len(shape.arguments) < 2]
    by_type: dict[str, list[Shape]] = {}
    for shape in every:
        if len(shape.arguments) > 1:
            by_type.setdefault(shape.arguments[0].type, []).append(shape)
    for at, shapes in enumerate(by_type.values()):
        step = max(1, len(shapes) // PAIRS)
        kept += shapes[at % step :: step][:PAIRS]
    return kept


@pytest.mark.parametrize(
    "kind", ["normal", "lognormal", "integers", "small", "constant", "ends", "large", "signs"]
)
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
        # between the ends of a bucket there is none
        "ends": chance.choice([1.0001, 1.0099, 1.0299], 20_000, p=[0.9, 0.05, 0.05]),
        # all in one bucket, and no DOUBLE
        "large": 2**62 + 1023 + 2048 * chance.integers(0, 2**30, 1000),
        "signs": np.concatenate(
            [[5e-324, -5e-324, 1.7e308, -1.7e308, 0.0], chance.normal(size=99)]
        ),
    }[kind]
    column = "big" if kind == "large" else "n" if drawn.dtype.kind == "i" else "x"
    view = view_of(f"SELECT approx_quantile({column}, {listed}) AS q FROM rows")
    parts = [
        measured.fold(view, [{column: value} for value in part.tolist()])
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
    values = [math.inf, -math.inf, math.nan, 1.0, -0.0]
    ((told,),) = presented(view, [measured.fold(view, [{"x": each} for each in values])])
    assert isinstance(told, list)
    assert (told[0], str(told[1])) == (-math.inf, "1.0")
    assert math.isnan(told[2])


def test_top_k_counts_exactly_and_orders_ties_by_value(measured: Measured) -> None:
    view = view_of(
        "SELECT approx_top_k(s, 3) AS t, approx_top_k(n, 2) FILTER (WHERE b) AS u FROM rows"
    )
    texts = ["b", "a", "c", "b", "a", None, "d", "c"]
    part: Rows = [{"s": text, "n": at % 3, "b": at > 3} for at, text in enumerate(texts)]
    parts = [measured.fold(view, [row]) for row in part]
    assert presented(view, parts) == [(["a", "b", "c"], [1, 0])]
    assert presented(view, [measured.fold(view, [])]) == [(None, None)]


def test_of_no_value_there_is_no_list(measured: Measured) -> None:
    view = view_of(
        "SELECT approx_quantile(n, [0.5]) AS a, quantile_cont(n, [0.5]) AS b, histogram(n) AS h, "
        "quantile_disc(n, [0, 1]) AS c, count(DISTINCT n) AS d FROM rows"
    )
    parts: tuple[Rows, Rows] = ([], [{}, {}])
    for part in parts:
        assert presented(view, [measured.fold(view, part)]) == [(None, None, None, None, 0)]


def test_a_wide_table_has_no_more_rows_than_events_nor_than_it_says(measured: Measured) -> None:
    """12,000 events in each of two groups, more different values than there are registers; parts
    of them merge to what all of them fold to."""
    chance = np.random.default_rng(3)
    columns = {
        "k": pa.array(np.repeat(["a", "b"], 12_000)),
        "small": pa.array(chance.integers(-(2**15), 2**15, 24_000), pa.int16()),
        "n": pa.array(chance.integers(-(2**31), 2**31, 24_000), pa.int32()),
        "x": pa.array(chance.lognormal(0, 90, 24_000)),
    }
    calls = ["approx_count_distinct(n)", "approx_quantile(small, 0.5)", "approx_quantile(x, 0.5)"]
    calls += ["histogram(n)", "count(DISTINCT x)", "sum(x)", "var_pop(x)"]
    listed = ", ".join(f"{call} AS c{at}" for at, call in enumerate(calls))
    declared = declared_of(f"SELECT k, {listed} FROM rows GROUP BY k")
    view = compile_view(declared, "v", [])
    most = {table: wide.rows for wide, table in fold.wide_tables(declared).items()}
    events = pa.table(columns)
    assert len(view.tables) == 1 + len(calls)
    for table in view.tables[1:]:
        parts = []
        for at in range(3):
            measured.engine.register("given", events.slice(at * 8_000, 8_000))
            measured.engine.count_from("SELECT * FROM given")
            parts.append(measured.engine.arrow(table.fold))
            assert parts[-1].num_rows <= 8_000
        measured.engine.register("parts", pa.concat_tables(parts))
        merged = measured.engine.arrow(table.merge("parts"))
        order: list[tuple[str, Order]] = [(n, "ascending") for n, _ in table.keys]
        measured.engine.register("given", events)
        measured.engine.register("whole", measured.engine.arrow(table.fold))
        whole = measured.engine.arrow(table.merge("whole"))
        assert merged.sort_by(order) == whole.sort_by(order)
        for key in ("a", "b"):
            rows = sum(each == key for each in merged["k"].to_pylist())
            limit = most[table.name]
            assert rows <= (12_000 if limit is None else limit), (table.name, rows)


def view_of(select: str, columns: Mapping[str, str] = COLUMNS) -> CompiledView:
    return compile_view(declared_of(select, columns), "v", [])


def declared_of(select: str, columns: Mapping[str, str] = COLUMNS) -> View:
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    time = next(name for name, kind in columns.items() if kind == "TIMESTAMP")
    texts = [
        f"CREATE STREAM rows ({declared}) WITH (topic = 'rows', event_time = '{time}');",
        f"CREATE VIEW v AS {select};",
    ]
    found, problems = definitions.read([parser.parse("v.sql", text)[0][0] for text in texts])
    assert not problems
    return found.views["v"]


def test_signed_zeros_are_one_value_and_print_alike(measured: Measured) -> None:
    """-0.0 and 0.0 are equal, so which one an answer shows may not depend on the split."""
    zeros: Rows = [{"x": -0.0}, {"x": 0.0}]
    calls = "min(x), max(x), approx_count_distinct(x), approx_top_k(x, 2), approx_quantile(x, [1])"
    view = view_of(f"SELECT {calls} FROM rows")
    for order in (zeros, zeros[::-1], zeros[:1], zeros[1:]):
        (answer,) = presented(view, [measured.fold(view, [zero]) for zero in order])
        assert list(map(str, answer)) == ["0.0", "0.0", "1", "[0.0]", "[0.0]"]


@pytest.mark.parametrize("name", "abcefkqrstvwxy")
def test_a_key_may_be_called_as_anything(measured: Measured, name: str) -> None:
    """Names that stand for something in the SQL of a measure are none that a view may give."""
    calls = "sum(x) AS p1, var_pop(x) AS p2, stddev(big) AS p3, mode(s) AS p4, avg(wide) AS p5, "
    calls += "approx_top_k(s, 2) AS p6, quantile_cont(x, [0.1, 0.5]) AS p7, arg_max(s, x) AS p8, "
    calls += "approx_quantile(x, 0.5) AS p9, approx_count_distinct(s) AS p0"
    rows: Rows = [{"s": text, "x": 1.5, "big": 2, "wide": Decimal(3)} for text in ("u", "u", "w")]
    one, other = (
        view_of(f"SELECT s AS {key}, {calls} FROM rows GROUP BY rows.s") for key in (name, "usual")
    )
    found, usual = (presented(each, [measured.fold(each, rows)]) for each in (one, other))
    assert sorted(found) == sorted(usual)
    given = pa.table({each: [row[each] for row in rows] for each in rows[0]})
    assert not refused(one, [measured.fold(one, rows)], "rows", given)


def test_sums_stay_exact_beyond_64_bits(measured: Measured) -> None:
    most: Rows = [{"big": 2**63 - 1, "ubig": 2**64 - 1, "wide": Decimal(10**21)}] * 1_000
    view = view_of("SELECT sum(big), sum(ubig), sum(wide) FROM rows")
    (answer,) = presented(view, [measured.fold(view, most)] * 1_000)
    assert answer == tuple(each * 1_000_000 for each in (2**63 - 1, 2**64 - 1, Decimal(10**21)))


def _bits(table: pa.Table) -> list[str]:
    return [repr(row) for row in table.to_pylist()]
