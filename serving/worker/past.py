"""The tables of a past state, for one statement alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa

from schemas import engine, reading
from schemas.compile import CompiledView
from schemas.engine import OWN_FAULTS, Engine
from schemas.errors import EverviewError, ViewFailed
from schemas.ledger.epochs import CommittedEpoch
from schemas.ledger.files import MASTER
from schemas.reading import Rows
from schemas.storage import DataRoot
from serving.coverage import Coverage
from serving.envelope import Code, RequestError
from serving.follower.followed import Served
from serving.follower.handoff import Handoff
from serving.follower.load import Loaded, segments
from serving.follower.past import Past, PastRaw, PastView
from serving.worker.raw import NewRaw, RawRows
from serving.worker.tables import Change, Tables

SEGMENT_ROWS = "segment_rows"
MEMORY = "512MB"  # of the engine that reads files and folds


class Room:
    """The databases of one past state. A process that gives up its rights opens them before."""

    def __init__(self, root: DataRoot, memory_limit: str | None = None) -> None:
        self._root = root
        self.tables = Tables(memory_limit=memory_limit, readable=[root.local(MASTER)])
        self._folding = engine.connect(memory_limit=MEMORY)

    def fill(self, past: Past) -> None:
        """Make the relations as they were. Raises `RequestError` where they cannot be made."""
        try:
            fill(self.tables, self._folding, past)
        except (MemoryError, duckdb.OutOfMemoryException) as error:
            message = "the state of then needs more memory than a worker has"
            raise RequestError(Code.TOO_LARGE, message) from error
        except EverviewError as error:
            if isinstance(error.__cause__, duckdb.OutOfMemoryException):
                message = f"{error}: the state of then needs more memory than a worker has"
                raise RequestError(Code.TOO_LARGE, message) from error
            told = str(error).replace(f"{self._root.local(MASTER).parent}/", "")
            raise RequestError(Code.NOT_READY, told) from error

    def close(self) -> None:
        self._folding.con.close()
        self.tables.close()


def fill(tables: Tables, folding: Engine, past: Past) -> None:
    """Make the relations. `folding` is an engine that reads files."""
    covered: tuple[Coverage, ...] = ()
    for view in past.views:
        covered += (view.coverage,)
        change = Change(covered)
        tables.apply(replace(change, create=(_loaded(past.root, view).new(),)))
        for partials in _folded(folding, past.root, view):
            tables.apply(replace(change, partials={view.compiled.name: partials}))
    raws = tuple(
        NewRaw(each.compiled, each.files, 0, anew=True, until=each.epoch) for each in past.raws
    )
    rows = tuple(row for each in past.raws for row in _rows(past.root, each))
    tables.apply(Change(covered, past.streams, raw=raws, raw_rows=rows))


def _loaded(root: DataRoot, view: PastView) -> Loaded:
    served = Served(
        view.compiled,
        view.publication,
        view.coverage.epoch,
        view.position,
        view.instant,
        Handoff.of(()),
        view.bounds,
    )
    return Loaded(root, served, view.batch, view.partials, view.epochs)


def _folded(folding: Engine, root: DataRoot, view: PastView) -> Iterator[Mapping[str, pa.Table]]:
    """Partials of the epochs that are folded again, part by part."""
    if not (view.folds or view.again):
        return
    compiled = view.compiled
    for reference in compiled.references:
        if not folding.has_reference(reference):
            folding.load_reference(reference, root.get(reference.file))
    for fold in view.folds:
        by_version: dict[str, list[Path]] = {}
        for file, path in fold.files:
            by_version.setdefault(file.stream_version, []).append(path)
        listed = [Rows(folding.files(paths), version) for version, paths in by_version.items()]
        with _named(compiled):
            folding.count_from(reading.counted(compiled, listed, fold.first, fold.last))
            yield {table.name: folding.arrow(table.fold) for table in compiled.tables}
    for epoch in view.again:
        yield from _segments(folding, root, compiled, epoch)


def _segments(
    folding: Engine, root: DataRoot, compiled: CompiledView, epoch: CommittedEpoch
) -> Iterator[Mapping[str, pa.Table]]:
    for reader in segments(root, epoch):
        folding.register(SEGMENT_ROWS, reader.master())
        rows = [Rows(SEGMENT_ROWS, epoch.stream_version)]
        with _named(compiled):
            folding.count_from(reading.counted(compiled, rows, epoch.epoch, epoch.epoch))
            yield {table.name: folding.arrow(table.fold) for table in compiled.tables}
        folding.con.unregister(SEGMENT_ROWS)


def _rows(root: DataRoot, raw: PastRaw) -> Iterator[RawRows]:
    for epoch in raw.epochs:
        for reader in segments(root, epoch):
            yield RawRows(raw.compiled.stream, epoch.stream_version, reader.master())


@contextmanager
def _named(view: CompiledView) -> Iterator[None]:
    try:
        yield
    except OWN_FAULTS as error:
        raise ViewFailed(view.name, str(error)) from error
