"""What folding and merging cost, measure by measure, beside DuckDB doing the same aggregate: one
thread, rows in memory, thousands of groups."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import pyarrow as pa

from infra.bench.page import row
from schemas import definitions, engine
from schemas.compile import CompiledView, compile_view
from schemas.engine import Engine
from schemas.language import parser
from schemas.measures import ALL

ROWS, GROUPS, ROUNDS = 2_000_000, 2_000, 5
PARTS = 8
"""Pieces that the rows are folded in, one by one, and merged from."""
COLUMNS = "g INTEGER, n INTEGER, few INTEGER, d DECIMAL(12,2), x DOUBLE, b BOOLEAN, s VARCHAR"
EVENTS = f"""
CREATE OR REPLACE TEMP TABLE events AS
SELECT (hash(i) % {GROUPS})::INTEGER AS g, (hash(i + 1) % 1000000)::INTEGER AS n,
       (hash(i + 2) % 50)::INTEGER AS few, (n / 100)::DECIMAL(12,2) AS d,
       exp((hash(i + 3) % 10000) / 1000) AS x, n % 3 = 0 AS b, 'visitor ' || n % 20000 AS s
FROM range(ROWS) t(i)
"""
# one sensible call of each; the others are called with `n`
CALLS: Mapping[str, str] = {
    "count": "count(*)",
    "avg": "avg(d)",
    "approx_count_distinct": "approx_count_distinct(s)",
    "approx_quantile": "approx_quantile(x, [0.5, 0.99])",
    "approx_top_k": "approx_top_k(few, 5)",
    "histogram": "histogram(few)",
    "mode": "mode(few)",
    "median": "median(few)",
    "quantile": "quantile(few, 0.9)",
    "quantile_cont": "quantile_cont(few, 0.9)",
    "quantile_disc": "quantile_disc(few, 0.9)",
}
# of two arguments: what is wanted, and by which
PAIRS = ("arg_max", "arg_min", "argmax", "argmin", "max_by", "min_by", "first", "last")
TRUTHS = ("bool_and", "bool_or", "count_if", "countif")
TEN = (
    "count(*)",
    "count(*) FILTER (WHERE b)",
    "sum(n)",
    "avg(d)",
    "min(x)",
    "max(x)",
    "approx_count_distinct(s)",
    "approx_quantile(x, [0.5, 0.99])",
    "approx_top_k(few, 5)",
    "histogram(few)",
)


@dataclass(frozen=True)
class Cost:
    """Medians in seconds of one thread: of folding all rows in parts, of merging what they came to,
    and of DuckDB with the same text over all rows at once."""

    call: str
    rows: int
    partials: int
    fold: float
    merge: float
    duckdb: float


def of_measures(rows: int = ROWS, rounds: int = ROUNDS) -> Iterator[Cost]:
    """Of each aggregate that a view may call."""
    own = _filled(rows)
    for name in ALL:
        call = CALLS.get(name, f"{name}({'b' if name in TRUTHS else 'n'})")
        yield _cost(own, rows, [f"{name}(n, x)" if name in PAIRS else call], rounds)
    yield _cost(own, rows, ["count(DISTINCT few)"], rounds)


def of_ten(rows: int = ROWS, rounds: int = ROUNDS) -> tuple[Cost, Cost]:
    """A view of ten measures, and the dearest of them alone."""
    own = _filled(rows)
    alone = [_cost(own, rows, [call], rounds) for call in TEN]
    return _cost(own, rows, TEN, rounds), max(alone, key=lambda cost: cost.fold)


def table(found: Sequence[Cost]) -> list[str]:
    """For docs/performance.md."""
    lines = [
        row("aggregate", "fold, events/s", "DuckDB, events/s", "ratio", "rows", "merge, rows/s"),
        row(*["---"] * 6),
    ]
    return lines + [
        row(
            f"`{each.call}`",
            f"{each.rows / each.fold:,.0f}",
            f"{each.rows / each.duckdb:,.0f}",
            f"{each.duckdb / each.fold:.2f}",
            f"{each.partials:,}",
            f"{each.partials / each.merge:,.0f}",
        )
        for each in found
    ]


def _filled(rows: int) -> Engine:
    own = engine.connect(memory_limit="2GB")
    own.execute(EVENTS.replace("ROWS", str(rows)))
    return own


def _cost(own: Engine, rows: int, calls: Sequence[str], rounds: int) -> Cost:
    listed = ", ".join(f"{call} AS c{at}" for at, call in enumerate(calls))
    select = f"SELECT g, {listed} FROM events GROUP BY g"
    view = _view(select)
    costs = [_round(own, view, rows, select) for _ in range(rounds)]
    folds, merges, direct, partials = zip(*costs, strict=True)
    name = calls[0] if len(calls) == 1 else f"a view of {len(calls)}"
    return Cost(name, rows, partials[0], median(folds), median(merges), median(direct))


def _round(
    own: Engine, view: CompiledView, rows: int, select: str
) -> tuple[float, float, float, int]:
    """Seconds of folding, of merging, and of DuckDB's own answer; rows that were merged."""
    parts: list[dict[str, pa.Table]] = []
    folding = 0.0
    for at in range(PARTS):
        first, last = rows * at // PARTS, rows * (at + 1) // PARTS
        own.execute(
            "CREATE OR REPLACE TEMP TABLE counted AS SELECT * FROM events "
            f"WHERE rowid >= {first} AND rowid < {last}"
        )
        folding += _seconds(lambda: parts.append(_folded(own, view)))
    together = {
        each.name: pa.concat_tables([part[each.name] for part in parts]) for each in view.tables
    }
    merging = _seconds(lambda: _merged(own, view, together))
    direct = _seconds(lambda: own.arrow(select))
    return folding, merging, direct, sum(each.num_rows for each in together.values())


def _folded(own: Engine, view: CompiledView) -> dict[str, pa.Table]:
    return {each.name: own.arrow(each.fold) for each in view.tables}


def _merged(own: Engine, view: CompiledView, parts: Mapping[str, pa.Table]) -> None:
    for each in view.tables:
        own.register("parts", parts[each.name])
        own.arrow(each.merge("parts"))
        own.con.unregister("parts")


def _view(select: str) -> CompiledView:
    texts = [
        f"CREATE STREAM events ({COLUMNS}) WITH (topic = 'events');",
        f"CREATE VIEW v AS {select};",
    ]
    found, problems = definitions.read([parser.parse("v.sql", text)[0][0] for text in texts])
    if problems:
        raise ValueError(problems)
    return compile_view(found.views["v"], "v", [])


def _seconds(work: Callable[[], object]) -> float:
    """Of the processor, so that what else runs there does not count."""
    return timeit.timeit(work, timer=time.process_time, number=1)
