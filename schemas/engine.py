"""The one engine: runs in DuckDB what `schemas.compile` emits. schemas' only import of duckdb.

The same calls serve a task of either Spark layer, serving and the tests, so that parsing, folding
and merging mean the same wherever they run.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from schemas import id_file, reference_file
from schemas.compile import CompiledReference, CompiledStream, CompiledView, parse, reading, sql
from schemas.id_file import IdFile
from schemas.language.binder import FunctionUse, SqlError
from schemas.language.reference import Reference
from schemas.language.scope import RECORD_COLUMNS
from schemas.language.stream import Stream
from schemas.parquet import Description

# one record of Kafka, as a task hands it over; without headers it has NULL for them
HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
_FIELDS: list[tuple[str, pa.DataType]] = [
    ("_partition", pa.int32()),
    ("_offset", pa.int64()),
    ("_timestamp", pa.timestamp("us")),
    ("_key", pa.binary()),
    ("_value", pa.binary()),
    ("_headers", HEADERS),
]
RECORDS = pa.schema(_FIELDS)
_HEADERS = ("_headers", "STRUCT(key VARCHAR, value BLOB)[]")
# where EmptyTables has none of them
RECORDS_TABLE = "everview.records"
# scalar functions that the engine calls steady though their result depends on its state
UNSTEADY = frozenset(
    {"version", "pg_typeof", "current_localtime", "current_localtimestamp", "getenv", "index_key"}
    # of one argument it counts from today; of the text that its argument has, which we rewrite; of
    # the tables that there are
    | {"age", "alias", "json_serialize_plan"}
)
MACROS = frozenset(
    {"array_append", "array_prepend", "array_to_string", "date_add", "days_in_month", "fdiv"}
    | {"fmod", "if", "ifnull", "json", "nullif", "split_part"}
)


# what DuckDB's messages go on with, and would lead astray here
BESIDE = ("\n\tCandidate functions", ", or use ANY_VALUE(", " Use SET ")


# what an expression and its values are to blame for; a full disk, say, is another matter
ENGINE_FAULTS = (duckdb.Error,)  # all that it raises, a want of memory or of room to spill too
OWN_FAULTS = (duckdb.DataError, duckdb.ProgrammingError, duckdb.NotSupportedError)
COUNTED = "SELECT * EXCLUDE (_duplicate) FROM events WHERE NOT _duplicate"
SHOWN_PLACES = 5  # of rows that share a key
# where a message of the engine goes on with what it found
_VALUES = re.compile(r"""\s*(?:['"`:]|[-+]?\b\d)""")


@dataclass(frozen=True)
class Folded:
    """What one call of `Engine.fold` makes of a range of records: tables for a segment, counts, and
    for each view whose own expression failed, the engine's message."""

    master: pa.Table
    rejects: pa.Table
    ids: pa.Table | None
    partials: Mapping[str, Mapping[str, pa.Table]]
    accepted: int
    duplicates: int
    rejected: int
    suspended: Mapping[str, str]
    left_out: Mapping[str, int]  # accepted events that do not fit a version, where there are any


def connect(*, memory_limit: str | None = None, threads: int = 1, temp: str = "") -> Engine:
    """An engine on a database of its own in memory.

    `memory_limit` is DuckDB's text ("512MB"); `temp` the folder that large operations spill to,
    none if empty.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "async_threads": 0,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "temp_directory": temp,
        "python_enable_replacements": False,
    }
    if threads == 1:
        config["async_threads"] = 0  # else it starts as many as it likes for reading files
    if memory_limit:
        config["memory_limit"] = memory_limit
    con = duckdb.connect(":memory:", config=config)
    # the zone of the machine must not matter; as part of the config it is refused
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    return Engine(con, threads)


class Engine:
    """DuckDB with the tables that folding needs: references by content, and counted ids."""

    def __init__(self, con: duckdb.DuckDBPyConnection, threads: int = 1) -> None:
        self.con, self._threads = con, threads
        self._references: set[str] = set()
        self._ids: dict[str, int] = {}

    def execute(self, statement: str) -> None:
        """Run a statement for its effect."""
        self.con.execute(statement)

    def use_threads(self, threads: int) -> None:
        """How many threads a statement may take from now on."""
        if threads != self._threads:
            self.execute(f"SET GLOBAL threads = {threads}")
            self._threads = threads

    def arrow(self, select: str) -> pa.Table:
        """The rows of a SELECT."""
        table: pa.Table = self.con.sql(select).to_arrow_table()
        return table

    def register(self, name: str, table: pa.Table) -> None:
        """Make an Arrow table readable under a name."""
        self.con.register(name, table)

    def copy(self, select: str, path: Path, description: Description) -> int:
        """Write the rows of a SELECT, in its order, as a Parquet file; gives their number."""
        told = ", ".join(f"{key}: {sql.text(text)}" for key, text in description.metadata().items())
        options = f"FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{told}}}"
        return self._number(f"COPY ({select}) TO {sql.text(str(path))} ({options})")

    def files(self, paths: Sequence[Path]) -> str:
        """The rows of Parquet files, as a relation; there must be one. A folder named `k=x` above
        them is no column."""
        return f"read_parquet({sql.texts(map(str, paths))}, hive_partitioning = false)"

    def count_from(self, select: str) -> None:
        """Let views be folded over what a SELECT gives, such as `CompiledView.counted`."""
        self._count(select)

    def fold(
        self,
        stream: CompiledStream,
        views: Sequence[CompiledView],
        records: pa.Table,
        *,
        epoch: int,
        instant: datetime,
        since: datetime,
        sealed_ids: Sequence[IdFile] = (),
    ) -> Folded:
        """Parse, check, tell duplicates and fold every view, for the records (columns RECORDS) of
        one task.

        `instant` is the epoch's own and `since` the earliest at which a counted id makes a
        duplicate. Ids of earlier epochs must have been added or be in `sealed_ids`, whose hashes
        are this engine's; references must be loaded. A view whose expression fails is left out of
        `partials` and named in `suspended`.
        """
        times = {"$instant": _literal(instant), "$since": _literal(since)}
        self._parse(stream, records)
        if stream.key:
            self._know_ids(stream, sealed_ids)
        for statement in stream.dedup:
            self.execute(_with(statement, times))
        partials: dict[str, Mapping[str, pa.Table]] = {}
        suspended: dict[str, str] = {}
        left_out: dict[str, int] = {}
        self._count(COUNTED)
        for view in views:
            if stream.version in view.typed:
                self._fold_or_suspend(view, COUNTED, partials, suspended)
        for view in views:
            if stream.version not in view.typed:
                self._fold_reread(view, partials, suspended, left_out)
        master = self.arrow(f"SELECT {epoch}::BIGINT AS _epoch, * FROM ({stream.master})")
        rejects = self.arrow(stream.rejects)
        ids = self.arrow(_with(stream.ids, times)) if stream.key else None
        duplicates = self._number("SELECT count(*) FILTER (WHERE _duplicate) FROM events")
        self._drop("parsed", "events", "known", "proposed", "reread")
        return Folded(
            master,
            rejects,
            ids,
            partials,
            master.num_rows,
            duplicates,
            rejects.num_rows,
            suspended,
            left_out,
        )

    def ids_epoch(self, stream: str) -> int:
        """The last epoch whose counted ids this engine knows; 0 before the first."""
        return self._ids.get(stream, 0)

    def add_ids(self, stream: CompiledStream, epoch: int, tables: Iterable[pa.Table]) -> None:
        """Take in the counted ids of a committed epoch; or of several, up to `epoch`."""
        name = self._ids_table(stream)
        select = _hashed(stream.key_types, f"{epoch}::BIGINT AS _epoch")
        for table in tables:
            self.register("added", table)
            self.execute(f"INSERT INTO {name} {select}")
            self.con.unregister("added")
        self._ids[stream.name] = epoch

    def forget_ids(self, stream: CompiledStream, before: datetime) -> None:
        """Drop ids that were counted before an instant, when they no longer make duplicates."""
        self.execute(f"DELETE FROM {self._ids_table(stream)} WHERE _instant < {_literal(before)}")

    def leave_ids(self, stream: CompiledStream, until: int) -> None:
        """Drop the ids of epochs up to `until`, which are sealed: their files are looked into."""
        self.execute(f"DELETE FROM {self._ids_table(stream)} WHERE _epoch <= {until}")
        self._ids[stream.name] = max(self._ids[stream.name], until)

    def write_ids(
        self,
        path: Path,
        key: Sequence[tuple[str, str]],
        tables: Iterable[pa.Table],
        *,
        since: datetime | None = None,
        told: Mapping[str, str] | None = None,
    ) -> int:
        """Write ids as an `IdFile` that also says what is `told`; gives how many there are. Those
        of before `since` are left out. Of memory this takes what sorting takes, which spills."""
        self.execute(f"CREATE OR REPLACE TEMP TABLE gathered ({_id_columns(key)})")
        where = "" if since is None else f" WHERE _instant >= {_literal(since)}"
        for table in tables:
            self.register("added", table)
            self.execute(f"INSERT INTO gathered {_hashed(key)}{where}")
            self.con.unregister("added")
        rows = self.con.sql("FROM gathered ORDER BY _hash").to_arrow_reader(id_file.BATCH_ROWS)
        said = {**(told or {}), id_file.PROBE.decode(): hash_probe()}
        written = id_file.write(path, rows.schema, rows, said)
        self._drop("gathered")
        return written

    def has_reference(self, reference: CompiledReference) -> bool:
        """Whether this content is loaded."""
        return reference.table in self._references

    def load_reference(self, reference: CompiledReference, data: bytes) -> None:
        """Load the file of a reference; it was checked when it was deployed."""
        self.register("lines", reference_file.rows(reference, data))
        table = sql.name(reference.table)
        self.execute(f"CREATE OR REPLACE TABLE {table} AS {reference.load}")
        self.con.unregister("lines")
        self._references.add(reference.table)

    def reference_problems(self, reference: CompiledReference, data: bytes) -> list[str]:
        """What keeps a file from being this reference, with the lines of a CSV file or the rows of
        a Parquet file, both from 1 on."""
        try:
            self.register("lines", reference_file.rows(reference, data))
            rows = self.con.execute(reference.wrong).fetchall()
        except reference_file.NotReadable as error:
            return [str(error)]
        except OWN_FAULTS as error:
            return [f"columns must be of plain types; got: {_first_line(error)}"]
        finally:
            self.con.unregister("lines")
        where = reference_file.places(reference, data) if rows else None
        return [
            f"{_places(found, where)}, column {column!r} must be {expected}; got {value!r}"
            for found, column, expected, value in rows
        ]

    def _parse(self, stream: CompiledStream, records: pa.Table) -> None:
        """Leave `parsed`. TRY does not catch all that a value can make an expression raise, so
        where the whole fails, the events that fail alone are looked for and rejected."""
        try:
            self._parse_all(stream, records)
        except (*OWN_FAULTS, duckdb.OutOfMemoryException):
            self._parse_halves(stream, records)

    def _parse_all(self, stream: CompiledStream, records: pa.Table) -> None:
        self.register("records", records)
        try:
            for statement in stream.parse:
                self.execute(statement)
        finally:
            self.con.unregister("records")

    def _parse_halves(self, stream: CompiledStream, records: pa.Table) -> None:
        # what fails without a record is no fault of a record, and is raised here
        self._parse_all(stream, records.slice(0, 0))
        self.execute("CREATE OR REPLACE TEMP TABLE gathered AS FROM parsed")
        whole, middle = records.num_rows, records.num_rows // 2
        left = [records.slice(middle), records.slice(0, middle)] if whole > 1 else [records]
        while left:
            part = left.pop()
            try:
                self._parse_all(stream, part)
                self.execute("INSERT INTO gathered FROM parsed")
            except (*OWN_FAULTS, duckdb.OutOfMemoryException) as error:
                if part.num_rows > 1:
                    middle = part.num_rows // 2
                    left += [part.slice(middle), part.slice(0, middle)]
                    continue
                if isinstance(error, duckdb.OutOfMemoryException):
                    self._parse_all(stream, _without_value(part))  # is there any memory at all
                self._reject(part, error)
        self.execute("CREATE OR REPLACE TEMP TABLE parsed AS FROM gathered")
        self._drop("gathered")

    def _reject(self, record: pa.Table, error: duckdb.Error) -> None:
        found = sql.text(_first_line(error)[: parse.SHOWN].replace("\0", ""))
        self.register("records", record)
        self.execute(
            "INSERT INTO gathered BY NAME "
            f"SELECT *, 'expression' AS _reason, '' AS _expected, {found} AS _found FROM records"
        )
        self.con.unregister("records")

    def _count(self, select: str) -> None:
        """What views fold."""
        self.execute(f"CREATE OR REPLACE TEMP VIEW counted AS {select}")

    def _fold_reread(
        self,
        view: CompiledView,
        partials: dict[str, Mapping[str, pa.Table]],
        suspended: dict[str, str],
        left_out: dict[str, int],
    ) -> None:
        """Fold a view that reads the bytes by another declaration than the one that accepted
        them."""
        accepted = f"SELECT {sql.names(parse.RECORD)} FROM events WHERE NOT _duplicate"
        read = reading.over(accepted, view.reread)
        try:
            self.execute(f"CREATE OR REPLACE TEMP TABLE reread AS {read}")
        except OWN_FAULTS as error:
            suspended[view.version] = f"its declaration cannot be read by: {_without_values(error)}"
            return
        misfits = self._number("SELECT count(_reason) FROM reread")
        if misfits:
            left_out[view.version] = misfits
        counted = "SELECT * EXCLUDE (_reason) FROM reread WHERE _reason IS NULL"
        self._count(counted)
        self._fold_or_suspend(view, counted, partials, suspended)

    def _fold_or_suspend(
        self,
        view: CompiledView,
        counted: str,
        partials: dict[str, Mapping[str, pa.Table]],
        suspended: dict[str, str],
    ) -> None:
        try:
            partials[view.version] = self._fold(view)
        except duckdb.CatalogException:  # what it reads is not there: no fault of the view
            raise
        except OWN_FAULTS as error:
            suspended[view.version] = self._failure(view, counted, error)

    def _fold(self, view: CompiledView) -> dict[str, pa.Table]:
        return {table.name: self.arrow(table.fold) for table in view.tables}

    def _failure(self, view: CompiledView, counted: str, error: duckdb.Error) -> str:
        """Why a view could not be folded: the engine's words without the values that it met, and
        the event with which it begins to fail."""
        ordered = f"{counted} ORDER BY _partition, _offset"
        passes, fails = -1, self._number("SELECT count(*) FROM counted")
        try:
            while fails - passes > 1:
                middle = (passes + fails) // 2
                self._count(f"{ordered} LIMIT {middle}")
                try:
                    self._fold(view)
                    passes = middle
                except OWN_FAULTS as earlier:
                    fails, error = middle, earlier
        finally:
            self._count(counted)
        if not fails:
            return _first_line(error)
        at = f"SELECT _partition, _offset FROM ({ordered}) LIMIT 1 OFFSET {fails - 1}"
        ((partition, offset),) = self.con.execute(at).fetchall()
        return f"{_without_values(error)} (from partition {partition}, offset {offset} on)"

    def _ids_table(self, stream: CompiledStream) -> str:
        """Makes the table of counted ids of epochs that are not sealed, at first use."""
        name = sql.name(f"ids_{stream.name}")
        if stream.name not in self._ids:
            columns = f"{_id_columns(stream.key_types)}, _epoch BIGINT"
            self.execute(f"CREATE TABLE {name} ({columns})")
            self._ids[stream.name] = 0
        return name

    def _know_ids(self, stream: CompiledStream, sealed: Sequence[IdFile]) -> None:
        """Leave `ids`: those in memory, and of those in files the ones that `parsed` may hold."""
        known = self._ids_table(stream)
        columns = sql.names([id_file.HASH, *stream.key, id_file.INSTANT])
        self.execute(
            f"CREATE OR REPLACE TEMP TABLE proposed AS SELECT {columns} FROM {known} LIMIT 0"
        )
        if sealed:
            asked = f"hash({sql.names(stream.key)})"
            hashes = self.arrow(
                f"SELECT DISTINCT {asked} AS _hash FROM parsed WHERE _reason IS NULL ORDER BY ALL"
            )["_hash"].to_numpy()
            for file in sealed:
                found = list(file.matching(hashes))
                if found:
                    self.register("added", pa.Table.from_batches(found))
                    self.execute(f"INSERT INTO proposed SELECT {columns} FROM added")
                    self.con.unregister("added")
        self.execute(
            "CREATE OR REPLACE TEMP VIEW ids AS "
            f"SELECT {columns} FROM {known} UNION ALL SELECT {columns} FROM proposed"
        )

    def _number(self, select: str) -> int:
        ((number,),) = self.con.execute(select).fetchall()
        return int(number)

    def _drop(self, *tables: str) -> None:
        for table in tables:
            self.execute(f"DROP TABLE IF EXISTS temp.{table}")


class EmptyTables:
    """The engine over empty tables of a project's streams and references: the language's Binder."""

    def __init__(self, streams: Iterable[Stream], references: Iterable[Reference]) -> None:
        self._con = connect().con
        self._con.execute("SET enable_external_access = false")
        self._con.execute("SET errors_as_json = true")
        for stream in streams:
            declared = [(c.name, c.type) for c in stream.columns.columns]
            self._create(sql.name(stream.name), [*declared, *RECORD_COLUMNS])
        for reference in references:
            columns = [(c.name, c.type) for c in reference.columns.columns]
            self._create(sql.name(reference.name), columns)
        # no definition is in a schema of its own
        self._con.execute("CREATE SCHEMA everview")
        self._create(RECORDS_TABLE, [*RECORD_COLUMNS, ("_value", "BLOB"), _HEADERS])

    @property
    def aggregates(self) -> frozenset[str]:
        """Names of all aggregate functions."""
        return _functions().aggregates

    @property
    def steady(self) -> frozenset[str]:
        """Names of the functions and macros whose result depends on their arguments alone."""
        return _functions().steady

    @property
    def known(self) -> frozenset[str]:
        """Names of all functions."""
        return _functions().known

    def describe(self, select: str) -> tuple[tuple[str, str], ...]:
        """Names and types of the columns of a SELECT; SqlError where DuckDB refuses it."""
        head = "DESCRIBE "
        try:
            rows = self._con.execute(head + select).fetchall()
        except duckdb.Error as error:
            raise _sql_error(error, head + select, len(head)) from error
        return tuple((str(row[0]), str(row[1])) for row in rows)

    def functions(self, select: str) -> tuple[FunctionUse, ...]:
        """Every function call in a SELECT, in DuckDB's own parse."""
        row = self._con.execute("SELECT json_serialize_sql(?)", [select]).fetchone()
        tree = _json(row[0] if row else "{}")
        if tree.get("error"):
            at = tree.get("position")
            offset = None if at is None else _characters(select, int(str(at)))
            raise SqlError(str(tree.get("error_message")), offset)
        return tuple(_calls(tree, select))

    def evaluate(self, expression: str) -> None:
        """Compute an expression without columns; SqlError where DuckDB cannot."""
        try:
            self._con.execute(f"SELECT {expression}").fetchall()
        except duckdb.Error as error:
            raise _sql_error(error, expression, 0) from error

    def _create(self, table: str, columns: Sequence[tuple[str, str]]) -> None:
        # of a declaration with problems too, so that what reads from it can be checked
        typed: dict[str, str] = {}
        for column, kind in columns:
            typed.setdefault(column.lower(), f"{sql.name(column)} {kind or 'VARCHAR'}")
        listed = ", ".join(typed.values()) or "_none VARCHAR"
        self._con.execute(f"CREATE TABLE IF NOT EXISTS {table} ({listed})")


def hash_probe() -> str:
    """DuckDB's `hash()` of a fixed value of each kind, and what its time zones say of a fixed
    instant: part of every version, since neither is promised to stay as it is."""
    return _hash_probe()


@functools.cache
def _hash_probe() -> str:
    probes = "hash(42::BIGINT), hash('everview'), hash(1.5::DOUBLE), hash(1.5::DECIMAL(12,2)), "
    probes += "hash(DATE '2013-01-01'), hash(TIMESTAMP '2013-01-01 10:00:00'), hash(true), "
    probes += "hash(1::BIGINT, 'a'), "
    probes += "epoch_us(timezone('America/New_York', TIMESTAMP '2013-11-03 01:30:00'))"
    row = connect().con.execute(f"SELECT list_value({probes})::VARCHAR").fetchone()
    assert row is not None
    return str(row[0])


@functools.cache
def reserved_words() -> frozenset[str]:
    """Words of SQL that a name could only be in quotes."""
    rows = (
        connect()
        .con.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
        )
        .fetchall()
    )
    return frozenset(str(name) for (name,) in rows)


@dataclass(frozen=True)
class _Functions:
    aggregates: frozenset[str]
    steady: frozenset[str]
    known: frozenset[str]


@functools.cache
def _functions() -> _Functions:
    con = connect().con
    rows = con.execute(
        "SELECT lower(function_name), function_type, bool_and(stability = 'CONSISTENT') "
        "FROM duckdb_functions() GROUP BY ALL"
    ).fetchall()
    aggregates = {name for name, kind, _ in rows if kind == "aggregate"}
    steady = {name for name, kind, consistent in rows if kind == "scalar" and consistent}
    macros = {name for name, kind, _ in rows if kind == "macro"}
    allowed = {name for name in macros if name in MACROS or name.startswith("list_")}
    unsteady = {name for name, kind, consistent in rows if kind == "scalar" and not consistent}
    return _Functions(
        frozenset(aggregates),
        frozenset((steady | allowed) - unsteady - UNSTEADY),
        # what the parser makes of a word of SQL is in no list
        frozenset({name for name, _, _ in rows} | {"unnest", "columns"}),
    )


def _json(text: object) -> dict[str, object]:
    value = json.loads(str(text))
    return value if isinstance(value, dict) else {}


def _calls(node: object, text: str, octets: int = 0) -> Iterable[FunctionUse]:
    """`octets` is the place of what the node is in, for those that have none (2^64 - 1)."""
    if isinstance(node, dict):
        found = int(node.get("query_location") or octets)
        octets = found if found <= len(text.encode()) else octets
        if node.get("class") == "FUNCTION":
            name = str(node["function_name"]).lower()
            at = _characters(text, octets)
            yield FunctionUse("count" if name == "count_star" else name, at)
        for value in node.values():
            yield from _calls(value, text, octets)
    elif isinstance(node, list):
        for value in node:
            yield from _calls(value, text, octets)


def _characters(text: str, octets: int) -> int:
    """DuckDB counts bytes."""
    return len(text.encode()[:octets].decode(errors="ignore"))


def _sql_error(error: duckdb.Error, text: str, head: int) -> SqlError:
    """DuckDB's message and place as it gives them under `errors_as_json`; `head` characters of
    `text` are not the caller's."""
    _, brace, rest = str(error).partition("{")
    told = _json(brace + rest) if brace else {"exception_message": str(error)}
    message = str(told.get("exception_message"))
    for beside in BESIDE:
        message = message.partition(beside)[0]
    at = told.get("position")
    offset = None if at is None else max(0, _characters(text, int(str(at))) - head)
    return SqlError(" ".join(message.split()), offset)


def _id_columns(key: Sequence[tuple[str, str]]) -> str:
    named = ", ".join(f"{sql.name(column)} {kind}" for column, kind in key)
    return f"_hash UBIGINT, {named}, _instant TIMESTAMP"


def _hashed(key: Sequence[tuple[str, str]], *more: str) -> str:
    """The ids in the relation `added`, hashed here: never by the hash that they come with, which
    another engine may have made."""
    names = sql.names(column for column, _ in key)
    typed = ", ".join(f"{sql.name(column)}::{kind} AS {sql.name(column)}" for column, kind in key)
    columns = ", ".join([f"hash({names}) AS _hash", names, "_instant", *more])
    return f"SELECT {columns} FROM (SELECT {typed}, _instant FROM added)"


def _first_line(error: duckdb.Error) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _places(rows: Sequence[int], lines: Sequence[int] | None) -> str:
    """The rows of these numbers, or the lines that they begin at."""
    word, numbers = ("row", list(rows)) if lines is None else ("line", [lines[n - 1] for n in rows])
    shown = [f"{number}" for number in numbers[:SHOWN_PLACES]]
    more = len(numbers) - len(shown)
    listed = ", ".join(shown[:-1]) + (" and " if len(shown) > 1 else "") + shown[-1]
    return f"{word}{'s' * (len(shown) > 1)} {listed}" + (f" and {more} more" if more else "")


def _without_values(error: duckdb.Error) -> str:
    """The message up to where it could quote an event."""
    kind, colon, rest = _first_line(error).partition(": ")
    return kind + colon + _VALUES.split(rest)[0]


def _without_value(record: pa.Table) -> pa.Table:
    at = record.schema.get_field_index("_value")
    return record.set_column(at, "_value", pa.nulls(record.num_rows, pa.binary()))


def _literal(instant: datetime) -> str:
    return f"TIMESTAMP '{instant.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}'"


def _with(statement: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        statement = statement.replace(name, value)
    return statement
