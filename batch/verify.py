"""The law, checked on the live system: what is served at an epoch, and V's own SELECT over the
counted events of the master up to it, sealed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from batch import compare, recount, stages, standing, tracing
from batch.compare import Comparison, Difference
from batch.compiled import Compiled
from batch.stages import CORE
from batch.tracing import Group, Layer
from schemas import reading
from schemas.compile import CompiledView, sql
from schemas.engine import Engine
from schemas.ledger import retention, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.contents import StreamContents, contents
from schemas.ledger.declared import declared as declared_epochs
from schemas.ledger.retention import Remains
from schemas.reading import Rows
from schemas.storage import DataRoot


@dataclass(frozen=True)
class Served:
    """An answer to `SELECT * FROM view`, and what it covers."""

    rows: pa.Table
    version: str
    epoch: int
    cut: int


@dataclass(frozen=True)
class Verified:
    """A view's answer beside the recount."""

    view: str
    epoch: int
    cut: int
    comparison: Comparison
    not_compared: tuple[str, ...]
    layers: Mapping[Group, tuple[Layer, ...]]  # of each differing group, those that are wrong
    retained: int = 0  # the last epoch whose events are in the version's base alone
    on_base: int = 0  # groups that have rows there: compared by partials
    since: int | None = None  # the first epoch that the version counts; None: from the first on
    kept_from: Mapping[str, str] = field(default_factory=dict)  # by key: what is before is not kept

    def json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "epoch": self.epoch,
            "cut": self.cut,
            "rows": self.comparison.built,
            "recounted_rows": self.comparison.expected,
            "different": self.comparison.different,
            "not_compared": list(self.not_compared),
            "retained": self.retained,
            "on_base": self.on_base,
            "own_select": self.comparison.built - self.on_base,
            "since": self.since,
            "kept_from": dict(self.kept_from) or None,
            "differences": [self._told(each) for each in self.comparison.differences],
        }

    def _told(self, difference: Difference) -> dict[str, Any]:
        told: dict[str, Any] = {
            "group": dict(difference.group),
            "column": difference.column,
            "served": difference.built,
            "recounted": difference.expected,
        }
        layers = self.layers.get(tuple(difference.group.values()))
        if layers is not None:
            told["wrong_in"] = [
                {"what": each.kind, "epochs": [each.first, each.last]} for each in layers
            ]
            told["do"] = tracing.advice(self.view, difference, layers)
        return told


def verify(
    ledger: Ledger,
    root: DataRoot,
    definitions: Compiled,
    view: str,
    served: Served | None,
    *,
    memory: str,
    threads: int,
    say: Callable[[str], None] = lambda _: None,
) -> Verified:
    """Compare an answer with the recount at its epoch; without one, what the files hold. `say` is
    told what is being done."""
    # the answer came first, so every epoch of it is here
    stream_name = next(each for each in versions.views(ledger) if each.name == view).stream
    there = contents(ledger, stream_name)
    row = there.views[view].row
    _, compiled = definitions.of(view, row.version if served is None else served.version)
    # an answer that is served has no more than the view's own columns
    judged = compiled if served is not None else compiled.by_calls or compiled
    with stages.working(memory, threads) as engine:
        stages.load_references(engine, root, compiled.references)
        if served is None:
            found = standing.of(engine, root, judged, there)
            select, epoch, cut = found.select, found.epoch, there.views[view].row.cut
        else:
            engine.register("$served", served.rows)
            typed = [
                f"CAST({sql.name(n)} AS {kind}) AS {sql.name(n)}" for n, kind in compiled.columns
            ]
            select = f"SELECT {', '.join(typed)} FROM {sql.name('$served')}"
            epoch, cut = served.epoch, served.cut
        say("reading what is served" if served else "merging what the files hold")
        ours, exact = _made(engine, "$ours", select), sql.name("$exact")
        say("checking the files of the master")
        left = retention.remains(ledger, stream_name, view, compiled.version)
        master = list(_master(engine, ledger, root, there, left, epoch))
        say(f"recounting the events of epochs {left.retained + 1}..{epoch}")
        recount.count(engine, compiled, master, 1, epoch)
        kept = compiled.within(f"({judged.exact})", left.bounds)
        engine.execute(f"CREATE TEMP TABLE {exact} AS FROM {kept}")
        ours, on_base = compiled.within(ours, left.bounds), 0
        say("comparing")
        if left.base:
            counted = reading.counted(compiled, master, 1, epoch)
            comparison = _with_base(engine, root, compiled, counted, left, ours, exact)
            core = [root.check(each.file) for each in left.base if each.table == CORE]
            base = compiled.within(engine.files(core), left.bounds)
            on_base = compare.count(engine, base)
        else:
            comparison = compare.rows(engine, judged, ours, exact)
        layers: Mapping[Group, tuple[Layer, ...]] = {}
        if comparison.differences:
            say("looking for the files that are wrong")
            layers = tracing.trace(
                engine, root, compiled, there, master, left.base, comparison.differences
            )
    return Verified(
        view,
        epoch,
        cut,
        comparison,
        tuple(compare.by_calls(compiled)) if served is not None else (),
        layers,
        retained=left.retained,
        on_base=on_base,
        kept_from={each.key: each.iso() for each in left.bounds},
        since=versions.version(ledger, view, compiled.version).since_epoch,
    )


def _with_base(
    engine: Engine,
    root: DataRoot,
    view: CompiledView,
    counted: str,
    left: Remains,
    ours: str,
    exact: str,
) -> Comparison:
    """Where retention removed events: the answer is what the base and the fold of the master come
    to, to the last bit; and that fold comes to what V's own SELECT says of those events."""
    engine.count_from(counted)
    folded, merged = {}, {}
    for table in view.tables:
        select = stages.partials(table, f"({table.fold})")
        folded[table.name] = _made(engine, f"$folded_{table.name}", select)
        paths = [root.check(each.file) for each in left.base if each.table == table.name]
        base = stages.partials(table, engine.files(paths))
        select = table.merge(f"(FROM {folded[table.name]} UNION ALL {base})")
        merged[table.name] = _made(engine, f"$anew_{table.name}", select)
    merged = {name: view.within(rows, left.bounds) for name, rows in merged.items()}
    folded = {name: view.within(rows, left.bounds) for name, rows in folded.items()}
    expected = _made(engine, "$expected", standing.presented(view, merged))
    whole = compare.same(engine, view, ours, expected)
    rest = _made(engine, "$rest", standing.presented(view, folded))
    own = compare.rows(engine, view, rest, exact, compare.KEPT_ROWS)
    told = (*whole.differences, *own.differences)[: compare.MOST]
    return replace(whole, different=whole.different + own.different, differences=told)


def _made(engine: Engine, name: str, select: str) -> str:
    quoted = sql.name(name)
    engine.execute(f"CREATE TEMP TABLE {quoted} AS {select}")
    return quoted


def is_being_built(ledger: Ledger, view: str) -> bool:
    """Whether a view cannot answer yet, since earlier epochs do not carry it."""
    row = next(each for each in versions.views(ledger) if each.name == view)
    return contents(ledger, row.stream).views[view].being_built


def _master(
    engine: Engine,
    ledger: Ledger,
    root: DataRoot,
    there: StreamContents,
    left: Remains,
    epoch: int,
) -> Iterator[Rows]:
    """The master's rows up to an epoch. Epochs that were sealed meanwhile are read from where they
    were."""
    sealed = min(there.sealed, epoch)
    files = [(each, root.check(each.file)) for each in left.master if each.first <= sealed]
    for each in reading.rows(engine, declared_epochs(ledger, there.stream), files):
        yield Rows(f"(FROM {each.source} WHERE _epoch <= {sealed})", each.stream_version)
    late = [each for each in there.epochs if each.epoch <= epoch]
    for version in dict.fromkeys(each.stream_version for each in late):
        accepted = [each for each in late if each.stream_version == version]
        name = standing.unsealed(engine, root, accepted, version)
        if name is not None:
            yield Rows(name, version)
