"""What files of a state say, put into a ledger in the place of what it had of a stream.

For a ledger that was restored from an older copy, before anybody else has seen it: all rows of the
stream's epochs and files go, and those that the files prove come. Publications whose files are not
whole, or whose cut is no sealed boundary any more, are dropped.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, insert, select, text, update

from schemas.ledger import epochs, files, replays, tables, versions
from schemas.ledger.connect import Ledger, number
from schemas.ledger.epochs import EpochCommit
from schemas.ledger.files import SEALED, SEGMENT, DataFile
from schemas.ledger.instant import aware
from schemas.ledger.replays import Place
from schemas.parquet import Origin
from schemas.position import Position, Range

# more than anybody can have gone on since the copy was made, so that no number comes twice
STATES_AHEAD = 1_000_000
TOKENS_AHEAD = 1_000


@dataclass(frozen=True)
class AdoptedRange:
    """A sealed range as its files tell it."""

    first: int
    last: int
    origin: Origin
    ranges: tuple[Range, ...]
    position: Position  # after it
    files: tuple[tuple[DataFile, int], ...]  # with the token that each was written under

    @property
    def level(self) -> int:
        """As if ten of one level had made each of the next."""
        return len(str(self.last - self.first + 1)) - 1


@dataclass(frozen=True)
class AdoptedEpoch:
    """An unsealed epoch as its segments tell it."""

    commit: EpochCommit
    position: Position  # after it


@dataclass(frozen=True)
class Readmitted:
    """An adopted epoch that holds rejects of earlier ones."""

    epoch: int
    events: int  # duplicates included
    duplicates: int


def adopt(
    ledger: Ledger,
    stream: str,
    ranges: Sequence[AdoptedRange],
    unsealed: Sequence[AdoptedEpoch],
    token: int,
) -> None:
    """Let a stream stand where its files do; `token` is the largest in any of its files' names."""
    e, r, s = tables.epochs.c, tables.ranges.c, tables.sealed.c
    f, q = tables.files.c, tables.seal_requests.c
    with ledger.write() as connection:
        connection.execute(delete(tables.ranges).where(r.stream == stream))
        connection.execute(delete(tables.epochs).where(e.stream == stream))
        connection.execute(delete(tables.sealed).where(s.stream == stream))
        connection.execute(delete(tables.seal_requests).where(q.stream == stream))
        own = (f.stream == stream) & f.kind.in_((SEGMENT, *SEALED))
        connection.execute(delete(tables.files).where(own))
        for each in ranges:
            _seal(connection, stream, each)
        for epoch in unsealed:
            epochs.adopt(connection, epoch.commit, epoch.position)
        topic_ids = [each.origin.topic_id for each in ranges]
        topic_ids += [each.commit.topic_id for each in unsealed]
        known = [each for each in topic_ids if each is not None]
        row = versions.stream_row(connection, stream)
        if known and row.topic_id is None:
            statement = update(tables.streams).where(tables.streams.c.name == stream)
            connection.execute(statement.values(topic_id=known[-1]))
        _first_epochs(connection, stream, ranges, unsealed)
        _raise(connection, epochs.lease_name(stream), token)


def add_files(ledger: Ledger, stream: str, token: int, made: Sequence[DataFile]) -> None:
    """Name files that were made anew for adopted epochs."""
    with ledger.write() as connection:
        files.add(connection, stream, token, made)


def readmit(ledger: Ledger, stream: str, found: Sequence[Readmitted], now: datetime) -> None:
    """Let adopted epochs be those of a replay, whose request is not on record any more; and forget
    those that were not adopted."""
    p, r = tables.replay_epochs.c, tables.replays
    with ledger.write() as connection:
        last = versions.last_epoch(connection, stream)
        own = p.stream == stream
        connection.execute(delete(tables.replay_epochs).where(own, p.epoch > last))
        known = set(connection.scalars(select(p.epoch).where(own)))
        new = [each for each in found if each.epoch not in known]
        if not new:
            return
        end = Place(new[-1].epoch, 0, 0)
        values = {
            "stream": stream,
            "until_epoch": end.epoch,
            **replays.columns("at", end),
            "considered": sum(each.events for each in new),
            "accepted": sum(each.events for each in new),
            "duplicates": sum(each.duplicates for each in new),
            "requested": aware(now),
            "finished": aware(now),
            "trouble": "found in the files when the ledger was restored",
        }
        number_ = connection.execute(insert(r).values(values).returning(r.c.id)).scalar_one()
        for each in new:
            connection.execute(
                insert(tables.replay_epochs).values(
                    stream=stream,
                    epoch=each.epoch,
                    replay=number_,
                    **replays.columns("after", Place()),
                    **replays.columns("until", Place(each.epoch, 0, 0)),
                    considered=each.events,
                    accepted=each.events,
                )
            )


def settle(ledger: Ledger, whole: Collection[int], build: int, now: datetime) -> dict[str, str]:
    """Let each view answer from a publication of `whole`, those whose files are all there, whose
    cut is still a boundary; view -> what became of its batch view. No build is at work, the next
    one has a number above `build`, and tokens and states are above any that was given."""
    p, b, f, v = tables.publications.c, tables.builds.c, tables.files.c, tables.views.c
    told: dict[str, str] = {}
    with ledger.write() as connection:
        cuts = _boundaries(connection)
        kept = select(tables.publications).where(p.dropped.is_(None)).order_by(p.id.desc())
        rows = connection.execute(kept).all()
        good = [row for row in rows if row.id in whole and row.cut in cuts.get(row.stream, ())]
        gone = [row.id for row in rows if row not in good]
        dropped = update(tables.publications).where(p.id.in_(gone))
        connection.execute(dropped.values(dropped=aware(now)))
        for view in connection.execute(select(tables.views)).all():
            if view.publication is None:
                continue
            if view.publication in {row.id for row in good}:
                told[view.name] = f"publication {view.publication} is served"
                continue
            own = [row for row in good if (row.view, row.version) == (view.name, view.version)]
            after = own[0].id if own else None
            connection.execute(
                update(tables.views).where(v.name == view.name).values(publication=after)
            )
            if after is None:
                told[view.name] = f"publication {view.publication} is not whole; rebuild it"
            else:
                this = update(tables.publications).where(p.id == after)
                connection.execute(this.values(replaced=None))
                told[view.name] = (
                    f"publication {after} is served, as {view.publication} is not whole"
                )
        at_work = update(tables.builds).where(b.state.in_(tables.BUILDS_AT_WORK))
        connection.execute(at_work.values(state="abandoned", changed=aware(now)))
        left = select(b.id).where((b.state != "published") | b.id.in_(gone))
        held = select(f.id).where(f.build.in_(left), f.removed_state.is_(None))
        files.remove(connection, connection.scalars(held).all(), now)
        sequence = text("UPDATE sqlite_sequence SET seq = max(seq, :n) WHERE name = 'builds'")
        if not connection.execute(sequence, {"n": build}).rowcount and build:
            start = text("INSERT INTO sqlite_sequence (name, seq) VALUES ('builds', :n)")
            connection.execute(start, {"n": build})
        for name in connection.scalars(select(tables.leases.c.name)).all():
            _raise(connection, name, 0)
        state = tables.state.c.number
        connection.execute(update(tables.state).values({state: state + STATES_AHEAD}))
    return told


def _boundaries(connection: Connection) -> dict[str, set[int]]:
    s = tables.sealed.c
    found: dict[str, set[int]] = {}
    for row in connection.execute(select(s.stream, s.until_epoch)):
        found.setdefault(row.stream, set()).add(row.until_epoch)
    return found


def _seal(connection: Connection, stream: str, each: AdoptedRange) -> None:
    origin = each.origin
    connection.execute(
        insert(tables.sealed).values(
            stream=stream,
            until_epoch=each.last,
            from_epoch=each.first,
            level=each.level,
            from_instant=_instant(origin.first_instant),
            instant=_instant(origin.instant),
            stream_version=origin.stream_version,
            topic_id=origin.topic_id,
            folded=epochs.folded_set(connection, origin.folded),
            accepted=origin.accepted,
            duplicates=origin.duplicates,
            rejected=origin.rejected,
            ranges=json.dumps({str(r.partition): [r.start, r.until] for r in each.ranges}),
            position=json.dumps(each.position.json()),
            uuid=uuid.uuid4().hex,
            added_state=number(connection),
        )
    )
    for file, token in each.files:
        files.add(connection, stream, token, [file])


def _instant(told: str) -> datetime:
    return datetime.fromisoformat(told).astimezone(UTC)


def _first_epochs(
    connection: Connection,
    stream: str,
    ranges: Sequence[AdoptedRange],
    unsealed: Sequence[AdoptedEpoch],
) -> None:
    """From which epoch on each version is carried without a hole up to the last one."""
    spans = [(each.first, frozenset(each.origin.folded)) for each in ranges]
    spans += [(each.commit.epoch, frozenset(each.commit.folded)) for each in unsealed]
    first: dict[str, int] = {}
    for epoch, folded in spans:
        first = {version: first.get(version, epoch) for version in folded}
    v = tables.versions.c
    query = select(v.view, v.id, v.suspended_epoch).where(
        v.stream == stream, v.retired_epoch.is_(None)
    )
    for row in connection.execute(query).all():
        if row.suspended_epoch is None:
            this = update(tables.versions).where(v.view == row.view, v.id == row.id)
            connection.execute(this.values(first_epoch=first.get(row.id)))


def _raise(connection: Connection, name: str, token: int) -> None:
    """Nobody holds a lease, and its next token is above all that were given."""
    le = tables.leases.c
    nobody: Mapping[str, object] = {"host": None, "pid": None, "started": None, "expires": None}
    known = connection.scalar(select(le.token).where(le.name == name))
    values = {"token": max(token, known or 0) + TOKENS_AHEAD, **nobody}
    if known is None:
        connection.execute(insert(tables.leases).values(name=name, **values))
    else:
        connection.execute(update(tables.leases).where(le.name == name).values(values))
