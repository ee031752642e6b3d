"""What `everview check` says of columns, and the SQL that it lays out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot

from infra import cli
from infra.layout import WIDTH, laid_out
from infra.verbs import check
from schemas import project
from schemas.compile import cost, fold
from tests.folding import load

GOLDEN = Path(__file__).parents[1] / "golden" / "project"
STARTER = Path(__file__).parents[2] / "infra" / "starter"

STREAM = """CREATE STREAM s (k VARCHAR, flag BOOLEAN, n INTEGER, d DECIMAL(9, 2))
WITH (topic = 's', format = 'json');
"""
VIEW = """CREATE VIEW v AS
SELECT k, flag AS up, count(*) AS c, avg(n) AS mean, sum(n) AS total, max(d) AS most,
       approx_count_distinct(d) AS about, 1 + approx_quantile(n, 0.5) AS middle,
       approx_top_k(k, 3) AS top
FROM s GROUP BY k, flag;
"""


def emitted(folder: Path) -> list[str]:
    found = check.definitions(project.load(folder))
    return [text for _, compiled in found for _, text in check.statements(compiled)]


def tokens(sql: str) -> list[str]:
    return [sql[each.start : each.end + 1] for each in sqlglot.tokenize(sql, read="duckdb")]


def tree(con: duckdb.DuckDBPyConnection, sql: str) -> object:
    """DuckDB's own parse of a SELECT, without where in the text things stand."""
    select = sql[sql.index("SELECT") :] if sql.startswith("CREATE") else sql
    ((text,),) = con.execute("SELECT json_serialize_sql(?)", [select]).fetchall()
    found = json.loads(text)
    assert not found["error"], found
    return _bare(found)


def _bare(node: object) -> object:
    if isinstance(node, dict):
        kept = {key: each for key, each in node.items() if not key.startswith("query_location")}
        return {key: _bare(each) for key, each in kept.items()}
    return [_bare(each) for each in node] if isinstance(node, list) else node


@pytest.mark.parametrize("folder", [GOLDEN, STARTER], ids=["golden", "starter"])
def test_what_is_laid_out_is_the_same_statement(folder: Path) -> None:
    con = duckdb.connect()
    statements = emitted(folder)
    assert len(statements) > 15
    for sql in statements:
        shown = laid_out(sql)
        assert tokens(shown) == tokens(sql)
        assert tree(con, shown) == tree(con, sql)
        assert max(map(len, shown.splitlines())) < 3 * WIDTH
        assert "\n" in shown or len(sql) <= WIDTH or sql.count(" ") < 9


def test_layout_by_example() -> None:
    sql = (
        "SELECT left(a, 3) AS \"group\", CASE WHEN b BETWEEN 1 AND 2 AND c THEN 'x,  y' END AS e, "
        "count(*) FILTER (WHERE d > 1) AS n FROM (SELECT * FROM s WHERE a IS NOT NULL) "
        "LEFT JOIN r USING (a) WHERE x GROUP BY 1, 2 ORDER BY a"
    )

    assert laid_out(sql).splitlines() == [
        "SELECT",
        '    left(a, 3) AS "group",',
        "    CASE WHEN b BETWEEN 1 AND 2 AND c THEN 'x,  y' END AS e,",
        "    count(*) FILTER (WHERE d > 1) AS n",
        "FROM (",
        "    SELECT *",
        "    FROM s",
        "    WHERE a IS NOT NULL",
        ")",
        "LEFT JOIN r USING (a)",
        "WHERE x",
        "GROUP BY 1, 2",
        "ORDER BY a",
    ]
    call = f"list_reduce({'x' * 80}, lambda a, b: a + b)"
    assert laid_out(f"SELECT {call}").splitlines()[2:4] == [
        f"        {'x' * 80},",
        "        lambda a, b: a + b",
    ]
    for odd in ("SELECT (1", "SELECT 1 -- so", "SELECT 'a\nb'", "SELECT 'open"):
        assert laid_out(odd) == odd


def test_what_each_column_costs(tmp_path: Path) -> None:
    (view,) = load(tmp_path, STREAM + VIEW).definitions.views.values()

    found = cost.of_view(view)

    told = {
        each.column: (each.exactness, each.tables, each.core_bytes, [w.rows for w in each.wide])
        for each in found.columns
        if not each.is_key
    }
    quantile = next(call for call in found.wide if call.table.startswith("buckets"))
    assert told == {
        "c": ("exact", ("core",), 8, []),
        "mean": ("exact", ("core",), 24, []),
        "total": ("exact", ("core",), 16, []),
        "most": ("exact", ("core",), 4, []),
        "about": ("approximate", ("registers_0",), 0, [4096]),
        "middle": ("approximate", (quantile.table,), 0, [quantile.rows]),
        "top": ("exact", ("values_2",), 0, [None]),
    }
    assert [each.column for each in found.columns if each.is_key] == ["k", "up"]
    # k, up; count, sum, count of n, max
    assert found.core_bytes == 16 + 1 + 8 + 16 + 8 + 4
    registers, values = found.wide[0], found.wide[2]
    tables = {table.name: table for table in fold.tables(view, {})}
    for wide in (registers, values):
        table = tables[wide.table]
        kinds = [kind for _, kind in table.keys] + [kind for _, kind, _ in table.values]
        assert wide.width == sum(map(cost.width, kinds)) > 16
    assert (registers.bytes, values.bytes) == (4096 * registers.width, None)
    assert values.calls == ("approx_top_k(s.k, 3)",)
    assert cost.width("STRUCT(a INTEGER, b STRUCT(c DECIMAL(9,2), d VARCHAR))") == 4 + 4 + 16
    assert next(each.bound for each in found.columns if each.column == "middle").startswith(
        "computed from a value with within 1 %"
    )


@pytest.mark.parametrize(
    ("select", "advice"),
    [
        ("count(DISTINCT n)", "use approx_count_distinct or coarser values"),
        ("median(n)", "use approx_quantile or coarser values"),
        ("mode(n), median(n)", "use coarser values"),
        (
            "quantile_disc(n, 0.5), count(DISTINCT n)",
            "use approx_count_distinct, approx_quantile or coarser values",
        ),
    ],
)
def test_a_warning_advises_what_is_cheaper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], select: str, advice: str
) -> None:
    load(tmp_path, STREAM + f"CREATE VIEW v AS SELECT {select} FROM s;")
    assert cli.main(["check", "--project", str(tmp_path)]) == 0
    assert capsys.readouterr().err.endswith(f"Where there may be many, {advice}\n")


def test_check_tells_costs_and_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (view,) = load(tmp_path, STREAM + VIEW).definitions.views.values()
    registers, _, values = cost.of_view(view).wide
    wide, size = values.width, registers.bytes

    assert cli.main(["check", "--project", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("1 stream, 0 tables, 1 view: all good\n")
    assert said.err == (
        "000.sql:3:13: warning: view 'v': approx_top_k(s.k, 3) keeps a row of "
        f"{wide} bytes or more for each different value in each group, {wide}.0 MB for a million "
        "of them. Where there may be many, use coarser values\n"
    )

    assert cli.main(["check", "--sql", "--project", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    line = next(each for each in shown.splitlines() if each.strip().startswith("about "))
    assert size is not None
    told_size = f"at most 4,096 rows of {registers.width} bytes ({size / 1000:.1f} kB)"
    assert line.split("  ")[-1].strip() == told_size
    assert (
        f"    a group of them all takes 53 bytes in core\n        and {told_size} in registers_0\n"
    ) in shown
    assert "\n-- merge core\nSELECT\n" in shown

    assert cli.main(["check", "--sql", "--json", "--project", str(tmp_path)]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["problems"] == []
    assert [(each["file"], each["line"]) for each in told["warnings"]] == [("000.sql", 3)]
    view = told["definitions"][-1]
    top = view["columns"][-1]
    assert (top["name"], top["exactness"], top["tables"]) == ("top", "exact", ["values_2"])
    assert top["wide"] == [{"table": "values_2", "rows": None, "row_bytes": wide, "bytes": None}]
    assert view["group"]["core_bytes"] == 53
    assert any(each["step"] == "present" and "\n" in each["sql"] for each in view["sql"])
