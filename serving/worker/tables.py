"""The database that queries run on: every served view at one state, changed whole or not at all.

A process has one. What follows the ledger makes a `Change`, which is data: it can be sent to the
process that applies it, and names the files that are read there.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pyarrow as pa

from schemas import engine
from schemas.compile import sql
from schemas.errors import DamagedFile, SettingRefused, ViewFailed
from schemas.ledger.history import EpochsRow
from serving import catalog, coverage
from serving.coverage import SCHEMA, Coverage, StreamCoverage
from serving.envelope import from_engine
from serving.worker import laid, raw
from serving.worker.new_view import NewView
from serving.worker.raw import NewRaw, RawRows, ServedRaw
from serving.worker.views import ServedView

FOLDERS = "allowed_directories"
# In this order: folders cannot be named once the file system is closed, and nothing can be set once
# the configuration is locked. Each is read back.
LOCK_DOWN: tuple[tuple[str, str], ...] = (
    ("TimeZone", "UTC"),
    ("errors_as_json", "true"),
    ("async_threads", "0"),  # a process of one thread can be forked
    ("temp_directory", ""),
    (FOLDERS, ""),  # those that the database is given
    ("autoinstall_known_extensions", "false"),
    ("autoload_known_extensions", "false"),
    ("allow_community_extensions", "false"),
    ("allow_persistent_secrets", "false"),
    ("python_enable_replacements", "false"),
    ("enable_external_access", "false"),
    ("lock_configuration", "true"),
)


@dataclass(frozen=True)
class Change:
    """From one state to the next. `coverage` and `streams` are those of all, after it."""

    coverage: tuple[Coverage, ...]
    streams: tuple[StreamCoverage, ...] = ()
    drop: tuple[str, ...] = ()  # view names
    create: tuple[NewView, ...] = ()  # in the place of what their names stand for
    swap: tuple[NewView, ...] = ()  # the same, where what is there is proven to be what would be
    partials: Mapping[str, Mapping[str, pa.Table]] = field(default_factory=dict)  # by view, table
    merged: Mapping[str, pa.Table] = field(default_factory=dict)  # by view: what they came to
    raw: tuple[NewRaw, ...] = ()  # relations of streams that are made, or made anew
    raw_rows: tuple[RawRows, ...] = ()  # to be in them too, after that
    epochs: tuple[EpochsRow, ...] = ()  # to be listed behind those that are
    catalog: Mapping[str, pa.Table] = field(default_factory=dict)  # relations that are replaced

    @property
    def heavy(self) -> bool:
        """Whether a relation is made anew: a fork of who has made it costs less than to make it."""
        return bool(self.create or self.raw)


@dataclass(frozen=True)
class State:
    """What is served after a change: its number, and what is covered, by lower-case name."""

    number: int = 0
    views: Mapping[str, Coverage] = field(default_factory=dict)
    streams: Mapping[str, StreamCoverage] = field(default_factory=dict)


READING_MEMORY = "512MB"  # of the engine that reads files


class Tables:
    """A locked-down database in memory. One thread applies changes; any may take cursors, and read
    the state before a change while it is being made. `state` is that of the last change that is
    whole.

    Views may read files beneath the folders `readable`, and from nowhere else; DuckDB would write
    there too, which is for the guard and the worker's confinement to prevent. No thread is started,
    so that the process can be forked.
    """

    def __init__(self, *, memory_limit: str | None = None, readable: Sequence[Path] = ()) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "async_threads": 0}
        if memory_limit:
            config["memory_limit"] = memory_limit
        self._engine = engine.connect(memory_limit=READING_MEMORY)
        self._parent = duckdb.connect(":memory:", config=config)
        self._cursors = threading.Lock()  # a connection is not to be used by two threads at once
        self._turn = threading.Lock()  # so that a snapshot knows its state
        self.state = State()
        self._parent.execute(f"CREATE SCHEMA {SCHEMA}")
        self._parent.execute(f"CREATE SCHEMA {raw.SCHEMA}")
        _lock_down(self._parent, readable)
        self._writer = self._parent.cursor()
        self._views: dict[str, ServedView] = {}
        self._raws: dict[str, ServedRaw] = {}
        self._made = itertools.count(1)
        laid.create(self._writer)
        self.apply(Change((), catalog=catalog.EMPTY))
        catalog.create(self._writer)
        raw.create(self._writer, ())

    def apply(self, change: Change, number: int | None = None) -> Change:
        """Make a change whole. If it raises, nothing has changed; `ViewFailed` blames a view.

        Returns the same change for a process with the same tables: what was merged and decided here
        is not computed there again.
        """
        views, raws = dict(self._views), dict(self._raws)
        self._writer.execute("BEGIN TRANSACTION")
        try:
            taken = self._apply(change, views, raws)
            state = State(
                self.state.number if number is None else number,
                {each.view.lower(): each for each in change.coverage},
                {each.stream.lower(): each for each in change.streams},
            )
            with self._turn:
                self._writer.execute("COMMIT")
                self.state = state
        except BaseException:
            with suppress(duckdb.Error):  # there is none where the COMMIT failed
                self._writer.execute("ROLLBACK")
            raise
        self._views, self._raws = views, raws
        return taken

    @contextmanager
    def beginning(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[State]:
        """Begin a transaction that reads. Its snapshot is taken by the first statement that is
        bound in the block, and is of the state that is given."""
        with self._turn:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield self.state

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for one request; whoever takes it closes it."""
        with self._cursors:
            return self._parent.cursor()

    def close(self) -> None:
        self._writer.close()
        self._parent.close()
        self._engine.con.close()

    def _apply(
        self, change: Change, views: dict[str, ServedView], raws: dict[str, ServedRaw]
    ) -> Change:
        anew, stayed = list(change.create), list[NewView]()
        merged: dict[str, pa.Table] = {}
        for name in change.drop:
            views.pop(name).drop(self._writer)
        for new in change.create:
            with _named(new.view.name, while_loading=True):
                self._create(new, views)
        for new in change.swap:
            with _named(new.view.name, while_loading=True):
                (stayed if self._swap(new, views) else anew).append(new)
        for name, partials in change.partials.items():
            with _named(name):
                views[name].apply(self._writer, partials)
                came = views[name].merged(self._writer, partials)
            if came is not None:
                merged[name] = came
        for name, rows in change.merged.items():
            views[name].take(self._writer, rows)
        for made in change.raw:
            raws[made.raw.stream] = ServedRaw(made.raw)
            with _named(f"{raw.SCHEMA}.{made.raw.stream}", while_loading=True):
                raws[made.raw.stream].make(self._writer, made)
        if change.raw:
            raw.create(self._writer, raws.values())
        for added in change.raw_rows:
            with _named(f"{raw.SCHEMA}.{added.stream}"):
                raws[added.stream].add(self._writer, added)
        coverage.write(self._writer, change.coverage, change.streams)
        catalog.write(self._writer, change.catalog)
        catalog.append(self._writer, change.epochs)
        return replace(
            change,
            create=tuple(anew),
            swap=tuple(stayed),
            partials={name: each for name, each in change.partials.items() if name not in merged},
            merged={**change.merged, **merged},
        )

    def _create(self, new: NewView, views: dict[str, ServedView]) -> None:
        before = views.pop(new.view.name, None)
        if before is not None:
            before.drop(self._writer)
        served = ServedView(new, next(self._made), self._engine)
        views[new.view.name] = served
        served.create(self._writer)
        for partials in new.rounds(self._engine):
            served.apply(self._writer, partials)

    def _swap(self, new: NewView, views: dict[str, ServedView]) -> bool:
        """Whether the tables could stay."""
        before, after = views[new.view.name], None
        if new.batch is not None:
            after = before.swapped(self._writer, new.batch)
        if after is None:
            self._create(new, views)
        else:
            views[new.view.name] = after
        return after is not None


@contextmanager
def _named(view: str, *, while_loading: bool = False) -> Iterator[None]:
    """What a view's own SQL, values or files are to blame for, as an error that names the view.
    Others, such as a lack of memory, stay what they are; while a view is loaded it is to blame for
    that too, as others can do without it."""
    blamed = (duckdb.DataError, duckdb.ProgrammingError, duckdb.NotSupportedError)
    try:
        yield
    except DamagedFile as error:
        raise ViewFailed(view, str(error)) from error
    except duckdb.Error as error:
        if while_loading or isinstance(error, blamed):
            raise ViewFailed(view, from_engine(error, "").message) from error
        raise


def _lock_down(connection: duckdb.DuckDBPyConnection, readable: Sequence[Path]) -> None:
    called = {each for folder in readable for each in (folder.absolute(), folder.resolve())}
    folders = sorted(f"{folder}/" for folder in called)
    for setting, value in LOCK_DOWN:
        literal = sql.texts(folders) if setting == FOLDERS else sql.text(value)
        connection.execute(f"SET GLOBAL {setting} = {literal}")
    for setting, value in LOCK_DOWN:
        # a result that is not read to its end would keep its snapshot, and all that changes, alive
        ((row,),) = connection.execute("SELECT current_setting($n)", {"n": setting}).fetchall()
        if setting == FOLDERS:
            held, expected, found = sorted(row) == folders, str(folders), str(row)
        else:
            held, expected, found = str(row).lower() == value.lower(), value, str(row)
        if not held:
            raise SettingRefused(setting, expected, found)
