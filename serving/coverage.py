"""What an answer covers (invariant 11), and how its stream is: a table that changes in the
transaction that changes the answers, so that one read transaction sees both as of one state.

It has a row per view and per stream, facts as JSON: it is made anew for every epoch, and a table of
three columns costs least. `serving.catalog` lays the relations of the schema `everview` over it.
What goes with an answer is not read here: `Tables` keeps it beside, changed with the tables.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from schemas.bound import Bound

SCHEMA = "everview_internal"  # where served tables live; no statement of a client reaches it
VIEW, STREAM = "view", "stream"
PARTITION = "partition"  # listed in the facts of its stream

# what of a view's coverage goes with every answer
COVERED = (
    "view",
    "version",
    "cut",
    "epoch",
    "position",
    "fresh_as_of",
    "degraded",
    "lost",
    "since",
    "kept_from",
)
_FIELDS: dict[str, pa.DataType] = {"kind": pa.string(), "name": pa.string(), "facts": pa.string()}
_COLUMNS = pa.schema(_FIELDS)
_REPLACE = f"CREATE OR REPLACE TABLE {SCHEMA}.coverage AS FROM new_coverage"


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
    waits: str | None  # why it is not to be asked yet, as what follows "view 'x' "
    publication: int | None = None  # whose batch view this is
    published: str | None = None  # ISO 8601
    batch_epochs: int = 0  # in the files that were loaded, as are the next three
    speed_epochs: int = 0
    gaps: int = 0  # offsets that no file covers
    doubles: int = 0  # offsets that more than one file covers
    # partition, start, until: offsets that Kafka lost before they were read, and that somebody
    # decided to go on without
    lost: list[list[int]] = field(default_factory=list)
    since: int | None = None  # the first epoch that is counted; None: from the first on
    # by group key: ISO 8601, groups before it are not kept; None: all of them are
    kept_from: Mapping[str, str] | None = None
    laid: bool = False  # whether a statement reads files: see serving.worker.laid

    @property
    def ready(self) -> bool:
        return self.waits is None

    def json(self) -> dict[str, Any]:
        """The form that goes with every answer."""
        return {name: getattr(self, name) for name in COVERED}


@dataclass(frozen=True)
class PartitionCoverage:
    """What was seen of one partition up to that state; times are those of `schemas.observed`."""

    stream: str
    partition: int
    newest_event: int | None
    low_watermark: int | None
    read_to: int | None
    newest_record: int | None
    epoch: int
    fresh_as_of: str | None


@dataclass(frozen=True)
class StreamCoverage:
    """How far a stream is, at the same state."""

    stream: str
    topic: str
    version: str
    epoch: int
    sealed: int  # the last sealed epoch
    position: Mapping[str, int]
    fresh_as_of: str | None
    degraded: str | None
    lost: list[list[int]] = field(default_factory=list)
    keyed: bool = False  # whether an event can repeat another one's id
    files_until: int = 0  # `raw` reads epochs up to it from files, later ones from memory
    raw_since: int | None = None  # the first epoch that the master has; None: the first there was
    raw_waits: str | None = None  # why `raw.<stream>` is not to be asked, as what follows it
    newest_event: int | None = None  # microseconds since 1970, as are all times of `observed`
    low_watermark: int | None = None
    partitions: list[PartitionCoverage] = field(default_factory=list)

    def raw(self) -> Coverage:
        """What `raw.<stream>` covers."""
        return Coverage(
            view=f"raw.{self.stream}",
            version=self.version,
            stream=self.stream,
            cut=self.files_until,
            epoch=self.epoch,
            position=self.position,
            fresh_as_of=self.fresh_as_of,
            degraded=self.degraded,
            waits=self.raw_waits,
            lost=self.lost,
            since=self.raw_since,
        )


def iso(instant: datetime | None) -> str | None:
    """`2026-01-01T10:00:00.120Z`, with as many digits as there are, at least three."""
    if instant is None:
        return None
    utc = instant.astimezone(UTC)
    digits = "microseconds" if utc.microsecond % 1000 else "milliseconds"
    return utc.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def kept_from(bounds: Iterable[Bound], time_keys: Container[str]) -> dict[str, str] | None:
    """`Coverage.kept_from`; a bound may be on a key that this version of the view has not."""
    return {each.key: each.iso() for each in bounds if each.key in time_keys} or None


def write(
    connection: duckdb.DuckDBPyConnection,
    views: Iterable[Coverage],
    streams: Iterable[StreamCoverage] = (),
) -> None:
    """Replace all of it. Made anew each time: a table that is updated for ever would grow."""
    rows = [(VIEW, each.view, json.dumps(asdict(each))) for each in views]
    rows += [(STREAM, each.stream, json.dumps(asdict(each))) for each in streams]
    columns = {field: [row[at] for row in rows] for at, field in enumerate(_COLUMNS.names)}
    connection.register("new_coverage", pa.Table.from_pydict(columns, _COLUMNS))
    connection.execute(_REPLACE)
    connection.unregister("new_coverage")
