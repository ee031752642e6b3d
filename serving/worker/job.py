"""One client's statement on one snapshot of the tables.

A job holds nothing but what it is given and writes bytes to a sink, so that it may run in a thread
here or in a process of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from schemas.errors import DamagedFile
from schemas.failpoints import failpoint
from serving import catalog, formats
from serving.coverage import Coverage, StreamCoverage
from serving.envelope import Code, RequestError, from_engine
from serving.query import Head, Query, Sink
from serving.worker import guard, laid, raw, strict
from serving.worker.guard import Relation, Statement
from serving.worker.laid import LaidFile
from serving.worker.tables import State, Tables

HELD_BYTES = 256 * 1024  # of a body, before its head is sent with what is not known yet

# errors after which a database is not to be used any more
LOST = (duckdb.FatalException, duckdb.InternalException)

_UNBOUND = (duckdb.BinderException, duckdb.CatalogException)


class Job:
    """A query that is to be run once, by `run`, and may be stopped from another thread."""

    def __init__(self, tables: Tables, query: Query, clock: Callable[[], float]) -> None:
        self._tables, self._query, self._clock = tables, query, clock
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._stopped: RequestError | None = None
        self.number = 0  # of the state that it reads
        self._files: list[LaidFile] = []  # that it reads

    def run(self, sink: Sink) -> None:
        """Put the answer into `sink`. An answer of less than `HELD_BYTES` comes whole, with its
        count in the head; of a larger one the head comes before the count is known.

        Raises RequestError, what the sink raises, and errors of `LOST`. After the head that means
        that the body is not whole: whoever hands it on has to break it off, so that nobody takes it
        for an answer.
        """
        started = self._clock()
        cursor = self._take()
        try:
            self._run(cursor, sink, started)
        except duckdb.InterruptException as error:
            raise self._stopped or from_engine(error, self._query.sql) from error
        except LOST:
            raise
        except duckdb.Error as error:
            raise self._explained(cursor, error) from error
        except MemoryError as error:
            message = "statement needs more memory than there is; ask for less of it"
            raise RequestError(Code.TOO_LARGE, message) from error
        except pa.ArrowException as error:
            message = f"result must have a form in {self._query.media_type}; {error}"
            raise RequestError(Code.BAD_SQL, message) from error
        finally:
            with self._lock:
                self._cursor = None
                cursor.close()

    def stop(self, why: RequestError) -> None:
        """Interrupt it, now or as soon as it starts; `run` then raises `why`. An interrupt that
        comes between two statements is lost, so call this again until `run` has returned."""
        with self._lock:
            self._stopped = why
            if self._cursor is not None:
                self._cursor.interrupt()

    @property
    def stopped(self) -> bool:
        return self._stopped is not None

    def _take(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            self._cursor = self._tables.cursor()
            return self._cursor

    def _check_stopped(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def _run(self, cursor: duckdb.DuckDBPyConnection, sink: Sink, started: float) -> None:
        self._check_stopped()
        statement = guard.check(cursor, self._query.sql)
        with self._tables.beginning(cursor) as state:
            self.number = state.number
            found, streams = _covered(state, statement.relations)
            covered = tuple(each.json() for each in found)
            strict.admit(self._query, covered)
            files = laid.read(cursor, [each.view for each in found if each.laid])
            self._files = files = [*files, *raw.files(cursor, streams)]
            with _standing(files):
                relation = self._relation(cursor, statement)
        self._check_stopped()
        names, types = relation.columns, relation.types
        with _standing(files):
            reader = relation.to_arrow_reader(min(self._query.max_rows + 1, formats.BATCH_ROWS))
        try:
            result = formats.Result(
                names,
                types,
                reader.schema,
                self._batches(reader, files),
                max_rows=self._query.max_rows,
                elapsed_ms=lambda: round((self._clock() - started) * 1000, 3),
                coverage=covered,
                integers=self._query.integers,
            )
            self._write(result, statement.steady, sink)
        finally:
            reader.close()

    def _relation(
        self, cursor: duckdb.DuckDBPyConnection, statement: Statement
    ) -> duckdb.DuckDBPyRelation:
        try:
            return cursor.sql(statement.sql, params=self._query.params or None)
        except (TypeError, ValueError, OverflowError) as error:
            message = f"params must be values that SQL has; {error}"
            raise RequestError(Code.BAD_REQUEST, message) from error

    def _batches(
        self, reader: pa.RecordBatchReader, files: Sequence[LaidFile]
    ) -> Iterator[pa.RecordBatch]:
        """What is read, as long as its files stand. An error that comes while rows are read has
        gone through Arrow, which leaves its text."""
        while True:
            try:
                with _standing(files):
                    batch = next(reader, None)
            except OSError as error:
                failed = from_engine(error, self._query.sql, self._said)
                raise (failed.code == Code.DEADLINE and self._stopped) or failed from error
            if batch is None:
                return
            yield batch

    def _write(self, result: formats.Result, steady: bool, sink: Sink) -> None:
        """Hold the body back until it is whole or large."""
        media_type, covered = self._query.media_type, tuple(result.coverage)
        held: list[bytes] | None = []
        size = 0
        for data in formats.encode(media_type, result):
            self._check_stopped()
            if held is None:
                sink.part(data)
                continue
            held.append(data)
            size += len(data)
            if size >= HELD_BYTES:
                sink.head(Head(media_type, covered, steady))
                for part in held:
                    sink.part(part)
                held = None
                failpoint("serve.mid_result")
        if held is not None:
            sink.head(Head(media_type, covered, steady, result.row_count, result.truncated))
            sink.part(b"".join(held))

    def _said(self, message: str) -> str:
        """An engine's message without paths of this machine."""
        for each in self._files:
            message = message.replace(str(each.local), each.path)
        return message

    def _explained(self, cursor: duckdb.DuckDBPyConnection, error: duckdb.Error) -> RequestError:
        """The error with its place, which a statement that did not bind tells when it is run."""
        if isinstance(error, duckdb.IOException):
            told = from_engine(error, self._query.sql, self._said).message
            return RequestError(Code.NOT_READY, f"a file must be there; {told}")
        first = from_engine(error, self._query.sql, self._said)
        if first.line is not None or not isinstance(error, _UNBOUND):
            return first
        try:
            cursor.execute("ROLLBACK")
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            cursor.execute(self._query.sql, self._query.params or None)
        except duckdb.Error as second:
            again = from_engine(second, self._query.sql, self._said)
            return again if again.line is not None else first
        return first


def _covered(state: State, relations: Sequence[Relation]) -> tuple[list[Coverage], list[str]]:
    """The coverage of every view and of every stream whose events are read, and these streams;
    refuses what is neither, or not ready. The other relations of the schema `everview` say
    themselves what they are about."""
    asked = [relation for relation in relations if not _listed(relation)]
    names = sorted({relation.name.lower() for relation in asked if len(relation.path) == 1})
    found = {name: state.views[name] for name in names if name in state.views}
    streams = _streams(state, relations)
    for relation in asked:
        is_view = len(relation.path) == 1 and relation.name.lower() in found
        if not is_view and not (_of_raw(relation) and relation.path[1].lower() in streams):
            raise _unknown(state, relation)
    for each in found.values():
        if each.waits is not None:
            raise RequestError(Code.NOT_READY, f"view {each.view!r} {each.waits}")
    for stream in streams.values():
        if stream.raw_waits is not None:
            raise RequestError(Code.NOT_READY, f"raw.{stream.stream} {stream.raw_waits}")
    covered = [*found.values(), *(stream.raw() for stream in streams.values())]
    return covered, [stream.stream for stream in streams.values()]


def _streams(state: State, relations: Sequence[Relation]) -> dict[str, StreamCoverage]:
    """The streams whose events are read: by their own relations, or for their repeats."""
    wanted = {relation.path[1].lower() for relation in relations if _of_raw(relation)}
    repeats = any(
        _listed(relation) and relation.path[1].lower() == catalog.DUPLICATES
        for relation in relations
    )
    return {
        name: each
        for name, each in sorted(state.streams.items())
        if name in wanted or (repeats and each.keyed)
    }


@contextmanager
def _standing(files: Sequence[LaidFile]) -> Iterator[None]:
    """The files that a statement reads are what they were, before it and after it: else what it
    found, numbers or trouble, is about others."""
    try:
        _check(files)
        try:
            yield
        except (duckdb.Error, OSError):
            _check(files)
            raise
        _check(files)
    except DamagedFile as error:
        raise RequestError(Code.NOT_READY, str(error)) from error


def _check(files: Sequence[LaidFile]) -> None:
    for each in files:
        each.check()


def _listed(relation: Relation) -> bool:
    return _of_catalog(relation) and relation.path[1].lower() in catalog.RELATIONS


def _of_raw(relation: Relation) -> bool:
    return len(relation.path) == 2 and relation.path[0].lower() == raw.SCHEMA


def _of_catalog(relation: Relation) -> bool:
    return len(relation.path) == 2 and relation.path[0].lower() == catalog.SCHEMA


def _unknown(state: State, relation: Relation) -> RequestError:
    there = ", ".join(state.views[name].view for name in sorted(state.views)) or "none yet"
    streams = state.streams
    message = f"name {relation.name!r} must be a view, raw.STREAM or everview.RELATION; "
    if relation.name.lower() in streams:
        message += f"the events of that stream are raw.{streams[relation.name.lower()].stream}; "
    message += f"views are: {there}"
    if _of_catalog(relation):
        there = ", ".join(sorted(catalog.RELATIONS))
        message = f"name {relation.name!r} must be in schema {catalog.SCHEMA!r}; there is: {there}"
    if _of_raw(relation):
        there = ", ".join(state.streams[name].stream for name in sorted(state.streams))
        message = f"name {relation.name!r} must be a stream; there is: {there or 'none yet'}"
    return RequestError(Code.UNKNOWN_VIEW, message, relation.place)
