"""A view as it stands in the files: batch, runs and segments merged and presented, as serving does,
for where no serving runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from batch import stages
from batch.stages import CORE
from schemas import reading
from schemas.compile import CompiledView, PartialTable, sql
from schemas.engine import Engine
from schemas.ledger.contents import StreamContents, ViewContents
from schemas.ledger.epochs import CommittedEpoch
from schemas.segment import SegmentReader
from schemas.storage import DataRoot


@dataclass(frozen=True)
class Standing:
    """A SELECT of the view's rows, and the last epoch in them."""

    select: str
    epoch: int


def of(engine: Engine, root: DataRoot, view: CompiledView, contents: StreamContents) -> Standing:
    """Merge what there is of a view. Its references are not needed any more."""
    held = contents.views[view.name]
    if held.gap is not None:
        raise held.gap
    epochs = carried(contents, held)
    merged = {}
    for table in view.tables:
        gathered = sql.name(f"$standing_{table.name}")
        listed = ", ".join(f"{sql.name(name)} {kind}" for name, kind in stages.columns(table))
        engine.execute(f"CREATE OR REPLACE TEMP TABLE {gathered} ({listed})")
        for source in _sources(engine, root, view, table, held, epochs):
            engine.execute(f"INSERT INTO {gathered} {stages.partials(table, source)}")
        merged[table.name] = sql.name(f"$merged_{table.name}")
        engine.execute(
            f"CREATE OR REPLACE TEMP TABLE {merged[table.name]} AS {table.merge(gathered)}"
        )
    merged = {name: view.within(rows, held.row.bounds) for name, rows in merged.items()}
    return Standing(presented(view, merged), epochs[-1].epoch if epochs else held.epoch)


def presented(view: CompiledView, merged: Mapping[str, str]) -> str:
    """SELECT of the rows that merged partials come to; `merged` has the relation of each table."""
    wide = {name: relation for name, relation in merged.items() if name != CORE}
    return view.present(f"({view.finished(merged[CORE], wide)})")


def carried(contents: StreamContents, held: ViewContents) -> Sequence[CommittedEpoch]:
    """The unsealed epochs that carry a view's version: those before it was suspended."""
    found: list[CommittedEpoch] = []
    for epoch in contents.epochs:
        if held.row.version not in epoch.folded or epoch.epoch != held.epoch + len(found) + 1:
            break
        found.append(epoch)
    return found


def unsealed(
    engine: Engine, root: DataRoot, epochs: Sequence[CommittedEpoch], stream_version: str
) -> str | None:
    """The master rows of unsealed epochs that one version of the stream accepted, as a relation;
    None where there is none."""
    name = sql.name(f"$unsealed_{stream_version}")
    engine.execute(f"DROP TABLE IF EXISTS {name}")
    made = False
    for epoch in epochs:
        for segment in epoch.segments:
            rows = SegmentReader(root.get(segment.file), segment.file.path).master()
            engine.register("$segment", rows)
            source = sql.name("$segment")
            engine.execute(
                f"INSERT INTO {name} BY NAME FROM {source}"
                if made
                else f"CREATE TEMP TABLE {name} AS FROM {source}"
            )
            engine.con.unregister("$segment")
            made = True
    return name if made else None


def _sources(
    engine: Engine,
    root: DataRoot,
    view: CompiledView,
    table: PartialTable,
    held: ViewContents,
    epochs: Sequence[CommittedEpoch],
) -> Iterator[str]:
    for kind in (held.batch, held.runs):
        paths = [root.check(each.file) for each in kind if each.table == table.name]
        if paths:
            yield engine.files(paths)
    for epoch in epochs:
        for segment in epoch.segments:
            reader = SegmentReader(root.get(segment.file), segment.file.path)
            engine.register("$segment", reader.partials(view.version)[table.name])
            yield sql.name("$segment")
            engine.con.unregister("$segment")
    yield reading.empty(stages.columns(table))
