"""Where the rejects of a stream lie, which epochs re-admitted some, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update

from schemas.ledger import files, leases, replays, tables, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.contents import EVERY
from schemas.ledger.epochs import CommittedEpoch, committed_after, lease_name
from schemas.ledger.files import MASTER, REJECTS, DataFile
from schemas.ledger.instant import aware
from schemas.ledger.replays import Place, Replay, ReplayPart
from schemas.ledger.sealing import last_sealed


@dataclass(frozen=True)
class ReplayEpoch:
    """An epoch of a replay, and between which places the rejects stand that it re-admitted."""

    epoch: int
    after: Place
    until: Place  # included


@dataclass(frozen=True)
class Sources:
    """Where to read, all as of one state."""

    sealed: tuple[DataFile, ...] = ()  # files of rejects, in order
    epochs: tuple[CommittedEpoch, ...] = ()  # unsealed, with rejects or of a replay, in order
    replays: tuple[ReplayEpoch, ...] = ()
    master: tuple[DataFile, ...] = ()  # files of the master that hold epochs of replays

    def replays_beyond(self, place: Place) -> tuple[ReplayEpoch, ...]:
        """Those that re-admitted what stands behind a place, or may have."""
        return tuple(each for each in self.replays if each.until > place)


def sources(ledger: Ledger, stream: str) -> Sources:
    """Everything that was rejected. Raises `StreamUnknown`."""
    r = tables.replay_epochs.c
    with ledger.read() as connection:
        versions.stream_row(connection, stream)
        query = select(tables.replay_epochs).where(r.stream == stream).order_by(r.epoch)
        replayed = tuple(
            ReplayEpoch(
                row.epoch,
                Place(row.after_epoch, row.after_partition, row.after_offset),
                Place(row.until_epoch, row.until_partition, row.until_offset),
            )
            for row in connection.execute(query)
        )
        sealed = files.counting(connection, stream, REJECTS)
        master = files.counting(connection, stream, MASTER)
        unsealed = committed_after(connection, stream, last_sealed(connection, stream), EVERY)
    of_replays = {each.epoch for each in replayed}
    return Sources(
        sealed=sealed,
        epochs=tuple(each for each in unsealed if each.rejected or each.epoch in of_replays),
        replays=replayed,
        master=tuple(
            each for each in master if any(each.first <= e <= each.last for e in of_replays)
        ),
    )


def ask(ledger: Ledger, stream: str, now: datetime) -> Replay:
    """Ask whoever streams to try every reject again. Raises `StreamUnknown`."""
    with ledger.write() as connection:
        versions.stream_row(connection, stream)
        start = Place()
        values = {
            "stream": stream,
            "until_epoch": versions.last_epoch(connection, stream),
            "at_epoch": start.epoch,
            "at_partition": start.partition,
            "at_offset": start.offset,
            "requested": aware(now),
        }
        statement = insert(tables.replays).values(values).returning(tables.replays.c.id)
        return replays.row(connection, int(connection.execute(statement).scalar_one()))


def asked(ledger: Ledger, stream: str) -> Replay | None:
    """The oldest replay that is not finished."""
    r = tables.replays.c
    query = select(tables.replays).where(r.stream == stream, r.finished.is_(None))
    with ledger.read() as connection:
        found = connection.execute(query.order_by(r.id).limit(1)).first()
        return None if found is None else replays.of(found)


def replayed(ledger: Ledger, stream: str) -> bool:
    """Whether a replay of a stream's rejects was ever asked for."""
    r = tables.replays.c
    with ledger.read() as connection:
        return connection.scalar(select(r.id).where(r.stream == stream).limit(1)) is not None


def replay(ledger: Ledger, number: int) -> Replay:
    """A replay as it stands now."""
    with ledger.read() as connection:
        return replays.row(connection, number)


def move(ledger: Ledger, stream: str, token: int, part: ReplayPart, now: datetime) -> None:
    """Go on behind a part of which nothing was accepted. Raises `StaleToken`, `ReplayMoved`."""
    with ledger.write() as connection:
        leases.check(connection, lease_name(stream), token)
        replays.record(connection, stream, part, aware(now), None)


def give_up(
    ledger: Ledger, stream: str, token: int, number: int, trouble: str, now: datetime
) -> None:
    """End a replay before its end. Raises `StaleToken`."""
    r = tables.replays.c
    with ledger.write() as connection:
        leases.check(connection, lease_name(stream), token)
        values = {"finished": aware(now), "trouble": trouble}
        connection.execute(update(tables.replays).where(r.id == number).values(values))
