"""The database that queries run on: every served view at one state, changed whole or not at all.

A process has one. What follows the ledger makes a `Change`, which holds all that a database
elsewhere would need too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from schemas.compile import CompiledView
from schemas.errors import SettingRefused, ViewFailed
from serving import coverage
from serving.coverage import SCHEMA, Coverage
from serving.envelope import from_engine
from serving.views import ServedView

# In this order: nothing can be set once the configuration is locked. Each is read back.
LOCK_DOWN: tuple[tuple[str, str], ...] = (
    ("TimeZone", "UTC"),
    ("errors_as_json", "true"),
    ("temp_directory", ""),
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
    """From one state to the next. `coverage` is that of all views, after it."""

    coverage: tuple[Coverage, ...]
    create: tuple[CompiledView, ...] = ()
    drop: tuple[str, ...] = ()  # view names; before `create`, so that a version can be replaced
    partials: Mapping[str, Mapping[str, pa.Table]] = field(default_factory=dict)  # by view, table


class Tables:
    """A locked-down database in memory. One thread applies changes; any may take cursors."""

    def __init__(self, *, memory_limit: str | None = None) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {"threads": 1}
        if memory_limit:
            config["memory_limit"] = memory_limit
        self._parent = duckdb.connect(":memory:", config=config)
        self._cursors = threading.Lock()  # a connection is not to be used by two threads at once
        self._parent.execute(f"CREATE SCHEMA {SCHEMA}")
        _lock_down(self._parent)
        self._writer = self._parent.cursor()
        self._views: dict[str, ServedView] = {}
        self.apply(Change(()))

    def apply(self, change: Change) -> None:
        """Make a change whole. If it raises, nothing has changed; `ViewFailed` blames a view."""
        views = dict(self._views)
        self._writer.execute("BEGIN TRANSACTION")
        try:
            self._apply(change, views)
            self._writer.execute("COMMIT")
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise
        self._views = views

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for one request; whoever takes it closes it."""
        with self._cursors:
            return self._parent.cursor()

    def close(self) -> None:
        self._writer.close()
        self._parent.close()

    def _apply(self, change: Change, views: dict[str, ServedView]) -> None:
        for name in change.drop:
            views.pop(name).drop(self._writer)
        for view in change.create:
            views[view.name] = served = ServedView(view)
            with _named(view.name):
                served.create(self._writer)
        for name, partials in change.partials.items():
            with _named(name):
                views[name].apply(self._writer, partials)
        coverage.write(self._writer, change.coverage)


@contextmanager
def _named(view: str) -> Iterator[None]:
    """What a view's own SQL or values are to blame for, as an error that names the view. Others,
    such as a lack of memory, stay what they are."""
    try:
        yield
    except (duckdb.DataError, duckdb.ProgrammingError, duckdb.NotSupportedError) as error:
        raise ViewFailed(view, from_engine(error, "").message) from error


def _lock_down(connection: duckdb.DuckDBPyConnection) -> None:
    for setting, value in LOCK_DOWN:
        connection.execute(f"SET GLOBAL {setting} = '{value}'")
    for setting, expected in LOCK_DOWN:
        # a result that is not read to its end would keep its snapshot, and all that changes, alive
        ((row,),) = connection.execute("SELECT current_setting($n)", {"n": setting}).fetchall()
        found = str(row)
        if found.lower() != expected.lower():
            raise SettingRefused(setting, expected, found)
