"""Every aggregate on every type: the law, or a refusal that says the type and a way out; and the
page that tells which (docs/measures.md)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest

from schemas import definitions, engine
from schemas.compile import CompiledView, compile_view
from schemas.errors import Problem
from schemas.language import parser
from schemas.language.view import View
from schemas.measures import ALL
from tests.folding import presented, refused

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "measures.md"
BEGIN = "<!-- written by: pytest --update-golden tests/laws/test_types.py -->\n"
END = "<!-- end -->\n"

# how a type is told -> an expression of it over the columns below, and the name that DuckDB has
TYPES = {
    "BOOLEAN": ("b", "BOOLEAN"),
    "TINYINT to INTEGER, UTINYINT to UINTEGER": ("n", "INTEGER"),
    "BIGINT, UBIGINT": ("big", "BIGINT"),
    "HUGEINT": ("big::HUGEINT * 17179869184", "HUGEINT"),
    "UHUGEINT": ("abs(n)::UHUGEINT", "UHUGEINT"),
    "DECIMAL of up to 18 digits": ("d::DECIMAL(18,2)", "DECIMAL(18,2)"),
    "DECIMAL of 19 to 27 digits": ("d", "DECIMAL(27,5)"),
    "DECIMAL of 28 to 38 digits": ("w", "DECIMAL(38,10)"),
    "DOUBLE": ("x", "DOUBLE"),
    "FLOAT": ("f::FLOAT", "FLOAT"),
    "VARCHAR": ("s", "VARCHAR"),
    "DATE": ("t::DATE", "DATE"),
    "TIMESTAMP": ("t", "TIMESTAMP"),
    "TIMESTAMPTZ": ("t::TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"),
    "TIME": ("t::TIME", "TIME"),
    "INTERVAL": ("to_days(n)", "INTERVAL"),
    "BLOB": ("encode(s)", "BLOB"),
    "JSON": ("to_json(s)", "JSON"),
    "lists": ("[n]", "INTEGER[]"),
    "structs": ("{'a': n}", "STRUCT(a INTEGER)"),
}
# how each is called: x is of the type; others of one argument
CALLS = {
    **dict.fromkeys(("arg_min", "arg_max", "min_by", "max_by"), "{name}(x, t)"),
    "approx_quantile": "{name}(x, [0.1, 0.9])",
    "approx_top_k": "{name}(x, 3)",
    **dict.fromkeys(("quantile_cont", "quantile_disc", "quantile"), "{name}(x, [0.25, 0.5])"),
}
# the same measure under another name
ALIASES = {
    "countif": "count_if",
    "mean": "avg",
    "variance": "var_samp",
    "stddev": "stddev_samp",
    "min_by": "arg_min",
    "max_by": "arg_max",
    "quantile": "quantile_disc",
}
COLUMNS = (
    "i INTEGER, k VARCHAR, b BOOLEAN, n INTEGER, big BIGINT, d DECIMAL(27,5), w DECIMAL(38,10), "
    "x DOUBLE, f DOUBLE, s VARCHAR, t TIMESTAMP"
)
# every column is NULL in some rows, in a group in all; t ties, and -0.0 is there
ROWS = """SELECT i::INTEGER AS i, CASE WHEN i % 7 = 6 THEN NULL ELSE 'k' || i % 3 END AS k,
    CASE WHEN i % 5 = 0 THEN NULL ELSE i % 3 = 0 END AS b,
    CASE WHEN i % 4 = 0 THEN NULL ELSE i * 37 % 101 - 50 END::INTEGER AS n,
    CASE WHEN i % 6 = 0 THEN NULL ELSE (i * 37 % 101 - 50) * 90000000000000000 END::BIGINT AS big,
    CASE WHEN i % 9 = 0 THEN NULL ELSE (i * 31 % 101 - 50) * 1234567.12345 END::DECIMAL(27,5) AS d,
    CASE WHEN i % 8 = 0 THEN NULL
        ELSE (i * 31 % 101 - 50) * 1234567890123456789012.1234512345::DECIMAL(38,10)
    END::DECIMAL(38,10) AS w,
    CASE WHEN i % 4 = 1 THEN NULL WHEN i = 3 THEN -0.0 ELSE (i * 31 % 101 - 50) * 1.1 END::DOUBLE
        AS x,
    (i % 13 / 4.0)::DOUBLE AS f,
    CASE WHEN i % 6 = 5 THEN NULL ELSE 's' || i % 11 END AS s,
    CASE WHEN i % 10 = 9 THEN NULL ELSE TIMESTAMP '2026-01-01 10:00:00' + to_hours(i % 17 * 5) END
        AS t
    FROM range(60) r(i)
    UNION ALL SELECT i::INTEGER, 'none'"""
ROWS += ", NULL" * 9 + " FROM range(60, 64) r(i)"


@dataclass(frozen=True)
class Cell:
    """An aggregate of a type: how it is called, and what it promises or why it is refused."""

    call: str
    refusal: str
    exactness: str = ""
    bound: str = ""


@cache
def cells() -> dict[tuple[str, str], Cell]:
    """By aggregate and type; each is a view of its own."""
    calls = {}
    for name, (told, (value, _)) in itertools.product(ALL, TYPES.items()):
        calls[name, told] = (
            CALLS.get(name, "{name}(x)").format(name=name).replace("(x", f"({value}")
        )
    found, problems = _read(
        f"CREATE VIEW v{at} AS SELECT {call} AS a FROM rows;"
        for at, call in enumerate(calls.values())
    )
    wrong = {re.match(r"view 'v(\d+)'", each.message)[1]: each.message for each in problems}  # type: ignore[index]
    cells = {}
    for at, (key, call) in enumerate(calls.items()):
        (measure,) = found[f"v{at}"].measures if f"v{at}" in found else (None,)
        if measure is None:
            cells[key] = Cell(call, wrong[str(at)])
        else:
            cells[key] = Cell(call, "", measure.exactness or "", measure.bound or "")
    return cells


def _read(texts: Iterable[str]) -> tuple[Mapping[str, View], list[Problem]]:
    stream = f"CREATE STREAM rows ({COLUMNS}) WITH (topic = 'rows', event_time = 't');"
    found, problems = definitions.read(
        [parser.parse("v.sql", text)[0][0] for text in (stream, *texts)]
    )
    return found.views, problems


@pytest.mark.parametrize("name", [name for name in ALL if name not in ALIASES])
def test_every_aggregate_keeps_the_law_on_every_type_or_refuses_it(name: str) -> None:
    own = engine.connect()
    calls = []
    for told, (_, type_name) in TYPES.items():
        cell = cells()[name, told]
        if cell.refusal:
            assert type_name in cell.refusal, (told, cell.refusal)
            ways = ("CAST", "casts", "Use ", "use ", "Take ")
            assert any(way in cell.refusal for way in ways), (told, cell.refusal)
        else:
            calls.append(cell.call)
    listed = ", ".join(
        f"{call} AS a{at}, {call} FILTER (WHERE i > 30) AS b{at}" for at, call in enumerate(calls)
    )
    views, problems = _read([f"CREATE VIEW v AS SELECT k, {listed} FROM rows GROUP BY k;"])
    assert calls
    assert not problems
    view = compile_view(views["v"], "v", [])
    rows = own.arrow(ROWS)
    whole, split = _parts(own, view, rows, [0, 64]), _parts(own, view, rows, [0, 23, 64])
    assert _answer(view, whole) == _answer(view, split[::-1])
    assert not refused(view, split, "rows", rows)


def _parts(
    own: engine.Engine, view: CompiledView, rows: pa.Table, cuts: list[int]
) -> list[dict[str, pa.Table]]:
    parts = []
    for first, until in itertools.pairwise(cuts):
        own.register("counted", rows.slice(first, until - first))
        parts.append({table.name: own.arrow(table.fold) for table in view.tables})
    return parts


def _answer(view: CompiledView, parts: list[dict[str, pa.Table]]) -> str:
    return str(sorted(map(repr, presented(view, parts))))


def table() -> str:
    """What each aggregate promises on each type, as a table, and the reasons for its refusals."""
    names = [name for name in ALL if name not in ALIASES]
    lines = ["### Which type it may be of", ""]
    lines += [
        "E is exact, R reproducible (the same to the bit for every split, and within the bound), "
        "A approximate (that too, with a wider bound), - refused.",
        "",
        f"| | {' | '.join(f'`{name}`' for name in names)} |",
        "|---|" + "---|" * len(names),
    ]
    for told in TYPES:
        row = [cells()[name, told] for name in names]
        marks = ["-" if cell.refusal else cell.exactness[0].upper() for cell in row]
        lines.append(f"| {told} | {' | '.join(marks)} |")
    lines += ["", "### How far an answer may be off", "", "| aggregate | of | class | bound |"]
    lines.append("|---|---|---|---|")
    for name in names:
        bounds: dict[tuple[str, str], list[str]] = {}
        for told in TYPES:
            found = cells()[name, told]
            if not found.refusal:
                bounds.setdefault((found.exactness, found.bound), []).append(told)
        for (exactness, bound), of in bounds.items():
            types = "all that it takes" if len(bounds) == 1 else "; ".join(of)
            lines.append(f"| `{name}` | {types} | {exactness} | {bound} |")
    return "\n".join([*lines, "", ""])


def test_the_page_tells_what_the_measures_do(request: pytest.FixtureRequest) -> None:
    before, told = PAGE.read_text(encoding="utf-8").split(BEGIN)
    written, after = told.split(END)
    if request.config.getoption("--update-golden"):
        PAGE.write_text(f"{before}{BEGIN}\n{table()}{END}{after}", encoding="utf-8")
        return
    assert written == f"\n{table()}"
    # each is described, and each other name
    for name in ALL:
        assert f"`{name}" in after, name
    assert all(ALL[alias].build is ALL[name].build for alias, name in ALIASES.items())
