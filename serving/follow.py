"""The ledger's news -> checked partials in the tables.

    Ledger.state() --moved--> news, one snapshot --> segments, checked --> one Change per round

A round is one transaction on the tables, so a state is, per stream, all of its views at one epoch.
At the start rounds are long (history does not cost a round per epoch); later a round is an epoch.
Trouble stays where it is: a damaged file holds up its stream, a view that cannot be merged itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import duckdb
import pyarrow as pa
from sqlalchemy.exc import SQLAlchemyError

from schemas import registered
from schemas.compile import CompiledView
from schemas.cut import Cut
from schemas.errors import DamagedFile, EverviewError, LedgerMissing, ViewFailed
from schemas.failpoints import failpoint
from schemas.ledger.connect import Ledger
from schemas.ledger.epochs import CommittedEpoch, news, progress
from schemas.ledger.versions import StreamRow, ViewRow, streams, views
from schemas.position import Position
from schemas.segment import SegmentReader
from schemas.storage import DataRoot
from serving.coverage import Coverage, iso
from serving.envelope import from_engine
from serving.tables import Change, Tables

POLL_SECONDS = 0.02
RETRY_SECONDS = 1.0  # after damage, or while there is no ledger
REGISTRATIONS_SECONDS = 1.0  # how late a registration that no epoch carries may be noticed
LAG_SECONDS = 10.0  # not caught up for longer: not ready
ROUND_EPOCHS = 256
ROUND_BYTES = 256 * 2**20  # of partials in memory

STARTING = "starting"
CUT = Cut(0)  # no batch view is built: speed owns every epoch

Partials = dict[str, dict[str, list[pa.Table]]]  # view -> table -> rows
Loaded = tuple[CommittedEpoch, Partials]


@dataclass(frozen=True)
class FollowedView:
    """A registered version, and how far its answers are."""

    row: ViewRow
    compiled: CompiledView | None  # None: this release cannot serve it, `stopped` says why
    epoch: int = 0
    position: Position = field(default_factory=Position)
    instant: datetime | None = None
    missing: int = 0  # the last epoch with events that was committed before the version came
    stopped: str | None = None

    def follows(self, epoch: CommittedEpoch) -> bool:
        """Whether the view's answers move on to this epoch."""
        suspended = self.row.suspended_epoch
        return not self.stopped and (suspended is None or epoch.epoch < suspended)

    def carried(self, epoch: CommittedEpoch) -> bool:
        """Whether the segments of this epoch hold partials to merge."""
        return self.follows(epoch) and self.row.version in epoch.folded

    def advance(self, epoch: CommittedEpoch) -> FollowedView:
        """The view after an epoch; one that does not follow stays where it is."""
        if not self.follows(epoch):
            return self
        whole = self.row.version in epoch.folded or not epoch.accepted
        missing = self.missing if whole else epoch.epoch
        return replace(
            self,
            epoch=epoch.epoch,
            position=epoch.position,
            instant=epoch.instant,
            missing=missing,
        )

    def degraded(self, stream: FollowedStream) -> str | None:
        """Why the view's answers stay behind, or do not count everything."""
        suspended = self.row.suspended_epoch
        if self.stopped:
            return self.stopped
        if suspended is not None and stream.epoch >= suspended:
            return f"suspended at epoch {suspended}: {self.row.suspended_message}"
        if stream.damage:
            return stream.damage
        if self.missing:
            return f"deployed after epoch {self.missing}: events up to it are not counted"
        return None


@dataclass(frozen=True)
class FollowedStream:
    """A registered stream, and how far its epochs are in the tables."""

    row: StreamRow
    goal: int  # the last epoch when it was first seen: before it, nothing is answered
    epoch: int = 0
    position: Position = field(default_factory=Position)
    instant: datetime | None = None
    folded: frozenset[str] | None = None  # versions that the last epoch carries
    damage: str | None = None
    views: Mapping[str, FollowedView] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return self.epoch >= self.goal

    def advance(self, epoch: CommittedEpoch) -> FollowedStream:
        return replace(
            self,
            epoch=epoch.epoch,
            position=epoch.position,
            instant=epoch.instant,
            folded=epoch.folded,
            damage=None,
            views={name: view.advance(epoch) for name, view in self.views.items()},
        )

    def with_view(self, view: FollowedView) -> FollowedStream:
        return replace(self, views={**self.views, view.row.name: view})

    def coverage(self) -> Iterator[Coverage]:
        for view in self.views.values():
            yield Coverage(
                view=view.row.name,
                version=view.row.version,
                stream=self.row.name,
                cut=CUT.epoch,
                epoch=view.epoch,
                position=view.position.json(),
                fresh_as_of=iso(view.instant),
                degraded=view.degraded(self),
                ready=self.ready and view.compiled is not None,
            )


class Follower:
    """Keeps `tables` at the ledger's state. `step` runs in one thread; the rest may be asked from
    any, and gives what was true after the last round."""

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        root: DataRoot,
        tables: Tables,
        *,
        round_epochs: int = ROUND_EPOCHS,
    ) -> None:
        self._open, self._root, self._tables = open_ledger, root, tables
        self._round_epochs = round_epochs
        self._ledger: Ledger | None = None
        self._streams: Mapping[str, FollowedStream] = {}
        self._registered: tuple[tuple[StreamRow, ...], tuple[ViewRow, ...]] = ((), ())
        self._state: int | None = None  # the ledger's, when everything of it was loaded
        self._registrations_at: float | None = None
        self._retry_at = 0.0
        self._damaged_until: dict[str, float] = {}  # when to read a damaged stream's file again
        self._caught_up_at: float | None = None
        self._trouble: str | None = STARTING

    @property
    def streams(self) -> Mapping[str, FollowedStream]:
        return self._streams

    def run(self, stop: threading.Event, clock: Callable[[], float]) -> None:
        """Follow until `stop` is set; `clock` counts seconds and never goes back."""
        while not stop.is_set():
            if not self.step(clock()):
                stop.wait(POLL_SECONDS)
        if self._ledger is not None:
            self._ledger.close()

    def step(self, now: float) -> bool:
        """Load what is new; whether there is more of it to load at once."""
        if now < self._retry_at:
            return False
        try:
            more = self._step(now)
        except LedgerMissing:
            return self._wait(now, "there is no ledger yet; run `everview deploy` or `everview up`")
        except (EverviewError, SQLAlchemyError) as error:
            return self._wait(now, f"the ledger cannot be followed: {self._said(error)}")
        except duckdb.Error as error:
            return self._wait(
                now, f"the tables cannot be changed: {from_engine(error, '').message}"
            )
        self._trouble = (
            None if self._streams else "no stream is deployed yet; run `everview deploy`"
        )
        if not more and not any(stream.damage for stream in self._streams.values()):
            self._caught_up_at = now
        return more

    def unready(self, now: float) -> list[str]:
        """Why this server is not ready; empty if it is."""
        reasons = [self._trouble] if self._trouble else []
        for name, stream in self._streams.items():
            if stream.damage:
                reasons.append(f"stream {name!r}: {stream.damage}")
            elif not stream.ready:
                reasons.append(f"stream {name!r}: epoch {stream.epoch} of {stream.goal} is loaded")
            reasons += [
                f"view {view.row.name!r}: {view.stopped}"
                for view in stream.views.values()
                if view.compiled is None
            ]
        behind = self._caught_up_at is not None and now - self._caught_up_at > LAG_SECONDS
        if behind and not reasons:
            reasons.append(f"the ledger's news are not loaded for more than {LAG_SECONDS:g} s")
        return reasons

    def _said(self, error: EverviewError | SQLAlchemyError) -> str:
        """An error's words for everybody: a driver's without its SQL, no path of this machine."""
        folder = self._root.local("ledger.db").parent
        return str(getattr(error, "orig", error)).replace(f"{folder}/", "")

    def _wait(self, now: float, why: str) -> bool:
        self._trouble = why
        self._retry_at = now + RETRY_SECONDS
        return False

    def _step(self, now: float) -> bool:
        ledger = self._ledger
        if ledger is None:
            ledger = self._ledger = self._open()
            self._trouble = STARTING
        healing = [name for name, at in self._damaged_until.items() if now >= at]
        if ledger.state() == self._state and not healing:
            return False
        if self._registrations_at is None or now >= self._registrations_at + REGISTRATIONS_SECONDS:
            self._register(ledger, now)
        known = {
            name: stream.epoch
            for name, stream in self._streams.items()
            if now >= self._damaged_until.get(name, now)
        }
        found = news(ledger, known, self._round_epochs)
        failpoint("serve.noticed")
        if any(self._other_versions(name, each) for name, each in found.epochs.items()):
            self._register(ledger, now)
        more = False
        for name, epochs in found.epochs.items():
            if epochs:
                more = self._load(name, epochs, now) or more
        late = self._registrations_at != now  # a registration may have come with this state
        self._state = None if more or late else found.state
        return more

    # registrations

    def _other_versions(self, stream: str, epochs: Iterable[CommittedEpoch]) -> bool:
        """Whether epochs carry other versions than the last one loaded: then there is news of
        registered or suspended ones, to be known before the epochs are applied."""
        folded = self._streams[stream].folded
        return any(epoch.folded != folded for epoch in epochs)

    def _register(self, ledger: Ledger, now: float) -> None:
        """Serve the registered versions; views are read first, so that none lacks its stream."""
        view_rows, stream_rows = tuple(views(ledger)), tuple(streams(ledger))
        if (stream_rows, view_rows) != self._registered:
            after = {row.name: self._stream(ledger, row, view_rows) for row in stream_rows}
            self._replace_views(after)
            self._registered = (stream_rows, view_rows)
        self._registrations_at = now

    def _stream(
        self, ledger: Ledger, row: StreamRow, view_rows: Iterable[ViewRow]
    ) -> FollowedStream:
        known = self._streams.get(row.name)
        if known is None:
            known = FollowedStream(row, goal=progress(ledger, row.name).epoch)
        own = [view for view in view_rows if view.stream == row.name]
        return replace(known, row=row, views={view.name: _view(known, view) for view in own})

    def _replace_views(self, after: dict[str, FollowedStream]) -> None:
        """Drop and create tables for what was and what is registered; a view that cannot be made
        is set aside."""
        before, now = _compiled(self._streams), _compiled(after)
        change = Change(
            coverage=_coverage(after),
            drop=tuple(name for name, view in before.items() if now.get(name) != view),
            create=tuple(view for name, view in now.items() if before.get(name) != view),
        )
        try:
            self._tables.apply(change)
        except ViewFailed as failed:
            stream = after[now[failed.view].stream]
            view = replace(stream.views[failed.view], compiled=None, stopped=failed.message)
            self._replace_views({**after, stream.row.name: stream.with_view(view)})
            return
        self._streams = after

    # epochs

    def _load(self, name: str, epochs: list[CommittedEpoch], now: float) -> bool:
        """Load a round of a stream; whether more of it is known to wait."""
        stream = self._streams[name]
        loaded: list[Loaded] = []
        size = 0
        for epoch in epochs:
            try:
                partials = self._read(stream, epoch)
            except DamagedFile as error:
                self._apply(name, loaded)
                self._damaged(name, str(error), now)
                return False
            self._damaged_until.pop(name, None)
            loaded.append((epoch, partials))
            size += _bytes(partials)
            if size > ROUND_BYTES:
                break
        failpoint("serve.loaded")
        self._apply(name, loaded)
        return len(loaded) < len(epochs) or len(epochs) == self._round_epochs

    def _read(self, stream: FollowedStream, epoch: CommittedEpoch) -> Partials:
        """The partials of an epoch for every view that it moves on, checked; or `DamagedFile`."""
        carried = [view for view in stream.views.values() if view.carried(epoch)]
        found: Partials = {view.row.name: {} for view in carried}
        for segment in epoch.segments:
            try:
                reader = SegmentReader(self._root.get(segment.file), segment.file.path)
            except OSError as error:
                expected = "a file that can be read"
                raise DamagedFile(segment.file.path, expected, error.strerror or "") from error
            _check(reader, epoch)
            for view in carried:
                for table, rows in reader.partials(view.row.version).items():
                    found[view.row.name].setdefault(table, []).append(rows)
        return found

    def _apply(self, name: str, loaded: list[Loaded]) -> None:
        """One round. A view that fails is found by going epoch by epoch, and stays behind alone."""
        if not loaded:
            return
        after = self._streams[name]
        for epoch, _ in loaded:
            after = after.advance(epoch)
        streams = {**self._streams, name: after}
        try:
            self._tables.apply(Change(_coverage(streams), partials=_merged(loaded)))
        except ViewFailed as failed:
            if len(loaded) == 1:
                loaded = [self._set_aside(name, failed, *loaded[0])]
                self._apply(name, loaded)
            else:
                for each in loaded:
                    self._apply(name, [each])
            return
        self._streams = streams

    def _set_aside(
        self, name: str, failed: ViewFailed, epoch: CommittedEpoch, partials: Partials
    ) -> Loaded:
        stream = self._streams[name]
        stopped = f"stopped before epoch {epoch.epoch}: {failed.message}"
        view = replace(stream.views[failed.view], stopped=stopped)
        self._streams = {**self._streams, name: stream.with_view(view)}
        return epoch, {view: tables for view, tables in partials.items() if view != failed.view}

    def _damaged(self, name: str, message: str, now: float) -> None:
        """The stream stays where it is, and says so, until the file is whole again."""
        self._damaged_until[name] = now + RETRY_SECONDS
        stream = self._streams[name]
        if stream.damage != message:
            streams = {**self._streams, name: replace(stream, damage=message)}
            self._tables.apply(Change(_coverage(streams)))
            self._streams = streams


def _view(stream: FollowedStream, row: ViewRow) -> FollowedView:
    """A view as it is now registered: the version that is followed already, or a new one."""
    known = stream.views.get(row.name)
    if known is not None and known.row.version == row.version:
        return replace(known, row=row)
    start = FollowedView(
        row, None, stream.epoch, stream.position, stream.instant, missing=stream.epoch
    )
    try:
        return replace(start, compiled=registered.compiled(stream.row, row))
    except EverviewError as error:
        return replace(start, stopped=str(error))


def _compiled(streams: Mapping[str, FollowedStream]) -> dict[str, CompiledView]:
    return {
        view.row.name: view.compiled
        for stream in streams.values()
        for view in stream.views.values()
        if view.compiled is not None
    }


def _coverage(streams: Mapping[str, FollowedStream]) -> tuple[Coverage, ...]:
    return tuple(each for stream in streams.values() for each in stream.coverage())


def _merged(loaded: Iterable[Loaded]) -> dict[str, dict[str, pa.Table]]:
    """The partial rows of a round, each table's end to end."""
    collected: dict[str, dict[str, list[pa.Table]]] = {}
    for _, partials in loaded:
        for view, tables in partials.items():
            for table, rows in tables.items():
                collected.setdefault(view, {}).setdefault(table, []).extend(rows)
    return {
        view: {table: _end_to_end(view, rows) for table, rows in tables.items()}
        for view, tables in collected.items()
    }


def _end_to_end(view: str, rows: list[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(rows)
    except pa.ArrowInvalid as error:
        raise ViewFailed(view, str(error)) from error


def _bytes(partials: Partials) -> int:
    return sum(
        rows.nbytes for tables in partials.values() for each in tables.values() for rows in each
    )


def _check(reader: SegmentReader, epoch: CommittedEpoch) -> None:
    found = (reader.header["stream"], reader.header["epoch"])
    if found != (epoch.stream, epoch.epoch):
        expected = f"a segment of epoch {epoch.epoch} of {epoch.stream!r}"
        raise DamagedFile(reader.path, expected, f"epoch {found[1]} of {found[0]!r}")
