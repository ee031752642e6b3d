"""Replays: rejects that somebody asked to be tried again under the stream's declaration of now.

    request -> a part: some rejects behind the cursor -> an epoch of its own, without offsets
                 ^                                          | in the same transaction
                 '---- the cursor moves behind the part <---'

What was re-admitted is what the master has under the epochs of replays; the rejects stay as they
are. The cursor alone says how far a replay came, so one that was killed goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, insert, select, update

from schemas.errors import ReplayMoved
from schemas.ledger import tables


@dataclass(frozen=True, order=True)
class Place:
    """Where a reject stands among all of its stream. The place without arguments is before all."""

    epoch: int = 0
    partition: int = -1
    offset: int = -1


@dataclass(frozen=True)
class Replay:
    """A replay as the ledger has it."""

    id: int
    stream: str
    until: int  # the last epoch whose rejects it is about
    cursor: Place  # everything up to it was considered
    considered: int  # rejects that were tried again
    accepted: int  # of these, duplicates included
    duplicates: int
    finished: datetime | None  # None while there is more to do
    trouble: str | None  # why it ended before its end


@dataclass(frozen=True)
class ReplayPart:
    """What was tried at once, and what came of it."""

    replay: int
    after: Place
    until: Place
    considered: int
    accepted: int
    duplicates: int
    last: bool  # nothing is left


def record(
    connection: Connection, stream: str, part: ReplayPart, now: datetime, epoch: int | None
) -> None:
    """Move a replay behind a part, in the transaction that commits its epoch, if it came to one.
    Raises `ReplayMoved` where it does not stand before that part."""
    r = tables.replays.c
    found = row(connection, part.replay)
    if found.finished is not None or found.cursor != part.after:
        raise ReplayMoved(stream, part.replay, str(part.after), str(found.cursor))
    values = {
        **columns("at", part.until),
        "considered": found.considered + part.considered,
        "accepted": found.accepted + part.accepted,
        "duplicates": found.duplicates + part.duplicates,
        "finished": now if part.last else None,
    }
    connection.execute(update(tables.replays).where(r.id == part.replay).values(values))
    if epoch is not None:
        connection.execute(
            insert(tables.replay_epochs).values(
                stream=stream,
                epoch=epoch,
                replay=part.replay,
                **columns("after", part.after),
                **columns("until", part.until),
                considered=part.considered,
                accepted=part.accepted,
            )
        )


def row(connection: Connection, replay: int) -> Replay:
    """A replay inside another transaction."""
    query = select(tables.replays).where(tables.replays.c.id == replay)
    return of(connection.execute(query).one())


def of(found: Row[tuple[object, ...]]) -> Replay:
    """A row of `replays`."""
    return Replay(
        id=found.id,
        stream=found.stream,
        until=found.until_epoch,
        cursor=Place(found.at_epoch, found.at_partition, found.at_offset),
        considered=found.considered,
        accepted=found.accepted,
        duplicates=found.duplicates,
        finished=found.finished,
        trouble=found.trouble,
    )


def columns(name: str, place: Place) -> dict[str, int]:
    """A place as the columns of that name."""
    return {
        f"{name}_epoch": place.epoch,
        f"{name}_partition": place.partition,
        f"{name}_offset": place.offset,
    }
