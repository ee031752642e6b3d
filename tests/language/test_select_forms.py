"""Every way to write a select list, a GROUP BY and a join: what the view answers is what DuckDB
answers to the same text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa
import pytest

from tests.events import START
from tests.folding import Folding, load, presented, records
from tests.oracle import Oracle

Parts = Sequence[Mapping[str, Mapping[str, pa.Table]]]

STREAM = """
CREATE STREAM sales (
    id VARCHAR, ts TIMESTAMP NOT NULL, k VARCHAR, n INTEGER, x DOUBLE, d DECIMAL(12,2), b BOOLEAN,
    j JSON, "order" INTEGER
) WITH (topic = 'sales');
CREATE TABLE shops (k VARCHAR PRIMARY KEY, name VARCHAR) WITH (file = 'shops.csv');
CREATE TABLE areas (a VARCHAR, b INTEGER, area VARCHAR, PRIMARY KEY (a, b))
WITH (file = 'areas.csv');
"""
COLUMNS = (
    ("id", "VARCHAR"),
    ("ts", "TIMESTAMP"),
    ("k", "VARCHAR"),
    ("n", "INTEGER"),
    ("x", "DOUBLE"),
    ("d", "DECIMAL(12,2)"),
    ("b", "BOOLEAN"),
    ("j", "JSON"),
    ("order", "INTEGER"),
    ("_partition", "INTEGER"),
    ("_offset", "BIGINT"),
    ("_timestamp", "TIMESTAMP"),
    ("_key", "BLOB"),
)
FILES = {
    "shops.csv": b"k,name\na,Anna\nb,Bob\nAnna,b\n",
    "areas.csv": b"a,b,area\na,1,south\na,2,west\nb,1,south\n",
}
SHOPS = [{"k": "a", "name": "Anna"}, {"k": "b", "name": "Bob"}, {"k": "Anna", "name": "b"}]
AREAS = [
    {"a": "a", "b": 1, "area": "south"},
    {"a": "a", "b": 2, "area": "west"},
    {"a": "b", "b": 1, "area": "south"},
]
FORMS = {
    "alias_in_later_item": "k AS kk, upper(kk) AS u, count(*) AS c FROM sales GROUP BY kk",
    "alias_of_call": "k AS kk, count(*) AS c, c * 2 AS twice FROM sales GROUP BY kk",
    "alias_in_where": "n * 2 AS m, count(*) AS c FROM sales WHERE m > 2 GROUP BY ALL",
    "column_before_alias": "n + 1 AS n, n AS m, count(*) AS c FROM sales GROUP BY ALL",
    "by_position": "k, n, count(*) FROM sales GROUP BY 2, 1",
    "by_alias_of_expression": "upper(k) AS u, count(*) AS c FROM sales GROUP BY u",
    "by_expression": "upper(k) AS u, lower(upper(k)) AS l, count(*) AS c FROM sales "
    "GROUP BY upper(k)",
    "over_key": "upper(k) AS u, count(*) AS c FROM sales GROUP BY k",
    "over_sum_of_key": "n + 1 + 1 AS m, count(*) AS c FROM sales GROUP BY n + 1",
    "key_in_parentheses": "(k) AS kk, ((n + 1)) AS m, count(*) AS c FROM sales GROUP BY k, n + 1",
    "keys_not_shown": "count(*) AS c FROM sales GROUP BY k, n % 2",
    "key_twice": "k AS one, k AS two, count(*) AS c FROM sales GROUP BY k",
    "double_key": "x AS xx, -x AS minus, count(*) AS c FROM sales GROUP BY x",
    "boolean_key": "b, count(*) AS c, min(b) AS least FROM sales GROUP BY b",
    "decimal_key": "d * 100 AS cents, sum(d * 100) AS s, avg(d) AS a FROM sales GROUP BY 1",
    "time_key": "ts::DATE AS day, hour(ts) AS h, count(*) AS c FROM sales GROUP BY ALL",
    "bucket": "time_bucket('1 hour', ts) AS h, count(*) AS c FROM sales GROUP BY 1",
    "record_columns": "_partition AS p, _offset % 2 AS o, count(*) AS c FROM sales GROUP BY ALL",
    "json_key": "j->>'$.a' AS a, (j->'a')->>'b' AS ab, count(*) AS c FROM sales GROUP BY ALL",
    "constant_key": "'x' AS c, count(*) AS m FROM sales GROUP BY 'x'",
    "constants": "'x' AS a, 1 + 1 AS two, NULL AS nothing, k, count(*) AS c FROM sales GROUP BY k",
    "constant_of_interval": "'1 hour' AS w, max(ts) + INTERVAL '1 hour' AS z FROM sales GROUP BY w",
    "no_key_constants": "'$merged' AS a, '$below' AS b, count(*) AS c FROM sales",
    "case_over_calls": """k, CASE WHEN count(*) > 1 THEN 'many' ELSE 'few' END AS c,
        CASE WHEN max(n) > 3 THEN k END AS m FROM sales GROUP BY k""",
    "connected_calls": "k, max(n) > 1 AND min(n) < 3 AS r, max(n) > 1 OR k = 'a' AS o "
    "FROM sales GROUP BY k",
    "operators_on_calls": """k, sum(n) / 2 AS h, sum(n) // 2 AS i, sum(n) % 2 AS m, -sum(n) AS g,
        sum(n) IS NULL AS u, max(k) || '!' AS t, max(n) ** 2 AS p, sum(n)::DOUBLE / count(*) AS r,
        max(n) BETWEEN 1 AND 3 AS w, max(k) LIKE 'a%' AS e, max(n) IN (1, 2) AS y
        FROM sales GROUP BY k""",
    "nested_values": "k, [count(*), sum(n)] AS l, {'a': max(n)} AS s FROM sales GROUP BY k",
    "lambda": "k, list_sum(list_transform([1, 2], lambda y: y + 1)) AS s, max(n) AS m "
    "FROM sales GROUP BY k",
    "filters": """k, count(*) FILTER (n > 1) AS a, count(*) FILTER (WHERE n > 1) AS c,
        sum(n) FILTER (WHERE k = 'a' AND b) AS d, avg(d) FILTER (b) AS e FROM sales GROUP BY k""",
    "calls_of_constants": """count(*) AS c, count(1) AS one, count(NULL) AS none, sum(1) AS s,
        max(1) AS m, min('a') AS t, avg(2) AS a FROM sales""",
    "calls_of_expressions": """sum(CASE WHEN b THEN n ELSE 0 END) AS s, sum(b) AS t,
        sum(n::BIGINT * n) AS q, max(upper(k)) AS u, min(ts::DATE) AS f, sum(d * n) AS v
        FROM sales""",
    "quoted": 'k AS "Key One", "count"(*) AS "n ""n""", sum("order") AS "order" FROM "sales" '
    'GROUP BY "k"',
    "mixed_case": "K, Count(*) AS N, SUM(N) FROM SALES GROUP BY K",
    "names_of_functions": 'k AS "sum", count(*) AS count, max(n) AS max FROM sales GROUP BY sum',
    "name_like_ours": "k AS count_0, n AS call_1, count(*) AS key_0 FROM sales GROUP BY ALL",
    "unnamed": "k, count(*), sum(n), 1 + 1 FROM sales GROUP BY k",
    "prefix_alias": "c: count(*), k FROM sales GROUP BY k",
    "table_alias": "e.k, count(*) AS c FROM sales AS e WHERE e.n > 0 GROUP BY e.k",
    "with_schema": "main.sales.k, count(*) AS c FROM sales GROUP BY ALL",
    "using": "k, name, count(*) AS c FROM sales AS e LEFT JOIN shops AS s USING (k) "
    "GROUP BY k, s.name",
    "using_reference_key": "s.k AS theirs, count(*) AS c FROM sales LEFT JOIN shops s USING (k) "
    "GROUP BY ALL",
    "inner_using": "k, upper(name) AS u, count(*) AS c FROM sales JOIN shops USING (k) "
    "GROUP BY ALL",
    "on": "sales.k, shops.k AS k2, name, count(*) AS c FROM sales LEFT JOIN shops "
    "ON shops.k = sales.k GROUP BY ALL",
    "on_expression": "name, count(*) AS c FROM sales LEFT JOIN shops s ON lower(sales.k) = s.k "
    "GROUP BY name",
    "on_composite": "area, sum(n) AS s FROM sales e LEFT JOIN areas r ON e.k = r.a AND (r.b = e.n) "
    "GROUP BY area",
    "join_of_join": "p.name, q.name AS other, count(*) AS c FROM sales LEFT JOIN shops p "
    "ON sales.k = p.k LEFT JOIN shops q ON p.name = q.k GROUP BY ALL",
    "calls_of_reference": "max(name) AS m, count(name) AS c FROM sales LEFT JOIN shops USING (k)",
    "where_on_reference": "count(*) AS c FROM sales LEFT JOIN shops USING (k) WHERE name IS NULL",
    "functions": """ifnull(k, '-') AS a, if(b, 1, 2) AS c, coalesce(k, 'x') AS e,
        nullif(k, 'a') AS f, greatest(n, 1) AS g, k ILIKE 'A%' AS i, k ~ 'a' AS r,
        n IN (1, 2) AS l, len(k) AS m,
        extract(hour FROM ts) AS h, k[1:1] AS p, string_split(k, ',')[1] AS q, md5(k) AS t,
        regexp_extract(k, '(.)', 1) AS u, strftime(ts, '%Y') AS v, n & 1 AS w, ~n AS y,
        ts AT TIME ZONE 'UTC' AT TIME ZONE 'America/New_York' AS z, count(*) AS cnt
        FROM sales GROUP BY ALL""",
    "not_null_safe": "k, count(*) AS c FROM sales WHERE NOT (k = 'a' AND n IS NOT NULL) "
    "OR k IS DISTINCT FROM 'b' GROUP BY k",
}
DISTINCTS = {
    "only_distinct": ("approx_count_distinct(k) FROM sales", "count(DISTINCT k) FROM sales"),
    "two_distincts": (
        "b, approx_count_distinct(k) AS c, approx_count_distinct(n) FILTER (b) AS d FROM sales "
        "GROUP BY b",
        "b, count(DISTINCT k), count(DISTINCT n) FILTER (b) FROM sales GROUP BY b",
    ),
    "alias_in_where": (
        "n + 1 AS m, approx_count_distinct(k) AS c FROM sales WHERE m > 1 GROUP BY m",
        "n + 1, count(DISTINCT k) FROM sales WHERE n + 1 > 1 GROUP BY 1",
    ),
    "of_expression_of_reference": (
        "upper(k) AS u, 2 * approx_count_distinct(name) AS c FROM sales LEFT JOIN shops USING (k) "
        "GROUP BY k",
        "upper(k), 2 * count(DISTINCT name) FROM sales LEFT JOIN shops USING (k) GROUP BY k",
    ),
}
EVENTS: list[dict[str, object]] = [
    {"id": "1", "k": "a", "n": 1, "x": 0.0, "d": "1.10", "b": True, "j": {"a": {"b": 1}}},
    {"id": "2", "k": "a", "n": 2, "x": -0.0, "d": "2.20", "b": False, "order": 7},
    {"id": "3", "k": "b", "n": 1, "x": 1.5, "d": None, "b": True, "j": {"a": "z"}},
    {"id": "4", "k": "A", "n": 4, "x": None, "d": "-3.00", "b": None, "j": [1]},
    {"id": "5", "k": None, "n": None, "x": 1e300, "d": "0.01", "b": False, "order": -7},
    {"id": "6", "k": "", "n": 4, "x": 1.5, "d": "0.00", "b": True, "j": "text"},
]


@pytest.fixture(scope="module")
def folding(tmp_path_factory: pytest.TempPathFactory) -> Folding:
    views = [f"CREATE VIEW v_{name} AS SELECT {text};" for name, text in FORMS.items()]
    views += [f"CREATE VIEW d_{name} AS SELECT {text};" for name, (text, _) in DISTINCTS.items()]
    return Folding(load(tmp_path_factory.mktemp("forms"), STREAM, *views, files=FILES))


@pytest.fixture(scope="module")
def parts(folding: Folding) -> Parts:
    """Partials of three tasks, the last of them empty."""
    values = [json.dumps({**event, "ts": _moment(at)}).encode() for at, event in enumerate(EVENTS)]
    tasks = [records(values[:2]), records(values[2:], offset=2), records([], offset=6)]
    folded = folding.epoch(1, START, *tasks)
    assert all(not part.suspended and not part.rejected for part in folded)
    return [part.partials for part in folded]


@pytest.fixture(scope="module")
def truth() -> Oracle:
    oracle = Oracle()
    blank = dict.fromkeys((name for name, _ in COLUMNS), None)
    rows = []
    for at, event in enumerate(EVENTS):
        document = json.dumps(event["j"]) if "j" in event else None
        record = {"_partition": 0, "_offset": at, "ts": datetime.fromisoformat(_moment(at))}
        rows.append({**blank, **event, **record, "j": document})
    oracle.fill("sales", COLUMNS, rows)
    oracle.fill("shops", [("k", "VARCHAR"), ("name", "VARCHAR")], SHOPS)
    oracle.fill("areas", [("a", "VARCHAR"), ("b", "INTEGER"), ("area", "VARCHAR")], AREAS)
    return oracle


def _moment(at: int) -> str:
    return f"2013-01-01T{at % 3:02d}:30:00"


@pytest.mark.parametrize("name", FORMS)
def test_a_form_answers_as_its_text_does(
    folding: Folding, parts: Parts, truth: Oracle, name: str
) -> None:
    view = folding.view(f"v_{name}")
    found = presented(view, [part[view.version] for part in parts])
    assert found
    assert _multiset(found) == _multiset(truth.answer(f"SELECT {FORMS[name]}"))


@pytest.mark.parametrize("name", DISTINCTS)
def test_few_distinct_values_are_counted_exactly(
    folding: Folding, parts: Parts, truth: Oracle, name: str
) -> None:
    view = folding.view(f"d_{name}")
    found = presented(view, [part[view.version] for part in parts])
    assert _multiset(found) == _multiset(truth.answer(f"SELECT {DISTINCTS[name][1]}"))


def test_columns_are_named_and_typed_as_the_text_says(folding: Folding) -> None:
    assert folding.view("v_unnamed").columns == (
        ("k", "VARCHAR"),
        ("count_star()", "BIGINT"),
        ("sum(n)", "HUGEINT"),
        ("(1 + 1)", "INTEGER"),
    )
    assert [name for name, _ in folding.view("v_quoted").columns] == ["Key One", 'n "n"', "order"]


def test_a_reference_joined_twice_is_one_reference(folding: Folding) -> None:
    names = [reference.name for reference in folding.view("v_join_of_join").references]
    assert names == ["shops"]


def _multiset(rows: list[tuple[object, ...]]) -> Counter[str]:
    # -0.0 and 0.0 are one group
    return Counter(repr(row).replace("-0.0", "0.0") for row in rows)
