"""The law, checked on the live system: what is served at an epoch, and V's own SELECT over the
counted events of the master up to it, sealed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batch import compare, reading, recount, stages, standing, tracing
from batch.compare import Comparison, Difference
from batch.compiled import Compiled
from batch.reading import Rows
from batch.tracing import Group, Layer
from schemas.compile import sql
from schemas.engine import Engine
from schemas.ledger import sealing, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.contents import StreamContents, contents
from schemas.ledger.declared import declared as declared_epochs
from schemas.ledger.files import MASTER
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

    def json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "epoch": self.epoch,
            "cut": self.cut,
            "rows": self.comparison.built,
            "recounted_rows": self.comparison.expected,
            "different": self.comparison.different,
            "not_compared": list(self.not_compared),
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
    with stages.working(memory, threads) as engine:
        stages.load_references(engine, root, compiled.references)
        if served is None:
            found = standing.of(engine, root, compiled, there)
            select, epoch, cut = found.select, found.epoch, there.views[view].row.cut
        else:
            engine.register("$served", served.rows)
            typed = [
                f"CAST({sql.name(n)} AS {kind}) AS {sql.name(n)}" for n, kind in compiled.columns
            ]
            select = f"SELECT {', '.join(typed)} FROM {sql.name('$served')}"
            epoch, cut = served.epoch, served.cut
        ours, exact = sql.name("$ours"), sql.name("$exact")
        say("reading what is served" if served else "merging what the files hold")
        engine.execute(f"CREATE TEMP TABLE {ours} AS {select}")
        say("checking the files of the master")
        master = list(_master(engine, ledger, root, there, epoch))
        say(f"recounting the events of epochs 1..{epoch}")
        recount.count(engine, compiled, master, 1, epoch)
        engine.execute(f"CREATE TEMP TABLE {exact} AS {compiled.exact}")
        say("comparing")
        comparison = compare.rows(engine, compiled, ours, exact)
        layers: Mapping[Group, tuple[Layer, ...]] = {}
        if comparison.differences:
            say("looking for the files that are wrong")
            layers = tracing.trace(engine, root, compiled, there, master, comparison.differences)
    not_compared = tuple(compare.not_compared(compiled))
    return Verified(view, epoch, cut, comparison, not_compared, layers)


def is_being_built(ledger: Ledger, view: str) -> bool:
    """Whether a view cannot answer yet, since earlier epochs do not carry it."""
    row = next(each for each in versions.views(ledger) if each.name == view)
    return contents(ledger, row.stream).views[view].being_built


def _master(
    engine: Engine, ledger: Ledger, root: DataRoot, there: StreamContents, epoch: int
) -> Iterator[Rows]:
    """The master's rows up to an epoch. Epochs that were sealed meanwhile are read from where they
    were."""
    sealed = min(there.sealed, epoch)
    files = [
        each
        for one in sealing.sealed_ranges(ledger, there.stream)
        for each in one.files
        if each.kind == MASTER and each.first <= sealed
    ]
    declared = declared_epochs(ledger, there.stream)
    for each in reading.rows(engine, declared, [(each, root.check(each.file)) for each in files]):
        yield Rows(f"(FROM {each.source} WHERE _epoch <= {sealed})", each.stream_version)
    late = [each for each in there.epochs if each.epoch <= epoch]
    for version in dict.fromkeys(each.stream_version for each in late):
        accepted = [each for each in late if each.stream_version == version]
        name = standing.unsealed(engine, root, accepted, version)
        if name is not None:
            yield Rows(name, version)
