"""How far off the estimates are: many seeds, each a group of its own, folded by the views' own SQL
and compared with exact answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from infra.bench.page import row
from schemas import definitions, engine
from schemas.compile import CompiledView, compile_view
from schemas.engine import Engine
from schemas.language import parser
from schemas.language.view import View

Numbers = np.ndarray[Any, np.dtype[Any]]

# different values of a group, and seeds
SIZES: Mapping[int, int] = {
    1: 50_000,
    10: 50_000,
    50: 20_000,
    100: 20_000,
    199: 20_000,
    1_000: 5_000,
    4_096: 3_000,
    10_000: 2_000,
    100_000: 300,
    1_000_000: 50,
    10_000_000: 10,
}
PROMISED = 0.016
"""The standard error of HyperLogLog with as many registers: nearly all counts are within three."""
FEW = 200
RANKS = (0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1)
VALUES, SEEDS = 100_000, 10
KINDS: Mapping[str, str] = {
    "uniform": "DOUBLE",
    "normal, of both signs": "DOUBLE",
    "log-normal": "DOUBLE",
    "log-normal, negative": "DOUBLE",
    "Zipf, as integers": "BIGINT",
    "integers of 32 bits": "BIGINT",
    "cents, as DECIMAL(12, 2)": "DECIMAL(12,2)",
    "half of them zero": "DOUBLE",
    "some infinite": "DOUBLE",
    "all within 0.1 %": "DOUBLE",
    "all DOUBLEs, of any exponent": "DOUBLE",
    "constant": "DOUBLE",
}


@dataclass(frozen=True)
class Counts:
    """Distinct counts of one size: the share within three times what was promised, the share off by
    at most two, and errors relative to the size."""

    size: int
    seeds: int
    within: float
    near: float
    mean: float
    spread: float
    worst: float
    off: int


@dataclass(frozen=True)
class Quantiles:
    """One kind of values: the worst relative error at each rank, the most rows of a group and the
    most that there can be, whether the first and the last value were exact, and whether all were
    in order and of the right sign."""

    kind: str
    worst: tuple[float, ...]
    rows: int
    bound: int
    ends: bool
    ordered: bool


def of_counts(sizes: Mapping[int, int] = SIZES) -> Iterator[Counts]:
    """Integers that are dense, spread over 64 bits, or written as text, by turns."""
    own = engine.connect()
    _, view = _view(
        "seed INTEGER, v BIGINT",
        "SELECT seed, approx_count_distinct(v) FILTER (WHERE seed % 3 > 0) AS numbers, "
        "approx_count_distinct(v::VARCHAR) FILTER (WHERE seed % 3 = 0) AS texts "
        "FROM trials GROUP BY seed",
    )
    for size, seeds in sizes.items():
        own.execute(
            "CREATE OR REPLACE TEMP VIEW counted AS SELECT s::INTEGER AS seed, s * 100000000000 + "
            f"i * CASE WHEN s % 3 = 1 THEN 4294967 ELSE 1 END AS v FROM range({seeds}) a(s), "
            f"range({size}) b(i)"
        )
        told = own.arrow(f"SELECT numbers + texts AS n FROM ({_answer(own, view)})")
        off = np.array(told["n"]).astype(np.float64) - size
        yield Counts(
            size,
            seeds,
            float((np.abs(off) <= 3 * PROMISED * size).mean()),
            float((np.abs(off) <= 2).mean()),
            float((off / size).mean()),
            float(np.sqrt(((off / size) ** 2).mean())),
            float(np.abs(off / size).max()),
            int(np.abs(off).max()),
        )


def of_quantiles(values: int = VALUES, seeds: int = SEEDS) -> Iterator[Quantiles]:
    """Of each kind `seeds` groups of so many values."""
    own = engine.connect()
    chance = np.random.default_rng(20190801)
    listed = f"[{', '.join(map(str, RANKS))}]"
    for kind, type_name in KINDS.items():
        declared, view = _view(
            f"seed INTEGER, v {type_name}",
            f"SELECT seed, approx_quantile(v, {listed}) AS q FROM trials GROUP BY seed",
        )
        drawn = _drawn(kind, chance, values * seeds)
        numbers = pa.array(np.repeat(np.arange(seeds, dtype=np.int32), values))
        own.register("drawn", pa.table({"seed": numbers, "v": pa.array(drawn)}))
        own.execute(
            f"CREATE OR REPLACE TEMP TABLE counted AS SELECT seed, v::{type_name} AS v FROM drawn"
        )
        both = own.arrow(
            f"SELECT o.q::DOUBLE[] AS ours, e.q::DOUBLE[] AS exact FROM ({_answer(own, view)}) o "
            f"JOIN (SELECT seed, quantile_disc(v, {listed}) AS q FROM counted GROUP BY seed) e "
            "USING (seed)"
        )
        ours, exact = (np.array(both[name].to_pylist()) for name in ("ours", "exact"))
        ((rows,),) = own.con.execute(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM merged_1 GROUP BY seed)"
        ).fetchall()
        yield Quantiles(
            kind,
            tuple(_off(ours, exact).max(axis=0)),
            int(rows),
            sum(m.wide.rows or 0 for m in declared.measures if m.wide),
            bool((ours[:, [0, -1]] == exact[:, [0, -1]]).all()),
            bool((ours[:, 1:] >= ours[:, :-1]).all() and (np.sign(ours) == np.sign(exact)).all()),
        )


def counts_table(found: Sequence[Counts]) -> list[str]:
    """For docs/accuracy.md."""
    lines = [
        row("different", "seeds", "within 4.8 %", "within 2", "mean", "RMS", "worst", "most off"),
        row(*["---"] * 8),
    ]
    return lines + [
        row(
            f"{each.size:,}",
            f"{each.seeds:,}",
            f"{each.within:.2%}",
            f"{each.near:.2%}" if each.size < FEW else "",
            f"{each.mean:+.3%}",
            f"{each.spread:.3%}",
            f"{each.worst:.2%}",
            f"{each.off:,}",
        )
        for each in found
    ]


def quantiles_table(found: Sequence[Quantiles]) -> list[str]:
    """For docs/accuracy.md."""
    inner = [f"p{100 * rank:g}" for rank in RANKS[1:-1]]
    lines = [
        row("values", *inner, "p0, p100 exact", "signs, order", "rows", "at most"),
        row(*["---"] * (len(inner) + 5)),
    ]
    return lines + [
        row(
            each.kind,
            *(f"{worst:.2%}" for worst in each.worst[1:-1]),
            "yes" if each.ends else "NO",
            "yes" if each.ordered else "NO",
            f"{each.rows:,}",
            f"{each.bound:,}",
        )
        for each in found
    ]


def _off(ours: Numbers, exact: Numbers) -> Numbers:
    """Relative errors; none where both are equal, be it zero or infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(ours == exact, 0.0, np.abs((ours - exact) / exact))


def _drawn(kind: str, chance: np.random.Generator, many: int) -> Numbers:
    drawn = chance.lognormal(3, 4, many)
    some = chance.random(many)
    if kind == "uniform":
        return chance.random(many)
    if kind == "normal, of both signs":
        return chance.normal(0, 1e6, many)
    if kind == "log-normal, negative":
        return -drawn
    if kind == "Zipf, as integers":
        return np.minimum(chance.zipf(1.3, many), 2**62)
    if kind == "integers of 32 bits":
        return chance.integers(-(2**31), 2**31, many)
    if kind == "cents, as DECIMAL(12, 2)":
        return np.round(np.minimum(drawn, 1e9), 2)
    if kind == "half of them zero":
        return np.where(some < 0.5, 0.0, drawn)
    if kind == "some infinite":
        return np.where(some < 0.02, -np.inf, np.where(some > 0.98, np.inf, drawn))
    if kind == "all within 0.1 %":
        return 1e9 * (1 + some / 1000)
    if kind == "all DOUBLEs, of any exponent":
        return np.ldexp(some - 0.5, chance.integers(-1000, 1000, many))
    if kind == "constant":
        return np.full(many, 12.375)
    return drawn


def _view(columns: str, select: str) -> tuple[View, CompiledView]:
    texts = [
        f"CREATE STREAM trials ({columns}) WITH (topic = 'trials');",
        f"CREATE VIEW v AS {select};",
    ]
    found, problems = definitions.read([parser.parse("v.sql", text)[0][0] for text in texts])
    if problems:
        raise ValueError(problems)
    return found.views["v"], compile_view(found.views["v"], "v", [])


def _answer(own: Engine, view: CompiledView) -> str:
    """SELECT of the view's answer over `counted`, folded and merged into tables."""
    for at, table in enumerate(view.tables):
        own.execute(f"CREATE OR REPLACE TEMP TABLE merged_{at} AS {table.fold}")
    wide = {table.name: f"merged_{at}" for at, table in enumerate(view.tables) if at}
    return view.present(f"({view.finished('merged_0', wide)})")
