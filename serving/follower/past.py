"""An answer as of an earlier epoch: what it is made from, as data that can be sent to the process
that makes it.

    epochs   1 ................ start | ..... whole ranges ..... | .. E .... | unsealed .. E
             batch view, or base      | runs; else the master    | master    | segments

The start is the newest publication that is kept and reaches no further than E, else what retention
left. What follows is merged from runs where these end at or before E; where they were merged past
it, or are not to be had, rows of the master up to E are folded again. Every file is checked first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template

from schemas import engine, registered
from schemas.bound import Bound
from schemas.compile import CompiledRaw, CompiledView
from schemas.engine import Engine
from schemas.errors import EverviewError
from schemas.ledger import versions
from schemas.ledger.builds import PublicationRow
from schemas.ledger.connect import Ledger
from schemas.ledger.epochs import CommittedEpoch
from schemas.ledger.files import DataFile
from schemas.ledger.master import MasterFile
from schemas.ledger.past import PastOfStream, PastOfView, Sealed, past
from schemas.ledger.versions import StreamRow
from schemas.position import Position
from schemas.storage import DataRoot, Stamp, readable, stamp
from serving.coverage import Coverage, StreamCoverage, iso, kept_from
from serving.envelope import Code, RequestError
from serving.worker.batch import CheckedFile, checked
from serving.worker.guard import Relation
from serving.worker.laid import LaidFile
from serving.worker.raw import RawFile

AsOf = int | str
Stamps = Mapping[str, Stamp]  # of files that were checked, by path
MEMORY = "256MB"  # of the engine that reads how far an epoch came

_REACHED = Template(
    "SELECT _partition, max(_offset) + 1 FROM $source WHERE _epoch <= $epoch GROUP BY _partition"
)


@dataclass(frozen=True)
class Fold:
    """Epochs that are folded again from checked files of the master."""

    first: int
    last: int
    files: tuple[tuple[MasterFile, Path], ...]


@dataclass(frozen=True)
class PastView:
    """A version of a view, as it was."""

    compiled: CompiledView
    coverage: Coverage
    publication: PublicationRow | None
    bounds: tuple[Bound, ...]
    position: Position
    instant: datetime | None
    batch: tuple[CheckedFile, ...]
    partials: tuple[CheckedFile, ...]  # a base and runs
    folds: tuple[Fold, ...]
    epochs: tuple[CommittedEpoch, ...]  # whose segments have its partials
    again: tuple[CommittedEpoch, ...]  # those that have not


@dataclass(frozen=True)
class PastRaw:
    """The events of a stream, as they were."""

    compiled: CompiledRaw
    epoch: int
    files: tuple[RawFile, ...]
    epochs: tuple[CommittedEpoch, ...]


@dataclass(frozen=True)
class Past:
    """What the relations of a statement were."""

    root: DataRoot
    views: tuple[PastView, ...]
    raws: tuple[PastRaw, ...]
    streams: tuple[StreamCoverage, ...]  # of `raws`


def describe(
    ledger: Ledger,
    root: DataRoot,
    relations: Sequence[Relation],
    as_of: AsOf,
    known: Stamps,
    now: datetime,
) -> Past:
    """What a statement that reads these relations is to be answered from. Files of the master whose
    stamps are `known`, by path, are not read again.

    Raises `RequestError` for relations that had no past, an epoch or a time that is to come, and an
    epoch that is too far back; `DamagedFile`, also for what was removed since the ledger was read.
    """
    wanted = _wanted(ledger, relations)
    if isinstance(as_of, int) and len(wanted) > 1:
        message = (
            "as_of must be a time for a statement that reads several streams, each of which has "
            f"epochs of its own; got epoch {as_of}, and {', '.join(sorted(wanted))}"
        )
        raise RequestError(Code.BAD_REQUEST, message)
    when = as_of if isinstance(as_of, int) else _instant(as_of)
    if isinstance(when, datetime) and when > now:
        message = f"as_of must be a time that has been; got {as_of!r}, and it is {iso(now)}"
        raise RequestError(Code.BAD_REQUEST, message)
    views: list[PastView] = []
    raws: list[PastRaw] = []
    streams: list[StreamCoverage] = []
    for name, asked in wanted.items():
        found = past(ledger, name)
        epoch = when if isinstance(when, int) else found.at(when)
        if not 0 <= epoch <= found.last:
            message = (
                f"as_of must be an epoch from 0 to {found.last}, the last one of stream {name!r}; "
                f"got {epoch}"
            )
            raise RequestError(Code.BAD_REQUEST, message)
        reader = _Reader(root, asked.row, found, known)
        views += [reader.view(view, epoch) for view in asked.views]
        if asked.raw:
            raws.append(reader.raw(epoch))
            streams.append(reader.coverage(epoch))
    return Past(root, tuple(views), tuple(raws), tuple(streams))


@dataclass
class _Wanted:
    """What a statement reads of one stream."""

    row: StreamRow
    views: list[str]
    raw: bool = False


def _wanted(ledger: Ledger, relations: Iterable[Relation]) -> dict[str, _Wanted]:
    """By stream; refuses what has no past."""
    streams = {row.name: row for row in versions.streams(ledger)}
    views = {row.name.lower(): row for row in versions.views(ledger)}
    by_name = {name.lower(): name for name in streams}
    found: dict[str, _Wanted] = {}

    def of(stream: str) -> _Wanted:
        return found.setdefault(stream, _Wanted(streams[stream], []))

    for relation in relations:
        schema, name = ("", *relation.path)[-2:]
        if len(relation.path) == 1 and name.lower() in views:
            row = views[name.lower()]
            if row.name not in of(row.stream).views:
                of(row.stream).views.append(row.name)
        elif len(relation.path) == 2 and schema.lower() == "raw" and name.lower() in by_name:
            of(by_name[name.lower()]).raw = True
        elif len(relation.path) == 2 and schema.lower() == "everview":
            message = (
                f"relation {relation.name!r} must be a view or raw.<stream> in a statement with "
                "as_of: what the schema everview tells is kept as it is now alone"
            )
            raise RequestError(Code.BAD_REQUEST, message, relation.place)
        else:
            there = ", ".join(
                [*(row.name for row in views.values()), *(f"raw.{s}" for s in streams)]
            )
            message = f"name {relation.name!r} must be a view or a stream; there is: {there}"
            raise RequestError(Code.UNKNOWN_VIEW, message, relation.place)
    return found


def _instant(text: str) -> datetime:
    """ISO 8601; no zone means UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"as_of must be an epoch or a time of ISO 8601; got {text!r}"
        raise RequestError(Code.BAD_REQUEST, message) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


class _Reader:
    """One stream's past, read file by file."""

    def __init__(self, root: DataRoot, row: StreamRow, found: PastOfStream, known: Stamps) -> None:
        self._root, self._row, self._found, self._known = root, row, found, known
        self._checked: dict[str, Path] = {}
        self._positions: dict[int, Position] = {}

    def view(self, name: str, epoch: int) -> PastView:
        """A view as of an epoch; one that was suspended by then, as of the epoch before that."""
        told, stream = self._found.views[name], self._found
        compiled = self._compiled(told)
        degraded = None
        if told.row.suspended_epoch is not None and epoch >= told.row.suspended_epoch:
            epoch = told.row.suspended_epoch - 1
            degraded = f"suspended at epoch {epoch + 1}: {told.row.suspended_message}"
        starts = told.starts(stream.master.retained)
        self._must_reach(f"view {name!r}", starts, epoch)
        start = max(each for each in starts if each <= epoch)
        kept = next((k for k in reversed(told.publications) if k.row.cut == start), None)
        base = () if kept is not None else told.base
        pieces = _pieces(stream, told, compiled, start, min(epoch, stream.master.until))
        runs = [each for piece in pieces for each in piece.runs]
        unsealed = [each for each in stream.epochs if each.epoch <= epoch]
        position, instant = self._position(epoch), stream.instant(epoch)
        return PastView(
            compiled=compiled,
            coverage=Coverage(
                view=name,
                version=compiled.version,
                stream=stream.stream,
                cut=0 if kept is None else start,
                epoch=epoch,
                position=position.json(),
                fresh_as_of=iso(instant),
                degraded=degraded,
                waits=None,
                publication=None if kept is None else kept.row.id,
                published=None if kept is None else iso(kept.row.published),
                lost=self._row.lost_below(position),
                since=told.row.since_epoch,
                kept_from=kept_from(told.row.bounds, compiled.time_keys),
            ),
            publication=None if kept is None else kept.row,
            bounds=told.row.bounds,
            position=position,
            instant=instant,
            batch=tuple(checked(self._root, compiled, kept.batch)) if kept is not None else (),
            partials=tuple(checked(self._root, compiled, [*base, *runs])),
            folds=tuple(self._fold(piece) for piece in pieces if not piece.runs),
            epochs=tuple(each for each in unsealed if compiled.version in each.folded),
            again=tuple(each for each in unsealed if compiled.version not in each.folded),
        )

    def raw(self, epoch: int) -> PastRaw:
        """The events that counted as of an epoch, as far as they are not removed."""
        master = self._found.master
        self._must_reach(f"raw.{self._found.stream}", [master.retained], epoch)
        master.must_be_whole()
        files = []
        for each in master.files:
            if each.data.first <= epoch:
                path = self._check(each.data)
                file = LaidFile(each.data.file.path, path, stamp(path))
                files.append(RawFile(file, each.stream_version))
        unsealed = tuple(each for each in self._found.epochs if each.epoch <= epoch)
        try:
            compiled = registered.raw(self._row)
        except EverviewError as error:
            raise RequestError(Code.NOT_READY, f"raw.{self._row.name}: {error}") from error
        return PastRaw(compiled, epoch, tuple(files), unsealed)

    def coverage(self, epoch: int) -> StreamCoverage:
        """Of `raw`."""
        position, retained = self._position(epoch), self._found.master.retained
        return StreamCoverage(
            stream=self._row.name,
            topic=self._row.topic,
            version=self._row.version,
            epoch=epoch,
            sealed=self._found.master.until,
            position=position.json(),
            fresh_as_of=iso(self._found.instant(epoch)),
            degraded=None,
            lost=self._row.lost_below(position),
            files_until=min(epoch, self._found.master.until),
            raw_since=retained + 1 if retained else None,
        )

    def _compiled(self, told: PastOfView) -> CompiledView:
        try:
            return registered.compiled(self._row, told.row)
        except EverviewError as error:
            message = f"view {told.row.name!r} is not ready: {error}"
            raise RequestError(Code.NOT_READY, message) from error

    def _must_reach(self, what: str, starts: Sequence[int], epoch: int) -> None:
        if not starts:
            message = f"{what} has no past to be answered from: its first events are removed"
            raise RequestError(Code.TOO_FAR_BACK, message)
        oldest = starts[0]
        if epoch < oldest:
            instant = iso(self._found.instant(oldest))
            at = "" if instant is None else f" ({instant})"
            message = (
                f"{what} can be answered as of epoch {oldest}{at} and later ones; got epoch "
                f"{epoch}, of which detail is removed"
            )
            raise RequestError(Code.TOO_FAR_BACK, message)

    def _fold(self, piece: _Piece) -> Fold:
        self._found.master.must_be_whole()
        files = [
            (each, self._check(each.data))
            for each in self._found.master.files
            if each.data.first <= piece.last and each.data.last >= piece.first
        ]
        return Fold(piece.first, piece.last, tuple(files))

    def _check(self, data: DataFile) -> Path:
        """Where a file lies, having read it once."""
        name = data.file.path
        if name not in self._checked:
            path = self._root.local(name)
            with readable(name):
                same = self._known.get(name) == stamp(path)
                self._checked[name] = path if same else self._root.check(data.file)
        return self._checked[name]

    def _position(self, epoch: int) -> Position:
        """The position after an epoch. Inside a sealed range it is that behind the last record."""
        told = {each.epoch: each.position for each in self._found.epochs}
        told |= {each.last: each.position for each in self._found.sealed}
        if epoch == 0 or epoch in told:
            return told.get(epoch, Position())
        if epoch not in self._positions:
            (span,) = (each for each in self._found.sealed if each.first <= epoch <= each.last)
            before = told.get(span.first - 1, Position())
            self._positions[epoch] = self._inside(span, before, epoch)
        return self._positions[epoch]

    def _inside(self, span: Sealed, before: Position, epoch: int) -> Position:
        """By the records of a range's epochs, accepted and rejected."""
        files = (*(each.data for each in self._found.master.files), *self._found.rejects)
        own = [each for each in files if span.first <= each.first and each.last <= span.last]
        offsets = dict(before.offsets)
        with closing(engine.connect(memory_limit=MEMORY).con) as connection:
            for each in own:
                if each.first <= epoch:
                    source = Engine(connection).files([self._check(each)])
                    query = _REACHED.substitute(source=source, epoch=epoch)
                    for partition, reached in connection.execute(query).fetchall():
                        offsets[partition] = max(reached, offsets.get(partition, 0))
        return Position(offsets)


@dataclass(frozen=True)
class _Piece:
    """Adjacent sealed epochs, and the runs that hold them; none: they are to be folded."""

    first: int
    last: int
    runs: tuple[DataFile, ...]


def _pieces(
    stream: PastOfStream, told: PastOfView, compiled: CompiledView, start: int, until: int
) -> list[_Piece]:
    """What leads from one epoch to another."""
    found: list[_Piece] = []
    for each in stream.sealed:
        if each.last <= start or each.first > until:
            continue
        runs = _runs(told, compiled, each) if each.last <= until else ()
        piece = _Piece(each.first, min(each.last, until), runs)
        if found and not runs and not found[-1].runs:
            piece = _Piece(found.pop().first, piece.last, ())
        found.append(piece)
    return found


def _runs(told: PastOfView, compiled: CompiledView, span: Sealed) -> tuple[DataFile, ...]:
    """The runs of every table, where they hold all epochs of a range; else none."""
    inside = [each for each in told.runs if span.first <= each.first and each.last <= span.last]
    for table in compiled.tables:
        reached = span.first - 1
        for each in inside:
            if each.table == table.name:
                if each.first != reached + 1:
                    return ()
                reached = each.last
        if reached != span.last:
            return ()
    return tuple(inside)
