"""What there is of a stream's past: everything from which an answer as of an earlier epoch can be
made, in one snapshot.

    epochs   1 ... retained | ................. sealed | ......... last
             base           | master, runs             | segments
                                ^ cuts of publications that are kept
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select

from schemas.ledger import files, retention, tables
from schemas.ledger.builds import PublicationRow, published_row
from schemas.ledger.connect import Ledger
from schemas.ledger.contents import EVERY
from schemas.ledger.epochs import CommittedEpoch, committed_after, position_of
from schemas.ledger.files import BATCH, REJECTS, RUN, DataFile, data_file
from schemas.ledger.master import Master, master_in
from schemas.ledger.versions import ViewRow, served_views
from schemas.position import Position

REPAIR = "repair"


@dataclass(frozen=True)
class Sealed:
    """A sealed range of epochs."""

    first: int
    last: int
    first_instant: datetime
    instant: datetime  # of the last one
    position: Position  # after it


@dataclass(frozen=True)
class Kept:
    """A publication whose files are kept."""

    row: PublicationRow
    batch: tuple[DataFile, ...]


@dataclass(frozen=True)
class PastOfView:
    """The version of a view that answers now, and what is kept of it."""

    row: ViewRow
    publications: tuple[Kept, ...]  # to be trusted, by cut
    base: tuple[DataFile, ...]  # of the epochs that the master has not; may be none
    runs: tuple[DataFile, ...]  # to be trusted, in order

    def starts(self, retained: int) -> list[int]:
        """The epochs from which on the master leads to later ones."""
        found = [each.row.cut for each in self.publications]
        if not retained or self.base or (self.row.since_epoch or 0) > retained:
            found.append(retained)
        return sorted(found)


@dataclass(frozen=True)
class PastOfStream:
    """All of it at one state."""

    stream: str
    master: Master
    rejects: tuple[DataFile, ...]
    sealed: tuple[Sealed, ...]  # in order, from the first epoch on
    epochs: tuple[CommittedEpoch, ...]  # those that are not sealed, in order
    views: Mapping[str, PastOfView]

    @property
    def last(self) -> int:
        if self.epochs:
            return self.epochs[-1].epoch
        return self.sealed[-1].last if self.sealed else 0

    def at(self, instant: datetime) -> int:
        """The last epoch that is known to have been planned by an instant. Within a sealed range
        that is the first one of it: only of the first and the last it is on record when."""
        reached = 0
        for each in self.sealed:
            if each.first_instant <= instant:
                reached = each.last if each.instant <= instant else each.first
        for epoch in self.epochs:
            if epoch.instant <= instant:
                reached = epoch.epoch
        return reached

    def instant(self, epoch: int) -> datetime | None:
        """When an epoch was planned, or the latest time on record that is no later; None: at 0."""
        for each in self.sealed:
            if each.first <= epoch <= each.last:
                return each.instant if epoch == each.last else each.first_instant
        return next((each.instant for each in self.epochs if each.epoch == epoch), None)


def past(ledger: Ledger, stream: str) -> PastOfStream:
    """What there is of a stream and of its views."""
    s = tables.sealed.c
    with ledger.read() as connection:
        query = select(tables.sealed).where(s.stream == stream).order_by(s.until_epoch)
        rows = connection.execute(query).all()
        sealed = tuple(
            Sealed(
                first=row.from_epoch,
                last=row.until_epoch,
                first_instant=row.from_instant,
                instant=row.instant,
                position=position_of(row),
            )
            for row in rows
        )
        return PastOfStream(
            stream=stream,
            master=master_in(connection, stream),
            rejects=files.counting(connection, stream, REJECTS),
            sealed=sealed,
            epochs=tuple(
                committed_after(connection, stream, sealed[-1].last if sealed else 0, EVERY)
            ),
            views={row.name: _of_view(connection, row) for row in served_views(connection, stream)},
        )


def _of_view(connection: Connection, row: ViewRow) -> PastOfView:
    """A publication is trusted that the one that is served was built on, step by step (what a
    rollback left behind is not), and that is no earlier than the last repair among these: what was
    before it was wrong, and so may the runs be that it was built from."""
    p, f, b = tables.publications.c, tables.files.c, tables.builds.c
    built = select(b.id, b.base).where(b.view == row.name, b.version == row.version)
    bases = {each.id: each.base for each in connection.execute(built)}
    trusted, at = set[int](), row.publication
    while at is not None:
        trusted.add(at)
        at = bases.get(at)
    query = select(tables.publications).where(p.view == row.name, p.version == row.version)
    made = [
        published_row(each)
        for each in connection.execute(query.order_by(p.id))
        if each.id in trusted
    ]
    repaired = next((each for each in reversed(made) if each.kind == REPAIR), None)
    kept = []
    for each in made:
        if each.kept and (repaired is None or each.id >= repaired.id):
            written: Select[Any] = select(tables.files).where(f.build == each.id, f.kind == BATCH)
            found = connection.execute(written.order_by(f.id))
            kept.append(Kept(each, tuple(data_file(file) for file in found)))
    runs = files.counting(connection, row.stream, RUN, row.version)
    behind = 0 if repaired is None else repaired.cut
    return PastOfView(
        row=row,
        publications=tuple(kept),
        base=retention.bases(connection, row.stream, row.version),
        runs=tuple(each for each in runs if each.first > behind),
    )
