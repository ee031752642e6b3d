"""Every file that the ledger names, read and compared with what it says of it, at a chosen rate.

ledger: the files that count -> each one read -> size, sha256, what it says of itself
   ^                                                       | differs
   '------ does it still count? (sealed away is no damage) -' -> Damage: where, which offsets,
                                                                what repairs it
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select

from infra.damage import offsets
from infra.damage.offsets import Covered
from schemas import parquet
from schemas.errors import DamagedFile
from schemas.id_file import IdFile, sorted_file
from schemas.ledger import repairs, tables
from schemas.ledger.connect import Ledger
from schemas.ledger.copies import needed_files
from schemas.ledger.files import BASE, BATCH, FINISHED, IDS, MASTER, REJECTS, RUN, SEGMENT
from schemas.ledger.repairs import Held, Span
from schemas.parquet import Description
from schemas.segment import SegmentReader
from schemas.storage import DataRoot, unfinished
from schemas.stored_file import StoredFile
from streaming.orphans import token_of

REFERENCE = "reference"
PIECE = 1 << 20  # bytes that are read at once
FOLDERS = ("segments", "master", "rejects", "ids", "runs", "base", "batch", "views", "references")
OWN = ("current.json",)  # of the files in them that the ledger does not name
REMEDIES = {
    SEGMENT: "`everview scrub --repair` reads these offsets from Kafka again",
    MASTER: "`everview scrub --repair` reads these offsets from Kafka again",
    REJECTS: "`everview scrub --repair` reads these offsets from Kafka again",
    IDS: "`everview scrub --repair` makes it from the master",
    RUN: "`everview scrub --repair` folds it from the master",
    BASE: "its events are in the master no longer: `everview scrub --repair --from BACKUP`",
    REFERENCE: "`everview scrub --repair` takes it from the project, if it has that content still",
}


@dataclass(frozen=True)
class Damage:
    """A file that counts and is not what the ledger says."""

    path: str
    kind: str
    expected: str
    found: str
    remedy: str
    held: Held | None = None  # None for a reference
    view: str | None = None
    covered: Covered | None = None

    @property
    def words(self) -> str:
        """In one line."""
        held = self.held
        told = f"{self.kind} {self.path}"
        if held is not None:
            data = held.data
            whose = [f"stream {held.stream}"]
            whose += [f"view {self.view}, version {data.version}"] if data.version else []
            whose += [f"table {data.table}"] if data.table else []
            epochs = f"epoch {data.first}" if data.first == data.last else ""
            whose += [epochs or f"epochs {data.first} to {data.last}"]
            whose += [self.covered.words] if self.covered is not None else []
            told += f" ({', '.join(whose)})"
        return f"{told}: must be {self.expected}; got {self.found}"

    def json(self) -> dict[str, Any]:
        data = None if self.held is None else self.held.data
        return {
            "path": self.path,
            "kind": self.kind,
            "stream": None if self.held is None else self.held.stream,
            "view": self.view,
            "version": None if data is None else data.version,
            "table": None if data is None else data.table,
            "epochs": None if data is None else [data.first, data.last],
            "offsets": None if self.covered is None else self.covered.json(),
            "offsets_exact": None if self.covered is None else self.covered.exact,
            "expected": self.expected,
            "found": self.found,
            "remedy": self.remedy,
        }


@dataclass
class Scrubbed:
    """What one pass found."""

    files: int = 0
    bytes: int = 0
    damaged: list[Damage] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)


class Pace:
    """Lets at most so many bytes per second pass; 0 is no limit."""

    def __init__(self, rate: float) -> None:
        self._rate, self._due = rate, time.monotonic()

    def passed(self, size: int) -> None:
        if self._rate <= 0:
            return
        now = time.monotonic()
        self._due = max(self._due, now - 1) + size / self._rate
        if self._due > now:
            time.sleep(self._due - now)


Progress = Callable[[int, int, str], None]  # bytes read, bytes in all, the file at work


def scrub(ledger: Ledger, root: DataRoot, pace: Pace, progress: Progress) -> Scrubbed:
    """Read every file that counts. Sealing, builds and answers go on meanwhile."""
    found = Scrubbed()
    held = repairs.counting(ledger)
    references = _references(ledger)
    total = sum(each.data.file.bytes for each in held) + sum(each.bytes for each in references)
    said: dict[str, list[Description]] = {}
    wrong: list[tuple[Held, DamagedFile]] = []
    every = {name: repairs.spans(ledger, name) for name in {each.stream for each in held}}
    views = repairs.views_of(ledger, sorted({h.data.version for h in held if h.data.version}))
    for each in held:
        progress(found.bytes, total, each.data.file.path)
        try:
            _measure(root, each.data.file, pace)
            told = _whole(root, each, every[each.stream], views)
            said.setdefault(each.stream, []).extend([told] if told is not None else [])
        except DamagedFile as error:
            if repairs.counts(ledger, each.data.file.path):
                wrong.append((each, error))
        found.files += 1
        found.bytes += each.data.file.bytes
    for held_file, trouble in wrong:
        found.damaged.append(_damage(held_file, trouble, every[held_file.stream], said, views))
    for reference in references:
        progress(found.bytes, total, reference.path)
        try:
            _measure(root, reference, pace)
        except DamagedFile as error:
            remedy = REMEDIES[REFERENCE]
            path, expected = reference.path, error.expected
            found.damaged.append(Damage(path, REFERENCE, expected, error.found, remedy))
        found.files += 1
        found.bytes += reference.bytes
    progress(found.bytes, total, "")
    found.stray = _stray(ledger, root)
    return found


def _measure(root: DataRoot, file: StoredFile, pace: Pace) -> None:
    """Read a file and compare it with its row; `DamagedFile`."""
    digest, size = hashlib.sha256(), 0
    try:
        with root.local(file.path).open("rb") as opened:
            while piece := opened.read(PIECE):
                digest.update(piece)
                size += len(piece)
                pace.passed(len(piece))
    except FileNotFoundError as error:
        raise DamagedFile(file.path, str(file), "no file") from error
    except OSError as error:
        raise DamagedFile(file.path, str(file), error.strerror or str(error)) from error
    found = StoredFile(file.path, digest.hexdigest(), size)
    if found.sha256 != file.sha256 or (file.bytes and size != file.bytes):
        raise DamagedFile(file.path, str(file), str(found))


def _whole(
    root: DataRoot, held: Held, spans: list[Span], views: Mapping[str, tuple[str, bool]]
) -> Description | None:
    """What a file says of itself, where that is what the ledger says; else `DamagedFile`."""
    data, path = held.data, held.data.file.path
    if data.kind == SEGMENT:
        _segment(root, held, spans, views)
        return None
    local = root.local(path)
    told = parquet.said(local, path)
    rows = _rows(local, path)
    if rows != data.rows:
        raise DamagedFile(path, f"a file of {data.rows} rows", f"{rows} rows")
    if told is None:  # as files of the first releases
        return None
    view = views.get(data.version, (None,))[0] if data.version else None
    expected = (data.kind, held.stream, data.first, data.last, view, data.version, data.table)
    found = (told.kind, told.stream, told.first, told.last, told.view, told.version, told.table)
    if found != expected:
        raise DamagedFile(path, f"one that says {expected}", f"{found}")
    known = offsets.covered(spans, (), data.first, data.last)
    ranged = data.kind != BASE
    if ranged and known is not None and known.exact and _sized(known.ranges) != _sized(told.ranges):
        raise DamagedFile(path, f"one of {known.words}", f"{Covered(told.ranges, True).words}")
    return told


def _segment(
    root: DataRoot, held: Held, spans: list[Span], views: Mapping[str, tuple[str, bool]]
) -> None:
    path, data = held.data.file.path, held.data
    reader = SegmentReader(root.get(held.data.file), path)
    header = reader.header
    expected = (held.stream, data.first, data.accepted, data.rejected)
    found = (header["stream"], header["epoch"], header["master"], header["rejects"])
    if found != expected:
        raise DamagedFile(path, f"a segment that says {expected}", f"{found}")
    span = next((each for each in spans if each.first == each.last == data.first), None)
    if span is None or span.sealed:
        return
    lacking = sorted(span.folded - set(reader.versions()))
    lacking = [each for each in lacking if not views.get(each, ("", False))[1]]
    if lacking:
        raise DamagedFile(path, f"a segment with version {lacking[0]}", "one without")
    if "ranges" in header and _sized(reader.ranges) != _sized(span.ranges):
        told = Covered(reader.ranges, True).words
        raise DamagedFile(path, f"one of {Covered(span.ranges, True).words}", told)


def _sized(ranges: Iterable[Any]) -> list[Any]:
    return sorted(each for each in ranges if each.size)


def _rows(local: Path, path: str) -> int:
    if sorted_file(path):
        return IdFile.open(local, path).rows
    try:
        return int(pq.read_metadata(local).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(path, "a Parquet file", str(error)) from error


def _damage(
    held: Held,
    error: DamagedFile,
    spans: list[Span],
    said: Mapping[str, list[Description]],
    views: Mapping[str, tuple[str, bool]],
) -> Damage:
    data = held.data
    view = views.get(data.version, (None,))[0] if data.version else None
    remedy = REMEDIES.get(data.kind, "restore it from a backup")
    if data.kind in (BATCH, FINISHED):
        remedy = f"`everview rebuild {view} --full` publishes others in its place"
    known = offsets.covered(spans, said.get(held.stream, ()), data.first, data.last)
    path = data.file.path
    return Damage(path, data.kind, error.expected, error.found, remedy, held, view, known)


def _references(ledger: Ledger) -> list[StoredFile]:
    """They are called by their hash; how long they are need not be on record."""
    r = tables.references_.c
    with ledger.read() as connection:
        rows = connection.execute(select(r.file, r.bytes)).all()
    sizes = {row.file: row.bytes for row in rows}
    _, paths = needed_files(ledger)
    return [StoredFile(path, path.rpartition("/")[2], sizes.get(path) or 0) for path in paths]


def _on_disk(root: DataRoot) -> Iterator[str]:
    top = root.local("views").parent
    for folder in FOLDERS:
        for each in sorted((top / folder).rglob("*")):
            if each.is_file() and each.name not in OWN:
                yield each.relative_to(top).as_posix()


def _stray(ledger: Ledger, root: DataRoot) -> list[str]:
    """Files in data folders that no row names, and that nobody at work may still name."""
    listed = list(_on_disk(root))  # before the ledger is asked, which may name more by then
    f, b, le = tables.files.c, tables.builds.c, tables.leases.c
    with ledger.read() as connection:
        named = set(connection.scalars(select(f.path)))
        named |= set(connection.scalars(select(tables.references_.c.file)))
        at_work = select(b.id).where(b.state.in_(tables.BUILDS_AT_WORK))
        builds = {str(each) for each in connection.scalars(at_work)}
        tokens = connection.scalars(select(le.token).where(le.name.startswith("stream/")))
        current = min(tokens, default=0)
    found = []
    for path in listed:
        parts = path.split("/")
        token = token_of(parts[-1])
        under_way = token is not None and token >= current
        under_way |= token is None and unfinished(parts[-1]) is not None
        under_way |= parts[0] in ("batch", "views") and bool(builds.intersection(parts[2:-1]))
        if path not in named and not under_way and root.local(path).exists():
            found.append(path)
    return found


def as_json(found: Scrubbed, repaired: Mapping[str, str]) -> str:
    """What was found, and what became of it by path."""
    told = [{**each.json(), "outcome": repaired.get(each.path)} for each in found.damaged]
    return json.dumps(
        {"files": found.files, "bytes": found.bytes, "damaged": told, "stray": found.stray},
        indent=1,
    )
