"""What a data file of ours says of itself, in its own metadata: what it is, without the ledger,
and which offsets are in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DamagedFile
from schemas.position import Range

KEY = "everview"


@dataclass(frozen=True)
class Description:
    """A file's kind, whose it is, its epochs, and the offsets that these cover together."""

    kind: str
    stream: str
    first: int  # epoch
    last: int  # included
    ranges: tuple[Range, ...]
    view: str | None = None
    version: str | None = None
    table: str | None = None

    def json(self) -> str:
        told = {
            "kind": self.kind,
            "stream": self.stream,
            "first": self.first,
            "last": self.last,
            "ranges": [[each.partition, each.start, each.until] for each in self.ranges],
            "view": self.view,
            "version": self.version,
            "table": self.table,
        }
        return json.dumps({name: value for name, value in told.items() if value is not None})

    def metadata(self) -> dict[str, str]:
        """For a schema's metadata, and for DuckDB's KV_METADATA."""
        return {KEY: self.json()}


def described(path: Path, name: str) -> Description:
    """What a Parquet file, or an Arrow one, says of itself; `DamagedFile`, by the `name` that the
    ledger has for it, where it says nothing."""
    expected = "a data file that says what it is"
    try:
        told = _metadata(path, name).get(KEY.encode())
        if told is None:
            raise DamagedFile(name, expected, "one that does not")
        found = json.loads(told)
        ranges = tuple(Range(*each) for each in found.pop("ranges"))
        return Description(ranges=ranges, **found)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(name, expected, str(error)) from error


def _metadata(path: Path, name: str) -> dict[bytes, bytes]:
    if name.endswith(".arrow"):
        return pa.ipc.open_file(pa.memory_map(str(path))).schema.metadata or {}
    return pq.read_metadata(path).metadata or {}


def union(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The offsets from the first to the last of each partition."""
    found: dict[int, Range] = {}
    for each in ranges:
        known = found.get(each.partition, each)
        start, until = min(known.start, each.start), max(known.until, each.until)
        found[each.partition] = Range(each.partition, start, until)
    return tuple(found[partition] for partition in sorted(found))
