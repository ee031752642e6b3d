"""What a data file of ours says of itself, in its own metadata: what it is, without the ledger,
and which offsets are in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DamagedFile
from schemas.position import Range

KEY = "everview"
EXPECTED = "a data file that says what it is"


@dataclass(frozen=True)
class Origin:
    """What the ledger has of the epochs in a sealed file: enough to know them without it."""

    first_instant: str  # ISO 8601 in UTC, of the first epoch
    instant: str  # of the last one
    stream_version: str
    topic_id: str | None
    folded: tuple[str, ...]  # version ids, the same in each epoch
    accepted: int
    duplicates: int
    rejected: int

    def with_next(self, later: Origin) -> Origin:
        """That of both, where the other's epochs come later."""
        return replace(
            self,
            instant=later.instant,
            accepted=self.accepted + later.accepted,
            duplicates=self.duplicates + later.duplicates,
            rejected=self.rejected + later.rejected,
        )


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
    origin: Origin | None = None  # files of early releases lack it

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
            "origin": None if self.origin is None else asdict(self.origin),
        }
        return json.dumps({name: value for name, value in told.items() if value is not None})

    def metadata(self) -> dict[str, str]:
        """For a schema's metadata, and for DuckDB's KV_METADATA."""
        return {KEY: self.json()}


def described(path: Path, name: str) -> Description:
    """What a Parquet file, or an Arrow one, says of itself; `DamagedFile`, by the `name` that the
    ledger has for it, where it says nothing."""
    found = said(path, name)
    if found is None:
        raise DamagedFile(name, EXPECTED, "one that does not")
    return found


def said(path: Path, name: str) -> Description | None:
    """As `described`; None where a whole file says nothing."""
    try:
        told = _metadata(path, name).get(KEY.encode())
        return None if told is None else _description(dict(json.loads(told)))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(name, EXPECTED, str(error)) from error


def _description(told: dict[str, Any]) -> Description:
    known = {each.name for each in fields(Description)}
    found = {name: value for name, value in told.items() if name in known}
    found["ranges"] = tuple(Range(*each) for each in told["ranges"])
    origin = told.get("origin")
    if origin is not None:
        found["origin"] = Origin(**{**origin, "folded": tuple(origin["folded"])})
    return Description(**found)


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
