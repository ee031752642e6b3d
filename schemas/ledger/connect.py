"""How a ledger is reached: who waits for whom, and what one transaction sees.

`write` holds the ledger's one write lock from its first moment, so what it read is still true when
it commits. `read` sees one state, whole, however long it takes. Differences between databases are
values of `Backend`; no other module asks which one it is.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, select, update

from schemas.errors import DamagedFile, LedgerBusy, LedgerMissing, LedgerUnwritable
from schemas.ledger import migrations, tables
from schemas.storage import fsync_folder

NAME = "ledger.db"
BUSY_SECONDS = 10.0


@dataclass(frozen=True)
class Backend:
    """What one kind of database wants to be told."""

    scheme: str
    begin_write: str  # takes the write lock before the first read
    begin_read: str  # one snapshot for all that follows
    on_connect: tuple[str, ...]
    on_connect_read: tuple[str, ...]
    noticed: str | None  # a cheap query whose value changes when another connection commits


SQLITE = Backend(
    scheme="sqlite",
    begin_write="BEGIN IMMEDIATE",
    begin_read="BEGIN",
    on_connect=("PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON"),
    on_connect_read=("PRAGMA query_only = ON",),
    noticed="PRAGMA data_version",
)


class Ledger:
    """An open ledger. One per process, shared by its threads; not to be used across a fork.

    A transaction raises `LedgerBusy` if another process holds the write lock for longer than
    `busy` seconds, and `LedgerUnwritable` if the disk takes nothing; either leaves no trace.
    """

    def __init__(
        self, path: Path, *, backend: Backend = SQLITE, busy: float = BUSY_SECONDS
    ) -> None:
        self.path, self._busy = path, busy
        url = self.url(path.parent)
        begin, read = backend.begin_write, backend.begin_read
        self._writer = _engine(url, begin, backend.on_connect, busy)
        self._reader = _engine(url, read, (*backend.on_connect, *backend.on_connect_read), busy)
        self._noticed = backend.noticed
        self._watch: Any = None  # a driver's connection of its own, outside any transaction
        self._watch_lock = threading.Lock()
        self._last: tuple[object, int] | None = None  # what `noticed` gave, and the state then

    @staticmethod
    def url(state: Path, mode: str = "rw") -> URL:
        """Where the ledger of a state folder is; `mode` is SQLite's: rw never makes a file."""
        database = (state.absolute() / NAME).as_uri()
        return URL.create(SQLITE.scheme, database=database, query={"mode": mode, "uri": "true"})

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that holds the write lock and adds 1 to the state number.

        Committed when the block ends, rolled back whole if it raises.
        """
        with self._named(), self._writer.begin() as connection:
            number = tables.state.c.number
            connection.execute(update(tables.state).values({number: number + 1}))
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot: everything read in the block belongs to one state. Writing is refused."""
        with self._named(), self._reader.begin() as connection:
            yield connection

    def state(self) -> int:
        """The number of the last committed transaction, of any process.

        Costs some microseconds while nothing happens, so it can be asked in a loop.
        """
        with self._watch_lock, self._named():
            if self._watch is None:
                self._watch = self._reader.raw_connection()
            cursor = self._watch.cursor()
            try:
                seen = object() if self._noticed is None else self._scalar(cursor, self._noticed)
                if self._last is None or self._last[0] != seen:
                    self._last = seen, self._scalar(cursor, _NUMBER)
            finally:
                cursor.close()
            return self._last[1]

    @staticmethod
    def _scalar(cursor: Any, sql: str) -> int:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])

    def close(self) -> None:
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self._writer.dispose()
        self._reader.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turns the driver's words for a held lock and for damage into errors of ours."""
        try:
            yield
        except (exc.DBAPIError, sqlite3.Error) as error:
            _rename(error, self.path, self._busy)
            raise


_NUMBER = str(select(tables.state.c.number))


def number(connection: Connection) -> int:
    """The state number as this transaction sees it; in `write`, the one that it will commit."""
    return int(connection.execute(select(tables.state.c.number)).scalar_one())


def open_ledger(state: Path, *, create: bool = False, busy: float = BUSY_SECONDS) -> Ledger:
    """Open `<state>/ledger.db`.

    Raises `LedgerMissing` where there is none, unless `create`; `LedgerTooNew` if a newer release
    wrote it, which leaves it untouched; `DamagedFile` if it is no ledger.
    """
    path = state.absolute() / NAME
    if not path.exists():
        if not create:
            raise LedgerMissing(str(path))
        _create(path)
    ledger = Ledger(path, busy=busy)
    try:
        with ledger._named():
            if _found(state) < migrations.KNOWN:
                with ledger._writer.begin() as connection:
                    migrations.migrate(connection, str(path))
    except BaseException:
        ledger.close()
        raise
    return ledger


def _found(state: Path) -> int:
    """The migration number, read without any chance to write; 0 is damage, as none is made so."""
    path = str(state.absolute() / NAME)
    engine = create_engine(Ledger.url(state, "ro"))
    try:
        with engine.connect() as connection:
            found = migrations.found(connection)
    finally:
        engine.dispose()
    migrations.refuse_newer(path, found)
    if found == 0:
        raise DamagedFile(path, "a ledger", "a database without a ledger's tables")
    return found


def _create(path: Path) -> None:
    """Make a ledger aside and link it to its name whole, so that nobody meets half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid.uuid4().hex}.{NAME}")
    try:
        engine = create_engine(URL.create(SQLITE.scheme, database=str(aside)))
        _prepare(engine, SQLITE.begin_write, SQLITE.on_connect)
        try:
            with engine.begin() as connection:
                migrations.migrate(connection, str(path))
        finally:
            engine.dispose()
        keep_wal(aside)
        try:
            os.link(aside, path)
        except FileExistsError:
            return  # another process was faster; its ledger is as good
        fsync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def keep_wal(path: Path) -> None:
    """Switch to the write-ahead log, which the file then remembers; closing leaves one file."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _engine(url: URL, begin: str, statements: tuple[str, ...], busy: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": busy})
    _prepare(engine, begin, statements)
    return engine


def _prepare(engine: Engine, begin: str, statements: tuple[str, ...]) -> None:
    """The driver must not open transactions by itself: it opens none for a SELECT."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for statement in statements:
            connection.execute(statement).close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _rename(error: exc.DBAPIError | sqlite3.Error, path: Path, busy: float) -> None:
    origin = error.orig if isinstance(error, exc.DBAPIError) else error
    code = getattr(origin, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise LedgerBusy(str(path), busy) from error
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL):
        raise LedgerUnwritable(str(path), str(origin)) from error
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        raise DamagedFile(str(path), "a ledger", str(origin)) from error
