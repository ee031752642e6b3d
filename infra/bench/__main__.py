"""`python -m infra.bench [PART...] [--events N] [--seconds N]`: the benchmarks, as lines for the
docs; accuracy, folding and serving write their tables there themselves."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from infra import jars
from infra.bench import (
    accuracy,
    backlog,
    costs,
    folding,
    freshness,
    history,
    hits,
    page,
    rebuild,
    serving,
)
from infra.bench.broker import broker

RATE = 5000
PARTS = (
    "accuracy",
    "folding",
    "costs",
    "history",
    "serving",
    "rebuild",
    "throughput",
    "freshness",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--events", type=int, default=3_000_000, help="size of the backlog")
    flow = "length of the steady flow, after a minute to warm up"
    parser.add_argument("--seconds", type=int, default=60, help=flow)
    parser.add_argument("--epochs", type=int, default=3000, help="length of the history")
    parser.add_argument("--ids", type=int, default=50_000_000, help="event ids that are remembered")
    help_ = "size of the master that is rebuilt"
    parser.add_argument("--master", type=int, default=4_000_000, help=help_)
    found = parser.parse_args()
    unknown = set(found.parts) - set(PARTS)
    if unknown:
        parser.error(f"PART must be of {', '.join(PARTS)}; got {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="everview-bench-") as name:
        folder = Path(name)
        works: dict[str, Callable[[], None]] = {
            "accuracy": _accuracy,
            "folding": _folding,
            "costs": lambda: _costs(folder, found.ids),
            "history": lambda: _history(folder, found.epochs),
            "serving": lambda: _serving(folder),
            "rebuild": lambda: _rebuild(folder, found.master),
            "throughput": lambda: _throughput(folder, found.events),
            "freshness": lambda: _freshness(folder, found.seconds),
        }
        for part in found.parts or PARTS:
            works[part]()


def _accuracy() -> None:
    _told("accuracy.md", "counts", accuracy.counts_table(list(accuracy.of_counts())))
    _told("accuracy.md", "quantiles", accuracy.quantiles_table(list(accuracy.of_quantiles())))


def _folding() -> None:
    _told("performance.md", "folding", folding.table(list(folding.of_measures())))
    together, dearest = folding.of_ten()
    ratio = f"All ten take {together.fold / dearest.fold:.1f} times as long as the dearest."
    _told("performance.md", "ten", [*folding.table([together, dearest]), "", ratio])


def _told(document: str, name: str, lines: list[str]) -> None:
    page.write(page.DOCS / document, name, lines)
    print("\n".join(lines), flush=True)


def _throughput(folder: Path, events: int) -> None:
    connector = jars.connector_jars()[0].parent
    project = hits.project(folder / "backlog", "backlog")
    with broker(folder / "broker") as servers:
        print(f"filling a topic with {events:,} events ...", flush=True)
        hits.fill(servers, "backlog", events)
        before = backlog.noop(servers, "backlog", connector, folder / "noop")
        path = backlog.measure(project, folder / "state", servers, connector, "hits")
        keyed = hits.project(folder / "keyed", "backlog", key=True)
        ids = backlog.measure(keyed, folder / "keyed-state", servers, connector, "hits")
        after = backlog.noop(servers, "backlog", connector, folder / "noop")
    peer = (before + after) / 2
    print(f"Spark noop read:   {before:,.0f} and {after:,.0f} events/s")
    print(
        f"whole path:        {path.rate:,.0f} events/s "
        f"({path.events:,} events in {path.epochs} epochs), {path.rate / peer:.2f} of noop"
    )
    print(
        f"the same with a primary key: {ids.rate:,.0f} events/s "
        f"({ids.events:,} events in {ids.epochs} epochs), {ids.rate / path.rate:.2f} of without",
        flush=True,
    )


def _costs(folder: Path, ids: int) -> None:
    for cost in costs.of_ids(folder / "ids", ids):
        print(
            f"an epoch of {cost.events:,} events, folded and written: "
            f"{cost.without * 1000:.1f} ms without a primary key, {cost.none * 1000:.1f} with one, "
            f"{cost.many * 1000:.1f} beside {ids:,} remembered ids ({cost.many / cost.none:.2f} of "
            f"that, {cost.many / cost.without:.2f} of without); {cost.memory:,} MB of own memory",
            flush=True,
        )
    sums = costs.of_checksums(folder / "sums")
    print(
        f"an epoch of {sums.events:,} events, {sums.bytes / 1e6:.1f} MB: folding and writing it "
        f"{sums.write * 1000:.1f} ms, of which its sha256 {sums.hash * 1000:.2f} ms; reading and "
        f"merging it {sums.read * 1000:.1f} ms, of which its sha256 {sums.hash * 1000:.2f} ms"
    )
    print(f"a fail point that is not set: {costs.of_failpoints() * 1e9:.0f} ns", flush=True)


def _history(folder: Path, epochs: int) -> None:
    for cost in history.measure(folder / "history", epochs):
        print(
            f"at epoch {cost.epoch:,}: write and commit {cost.commit:.1f} ms, "
            f"follow {cost.step:.1f} ms, query {cost.query:.1f} ms",
            flush=True,
        )


def _serving(folder: Path) -> None:
    _told("performance.md", "serving", serving.table(serving.measure(folder / "serving")))


def _rebuild(folder: Path, events: int) -> None:
    for cost in rebuild.measure(folder / "rebuild", events):
        print(
            f"full rebuild of {cost.view}, {cost.events:,} events: "
            f"{cost.events / cost.rebuild:,.0f} events/s; DuckDB alone "
            f"{cost.events / cost.duckdb:,.0f}, {cost.ratio:.2f} of it; "
            f"proof {cost.events / cost.proof:,.0f} events/s",
            flush=True,
        )


def _freshness(folder: Path, seconds: int) -> None:
    found = freshness.measure(folder / "live", RATE, seconds)
    tell = freshness.percentile
    print(
        f"produce to queryable at {found.rate:,} events/s for {found.seconds} s "
        f"({found.epochs} epochs, {len(found.latencies)} marks): "
        f"p50 {tell(found.latencies, 0.5) * 1000:.0f} ms, "
        f"p99 {tell(found.latencies, 0.99) * 1000:.0f} ms"
    )
    print(
        "first tenth -> last tenth of it, medians: "
        f"freshness {found.early * 1000:.0f} -> {found.late * 1000:.0f} ms, "
        f"epoch {found.early_epoch * 1000:.0f} -> {found.late_epoch * 1000:.0f} ms, "
        f"query {found.query_early * 1000:.1f} -> {found.query_late * 1000:.1f} ms"
    )


if __name__ == "__main__":
    main()
