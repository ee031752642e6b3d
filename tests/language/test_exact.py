"""What an answer is judged by: the view's own text, exact where it estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import engine
from schemas.compile import CompiledView
from schemas.measures import registers
from tests.folding import load

STREAM = "CREATE STREAM hits (k VARCHAR, u BIGINT, n INTEGER) WITH (topic = 'hits');"
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
    asked = SELECT.replace("Approx_Count_Distinct ( u )", "count(DISTINCT u)").replace(
        "* approx_count_distinct(u)", "* count(DISTINCT u)"
    )
    names = '"k", "text", "hits", "visitors", "share", "top"'
    assert view.exact == f"SELECT * FROM ({asked}) AS exact({names})"


def test_a_column_without_a_name_of_its_own_keeps_the_views(tmp_path: Path) -> None:
    """What is asked for instead of an estimate would name it otherwise, and proofs pair columns by
    their names."""
    select = "SELECT k, approx_count_distinct(u) FROM hits GROUP BY k"
    (view,) = load(tmp_path, STREAM, f"CREATE VIEW v AS {select};").views()
    own = engine.connect()
    own.execute("CREATE TABLE hits (k VARCHAR, u BIGINT, n INTEGER)")
    assert own.arrow(view.exact).schema.names == [name for name, _ in view.columns]
    assert own.arrow(select).schema.names == [name for name, _ in view.columns]


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
        ("approximate", "standard error 1.6 %"),
        ("approximate", "computed from a value with standard error 1.6 %"),
    ]
