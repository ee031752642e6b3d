"""The streaming driver: one process, one Spark session; a lease, a flow, a sealer per stream."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import datetime

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from sqlalchemy.exc import SQLAlchemyError

from schemas.errors import (
    EverviewError,
    LeaseHeld,
    LedgerBusy,
    LedgerMissing,
    SparkGone,
)
from schemas.ledger import versions
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import lease_name
from schemas.ledger.leases import Lease, release, renew, take
from schemas.ledger.process import is_running, this_process
from schemas.storage import DataRoot
from streaming.epoch import EpochWriter
from streaming.flow import Flow, one_line
from streaming.orphans import remove_orphans
from streaming.report import Report, State, StreamReport
from streaming.sealer import Sealer, SparkRun
from streaming.session import close_session, is_alive, open_session, own_cores, warm
from streaming.settings import Settings
from streaming.topics import Topics

log = logging.getLogger("streaming")

LEDGER_TROUBLE = (LedgerBusy, SQLAlchemyError)  # it may pass; a commit meets it too
SPARK_ERRORS = (PySparkException, Py4JError, OSError)
STOP = "stop"  # what a signal handler puts into the inbox
WAKE = "wake"  # something changed, look again


class Driver:
    """Runs until `inbox` says stop, or until an error that concerns the whole process.

    `inbox` is a SimpleQueue because its `put` may be called in a signal handler.
    """

    def __init__(
        self, settings: Settings, now: Callable[[], datetime], inbox: queue.SimpleQueue[str]
    ) -> None:
        self._settings, self._now, self._inbox = settings, now, inbox
        self._root = DataRoot(settings.state)
        self._holder = this_process()
        self._stopping = threading.Event()
        self._ready = threading.Event()  # the session is warm
        self._ledger: Ledger | None = None
        self._session: SparkSession | None = None
        self._fatal: BaseException | None = None
        self._leases: dict[str, Lease] = {}
        self._flows: dict[str, Flow] = {}
        self._sealers: dict[str, Sealer] = {}  # none where nothing is sealed
        self._cleaners: list[threading.Thread] = []
        self._state: State = "starting"
        self._seen_state = -1
        self._renewed = time.monotonic()
        self._kept_alive = self._renewed
        self._waited_for = ""
        self._starter = threading.Thread(target=self._start_spark, name="spark", daemon=True)

    def run(self) -> int:
        """The process's exit code."""
        code = 1
        try:
            self._loop()
            code = 1 if self._fatal is not None or self._failed_once() else 0
        except EverviewError as error:
            self._fail(error)
        finally:
            self._stop()
            self._state = "stopped" if code == 0 else "failed"
            if not isinstance(self._fatal, LeaseHeld):  # else the report is the holder's
                self._report()
            if self._ledger is not None:
                self._ledger.close()
        return code

    def _loop(self) -> None:
        while not self._stopping.is_set() and self._fatal is None:
            self._look()
            if self._starter.ident is None:
                self._starter.start()  # after the leases: who must not write starts no JVM
            self._renew()
            self._begin_flows()
            self._finish_sealers()
            self._keep_alive()
            self._report()
            if self._settings.once and self._all_finished():
                return
            self._wait()

    def _wait(self) -> None:
        try:
            message = self._inbox.get(timeout=self._settings.report_every)
        except queue.Empty:
            return
        if message == STOP:
            log.info("asked to stop")
            self._stopping.set()

    def _look(self) -> None:
        """Open the ledger, and take the lease of each stream that is new in it."""
        try:
            ledger = self._opened()
            state = ledger.state()
            if state == self._seen_state:
                return
            for stream in versions.streams(ledger):
                if stream.name not in self._leases:
                    self._leases[stream.name] = self._take(ledger, stream.name)
            self._seen_state = state
            if not self._leases:
                self._waiting_for(f"a stream in the ledger of {str(self._settings.state)!r}")
        except LedgerMissing as error:
            if self._settings.once:
                raise
            self._waiting_for(str(error))
        except LEDGER_TROUBLE as error:
            self._waiting_for(one_line(error))

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = open_ledger(self._settings.state)
        return self._ledger

    def _take(self, ledger: Ledger, stream: str) -> Lease:
        name = lease_name(stream)
        lease = take(
            ledger, name, self._holder, self._now(), self._settings.lease_ttl, alive=is_running
        )
        log.info("stream %s: lease taken, token %d", stream, lease.token)
        return lease

    def _renew(self) -> None:
        if self._ledger is None or time.monotonic() - self._renewed < self._settings.lease_every:
            return
        try:
            for stream, lease in self._leases.items():
                self._leases[stream] = renew(
                    self._ledger, lease, self._now(), self._settings.lease_ttl
                )
        except LEDGER_TROUBLE as error:
            log.warning("leases not renewed: %s", one_line(error))
        self._renewed = time.monotonic()

    def _begin_flows(self) -> None:
        if self._session is None or self._ledger is None or not self._ready.is_set():
            if self._session is not None and not is_alive(self._session):
                self._set_fatal(SparkGone())
            return
        if not is_alive(self._session):
            self._set_fatal(SparkGone())
            return
        for stream, lease in self._leases.items():
            if stream not in self._flows:
                self._clean(self._ledger, stream, lease.token)
                flow = self._flow(self._session, self._ledger, stream, lease.token)
                self._flows[stream] = flow
                if self._settings.seals:
                    sealer = self._sealer(self._session, self._ledger, flow, lease.token)
                    self._sealers[stream] = sealer
                    sealer.start()
                flow.start()
        started = bool(self._flows) and all(flow.started.is_set() for flow in self._flows.values())
        if started and self._state == "starting":
            self._state = "running"
            log.info("running: %s", ", ".join(sorted(self._flows)))

    def _flow(self, session: SparkSession, ledger: Ledger, stream: str, token: int) -> Flow:
        settings = self._settings
        writer = EpochWriter(
            settings=settings,
            ledger=ledger,
            root=self._root,
            topics=Topics(settings.bootstrap_servers, settings.kafka_answer),
            stream=stream,
            token=token,
            now=self._now,
            stopping=self._stopping,
            cores=own_cores(session),
        )
        return Flow(session, settings, writer, self._set_fatal, self._wake)

    def _sealer(self, session: SparkSession, ledger: Ledger, flow: Flow, token: int) -> Sealer:
        return Sealer(
            settings=self._settings,
            ledger=ledger,
            root=self._root,
            stream=flow.stream,
            token=token,
            now=self._now,
            run=SparkRun(session, flow.stream),
            moved=flow.writer.moved,
            fatal=self._set_fatal,
            done=self._wake,
        )

    def _finish_sealers(self) -> None:
        """Under `once` all that the flows committed is sealed at the end."""
        if self._settings.once:
            for stream, sealer in self._sealers.items():
                if self._flows[stream].finished:
                    sealer.finish()

    def _clean(self, ledger: Ledger, stream: str, token: int) -> None:
        """Remove what older drivers left of a stream; it looks at all files, so it runs aside."""

        def remove() -> None:
            try:
                gone = remove_orphans(self._root, ledger, stream, token)
            except (EverviewError, SQLAlchemyError, OSError) as error:
                log.warning("stream %s: files not cleaned: %s", stream, one_line(error))
                return
            if gone:
                log.info("stream %s: removed %d files of no epoch", stream, len(gone))

        cleaner = threading.Thread(target=remove, name=f"clean-{stream}", daemon=True)
        self._cleaners.append(cleaner)
        cleaner.start()

    def _keep_alive(self) -> None:
        """Spark ends idle Python workers after a minute, and their ids and imports with them."""
        session = self._session
        if session is None or not self._ready.is_set() or self._settings.once:
            return
        worked = max((flow.writer.last_work for flow in self._flows.values()), default=0.0)
        moment = time.monotonic()
        if moment - max(worked, self._kept_alive) >= self._settings.keep_alive_every:
            self._kept_alive = moment
            threading.Thread(target=self._warm, args=(session,), name="warm", daemon=True).start()

    def _start_spark(self) -> None:
        try:
            begun = time.monotonic()
            self._session = open_session(self._settings)
            started = time.monotonic()
            warm(self._session)
            self._ready.set()
            log.info(
                "Spark started in %.1f s, its Python workers in %.1f s",
                started - begun,
                time.monotonic() - started,
            )
        except SPARK_ERRORS as error:
            self._set_fatal(error)
        except BaseException as error:
            self._set_fatal(error)
            raise
        finally:
            self._wake()

    def _warm(self, session: SparkSession) -> None:
        try:
            warm(session)
        except SPARK_ERRORS as error:
            if not is_alive(session):
                self._set_fatal(error)

    def _stop(self) -> None:
        """In this order: no new epoch, sealing and queries end, leases go, the JVM ends."""
        self._stopping.set()
        patient = time.monotonic() + self._settings.leave_patience
        for sealer in self._sealers.values():
            sealer.stop()
        for flow in self._flows.values():
            flow.stop()
        for flow in self._flows.values():
            flow.join(1.0)
        for sealer in self._sealers.values():
            sealer.join(max(0.0, patient - time.monotonic()))
        for cleaner in self._cleaners:
            cleaner.join(1.0)
        if self._ledger is not None:
            for lease in self._leases.values():
                try:
                    release(self._ledger, lease)
                except LEDGER_TROUBLE as error:
                    log.info("lease %s not released: %s", lease.name, one_line(error))
        if self._starter.ident is not None:
            self._starter.join(self._settings.leave_patience)
        if self._session is not None:
            close_session(self._session)

    def _report(self) -> None:
        streams = {}
        for name in self._leases:
            flow = self._flows.get(name)
            if flow is not None:
                at, sealer = flow.writer.progress, self._sealers.get(name)
                sealed, error = (sealer.sealed, sealer.error) if sealer else (0, None)
                streams[name] = StreamReport(
                    at.epoch,
                    at.position.json(),
                    flow.error,
                    sealed,
                    error,
                    flow.writer.epoch_seconds,
                    flow.writer.commit_seconds,
                    flow.logs,
                )
        fatal = None if self._fatal is None else one_line(self._fatal)
        try:
            Report(self._state, self._now(), streams, fatal).write(self._settings.report)
        except OSError as full:
            self._waiting_for(f"to write {self._settings.report}: {full}")

    def _set_fatal(self, error: BaseException) -> None:
        """Called from any thread; an error met while stopping is of no interest."""
        if not self._stopping.is_set() and self._fatal is None:
            self._fail(error)
        self._wake()

    def _fail(self, error: BaseException) -> None:
        if self._fatal is None:
            self._fatal = error
            log.error("%s", one_line(error))

    def _wake(self) -> None:
        self._inbox.put(WAKE)

    def _waiting_for(self, what: str) -> None:
        if what != self._waited_for:
            self._waited_for = what
            log.info("waiting: %s", what)

    def _all_finished(self) -> bool:
        return (
            self._ready.is_set()
            and len(self._flows) == len(self._leases)
            and all(flow.finished for flow in self._flows.values())
            and all(sealer.finished for sealer in self._sealers.values())
        )

    def _failed_once(self) -> bool:
        parts: list[Flow | Sealer] = [*self._flows.values(), *self._sealers.values()]
        return self._settings.once and any(part.error for part in parts)
