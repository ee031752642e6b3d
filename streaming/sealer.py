"""Sealing of one stream, beside its epochs: when, what with what, and what may go afterwards.

due -> range chosen -> task writes files -> one transaction names them and lets segments go
    -> ranges merged in levels, by the same steps
    -> what was replaced long enough ago is removed from the disk
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from sqlalchemy.exc import SQLAlchemyError

from schemas import registered
from schemas.compile import CompiledStream, CompiledView
from schemas.errors import (
    DefinitionError,
    EverviewError,
    LedgerBusy,
    SealingNotNext,
    StaleToken,
    VersionOfAnotherRelease,
)
from schemas.failpoints import failpoint
from schemas.ledger import retention, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.epochs import CommittedEpoch, epochs_after, progress
from schemas.ledger.files import IDS, MASTER, REJECTS, RUN, DataFile, forget, removable
from schemas.ledger.sealing import (
    SealedRange,
    kept_boundaries,
    merge_ranges,
    requested_seal,
    seal,
    sealed_ranges,
    sealed_until,
)
from schemas.parquet import Origin, union
from schemas.registered import StreamPlan
from schemas.storage import DataRoot
from streaming import levels
from streaming.flow import one_line
from streaming.sealing import REPORT_SCHEMA, MergedRun, MergeTask, Sealing, SealTask, from_json
from streaming.settings import Settings

log = logging.getLogger("streaming")

PASSING = (EverviewError, PySparkException, Py4JError, SQLAlchemyError, OSError)
NOT_COMMITTED = (LedgerBusy, SealingNotNext, StaleToken)  # of a transaction that left no trace
POOL = "sealing"
REMOVE_AT_ONCE = 500  # files per transaction, so that no epoch waits for long


class Runner(Protocol):
    """Where sealing's tasks run."""

    def __call__(self, task: Sealing) -> tuple[DataFile, ...]: ...

    def cancel(self) -> None: ...


class Sealer:
    """Seals, merges and cleans up one stream in a thread of its own until it is stopped.

    Its trouble never stops the stream: it is said, and tried again later. `fatal` is called with an
    error that concerns the whole driver; `moved` is set when files of ids were replaced.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        ledger: Ledger,
        root: DataRoot,
        stream: str,
        token: int,
        now: Callable[[], datetime],
        run: Runner,
        moved: threading.Event,
        fatal: Callable[[BaseException], None],
        done: Callable[[], None],
    ) -> None:
        self.error: str | None = None
        self.sealed = 0
        self._settings, self._ledger, self._root = settings, ledger, root
        self._stream, self._token, self._now, self._run = stream, token, now, run
        self._moved, self._fatal, self._done = moved, fatal, done
        self._stopping = threading.Event()
        self._ending = False  # what is left is sealed whatever its age, and that is all
        self._wake = threading.Event()
        self._pending: list[CommittedEpoch] = []  # the oldest unsealed ones
        self._seen_state = -1
        self._tidy_at = 0.0  # time.monotonic()
        self._planned: tuple[StreamPlan, list[CompiledView]] | None = None
        self._registered: object = None
        self._thread = threading.Thread(target=self._work, name=f"seal-{stream}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Seal what is left, then end."""
        if not self._ending:
            self._ending = True
            self._wake.set()

    def stop(self) -> None:
        """Begin nothing further."""
        self._stopping.set()
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait for a task at work, then leave it: whoever streams next removes what it wrote."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning("stream %s: the sealing at work is left", self._stream)
            self._run.cancel()
            self._thread.join(1.0)

    @property
    def finished(self) -> bool:
        return not self._thread.is_alive()

    def step(self) -> None:
        """Whatever is due now."""
        sealed = False
        while not self._stopping.is_set() and (chosen := self._due()):
            self._seal(chosen)
            self._merge()
            sealed = True
        moment = time.monotonic()
        if sealed or moment >= self._tidy_at:  # boundaries go, and files grow old, without epochs
            self._merge()
            self._clean()
            self._tidy_at = moment + self._settings.tidy_every

    def _work(self) -> None:
        try:
            self._tries()
        except BaseException as error:
            self._fatal(error)
            if not isinstance(error, StaleToken):
                raise
        finally:
            self._done()

    def _tries(self) -> None:
        settings = self._settings
        delay, failures, said = settings.back_off_first, 0, None
        while not self._stopping.is_set():
            ending = self._ending
            try:
                self.step()
            except StaleToken:
                raise
            except PASSING as error:
                if self._stopping.is_set():
                    return
                self._pending, self._seen_state = [], -1  # from the ledger's word again
                self.error = one_line(error)
                failures += 1
                if self.error != said:
                    said = self.error
                    log.warning("stream %s: not sealed: %s", self._stream, said)
                if ending and failures >= settings.once_attempts:
                    return
                self._pause(delay)
                delay = min(2 * delay, settings.back_off_most)
            else:
                if said is not None:
                    log.info("stream %s: sealing goes on", self._stream)
                self.error = said = None
                delay, failures = settings.back_off_first, 0
                if ending:
                    return
                self._pause(settings.seal_look)

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        if not self._stopping.is_set():
            self._wake.clear()

    def _due(self) -> list[CommittedEpoch]:
        """The epochs to seal next; none while they may wait."""
        self._read()
        if not self._pending:
            return []
        settings, oldest = self._settings, self._pending[0]
        due = (
            self._ending
            or self._now() - oldest.instant >= settings.seal_every
            or len(self._pending) >= settings.seal_epochs
            or sum(map(levels.segment_bytes, self._pending)) >= settings.seal_bytes
            or requested_seal(self._ledger, self._stream) >= oldest.epoch
        )
        return levels.to_seal(self._pending, settings.seal_bytes) if due else []

    def _read(self) -> None:
        """Take in further epochs, not more than are sealed at once."""
        state, room = self._ledger.state(), self._settings.seal_epochs - len(self._pending)
        if state == self._seen_state or not room:
            return
        if not self._pending:
            self.sealed = sealed_until(self._ledger, self._stream)
        after = self._pending[-1].epoch if self._pending else self.sealed
        self._pending += epochs_after(self._ledger, self._stream, after, room)
        self._seen_state = state

    def _seal(self, epochs: Sequence[CommittedEpoch]) -> None:
        settings, begun = self._settings, time.monotonic()
        first, last = epochs[0].epoch, epochs[-1].epoch
        failpoint("seal.before_files")
        plan, views = self._plan()
        task = SealTask(
            stream=self._stream,
            token=self._token,
            first=first,
            last=last,
            root=self._root,
            memory=settings.seal_memory,
            row_group_bytes=settings.row_group_bytes,
            ranges=union(each for epoch in epochs for each in epoch.ranges),
            epochs=tuple(epoch.segments for epoch in epochs),
            compiled=self._accepted_by(plan, epochs[0].stream_version),
            views=tuple(view for view in views if view.version in epochs[0].folded),
            origin=_origin(epochs),
        )
        read = [each.file.path for epoch in epochs for each in epoch.segments]
        self._commit(
            self._run(task),
            lambda files: seal(
                self._ledger, self._stream, self._token, first, last, files, self._now(), read
            ),
        )
        del self._pending[: len(epochs)]
        self._seen_state = -1  # there may be more than there was room for
        self.sealed = last
        log.info(
            "stream %s: sealed epochs %d..%d, %d segments, in %.1f s",
            self._stream,
            first,
            last,
            sum(len(epoch.segments) for epoch in epochs),
            time.monotonic() - begun,
        )

    def _accepted_by(self, plan: StreamPlan, version: str) -> CompiledStream:
        """The stream as it was declared for epochs."""
        if plan.stream.version == version:
            return plan.stream
        (row,) = (each for each in versions.streams(self._ledger) if each.name == self._stream)
        return registered.stream(row, version)

    def _merge(self) -> None:
        """Ranges of one level into one of the next, as long as there are enough of them."""
        while not self._stopping.is_set():
            ranges = sealed_ranges(self._ledger, self._stream)
            kept = kept_boundaries(self._ledger, self._stream)
            chosen = levels.to_merge(
                ranges,
                kept,
                self._settings.merge_fanout,
                self._settings.retain.span(self._stream),
                retention.retained_until(self._ledger, self._stream),
            )
            if not chosen:
                return
            self._merge_ranges(chosen)

    def _merge_ranges(self, ranges: Sequence[SealedRange]) -> None:
        begun = time.monotonic()
        failpoint("seal.before_files")
        task, removed = self._merging(ranges)
        added = self._run(task) if task.groups or task.ids or task.runs else ()
        self._commit(
            added,
            lambda files: merge_ranges(
                self._ledger, self._stream, self._token, ranges, files, removed, self._now()
            ),
        )
        log.info(
            "stream %s: merged %d ranges into epochs %d..%d, %d files into %d, in %.1f s",
            self._stream,
            len(ranges),
            task.first,
            task.last,
            len(removed),
            len(added),
            time.monotonic() - begun,
        )

    def _merging(self, ranges: Sequence[SealedRange]) -> tuple[MergeTask, list[DataFile]]:
        """What makes one range of these, and the files that then stop counting."""
        settings = self._settings
        plan, views = self._plan()
        at = progress(self._ledger, self._stream).instant
        since = (self._now() if at is None else at) - plan.dedup_within
        # ids of ranges that ended so long ago make no duplicate any more
        old = [
            file
            for each in ranges
            for file in each.files
            if file.kind == IDS and each.instant < since
        ]
        files = [file for each in ranges for file in each.files if file not in old]
        packs = {
            kind: levels.packs((f for f in files if f.kind == kind), settings.master_bytes)
            for kind in (MASTER, REJECTS, IDS)
        }
        tables = {(view.version, table.name): table for view in views for table in view.tables}
        runs = tuple(
            MergedRun(tables[key], part)
            for key, parts in levels.runs(files).items()
            if key in tables
            for part in parts
            if len(part) > 1
        )
        # nobody reads runs of a version that epochs no longer carry
        live = {view.version for view in views}
        old += [file for file in files if file.kind == RUN and file.version not in live]
        task = MergeTask(
            stream=self._stream,
            token=self._token,
            first=ranges[0].first,
            last=ranges[-1].last,
            root=self._root,
            memory=settings.seal_memory,
            row_group_bytes=settings.row_group_bytes,
            groups=(*packs[MASTER], *packs[REJECTS]),
            ids=tuple(packs[IDS]),
            key=plan.stream.key_types,
            runs=runs,
            since=since,
        )
        merged = [file for kind in packs.values() for pack in kind for file in pack]
        merged += [file for run in runs for file in run.files]
        return task, [*old, *merged]

    def _plan(self) -> tuple[StreamPlan, list[CompiledView]]:
        """The stream, and every version of views that its epochs carry: a suspended one answers
        still. One of which this release does not mean the same gets no run, as one that retired:
        what takes its place is built from the master."""
        (row,) = (each for each in versions.streams(self._ledger) if each.name == self._stream)
        carried = versions.folding(self._ledger, self._stream)
        if self._planned is None or self._registered != (row, carried):
            plan = registered.plan(self._ledger, self._stream)
            folded = {view.version for view in plan.views}
            views = list(plan.views)
            for each in carried:
                if each.version not in folded:
                    try:
                        views.append(registered.compiled(row, each))
                    except (VersionOfAnotherRelease, DefinitionError) as error:
                        log.warning("stream %s: no runs any more: %s", self._stream, error)
            self._planned, self._registered = (plan, views), (row, carried)
        return self._planned

    def _commit(
        self, files: tuple[DataFile, ...], commit: Callable[[tuple[DataFile, ...]], int]
    ) -> None:
        failpoint("seal.after_files")
        try:
            commit(files)
        except NOT_COMMITTED:
            for each in files:
                self._root.remove(each.file.path)
            raise
        self._moved.set()
        failpoint("seal.after_commit")

    def _clean(self) -> None:
        """Remove the files that stopped counting long enough ago."""
        before = self._now() - self._settings.keep_removed
        paths = removable(self._ledger, self._stream, before)
        for at in range(0, len(paths), REMOVE_AT_ONCE):
            if self._stopping.is_set():
                return
            part = paths[at : at + REMOVE_AT_ONCE]
            for path in part:
                self._root.remove(path)
            failpoint("clean.before_forget")
            forget(self._ledger, part)


def _origin(epochs: Sequence[CommittedEpoch]) -> Origin:
    """What a file of these epochs says of them; they are of one kind."""
    return Origin(
        first_instant=epochs[0].instant.isoformat(),
        instant=epochs[-1].instant.isoformat(),
        stream_version=epochs[0].stream_version,
        topic_id=epochs[-1].topic_id,
        folded=tuple(sorted(epochs[0].folded)),
        accepted=sum(each.accepted for each in epochs),
        duplicates=sum(each.duplicates for each in epochs),
        rejected=sum(each.rejected for each in epochs),
    )


class SparkRun:
    """Runs a sealing task as a Spark job in a pool of its own, so that epochs go on beside it."""

    def __init__(self, session: SparkSession, stream: str) -> None:
        self._session, self._group = session, f"seal-{stream}"

    def __call__(self, task: Sealing) -> tuple[DataFile, ...]:
        context = self._session.sparkContext
        context.setLocalProperty("spark.scheduler.pool", POOL)
        context.setJobGroup(self._group, f"sealing of {task.stream}")
        one = self._session.range(1, numPartitions=1)
        ((report,),) = one.mapInArrow(task, REPORT_SCHEMA).collect()
        return from_json(report)

    def cancel(self) -> None:
        try:
            self._session.sparkContext.cancelJobGroup(self._group)
        except (PySparkException, Py4JError, OSError) as error:
            log.info("sealing: %s", one_line(error))
