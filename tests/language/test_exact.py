"""What an answer is judged by: the view's own text, exact where it estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import engine
from schemas.compile import CompiledView
from schemas.measures import registers
from tests.folding import load

STREAM = "CREATE STREAM hits (k VARCHAR, u BIGINT, n INTEGER, x DOUBLE) WITH (topic = 'hits');"
SELECT = """SELECT k, -- approx_count_distinct(k)
    'approx_count_distinct(' || k AS text, count(*) AS hits,
    Approx_Count_Distinct ( u ) FILTER (WHERE n > 1) AS visitors,
    1.0 * approx_count_distinct(u) / count(*) AS share, max(n) + 1 AS top
  FROM hits GROUP BY ALL"""


@pytest.fixture
def view(tmp_path: Path) -> CompiledView:
    (found,) = load(tmp_path, STREAM, f"CREATE VIEW v AS {SELECT};").views()
    return found


def test_estimates_give_way_to_what_they_estimate(view: CompiledView) -> None:
    assert view.select == SELECT
    assert view.exact == SELECT.replace(
        "Approx_Count_Distinct ( u ) FILTER (WHERE n > 1) AS visitors",
        'count(DISTINCT u) FILTER (WHERE n > 1) AS "visitors"',
    ).replace(
        # what is made of an estimate is not compared, and must not fail
        "1.0 * approx_count_distinct(u) / count(*) AS share",
        'min(NULL) AS "share"',
    )


def test_a_column_without_a_name_of_its_own_keeps_the_views(tmp_path: Path) -> None:
    """What is asked for instead of an estimate would name it otherwise, and proofs pair columns by
    their names."""
    select = "SELECT k, approx_count_distinct(u) FROM hits GROUP BY k"
    (view,) = load(tmp_path, STREAM, f"CREATE VIEW v AS {select};").views()
    own = engine.connect()
    own.execute("CREATE TABLE hits (k VARCHAR, u BIGINT, n INTEGER)")
    assert own.arrow(view.exact).schema.names == [name for name, _ in view.columns]
    assert own.arrow(select).schema.names == [name for name, _ in view.columns]


@pytest.mark.parametrize(
    ("select", "exact"),
    [
        # the same function, judged for one type and not for the other
        ("sum(n) AS a, sum(x) AS b FROM hits", "sum(n) AS a, {x} FROM hits"),
        # a name for it, used again: the text must still be SQL
        ("sum(x) AS b, b / 2 AS c FROM hits", '{x}, min(NULL) AS "c" FROM hits'),
        ("sum(x) AS b, count(*) AS n, FROM hits", "{x}, count(*) AS n, FROM hits"),
        (
            "count(*) IS DISTINCT FROM 3 AS a, sum(x) AS b FROM hits",
            "count(*) IS DISTINCT FROM 3 AS a, {x} FROM hits",
        ),
        ("count(*) AS ss, sum(x) AS b GROUP BY k", "count(*) AS ss, {x} GROUP BY k"),
    ],
)
def test_what_is_judged_depends_on_the_call(tmp_path: Path, select: str, exact: str) -> None:
    first = "FROM hits " if " FROM hits" not in select else ""
    text = f"{first}SELECT {select}"
    (view,) = load(tmp_path, STREAM, f"CREATE VIEW v AS {text};").views()
    head, _, tail = f"{first}SELECT {exact}".partition("{x}")
    assert view.exact.startswith(head + "struct_pack(")
    assert view.exact.endswith(' AS "b"' + tail)
    engine.connect().execute(f"CREATE TABLE hits (k VARCHAR, n INTEGER, x DOUBLE); {view.exact}")


def test_each_column_says_how_it_is_compared(view: CompiledView) -> None:
    assert [(each.column, each.kind) for each in view.compared] == [
        ("k", "equal"),
        ("text", "equal"),
        ("hits", "equal"),
        ("visitors", "within"),
        ("share", "not"),
        ("top", "equal"),
    ]
    assert view.compared[3].condition == registers.WITHIN
    assert [(each.exactness, each.bound) for each in view.compared[2:5]] == [
        ("exact", "none"),
        ("approximate", "standard error 1.1 %"),
        ("approximate", "computed from a value with standard error 1.1 %"),
    ]


@pytest.mark.parametrize(
    ("select", "exact"),
    [
        ("replace(k, '(', ')') AS r, {} FROM", "replace(k, '(', ')') AS r, {} FROM"),
        (
            "'from' AS f, ',' AS c, '_call_7' AS l, {} FROM",
            "'from' AS f, ',' AS c, '_call_7' AS l, {} FROM",
        ),
        ('k AS "from", {} FROM', 'k AS "from", {} FROM'),
    ],
)
def test_what_stands_in_quotes_is_no_mark_of_the_query(
    tmp_path: Path, select: str, exact: str
) -> None:
    call, judged = "approx_top_k(replace(k, ',', ')'), 3)", "histogram(replace(k, ',', ')'))"
    text = f"SELECT {select.format(f'{call} AS t')} hits GROUP BY ALL"
    (view,) = load(tmp_path, STREAM, f"CREATE VIEW v AS {text};").views()
    expected = exact.format(judged + ' AS "t"')
    assert view.exact == f"SELECT {expected} hits GROUP BY ALL"
