"""What a reader of a stream loads: batch views, the runs after them, the epochs after those.

    epochs  1 ......... cut | cut+1 ........ sealed | sealed+1 ......... last
            batch files     | runs                  | segments

One snapshot has all of it, so no epoch is in two of them and none is in neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from schemas.errors import GapBetweenLayers
from schemas.ledger import tables
from schemas.ledger.builds import PublicationRow, published_row
from schemas.ledger.connect import Ledger, number
from schemas.ledger.epochs import (
    CommittedEpoch,
    committed_after,
    folded_members,
    observed_in,
    position_of,
)
from schemas.ledger.files import BATCH, RUN, DataFile, data_file
from schemas.ledger.sealing import covered
from schemas.ledger.succession import Succession, succession
from schemas.ledger.versions import ViewRow, served_views
from schemas.observed import Observed
from schemas.position import Position, Range

EVERY = 2**31  # more epochs than are ever unsealed


@dataclass(frozen=True)
class ViewContents:
    """The version of a view that answers, up to the last sealed epoch that it counts."""

    row: ViewRow
    publication: PublicationRow | None  # the served one; None while speed holds everything
    batch: tuple[DataFile, ...]  # its partials, of all tables
    runs: tuple[DataFile, ...]  # after its cut, the oldest first, without a hole
    epoch: int  # the last epoch that batch and runs hold; earlier than `sealed` if suspended
    position: Position  # after that epoch
    instant: datetime | None  # of that epoch; None at 0
    being_built: bool  # earlier epochs are missing: it cannot answer yet
    gap: GapBetweenLayers | None  # epochs after the cut that no run holds, though they carry it
    follows: Succession | None = None  # what the publication was proven to equal


@dataclass(frozen=True)
class StreamContents:
    """All that is true of a stream at `state`."""

    stream: str
    state: int
    sealed: int  # the last sealed epoch; 0 where none is
    position: Position  # after that epoch
    instant: datetime | None  # of that epoch
    folded: frozenset[str] | None  # the versions that it carries
    ranges: tuple[Range, ...]  # the offsets of all sealed epochs, by partition
    views: Mapping[str, ViewContents]
    epochs: tuple[CommittedEpoch, ...]  # every unsealed one, in order
    observed: Observed | None  # after the last sealed epoch


def contents(ledger: Ledger, stream: str) -> StreamContents:
    """What there is of a stream."""
    s = tables.sealed.c
    with ledger.read() as connection:
        query = select(tables.sealed).where(s.stream == stream).order_by(s.until_epoch)
        sealed = connection.execute(query).all()
        epochs = committed_after(connection, stream, sealed[-1].until_epoch if sealed else 0, EVERY)
        last = epochs[-1].epoch if epochs else sealed[-1].until_epoch if sealed else 0
        rows = served_views(connection, stream)
        folded = folded_members(connection, {row.folded for row in sealed})
        return StreamContents(
            stream=stream,
            state=number(connection),
            sealed=sealed[-1].until_epoch if sealed else 0,
            position=position_of(sealed[-1]) if sealed else Position(),
            instant=sealed[-1].instant if sealed else None,
            folded=folded[sealed[-1].folded] if sealed else None,
            ranges=tuple(covered(sealed).values()),
            views={row.name: _view(connection, row, sealed, folded, last) for row in rows},
            epochs=tuple(epochs),
            observed=observed_in(sealed[-1]) if sealed else None,
        )


def _view(
    connection: Connection,
    row: ViewRow,
    sealed: list[Row[Any]] | Any,
    folded: Mapping[int, frozenset[str]],
    last: int,
) -> ViewContents:
    f, p = tables.files.c, tables.publications.c
    publication: PublicationRow | None = None
    follows: Succession | None = None
    batch: tuple[DataFile, ...] = ()
    if row.publication is not None:
        query = select(tables.publications).where(p.id == row.publication)
        publication = published_row(connection.execute(query).one())
        written: Select[Any] = select(tables.files).where(f.build == publication.id)
        listed = connection.execute(written.where(f.kind == BATCH).order_by(f.id))
        batch = tuple(data_file(each) for each in listed)
        follows = succession(connection, publication)
    building = row.being_built(last)
    # what is folded in a range is folded in every epoch of it
    after = [each for each in sealed if each.from_epoch > row.cut]
    carried = [each for each in after if row.version in folded[each.folded]]
    runs: tuple[DataFile, ...] = ()
    gap: GapBetweenLayers | None = None
    if not building and carried:
        until = carried[-1].until_epoch
        of_version: Select[Any] = select(tables.files).where(
            f.stream == row.stream,
            f.kind == RUN,
            f.version == row.version,
            f.removed_state.is_(None),
            f.from_epoch > row.cut,
            f.until_epoch <= until,
        )
        listed = connection.execute(of_version.order_by(f.from_epoch, f.id))
        runs = tuple(data_file(each) for each in listed)
        gap = _gap(row, runs, until)
    reached = max([row.cut, *(each.last for each in runs)])
    at = next((each for each in sealed if each.until_epoch == reached), None)
    return ViewContents(
        row=row,
        publication=publication,
        batch=batch,
        runs=runs,
        epoch=reached,
        position=position_of(at) if at is not None else Position(),
        instant=at.instant if at is not None else None,
        being_built=building,
        gap=gap,
        follows=follows,
    )


def _gap(row: ViewRow, runs: tuple[DataFile, ...], until: int) -> GapBetweenLayers | None:
    """The first epochs after the cut, up to `until`, that the runs of some table leave out."""
    for table in sorted({str(each.table) for each in runs}) or [""]:
        reached = row.cut
        spans = {(each.first, each.last) for each in runs if each.table == table}
        for first, last in sorted(spans):
            if first != reached + 1:
                return GapBetweenLayers(row.name, row.cut, reached + 1, first - 1)
            reached = last
        if reached != until:
            return GapBetweenLayers(row.name, row.cut, reached + 1, until)
    return None
