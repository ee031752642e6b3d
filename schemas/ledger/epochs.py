"""Whole epochs: committed in one transaction, or not at all (invariant 2).

What an epoch costs does not depend on how many there were: the last epoch's row holds the position
after it, and every look-up goes by an index.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, Table, func, insert, select, update

from schemas.errors import EpochNotNext, VersionsDiffer
from schemas.failpoints import failpoint
from schemas.ledger import leases, replays, tables, versions
from schemas.ledger.connect import Ledger, number
from schemas.ledger.files import SEGMENT
from schemas.ledger.instant import aware
from schemas.ledger.replays import ReplayPart
from schemas.observed import Epoch, Observed
from schemas.position import Position, Range
from schemas.stored_file import StoredFile


@dataclass(frozen=True)
class Progress:
    """Where a stream stands: its last epoch (0 before the first) and what follows from it."""

    stream: str
    epoch: int
    position: Position
    topic_id: str | None  # None until the topic was seen
    instant: datetime | None  # UTC; None before the first epoch
    observed: Observed | None = None  # after it; None before the first epoch that tells it


@dataclass(frozen=True)
class SegmentFile:
    """A task's segment, and how many events of each kind are in it."""

    file: StoredFile
    rows: int  # accepted and rejected
    accepted: int  # duplicates included
    duplicates: int
    rejected: int
    has_ids: bool


@dataclass(frozen=True)
class EpochCommit:
    """All that a finished epoch is: what the driver asks the ledger to make true."""

    stream: str
    epoch: int
    instant: datetime  # aware; not before that of the epoch before
    token: int  # of the lease `stream/<name>`
    stream_version: str
    topic_id: str | None
    ranges: tuple[Range, ...]
    segments: tuple[SegmentFile, ...]
    folded: tuple[str, ...]  # version ids
    suspended: tuple[tuple[str, str], ...]  # (version id, message), from this epoch on
    uuid: str  # made once per epoch that is planned, kept when its commit is repeated
    replay: ReplayPart | None = None  # what it re-admits: then it covers no offsets
    observed: Epoch | None = None  # of event times and rejects; None: nothing new

    def __post_init__(self) -> None:
        aware(self.instant)


@dataclass(frozen=True)
class CommittedEpoch:
    """An epoch as the ledger has it."""

    stream: str
    epoch: int
    instant: datetime  # UTC
    ranges: tuple[Range, ...]  # one per partition, by partition
    segments: tuple[SegmentFile, ...]  # in the order in which they were committed
    folded: frozenset[str]
    accepted: int
    duplicates: int
    rejected: int
    position: Position  # after it
    stream_version: str
    topic_id: str | None
    observed: Observed | None = None  # after it; None where it was not told yet


@dataclass(frozen=True)
class News:
    """What happened since; all of it is true at `state`. What a stream's epochs follow without a
    hole is the known epoch, or `sealed` where that is later."""

    state: int
    epochs: dict[str, list[CommittedEpoch]]  # by stream; an empty list where there is nothing new
    sealed: dict[str, int]  # by stream: the last epoch that is sealed; 0 where none is


def lease_name(stream: str) -> str:
    """The lease under which a stream's epochs are committed."""
    return f"stream/{stream}"


def progress(ledger: Ledger, stream: str) -> Progress:
    """Where to go on. Raises `StreamUnknown`."""
    with ledger.read() as connection:
        return progress_in(connection, stream)


def progress_in(connection: Connection, stream: str) -> Progress:
    """`progress` inside another transaction."""
    topic_id = versions.stream_row(connection, stream).topic_id
    e = tables.epochs.c
    query = select(tables.epochs).where(e.stream == stream).order_by(e.epoch.desc()).limit(1)
    last = connection.execute(query).first()
    if last is not None:
        at, told = position_of(last), observed_in(last)
        return Progress(stream, last.epoch, at, topic_id, last.instant, told)
    s = tables.sealed.c
    ranges = select(tables.sealed).where(s.stream == stream).order_by(s.until_epoch.desc()).limit(1)
    last = connection.execute(ranges).first()
    if last is None:
        return Progress(stream, 0, Position(), topic_id, None)
    at, told = position_of(last), observed_in(last)
    return Progress(stream, last.until_epoch, at, topic_id, last.instant, told)


def commit_epoch(ledger: Ledger, commit: EpochCommit) -> int:
    """Commit an epoch whole; gives the state number that has it.

    Durable when it returns. A repeat of a commit that went through is recognised by its uuid and
    gives the number of the first time. Nothing is changed if any of these is raised:

    - `StaleToken`: the lease is somebody else's by now, so stop writing
    - `EpochNotNext`, `RangeNotContiguous`: number, instant or a range does not follow the last
    - `TopicRecreated`: the ranges belong to another topic of that name
    - `VersionsDiffer`: other versions are registered by now, so plan the epoch anew
    - `ReplayMoved`: the replay does not stand where the epoch's part begins
    """
    with ledger.write() as connection:
        repeated = _committed_as(connection, commit)
        if repeated is not None:
            return repeated
        leases.check(connection, lease_name(commit.stream), commit.token)
        last = progress_in(connection, commit.stream)
        _must_follow(commit, last)
        if commit.topic_id is not None:
            versions.same_topic(connection, commit.stream, commit.topic_id)
        _must_carry_registered(connection, commit)
        observed = observed_after(last, commit)
        _write(connection, commit, last.position.advance(commit.ranges), observed)
        failpoint("epoch.in_commit")
        return number(connection)


def observed_after(last: Progress, commit: EpochCommit) -> Observed | None:
    """What was seen up to an epoch that follows."""
    if commit.observed is None:
        return last.observed
    return (last.observed or Observed()).advance(commit.instant, commit.observed)


def epochs_after(ledger: Ledger, stream: str, epoch: int, limit: int) -> list[CommittedEpoch]:
    """At most `limit` epochs that follow `epoch` and are not sealed, in order, all as of one state.

    The first is not `epoch + 1` where that one was sealed since.
    """
    with ledger.read() as connection:
        return committed_after(connection, stream, epoch, limit)


def news(ledger: Ledger, known: Mapping[str, int], limit: int) -> News:
    """What follows the last known epoch of each stream, at most `limit` each, as of one state."""
    with ledger.read() as connection:
        found = {
            name: committed_after(connection, name, epoch, limit) for name, epoch in known.items()
        }
        sealed = {name: _last_sealed(connection, name) for name in known}
        return News(number(connection), found, sealed)


def adopt(connection: Connection, commit: EpochCommit, position: Position) -> None:
    """Write an epoch that was committed to a ledger that is lost. Inside another transaction."""
    _write(connection, commit, position)


def folded_set(connection: Connection, folded: Iterable[str]) -> int:
    """The id of a set of versions, inside another transaction."""
    return _folded_set(connection, folded)


def _last_sealed(connection: Connection, stream: str) -> int:
    s = tables.sealed.c
    return int(connection.scalar(select(func.max(s.until_epoch)).where(s.stream == stream)) or 0)


def _committed_as(connection: Connection, commit: EpochCommit) -> int | None:
    e = tables.epochs.c
    query = select(e.stream, e.epoch, e.added_state).where(e.uuid == commit.uuid)
    row = connection.execute(query).first()
    if row is None:
        s = tables.sealed.c
        since = select(s.stream, s.until_epoch.label("epoch"), s.added_state)
        row = connection.execute(since.where(s.uuid == commit.uuid)).first()
    if row is None:
        return None
    if (row.stream, row.epoch) != (commit.stream, commit.epoch):
        expected = f"epoch {row.epoch} of {row.stream!r}, which has uuid {commit.uuid}"
        raise EpochNotNext(commit.stream, expected, f"epoch {commit.epoch} under that uuid")
    return int(row.added_state)


def _must_follow(commit: EpochCommit, last: Progress) -> None:
    if commit.epoch != last.epoch + 1:
        raise EpochNotNext(commit.stream, f"number {last.epoch + 1}", f"number {commit.epoch}")
    if last.instant is not None and commit.instant < last.instant:
        expected = f"at or after {last.instant.isoformat()}"
        raise EpochNotNext(commit.stream, expected, commit.instant.isoformat())


def _must_carry_registered(connection: Connection, commit: EpochCommit) -> None:
    accepts = versions.stream_row(connection, commit.stream).version
    if accepts != commit.stream_version:
        raise VersionsDiffer(commit.stream, [accepts], [commit.stream_version])
    registered = versions.to_fold(connection, commit.stream)
    suspended = {version for version, _ in commit.suspended}
    carried = suspended.union(commit.folded)
    if carried != registered or suspended.intersection(commit.folded):
        raise VersionsDiffer(commit.stream, sorted(registered), commit.folded)


def _write(
    connection: Connection,
    commit: EpochCommit,
    position: Position,
    observed: Observed | None = None,
) -> None:
    at = number(connection)
    connection.execute(
        insert(tables.epochs).values(
            stream=commit.stream,
            epoch=commit.epoch,
            instant=commit.instant,
            token=commit.token,
            uuid=commit.uuid,
            stream_version=commit.stream_version,
            topic_id=commit.topic_id,
            folded=_folded_set(connection, commit.folded),
            accepted=sum(segment.accepted for segment in commit.segments),
            duplicates=sum(segment.duplicates for segment in commit.segments),
            rejected=sum(segment.rejected for segment in commit.segments),
            position=json.dumps(position.json()),
            added_state=at,
            observed=None if observed is None else observed.json(),
        )
    )
    _insert_all(connection, tables.ranges, _range_rows(commit))
    _insert_all(connection, tables.files, [_file_row(commit, each, at) for each in commit.segments])
    _mark_versions(connection, commit)
    if commit.replay is not None:
        replays.record(connection, commit.stream, commit.replay, commit.instant, commit.epoch)


def _range_rows(commit: EpochCommit) -> list[dict[str, object]]:
    """One row per partition: ranges of one partition follow each other, so they are one."""
    by_partition: dict[int, list[Range]] = defaultdict(list)
    for each in commit.ranges:
        by_partition[each.partition].append(each)
    return [
        {
            "stream": commit.stream,
            "epoch": commit.epoch,
            "partition": partition,
            "start": parts[0].start,
            "until": parts[-1].until,
        }
        for partition, parts in sorted(by_partition.items())
    ]


def _file_row(commit: EpochCommit, segment: SegmentFile, at: int) -> dict[str, object]:
    return {
        "kind": SEGMENT,
        "stream": commit.stream,
        "from_epoch": commit.epoch,
        "until_epoch": commit.epoch,
        "path": segment.file.path,
        "sha256": segment.file.sha256,
        "bytes": segment.file.bytes,
        "rows": segment.rows,
        "accepted": segment.accepted,
        "duplicates": segment.duplicates,
        "rejected": segment.rejected,
        "has_ids": segment.has_ids,
        "token": commit.token,
        "added_state": at,
    }


def _insert_all(connection: Connection, table: Table, rows: list[dict[str, object]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _folded_set(connection: Connection, folded: Iterable[str]) -> int:
    """The id of a set of versions, which is stored once however many epochs carry it."""
    members = sorted(set(folded))
    digest = hashlib.sha256(json.dumps(members).encode()).hexdigest()
    s = tables.folded_sets.c
    found = connection.scalar(select(s.id).where(s.digest == digest))
    if found is not None:
        return int(found)
    insertion = insert(tables.folded_sets).values(digest=digest).returning(s.id)
    added = int(connection.execute(insertion).scalar_one())
    rows: list[dict[str, object]] = [{"folded": added, "version": each} for each in members]
    _insert_all(connection, tables.folded_versions, rows)
    return added


def _mark_versions(connection: Connection, commit: EpochCommit) -> None:
    """The first epoch of versions folded first now; the suspension of those that failed in it."""
    v = tables.versions.c
    of_stream = update(tables.versions).where(v.stream == commit.stream)
    new = v.first_epoch.is_(None) & v.retired_epoch.is_(None) & v.id.in_(commit.folded)
    connection.execute(of_stream.where(new).values(first_epoch=commit.epoch))
    for version, message in commit.suspended:
        values = {"suspended_epoch": commit.epoch, "suspended_message": message}
        connection.execute(of_stream.where(v.id == version).values(values))


def committed_after(
    connection: Connection, stream: str, epoch: int, limit: int
) -> list[CommittedEpoch]:
    """`epochs_after` inside another transaction."""
    e = tables.epochs.c
    query = select(tables.epochs).where(e.stream == stream, e.epoch > epoch)
    rows = connection.execute(query.order_by(e.epoch).limit(limit)).all()
    if not rows:
        return []
    first, last = rows[0].epoch, rows[-1].epoch
    ranges = _ranges(connection, stream, first, last)
    segments = _segments(connection, stream, first, last)
    folded = folded_members(connection, {row.folded for row in rows})
    return [
        CommittedEpoch(
            stream=stream,
            epoch=row.epoch,
            instant=row.instant,
            ranges=tuple(ranges[row.epoch]),
            segments=tuple(segments[row.epoch]),
            folded=folded[row.folded],
            accepted=row.accepted,
            duplicates=row.duplicates,
            rejected=row.rejected,
            position=position_of(row),
            stream_version=row.stream_version,
            topic_id=row.topic_id,
            observed=observed_in(row),
        )
        for row in rows
    ]


def _ranges(connection: Connection, stream: str, first: int, last: int) -> dict[int, list[Range]]:
    r = tables.ranges.c
    query = select(tables.ranges).where(r.stream == stream, r.epoch.between(first, last))
    found: dict[int, list[Range]] = defaultdict(list)
    for row in connection.execute(query.order_by(r.epoch, r.partition)):
        found[row.epoch].append(Range(row.partition, row.start, row.until))
    return found


def _segments(
    connection: Connection, stream: str, first: int, last: int
) -> dict[int, list[SegmentFile]]:
    f = tables.files.c
    query = (
        select(tables.files)
        .where(f.stream == stream, f.kind == SEGMENT, f.from_epoch.between(first, last))
        .where(f.removed_state.is_(None))
        .order_by(f.from_epoch, f.id)
    )
    found: dict[int, list[SegmentFile]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.from_epoch].append(_segment_file(row))
    return found


def _segment_file(row: Row[tuple[object, ...]]) -> SegmentFile:
    return SegmentFile(
        file=StoredFile(row.path, row.sha256, row.bytes),
        rows=row.rows,
        accepted=row.accepted,
        duplicates=row.duplicates,
        rejected=row.rejected,
        has_ids=row.has_ids,
    )


def folded_members(connection: Connection, sets: Iterable[int]) -> dict[int, frozenset[str]]:
    """The version ids in each of these folded sets."""
    m = tables.folded_versions.c
    members: dict[int, list[str]] = {each: [] for each in sets}
    query = select(m.folded, m.version).where(m.folded.in_(members))
    for row in connection.execute(query):
        members[row.folded].append(row.version)
    return {each: frozenset(found) for each, found in members.items()}


def position_of(row: Row[tuple[object, ...]]) -> Position:
    """The position in a row of `epochs` or `sealed`."""
    return Position.from_json(json.loads(row.position))


def observed_in(row: Row[tuple[object, ...]]) -> Observed | None:
    """What was seen of event times up to a row of `epochs` or `sealed`."""
    return None if row.observed is None else Observed.from_json(row.observed)
