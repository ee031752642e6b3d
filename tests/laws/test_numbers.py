"""Sums and spreads held to the truth in fractions, and what no type can hold."""

from __future__ import annotations

import itertools
import math
import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pytest

from schemas import definitions, engine
from schemas.compile import CompiledView, compile_view
from schemas.language import parser
from schemas.parquet import Description
from tests.folding import presented, refused

pytestmark = pytest.mark.slow

TINY, LARGEST = 5e-324, 1.7976931348623157e308
DRAWN = random.Random(11)


def view_of(columns: str, select: str) -> CompiledView:
    texts = (
        f"CREATE STREAM rows ({columns}) WITH (topic = 'rows', event_time = 't');",
        f"CREATE VIEW v AS {select};",
    )
    found, problems = definitions.read([parser.parse("v.sql", text)[0][0] for text in texts])
    assert not problems
    return compile_view(found.views["v"], "v", [])


def groups() -> list[list[float]]:
    """Values of any size, of which many cancel each other, in one bucket and across many."""
    found = [
        [-0.0],
        [TINY] * 3,
        [LARGEST, -LARGEST, 1e-300],
        [2.0**32, -(2.0**31), -(2.0**31), 1e-280],
        [math.nextafter(2.0**32, 0), 2.0**32, -(2.0**32)],
        [LARGEST, -1.0, 1.0],
        [LARGEST / 2, LARGEST / 2, -TINY],
        [1.0, *[-(2.0**-32) * (1 - 2.0**-53)] * 3, 2.0**-900],
        [0.1] * 10,
        [1e15, 1e15 + 1, 1e15],
        [1e15 + 0.125] * 7,
    ]
    for _ in range(300):
        most = DRAWN.choice([3, 40, 300, 1000])
        drawn = [DRAWN.uniform(-1, 1) * 2.0 ** DRAWN.randint(-most, most) for _ in range(8)]
        drawn = drawn[: DRAWN.randint(1, 8)]
        if DRAWN.random() < 0.5:
            drawn += [-x for x in drawn] + [DRAWN.uniform(-1, 1) * 2.0 ** DRAWN.randint(-most, 9)]
            DRAWN.shuffle(drawn)
        found.append(drawn)
    return found


def test_sums_and_spreads_of_doubles_are_those_of_fractions_for_every_split() -> None:
    view = view_of(
        "k INTEGER, x DOUBLE, t TIMESTAMP",
        "SELECT k, sum(x) AS s, avg(x) AS a, var_pop(x) AS v, stddev(x) AS d FROM rows GROUP BY k",
    )
    listed = groups()
    rows = [(k, x) for k, values in enumerate(listed) for x in values]
    answers = []
    for cuts, order in (((), 1), ((700,), -1), ((100, 101, 1500), 1)):
        DRAWN.shuffle(rows)
        parts = [rows[a:b] for a, b in itertools.pairwise((0, *cuts, len(rows)))]
        answers.append(sorted(presented(view, [_fold(view, part) for part in parts][::order])))
    assert answers[0] == answers[1] == answers[2]
    table = pa.table({"k": [k for k, _ in rows], "x": [x for _, x in rows]})
    assert not refused(view, [_fold(view, rows)], "rows", table)
    for (_, total, mean, spread, _), values in zip(answers[0], listed, strict=True):
        exact = [Fraction(value) for value in values]
        truth = sum(exact, Fraction(0))
        assert isinstance(total, float)
        assert isinstance(mean, float)
        assert isinstance(spread, float)
        assert abs(Fraction(total) - truth) <= Fraction(math.ulp(float(truth))), values
        assert mean == total / len(values)
        apart = [x - truth / len(exact) for x in exact]
        squares = sum((x * x for x in apart), Fraction(0)) / len(exact)
        if Fraction(2) ** -1000 < squares < Fraction(2) ** 1000:
            assert abs(Fraction(spread) - squares) <= squares / 10**14, values
        if squares == 0:
            assert spread == 0


def _fold(view: CompiledView, part: list[tuple[int, float]]) -> dict[str, pa.Table]:
    own = engine.connect()
    ks, xs = [k for k, _ in part], [x for _, x in part]
    rows = pa.table({"k": pa.array(ks, pa.int32()), "x": pa.array(xs, pa.float64())})
    own.register("counted", rows)
    return {table.name: own.arrow(table.fold) for table in view.tables}


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([0.0, -0.0], 0.0),
        ([LARGEST, LARGEST], math.inf),
        ([-LARGEST, -LARGEST], -math.inf),
        ([math.inf, 1.0], math.inf),
        ([-math.inf, 1.0], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, math.inf], math.nan),
        ([None], None),
        ([], None),
    ],
)
def test_what_is_no_number_has_its_sum_too(values: list[float | None], total: float | None) -> None:
    view = view_of("x DOUBLE, t TIMESTAMP", "SELECT sum(x) AS s FROM rows")
    own = engine.connect()
    parts = []
    for each in [[value] for value in values] or [[]]:
        rows = pa.table({"x": pa.array(each, pa.float64())})
        own.register("counted", rows)
        parts.append({table.name: own.arrow(table.fold) for table in view.tables})
    ((found,),) = presented(view, parts)
    assert repr(found) == repr(total)
    whole = pa.table({"x": pa.array(values, pa.float64())})
    assert not refused(view, parts, "rows", whole)


@pytest.mark.parametrize(("width", "scale"), [(9, 9), (10, 9), (18, 4), (18, 18)])
def test_a_spread_of_decimals_of_all_digits_is_that_of_fractions(width: int, scale: int) -> None:
    kind = f"DECIMAL({width},{scale})"
    view = view_of(f"x {kind}, t TIMESTAMP", "SELECT var_pop(x) AS v FROM rows")
    most = Decimal(10**width - 1).scaleb(-scale)
    values = [most, most.copy_negate(), most, Decimal(0)]
    own = engine.connect()
    own.register("counted", pa.table({"x": pa.array(values, pa.decimal128(width, scale))}))
    parts = [{table.name: own.arrow(table.fold) for table in view.tables}]
    ((found,),) = presented(view, parts)
    mean = sum(map(Fraction, values), Fraction(0)) / len(values)
    truth = sum(((Fraction(x) - mean) ** 2 for x in values), Fraction(0)) / len(values)
    assert found == pytest.approx(float(truth), rel=1e-14)


def test_a_sum_that_no_type_holds_is_null_for_its_group_alone() -> None:
    view = view_of(
        "k VARCHAR, w DECIMAL(38,10), z DECIMAL(38,38), t TIMESTAMP",
        "SELECT k, sum(w) AS s, avg(w) AS a, sum(z) AS z, "
        "sum(w::HUGEINT * 5000000000) AS h FROM rows GROUP BY k",
    )
    most, near = Decimal("9999999999999999999999999999.9999999999"), Decimal("0." + "9" * 38)
    back = [most] * 3 + [most.copy_negate()] * 2
    last = [most, Decimal(1), Decimal(-1), Decimal("-1e-10")]
    keys = ["over"] * 3 + ["back"] * 5 + ["last"] * 4
    zs = [near] * 6 + [near.copy_negate()] * 2 + [None] * 4
    whole = pa.table(
        {
            "k": pa.array(keys, pa.string()),
            "w": pa.array([most] * 3 + back + last, pa.decimal128(38, 10)),
            "z": pa.array(zs, pa.decimal128(38, 38)),
        }
    )
    own = engine.connect()
    parts = []
    for rows in (whole.slice(0, 2), whole.slice(2)):
        own.register("counted", rows)
        parts.append({table.name: own.arrow(table.fold) for table in view.tables})
    of_back, of_last, over = sorted(presented(view, parts), key=lambda row: str(row[0]))
    assert over[:4:2] == ("over", pytest.approx(1e28))
    assert (over[1], over[3], over[4]) == (None, None, None)
    assert (of_back[1], of_back[3], of_back[4]) == (most, near, 10**28 * 5000000000)
    assert (of_last[1], of_last[3]) == (Decimal("9999999999999999999999999999.9999999998"), None)
    assert not refused(view, parts, "rows", whole)


def test_pairs_come_through_files_and_ties_go_by_value(tmp_path: Path) -> None:
    view = view_of(
        "k INTEGER, x DECIMAL(12,2), t TIMESTAMP, b UBIGINT",
        "SELECT k, first(x) AS f, last(x) AS l, arg_max(b, x) AS m, arg_min(x, b) AS n, "
        "last(encode(k::VARCHAR)) AS o FROM rows GROUP BY k",
    )
    own = engine.connect()
    own.execute(
        "CREATE TABLE counted AS SELECT (i % 3)::INTEGER AS k, (i % 7)::DECIMAL(12,2) AS x, "
        "CASE WHEN i % 5 > 0 THEN TIMESTAMP '2026-01-01' + to_days(i % 4) END AS t, "
        "(18446744073709551615 - i % 2)::UBIGINT AS b FROM range(60) r(i)"
    )
    (core,) = view.tables
    whole = own.arrow(core.fold)
    assert {name for name, _ in view.reads} == {"k", "x", "t", "b"}
    own.copy(core.fold, tmp_path / "core.parquet", Description("run", "rows", 1, 1, ()))
    typed = [*core.keys, *((name, kind) for name, kind, _ in core.values)]
    read = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in typed)
    stored = own.arrow(f"SELECT {read} FROM {own.files([tmp_path / 'core.parquet'])}")
    assert sorted(presented(view, [{"core": stored}])) == sorted(presented(view, [{"core": whole}]))
    assert not refused(view, [{"core": stored}], "rows", own.arrow("FROM counted"))
