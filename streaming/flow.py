"""One stream from the broker to the ledger: its query, and what happens when the query ends.

waiting for the broker and the topic -> checked against the ledger -> query running
   ^                                                                     |
   |---------- back-off, then from the ledger's position <--- failed ----|
                                                              stopped (only a restart helps)
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from sqlalchemy.exc import SQLAlchemyError

from schemas.errors import (
    BrokerUnreachable,
    EverviewError,
    LedgerBusy,
    OffsetsGone,
    SparkGone,
    StaleToken,
    TopicMissing,
    TopicRecreated,
)
from schemas.ledger import stops, versions
from schemas.ledger.epochs import progress
from schemas.position import Range
from schemas.registered import StreamPlan
from streaming import source
from streaming.epoch import Enough, EpochWriter, Leaving
from streaming.report import LogEnds
from streaming.session import is_alive
from streaming.settings import Settings
from streaming.topics import UNREACHABLE, TopicFacts

log = logging.getLogger("streaming")

LASTING = (TopicRecreated, OffsetsGone)  # trying again cannot help
PASSING = (EverviewError, PySparkException, Py4JError, SQLAlchemyError, *UNREACHABLE)
PYTHON_ERROR = re.compile(r"^[A-Za-z_][\w.]*: \S")
MESSAGE_LENGTH = 400
Answer = TypeVar("Answer")


class Flow:
    """Runs one stream in a thread of its own until it is stopped or done, or cannot go on.

    `fatal` is called with an error that concerns the whole driver; `done` when the thread ends.
    """

    def __init__(
        self,
        session: SparkSession,
        settings: Settings,
        writer: EpochWriter,
        fatal: Callable[[BaseException], None],
        done: Callable[[], None],
    ) -> None:
        self.writer, self.stream = writer, writer.stream
        self.error: str | None = None
        self.started = threading.Event()  # the query ran once, or the stream has an error
        self._session, self._settings = session, settings
        self._fatal, self._done = fatal, done
        self._stopping = writer.stopping
        self._query: StreamingQuery | None = None
        self._said: str | None = None
        self.logs: LogEnds | None = None  # as they were when they were last asked for
        self._kept_ms: int | None = None
        self._kept_again = 0.0  # time.monotonic() of the next question
        self._replay_failures = 0
        self._most = settings.max_events_per_epoch  # offsets per micro-batch of the next query
        self._thread = threading.Thread(target=self._run, name=f"flow-{self.stream}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def finished(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Let an epoch at work end, then the query. `stopping` must be set."""
        if not self.writer.idle.wait(self._settings.leave_patience):
            log.warning("stream %s: the epoch at work is left", self.stream)
        query = self._query
        if query is not None:
            try:
                query.stop()
            except (PySparkException, Py4JError, OSError) as error:
                log.info("stream %s: %s", self.stream, one_line(error))

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self._tries()
        except BaseException as error:
            self._fatal(error)
            if not isinstance(error, StaleToken):
                raise
        finally:
            self.started.set()
            self.writer.topics.close()
            self._done()

    def _tries(self) -> None:
        delay, failures = self._settings.back_off_first, 0
        while not self._stopping.is_set():
            error = self._attempt()
            if error is None or self._stopping.is_set():
                return
            self._resize(error)
            if isinstance(error, Enough):
                continue
            if isinstance(error, StaleToken) or not is_alive(self._session):
                self._fatal(error)
                return
            if self.writer.commits:
                delay, failures = self._settings.back_off_first, 0
            self.error = one_line(error)
            self.started.set()
            failures += 1
            if isinstance(error, LASTING):
                log.error("stream %s stopped: %s", self.stream, self.error)
                if not self._told_to_go_on(error):
                    return
                continue
            waiting = isinstance(error, BrokerUnreachable | TopicMissing)
            if self._settings.once and not waiting and failures == self._settings.once_attempts:
                log.error("stream %s failed: %s", self.stream, self.error)
                return
            if waiting:
                delay = self._settings.back_off_first  # to ask costs little
            same = "Kafka" if isinstance(error, BrokerUnreachable) else self.error
            self._say(f"{self.error}; next try in {delay:g} s", same=same)
            self._stopping.wait(delay)
            delay = min(2 * delay, self._settings.back_off_most)

    def _told_to_go_on(self, error: BaseException) -> bool:
        """Record why the stream stopped, and wait until somebody decides to go on without what is
        gone; False where nobody can, or the driver leaves first."""
        ledger, writer = self.writer.ledger, self.writer
        missing = error.missing if isinstance(error, OffsetsGone) else ()
        ranges = [Range(*each) for each in missing]
        recorded = False
        while not self._stopping.is_set():
            try:
                if not recorded:
                    message, now = one_line(error), writer.now()
                    stops.stop(ledger, self.stream, writer.token, message, ranges, now)
                    recorded = True
                if not missing or self._settings.once:
                    return False
                if not stops.stopped(ledger, self.stream):
                    log.info("stream %s: the loss is accepted", self.stream)
                    return True
            except (LedgerBusy, SQLAlchemyError) as trouble:
                self._say(one_line(trouble))
            self._stopping.wait(self._settings.back_off_first)
        return False

    def _resize(self, error: BaseException) -> None:
        """A range that kills its worker must not be planned in the same size for ever."""
        before = self._most
        self._most = next_most(self._settings, before, error, self.writer.failed_size)
        if self._most != before:
            log.info("stream %s: at most %d offsets per epoch", self.stream, self._most)

    def _attempt(self) -> BaseException | None:
        """One query, from the ledger's position to its end; None if there was no more to do."""
        writer = self.writer
        writer.error, writer.failed_size = None, 0
        try:
            plan = writer.plan
            query = self._begin(plan)
            self._watch(query, plan.topic)
        except PASSING as error:
            return writer.error if writer.error is not None else error
        finally:
            query_left, self._query = self._query, None
            if query_left is not None and writer.error is None:
                self._end(query_left)
        return None

    def _begin(self, plan: StreamPlan) -> StreamingQuery:
        writer, settings = self.writer, self._settings
        facts = self._facts(plan.topic, plan.partitions)
        versions.set_topic(writer.ledger, self.stream, facts.id)
        at = progress(writer.ledger, self.stream)
        first = self._ask(lambda: writer.topics.log_starts(plan.topic, facts.partitions))
        lost = stops.accepted(writer.ledger, self.stream)
        starts = source.starts(self.stream, at.position, facts.partitions, first, lost)
        stops.went_on(writer.ledger, self.stream, writer.token, starts, first)
        checkpoint = fresh_checkpoint(settings.scratch, self.stream, writer.token)
        reduced = self._most < settings.max_events_per_epoch
        enough = settings.grow_after if reduced else None
        writer.begin(checkpoint, at, facts.id, starts, enough, self._most)
        there = {partition: max(start, first[partition]) for partition, start in starts.items()}
        frame = source.read(self._session, settings, plan.topic, there, self._most)
        self._session.sparkContext.setLocalProperty("spark.scheduler.pool", self.stream)
        stream = (
            frame.writeStream.foreachBatch(writer)
            .queryName(self.stream)
            .option("checkpointLocation", str(checkpoint))
        )
        if settings.once:
            query = stream.trigger(availableNow=True).start()
        else:
            query = stream.trigger(processingTime="0 seconds").start()
        self._query = query
        self._said, self.error = None, None
        self.started.set()
        log.info(
            "stream %s: reading topic %s from epoch %d, offsets %s",
            self.stream,
            plan.topic,
            at.epoch + 1,
            " ".join(f"{partition}:{offset}" for partition, offset in sorted(starts.items())),
        )
        return query

    def _watch(self, query: StreamingQuery, topic: str) -> None:
        """Wait for the query's end; meanwhile see that the topic is there and still the same."""
        if self._settings.once:
            query.awaitTermination()
            while self._replay():
                pass
            return
        probed = time.monotonic()
        wait = self._settings.replay_look
        while not self._ended(query, wait):
            if self._stopping.is_set():
                return
            wait = self._settings.replay_yield if self._replay() else self._settings.replay_look
            if time.monotonic() - probed < self._settings.probe_every:
                continue
            probed = time.monotonic()
            try:
                facts = self.writer.check_topic(topic)
                self._look_at_logs(topic, facts.partitions)
                if self.error is not None:
                    log.info("stream %s: Kafka answers again", self.stream)
                self.error = self._said = None
            except UNREACHABLE as error:
                self.error = one_line(self._unreachable(error))
                self._say(self.error, same="Kafka")

    def _look_at_logs(self, topic: str, partitions: tuple[int, ...]) -> None:
        """What is unread, and how long it stays: for those who watch."""
        topics, moment = self.writer.topics, time.monotonic()
        ends = topics.log_ends(topic, partitions)
        if moment >= self._kept_again:
            self._kept_again = moment + self._settings.kept_every
            try:
                self._kept_ms = topics.kept_ms(topic)
            except (*UNREACHABLE, LookupError, ValueError) as error:
                self._kept_ms = None  # who may read a topic need not be allowed to ask this
                log.info("stream %s: how long Kafka keeps it: %s", self.stream, one_line(error))
        self.logs = LogEnds(self.writer.now(), ends, self._kept_ms)

    def _ended(self, query: StreamingQuery, seconds: float) -> bool:
        """Waits for a query's end; Spark takes parts of a second, whatever its annotation says."""
        return bool(query.awaitTermination(cast("int", seconds)))

    def _replay(self) -> bool:
        """A part of a replay, if one was asked for; whether there was one. Its trouble is its own:
        tried so often in vain, the replay is given up and the stream goes on."""
        try:
            worked = self.writer.replay(self._one_row)
        except (StaleToken, SparkGone):
            raise
        except PASSING as error:
            if not is_alive(self._session):
                raise
            self._replay_failures += 1
            self._say(f"replay: {one_line(error)}")
            if self._replay_failures < self._settings.replay_attempts:
                return True
            self.writer.give_up_replay(one_line(error))
            worked = True
        self._replay_failures = 0
        return worked

    def _one_row(self) -> DataFrame:
        self._session.sparkContext.setLocalProperty("spark.scheduler.pool", self.stream)
        return self._session.range(1, numPartitions=1)

    def _end(self, query: StreamingQuery) -> None:
        try:
            query.stop()
        except (PySparkException, Py4JError, OSError) as error:
            log.info("stream %s: %s", self.stream, one_line(error))

    def _facts(self, topic: str, partitions: int) -> TopicFacts:
        facts = self._ask(lambda: self.writer.topics.facts(topic))
        if facts is None and self._settings.create_topics and not self.writer.progress.epoch:
            self._ask(lambda: self.writer.topics.create(topic, partitions))
            log.info("stream %s: made topic %s, %d partitions", self.stream, topic, partitions)
            facts = self._ask(lambda: self.writer.topics.facts(topic))
        if facts is None:
            raise TopicMissing(self.stream, topic)
        return facts

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        try:
            return question()
        except UNREACHABLE as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> BrokerUnreachable:
        reason = " ".join(str(error).split()) or type(error).__name__
        return BrokerUnreachable(self._settings.bootstrap_servers, reason)

    def _say(self, text: str, same: str | None = None) -> None:
        """Log a line, unless the last one said the same."""
        key = same or text
        if key != self._said:
            self._said = key
            log.warning("stream %s: %s", self.stream, text)


def next_most(settings: Settings, most: int, error: BaseException, failed: int) -> int:
    """Offsets per micro-batch of the next query, from those of the last one and its end: half of
    the `failed` offsets whose tasks failed (0: none did), twice as many after `Enough`."""
    if isinstance(error, Enough):
        return min(2 * most, settings.max_events_per_epoch)
    if failed:
        least = min(settings.least_offsets, settings.max_events_per_epoch)
        return max(min(most, failed) // 2, least)
    return most


def fresh_checkpoint(scratch: Path, stream: str, token: int) -> Path:
    """An empty folder for one query; those of earlier queries of the stream are removed."""
    folder = scratch.absolute() / "checkpoint" / stream
    shutil.rmtree(folder, ignore_errors=True)
    made = folder / f"{token}-{uuid.uuid4().hex}"
    made.mkdir(parents=True)
    return made


def one_line(error: BaseException) -> str:
    """An error as one line. Of Spark's long texts the line of the Python error, if there is one."""
    if isinstance(error, EverviewError):
        return " ".join(str(error).split())
    if isinstance(error, Leaving):
        return "asked to stop"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if PYTHON_ERROR.match(line)]
    text = named[-1] if named else (lines[0] if lines else "no message")
    return f"{type(error).__name__}: {text}"[:MESSAGE_LENGTH]
