"""What an answer covers (invariant 11): a table that changes in the transaction that changes the
answers, so that one read transaction sees both as of one state."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

SCHEMA = "everview_internal"  # where served tables live; no statement of a client reaches it

_FIELDS: dict[str, pa.DataType] = {
    "view": pa.string(),
    "version": pa.string(),
    "stream": pa.string(),
    "cut": pa.int64(),
    "epoch": pa.int64(),
    "position": pa.string(),  # JSON
    "fresh_as_of": pa.string(),
    "degraded": pa.string(),
    "ready": pa.bool_(),
}
_COLUMNS = pa.schema(_FIELDS)
_REPLACE = f"CREATE OR REPLACE TABLE {SCHEMA}.coverage AS FROM new_coverage"
_READ = f"FROM {SCHEMA}.coverage"


@dataclass(frozen=True)
class Coverage:
    """What the answers of one view count, at one state."""

    view: str
    version: str
    stream: str
    cut: int  # batch owns the epochs up to it; 0 while there is no batch view
    epoch: int  # all epochs up to it are counted
    position: Mapping[str, int]  # partition -> next offset, after that epoch
    fresh_as_of: str | None  # ISO 8601; what was in Kafka then is counted. None before any epoch
    degraded: str | None  # why the view does not move on, or does not count everything
    ready: bool  # as far as the ledger was when this process started

    def json(self) -> dict[str, Any]:
        """The form that goes with every answer."""
        return {
            "view": self.view,
            "version": self.version,
            "cut": self.cut,
            "epoch": self.epoch,
            "position": dict(self.position),
            "fresh_as_of": self.fresh_as_of,
            "degraded": self.degraded,
        }


def iso(instant: datetime | None) -> str | None:
    """`2026-01-01T10:00:00.120Z`, with as many digits as there are, at least three."""
    if instant is None:
        return None
    utc = instant.astimezone(UTC)
    digits = "microseconds" if utc.microsecond % 1000 else "milliseconds"
    return utc.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def write(connection: duckdb.DuckDBPyConnection, rows: Iterable[Coverage]) -> None:
    """Replace all of it. Made anew each time: a table that is updated for ever would grow."""
    records = [{**asdict(row), "position": json.dumps(dict(row.position))} for row in rows]
    connection.register("new_coverage", pa.Table.from_pylist(records, _COLUMNS))
    connection.execute(_REPLACE)
    connection.unregister("new_coverage")


def read(
    connection: duckdb.DuckDBPyConnection, names: Collection[str] | None = None
) -> dict[str, Coverage]:
    """Coverage by lower-case name: of all views, or of those of `names` (lower case) that exist.

    The table has a row per view: reading it whole takes a quarter of the time of planning a filter.
    """
    found = {}
    for row in connection.execute(_READ).fetchall():
        record = dict(zip(_COLUMNS.names, row, strict=True))
        name = record["view"].lower()
        if names is None or name in names:
            found[name] = Coverage(**{**record, "position": json.loads(record["position"])})
    return dict(sorted(found.items()))
