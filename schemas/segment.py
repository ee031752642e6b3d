"""The one file that a streaming task writes for an epoch.

A zip whose members are stored, not compressed, so that each can be read on its own:

    segment.json                        Header: whose it is, its epoch's offsets, rows per member
    master.parquet                      accepted events, raw and typed (zstd)
    rejects.parquet                     events that do not fit, with their reasons (zstd)
    ids.arrow                           event ids counted first here; only with a primary key
    partials/<version>/<table>.arrow    one Arrow IPC file per version and partial table

The bytes depend on the content alone: the same tables give the same file.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NotRequired, TypedDict, cast

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DamagedFile
from schemas.position import Range

FORMAT = 1
EPOCH_OF_ZIP = (1980, 1, 1, 0, 0, 0)  # the oldest date that a zip can hold; files carry no clock
# what zipfile and json raise over changed bytes: RuntimeError for unknown flags and methods
UNREADABLE = (
    zipfile.BadZipFile,
    KeyError,
    EOFError,
    ValueError,
    RuntimeError,
    OSError,
    OverflowError,
    struct.error,
    zlib.error,
)


class SegmentOrigin(TypedDict):
    """An epoch as its driver planned it."""

    instant: str  # ISO 8601 in UTC
    stream_version: str
    topic_id: str | None
    alone: bool  # whether this segment is all of the epoch


class Header(TypedDict):
    """`segment.json`."""

    format: int  # FORMAT
    stream: str
    epoch: int
    token: int  # of the lease it was written under
    master: int  # rows
    rejects: int  # rows
    ids: int | None  # rows; null without a primary key
    partials: dict[str, dict[str, int]]  # version id -> table name -> rows
    # partition, start and until of the epoch, all tasks of it together; early segments lack it
    ranges: NotRequired[list[tuple[int, int, int]]]
    # what the ledger has of the epoch, for when that is lost; early segments lack it
    origin: NotRequired[SegmentOrigin]


@dataclass(frozen=True)
class Segment:
    """Master rows, rejects, ids and partials of one task in one epoch."""

    stream: str
    epoch: int
    token: int
    master: pa.Table
    rejects: pa.Table
    ids: pa.Table | None  # key columns and _instant; None without a primary key
    partials: Mapping[str, Mapping[str, pa.Table]]  # version id -> table name -> rows
    ranges: tuple[Range, ...] = ()  # the offsets that its epoch covers, all its tasks together
    origin: SegmentOrigin | None = None

    @property
    def header(self) -> Header:
        told: Header = {
            "format": FORMAT,
            "stream": self.stream,
            "epoch": self.epoch,
            "token": self.token,
            "master": self.master.num_rows,
            "rejects": self.rejects.num_rows,
            "ids": None if self.ids is None else self.ids.num_rows,
            "partials": {
                version: {table: rows.num_rows for table, rows in sorted(tables.items())}
                for version, tables in sorted(self.partials.items())
            },
            "ranges": [(each.partition, each.start, each.until) for each in self.ranges],
        }
        if self.origin is not None:
            told["origin"] = self.origin
        return told


def encode(segment: Segment) -> bytes:
    """A segment as the bytes of its file."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "segment.json", json.dumps(segment.header).encode())
        _add(archive, "master.parquet", _parquet(segment.master))
        _add(archive, "rejects.parquet", _parquet(segment.rejects))
        if segment.ids is not None:
            _add(archive, "ids.arrow", _arrow(segment.ids))
        for version, tables in sorted(segment.partials.items()):
            for table, rows in sorted(tables.items()):
                _add(archive, _member(version, table), _arrow(rows))
    return target.getvalue()


class SegmentReader:
    """Reads the members of a segment one by one; whatever does not fit raises `DamagedFile`."""

    def __init__(self, data: bytes, path: str) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
            self.header = cast(Header, json.loads(self._read("segment.json")))
        except UNREADABLE as error:
            raise DamagedFile(path, "a segment", str(error)) from error
        if self.header["format"] != FORMAT:
            found = f"format {self.header['format']}"
            raise DamagedFile(path, f"a segment of format {FORMAT}", found)

    def versions(self) -> tuple[str, ...]:
        """The version ids folded here."""
        return tuple(self.header["partials"])

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The offsets that its epoch covers, all its tasks together."""
        return tuple(Range(*each) for each in self.header.get("ranges", []))

    def master(self) -> pa.Table:
        return self._table("master.parquet", self.header["master"])

    def rejects(self) -> pa.Table:
        return self._table("rejects.parquet", self.header["rejects"])

    def ids(self) -> pa.Table | None:
        """Key columns and `_instant`; None where the stream has no primary key."""
        rows = self.header["ids"]
        return None if rows is None else self._table("ids.arrow", rows)

    def partials(self, version: str) -> dict[str, pa.Table]:
        """Table name -> rows of one version."""
        tables = self.header["partials"].get(version)
        if tables is None:
            found = f"versions {sorted(self.versions())}"
            raise DamagedFile(self.path, f"a segment with partials of version {version}", found)
        return {table: self._table(_member(version, table), n) for table, n in tables.items()}

    def _table(self, member: str, rows: int) -> pa.Table:
        data = self._read(member)
        try:
            table = _read_parquet(data) if member.endswith(".parquet") else _read_arrow(data)
        except (pa.ArrowException, OSError) as error:
            expected = f"a segment with a readable {member}"
            raise DamagedFile(self.path, expected, str(error)) from error
        if table.num_rows != rows:
            expected = f"a segment with {rows} rows in {member}"
            raise DamagedFile(self.path, expected, f"{table.num_rows} rows")
        return table

    def _read(self, member: str) -> bytes:
        try:
            return self._archive.read(member)
        except UNREADABLE as error:
            raise DamagedFile(self.path, f"a segment with a whole {member}", str(error)) from error


def _member(version: str, table: str) -> str:
    return f"partials/{version}/{table}.arrow"


def _add(archive: zipfile.ZipFile, member: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(member, EPOCH_OF_ZIP), data)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _read_parquet(data: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


def _arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _read_arrow(data: bytes) -> pa.Table:
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()
