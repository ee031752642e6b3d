"""On the driver: a micro-batch becomes an epoch, in one ledger transaction, or nothing at all.

plan file (ends) + position in memory (begins) -> ranges
  -> tasks fold and write segments -> checks: offsets inside the ranges, the same topic
  -> commit_epoch: ranges, files, counts, instant, versions   <- exactly once here (invariant 2)
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pyspark.sql import DataFrame

from schemas import registered
from schemas.errors import (
    EpochIncomplete,
    RangeInvalid,
    RangeNotContiguous,
    RecordsOutsideRange,
    TopicMissing,
    TopicRecreated,
    VersionsDiffer,
)
from schemas.failpoints import failpoint
from schemas.ledger import rejects, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.epochs import (
    EpochCommit,
    Progress,
    SegmentFile,
    commit_epoch,
    observed_after,
    progress,
)
from schemas.ledger.replays import Replay, ReplayPart
from schemas.ledger.sealing import counted_ids
from schemas.observed import Epoch, Seen
from schemas.position import Range
from schemas.registered import StreamPlan
from schemas.storage import DataRoot
from streaming import source
from streaming.replay import ReplayTask
from streaming.settings import Settings
from streaming.task import REPORT_SCHEMA, EpochIds, FoldTask, SealedIds, TaskReport
from streaming.topics import TopicFacts, Topics

log = logging.getLogger("streaming")
Done = TypeVar("Done")
REPEATS = 2  # of an epoch's job: with the ids that a worker lacks, then with all that matter


class Leaving(Exception):
    """The driver was asked to stop, so no epoch is begun."""


class Enough(Exception):
    """The query made as many epochs as it was begun for, so no further one is begun."""


@dataclass
class CatchUp:
    """Ids for workers that lack more of them than usually travel with a task."""

    ids: list[EpochIds]  # without a hole
    whole_since: datetime | None  # no unsealed epoch before has an id counted later; None: unknown
    left: int  # epochs that still carry them


@dataclass
class EpochWriter:
    """Commits the epochs of one stream. `__call__` is what `foreachBatch` runs.

    Everything that decides (position, epoch number, ids) was read from the ledger when the query
    started and moves with each commit; a failed micro-batch ends the query, and the next one
    begins at the ledger's word again.
    """

    settings: Settings
    ledger: Ledger
    root: DataRoot
    topics: Topics
    stream: str
    token: int
    now: Callable[[], datetime]
    stopping: threading.Event
    cores: int = 1  # that are idle while an epoch of one task is at work, and its own
    moved: threading.Event = field(default_factory=threading.Event)  # sealing replaced files of ids
    idle: threading.Event = field(default_factory=threading.Event)
    turn: threading.Lock = field(default_factory=threading.Lock)  # one epoch at a time
    error: BaseException | None = None  # of the last micro-batch; Spark keeps only its text
    commits: int = 0  # since the query started
    failed_size: int = 0  # offsets of the last micro-batch, if it failed while its tasks ran
    last_work: float = 0.0  # time.monotonic() of the last job
    epoch_seconds: float | None = None  # of the last micro-batch that became an epoch
    commit_seconds: float | None = None  # of its commit alone

    def __post_init__(self) -> None:
        self.idle.set()
        self._plan: StreamPlan | None = None
        self._registered: object = None
        self.progress = progress(self.ledger, self.stream)

    def begin(
        self,
        checkpoint: Path,
        at: Progress,
        topic_id: str,
        starts: Mapping[int, int],
        enough: int | None = None,
        most: int | None = None,
    ) -> None:
        """A new query starts at these offsets, which the ledger's position gave; it ends by
        `Enough` after that many epochs. It takes at most `most` offsets at once."""
        self._most = self.settings.max_events_per_epoch if most is None else most
        self._begun = self.now()
        self._checkpoint, self.progress, self._topic_id = checkpoint, at, topic_id
        self._next = dict(starts)
        self.error, self.commits, self.failed_size, self._enough = None, 0, 0, enough
        self._ids: deque[EpochIds] = deque(maxlen=self.settings.ids_in_task)
        self._catch_up: CatchUp | None = None
        self._read_ids()

    def __call__(self, frame: DataFrame, batch: int) -> None:
        with self.turn:
            self.idle.clear()
            try:
                if self.stopping.is_set():
                    raise Leaving
                if self._enough is not None and self.commits >= self._enough:
                    raise Enough
                self._micro_batch(frame, batch)
            except BaseException as error:
                self.error = error
                raise
            finally:
                self.idle.set()

    def replay(self, one_row: Callable[[], DataFrame]) -> bool:
        """The next part of a replay that was asked for, between two micro-batches; whether there
        was one. `one_row` gives a frame of one row, for the task to run over."""
        asked = rejects.asked(self.ledger, self.stream)
        if asked is None:
            return False
        with self.turn:
            if self.stopping.is_set():
                return False
            self.idle.clear()
            try:
                self._replay(one_row(), asked)
            finally:
                self.failed_size = 0
                self.idle.set()
        return True

    @property
    def plan(self) -> StreamPlan:
        """The stream's plan as it is registered now; compiled again only after a change."""
        found = (
            [each for each in versions.streams(self.ledger) if each.name == self.stream],
            [
                (view.name, view.version, view.suspended_epoch)
                for view in versions.folding(self.ledger, self.stream)
            ],
        )
        if self._plan is None or found != self._registered:
            self._plan, self._registered = registered.plan(self.ledger, self.stream), found
        return self._plan

    def give_up_replay(self, trouble: str) -> None:
        """End the replay at work before its end; what it re-admitted stays."""
        asked = rejects.asked(self.ledger, self.stream)
        if asked is not None:
            rejects.give_up(self.ledger, self.stream, self.token, asked.id, trouble, self.now())

    def _micro_batch(self, frame: DataFrame, batch: int) -> None:
        begun = time.monotonic()
        ranges, read_to = self._ranges(batch, self.plan.topic)
        if not any(each.size for each in ranges):
            return
        commit = self._planned(lambda plan: self._epoch(frame, plan, ranges, read_to))
        self._committed(commit, time.monotonic() - begun)

    def _planned(self, work: Callable[[StreamPlan], Done]) -> Done:
        """Work by what is registered; anew where that changed meanwhile."""
        for _ in range(1, self.settings.plan_attempts):
            try:
                return work(self.plan)
            except VersionsDiffer as error:
                log.info("stream %s: %s", self.stream, error)
        return work(self.plan)

    def _replay(self, frame: DataFrame, asked: Replay) -> None:
        begun = time.monotonic()
        commit, part = self._planned(lambda plan: self._replayed(frame, plan, asked))
        if commit is not None:
            self._committed(commit, time.monotonic() - begun)
        log.info(
            "stream %s: replay %d, %d rejects tried again, %d accepted%s",
            self.stream,
            asked.id,
            part.considered,
            part.accepted,
            "; it is at its end" if part.last else "",
        )

    def _replayed(
        self, frame: DataFrame, plan: StreamPlan, asked: Replay
    ) -> tuple[EpochCommit | None, ReplayPart]:
        """One part of a replay: an epoch of its own, if anything of it is accepted now."""
        settings = self.settings
        task = ReplayTask(
            **vars(self._task(plan, ())),
            sources=rejects.sources(self.ledger, self.stream),
            after=asked.cursor,
            until=asked.until,
            most_rows=settings.replay_rows,
            most_bytes=settings.replay_bytes,
        )
        reports = self._tasks(frame, task, ())
        (report,) = reports
        assert report.tried is not None
        part = ReplayPart(
            replay=asked.id,
            after=asked.cursor,
            until=report.tried.until,
            considered=report.tried.considered,
            accepted=report.accepted,
            duplicates=report.duplicates,
            last=report.tried.last,
        )
        commit = None if report.file is None else self._commit(task, plan, reports, part)
        failpoint("rejects.before_commit")
        if commit is None:
            rejects.move(self.ledger, self.stream, self.token, part, task.instant)
        else:
            commit_epoch(self.ledger, commit)
            self._say_left_out(task, reports)
        return commit, part

    def _ranges(self, batch: int, topic: str) -> tuple[tuple[Range, ...], datetime | None]:
        """The ranges of a micro-batch, and when the ends of the logs were asked for: under `once`
        that was when the query began."""
        planned = source.planned(self._checkpoint, batch, topic)
        read_to = self._begun if self.settings.once else planned.at
        try:
            return source.ranges(self._next, planned.ends), read_to
        except RangeInvalid as error:
            self.check_topic(topic)  # a recreated topic starts again from 0
            begin, end = self._next.get(error.partition, 0), planned.ends[error.partition]
            raise RangeNotContiguous(error.partition, begin, end) from error

    def _epoch(
        self,
        frame: DataFrame,
        plan: StreamPlan,
        ranges: tuple[Range, ...],
        read_to: datetime | None,
    ) -> EpochCommit:
        # an empty range too where it says that its partition was there from the first epoch
        there = self.progress.position.offsets
        task = self._task(plan, tuple(r for r in ranges if r.size or r.partition not in there))
        reports = self._tasks(frame, task, ranges)
        check_offsets(self.stream, ranges, reports)
        self.check_topic(plan.topic)
        ended = source.read_to_their_ends(ranges, self._most)
        told = observed(
            reports,
            read_to=None if read_to is None else min(read_to, task.instant),
            ended=frozenset() if read_to is None else ended,
            timed=plan.stream.event_time is not None,
        )
        commit = replace(self._commit(task, plan, reports), observed=told)
        failpoint("epoch.before_commit")
        begun = time.monotonic()
        commit_epoch(self.ledger, commit)
        self.commit_seconds = time.monotonic() - begun
        failpoint("epoch.after_commit")
        self._say_left_out(task, reports)
        return commit

    def _say_left_out(self, task: FoldTask, reports: Iterable[TaskReport]) -> None:
        counts = Counter[str]()
        for report in reports:
            counts.update(dict(report.left_out))
        for version, count in sorted(counts.items()):
            log.info(
                "stream %s: epoch %d: version %s leaves out %d accepted events, which do not fit "
                "the declaration that it was registered under",
                self.stream,
                task.epoch,
                version,
                count,
            )

    def _task(self, plan: StreamPlan, ranges: tuple[Range, ...]) -> FoldTask:
        """The next epoch's work."""
        if self.moved.is_set():
            self._read_ids()
        last = self.progress
        instant = self.now() if last.instant is None else max(self.now(), last.instant)
        task = FoldTask(
            stream=plan.stream,
            views=plan.views,
            epoch=last.epoch + 1,
            token=self.token,
            instant=instant,
            since=instant - plan.dedup_within,
            root=self.root,
            sealed=self._sealed if plan.stream.key else SealedIds(),
            ids=tuple(self._ids) if plan.stream.key else (),
            task_memory=self.settings.task_memory,
            ranges=ranges,
            topic_id=self._topic_id,
        )
        if plan.stream.key and self._catch_up is not None:
            task = with_ids(task, self._catch_up)
        return task

    def _commit(
        self,
        task: FoldTask,
        plan: StreamPlan,
        reports: list[TaskReport],
        replay: ReplayPart | None = None,
    ) -> EpochCommit:
        # a version that this release cannot fold is suspended; the others and the master go on
        suspended = tuple(sorted({**dict(plan.lost), **dict(merge_suspended(reports))}.items()))
        return EpochCommit(
            stream=self.stream,
            epoch=task.epoch,
            instant=task.instant,
            token=self.token,
            stream_version=plan.stream.version,
            topic_id=self._topic_id,
            ranges=task.ranges,
            segments=tuple(segment_file(report) for report in reports if report.file is not None),
            folded=tuple(v.version for v in plan.views if v.version not in dict(suspended)),
            suspended=suspended,
            uuid=uuid.uuid4().hex,
            replay=replay,
        )

    def _tasks(
        self, frame: DataFrame, task: FoldTask, ranges: tuple[Range, ...]
    ) -> list[TaskReport]:
        """Run the epoch's one job, and again with more ids as long as a worker lacks some."""
        # With a primary key ids are decided over the whole epoch, so it is one task.
        size = sum(each.size for each in ranges)
        large = size > self.settings.small_epoch
        one = bool(task.stream.key) or not large
        task = replace(task, alone=one, threads=self.cores if one and large else 1)
        reports = self._job(frame.coalesce(1) if one else frame, task, size)
        for repeat in range(REPEATS):
            missing = [each.needs_ids_from for each in reports if each.needs_ids_from is not None]
            if not missing:
                break
            # Spark may give the next job to another worker, which lacks others. The one that
            # asked, and any that is as far behind, gets the ids with one of the next epochs.
            self._catch_up = self._ids_from(min(missing) if repeat == 0 else 1, task)
            again = replace(task, sealed=self._sealed)
            reports = self._job(frame.coalesce(1), with_ids(again, self._catch_up), size)
        check_written(task, reports)
        return reports

    def _job(self, frame: DataFrame, task: FoldTask, size: int) -> list[TaskReport]:
        self.failed_size = size
        reports = run_job(frame, task)
        self.failed_size = 0
        self.last_work = time.monotonic()
        return reports

    def _ids_from(self, asked: int, task: FoldTask) -> CatchUp:
        """The id files of every unsealed epoch from `asked` on that can still make a duplicate."""
        units = self._units(asked - 1, task.since)
        first = units[0].epoch if units else task.epoch
        log.info(
            "stream %s: a worker reads the ids of epochs %d..%d", self.stream, first, task.epoch - 1
        )
        # what begins later than asked for does so because nothing before it matters
        whole = asked == 1 or first > asked
        return CatchUp(
            ids=units,
            whole_since=task.since if whole else None,
            left=self.settings.catch_up_epochs,
        )

    def _read_ids(self) -> None:
        """The ids that travel with every task, from the files that the ledger names now: those
        that sealing replaced are removed after a while."""
        self.moved.clear()
        at = self.progress.instant
        since = None if at is None else at - self.plan.dedup_within
        units = self._units(max(0, self.progress.epoch - self.settings.ids_in_task), since)
        self._ids.clear()
        self._ids.extend(units)
        if self._catch_up is not None and self._catch_up.ids:
            self._catch_up.ids = self._units(self._catch_up.ids[0].epoch - 1, since)

    def _units(self, after: int, since: datetime | None) -> list[EpochIds]:
        """The ids of unsealed epochs after one that were counted later than `since`; from here on
        those of sealed ones are known."""
        found = counted_ids(self.ledger, self.stream, after, since)
        self._sealed = SealedIds(found.sealed_until, found.sealed)
        return [EpochIds(epoch, files) for epoch, files in found.epochs]

    def check_topic(self, topic: str) -> TopicFacts:
        """The topic as it is now, if it is the one that the query began with; else `TopicRecreated`
        or `TopicMissing`."""
        facts = self.topics.facts(topic)
        if facts is None:
            raise TopicMissing(self.stream, topic)
        if facts.id != self._topic_id:
            raise TopicRecreated(self.stream, topic, self._topic_id, facts.id)
        return facts

    def _committed(self, commit: EpochCommit, seconds: float) -> None:
        last = self.progress
        self.progress = replace(
            last,
            epoch=commit.epoch,
            position=last.position.advance(commit.ranges),
            instant=commit.instant,
            observed=observed_after(last, commit),
        )
        self._next |= {each.partition: each.until for each in commit.ranges}
        files = tuple(each.file for each in commit.segments if each.has_ids)
        ids = EpochIds(commit.epoch, files)
        self._ids.append(ids)
        if self._catch_up is not None:
            self._catch_up.left -= 1
            self._catch_up.ids.append(ids)
            if not self._catch_up.left:
                self._catch_up = None
        self.commits += 1
        self.epoch_seconds = seconds
        for version, _ in commit.suspended:  # the reason may quote an event: it is in the ledger
            log.warning(
                "stream %s: version %s is suspended from epoch %d on",
                self.stream,
                version,
                commit.epoch,
            )
        if self.settings.verbose:
            log.info("%s", epoch_line(commit, timedelta(seconds=seconds)))


def run_job(frame: DataFrame, task: FoldTask) -> list[TaskReport]:
    """One job, one reading of Kafka; reports in the order of their tasks."""
    rows = frame.mapInArrow(task, REPORT_SCHEMA).collect()
    return sorted((TaskReport.from_json(row.report) for row in rows), key=lambda each: each.task)


def with_ids(task: FoldTask, catch_up: CatchUp) -> FoldTask:
    """The task with other ids; whole only as long as `since` did not go back."""
    whole = catch_up.whole_since is not None and catch_up.whole_since <= task.since
    return replace(task, ids=tuple(catch_up.ids), ids_whole=whole)


def check_written(task: FoldTask, reports: Iterable[TaskReport]) -> None:
    """Every task that read events wrote them; else `EpochIncomplete`."""
    for report in reports:
        if report.needs_ids_from is not None:
            found = f"a worker that lacks the ids from epoch {report.needs_ids_from} on"
            raise EpochIncomplete(task.stream.name, task.epoch, found)
        if report.seen and report.file is None:
            found = f"task {report.task}, which read events and wrote no segment"
            raise EpochIncomplete(task.stream.name, task.epoch, found)


def check_offsets(stream: str, ranges: Iterable[Range], reports: Iterable[TaskReport]) -> None:
    """What the tasks saw lies in the epoch's ranges, and no two saw the same. How many there were
    is not checked: markers and aborted records take offsets too."""
    epoch = {each.partition: each for each in ranges}
    taken: dict[int, list[tuple[int, int]]] = {}
    for report in reports:
        for partition, (first, last) in report.seen.items():
            within = epoch.get(partition, Range(partition, 0, 0))
            inside = within.start <= first and last < within.until
            apart = all(last < a or b < first for a, b in taken.get(partition, ()))
            if not (inside and apart):
                raise RecordsOutsideRange(
                    stream, partition, within.start, within.until, first, last
                )
            taken.setdefault(partition, []).append((first, last))


def merge_suspended(reports: Iterable[TaskReport]) -> tuple[tuple[str, str], ...]:
    """A version that failed in one task is suspended for the epoch; the first message stands."""
    found: dict[str, str] = {}
    for report in reports:
        for version, message in report.suspended:
            found.setdefault(version, message)
    return tuple(sorted(found.items()))


def observed(
    reports: Iterable[TaskReport], *, read_to: datetime | None, ended: frozenset[int], timed: bool
) -> Epoch:
    """What the tasks tell of event times and rejects, put together in the order of offsets."""
    told = list(reports)
    reasons, seen = Counter[str](), dict[int, Seen]()
    for report in told:
        reasons.update(report.reasons)
    for partition in sorted({each for report in told for each in report.times}):
        parts = [report for report in told if partition in report.times]
        parts.sort(key=lambda report: report.seen[partition])
        seen[partition] = functools.reduce(Seen.then, (each.times[partition] for each in parts))
    future = sum(report.future for report in told)
    return Epoch(seen, read_to, ended, dict(reasons), future, timed)


def segment_file(report: TaskReport) -> SegmentFile:
    assert report.file is not None
    return SegmentFile(
        file=report.file,
        rows=report.rows,
        accepted=report.accepted,
        duplicates=report.duplicates,
        rejected=report.rejected,
        has_ids=report.has_ids,
    )


def epoch_line(commit: EpochCommit, took: timedelta) -> str:
    """One line for a person who watches."""
    accepted = sum(each.accepted for each in commit.segments)
    duplicates = sum(each.duplicates for each in commit.segments)
    rejected = sum(each.rejected for each in commit.segments)
    where = " ".join(f"{each.partition}:{each.start}..{each.until}" for each in commit.ranges)
    where = where or "none, as it is a replay's"
    return (
        f"stream {commit.stream}: epoch {commit.epoch}, {accepted} accepted "
        f"({duplicates} duplicates), {rejected} rejected, {len(commit.segments)} segments, "
        f"offsets {where}, {took.total_seconds():.3f} s"
    )
