"""What a definition may not say: each refusal with its place, what was expected, what came, and the
way out. In the tables, § marks the place that must be told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from schemas import definitions, project
from schemas.errors import DefinitionError, Problem
from schemas.language import parser
from schemas.measures import ALL

BASE = """
CREATE STREAM sales (
    id VARCHAR PRIMARY KEY, ts TIMESTAMP NOT NULL, k VARCHAR, n INTEGER, x DOUBLE, d DECIMAL(12,2),
    b BOOLEAN, j JSON
) WITH (topic = 'sales');
CREATE STREAM other (a VARCHAR) WITH (topic = 'other');
CREATE TABLE shops (k VARCHAR PRIMARY KEY, name VARCHAR) WITH (file = 'shops.csv');
CREATE TABLE areas (a VARCHAR, b INTEGER, area VARCHAR, PRIMARY KEY (a, b))
WITH (file = 'areas.csv');
CREATE TABLE rates (k VARCHAR, since DATE, rate INTEGER, PRIMARY KEY (k, since))
WITH (file = 'rates.csv');
CREATE TABLE grades (k VARCHAR, grade VARCHAR, PRIMARY KEY (k, grade)) WITH (file = 'grades.csv');
"""
FILES = {
    "shops.csv": b"k,name\na,Anna\n",
    "areas.csv": b"a,b,area\na,1,south\n",
    "rates.csv": b"k,since,rate\n",
    "grades.csv": b"k,grade\n",
}
MEASURES = f"aggregate must be one of {', '.join(sorted(ALL))}"
ALLOWED = "must be CREATE STREAM, CREATE TABLE or CREATE VIEW"
NOT_STEADY = "its result must depend on its arguments alone"
NAMES = "name must start with a letter, hold only letters, digits and underscores"
OPTIONS = "must be WITH (name = value, ...), a value a quoted text or a whole number"
WAY = {
    "key": "must join 'shops' on its primary key, k, by USING or by equalities with AND",
    "asof": "must join 'rates' on its primary key, k, since, by USING in that order, or by "
    "equalities with AND and, for the last, sales.column >= rates.since (or >); got ",
    "subquery": "must not hold a subquery; declare a reference, or filter in the query",
}

# D1, D2: text that is no definition
TEXTS = [
    ("§", "file must hold CREATE STREAM, CREATE TABLE or CREATE VIEW; got no statement"),
    ("§-- only a comment\n", "got no statement"),
    (
        "CREATE VIEW v AS SELECT count(*) FROM sales WHERE k = §'a;\n",
        "got a string that never ends",
    ),
    ("SELECT 'it''s', 'b' -- don't\n, §'open", "got a string that never ends"),
    ('CREATE VIEW v AS SELECT §"k, count(*) FROM sales', "got a name that never ends"),
    ("CREATE VIEW v AS §/* SELECT\n'x' ;", "got a comment that never ends"),
    ("CREATE VIEW v AS SELECT k, count§( FROM sales;", "every ( must be closed by a )"),
    ("CREATE VIEW v AS SELECT k,§, count(*) FROM sales GROUP BY k", "got another. Leave it out"),
    ("CREATE VIEW v AS §SELECT FROM sales", "SELECT clause without selection list"),
    ("§COPY sales TO 'out.csv'", f"{ALLOWED}; got COPY sales. Nothing else is run"),
    ("§ATTACH 'x.db'", ALLOWED),
    ("§INSTALL httpfs", ALLOWED),
    ("§SET threads = 1", ALLOWED),
    ("CREATE §MACRO m(a) AS a", f"{ALLOWED}; got CREATE MACRO"),
    ("CREATE §OR REPLACE VIEW v AS SELECT count(*) FROM sales", "got OR REPLACE. Leave it out"),
    ("CREATE §TEMP VIEW v AS SELECT count(*) FROM sales", "got TEMP. Leave it out"),
    ("§CREATE", f"{ALLOWED}; got CREATE"),
    ("§CREATE VIEW", "CREATE VIEW must be followed by a name; got nothing"),
    ("CREATE VIEW §IF NOT EXISTS v AS SELECT count(*) FROM sales", "got IF NOT EXISTS"),
    ("CREATE VIEW §v", "must be CREATE VIEW name [WITH (...)] AS SELECT ...; got no query"),
    ("CREATE VIEW v §(a) AS SELECT count(*) FROM sales", "AS SELECT ...; got '('"),
    ("CREATE VIEW v AS §(SELECT count(*) FROM sales)", "got parentheses around it"),
    ("CREATE VIEW v AS §VALUES (1)", "query must be one plain SELECT; got VALUES"),
    ("CREATE VIEW v AS §PIVOT sales ON k USING count(*)", "one plain SELECT; got PIVOT"),
]

# D3, D4: names
NAMED = [
    ('CREATE VIEW §"../x" AS SELECT count(*) FROM sales', f"{NAMES}, and have at most 63 of them"),
    ('CREATE VIEW §"a/b" AS SELECT count(*) FROM sales', "got 'a/b'"),
    ('CREATE VIEW §"a;b" AS SELECT count(*) FROM sales', "got 'a;b'"),
    ('CREATE VIEW §"a""b" AS SELECT count(*) FROM sales', "got 'a\"b'"),
    ('CREATE VIEW §"" AS SELECT count(*) FROM sales', "got ''"),
    ("CREATE VIEW §_v AS SELECT count(*) FROM sales", "got '_v'"),
    (f"CREATE VIEW §{'v' * 300} AS SELECT count(*) FROM sales", f"got '{'v' * 80}'"),
    ("CREATE VIEW §main.v AS SELECT count(*) FROM sales", "a name alone; got one with a dot"),
    ("CREATE VIEW §raw AS SELECT count(*) FROM sales", "name 'raw' of a view is reserved"),
    ("CREATE VIEW §everview AS SELECT count(*) FROM sales", "'everview' of a view is reserved"),
    ('CREATE VIEW §"select" AS SELECT count(*) FROM sales', "'select' is a word of SQL"),
    ("CREATE VIEW §SALES AS SELECT count(*) FROM sales", "used once, whatever its case; got it at"),
    ("CREATE STREAM s (§\"b c\" INTEGER) WITH (topic = 's')", "got 'b c'"),
    ("CREATE STREAM s (§_a INTEGER) WITH (topic = 's')", "got '_a'"),
    ("CREATE STREAM s (a INTEGER, §A VARCHAR) WITH (topic = 's')", "'A' must be declared once"),
]

# D5, D11: streams
STREAMS = [
    ("CREATE STREAM s (a §VARCHER) WITH (topic = 's')", "got VARCHER; did you mean VARCHAR?"),
    ("CREATE STREAM s (a §FLOAT) WITH (topic = 's')", "Use DOUBLE"),
    ("CREATE STREAM s (a §VARCHAR[]) WITH (topic = 's')", "Use JSON and generated columns"),
    ("CREATE STREAM s (a §TIMESTAMPTZ) WITH (topic = 's')", "Use TIMESTAMP, which takes any zone"),
    ("CREATE STREAM s (a §DECIMAL(50,2)) WITH (topic = 's')", "DECIMAL must have 1 to 38 digits"),
    ("CREATE STREAM s (§a) WITH (topic = 's')", "column 'a' must have a type; got none"),
    ("CREATE STREAM §s () WITH (topic = 's')", "must declare at least one column"),
    ("CREATE STREAM s (a VARCHAR §UNIQUE) WITH (topic = 's')", "got UNIQUE"),
    ("CREATE STREAM s (a VARCHAR §DEFAULT 'x') WITH (topic = 's')", "got DEFAULT 'x'"),
    ("CREATE STREAM s (a VARCHAR, PRIMARY KEY (§z)) WITH (topic = 's')", "name a column; got 'z'"),
    ("CREATE STREAM s (a VARCHAR, PRIMARY KEY (a, §a)) WITH (topic = 's')", "got it twice"),
    ("CREATE STREAM s (§a DOUBLE PRIMARY KEY) WITH (topic = 's')", "Generate a VARCHAR column"),
    (
        "CREATE STREAM s (a VARCHAR PRIMARY KEY, §b VARCHAR PRIMARY KEY) WITH (topic = 's')",
        "must have one primary key; got another. Write PRIMARY KEY (a, b)",
    ),
    ("CREATE STREAM §s (a VARCHAR)", "WITH (topic = '...') must name the Kafka topic; got none"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', §topik = 's')", "did you mean 'topic'?"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', §topic = 't')", "must stand once"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's')§x", "got 'x'"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's',§)", OPTIONS),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = §s)", f"{OPTIONS}; got 's'"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', partitions = §-1)", f"{OPTIONS}; got '-'"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', partitions = §0)", "1 to 1000; got 0"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', §partitions = '2')", "a whole number"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = §'a b')", "got 'a b'"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', format = §'xml')", "one of json, csv"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', dedup_within = §'soon')", "got 'soon'"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', dedup_within = §'0 days')", "1 second to"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', dedup_within = §'999999 weeks')", "3653"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', event_time = §'a')", "got 'a', VARCHAR"),
    ("CREATE STREAM s (a VARCHAR) WITH (topic = 's', event_time = §'b')", "no such column"),
]

# D7, D12: CHECK and generated columns
EXPRESSIONS = [
    (
        "§a INTEGER GENERATED ALWAYS AS (b + 1), b INTEGER GENERATED ALWAYS AS (c), c INTEGER "
        "GENERATED ALWAYS AS (a), z INTEGER",
        "'a' must not read itself",
    ),
    ("§a INTEGER GENERATED ALWAYS AS (a + 1), z INTEGER", "'a' must not read itself"),
    (
        "a TIMESTAMP GENERATED ALWAYS AS (§now()), z INTEGER",
        f"'now' must not be used: {NOT_STEADY}",
    ),
    ("a DOUBLE GENERATED ALWAYS AS (§random()), z INTEGER", NOT_STEADY),
    ("a DATE GENERATED ALWAYS AS (§current_date), z INTEGER", "function 'current_date'"),
    ("a §INTERVAL GENERATED ALWAYS AS (z), z INTEGER", "type must be one of"),
    ("a BIGINT GENERATED ALWAYS AS (§age(z)), z TIMESTAMP", "function 'age' must not be used"),
    ("a INTEGER GENERATED ALWAYS AS (§nope(z)), z INTEGER", "must be one of DuckDB's; got 'nope'"),
    ("a INTEGER GENERATED ALWAYS AS (§uper(z)), z VARCHAR", "did you mean 'upper'?"),
    (
        "a INTEGER GENERATED ALWAYS AS (§zz), z INTEGER",
        "declared one of s; got zz; did you mean 'z'?",
    ),
    ("a INTEGER GENERATED ALWAYS AS (§read_text(z)), z VARCHAR", NOT_STEADY),
    ("a INTEGER GENERATED ALWAYS AS (§max(z)), z INTEGER", "aggregate 'max' must stand in a view"),
    ("a INTEGER CHECK (a = (§SELECT 1))", "must not hold a subquery; join a reference in a view"),
    ("a INTEGER CHECK (§sum(a) > 1)", "aggregate 'sum' must stand in a view"),
    ("a INTEGER CHECK (§a + 1)", "CHECK must be a condition; got INTEGER"),
    ("a INTEGER CHECK (§zz > 1)", "declared one of s; got zz. There is a"),
    ("a INTEGER, CHECK (a > §row_number() OVER ())", "must not hold a window function"),
    ("a VARCHAR CHECK (a IN (§SELECT content FROM read_text('/etc/hostname')))", "a subquery"),
]

# D6 to D10: views, each behind CREATE VIEW v AS
VIEWS = [
    ("SELECT k, count(*) AS n FROM sales GROUP BY k §HAVING count(*) > 1", "filter in the query"),
    ("SELECT k, count(*) AS n FROM sales GROUP BY k §ORDER BY k", "ORDER BY; order in the query"),
    ("SELECT k, count(*) AS n FROM sales GROUP BY k §LIMIT 3", "LIMIT; limit in the query"),
    ("SELECT §DISTINCT k FROM sales", "must not hold DISTINCT; use GROUP BY"),
    ("SELECT k, §row_number() OVER () AS r, count(*) FROM sales GROUP BY k", "a window function"),
    ("SELECT k, count(*) FROM (§SELECT k FROM sales) GROUP BY k", WAY["subquery"]),
    ("SELECT k, count(*) FROM sales WHERE k IN (§SELECT k FROM shops) GROUP BY k", WAY["subquery"]),
    ("SELECT count(*) FROM sales WHERE EXISTS (§SELECT 1 FROM shops)", WAY["subquery"]),
    ("§WITH a AS (SELECT 1 AS b) SELECT count(*) FROM sales", "must not hold WITH"),
    ("SELECT count(*) FROM sales §UNION ALL SELECT count(*) FROM other", "a view for each"),
    ("SELECT count(*) FROM sales §EXCEPT SELECT count(*) FROM other", "got EXCEPT"),
    ("SELECT k, count(*) FROM sales §GROUP BY CUBE (k)", "grouping sets; declare a view for each"),
    ("SELECT k, count(*) FROM sales §GROUP BY GROUPING SETS ((k), ())", "grouping sets"),
    ("SELECT k, count(*) FROM sales WHERE ts > §now() GROUP BY k", "Send its value with the event"),
    ("SELECT k, count(*) FROM sales WHERE §random() > 0.5 GROUP BY k", NOT_STEADY),
    ("SELECT count(*) FROM sales WHERE ts > §current_timestamp", "function 'current_timestamp'"),
    ("SELECT count(*) FROM sales WHERE k = §current_user", "function 'current_user'"),
    ("SELECT §current_setting('threads') AS a, count(*) FROM sales GROUP BY ALL", NOT_STEADY),
    ("SELECT §alias(k) AS a, count(*) FROM sales GROUP BY ALL", NOT_STEADY),
    ("SELECT §unnest([1, 2]) AS a, count(*) FROM sales GROUP BY ALL", NOT_STEADY),
    ("SELECT count(*) FROM sales, §other", "must read one stream; got a second, 'other'"),
    ("SELECT count(*) FROM sales JOIN §sales AS s ON sales.k = s.k", "got a second, 'sales'"),
    ("SELECT count(*) FROM §shops", "must read FROM a stream; got 'shops', a reference"),
    ("SELECT count(*) FROM §slaes", "no CREATE STREAM declares; did you mean 'sales'?"),
    ("SELECT count(*) FROM §'x.parquet'", "must read FROM a stream; got 'x.parquet'"),
    ("SELECT count(*) FROM §read_csv('/etc/hostname')", NOT_STEADY),
    ("SELECT count(*) §FROM main.sales", "by its name alone; got main.sales"),
    ("SELECT count(*) §FROM sales TABLESAMPLE 10%", "by its name alone; got sales TABLESAMPLE"),
    ("SELECT count(*) §FROM sales AS s(a, b)", "by its name alone; got sales AS s(a, b)"),
    ("§SELECT 1 AS one", "must read FROM one stream, by its name alone; got no FROM"),
    ("SELECT k, §to_days(n) AS i FROM sales", "got INTERVAL. CAST it to VARCHAR or TIMESTAMP"),
    ("SELECT k, [§1::HUGEINT * n] AS l FROM sales", "got HUGEINT[]. CAST it to VARCHAR or JSON"),
    ("SELECT §* FROM sales", "must not hold *; name the columns"),
    ("SELECT §COLUMNS('n') AS a, count(*) FROM sales GROUP BY ALL", "name the columns"),
    ("SELECT §string_agg(k) FROM sales", f"{MEASURES}; got 'string_agg'"),
    ("SELECT §list(k) FROM sales", MEASURES),
    ("SELECT §product(x) FROM sales", MEASURES),
    ("SELECT k, §any_value(n) FROM sales GROUP BY k", "got 'any_value'; use min(x)"),
    ("SELECT §count(DISTINCT k, n) FROM sales", "'count(VARCHAR, INTEGER)'"),
    ("SELECT §count(DISTINCT j) FROM sales", "got JSON. CAST it to VARCHAR"),
    ("SELECT §histogram(ts::TIMESTAMPTZ) FROM sales", "TIME ZONE. CAST it to TIMESTAMP"),
    ("SELECT §histogram(x, [1, 2]) FROM sales", "histogram(x // 10 * 10)"),
    ("SELECT §mode(x::FLOAT) FROM sales", "got FLOAT. CAST it to DOUBLE"),
    ("SELECT §median(n::HUGEINT) FROM sales", "got HUGEINT. CAST it to DECIMAL(38, 0)"),
    ("SELECT §median(DISTINCT n) FROM sales", "leave out DISTINCT"),
    ("SELECT quantile_cont(DISTINCT §n, 0.5) FROM sales", "leave out DISTINCT"),
    ("SELECT §quantile_disc(ts - ts, 0.5) FROM sales", "epoch(...) of it is its seconds"),
    ("SELECT §quantile_cont(k, 0.5) FROM sales", "'quantile_cont(VARCHAR, DECIMAL(2,1))'"),
    ("SELECT §quantile_disc(n, -0.5) FROM sales", "a fraction from 0 to 1, or a list of them"),
    ("SELECT §quantile(n, [1, 5e-1]) FROM sales", "a plain number of at most 18 digits; got 5e-1"),
    ("SELECT §last(a) FROM other", "the stream declares none. Use arg_max(x, by)"),
    ("SELECT §arg_max(n, ts, 3) FROM sales", "must have two arguments; got 3"),
    ("SELECT §bit_and(n::HUGEINT) FROM sales", "got HUGEINT. CAST it to BIGINT"),
    ("SELECT §min(n::HUGEINT) FROM sales", "got HUGEINT. CAST it to DECIMAL(38, 0)"),
    ("SELECT §sum(DISTINCT n) FROM sales", "leave out DISTINCT"),
    ("SELECT §sum(n ORDER BY n) FROM sales", "must not have an order of its own"),
    ("SELECT §cuont(*) FROM sales", "got 'cuont'; did you mean 'count'?"),
    ("SELECT §sum(k) FROM sales", "'sum(VARCHAR)'"),
    ("SELECT §avg(ts) FROM sales", "avg must be of a number; got TIMESTAMP"),
    ("SELECT §max(n, 3) FROM sales", "max must have one argument; got 2"),
    ("SELECT §min(j) FROM sales", "got JSON. CAST it to VARCHAR"),
    ("SELECT §approx_count_distinct(j) FROM sales", "CAST it to VARCHAR"),
    ("SELECT sum(§count(*)) FROM sales", "cannot be nested"),
    ("SELECT count(*) FROM sales WHERE §count(*) > 1", "WHERE must not hold an aggregate"),
    ("SELECT k, §n, count(*) FROM sales GROUP BY k", "'n' must be grouped or aggregated"),
    ("SELECT k, count(*) FROM sales GROUP BY §count(*)", "GROUP BY must not name an aggregate"),
    ("SELECT k, count(*) FROM sales GROUP BY §3", "GROUP BY position must be 1 to 2; got 3. Name"),
    ("SELECT k, count(*) FROM sales GROUP BY k, §0", "GROUP BY position must be 1 to 2; got 0"),
    ("SELECT k, count(*) FROM sales GROUP BY §2", "GROUP BY must not name an aggregate"),
    ("SELECT [§k] AS l, count(*) FROM sales GROUP BY ALL", "got VARCHAR[]. CAST it to VARCHAR or"),
    ("SELECT §ts::TIMESTAMP_NS AS t, count(*) FROM sales GROUP BY ALL", "got TIMESTAMP_NS. CAST"),
    ("SELECT §ts::TIMETZ AS t, count(*) FROM sales GROUP BY ALL", "got TIME WITH TIME ZONE. CAST"),
    ("SELECT k §COLLATE NOCASE AS k, count(*) FROM sales GROUP BY ALL", "group by lower(...)"),
    ("SELECT count(*) FROM sales WHERE k = §?", "must not hold a parameter; write its value"),
    ("SELECT count(*) FROM sales WHERE k = §$p", "must not hold a parameter; write its value"),
    ("SELECT count(*), §count(*) FROM sales", "must differ; got 'count_star()' twice. Use AS"),
    ("SELECT k AS §_k, count(*) FROM sales GROUP BY k", "must not start with an underscore"),
    ("SELECT §rowid AS r, count(*) FROM sales GROUP BY ALL", "column must be a declared one"),
    (
        "SELECT count(§sales) FROM sales",
        "got sales, which is a table. For the number of its rows write count(*)",
    ),
    ("SELECT §j.a AS a, count(*) FROM sales GROUP BY ALL", "is written j->>'$.a'"),
    ("SELECT k, §main.count(*) FROM sales GROUP BY k", "without a dot; got main.count(*)"),
    ("SELECT count(*) FROM sales GROUP BY §kk", "declared one of sales; got kk; did you mean 'k'"),
    ("SELECT §uppr(k) AS u, count(*) FROM sales GROUP BY ALL", "did you mean 'upper'?"),
    (
        "SELECT k::§VARCHER AS u, count(*) FROM sales GROUP BY ALL",
        "got 'VARCHER'; did you mean 'VARCHAR'?",
    ),
    (
        "SELECT §'abc'::INTEGER AS a, count(*) FROM sales GROUP BY ALL",
        "Could not convert string 'abc'",
    ),
    ("SELECT count(*) FROM sales WHERE ts > DATE §'2024-13-01'", "date field value out of range"),
    (
        "SELECT ts AT TIME ZONE §'Europe/Nowhere' AS t, count(*) FROM sales GROUP BY ALL",
        "Europe/Nowhere",
    ),
    (
        "SELECT n AS a0, a0+a0 AS a1, a1+a1 AS a2, a2+a2 AS a3, a3+a3 AS a4, a4+a4 AS a5, "
        "a5+a5 AS a6, a6+a6 AS a7, a7+a7 AS a8, §a8+a8 AS a9, a9+a9 AS b, count(*) FROM sales "
        "GROUP BY ALL",
        "column 'a9' must come to at most 2,000 parts",
    ),
    ("SELECT §time_bucket(INTERVAL '0 hours', ts) AS h, count(*) FROM sales GROUP BY 1", "above 0"),
    ("SELECT §time_bucket(to_hours(-1), ts) AS h, count(*) FROM sales GROUP BY 1", "above 0"),
    ("SELECT count(*) FROM sales §RIGHT JOIN shops USING (k)", "got RIGHT JOIN"),
    (
        "SELECT count(*) FROM sales §FULL JOIN shops USING (k)",
        "INNER JOIN or ASOF LEFT JOIN; got FULL",
    ),
    ("SELECT count(*) FROM sales §CROSS JOIN shops", "got CROSS JOIN"),
    ("SELECT count(*) FROM sales §NATURAL JOIN shops", "got NATURAL JOIN"),
    ("SELECT count(*) FROM sales §SEMI JOIN shops USING (k)", "got SEMI JOIN"),
    ("SELECT count(*) FROM sales, §shops", f"{WAY['key']}; got no condition"),
    ("SELECT count(*) FROM sales LEFT JOIN shops ON §sales.k = name", f"{WAY['key']}; got name"),
    ("SELECT count(*) FROM sales LEFT JOIN §shops ON true", f"{WAY['key']}; got another condition"),
    ("SELECT count(*) FROM sales s LEFT JOIN shops t ON §s.k = t.k OR n > 3", WAY["key"]),
    ("SELECT count(*) FROM sales s LEFT JOIN shops t ON §s.k = t.k AND n > 3", WAY["key"]),
    ("SELECT count(*) FROM sales LEFT JOIN areas ON §sales.k = a", "key, a and b, by"),
    (
        "SELECT count(*) FROM sales LEFT JOIN rates r ON §sales.k = r.k AND ts >= since",
        "got k and since. ASOF LEFT JOIN takes the newest row that is not after an event",
    ),
    (
        "SELECT count(*) FROM sales §ASOF JOIN rates r ON sales.k = r.k AND ts >= since",
        "must join by ASOF LEFT JOIN, which keeps every event; got ASOF JOIN",
    ),
    (
        "SELECT count(*) FROM sales §ASOF RIGHT JOIN rates r ON sales.k = r.k AND ts >= since",
        "got ASOF RIGHT JOIN",
    ),
    (
        "SELECT count(*) FROM sales ASOF LEFT JOIN rates ON §sales.k = rates.k AND ts <= since",
        f"{WAY['asof']}another condition",
    ),
    ("SELECT count(*) FROM sales ASOF LEFT JOIN rates ON §ts >= since", f"{WAY['asof']}since"),
    (
        "SELECT count(*) FROM sales ASOF LEFT JOIN rates ON §sales.k = rates.k AND ts = since",
        f"{WAY['asof']}k and since",
    ),
    (
        "SELECT count(*) FROM sales ASOF LEFT JOIN rates ON §sales.k >= rates.k AND ts = since",
        f"{WAY['asof']}k and since",
    ),
    (
        "SELECT count(*) FROM sales ASOF LEFT JOIN rates ON §sales.k = rates.k AND ts >= since "
        "AND n > 3",
        f"{WAY['asof']}another condition",
    ),
    (
        "SELECT count(*) FROM sales ASOF LEFT JOIN §grades USING (k, grade)",
        "a key that ends with a DATE, a TIMESTAMP or a number; got grade, VARCHAR",
    ),
    (
        "SELECT count(*) FROM sales LEFT JOIN shops ON §n = shops.k",
        "must join 'shops' by values of one type; got INTEGER for its k, VARCHAR. CAST them to",
    ),
    (
        "SELECT count(*) FROM sales LEFT JOIN areas ON sales.k = a AND §x = areas.b",
        "got DOUBLE for its b, INTEGER. CAST them to INTEGER",
    ),
    ("SELECT count(*) FROM sales LEFT JOIN §shosp USING (k)", "did you mean 'shops'?"),
]

# D13: references; the second entry is the file's content
REFERENCES = [
    ("CREATE TABLE t (a VARCHAR PRIMARY KEY) WITH (file = §'t.csv')", None, "got no such file"),
    (
        "CREATE TABLE §t (a VARCHAR PRIMARY KEY)",
        b"a\n",
        "must name a CSV or Parquet file; got none",
    ),
    (
        "CREATE TABLE t (a VARCHAR PRIMARY KEY) WITH (file = §'../t.csv')",
        None,
        "inside the project",
    ),
    ("CREATE TABLE t (a VARCHAR PRIMARY KEY) WITH (file = §'/etc/t.csv')", None, "inside"),
    ("CREATE TABLE t (a VARCHAR PRIMARY KEY) WITH (file = §'http://h/t.csv')", None, "inside"),
    (
        "CREATE TABLE t (a VARCHAR PRIMARY KEY) WITH (file = §'t.txt')",
        None,
        "a .csv or .parquet file",
    ),
    ("CREATE TABLE §t (a VARCHAR) WITH (file = 't.csv')", b"a\n", "must have a PRIMARY KEY"),
    (
        "CREATE TABLE t (a VARCHAR PRIMARY KEY, §b VARCHAR GENERATED ALWAYS AS (a)) "
        "WITH (file = 't.csv')",
        b"a\n",
        "must not be generated",
    ),
    (
        "CREATE TABLE t (a VARCHAR PRIMARY KEY) WITH (file = §'t.csv')",
        b"b\n1\n",
        "got none named a",
    ),
    (
        "CREATE TABLE t (a INTEGER PRIMARY KEY) WITH (file = §'t.csv')",
        b"a\n1\nx\n",
        "line 3, column",
    ),
    ("CREATE TABLE t (a INTEGER PRIMARY KEY) WITH (file = §'t.csv')", b"a\n1\n1\n", "a key once"),
    # one value, written in two ways, would join an event twice
    (
        "CREATE TABLE t (a TIMESTAMP PRIMARY KEY, b VARCHAR) WITH (file = §'t.csv')",
        b"a,b\n2013-01-01T00:00:00Z,a\n2013-01-01 00:00:00,b\n",
        "lines 2 and 3, column 'a' must be a key once; got '2013-01-01 00:00:00'",
    ),
    (
        "CREATE TABLE t (a VARCHAR, b DECIMAL(12,2), PRIMARY KEY (a, b)) WITH (file = §'t.csv')",
        b"a,b\nx,1\ny,1\nx,1.00\n",
        "lines 2 and 4, column 'a, b' must be a key once; got 'x, 1.00'",
    ),
    (
        "CREATE TABLE t (a INTEGER, b INTEGER PRIMARY KEY) WITH (file = §'t.csv')",
        b"a,b\n1,1\n1,\n",
        "line 3, column 'b' must be NOT NULL",
    ),
    # a text in quotes may go over lines, and an empty line is no row
    (
        "CREATE TABLE t (a VARCHAR PRIMARY KEY, b INTEGER) WITH (file = §'t.csv')",
        b'\xef\xbb\xbfa,b\r\n"x\r\n\r\ny",1\r\nz,2\r\n\r\nz,3\r\n',
        "lines 5 and 7, column 'a' must be a key once; got 'z'",
    ),
    (
        "CREATE TABLE t (a VARCHAR PRIMARY KEY) WITH (file = §'t.csv')",
        b"a\n" + b"z\n" * 8,
        "lines 2, 3, 4, 5 and 6 and 3 more, column 'a' must be a key once",
    ),
    (
        "CREATE TABLE t (a INTEGER PRIMARY KEY, c VARCHAR, b DATE) WITH (file = §'t.csv')",
        b"a,x\n",
        "got none named c, b among a, x",
    ),
    ("CREATE TABLE t (a INTEGER PRIMARY KEY) WITH (file = §'t.parquet')", b"PAR1", "be Parquet"),
    (
        "CREATE TABLE t (a INTEGER PRIMARY KEY) WITH (file = 't.parquet', null = §'NA')",
        b"",
        "null must be left out, as Parquet has NULLs of its own",
    ),
    ("CREATE TABLE t (a INTEGER PRIMARY KEY) WITH (file = §'t.csv')", b"a\n1,2\n", "must be CSV"),
    ("CREATE TABLE t (a INTEGER PRIMARY KEY) WITH (file = §'t.csv')", b"\xff\xfe", "must be CSV"),
]


def told(text: str) -> tuple[Problem, ...]:
    """What is wrong with the base and this text."""
    statements, found = parser.parse("base.sql", BASE)
    given, wrong = parser.parse("given.sql", text)
    found += wrong + definitions.read([*statements, *given])[1]
    return tuple(sorted(found))


def problems(
    folder: Path, text: str, files: Mapping[str, bytes | None] = FILES
) -> tuple[Problem, ...]:
    """What is wrong with a project of the base, this text and these files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.sql").write_text(BASE)
    (folder / "given.sql").write_bytes(text.encode())
    for name, data in {**FILES, **files}.items():
        if data is not None:
            (folder / name).write_bytes(data)
    with pytest.raises(DefinitionError) as caught:
        project.load(folder)
    return caught.value.problems


def refused(found: tuple[Problem, ...], marked: str, message: str) -> None:
    """One problem, at the mark, that says this."""
    before = marked.partition("§")[0]
    place = (before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    (problem,) = found
    assert message in problem.message
    assert (problem.file, problem.line, problem.column) == ("given.sql", *place), problem


def unmarked(text: str) -> str:
    return text.replace("§", "")


@pytest.mark.parametrize(("text", "message"), [*TEXTS, *NAMED])
def test_d1_to_d4_text_and_names(text: str, message: str) -> None:
    refused(told(unmarked(text)), text, message)


@pytest.mark.parametrize(("text", "message"), STREAMS)
def test_d5_d11_streams(text: str, message: str) -> None:
    refused(told(unmarked(text)), text, message)


@pytest.mark.parametrize(("columns", "message"), EXPRESSIONS)
def test_d7_d12_expressions(columns: str, message: str) -> None:
    found = told(f"CREATE STREAM s ({unmarked(columns)}) WITH (topic = 's')")
    assert message in found[0].message
    assert (found[0].line, found[0].column) == (1, 18 + columns.index("§"))


@pytest.mark.parametrize(("query", "message"), VIEWS)
def test_d5_to_d10_views(query: str, message: str) -> None:
    text = f"CREATE VIEW v AS {query}"
    refused(told(unmarked(text)), text, message)


@pytest.mark.parametrize(("text", "data", "message"), REFERENCES)
def test_d13_references(tmp_path: Path, text: str, data: bytes | None, message: str) -> None:
    name = "t.parquet" if "t.parquet" in text else "t.csv"
    refused(problems(tmp_path, unmarked(text), {name: data}), text, message)


@pytest.mark.parametrize("query", [query for query, _ in VIEWS[:: len(VIEWS) // 12]])
@pytest.mark.parametrize(
    "before",
    [
        "CREATE VIEW v AS\n\t-- é, 'a quote'\n\t",
        "CREATE VIEW w AS SELECT count(*) FROM sales; CREATE VIEW v AS ",
        "/* ü\n\n*/ CREATE VIEW v WITH (rebuild = '@daily')\r\nAS\r\n  ",
    ],
)
def test_places_hold_wherever_a_query_stands(before: str, query: str) -> None:
    refused(told(unmarked(before + query)), before + query, "view 'v'")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "SELECT 'äöü€😀' AS a,\t§kk, count(*) FROM sales GROUP BY a",
            "declared one of sales; got kk",
        ),
        ("SELECT 'äöü€😀\n€' AS a, §nope(k) AS b, count(*) FROM sales GROUP BY ALL", "'nope'"),
        (
            f"SELECT {'k || ' * 90}§kk AS a, count(*) FROM sales GROUP BY a",
            "declared one of sales; got kk",
        ),
    ],
)
def test_places_count_characters(query: str, message: str) -> None:
    text = f"CREATE VIEW v AS {query}"
    refused(told(unmarked(text)), text, message)


def test_every_problem_is_listed() -> None:
    text = """CREATE STREAM s (a VARCHER, b FLOAT) WITH (format = 'xml');
CREATE VIEW one AS SELECT sum(k) FROM sales;
DROP TABLE sales;
CREATE VIEW raw AS SELECT count(*) FROM sales;
"""
    found = told(text)
    assert [problem.line for problem in found] == [1, 1, 1, 1, 2, 3, 4]
    text = """CREATE VIEW a AS SELECT sum(k), k FROM sales GROUP BY k HAVING true LIMIT 3;
CREATE VIEW b AS SELECT list(k), now() FROM sales;
CREATE VIEW c AS SELECT kk, count(*) FROM sales GROUP BY kk;
"""
    found = told(text)
    assert [(problem.line, problem.column) for problem in found] == [
        (1, 25),
        (1, 57),
        (1, 69),
        (2, 25),
        (2, 34),
        (3, 25),
        (3, 58),
    ]
    assert str(found[1]).startswith("given.sql:1:57: view 'a' must not hold HAVING")


@pytest.mark.parametrize("depth", [100, 300, 500, 5_000])
def test_nesting_is_taken_or_refused(depth: int) -> None:
    deep = "(" * depth + "n" + ")" * depth
    for text in (
        f"CREATE VIEW v AS SELECT {deep} AS a, count(*) AS c FROM sales GROUP BY ALL",
        f"CREATE STREAM s (n INTEGER CHECK ({deep} > 1)) WITH (topic = 's')",
    ):
        assert all("nested" in problem.message for problem in told(text))


def test_d1_folders_and_encodings(tmp_path: Path) -> None:
    for folder, message in ((tmp_path / "none", "no such folder"), (tmp_path, "no *.sql file")):
        with pytest.raises(DefinitionError, match=re.escape(message)):
            project.load(folder)
    (tmp_path / "a.sql").write_bytes(b"SELECT 1;\n-- \xff")
    with pytest.raises(DefinitionError, match=r"a\.sql:2:4: file must be UTF-8"):
        project.load(tmp_path)
    (tmp_path / "a.sql").write_bytes(b"\xef\xbb\xbfCREATE STREAM s (a VARCHAR) WITH (topic = 's');")
    assert len(project.load(tmp_path).streams()) == 1


def test_d2_nothing_is_run(tmp_path: Path) -> None:
    target = tmp_path / "written.csv"
    for text in (
        f"COPY (SELECT 1) TO '{target}'",
        f"CREATE VIEW v AS SELECT count(*) FROM sales; COPY sales TO '{target}'",
        f"CREATE TABLE t AS COPY (SELECT 1) TO '{target}'",
        f"ATTACH '{target}'",
    ):
        problems(tmp_path / "project", text)
        assert not target.exists()


def test_d16_many_views_and_wide_ones(tmp_path: Path) -> None:
    keys = ", ".join(f"n + {at} AS key_{at}" for at in range(100))
    wide = f"CREATE VIEW wide AS SELECT {keys}, count(*) AS c FROM sales GROUP BY ALL;"
    many = "".join(
        f"CREATE VIEW v{at} AS SELECT k, count(*) AS c FROM sales GROUP BY k;" for at in range(50)
    )
    for name, text in {"base.sql": BASE, "views.sql": wide + many}.items():
        (tmp_path / name).write_text(text)
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    views = project.load(tmp_path).views()
    assert len(views) == 51
    assert len(next(view for view in views if view.name == "wide").keys) == 100
