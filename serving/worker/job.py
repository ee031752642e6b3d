"""One client's statement on one snapshot of the tables.

A job holds nothing but what it is given and gives bytes back, so that it may run in a thread here
or in a process of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from serving import catalog, coverage, formats
from serving.coverage import Coverage
from serving.envelope import Answer, Code, RequestError, answer_body, from_engine
from serving.query import Query
from serving.worker import guard
from serving.worker.guard import Relation, Statement
from serving.worker.tables import Tables

RESULT_BYTES = 64 * 2**20  # of Arrow; a larger result is refused
BATCH_ROWS = 10_000

_UNBOUND = (duckdb.BinderException, duckdb.CatalogException)


@dataclass(frozen=True)
class _Result:
    names: list[str]
    types: list[duckdb.sqltypes.DuckDBPyType]
    table: pa.Table
    truncated: bool


class Job:
    """A query that is to be run once, by `run`, and may be stopped from another thread."""

    def __init__(self, tables: Tables, query: Query, clock: Callable[[], float]) -> None:
        self._tables, self._query, self._clock = tables, query, clock
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._stopped: RequestError | None = None

    def run(self) -> Answer:
        """The answer, or a `RequestError`."""
        started = self._clock()
        cursor = self._take()
        try:
            return self._run(cursor, started)
        except duckdb.InterruptException as error:
            raise self._stopped or from_engine(error, self._query.sql) from error
        except duckdb.Error as error:
            raise self._explained(cursor, error) from error
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

    def _take(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            self._cursor = self._tables.cursor()
            return self._cursor

    def _check_stopped(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def _run(self, cursor: duckdb.DuckDBPyConnection, started: float) -> Answer:
        self._check_stopped()
        statement = guard.check(cursor, self._query.sql)
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        covered = _covered(cursor, statement.relations)
        self._check_stopped()
        result = self._read(cursor, statement)
        cursor.execute("ROLLBACK")
        return self._answer(result, covered, started)

    def _read(self, cursor: duckdb.DuckDBPyConnection, statement: Statement) -> _Result:
        try:
            relation = cursor.sql(statement.sql, params=self._query.params or None)
        except (TypeError, ValueError, OverflowError) as error:
            message = f"params must be values that SQL has; {error}"
            raise RequestError(Code.BAD_REQUEST, message) from error
        names, types = relation.columns, relation.types
        formats.check_types(names, types)
        reader = relation.to_arrow_reader(min(self._query.max_rows + 1, BATCH_ROWS))
        try:
            batches, rows = self._batches(reader)
        finally:
            reader.close()
        table = pa.Table.from_batches(batches, reader.schema).slice(0, self._query.max_rows)
        return _Result(names, types, table, rows > self._query.max_rows)

    def _batches(self, reader: pa.RecordBatchReader) -> tuple[list[pa.RecordBatch], int]:
        """Batches until there are more rows than wanted."""
        batches: list[pa.RecordBatch] = []
        rows = size = 0
        for batch in reader:
            batches.append(batch)
            rows += batch.num_rows
            size += batch.nbytes
            if size > RESULT_BYTES:
                message = f"result must have at most {RESULT_BYTES} bytes; ask for less of it"
                raise RequestError(Code.TOO_LARGE, message)
            if rows > self._query.max_rows:
                break
        return batches, rows

    def _answer(self, result: _Result, covered: Sequence[Coverage], started: float) -> Answer:
        query, table = self._query, result.table
        if query.media_type == formats.ARROW_TYPE:
            body = formats.arrow(table)
        else:
            rows = formats.rows(table, result.types, query.integers)
            if query.media_type == formats.CSV_TYPE:
                body = formats.csv(result.names, rows)
            else:
                columns = [
                    (name, str(kind)) for name, kind in zip(result.names, result.types, strict=True)
                ]
                elapsed = round((self._clock() - started) * 1000, 3)
                body = answer_body(columns, rows, result.truncated, elapsed, covered)
        return Answer(body, query.media_type, table.num_rows, result.truncated, tuple(covered))

    def _explained(self, cursor: duckdb.DuckDBPyConnection, error: duckdb.Error) -> RequestError:
        """The error with its place, which a statement that did not bind tells when it is run."""
        first = from_engine(error, self._query.sql)
        if first.line is not None or not isinstance(error, _UNBOUND):
            return first
        try:
            cursor.execute("ROLLBACK")
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            cursor.execute(self._query.sql, self._query.params or None)
        except duckdb.Error as second:
            again = from_engine(second, self._query.sql)
            return again if again.line is not None else first
        return first


def _covered(cursor: duckdb.DuckDBPyConnection, relations: Sequence[Relation]) -> list[Coverage]:
    """The coverage of every view that is read; refuses what is no view, or not ready. The relations
    of the schema `everview` say themselves what they are about."""
    asked = [relation for relation in relations if not _listed(relation)]
    wanted = [relation.name.lower() for relation in asked if len(relation.path) == 1]
    found = coverage.read(cursor, wanted) if wanted else {}
    for relation in asked:
        if len(relation.path) != 1 or relation.name.lower() not in found:
            raise _unknown(cursor, relation)
    for each in found.values():
        if each.waits is not None:
            raise RequestError(Code.NOT_READY, f"view {each.view!r} {each.waits}")
    return list(found.values())


def _listed(relation: Relation) -> bool:
    return _of_catalog(relation) and relation.path[1].lower() in catalog.RELATIONS


def _of_catalog(relation: Relation) -> bool:
    return len(relation.path) == 2 and relation.path[0].lower() == catalog.SCHEMA


def _unknown(cursor: duckdb.DuckDBPyConnection, relation: Relation) -> RequestError:
    there = ", ".join(each.view for each in coverage.read(cursor).values()) or "none yet"
    message = f"name {relation.name!r} must be a view; there is: {there}"
    if _of_catalog(relation):
        there = ", ".join(sorted(catalog.RELATIONS))
        message = f"name {relation.name!r} must be in schema {catalog.SCHEMA!r}; there is: {there}"
    return RequestError(Code.UNKNOWN_VIEW, message, relation.place)
