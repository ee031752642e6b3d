"""The version of a view covers what the view means, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import engine, measures
from schemas.compile import cast
from schemas.compile.references import CompiledReference
from tests.folding import load

pytestmark = pytest.mark.slow

STREAM = """
CREATE STREAM sales (
    k VARCHAR, n INTEGER, d DECIMAL(12,2), ts TIMESTAMP, doc JSON,
    m INTEGER GENERATED ALWAYS AS (doc->>'$.m'),
    twice INTEGER GENERATED ALWAYS AS (m * 2),
    unused INTEGER
) WITH (topic = 'sales', partitions = 2);
"""
SHOPS = """
CREATE TABLE shops (k VARCHAR PRIMARY KEY, name VARCHAR, city VARCHAR) WITH (file = 'shops.csv');
"""
RATES = """
CREATE TABLE rates (k VARCHAR, since TIMESTAMP, rate INTEGER, PRIMARY KEY (k, since))
WITH (file = 'rates.csv');
"""
OTHER = "CREATE VIEW w AS SELECT n AS one, d AS two, count(*) AS c FROM sales GROUP BY ALL;"
VIEW = """
CREATE VIEW v AS
SELECT k, name, date_trunc('day', ts) AS day, count(*) AS c, sum(twice) FILTER (WHERE n > 1) AS s
FROM sales LEFT JOIN shops USING (k)
WHERE n < 5
GROUP BY ALL;
"""
ASOF = """
CREATE VIEW v AS SELECT sales.k, rate FROM sales ASOF LEFT JOIN rates
ON sales.k = rates.k AND ts >= since;
"""
FILES = {
    "shops.csv": b"k,name,city\na,Anna,X\n",
    "rates.csv": b"k,since,rate\na,2013-01-01,1\n",
}
Given = Mapping[str, str | bytes]
GIVEN: Given = {
    "stream": STREAM,
    "shops": SHOPS,
    "rates": RATES,
    "other": OTHER,
    "view": VIEW,
    **FILES,
}
Change = tuple[str, str | bytes, str | bytes]

# what may be written otherwise: the name of a text, what stands there, what stands there instead
SAME: list[Change] = [
    ("view", "SELECT k", "\n/* a comment */ SELECT\t\n  k -- another; one\n"),
    ("view", "GROUP BY ALL", "GROUP BY 1, 2, 3"),
    ("view", "GROUP BY ALL", "group by k, name, day"),
    ("view", "SELECT", "select"),
    ("view", "count(*)", "COUNT( * )"),
    ("view", "date_trunc", "DATE_TRUNC"),
    ("view", "FILTER (WHERE n > 1)", "filter (n>1)"),
    ("view", " AS c", " c"),
    ("view", "count(*) AS c", "c: count(*)"),
    ("view", "SELECT k, ", 'SELECT "k", '),
    ("view", "WHERE n < 5", 'WHERE sales."N" < 5'),
    ("view", "name,", "shops.name,"),
    ("view", "FROM sales", "FROM SALES"),
    ("view", "JOIN shops USING (k)", "OUTER JOIN Shops USING (K)"),
    ("view", "CREATE VIEW v AS", "CREATE VIEW V AS"),
    ("view", "VIEW v AS", "VIEW v WITH (rebuild = '@daily') AS"),
    ("stream", "partitions = 2", "partitions = 7"),
    ("stream", "partitions = 2", "event_time = 'ts', dedup_within = '1 day'"),
    ("stream", "topic = 'sales'", "topic = 'other'"),
    ("stream", "unused INTEGER", "unused VARCHAR"),
    ("stream", "unused INTEGER", "unused INTEGER, more DOUBLE, c VARCHAR, day DATE"),
    ("stream", "unused INTEGER", "unused INTEGER, CHECK (n > 0)"),
    ("stream", "n INTEGER", "n INT NOT NULL"),
    ("stream", "k VARCHAR", "k TEXT"),
    ("stream", "(doc->>'$.m')", "(  DOC ->> '$.m' )"),
    ("stream", "d DECIMAL(12,2)", "d BIGINT"),
    ("stream", "GENERATED ALWAYS", "/* of the document */ GENERATED ALWAYS"),
    ("shops", "city VARCHAR", "city VARCHAR NOT NULL"),
    ("shops", ", city VARCHAR", ""),
    ("rates", "rate INTEGER", "rate BIGINT"),
    ("rates.csv", b"1\n", b"2\n"),
    ("other", "n AS one, d AS two", "d AS two, n AS one"),
    ("other", OTHER, ""),
]
OTHERWISE: list[Change] = [
    ("view", "SELECT k,", "SELECT k AS kk,"),
    ("view", "k, name,", "name, k,"),
    ("view", "name,", "city,"),
    ("view", "name,", "upper(name) AS name,"),
    ("view", "'day'", "'hour'"),
    ("view", "WHERE n < 5", ""),
    ("view", "WHERE n < 5", "WHERE n < 6"),
    ("view", "WHERE n < 5", "WHERE name = 'Anna'"),
    ("view", "count(*)", "count(n)"),
    ("view", "sum(twice)", "sum(m)"),
    ("view", "sum(twice)", "max(twice)"),
    ("view", "n > 1", "n > 2"),
    ("view", "FILTER (WHERE n > 1)", ""),
    ("view", "c, sum", "c, c + 1 AS more, sum"),
    ("view", "LEFT JOIN", "INNER JOIN"),
    ("view", "VIEW v AS", "VIEW u AS"),
    ("stream", "n INTEGER", "n BIGINT"),
    ("stream", "$.m", "$.M"),
    ("stream", "m * 2", "m * 3"),
    ("stream", "m INTEGER GEN", "m SMALLINT GEN"),
    ("stream", "doc JSON", "doc VARCHAR"),
    ("stream", "partitions = 2", "null = 'NA'"),
    ("stream", "STREAM sales (\n    k VARCHAR", "STREAM sales (\n    K VARCHAR"),
    ("stream", "partitions = 2", "format = 'csv'"),
    ("shops", "'shops.csv'", "'shops.csv', null = 'NA'"),
    ("shops.csv", b"Anna", b"Anne"),
    ("shops.csv", b"X\n", b"X\nb,Bob,Y\n"),
]


def version(folder: Path, given: Given) -> str:
    texts = [text for text in given.values() if isinstance(text, str)]
    files = {name: data for name, data in given.items() if isinstance(data, bytes)}
    views = load(folder, *filter(None, texts), files=files).views()
    return next(view.version for view in views if view.name.lower() in ("v", "u"))


def other(given: Given, name: str, old: str | bytes, new: str | bytes) -> Given:
    text = given[name]
    if isinstance(text, bytes):
        assert isinstance(old, bytes)
        assert isinstance(new, bytes)
        assert old in text
        return {**given, name: text.replace(old, new)}
    assert isinstance(old, str)
    assert isinstance(new, str)
    assert old in text
    return {**given, name: text.replace(old, new)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return version(tmp_path_factory.mktemp("plain"), GIVEN)


def test_what_does_not_change_the_meaning_does_not_change_the_version(
    tmp_path: Path, plain: str
) -> None:
    for at, change in enumerate(SAME):
        assert version(tmp_path / str(at), other(GIVEN, *change)) == plain, change


def test_what_changes_the_meaning_changes_the_version(tmp_path: Path, plain: str) -> None:
    seen = {plain}
    for at, change in enumerate(OTHERWISE):
        found = version(tmp_path / str(at), other(GIVEN, *change))
        assert found not in seen, change
        seen.add(found)


def test_of_csv_the_place_of_a_field_is_part_of_it(tmp_path: Path) -> None:
    csv = {**GIVEN, "stream": STREAM.replace("partitions = 2", "format = 'csv'")}
    own = version(tmp_path / "csv", csv)
    behind = other(csv, "stream", "unused INTEGER", "unused INTEGER, more VARCHAR")
    assert version(tmp_path / "behind", behind) == own
    before = other(csv, "stream", "(\n    k VARCHAR", "(\n    more VARCHAR, k VARCHAR")
    assert version(tmp_path / "before", before) != own


def test_of_asof_the_condition_is_part_of_it(tmp_path: Path) -> None:
    given = {**GIVEN, "view": ASOF}
    texts = {
        "own": given,
        "after": other(given, "view", ">=", ">"),
        "plain": other(given, "view", "rate FROM", "ts FROM"),
        "file": other(given, "rates.csv", b"01,1", b"02,1"),
        "type": other(given, "rates", "since TIMESTAMP", "since DATE"),
    }
    found = {name: version(tmp_path / name, text) for name, text in texts.items()}
    assert len(set(found.values())) == len(texts)
    turned = other(given, "view", "ts >= since", "ts >= SINCE")
    assert version(tmp_path / "turned", turned) == found["own"]


def changes(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with monkeypatch.context() as patch:
        patch.setattr(engine, "hash_probe", lambda: "another engine")
        yield "the engine's probe"
    with monkeypatch.context() as patch:
        patch.setattr(cast, "MEANING", cast.MEANING + 1)
        yield "the meaning of a pass"
    with monkeypatch.context() as patch:
        total = measures.ALL["sum"]
        patch.setitem(measures.ALL, "sum", replace(total, meaning=total.meaning + 1))
        yield "the meaning of a measure that it uses"


def test_engine_passes_and_measures_are_part_of_it(
    tmp_path: Path, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at, what in enumerate(changes(monkeypatch)):
        assert version(tmp_path / str(at), GIVEN) != plain, what
    least = measures.ALL["min"]
    monkeypatch.setitem(measures.ALL, "min", replace(least, meaning=least.meaning + 1))
    assert version(tmp_path / "unused", GIVEN) == plain


def test_two_declarations_of_one_file_are_two_tables(tmp_path: Path) -> None:
    """Versions that read one file differently are folded by one engine."""

    def reference(name: str, text: str) -> CompiledReference:
        given = {**GIVEN, "shops": text}
        texts = [each for each in given.values() if isinstance(each, str)]
        found = load(tmp_path / name, *texts, files=FILES)
        return found.references(found.definitions.views["v"])[0]

    own = engine.connect()
    first = reference("one", SHOPS)
    second = reference("two", SHOPS.replace(", city VARCHAR", ""))
    own.load_reference(first, FILES["shops.csv"])
    assert not own.has_reference(second)
    own.load_reference(second, FILES["shops.csv"])
    assert [own.arrow(f'FROM "{each.table}"').num_columns for each in (first, second)] == [3, 2]
