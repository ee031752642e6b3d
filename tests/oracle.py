"""The slow, obvious answer: a loop decides which events count, DuckDB runs the view's own SELECT.

Nothing here uses SQL that `schemas` emits, and values are typed by whoever made the events.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa

Row = Mapping[str, object]


def counted(
    epochs: Iterable[tuple[datetime, Sequence[Row]]], key: Sequence[str], within: timedelta
) -> list[Row]:
    """The events that count, of those that fit their declaration.

    `epochs` are the instant and the events of each, in the order of (partition, offset); an event
    is a duplicate iff the last counted one with its id was committed less than `within` before.
    """
    last: dict[Hashable, datetime] = {}
    rows = []
    for instant, events in epochs:
        for event in events:
            identity = tuple(event[column] for column in key)
            if key and identity in last and instant - last[identity] < within:
                continue
            last[identity] = instant
            rows.append(event)
    return rows


class Oracle:
    """DuckDB over plain tables of typed rows."""

    def __init__(self) -> None:
        self._con = duckdb.connect()
        self._con.execute("SET TimeZone = 'UTC'")

    def fill(self, table: str, columns: Sequence[tuple[str, str]], rows: Iterable[Row]) -> None:
        """Make a table hold these rows and nothing else."""
        declared = ", ".join(f'"{name}" {kind}' for name, kind in columns)
        self._con.execute(f"CREATE OR REPLACE TABLE {table} ({declared})")
        listed = list(rows)
        if listed:
            values = {name: [row[name] for row in listed] for name, _ in columns}
            self._con.register("filling", pa.Table.from_pydict(values))
            self._con.execute(f"INSERT INTO {table} SELECT * FROM filling")
            self._con.unregister("filling")

    def keep(self, table: str, select: str) -> None:
        """Make a name stand for what a SELECT gives."""
        self._con.execute(f"CREATE OR REPLACE VIEW {table} AS {select}")

    def answer(self, select: str) -> list[tuple[object, ...]]:
        """What DuckDB says to a view's own SELECT; rows in no order."""
        return self._con.execute(select).fetchall()
