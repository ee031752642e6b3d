"""A damaged file that counts, and the one that takes its place.

A repair changes no number: what it puts in place has the rows and counts of what it replaces, and
counts for the same epochs. It needs no lease, as it is one transaction beside sealing and merging:
these refuse to replace a file that stopped counting. Its file is written under the current token of
the stream, and the transaction refuses if that has grown, since whoever took the lease may already
have removed what older tokens left unnamed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select

from schemas.errors import RepairRefused
from schemas.ledger import files, leases, tables
from schemas.ledger.connect import Ledger, number
from schemas.ledger.epochs import folded_members, lease_name, position_of
from schemas.ledger.files import DataFile, data_file
from schemas.ledger.sealing import ranges_of
from schemas.ledger.versions import StreamRow, streams
from schemas.parquet import Origin
from schemas.position import Position, Range

COUNTS = ("rows", "accepted", "duplicates", "rejected")


@dataclass(frozen=True)
class Held:
    """A file that counts, with all that its row says."""

    stream: str
    data: DataFile
    has_ids: bool
    build: int | None  # of what a build wrote


@dataclass(frozen=True)
class Span:
    """Epochs that the ledger knows as one: an unsealed epoch, or a sealed range."""

    first: int
    last: int
    sealed: bool
    first_instant: datetime  # UTC, of its first epoch
    instant: datetime  # UTC, of its last one
    stream_version: str
    topic_id: str | None
    folded: frozenset[str]
    ranges: tuple[Range, ...]  # the offsets that it covers, by partition
    position: Position  # after it
    accepted: int
    duplicates: int
    rejected: int

    @property
    def origin(self) -> Origin:
        """What a file of all its epochs says of them."""
        return Origin(
            first_instant=self.first_instant.isoformat(),
            instant=self.instant.isoformat(),
            stream_version=self.stream_version,
            topic_id=self.topic_id,
            folded=tuple(sorted(self.folded)),
            accepted=self.accepted,
            duplicates=self.duplicates,
            rejected=self.rejected,
        )


def counting(ledger: Ledger) -> list[Held]:
    """Every data file that counts, by stream in the order of epochs."""
    f = tables.files.c
    query = select(tables.files).where(f.removed_state.is_(None))
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(f.stream, f.from_epoch, f.until_epoch, f.id))
        return [Held(row.stream, data_file(row), bool(row.has_ids), row.build) for row in rows]


def counts(ledger: Ledger, path: str) -> bool:
    """Whether a file counts at this moment."""
    f = tables.files.c
    query = select(f.id).where(f.path == path, f.removed_state.is_(None))
    with ledger.read() as connection:
        return connection.execute(query).first() is not None


def spans(ledger: Ledger, stream: str) -> list[Span]:
    """Every sealed range and unsealed epoch of a stream, in order."""
    s, e, r = tables.sealed.c, tables.epochs.c, tables.ranges.c
    with ledger.read() as connection:
        sealed = connection.execute(
            select(tables.sealed).where(s.stream == stream).order_by(s.until_epoch)
        ).all()
        epochs = connection.execute(
            select(tables.epochs).where(e.stream == stream).order_by(e.epoch)
        ).all()
        folded = folded_members(connection, {row.folded for row in (*sealed, *epochs)})
        moved: dict[int, list[Range]] = {}
        for row in connection.execute(
            select(tables.ranges).where(r.stream == stream).order_by(r.epoch, r.partition)
        ):
            moved.setdefault(row.epoch, []).append(Range(row.partition, row.start, row.until))
    found = [
        Span(
            row.from_epoch,
            row.until_epoch,
            True,
            row.from_instant,
            row.instant,
            row.stream_version,
            row.topic_id,
            folded[row.folded],
            ranges_of(row),
            position_of(row),
            row.accepted,
            row.duplicates,
            row.rejected,
        )
        for row in sealed
    ]
    return found + [
        Span(
            row.epoch,
            row.epoch,
            False,
            row.instant,
            row.instant,
            row.stream_version,
            row.topic_id,
            folded[row.folded],
            tuple(moved.get(row.epoch, ())),
            position_of(row),
            row.accepted,
            row.duplicates,
            row.rejected,
        )
        for row in epochs
    ]


def stream_as(ledger: Ledger, stream: str, version: str) -> StreamRow:
    """A stream as it was declared in one of its versions."""
    (row,) = (each for each in streams(ledger) if each.name == stream)
    return dataclasses.replace(row, version=version, definition=dict(row.declared)[version])


def views_of(ledger: Ledger, versions: Sequence[str]) -> Mapping[str, tuple[str, bool]]:
    """Version id -> its view, and whether it was given up."""
    v = tables.versions.c
    with ledger.read() as connection:
        rows = connection.execute(select(v.view, v.id, v.retired_epoch).where(v.id.in_(versions)))
        return {row.id: (row.view, row.retired_epoch is not None) for row in rows}


def token(ledger: Ledger, stream: str) -> int:
    """The token to write under."""
    with ledger.read() as connection:
        return leases.current(connection, lease_name(stream)).token


def replace(
    ledger: Ledger,
    stream: str,
    under: int,
    old: Sequence[str],
    new: DataFile,
    now: datetime,
) -> int:
    """Let a file count in the place of damaged ones (paths), of which there is mostly one; gives
    the new state number.

    Raises `RepairRefused`, and nothing is changed, where the old ones do not all count any more,
    where the new one is of other epochs, another kind, version or table or has other counts, and
    where it was written `under` a token that has grown since.
    """
    f = tables.files.c
    with ledger.write() as connection:
        current = leases.current(connection, lease_name(stream)).token
        if current != under:
            message = f"token {under} of the stream has grown to {current}; try again"
            raise RepairRefused(new.file.path, message)
        query = select(tables.files).where(
            f.stream == stream, f.path.in_(old), f.removed_state.is_(None)
        )
        rows = connection.execute(query.order_by(f.id)).all()
        if len(rows) != len(set(old)) or not rows:
            message = "what it takes the place of does not count any more; try again"
            raise RepairRefused(new.file.path, message)
        for row in rows:
            expected = (row.kind, row.from_epoch, row.until_epoch, row.version, row.partials)
            made = (new.kind, new.first, new.last, new.version, new.table)
            if expected != made:
                raise RepairRefused(new.file.path, f"it must be {expected}; got {made}")
        for name in COUNTS:
            wanted, got = sum(getattr(row, name) for row in rows), getattr(new, name)
            if wanted != got:
                message = f"{name} must be {wanted}, as the ledger has it; got {got}"
                raise RepairRefused(new.file.path, message)
        files.remove(connection, [row.id for row in rows], now)
        at = number(connection)
        connection.execute(
            insert(tables.files).values(
                kind=new.kind,
                stream=stream,
                from_epoch=new.first,
                until_epoch=new.last,
                path=new.file.path,
                sha256=new.file.sha256,
                bytes=new.file.bytes,
                rows=new.rows,
                accepted=new.accepted,
                duplicates=new.duplicates,
                rejected=new.rejected,
                has_ids=any(row.has_ids for row in rows),
                version=new.version,
                partials=new.table,
                token=under,
                added_state=at,
            )
        )
        return at
