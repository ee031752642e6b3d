"""Every way to write a select list, a GROUP BY and a join: what the view answers is what DuckDB
answers to the same text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.events import START
from tests.folding import Folding, load, presented, records
from tests.oracle import Oracle

pytestmark = pytest.mark.slow

Parts = Sequence[Mapping[str, Mapping[str, pa.Table]]]

STREAM = """
CREATE STREAM sales (
    id VARCHAR, ts TIMESTAMP NOT NULL, k VARCHAR, n INTEGER, x DOUBLE, d DECIMAL(12,2), b BOOLEAN,
    j JSON, "order" INTEGER
) WITH (topic = 'sales');
CREATE TABLE shops (k VARCHAR PRIMARY KEY, name VARCHAR) WITH (file = 'shops.csv');
CREATE TABLE areas (a VARCHAR, b INTEGER, area VARCHAR, PRIMARY KEY (a, b))
WITH (file = 'areas.csv');
CREATE TABLE rates (k VARCHAR, since TIMESTAMP, rate DECIMAL(5,2), PRIMARY KEY (k, since))
WITH (file = 'rates.parquet');
CREATE TABLE steps (n INTEGER PRIMARY KEY, step VARCHAR) WITH (file = 'steps.csv');
"""


def parquet(rows: Sequence[Mapping[str, object]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([*rows]), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


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
RATES = [
    {"k": "a", "since": datetime(2013, 1, 1, 0, 30), "rate": Decimal("1.25")},  # noqa: DTZ001
    {"k": "a", "since": datetime(2013, 1, 1, 1), "rate": Decimal("1.50")},  # noqa: DTZ001
    {"k": "a", "since": datetime(2013, 1, 2), "rate": Decimal("9.00")},  # noqa: DTZ001
    {"k": "b", "since": datetime(2013, 1, 1, 3), "rate": Decimal("3.00")},  # noqa: DTZ001
    {"k": "", "since": datetime(2013, 1, 1), "rate": None},  # noqa: DTZ001
]
RATE_COLUMNS = [("k", "VARCHAR"), ("since", "TIMESTAMP"), ("rate", "DECIMAL(5,2)")]
STEPS = [{"n": 1, "step": "low"}, {"n": 3, "step": "high"}]
FILES = {
    "rates.parquet": parquet(RATES),
    "steps.csv": b"n,step\n1,low\n3,high\n",
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
    "keys_of_one_letter": """id AS s, n AS t, n + 1 AS v, n + 2 AS w, n + 3 AS a, n + 4 AS b,
        n + 5 AS e, sum(x) AS c1, var_pop(x) AS c2, var_pop(n) AS c3, var_pop(d) AS c4,
        mode(n) AS c5, approx_top_k(n, 2) AS c6, quantile_disc(n, 0.5) AS c7
        FROM sales GROUP BY ALL""",
    "an_index_of_a_call": """(approx_quantile(n, [0, 1]) FILTER (WHERE n > 1))[1] AS a,
        (approx_quantile(n, [0, 1]))[-1] AS b, (quantile_disc(n, [0, 1]))[1 + 1] AS c, k[1] AS d
        FROM sales GROUP BY k""",
    "not_null_safe": "k, count(*) AS c FROM sales WHERE NOT (k = 'a' AND n IS NOT NULL) "
    "OR k IS DISTINCT FROM 'b' GROUP BY k",
}
# group keys of every kind, and views of single events
FORMS |= {
    "key_of_each_integer": """n::TINYINT AS a, n::UBIGINT AS b, (n * 3000000000)::BIGINT AS c,
        count(*) AS m FROM sales GROUP BY ALL""",
    "key_hugeint": """n::HUGEINT * 40000000000000000000000000000000000000 AS h, h + 1 AS more,
        count(*) AS m FROM sales GROUP BY 1""",
    "key_uhugeint_not_shown": "count(*) AS m, max(n) AS x FROM sales GROUP BY n::UHUGEINT",
    "key_of_quotient": "n / 0 AS q, x / 0 AS r, x * 0 AS z, count(*) AS m FROM sales GROUP BY ALL",
    "key_float": "(-x)::FLOAT AS f, count(*) AS m FROM sales WHERE x < 9 GROUP BY f",
    "key_decimal_digits": "d::DECIMAL(38,10) AS e, d * d AS q, count(*) AS m FROM sales "
    "GROUP BY ALL",
    "key_date_and_time": "ts::DATE AS d, ts::TIME AS t, ts AS s, count(*) AS m FROM sales "
    "GROUP BY ALL",
    "key_instant": "ts::TIMESTAMPTZ AS z, time_bucket(INTERVAL '1 day', z) AS d, count(*) AS m "
    "FROM sales GROUP BY ALL",
    "key_seconds": "ts::TIMESTAMP_S AS s, ts::TIMESTAMP_MS AS m, count(*) AS c FROM sales "
    "GROUP BY ALL",
    "key_local_day": """(ts AT TIME ZONE 'UTC' AT TIME ZONE 'America/New_York')::DATE AS day,
        time_bucket(INTERVAL '1 day', ts AT TIME ZONE 'UTC', 'Asia/Tokyo') AS tokyo, count(*) AS m
        FROM sales GROUP BY ALL""",
    "key_json": "j, j->'a' AS a, j->>'$.a.b' AS b, count(*) AS m FROM sales GROUP BY ALL",
    "key_of_odd_json": """j->>'a.b' AS a, j->>'' AS e, j->>0 AS first, j->>-1 AS last,
        j->>'$.a.b' AS p, j->'a[0]' AS i, count(*) AS m FROM sales GROUP BY ALL""",
    "key_log": "log2(n * 3) AS l, floor(log2(n)) AS f, log10(n * 7) AS t, log(n) AS g, "
    "count(*) AS m FROM sales GROUP BY ALL",
    "key_date_add": "date_add(ts, to_hours(n)) AS h, date_add(ts::DATE, INTERVAL 1 DAY) AS d, "
    "count(*) AS m FROM sales GROUP BY ALL",
    "key_blob": "encode(k) AS bytes, count(*) AS m FROM sales GROUP BY bytes",
    "key_uuid": "md5(k)[1:32]::UUID AS u, count(*) AS m, u::VARCHAR AS t FROM sales GROUP BY u",
    "key_null": "k, CASE WHEN n > 100 THEN n END AS nothing, count(*) AS m FROM sales GROUP BY ALL",
    "key_case": "CASE WHEN n > 1 THEN 'many' WHEN b THEN k END AS c, count(*) AS m FROM sales "
    "GROUP BY c",
    "key_bits": "n & 1 AS odd, n << 2 AS s, xor(n, 3) AS x, count(*) AS m FROM sales GROUP BY ALL",
    "key_regexp": "regexp_extract(lower(k), '[a-z]') AS r, length(k) AS l, count(*) AS m "
    "FROM sales GROUP BY ALL",
    "key_constant_expression": "1 + 1 AS two, count(*) AS m FROM sales GROUP BY 1 + 1",
    "key_some_not_shown": "k, count(*) AS m FROM sales GROUP BY k, b, d",
    "key_of_two_tables": "k || name AS both, n + _offset AS s, count(*) AS m FROM sales "
    "LEFT JOIN shops USING (k) GROUP BY ALL",
    "key_number_no_position": "count(*) AS c FROM sales GROUP BY 1.5, '1'",
    "all_of_aggregates": "count(*) AS c, sum(n) AS s FROM sales GROUP BY ALL",
    "all_with_constant": "1 AS one, count(*) AS c FROM sales GROUP BY ALL",
    "position_of_key_twice": "k, count(*) AS c, upper(k) AS u FROM sales GROUP BY 3, 1, k",
    "calls_in_nested_calls": """k, greatest(max(n), coalesce(sum(n), 0) + count(*)) AS g,
        round(100.0 * count(*) FILTER (b) / nullif(count(n), 0), 1) AS r,
        CASE WHEN max(d) > 1 THEN CASE WHEN min(d) > 1 THEN 'all' ELSE 'some' END ELSE 'none' END
        AS w, list_sort([max(n), min(n), NULL]) AS l, {'c': count(*), 'in': {'m': max(k)}} AS s,
        map {coalesce(max(k), '?'): count(*)} AS p, sum(n)::VARCHAR || '/' || count(*) AS t,
        list_transform([max(n), 1], lambda v: v + 1) AS v, max(ts) - min(ts) AS w2
        FROM sales GROUP BY k""",
    "aliases_of_aliases": """upper(k) AS u, u || '!' AS v, v || '?' AS w, count(*) AS c, c + 1 AS d,
        d * 2 AS e FROM sales GROUP BY ALL""",
    "asof": "sales.k, rate, count(*) AS c FROM sales ASOF LEFT JOIN rates ON sales.k = rates.k "
    "AND ts >= since GROUP BY ALL",
    "asof_after": "s.k, r.since AS since, sum(rate * n) AS v FROM sales s ASOF LEFT JOIN rates "
    "AS r ON (r.k = s.k) AND r.since < s.ts WHERE n > 0 GROUP BY ALL",
    "asof_of_expression": "rate, count(*) AS c FROM sales ASOF LEFT JOIN rates ON lower(sales.k) = "
    "rates.k AND since <= ts + INTERVAL '2 hours' GROUP BY rate",
    "asof_of_number": "step, count(*) AS c FROM sales ASOF LEFT JOIN steps USING (n) GROUP BY step",
    "asof_of_joined": "name, rate, count(*) AS c FROM sales LEFT JOIN shops USING (k) "
    "ASOF LEFT JOIN rates ON rates.k = sales.k AND ts >= rates.since GROUP BY ALL",
    "asof_of_events": "sales.k, n, since, rate FROM sales ASOF LEFT JOIN rates "
    "ON sales.k = rates.k AND ts >= since WHERE rate IS NULL OR rate > 1.3",
    "events": "k, n, x, d, b, j FROM sales",
    "events_alike": "b FROM sales",
    "events_without_columns": "1 AS one, NULL AS nothing, [1, 2] AS l FROM sales WHERE n > 1",
    "events_by_place": "_partition AS p, _offset + 0 AS o, _offset AS oo, k AS kk FROM sales",
    "events_twice": "k, k AS again, upper(k) AS u, u || k AS v FROM sales",
    "events_nested": "[n, NULL] AS l, {'k': k, 'l': [b]} AS s, map {id: d} AS m, [[j]] AS j "
    "FROM sales",
    "events_minus_zero": "-x AS minus, x * 0 AS zero, [x] AS l FROM sales WHERE x = 0",
    "events_inner": "k, name, id FROM sales INNER JOIN shops USING (k) WHERE b",
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
    {
        "id": "6",
        "k": "",
        "n": 4,
        "x": 1.5,
        "d": "0.00",
        "b": True,
        "j": {"a.b": 1, "": 2, "*": 3, "a[0]": 4, "a": {"b": 5}},
    },
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
    blank = dict.fromkeys((name for name, _ in COLUMNS), None)
    rows = []
    for at, event in enumerate(EVENTS):
        document = json.dumps(event["j"], separators=(",", ":")) if "j" in event else None
        record = {"_partition": 0, "_offset": at, "ts": datetime.fromisoformat(_moment(at))}
        rows.append({**blank, **event, **record, "j": document})
    return _oracle(rows)


def _oracle(sales: list[dict[str, object]]) -> Oracle:
    oracle = Oracle()
    oracle.fill("sales", COLUMNS, sales)
    oracle.fill("shops", [("k", "VARCHAR"), ("name", "VARCHAR")], SHOPS)
    oracle.fill("rates", RATE_COLUMNS, RATES)
    oracle.fill("steps", [("n", "INTEGER"), ("step", "VARCHAR")], STEPS)
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


def test_no_events_answer_as_its_text_does(folding: Folding) -> None:
    (empty,) = folding.epoch(2, START, records([], offset=6))
    truth = _oracle([])
    for name, text in FORMS.items():
        view = folding.view(f"v_{name}")
        found = presented(view, [empty.partials[view.version]])
        assert found == truth.answer(f"SELECT {text}"), name


@pytest.mark.parametrize("name", DISTINCTS)
def test_few_distinct_values_are_counted_exactly(
    folding: Folding, parts: Parts, truth: Oracle, name: str
) -> None:
    view = folding.view(f"d_{name}")
    found = presented(view, [part[view.version] for part in parts])
    assert _multiset(found) == _multiset(truth.answer(f"SELECT {DISTINCTS[name][1]}"))


def test_a_replayed_reject_is_an_event_of_its_own(tmp_path: Path) -> None:
    """It keeps its partition and offset, which tell a view of single events what it is."""
    stream = "CREATE STREAM s (n INTEGER CHECK (n > 0)) WITH (topic = 's');"
    view = "CREATE VIEW v AS SELECT n FROM s;"
    strict = Folding(load(tmp_path / "strict", stream, view))
    loose = Folding(load(tmp_path / "loose", stream.replace("CHECK (n > 0)", ""), view))
    (own,) = strict.views
    assert loose.view("v").version == own.version
    values = [b'{"n":1}', b'{"n":-1}', b'{"n":1}']
    (first,) = strict.epoch(1, START, records(values))
    (again,) = loose.epoch(2, START, records(values[1:2], offset=1))
    parts = [first.partials[own.version], again.partials[own.version]]
    assert sorted(presented(own, parts)) == [(-1,), (1,), (1,)]


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
