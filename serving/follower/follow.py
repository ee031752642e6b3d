"""The ledger's news -> checked partials in the tables.

    Ledger.state() --moved--> what is registered --> a snapshot, where a view is to be made anew
                         '--> news: segments, checked --> one Change per round

A round is one transaction on the tables, so a state is, per stream, all of its views at one epoch.
Later than the start a round is an epoch. A stream is loaded from a snapshot at the start and when
sealing has overtaken it; a view when its publication changes. Until all of that is in the tables,
in one transaction, what was served still is. Trouble stays where it is: a damaged segment holds up
its stream, a view that cannot be loaded or merged itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa
from sqlalchemy.exc import SQLAlchemyError

from schemas import registered
from schemas.compile import CompiledView
from schemas.errors import DamagedFile, EverviewError, LedgerMissing, ViewFailed
from schemas.failpoints import failpoint
from schemas.ledger.connect import Ledger
from schemas.ledger.contents import EVERY, StreamContents, contents
from schemas.ledger.epochs import CommittedEpoch, epochs_after, news, progress
from schemas.ledger.history import EpochsRow, history, mark
from schemas.ledger.master import Master, master
from schemas.ledger.rejects import sources
from schemas.ledger.sealing import sealed_until
from schemas.ledger.versions import StreamRow, ViewRow, streams, views
from schemas.observed import Observed
from schemas.position import Range
from schemas.storage import DataRoot
from serving import catalog
from serving.coverage import Coverage, StreamCoverage
from serving.envelope import from_engine
from serving.follower import rejected
from serving.follower.checking import Checker
from serving.follower.followed import FollowedStream, FollowedView
from serving.follower.load import Loaded, covers, load, segments
from serving.follower.raw import EpochRows, FollowedRaw, newest_first
from serving.follower.spare import Applies
from serving.log import about
from serving.worker.new_view import ROUND_BYTES, Partials, end_to_end, size
from serving.worker.raw import NewRaw, RawRows
from serving.worker.tables import Change

log = logging.getLogger("serving")

POLL_SECONDS = 0.005
RETRY_SECONDS = 1.0  # after damage, or while there is no ledger
RETRY_LIMIT_SECONDS = 60.0  # between attempts to load a view
LOOK_SECONDS = 5.0  # between two looks whether files of events were touched
REGISTRATIONS_SECONDS = 1.0  # how late a registration that no epoch carries may be noticed
LAG_SECONDS = 10.0  # not caught up for longer: not ready
ROUND_EPOCHS = 256
SNAPSHOTS = 3  # how often files may vanish under a load before it waits
LAY_ROWS = 2_000_000  # groups of a batch view that is not loaded any more, but read where it lies

STARTING = "starting"


@dataclass(frozen=True)
class Read:
    """An epoch's partials for every view that it moves on, the offsets that it covers, and what it
    rejected and re-admitted."""

    epoch: CommittedEpoch
    partials: Mapping[str, Partials]  # by view
    covers: tuple[Range, ...]
    raw: EpochRows
    rejects: pa.Table
    taken: rejected.Taken


class Follower:
    """Keeps `tables` at the ledger's state. `step` runs in one thread; the rest may be asked from
    any, and gives what was true after the last round."""

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        root: DataRoot,
        tables: Applies,
        *,
        round_epochs: int = ROUND_EPOCHS,
        lay_rows: int = LAY_ROWS,
    ) -> None:
        self._open, self._root, self._tables = open_ledger, root, tables
        self._round_epochs, self._lay_rows = round_epochs, lay_rows
        self.checker = Checker(root)
        self._ledger: Ledger | None = None
        self._streams: Mapping[str, FollowedStream] = {}
        self._registered: tuple[tuple[StreamRow, ...], tuple[ViewRow, ...]] = ((), ())
        self._state: int | None = None  # the ledger's, when everything of it was loaded
        self._registrations_at: float | None = None
        self._looked_at = 0.0
        self._retry_at = 0.0
        self._damaged_until: dict[str, float] = {}  # when to read a damaged stream's file again
        self._load_at: dict[str, tuple[float, int]] = {}  # view -> when to try again, failures
        self._told: tuple[object, ...] | None = None  # the ledger's mark, when it was listed
        self._caught_up_at: float | None = None
        self._trouble: str | None = STARTING
        self.load_seconds: float | None = None  # the last step that loaded something took so long
        self.damaged_files: set[str] = set()  # paths of those that were met
        self._suspected: set[str] = set()  # in this step; one may be gone for a good reason

    @property
    def streams(self) -> Mapping[str, FollowedStream]:
        return self._streams

    def run(self, stop: threading.Event, clock: Callable[[], float]) -> None:
        """Follow until `stop` is set; `clock` counts seconds and never goes back."""
        while not stop.is_set():
            if not self.step(clock()):
                stop.wait(POLL_SECONDS)
        self.checker.close()
        if self._ledger is not None:
            self._ledger.close()

    def step(self, now: float) -> bool:
        """Load what is new; whether there is more of it to load at once."""
        before, begun = self._streams, time.monotonic()
        more = now >= self._retry_at and self._tried(now)
        if self._streams is not before:
            self.load_seconds = time.monotonic() - begun
        self.damaged_files |= self._suspected
        self._suspected.clear()
        return more

    def _tried(self, now: float) -> bool:
        """A step, or why there was none."""
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

    def waiting(self) -> dict[str, str]:
        """Views that are not to be asked yet, and why; they do not make the server unready."""
        return {
            view.row.name: why
            for stream in self._streams.values()
            for view in stream.views.values()
            if view.compiled is not None and (why := stream.waits(view)) is not None
        }

    def _said(self, error: EverviewError | SQLAlchemyError) -> str:
        """An error's words for everybody: a driver's without its SQL, no path of this machine."""
        self._met(error)
        folder = self._root.local("ledger.db").parent
        return str(getattr(error, "orig", error)).replace(f"{folder}/", "")

    def _met(self, error: BaseException | None) -> None:
        while error is not None:
            if isinstance(error, DamagedFile):
                self._suspected.add(error.path)
            error = error.__cause__

    def _wait(self, now: float, why: str) -> bool:
        self._trouble = why
        self._retry_at = now + RETRY_SECONDS
        return False

    def _step(self, now: float) -> bool:
        ledger = self._ledger
        if ledger is None:
            ledger = self._ledger = self._open()
            self._trouble = STARTING
        if ledger.state() == self._state and not self._again(now):
            return False
        failpoint("serve.noticed")
        if self._registrations_at is None or now >= self._registrations_at + REGISTRATIONS_SECONDS:
            self._register(ledger, now)
        self._load_anew(ledger, now)
        found = news(ledger, self._known(now), self._round_epochs)
        if any(self._other_versions(name, each) for name, each in found.epochs.items()):
            self._register(ledger, now)
            self._load_anew(ledger, now)
        more = False
        for name, epochs in found.epochs.items():
            stream = replace(self._streams[name], sealed=found.sealed[name])
            self._streams = {**self._streams, name: stream}
            reached = stream.epoch
            if stream.sealed > reached:
                self._snapshot(ledger, name, now, overtaken=True)
                more = more or not self._streams[name].damage
            elif epochs and epochs[0].epoch != reached + 1:
                more = True  # a snapshot was ahead of this news
            elif epochs:
                more = self._round(ledger, name, epochs, now) or more
        if self.checker.news() or self._registrations_at == now:
            self._look(ledger, now)
        late = self._registrations_at != now  # a registration may have come with this state
        if not late or more:
            self._list(ledger)
        self._state = None if more or late else found.state
        return more

    def _again(self, now: float) -> bool:
        """Whether it is time to try again what failed, or to look at files."""
        if (
            self.checker.has_news()
            or now >= self._looked_at + LOOK_SECONDS
            or any(now >= at for at in self._damaged_until.values())
        ):
            return True
        due = (view for stream in self._streams.values() for view in self._due(stream, now))
        return bool(self._load_at) and any(view in self._load_at for view in due)

    def _known(self, now: float) -> dict[str, int]:
        return {
            name: stream.epoch
            for name, stream in self._streams.items()
            if stream.loaded and now >= self._damaged_until.get(name, now)
        }

    # registrations

    def _other_versions(self, stream: str, epochs: Iterable[CommittedEpoch]) -> bool:
        """Whether epochs carry other versions than the last one loaded: then there is news of
        registered or suspended ones, to be known before the epochs are applied."""
        known = self._streams[stream]
        return any(
            epoch.folded != known.folded or epoch.stream_version != known.row.version
            for epoch in epochs
        )

    def _register(self, ledger: Ledger, now: float) -> None:
        """Know what is registered; views are read first, so that none lacks its stream."""
        view_rows, stream_rows = tuple(views(ledger)), tuple(streams(ledger))
        if (stream_rows, view_rows) != self._registered:
            after = {row.name: self._stream(ledger, row, view_rows) for row in stream_rows}
            self._retell(after)
            self._registered = (stream_rows, view_rows)
            self._load_at.clear()
            self._told = None
        self._registrations_at = now

    def _stream(
        self, ledger: Ledger, row: StreamRow, view_rows: Iterable[ViewRow]
    ) -> FollowedStream:
        known = self._streams.get(row.name)
        if known is None:
            known = FollowedStream(row, goal=progress(ledger, row.name).epoch)
        return _with_rows(replace(known, row=row), view_rows)

    def _retell(self, after: Mapping[str, FollowedStream]) -> None:
        """Another state of what is known, with the same rows in the tables."""
        before, now = _tabled(self._streams), _tabled(after)
        gone = tuple(name for name in before if name not in now)
        self._tables.apply(replace(_told(after), drop=gone))
        self._streams = after

    # snapshots

    def _load_anew(self, ledger: Ledger, now: float) -> None:
        """Load streams that were not yet, and views that do not answer from what is registered."""
        for name, stream in self._streams.items():
            if now < self._damaged_until.get(name, now):
                continue
            if not stream.loaded or self._due(stream, now):
                self._snapshot(ledger, name, now)

    def _due(self, stream: FollowedStream, now: float) -> list[str]:
        """Views to load whose time has come."""
        return [view for view in stream.to_load() if now >= self._load_at.get(view, (now, 0))[0]]

    def _snapshot(self, ledger: Ledger, name: str, now: float, *, overtaken: bool = False) -> None:
        """Load from a snapshot: the whole stream where sealing is ahead of it, else views alone.

        A file that is gone may have been sealed away or replaced since: then there is another
        snapshot, which names others. What it still names is damaged.
        """
        try:
            found = contents(ledger, name)
            for _ in range(SNAPSHOTS):
                self._suspected.clear()
                failed = self._load(name, found, now)
                again = contents(ledger, name) if failed else found
                if all(_files(again, view) == _files(found, view) for view in failed):
                    break
                found = again
        except EverviewError as error:
            stream = self._streams[name]
            if overtaken or not stream.loaded:
                self._damaged(name, self._said(error), now)
                return
            failed = dict.fromkeys(self._due(stream, now), self._said(error))
        stream = self._streams[name]
        for view in [*failed, *self._due(stream, now)]:
            failures = self._load_at.get(view, (now, 0))[1]
            wait = min(RETRY_SECONDS * 2**failures, RETRY_LIMIT_SECONDS)
            self._load_at[view] = (now + wait, failures + 1)
            message = failed.get(view, stream.views[view].trouble)
            stream = stream.with_view(replace(stream.views[view], trouble=message))
        if stream is not self._streams[name]:
            self._retell({**self._streams, name: stream})

    def _load(self, name: str, found: StreamContents, now: float) -> dict[str, str]:
        """What was not loaded, with the reason."""
        stream = self._streams[name]
        stream = _with_rows(stream, [view.row for view in found.views.values()])
        if found.sealed > stream.epoch or not stream.loaded:
            return self._load_stream(stream, found)
        self._streams = {**self._streams, name: stream}
        failed: dict[str, str] = {}
        for view in self._due(stream, now):
            try:
                self._load_view(name, view, found)
            except EverviewError as error:
                failed[view] = self._said(error)
        return failed

    def _load_view(self, name: str, view: str, found: StreamContents) -> None:
        """Make one view anew, at the epoch that its stream is at; or only change its files, where
        what is in the tables is proven to be what would be made of them."""
        stream = self._streams[name]
        before = stream.views[view]
        loaded = load(self._root, before, found, stream.epoch, self._lay_rows)
        failpoint("serve.loaded")
        streams = {**self._streams, name: stream.with_view(_after(before, loaded))}
        if before.outlived_by(loaded.served, found.views[view].follows):
            change = replace(_told(streams), swap=(loaded.new(),))
        else:
            change = replace(_told(streams), create=(loaded.new(),))
        self._tables.apply(change)
        self._streams = streams
        self._load_at.pop(view, None)

    def _load_stream(self, stream: FollowedStream, found: StreamContents) -> dict[str, str]:
        """Make all views anew at the last sealed epoch."""
        moved = replace(
            stream,
            loaded=True,
            epoch=found.sealed,
            position=found.position,
            instant=found.instant,
            folded=found.folded,
            sealed=found.sealed,
            damage=None,
            observed=found.observed or Observed(),
            rejects=self._rejected(stream.row.name, found.sealed),
            raw=FollowedRaw.begun(stream.row, found.sealed),
        )
        loaded: dict[str, Loaded] = {}
        failed: dict[str, str] = {}
        for name, view in stream.views.items():
            if view.compiled is None or view.being_built(moved.last):
                continue
            if not view.to_load(moved.epoch, moved.last) and view.suspended is not None:
                continue  # it is where it stays
            try:
                loaded[name] = load(self._root, view, found, found.sealed, self._lay_rows)
            except EverviewError as error:
                failed[name] = self._said(error)
        failpoint("serve.loaded")
        while True:
            after = moved
            for name, each in loaded.items():
                after = after.with_view(_after(after.views[name], each))
            streams = {**self._streams, stream.row.name: after}
            create = tuple(each.new() for each in loaded.values())
            try:
                change = replace(_told(streams), create=create, catalog=_rejects(streams))
                made = () if after.raw is None else after.raw.made(anew=True)
                self._tables.apply(replace(change, raw=made))
            except ViewFailed as error:
                failed[error.view] = self._said(error)
                del loaded[error.view]
                continue
            self._streams = streams
            self._told = None
            self._damaged_until.pop(stream.row.name, None)
            for name in loaded:
                self._load_at.pop(name, None)
            return failed

    def _rejected(self, name: str, until: int) -> pa.Table | None:
        """The newest rejects of sealed epochs. Where their files are damaged none are shown: that
        keeps no view from answering, and it is `everview rejects` that says so."""
        assert self._ledger is not None
        try:
            return rejected.of_files(self._root, name, sources(self._ledger, name), until)
        except (DamagedFile, OSError, pa.ArrowException):
            return None

    # epochs

    def _round(self, ledger: Ledger, name: str, epochs: list[CommittedEpoch], now: float) -> bool:
        """Load a round of a stream; whether more of it is known to wait."""
        stream = self._streams[name]
        read: list[Read] = []
        held = 0
        for epoch in epochs:
            try:
                found = self._read(stream, epoch)
            except DamagedFile as error:
                self._apply(name, read)
                if sealed_until(ledger, name) >= epoch.epoch:
                    return True  # sealed since, and its segments removed
                self._met(error)
                self._damaged(name, str(error), now)
                return False
            self._damaged_until.pop(name, None)
            stream = stream.advance(epoch, found.covers)
            read.append(found)
            held += sum(size(partials) for partials in found.partials.values())
            held += found.rejects.nbytes + found.raw.bytes
            if held > ROUND_BYTES:
                break
        failpoint("serve.loaded")
        self._apply(name, read)
        return len(read) < len(epochs) or len(epochs) == self._round_epochs

    def _read(self, stream: FollowedStream, epoch: CommittedEpoch) -> Read:
        """An epoch for every view that it moves on, checked; or `DamagedFile`."""
        carried = {
            view.row.name: view.serves.compiled.version
            for view in stream.views.values()
            if view.serves is not None and view.carried(epoch)
        }
        partials: dict[str, Partials] = {view: {} for view in carried}
        readers = []
        for reader in segments(self._root, epoch):
            readers.append(reader)
            for view, version in carried.items():
                for table, rows in reader.partials(version).items():
                    partials[view].setdefault(table, []).append(rows)
        own = EpochRows.of(epoch, (reader.master() for reader in readers))
        told = rejected.of_epoch(epoch, readers)
        return Read(epoch, partials, covers(epoch, readers), own, *told)

    def _apply(self, name: str, read: list[Read]) -> None:
        """One round. A view that fails is found by going epoch by epoch, and stays behind alone."""
        if not read:
            return
        after = self._streams[name]
        for each in read:
            after = after.advance(each.epoch, each.covers)
            if each.rejects.num_rows or each.taken:
                after = after.with_rejects(each.rejects, each.taken)
        made: tuple[NewRaw, ...] = ()
        rows: tuple[RawRows, ...] = ()
        if after.raw is not None:
            raw, made, rows = after.raw.with_rows([each.raw for each in read])
            after = replace(after, raw=raw)
        streams = {**self._streams, name: after}
        listed = tuple(_listed(each.epoch) for each in read)
        try:
            partials = _merged(read)
            change = replace(_told(streams), partials=partials, epochs=listed)
            change = replace(change, raw=made, raw_rows=rows)
            if after.rejects is not self._streams[name].rejects:
                change = replace(change, catalog=_rejects(streams))
            self._tables.apply(change)
        except ViewFailed as failed:
            if len(read) == 1:
                self._apply(name, [self._set_aside(name, failed, read[0])])
            else:
                for each in read:
                    self._apply(name, [each])
            return
        self._streams = streams

    def _set_aside(self, name: str, failed: ViewFailed, read: Read) -> Read:
        """Leave a view behind. If it is its files' fault it is loaded again when they are whole."""
        stream = self._streams[name]
        if failed.view not in stream.views and stream.raw is not None:
            raw = stream.raw.without_rows(read.epoch.epoch, failed.message)
            self._streams = {**self._streams, name: replace(stream, raw=raw)}
            return replace(read, raw=EpochRows.of(read.epoch, ()))
        message = f"stopped before epoch {read.epoch.epoch}: {failed.message}"
        view = replace(stream.views[failed.view], stopped=message)
        self._met(failed)
        if isinstance(failed.__cause__, DamagedFile):
            view = replace(view, trouble=message)
            self._load_at[failed.view] = (0.0, 0)
        # its words may quote an event: they are shown with its answers, and not said here
        about_it = about(stream=name, view=failed.view, epoch=read.epoch.epoch)
        log.warning("a view stays behind", extra=about_it)
        self._streams = {**self._streams, name: stream.with_view(view)}
        rest = {view: rows for view, rows in read.partials.items() if view != failed.view}
        return replace(read, partials=rest)

    def _damaged(self, name: str, message: str, now: float) -> None:
        """The stream stays where it is, and says so, until the file is whole again."""
        self._damaged_until[name] = now + RETRY_SECONDS
        stream = self._streams[name]
        if stream.damage != message:
            log.warning("held up: %s", message, extra=about(stream=name, epoch=stream.epoch))
            self._retell({**self._streams, name: replace(stream, damage=message)})

    # the events themselves

    def _look(self, ledger: Ledger, now: float) -> None:
        """Let `raw` read what the ledger names, as far as it is checked."""
        self._looked_at = now
        found = {name: master(ledger, name) for name, each in self._streams.items() if each.raw}
        self.checker.want(newest_first(found.values()))
        for name, each in found.items():
            self._look_at(ledger, name, each)

    def _look_at(self, ledger: Ledger, name: str, found: Master) -> None:
        stream = self._streams[name]
        before = stream.raw
        assert before is not None
        anew = before.version != stream.row.version
        rows: tuple[RawRows, ...] = ()
        known = before
        if anew:
            known, rows = self._begin_raw(ledger, stream, found.until)
        after = known.with_files(found, self.checker, self._root, stream.epoch)
        if after == before:
            return
        streams = {**self._streams, name: replace(stream, raw=after)}
        change = _told(streams)
        if anew or (after.files, after.floor) != (before.files, before.floor):
            change = replace(change, raw=after.made(anew=anew), raw_rows=rows)
        try:
            self._tables.apply(change)
        except ViewFailed as failed:
            after = replace(before, trouble=f"is not ready: {failed.message}")
            self._retell({**self._streams, name: replace(stream, raw=after)})
            return
        self._streams = streams

    def _begin_raw(
        self, ledger: Ledger, stream: FollowedStream, sealed: int
    ) -> tuple[FollowedRaw, tuple[RawRows, ...]]:
        """By another declaration, with the rows of epochs that are loaded and in no file, from
        their segments once more. Where these are gone it waits for what sealing makes of them."""
        found = []
        try:
            for epoch in epochs_after(ledger, stream.row.name, sealed, EVERY):
                if epoch.epoch <= stream.epoch:
                    readers = segments(self._root, epoch)
                    found.append(EpochRows.of(epoch, [reader.master() for reader in readers]))
        except DamagedFile:
            found = []
        if [each.epoch for each in found] != list(range(sealed + 1, stream.epoch + 1)):
            return FollowedRaw.begun(stream.row, stream.epoch), ()
        begun, _, rows = FollowedRaw.begun(stream.row, sealed).with_rows(found)
        return begun, rows

    # the schema `everview`

    def _list(self, ledger: Ledger) -> None:
        """List what the ledger tells, if that is news."""
        told = mark(ledger)
        if told == self._told:
            return
        found = history(ledger)
        reached = {name: stream.epoch for name, stream in self._streams.items()}
        epochs = [each for each in found.epochs if each.last <= reached.get(each.stream, 0)]
        relations = catalog.of_history(found)
        relations["epochs"] = catalog.epochs_table(epochs)
        relations["measures"] = catalog.measures_table(self._measured())
        self._tables.apply(replace(_told(self._streams), catalog=relations))
        self._told = told

    def _measured(self) -> list[tuple[str, str, str, str, str]]:
        return [
            measure
            for stream in self._streams.values()
            for view in stream.views.values()
            if view.compiled is not None
            for measure in catalog.measures_of(view.compiled)
        ]


def _with_rows(stream: FollowedStream, rows: Iterable[ViewRow]) -> FollowedStream:
    """A stream with the views that are registered now."""
    own = [row for row in rows if row.stream == stream.row.name]
    return replace(stream, views={row.name: _view(stream, row) for row in own})


def _view(stream: FollowedStream, row: ViewRow) -> FollowedView:
    """A view as it is now registered: the version that is followed already, or another one."""
    known = stream.views.get(row.name)
    if known is not None and known.row.version == row.version:
        return replace(known, row=row)
    serves = None if known is None else known.serves
    try:
        return FollowedView(row, registered.compiled(stream.row, row), serves)
    except EverviewError as error:
        return FollowedView(row, None, serves, stopped=str(error))


def _after(view: FollowedView, loaded: Loaded) -> FollowedView:
    return replace(view, serves=loaded.served, stopped=None, trouble=None)


def _tabled(streams: Mapping[str, FollowedStream]) -> dict[str, CompiledView]:
    """The views that have tables."""
    return {
        view.row.name: view.serves.compiled
        for stream in streams.values()
        for view in stream.views.values()
        if view.serves is not None
    }


def _told(streams: Mapping[str, FollowedStream]) -> Change:
    """What the tables say of these streams."""
    covered: list[Coverage] = []
    told: list[StreamCoverage] = []
    for stream in streams.values():
        covered += stream.coverage()
        told.append(stream.told())
    return Change(tuple(covered), tuple(told))


def _rejects(streams: Mapping[str, FollowedStream]) -> dict[str, pa.Table]:
    return {"rejects": rejected.relation(stream.rejects for stream in streams.values())}


def _files(found: StreamContents, view: str) -> object:
    """What a snapshot names for a view."""
    told = found.views.get(view)
    if told is None:
        return None
    return told.row, told.batch, told.runs, found.sealed, [each.segments for each in found.epochs]


def _listed(epoch: CommittedEpoch) -> EpochsRow:
    return EpochsRow.of(epoch, epoch.epoch, epoch.epoch, epoch.position.json(), sealed=False)


def _merged(read: Iterable[Read]) -> dict[str, dict[str, pa.Table]]:
    """The partial rows of a round, each table's end to end."""
    collected: dict[str, Partials] = {}
    for each in read:
        for view, tables in each.partials.items():
            for table, rows in tables.items():
                collected.setdefault(view, {}).setdefault(table, []).extend(rows)
    return {view: end_to_end(view, tables) for view, tables in collected.items()}
